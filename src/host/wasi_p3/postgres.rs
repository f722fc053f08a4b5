//! PostgreSQL: takes connections from the host's pool, and converts values and errors.

use dob_api::host::{DatabaseError, Parameter, Value};
use spin_sdk::pg::{self, DbValue, ParameterValue, PgError, QueryError};
use std::rc::Rc;

/// Takes a connection from the host's pool.
pub async fn open(address: &str) -> Result<Rc<pg::Connection>, DatabaseError> {
    pg::Connection::open(address).await.map(Rc::new).map_err(failed)
}

/// The parameters for the host.
pub fn sent(parameters: &[Parameter]) -> Vec<ParameterValue> {
    let sent = |parameter: &Parameter| match *parameter {
        Parameter::Text(text) => ParameterValue::Str(text.to_owned()),
        Parameter::Date(year, month, day) => ParameterValue::Date((year, month, day)),
    };
    parameters.iter().map(sent).collect()
}

/// A value from the host.
pub fn received(value: DbValue) -> Value {
    match value {
        DbValue::DbNull => Value::Null,
        DbValue::Boolean(value) => Value::Boolean(value),
        DbValue::Int32(value) => Value::Integer(value),
        DbValue::Date((year, month, day)) => Value::Date(year, month, day),
        _ => Value::Other,
    }
}

/// Spin's error as the service's.
pub fn failed(error: pg::Error) -> DatabaseError {
    match error {
        pg::Error::PgError(PgError::QueryFailed(QueryError::DbError(error))) => {
            DatabaseError::Refused { sqlstate: error.code, message: error.message }
        }
        // Spin has no separate error for a connection that broke during a statement, only a text.
        pg::Error::PgError(PgError::QueryFailed(QueryError::Text(message))) => DatabaseError::ConnectionLost(message),
        pg::Error::PgError(PgError::ConnectionFailed(message) | PgError::Other(message)) => {
            DatabaseError::NoConnection(message)
        }
        pg::Error::PgError(PgError::BadParameter(message) | PgError::ValueConversionFailed(message))
        | pg::Error::Decode(message) => DatabaseError::Parameter(message),
    }
}
