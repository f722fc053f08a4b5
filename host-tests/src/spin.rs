//! An honest imitation of Spin 3.6 / 4.0, faults included.
//!
//! A new instance for every request, 1000 at most; PostgreSQL through 64 untimed connections per address; variables
//! and the outbound allow-list from `spin.toml`.

mod allow_list;
mod app;
mod bindings;
mod faults;
mod instance;
mod manifest;
mod postgres;
mod server;
mod values;
mod variables;

pub use app::{App, Clock, Options};
pub use bindings::spin::postgres::postgres::{DbError, Error as PgError, QueryError};
pub use faults::{Call, Calls, Faults};
pub use manifest::Manifest;
pub use server::Server;
pub use variables::Variables;
