//! Clients that save and greet, the history of their calls, what that history proves, and the calendar it is checked by.

pub mod calendar;
mod connection;
pub mod history;
pub mod load;
