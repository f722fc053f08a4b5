//! Why the store could not do its work.

use crate::config::{ConfigError, LikelyReplica};
use crate::host::DatabaseError;

/// Connections in the host's pool for one address. Source: Spin's outbound PostgreSQL client.
const HOST_POOL_SIZE: u32 = 64;

/// What failed, for the operator's log; a client is told none of it.
#[derive(Debug)]
pub struct Failure {
    /// The step that failed.
    pub step: &'static str,
    /// PostgreSQL's SQLSTATE, where the server sent one.
    pub sqlstate: Option<String>,
    /// The host's or the server's own words. They never hold a password: see [`crate::log`].
    pub message: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The server refused the statement, or no server could be reached.
    Refused,
    /// The connection broke while it was in use.
    ConnectionLost,
    /// The server behind the pooled connection is no longer the primary.
    NotPrimary,
    /// An answer that none of our statements can have.
    Unexpected,
}

impl Failure {
    /// Sorts an error of the host by what can be done about it.
    pub fn from_host(step: &'static str, error: DatabaseError) -> Self {
        let (sqlstate, message, kind) = match error {
            DatabaseError::Refused { sqlstate, message } => {
                let kind = kind_of(&sqlstate);
                (Some(sqlstate), message, kind)
            }
            DatabaseError::ConnectionLost(message) => (None, message, Kind::ConnectionLost),
            DatabaseError::NoConnection(message) => (None, message, Kind::Refused),
            DatabaseError::Parameter(message) => (None, message, Kind::Unexpected),
        };
        Self { step, sqlstate, message, kind }
    }

    /// Which host of the primary list is likely a replica, when none could be opened for writing. The driver tries one host
    /// after the other and tells of the last only: where that one answered as a replica, the words say so; else the other
    /// one may have. A guess, as the words are the driver's and may change.
    pub fn likely_replica(&self) -> Option<LikelyReplica> {
        let last_answered = self.message.contains("does not allow writes");
        self.is_of_open().then_some(if last_answered { LikelyReplica::LastHost } else { LikelyReplica::FirstHost })
    }

    /// Whether no connection could be opened.
    pub fn is_of_open(&self) -> bool {
        self.step == "open"
    }

    /// The administrator could open neither the database nor the one from which it could be made.
    pub fn neither_opens(database: Self, maintenance: &Self) -> Self {
        let message = format!(
            "the administrator can open neither the database nor postgres, from which a missing one is made: {}; {}",
            database.message, maintenance.message
        );
        Self { message, ..database }
    }

    /// An answer that our statement can't have: the schema is not ours, or this is a bug.
    pub fn unexpected(step: &'static str) -> Self {
        let message = "the answer has an unexpected shape".to_owned();
        Self { step, sqlstate: None, message, kind: Kind::Unexpected }
    }

    /// The schema is older than this program needs, or the role lacks a privilege.
    pub fn unprepared(step: &'static str) -> Self {
        let message =
            "the schema or a privilege is missing; /readyz makes both with administrator credentials".to_owned();
        Self { step, sqlstate: None, message, kind: Kind::Refused }
    }

    /// The primary's address led to a server that is in recovery.
    pub fn not_primary(step: &'static str) -> Self {
        let message = "the server behind the pooled connection was demoted".to_owned();
        Self { step, sqlstate: None, message, kind: Kind::NotPrimary }
    }

    /// No answer came in time. It may still: nobody waits for it.
    pub fn late(step: &'static str) -> Self {
        Self { step, sqlstate: None, message: "no answer in time".to_owned(), kind: Kind::Refused }
    }

    /// No replica is configured, or none could be tried in time.
    pub fn no_replica() -> Self {
        let message = "no replica to ask".to_owned();
        Self { step: "open", sqlstate: None, message, kind: Kind::Refused }
    }

    /// How often the statement may be tried, each time on another connection. Every statement of ours can be repeated.
    pub fn attempts(&self) -> u32 {
        match self.kind {
            Kind::Refused | Kind::Unexpected => 1,
            Kind::ConnectionLost => 2,
            // Every connection that the host's pool holds may lead to the demoted server: discard them all.
            Kind::NotPrimary => HOST_POOL_SIZE + 1,
        }
    }

    /// Whether another pod created the same database first (`duplicate_database`, or the index of names noticed).
    pub fn is_already_done(&self) -> bool {
        matches!(self.sqlstate.as_deref(), Some("42P04" | "23505"))
    }

    /// Whether this is a fault of the program or of its schema rather than of the database's health.
    pub fn is_unexpected(&self) -> bool {
        self.kind == Kind::Unexpected
    }
}

fn kind_of(sqlstate: &str) -> Kind {
    match sqlstate {
        "25006" => Kind::NotPrimary,
        // Class 08, and the server shutting down or starting up.
        code if code.starts_with("08") => Kind::ConnectionLost,
        "57P01" | "57P02" | "57P03" => Kind::ConnectionLost,
        _ => Kind::Refused,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { step: "configure", sqlstate: None, message: error.to_string(), kind: Kind::Refused }
    }
}
