//! Clients that save and greet, the history of their calls, and what that history proves.

mod connection;
pub mod history;
pub mod load;
