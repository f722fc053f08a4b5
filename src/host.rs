//! The one interface to the host: everything that the service asks of it. The folders of `src/host` are its adapters.

#![expect(async_fn_in_trait, reason = "a component has one thread: no future has to be Send")]

use chrono::{DateTime, NaiveDate};
use http::{HeaderName, Method};
use std::hash::{BuildHasher, RandomState};
use std::io::{Write, stderr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a host can do. What the standard library asks of every host alike is provided.
pub trait Host {
    /// A connection to PostgreSQL.
    type Connection: Connection;

    /// The value of one of the component's variables; `None` when the host can't resolve it.
    async fn variable(&self, name: &str) -> Option<String>;

    /// A connection to this address.
    async fn open(&self, address: &str, purpose: Purpose) -> Result<Self::Connection, DatabaseError>;

    /// The result of some work, unless it takes longer than that; then the work is dropped. A host whose calls can't be interrupted
    /// waits for its end.
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

    /// A number that tells requests apart. The standard library seeds its hasher at random: one import fewer.
    fn number(&self) -> u64 {
        RandomState::new().hash_one(0)
    }

    /// Writes a line to the log, which is stderr.
    fn log(&self, line: &str) {
        // Not eprintln!, which panics where the line can't be written: the client still gets its answer.
        let _ = writeln!(stderr(), "{line}");
    }
}

/// What a connection is opened for, which decides whether others may have it at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading: several requests may send statements at once.
    Reading,
    /// Saving: nobody else's statement may be before this one, or it could be done after its client was told that it failed.
    Saving,
    /// Making the schema: nobody else's statement may come between.
    Preparing,
}

/// A connection to PostgreSQL; dropping it gives it back.
pub trait Connection {
    /// Runs a query and returns its first row; `None` where it has none. All of ours have one, and read no further.
    async fn query(&self, statement: &str, parameters: &[Parameter]) -> Result<Option<Vec<Value>>, DatabaseError>;

    /// Runs a statement that has no result.
    async fn execute(&self, statement: &str, parameters: &[Parameter]) -> Result<(), DatabaseError>;
}

/// A request, with its body still unread.
pub trait Request {
    /// The method as sent.
    fn method(&self) -> &Method;

    /// The raw path and query.
    fn path_with_query(&self) -> &str;

    /// A header's last value. Each read is a call into the host: ask only for what is needed.
    fn header(&self, name: &HeaderName) -> Option<String>;

    /// Reads the body, up to one byte more than `limit`; called once at most.
    async fn body(&self, limit: usize, within: Duration) -> Result<Vec<u8>, BodyError>;
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It broke off, or its framing is wrong.
    Broken,
    /// It was not there in time.
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

/// A column's value, as far as our statements have such columns.
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

/// Why PostgreSQL gave no result.
#[derive(Debug, Clone)]
pub enum DatabaseError {
    /// There is no connection: refused, not allowed, or not authenticated.
    NoConnection(String),
    /// The server refused the statement.
    Refused {
        /// PostgreSQL's SQLSTATE.
        sqlstate: String,
        /// The server's words.
        message: String,
    },
    /// The connection broke while the statement ran.
    ConnectionLost(String),
    /// A parameter or a result could not be converted.
    Parameter(String),
}
