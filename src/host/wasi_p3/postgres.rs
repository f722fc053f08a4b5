//! PostgreSQL: Spin's interface behind the service's.

use crate::connections::Shared;
use crate::within;
use dob_api::host::{Connection, DatabaseError, Parameter, Value};
use spin_sdk::pg::{self, DbValue, ParameterValue, PgError, QueryError};
use std::rc::Rc;
use std::time::Duration;

/// How long the host may take to open a connection: two hosts are tried for 1 s each.
const OPENED_WITHIN: Duration = Duration::from_millis(2200);

/// A connection of the host's pool.
pub async fn open(address: &str) -> Result<Rc<pg::Connection>, DatabaseError> {
    let opened = within(OPENED_WITHIN, pg::Connection::open(address)).await;
    let late = || DatabaseError::NoConnection("the host opened no connection in time".to_owned());
    opened.ok_or_else(late)?.map(Rc::new).map_err(failed)
}

/// A connection in the hands of one request.
pub enum Opened {
    /// Other requests send statements on it, too.
    Shared(Shared),
    /// Nobody else does.
    Own(Rc<pg::Connection>),
}

impl Opened {
    fn connection(&self) -> &pg::Connection {
        match self {
            Self::Shared(shared) => &shared.connection,
            Self::Own(connection) => connection,
        }
    }

    /// Runs a statement; a shared connection that gave no answer is not kept.
    async fn answered<T>(&self, statement: impl Future<Output = Result<T, pg::Error>>) -> Result<T, DatabaseError> {
        let unanswered = match self {
            Self::Shared(shared) => Some(shared.until_answered()),
            Self::Own(_) => None,
        };
        let answer = statement.await.map_err(failed)?;
        if let Some(unanswered) = unanswered {
            unanswered.answered();
        }
        Ok(answer)
    }
}

impl Connection for Opened {
    async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Option<Vec<Value>>, DatabaseError> {
        let row = async {
            let mut result = self.connection().query(statement, sent(parameters)).await?;
            match result.rows().next().await {
                Some(row) => Ok(Some(row.into_iter().map(received).collect())),
                // Why there is none: the statement has none, or it failed after it had begun.
                None => result.result().await.map(|()| None),
            }
        };
        self.answered(row).await
    }

    async fn execute(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), DatabaseError> {
        self.answered(async { self.connection().execute(statement, sent(parameters)).await.map(drop) }).await
    }
}

fn sent(parameters: &[Parameter]) -> Vec<ParameterValue> {
    let sent = |parameter: &Parameter| match *parameter {
        Parameter::Text(text) => ParameterValue::Str(text.to_owned()),
        Parameter::Date(year, month, day) => ParameterValue::Date((year, month, day)),
    };
    parameters.iter().map(sent).collect()
}

fn received(value: DbValue) -> Value {
    match value {
        DbValue::DbNull => Value::Null,
        DbValue::Boolean(value) => Value::Boolean(value),
        DbValue::Int32(value) => Value::Integer(value),
        DbValue::Date((year, month, day)) => Value::Date(year, month, day),
        _ => Value::Other,
    }
}

fn failed(error: pg::Error) -> DatabaseError {
    match error {
        pg::Error::PgError(PgError::QueryFailed(QueryError::DbError(error))) => {
            DatabaseError::Refused { sqlstate: error.code, message: error.message }
        }
        // Spin has no error of its own for a connection that broke during a statement, only text.
        pg::Error::PgError(PgError::QueryFailed(QueryError::Text(message))) => DatabaseError::ConnectionLost(message),
        pg::Error::PgError(PgError::ConnectionFailed(message) | PgError::Other(message)) => {
            DatabaseError::NoConnection(message)
        }
        pg::Error::PgError(PgError::BadParameter(message) | PgError::ValueConversionFailed(message))
        | pg::Error::Decode(message) => DatabaseError::Parameter(message),
    }
}
