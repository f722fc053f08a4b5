//! Which server does the work, and for how long: the primary, or a replica while the primary can't be reached.

use super::{failure::Failure, memory::Memory, session::Session};
use crate::config::{Address, Config, LikelyReplica};
use crate::host::{Host, Purpose};
use futures_util::future::{Either, maybe_done, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::pin::pin;
use std::time::{Duration, Instant};

/// A client gets its answer within 5 s. On a host that can end a wait, the store waits no longer than this. Source: the HTTP contract.
const ANSWER_BY: Duration = Duration::from_millis(4700);

/// The primary is tried again no later than this. Not later, because the host's pool may have to try both hosts for 1 s each, and a client
/// gets its answer within 5 s. Not sooner, because the kernel gives up a half-open connection, and all others in the pool, after about
/// 2.4 s.
const RETRY_UNTIL: Duration = Duration::from_millis(2700);

/// The next replica is tried no later than this. If it were later, a connection attempt (1 s) could end after the answer is due (5 s). If it
/// were sooner, dropped packets to the primary (a half-open connection 2.4 s, a new one 1 s) would leave no time for a replica.
const TRY_REPLICA_UNTIL: Duration = Duration::from_millis(3950);

/// The same for a replica that is not silent: connecting to it should take less than 1 s.
const ASK_REPLICA_UNTIL: Duration = Duration::from_millis(4500);

/// How long to wait for a replica before the next one is asked as well.
const NEXT_REPLICA_AFTER: Duration = Duration::from_millis(50);

/// The birthdays, for the length of one request.
pub struct Store<'a, H> {
    pub(super) host: &'a H,
    pub(super) config: Config<'a, H>,
    memory: &'a Memory,
    opened: Instant,
}

impl<'a, H: Host> Store<'a, H> {
    /// A store whose time limits count from now.
    pub fn new(host: &'a H, memory: &'a Memory) -> Self {
        Self { host, config: Config::new(host), memory, opened: host.clock() }
    }

    /// Runs `work` on the primary. Runs it again if the pooled connection turns out to be dead, or its server demoted.
    pub(super) async fn on_primary<T>(
        &self,
        purpose: Purpose,
        mut work: impl AsyncFnMut(&Session<H::Connection>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let address = self.memory.primary(&self.config).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let session = Session::open(self.host, &address, purpose).await?;
            match work(&session).await {
                Err(failure) if attempts < failure.attempts() && self.elapsed() < RETRY_UNTIL => {
                    session.discard().await;
                }
                Ok(done) => {
                    self.memory.primary_answered();
                    return Ok(done);
                }
                failed => return failed,
            }
        }
    }

    /// Reads from the primary. Reads from a replica if the primary is down, or silent for longer than the contract allows.
    pub(super) async fn read<T>(
        &self,
        primary: impl Future<Output = Result<T, Failure>>,
        replicas: impl AsyncFn(Option<LikelyReplica>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut primary = pin!(primary);
        let Some(timeouts) = self.memory.timeouts(self.host.clock()) else {
            return match self.in_time("find", replicas(None)).await {
                Ok(found) => Ok(found),
                Err(_) => self.in_time("find", primary).await,
            };
        };
        let mut answer = self.host.within(timeouts.before_hedge, primary.as_mut()).await;
        let likely = answer.as_ref().and_then(|answer| answer.as_ref().err()?.likely_replica());
        let mut replica = pin!(maybe_done(replicas(likely)));
        if answer.is_none() {
            let silent = pin!(self.host.within(timeouts.after_hedge, primary.as_mut()));
            answer = match select(silent, replica.as_mut()).await {
                Either::Left((answer, _)) => answer,
                Either::Right(((), silent)) => silent.await,
            };
        }
        if let Some(Ok(found)) = answer {
            return Ok(found);
        }
        self.memory.primary_failed(self.host.clock());
        let replica = self.in_time("find", async {
            replica.as_mut().await;
            replica.take_output().unwrap_or_else(|| Err(Failure::no_replica()))
        });
        match (replica.await, answer) {
            (Ok(found), _) => Ok(found),
            // The primary will be repaired anyway. Without this, nobody would learn that the replicas need it, too.
            (Err(replica), Some(_)) if replica.is_misconfigured() => Err(replica),
            (Err(_), Some(failed)) => failed,
            (Err(_), None) => self.in_time("find", primary).await,
        }
    }

    /// Runs `work` on the first replica that answers. If none does, returns the last failure.
    pub(super) async fn on_replicas<T>(
        &self,
        likely: Option<LikelyReplica>,
        work: impl AsyncFn(&Session<H::Connection>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let addresses = self.config.replicas(likely).await?;
        let first = if likely.is_some() { 0 } else { self.memory.first_replica() };
        let mut until = match likely {
            Some(LikelyReplica::FirstHost | LikelyReplica::LastHost) => ASK_REPLICA_UNTIL,
            Some(LikelyReplica::PerhapsFirstHost) | None => TRY_REPLICA_UNTIL,
        };
        let mut asked = FuturesUnordered::new();
        let mut last = Failure::no_replica();
        for place in (0..addresses.len()).map(|turn| (first + turn) % addresses.len()) {
            if self.elapsed() > until {
                break;
            }
            until = TRY_REPLICA_UNTIL;
            // With a guess, the list is in another order, and the place would name another replica.
            let place_to_keep = likely.is_none().then_some(place);
            asked.push(self.on_replica(&addresses[place], place_to_keep, &work));
            match self.host.within(NEXT_REPLICA_AFTER, first_success(&mut asked)).await {
                Some(Ok(done)) => return Ok(done),
                Some(Err(failure)) => last = failure,
                None => {}
            }
        }
        if asked.is_empty() { Err(last) } else { first_success(&mut asked).await }
    }

    async fn on_replica<T>(
        &self,
        address: &Address,
        place: Option<usize>,
        work: &impl AsyncFn(&Session<H::Connection>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let done = work(&Session::open(self.host, address, Purpose::Reading).await?).await?;
        if let Some(place) = place {
            self.memory.replica_answered(place);
        }
        Ok(done)
    }

    /// The result of `work`. If it is not there when the answer is due, the work is dropped.
    pub(super) async fn in_time<T>(
        &self,
        step: &'static str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let left = ANSWER_BY.saturating_sub(self.elapsed());
        self.host.within(left, work).await.unwrap_or_else(|| Err(Failure::late(step)))
    }

    /// The time since this store was created for the request.
    pub(super) fn elapsed(&self) -> Duration {
        self.host.clock().duration_since(self.opened)
    }
}

/// The first success, or the last failure once all have failed. Called again, it continues with the remaining ones.
async fn first_success<T>(
    asked: &mut FuturesUnordered<impl Future<Output = Result<T, Failure>>>,
) -> Result<T, Failure> {
    let mut last = Failure::no_replica();
    while let Some(result) = asked.next().await {
        match result {
            Ok(done) => return Ok(done),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}
