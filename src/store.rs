//! The store: birthdays in PostgreSQL, through the host.
//!
//! One connection and one statement a request. The host's pool does not roll back, so there are no transactions here,
//! and Spin 4.0 never answers a query without rows, so every query returns exactly one (`session.rs` refuses none).

mod birthdays;
mod failure;
mod health;
mod routing;
mod schema;
mod session;

pub use failure::Failure;
pub use health::Health;
pub use routing::Store;
pub use schema::Readiness;
