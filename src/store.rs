//! The store: birthdays in PostgreSQL, through the host.
//!
//! One connection and one statement a request. The host's pool does not roll back, so there are no transactions here,
//! and Spin 4.0 never answers a query without rows, so every query returns exactly one (`session.rs` insists).

mod failure;
mod schema;
mod session;

pub use failure::Failure;
pub use schema::Readiness;

use crate::config::{Config, LikelyReplica};
use crate::domain::{DateOfBirth, Username};
use crate::host::{Connection, Host, Parameter, Value};
use session::Session;
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

/// A fresh attempt at the primary starts no later than this: the host's pool may have to try both hosts anew, for 1 s each,
/// and a client gets its answer within 5 s. Not earlier either: a half-open connection is given up after about 2.4 s, and all
/// others in the pool with it.
const RETRY_UNTIL: Duration = Duration::from_millis(2700);

/// The next replica is tried no later than this: one connection attempt takes up to 1 s, and the answer is due at 5 s.
/// Not earlier either: where packets to the primary vanish, a half-open connection (2.4 s) and a new one (1 s) take 3.4 s.
const TRY_REPLICA_UNTIL: Duration = Duration::from_millis(3950);

/// The same for a replica that seems to have just answered: it should need no second.
const ASK_REPLICA_UNTIL: Duration = Duration::from_millis(4500);

/// The birthdays, for the length of one request.
pub struct Store<'a, H> {
    host: &'a H,
    config: Config<'a, H>,
    opened: Instant,
}

impl<'a, H: Host> Store<'a, H> {
    /// A store whose time limits count from now.
    pub fn new(host: &'a H) -> Self {
        Self { host, config: Config::new(host), opened: host.clock() }
    }

    /// Saves the date of birth on the primary; durable there when this returns.
    pub async fn save(&self, user: &Username, born: DateOfBirth) -> Result<(), Failure> {
        let (year, month, day) = born.year_month_day();
        let user = user.key();
        let parameters = [Parameter::Text(&user), Parameter::Date(year, month as u8, day as u8)];
        self.on_primary(async |session| session.execute("save", SAVE, &parameters).await).await
    }

    /// The user's date of birth: from the primary, or from a replica while the primary can't be reached.
    pub async fn find(&self, user: &Username) -> Result<Option<DateOfBirth>, Failure> {
        let user = user.key();
        let mut from_demoted = None;
        let found = self.on_primary(async |session| {
            let (found, in_recovery) = find(session, &user).await?;
            if in_recovery {
                from_demoted = Some(found);
                return Err(Failure::not_primary("find"));
            }
            Ok(found)
        });
        match (found.await, from_demoted) {
            (Ok(found), _) => Ok(found),
            (Err(_), Some(found)) => Ok(found),
            (Err(failure), None) => {
                let found =
                    self.on_replicas(failure.likely_replica(), async |session| find(session, &user).await).await;
                found.map_or(Err(failure), |(found, _)| Ok(found))
            }
        }
    }

    /// Runs `work` on the primary; again where the pooled connection turned out dead or its server demoted.
    async fn on_primary<T>(
        &self,
        mut work: impl AsyncFnMut(&Session<H::Connection>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let address = self.config.primary().await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let session = Session::open(self.host, &address).await?;
            match work(&session).await {
                Err(failure) if attempts < failure.attempts() && self.elapsed() < RETRY_UNTIL => {
                    session.discard().await;
                }
                result => return result,
            }
        }
    }

    /// Runs `work` on the first replica that answers; `Err` with the last failure when none does.
    async fn on_replicas<T>(
        &self,
        likely: Option<LikelyReplica>,
        work: impl AsyncFn(&Session<H::Connection>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut last = Failure::no_replica();
        let mut until = if likely == Some(LikelyReplica::LastHost) { ASK_REPLICA_UNTIL } else { TRY_REPLICA_UNTIL };
        for address in self.config.replicas(likely).await? {
            if self.elapsed() > until {
                break;
            }
            until = TRY_REPLICA_UNTIL;
            let answered = match Session::open(self.host, &address).await {
                Ok(session) => work(&session).await,
                Err(failure) => Err(failure),
            };
            match answered {
                Ok(done) => return Ok(done),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn elapsed(&self) -> Duration {
        self.host.clock().duration_since(self.opened)
    }
}

/// The stored date, if any, and whether the server that said so is a replica.
async fn find<C: Connection>(session: &Session<C>, user: &str) -> Result<(Option<DateOfBirth>, bool), Failure> {
    match session.one_row("find", FIND, &[Parameter::Text(user)]).await?[..] {
        [Value::Null, Value::Boolean(in_recovery)] => Ok((None, in_recovery)),
        [Value::Date(year, month, day), Value::Boolean(in_recovery)] => {
            DateOfBirth::stored(year, month.into(), day.into())
                .map(|born| (Some(born), in_recovery))
                .ok_or_else(|| Failure::unexpected("find"))
        }
        _ => Err(Failure::unexpected("find")),
    }
}
