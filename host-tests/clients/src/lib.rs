//! A load generator whose clients save and greet, the history of their operations, and its checker.

mod connection;
pub mod history;
pub mod load;
pub mod statistics;
