//! Faults: clients get an answer within five seconds, and the service recovers by itself.
//!
//! Each test has its own server. Tests that drop packets run in their own network namespace, which needs root.

#[path = "../helpers/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod helpers;

mod fault;
mod network;
mod packets;
mod replication;
mod restarts;
