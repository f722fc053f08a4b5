//! The store: birthdays in PostgreSQL, through the Spin host.
//!
//! One connection and one statement a request. The host's pool does not roll back, so there are no transactions here,
//! and Spin 4.0.2 never answers a query without rows, so every query returns exactly one (`session.rs` insists).

mod failure;
mod schema;
mod session;

pub use failure::Failure;
pub use schema::Readiness;

use crate::config::{Config, Replica};
use crate::domain::{DateOfBirth, Username};
use session::Session;
use spin_sdk::pg4::{DbValue, ParameterValue};
use std::time::{Duration, Instant};

/// Saves or updates; a date that is stored already is only read, so that nothing is written.
const SAVE: &str = "\
    INSERT INTO dob_api.birthday AS stored (username, date_of_birth) \
    SELECT $1::text, $2::date WHERE NOT EXISTS \
    (SELECT FROM dob_api.birthday WHERE username = $1::text AND date_of_birth = $2::date) \
    ON CONFLICT (username) DO UPDATE SET date_of_birth = EXCLUDED.date_of_birth, updated_at = now() \
    WHERE stored.date_of_birth <> EXCLUDED.date_of_birth";

/// One row whether the user exists or not; the second column unmasks a demoted server behind a pooled connection.
const FIND: &str = "\
    SELECT (SELECT date_of_birth FROM dob_api.birthday WHERE username = $1), pg_is_in_recovery()";

/// A fresh attempt at the primary starts no later than this: with half-open connections in the host's pool it may
/// take another 1 s of TCP timeout and 1 s a host, and a client gets its answer within 5 s.
const RETRY_UNTIL: Duration = Duration::from_millis(2000);

/// The next replica is tried no later than this: one connection attempt takes up to 1 s, and the answer is due at 5 s.
/// Not earlier either: where packets to the primary vanish, two half-open connections (1.4 s each, until the kernel has
/// given up the others) and a new one (1 s) take 3.9 s.
const TRY_REPLICA_UNTIL: Duration = Duration::from_millis(3950);

/// The same for a replica that has just answered: it needs no second.
const ASK_REPLICA_UNTIL: Duration = Duration::from_millis(4500);

/// The birthdays, for the length of one request.
pub struct Store<'a> {
    config: &'a Config<'a>,
    opened: Instant,
}

impl<'a> Store<'a> {
    /// A store whose time limits count from now.
    pub fn new(config: &'a Config<'a>) -> Self {
        Self { config, opened: Instant::now() }
    }

    /// Saves the date of birth on the primary; durable there when this returns.
    pub fn save(&self, user: &Username, born: DateOfBirth) -> Result<(), Failure> {
        let (year, month, day) = born.year_month_day();
        let parameters = [ParameterValue::Str(user.key()), ParameterValue::Date((year, month as u8, day as u8))];
        self.on_primary(|session| session.execute("save", SAVE, &parameters))
    }

    /// The user's date of birth: from the primary, or from a replica while the primary can't be reached.
    pub fn find(&self, user: &Username) -> Result<Option<DateOfBirth>, Failure> {
        let user = [ParameterValue::Str(user.key())];
        let mut from_demoted = None;
        let found = self.on_primary(|session| {
            let (found, in_recovery) = find(session, &user)?;
            if in_recovery {
                from_demoted = Some(found);
                return Err(Failure::not_primary("find"));
            }
            Ok(found)
        });
        match (found, from_demoted) {
            (Ok(found), _) => Ok(found),
            (Err(_), Some(found)) => Ok(found),
            (Err(failure), None) => {
                let found = self.on_replicas(failure.replica(), |session| find(session, &user));
                found.map_or(Err(failure), |(found, _)| Ok(found))
            }
        }
    }

    /// Runs `work` on the primary; again where the pooled connection turned out dead or its server demoted.
    fn on_primary<T>(&self, mut work: impl FnMut(&Session) -> Result<T, Failure>) -> Result<T, Failure> {
        let address = self.config.primary()?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let session = Session::open(&address)?;
            match work(&session) {
                Err(failure) if attempts < failure.attempts() && self.opened.elapsed() < RETRY_UNTIL => {
                    session.discard();
                }
                result => return result,
            }
        }
    }

    /// Runs `work` on the first replica that answers; `Err` with the last failure when none does.
    fn on_replicas<T>(
        &self,
        known: Option<Replica>,
        work: impl Fn(&Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut last = Failure::no_replica();
        let mut until = if known == Some(Replica::LastHost) { ASK_REPLICA_UNTIL } else { TRY_REPLICA_UNTIL };
        for address in self.config.replicas(known)? {
            if self.opened.elapsed() > until {
                break;
            }
            until = TRY_REPLICA_UNTIL;
            match Session::open(&address).and_then(|session| work(&session)) {
                Ok(done) => return Ok(done),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }
}

/// The stored date, if any, and whether the server that said so is a replica.
fn find(session: &Session, user: &[ParameterValue]) -> Result<(Option<DateOfBirth>, bool), Failure> {
    match session.one_row("find", FIND, user)?.as_slice() {
        [DbValue::DbNull, DbValue::Boolean(in_recovery)] => Ok((None, *in_recovery)),
        [DbValue::Date((year, month, day)), DbValue::Boolean(in_recovery)] => {
            DateOfBirth::stored(*year, (*month).into(), (*day).into())
                .map(|born| (Some(born), *in_recovery))
                .ok_or_else(|| Failure::unexpected("find"))
        }
        _ => Err(Failure::unexpected("find")),
    }
}
