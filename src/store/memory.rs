//! What an instance remembers of the database from earlier requests.

use crate::config::{Address, Config, ConfigError};
use crate::host::Host;
use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

/// The hedge delay of a read, after which a replica is asked as well: about twenty times what a greeting takes on a busy machine.
const HEDGE_AFTER: Duration = Duration::from_millis(50);
/// How long the primary may be silent before a replica's answer counts. Source: the HTTP contract.
const REPLICA_COUNTS_AFTER: Duration = Duration::from_millis(200);
/// How long a probe waits for a primary that is down.
const PROBE: Duration = Duration::from_millis(50);
/// How often a primary that is down is probed.
const PROBE_EVERY: Duration = Duration::from_millis(500);

/// The primary's address, and which servers have answered. A new instance assumes that all do. An instance that serves only one request
/// never learns otherwise.
#[derive(Default)]
pub struct Memory {
    primary: OnceCell<Address>,
    /// When a primary that is down is probed next.
    probe_at: Cell<Option<Instant>>,
    /// The replica that answered last, by its place in the list.
    replica: Cell<usize>,
}

/// How long a greeting waits for the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrimaryTimeouts {
    /// Before a replica is asked as well.
    pub before_hedge: Duration,
    /// After that, until the replica's answer counts.
    pub after_hedge: Duration,
}

impl Memory {
    /// The primary's address. Only the first call reads the configuration, which does not change while an instance lives.
    pub async fn primary(&self, config: &Config<'_, impl Host>) -> Result<Address, ConfigError> {
        match self.primary.get() {
            Some(address) => Ok(address.clone()),
            None => config.primary().await.map(|address| self.primary.get_or_init(|| address).clone()),
        }
    }

    /// How long a greeting waits for the primary, or `None` if the primary is down and not to be probed now.
    pub fn timeouts(&self, now: Instant) -> Option<PrimaryTimeouts> {
        match self.probe_at.get() {
            None => {
                Some(PrimaryTimeouts { before_hedge: HEDGE_AFTER, after_hedge: REPLICA_COUNTS_AFTER - HEDGE_AFTER })
            }
            Some(at) if now >= at => {
                self.primary_failed(now);
                Some(PrimaryTimeouts { before_hedge: Duration::ZERO, after_hedge: PROBE })
            }
            Some(_) => None,
        }
    }

    /// The primary has answered.
    pub fn primary_answered(&self) {
        self.probe_at.set(None);
    }

    /// The primary could not be reached, or was silent for too long.
    pub fn primary_failed(&self, now: Instant) {
        self.probe_at.set(Some(now + PROBE_EVERY));
    }

    /// Which replica to ask first, by its place in the list.
    pub fn first_replica(&self) -> usize {
        self.replica.get()
    }

    /// A replica has answered.
    pub fn replica_answered(&self, place: usize) {
        self.replica.set(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_that_is_down_is_probed_until_it_answers() {
        let (memory, now) = (Memory::default(), Instant::now());
        let whole =
            Some(PrimaryTimeouts { before_hedge: HEDGE_AFTER, after_hedge: REPLICA_COUNTS_AFTER - HEDGE_AFTER });
        let probe = Some(PrimaryTimeouts { before_hedge: Duration::ZERO, after_hedge: PROBE });
        assert_eq!(memory.timeouts(now), whole);
        memory.primary_failed(now);
        assert_eq!(memory.timeouts(now + PROBE_EVERY - Duration::from_millis(1)), None);
        assert_eq!(memory.timeouts(now + PROBE_EVERY), probe);
        assert_eq!(memory.timeouts(now + PROBE_EVERY), None, "one request probes, the others don't");
        assert_eq!(memory.timeouts(now + 2 * PROBE_EVERY), probe);
        memory.primary_answered();
        assert_eq!(memory.timeouts(now + PROBE_EVERY), whole);
    }
}
