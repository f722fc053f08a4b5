//! The imitation of Spin 3.6, 4.0 and 4.1: serves an application with one HTTP component as Spin does, faults included.
//!
//! At most 1000 instances at once: a new one for every request to a WASI 0.2 component; for WASI 0.3, as of Spin 4.1, one that serves
//! 128 requests, 16 of them at once. PostgreSQL through 64 untimed connections per address; variables and the outbound allow-list
//! from `spin.toml`. Each file knows only those above it:
//!
//! ```text
//! bindings, manifest, faults, values, engine
//! locked               the manifest as `spin registry push` locks it
//! variables            the component's templates over the application's values
//! allow_list           which servers may be dialled
//! postgres             one pool per address
//! instance             what one instance has
//! reuse                instances that serve more than one request
//! app                  the compiled component
//! outgoing             a body that is late leaves after its head
//! real                 a real Spin instead of all this
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
mod values;
mod variables;

pub use app::{App, Options};
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
