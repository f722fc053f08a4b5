//! The store: birthdays in PostgreSQL, through the host.
//!
//! Each request uses one connection and one statement. There are no transactions, because the host's pool does not roll back. Every query
//! returns exactly one row, because Spin 4.0 never answers a query that returns none (`session.rs` refuses an empty result).

mod birthdays;
mod failure;
mod memory;
mod routing;
mod schema;
mod session;

pub use failure::Failure;
pub use memory::Memory;
pub use routing::Store;
pub use schema::Readiness;
