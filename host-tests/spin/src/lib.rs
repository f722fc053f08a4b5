//! The imitation of Spin 3.6, 4.0 and 4.1: serves an application with one HTTP component as Spin does, faults included.
//!
//! It runs at most 1000 instances at once. A WASI 0.2 component gets a new instance for every request; with WASI 0.3, as in Spin 4.1,
//! an instance serves 128 requests, 16 of them at once. A pool has 64 connections for each address of PostgreSQL, without time limits.
//! Variables and the outbound allow-list come from `spin.toml`. Each file knows only those above it or in its line; only `bindings`
//! also names the connection of `postgres`:
//!
//! ```text
//! bindings, manifest, faults, values, engine
//! locked               the manifest as `spin registry push` locks it
//! variables            the component's templates over the application's values
//! allow_list           the servers that the component may connect to
//! postgres             one pool per address
//! instance             the state of one instance
//! reuse                instances that serve more than one request
//! app                  the compiled component
//! outgoing             bodies that leave after their head
//! telemetry            a span for each request
//! real                 a real Spin in place of the imitation
//! server               HTTP in front of it
//! ```

mod allow_list;
mod app;
mod bindings;
mod engine;
mod faults;
mod instance;
mod locked;
mod manifest;
mod outgoing;
mod postgres;
mod real;
mod reuse;
mod server;
mod telemetry;
mod values;
mod variables;

pub use app::{App, Log, Options};
pub use bindings::spin::postgres::postgres::Error as PgError;
pub use engine::Compiler;
pub use faults::{Faults, HostCall, HostCalls};
pub use instance::Clock;
pub use manifest::{Build, Manifest};
pub use native_tls::Error as TlsError;
pub use postgres::connect;
pub use real::{Real, program as real_spin};
pub use server::{Server, listener};
pub use variables::{VARIABLE_PREFIX, Variables};
