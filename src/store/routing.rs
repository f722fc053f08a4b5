//! Which server does the work, and for how long: the primary, or a replica while the primary is away.

use super::{failure::Failure, session::Session};
use crate::config::{Config, LikelyReplica};
use crate::host::Host;
use std::time::{Duration, Instant};

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
    pub(super) host: &'a H,
    pub(super) config: Config<'a, H>,
    opened: Instant,
}

impl<'a, H: Host> Store<'a, H> {
    /// A store whose time limits count from now.
    pub fn new(host: &'a H) -> Self {
        Self { host, config: Config::new(host), opened: host.clock() }
    }

    /// Runs `work` on the primary; again where the pooled connection turned out dead or its server demoted.
    pub(super) async fn on_primary<T>(
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
    pub(super) async fn on_replicas<T>(
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

    /// How long the request has had this store.
    pub(super) fn elapsed(&self) -> Duration {
        self.host.clock().duration_since(self.opened)
    }
}
