//! One pooled connection of the host, held for one statement or a few.

use super::Failure;
use crate::config::Address;
use spin_sdk::pg4::{Connection, DbValue, ParameterValue};

/// A connection that goes back to the host's pool when it is dropped.
pub struct Session(Connection);

impl Session {
    /// Takes a connection from the host's pool for this address.
    pub fn open(address: &Address) -> Result<Self, Failure> {
        Connection::open(address.expose()).map(Self).map_err(|error| Failure::from_host("open", error))
    }

    /// Runs a statement that has no result. `step` names it in the log.
    pub fn execute(&self, step: &'static str, statement: &str, parameters: &[ParameterValue]) -> Result<(), Failure> {
        self.0.execute(statement, parameters).map(drop).map_err(|error| Failure::from_host(step, error))
    }

    /// Runs a query that returns exactly one row. `step` names it in the log.
    pub fn one_row(
        &self,
        step: &'static str,
        query: &str,
        parameters: &[ParameterValue],
    ) -> Result<Vec<DbValue>, Failure> {
        let mut rows = self.0.query(query, parameters).map_err(|error| Failure::from_host(step, error))?.rows;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Failure::unexpected(step)),
        }
    }

    /// Ends the server's side, so that the pool does not hand this connection out again.
    pub fn discard(self) {
        // The answer is an error by design: the server closes the connection while it runs this.
        let _ = self.0.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[]);
    }
}
