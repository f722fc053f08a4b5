//! Why the store failed, and whether a retry can help.

use crate::config::{CONNECT_TIMEOUT_S, ConfigError, LikelyReplica, TCP_USER_TIMEOUT_S};
use crate::host::DatabaseError;
use std::time::Duration;

/// Connections in the host's pool for one address. Source: Spin's outbound PostgreSQL client.
const HOST_POOL_SIZE: u32 = 64;

/// The time that connecting to one silent host takes.
const ONE_SILENT: Duration = Duration::from_secs(CONNECT_TIMEOUT_S as u64);
/// The least time that connecting to two silent hosts takes.
const BOTH_SILENT: Duration = ONE_SILENT.saturating_mul(2);
/// The least time that the host's pool waits for a dead connection before it opens a new one. Linux counts its limit from the second
/// repetition of what was sent: it probes after 0.2 s, and repeats 0.2 s later.
const DEAD_IN_POOL: Duration = Duration::from_millis(1000 * TCP_USER_TIMEOUT_S as u64 + 400);

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
    /// How long opening the connection took, if that failed.
    opening: Option<Duration>,
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
        Self { sqlstate, ..Self::new(step, message, kind) }
    }

    /// No connection could be opened within this time.
    pub fn not_opened(error: DatabaseError, took: Duration) -> Self {
        Self { opening: Some(took), ..Self::from_host("open", error) }
    }

    /// Which host of the primary list is likely a replica, if no connection for writing could be opened. The driver tries one host after the
    /// other, and reports only the last. Its message shows whether the last host answered as a replica. If it did not, the first may have.
    /// This is a guess, because the driver may change its message.
    pub fn likely_replica(&self) -> Option<LikelyReplica> {
        let took = self.opening?;
        let last_answered = self.message.contains("does not allow writes");
        let one_silent = took < BOTH_SILENT || (DEAD_IN_POOL + ONE_SILENT..DEAD_IN_POOL + BOTH_SILENT).contains(&took);
        Some(match last_answered {
            true => LikelyReplica::LastHost,
            false if one_silent => LikelyReplica::FirstHost,
            false => LikelyReplica::PerhapsFirstHost,
        })
    }

    /// Whether no connection could be opened.
    pub fn open_failed(&self) -> bool {
        self.opening.is_some()
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
        let message = "the server's answer does not fit the statement: compare the schema with migrations/";
        Self::new(step, message, Kind::Unexpected)
    }

    /// The schema is older than this version needs, or the role lacks a privilege.
    pub fn unprepared(step: &'static str) -> Self {
        let message =
            "the schema or a privilege is missing: set pg_admin_user and pg_admin_password, and /readyz creates both";
        Self::new(step, message, Kind::Refused)
    }

    /// The primary's address led to a server that is in recovery.
    pub fn not_primary(step: &'static str) -> Self {
        Self::new(step, "the server behind the pooled connection was demoted", Kind::NotPrimary)
    }

    /// No answer came in time, and nobody waits for it any longer.
    pub fn late(step: &'static str) -> Self {
        Self::new(step, "no answer in time", Kind::Refused)
    }

    /// No replica is configured, or there was no time left to try one.
    pub fn no_replica() -> Self {
        Self::new("open", "no replica is configured, or there was no time left to try one", Kind::Refused)
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

    fn new(step: &'static str, message: impl Into<String>, kind: Kind) -> Self {
        Self { step, sqlstate: None, message: message.into(), kind, opening: None }
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
        Self::new(CONFIGURE, error.to_string(), Kind::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_says_and_how_long_it_takes_show_which_host_is_a_replica() {
        let read_only = "error connecting to server: database does not allow writes";
        for (message, took_ms, likely) in [
            (read_only, 1100, LikelyReplica::LastHost),
            ("connection timed out", 1100, LikelyReplica::FirstHost),
            ("connection timed out", 1999, LikelyReplica::FirstHost),
            ("connection timed out", 2000, LikelyReplica::PerhapsFirstHost),
            ("connection timed out", 3399, LikelyReplica::PerhapsFirstHost),
            ("connection timed out", 3400, LikelyReplica::FirstHost),
            ("connection timed out", 4399, LikelyReplica::FirstHost),
            ("connection timed out", 4400, LikelyReplica::PerhapsFirstHost),
        ] {
            let error = DatabaseError::NoConnection(message.to_owned());
            let failure = Failure::not_opened(error, Duration::from_millis(took_ms));
            assert_eq!(failure.likely_replica(), Some(likely), "{message} after {took_ms} ms");
        }
        assert_eq!(Failure::late("find").likely_replica(), None);
    }
}
