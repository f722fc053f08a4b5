//! The interface to the host: everything that the service may ask of it. Each folder of `src/host` implements it for one host.

#![expect(async_fn_in_trait, reason = "a component has one thread: no future has to be Send")]

use chrono::{DateTime, NaiveDate};
use http::{HeaderName, Method};
use std::hash::{BuildHasher, RandomState};
use std::io::{Write, stderr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a host can do. The methods with a default use the standard library, which works the same on every host.
pub trait Host {
    /// A connection to PostgreSQL.
    type Connection: Connection;

    /// The value of one of the component's variables, or `None` if the host can't resolve it.
    async fn variable(&self, name: &str) -> Option<String>;

    /// Opens a connection to this address.
    async fn open(&self, address: &str, purpose: Purpose) -> Result<Self::Connection, DatabaseError>;

    /// The result of `work`, or `None` if it takes longer than `limit`: then the work is dropped. A host whose calls can't be interrupted
    /// waits until the work has ended.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T>;

    /// Today in UTC.
    fn today(&self) -> NaiveDate {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        DateTime::from_timestamp(seconds as i64, 0).unwrap_or_default().date_naive()
    }

    /// A clock that only goes forward.
    fn clock(&self) -> Instant {
        Instant::now()
    }

    /// A random number for a request id. It comes from the standard library's hasher, so the component needs no other source of randomness.
    fn number(&self) -> u64 {
        RandomState::new().hash_one(0)
    }

    /// Writes a line to the log, which is stderr.
    fn log(&self, line: &str) {
        // Not eprintln!, which panics if the line can't be written. The client must still get its answer.
        let _ = writeln!(stderr(), "{line}");
    }
}

/// What a connection is opened for. It decides whether other requests may use it at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read: several requests may send statements at once.
    Reading,
    /// To save: no other request's statement may be queued before this one. Otherwise the save could happen after its client was told that
    /// it failed.
    Saving,
    /// To create the schema: no other request's statement may come in between.
    Preparing,
}

/// A connection to PostgreSQL. Dropping it returns it to the host.
pub trait Connection {
    /// Runs a query and returns its first row, or `None` if it has no rows. Every query of this service returns one row.
    async fn query(&self, statement: &str, parameters: &[Parameter]) -> Result<Option<Vec<Value>>, DatabaseError>;

    /// Runs a statement that returns no rows.
    async fn execute(&self, statement: &str, parameters: &[Parameter]) -> Result<(), DatabaseError>;
}

/// A request, with its body still unread.
pub trait Request {
    /// The method as sent.
    fn method(&self) -> &Method;

    /// The raw path and query.
    fn path_with_query(&self) -> &str;

    /// A header's last value. Each read is a call into the host.
    fn header(&self, name: &HeaderName) -> Option<String>;

    /// Reads the body, up to one byte more than `limit`. May be called only once.
    async fn body(&self, limit: usize, within: Duration) -> Result<Vec<u8>, BodyError>;
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It ended early, or its framing is wrong.
    Broken,
    /// It did not arrive in time.
    Late,
}

/// A statement's parameter.
#[derive(Debug, Clone, Copy)]
pub enum Parameter<'a> {
    /// TEXT.
    Text(&'a str),
    /// DATE: year, month, day.
    Date(i32, u8, u8),
}

/// A column's value, for the types that the statements of this service return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// INTEGER.
    Integer(i32),
    /// DATE: year, month, day.
    Date(i32, u8, u8),
    /// Any other.
    Other,
}

/// Why PostgreSQL returned no result.
#[derive(Debug, Clone)]
pub enum DatabaseError {
    /// No connection could be opened: it was refused, is not allowed, or could not be authenticated.
    NoConnection(String),
    /// The server refused the statement.
    Refused {
        /// PostgreSQL's SQLSTATE.
        sqlstate: String,
        /// The server's message.
        message: String,
    },
    /// The connection broke while the statement ran.
    ConnectionLost(String),
    /// A parameter or a result could not be converted.
    Parameter(String),
}
