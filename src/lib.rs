//! dob-api: a birthday "Hello World" API, on whatever host.
//!
//! It asks for everything through [`host`]. An adapter, a crate of its own in `src/host`, makes a WebAssembly component of it; only
//! adapters know Spin and WASI.

pub mod api;
pub mod config;
pub mod domain;
pub mod host;
pub mod http;
pub mod log;
pub mod store;
