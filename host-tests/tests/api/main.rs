//! The contract, row by row, against the built component over a socket and a real PostgreSQL.

#[path = "../helpers/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod helpers;

mod arbitrary;
mod calendar;
mod contract;
mod database;
mod imitation;
mod imports;
mod openapi;
mod oracle;
mod quickstart;
mod schema;
mod tls;
mod wire;
