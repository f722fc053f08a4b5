//! A throwaway PostgreSQL: made, started, broken and stopped by `make run`, the tests and the benchmark.

mod directory;
mod installation;
mod server;

pub use directory::refuse_other_owner;
pub use installation::{can_enter, give_to_system_user};
pub use server::{Database, Shutdown};
