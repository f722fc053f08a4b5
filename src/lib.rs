//! dob-api: a birthday "Hello World" API as a WebAssembly component for Spin.
//!
//! Only [`host`] knows Spin and WASI.

pub mod api;
pub mod config;
pub mod domain;
pub mod host;
pub mod http;
pub mod log;
pub mod store;
