//! A throwaway PostgreSQL for `make run`, the tests and the benchmark, which create, start, break and stop it.

mod directory;
mod installation;
mod server;

pub use directory::refuse_other_owner;
pub use installation::{can_enter, give_to_system_user};
pub use server::{Database, Shutdown};
