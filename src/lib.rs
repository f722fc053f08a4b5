//! dob-api: a birthday "Hello World" API that does not depend on its host.
//!
//! It reaches everything outside through [`host`]. An adapter, a crate in `src/host`, builds a WebAssembly component from it. Only the
//! adapters call Spin and WASI.

pub mod api;
pub mod config;
pub mod domain;
pub mod host;
pub mod http;
pub mod log;
pub mod store;
