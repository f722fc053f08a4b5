//! What breaks, and what the client is told: within five seconds, and back by itself.
//!
//! Each test has a server of its own. Those that drop packets run in a network of their own, which takes root.

#[path = "../helpers/mod.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod helpers;

mod fault;
mod network;
mod packets;
mod replication;
mod restarts;
