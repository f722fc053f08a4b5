//! Runs the component the way Spin does, and a throwaway PostgreSQL to run it against.
//!
//! `make run`, the tests, the drills and the benchmark are built from these parts.

pub mod database;
pub mod history;
pub mod lab;
pub mod network;
pub mod spin;
