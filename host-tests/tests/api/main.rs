//! The contract, row by row, against the built component over a socket and a real PostgreSQL.

#[path = "../helpers/mod.rs"]
mod helpers;

mod smoke;
