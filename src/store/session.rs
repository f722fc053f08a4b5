//! One connection of the host, for one or a few statements.

use super::failure::Failure;
use crate::config::Address;
use crate::host::{Connection, Host, Parameter, Purpose, Value};

/// A connection. Dropping it returns it to the host.
pub struct Session<C>(C);

impl<C: Connection> Session<C> {
    /// Opens a connection to this address.
    pub async fn open(host: &impl Host<Connection = C>, address: &Address, purpose: Purpose) -> Result<Self, Failure> {
        let began = host.clock();
        let opened = host.open(address.expose(), purpose).await;
        opened.map(Self).map_err(|error| Failure::not_opened(error, host.clock().duration_since(began)))
    }

    /// Runs a statement that returns no rows. `step` names it in the log.
    pub async fn execute(
        &self,
        step: &'static str,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<(), Failure> {
        self.0.execute(statement, parameters).await.map_err(|error| Failure::from_host(step, error))
    }

    /// Runs a query that returns exactly one row. `step` names it in the log.
    pub async fn one_row(
        &self,
        step: &'static str,
        query: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Value>, Failure> {
        let row = self.0.query(query, parameters).await.map_err(|error| Failure::from_host(step, error))?;
        row.ok_or_else(|| Failure::unexpected(step))
    }

    /// Ends the session on the server, so that the pool does not hand this connection out again.
    pub async fn discard(self) {
        // This always fails, because the server closes the connection that the statement came on.
        let _ = self.0.execute("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await;
    }
}
