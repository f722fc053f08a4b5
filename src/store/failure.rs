//! Why the store failed, and whether a retry can help.

use crate::config::{ConfigError, LikelyReplica};
use crate::host::DatabaseError;

/// Connections in the host's pool for one address. Source: Spin's outbound PostgreSQL client.
const HOST_POOL_SIZE: u32 = 64;

/// The step that reads the configuration.
const CONFIGURE: &str = "configure";

/// What failed, for the operator's log. Clients never see it.
#[derive(Debug)]
pub struct Failure {
    /// The step that failed.
    pub step: &'static str,
    /// PostgreSQL's SQLSTATE, if the server sent one.
    pub sqlstate: Option<String>,
    /// The message of the host or the server. [`crate::config::Config::redact`] removes passwords before it is logged.
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
    /// The server's answer does not fit the statement.
    Unexpected,
}

impl Failure {
    /// Classifies an error of the host by whether a retry can help.
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

    /// Which host of the primary list is likely a replica, if no connection for writing could be opened. The driver tries one host after the
    /// other, and reports only the last. Its message shows whether the last host answered as a replica. If it did not, the first may have.
    /// This is a guess, because the driver may change its message.
    pub fn likely_replica(&self) -> Option<LikelyReplica> {
        let last_answered = self.message.contains("does not allow writes");
        self.open_failed().then_some(if last_answered { LikelyReplica::LastHost } else { LikelyReplica::FirstHost })
    }

    /// Whether no connection could be opened.
    pub fn open_failed(&self) -> bool {
        self.step == "open"
    }

    /// The administrator could open neither the database nor `postgres`, from which the database is created.
    pub fn neither_opens(database: Self, maintenance: &Self) -> Self {
        let message = format!(
            "the administrator can open neither the database nor postgres, from which a missing one is created: {}; {}",
            database.message, maintenance.message
        );
        Self { message, ..database }
    }

    /// The answer does not fit the statement: somebody has changed the schema, or this is a bug.
    pub fn unexpected(step: &'static str) -> Self {
        let message = "the server's answer does not fit the statement: compare the schema with migrations/".to_owned();
        Self { step, sqlstate: None, message, kind: Kind::Unexpected }
    }

    /// The schema is older than this version needs, or the role lacks a privilege.
    pub fn unprepared(step: &'static str) -> Self {
        let message =
            "the schema or a privilege is missing: set pg_admin_user and pg_admin_password, and /readyz creates both"
                .to_owned();
        Self { step, sqlstate: None, message, kind: Kind::Refused }
    }

    /// The primary's address led to a server that is in recovery.
    pub fn not_primary(step: &'static str) -> Self {
        let message = "the server behind the pooled connection was demoted".to_owned();
        Self { step, sqlstate: None, message, kind: Kind::NotPrimary }
    }

    /// No answer came in time, and nobody waits for it any longer.
    pub fn late(step: &'static str) -> Self {
        Self { step, sqlstate: None, message: "no answer in time".to_owned(), kind: Kind::Refused }
    }

    /// No replica is configured, or there was no time left to try one.
    pub fn no_replica() -> Self {
        let message = "no replica is configured, or there was no time left to try one".to_owned();
        Self { step: "open", sqlstate: None, message, kind: Kind::Refused }
    }

    /// How often the statement may be tried, each time on another connection. Every statement of this service is idempotent.
    pub fn attempts(&self) -> u32 {
        match self.kind {
            Kind::Refused | Kind::Unexpected => 1,
            Kind::ConnectionLost => 2,
            // Every connection in the host's pool may lead to the demoted server, so all are discarded.
            Kind::NotPrimary => HOST_POOL_SIZE + 1,
        }
    }

    /// Whether another pod created the same database first (`duplicate_database`, or a violation of the unique index on names).
    pub fn database_exists(&self) -> bool {
        matches!(self.sqlstate.as_deref(), Some("42P04" | "23505"))
    }

    /// Whether a variable is missing or invalid.
    pub fn is_misconfigured(&self) -> bool {
        self.step == CONFIGURE
    }

    /// Whether the cause is a bug or a changed schema, and not the database's health.
    pub fn is_unexpected(&self) -> bool {
        self.kind == Kind::Unexpected
    }
}

fn kind_of(sqlstate: &str) -> Kind {
    match sqlstate {
        "25006" => Kind::NotPrimary,
        // Class 08 is a connection exception. The others say that the server shuts down or starts up.
        code if code.starts_with("08") => Kind::ConnectionLost,
        "57P01" | "57P02" | "57P03" => Kind::ConnectionLost,
        _ => Kind::Refused,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { step: CONFIGURE, sqlstate: None, message: error.to_string(), kind: Kind::Refused }
    }
}
