//! dob-api: a birthday "Hello World" API as a WebAssembly component for Spin.
//!
//! `entry` and `store` are the only places that know the Spin SDK.

pub mod api;
pub mod config;
pub mod domain;
// The export's name means nothing to a native linker; native builds are for the tests of all the rest.
#[cfg(target_family = "wasm")]
mod entry;
pub mod http;
pub mod log;
pub mod store;
