//! The state of a target group: which targets are due for a check, and which get connections. It is pure: time and answers are
//! arguments.

use crate::settings::{HealthCheck, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A target as `aws elbv2 describe-target-health` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    pub state: State,
    /// AWS's code for why it is not healthy; empty if it is.
    pub reason: &'static str,
    /// The reason in words.
    pub description: String,
}

/// A target's health state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is being registered, or has not passed enough checks yet.
    Initial,
    Healthy,
    Unhealthy,
    /// It is deregistered.
    Draining,
}

/// Which connections of a target are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Only existing ones.
    Kept,
    /// Existing and new ones.
    New,
}

/// The outcome of a check; an error says why it failed.
pub(crate) type Answer = Result<(), String>;

/// All targets. A target that `traffic` no longer contains loses its connections.
#[derive(Debug)]
pub(crate) struct TargetGroup {
    settings: Settings,
    targets: BTreeMap<SocketAddr, Entry>,
}

#[derive(Debug)]
struct Entry {
    phase: Phase,
    health: Health,
    /// When the next check is due; none while one is running.
    next_check: Option<Instant>,
    last_check: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Registering { until: Instant },
    Registered,
    Deregistered { since: Instant },
}

/// Health as of the checks so far.
#[derive(Debug)]
struct Health {
    state: State,
    /// Successes in a row.
    good: u32,
    /// Failures in a row.
    bad: u32,
    last_failure: String,
}

impl TargetGroup {
    pub fn new(settings: Settings) -> Self {
        Self { settings, targets: BTreeMap::new() }
    }

    /// Applies the endpoints that Kubernetes has now, and the time that has passed.
    pub fn update(&mut self, endpoints: &BTreeSet<SocketAddr>, now: Instant) {
        for address in endpoints {
            let registering = Phase::Registering { until: now + self.settings.registration_delay };
            let entry = self.targets.entry(*address).or_insert_with(|| Entry::new(registering, now));
            match entry.phase {
                // The load balancer's machines do not know yet that it was deregistered.
                Phase::Deregistered { since } if now < since + self.settings.deregistration_lag => {
                    entry.phase = Phase::Registered;
                }
                Phase::Deregistered { .. } => *entry = Entry::new(registering, now),
                Phase::Registering { until } if until <= now => entry.phase = Phase::Registered,
                _ => {}
            }
        }
        let drained = self.settings.deregistration_lag + self.settings.deregistration_delay;
        self.targets.retain(|address, entry| match entry.phase {
            _ if endpoints.contains(address) => true,
            Phase::Registering { .. } => false,
            Phase::Registered => {
                entry.phase = Phase::Deregistered { since: now };
                true
            }
            Phase::Deregistered { since } => now < since + drained,
        });
    }

    /// The targets that are due for a check; their checks count as started.
    pub fn due(&mut self, now: Instant) -> Vec<SocketAddr> {
        let lag = self.settings.deregistration_lag;
        let due = self
            .targets
            .iter_mut()
            .filter(|(_, entry)| entry.phase.is_known(lag, now) && entry.next_check.is_some_and(|at| at <= now));
        let asked = due.map(|(address, entry)| {
            (entry.next_check, entry.last_check) = (None, now);
            *address
        });
        asked.collect()
    }

    /// Records the outcome of a target's check.
    pub fn checked(&mut self, address: SocketAddr, answer: Answer, now: Instant) {
        if let Some(entry) = self.targets.get_mut(&address) {
            entry.health.heard(answer, &self.settings.health_check);
            entry.next_check = Some(now.max(entry.last_check + self.settings.health_check.interval));
        }
    }

    /// Which connections each target may have. If no target is healthy, the unhealthy ones get new connections, too.
    pub fn traffic(&self, now: Instant) -> BTreeMap<SocketAddr, Traffic> {
        let known = |entry: &Entry| entry.phase.is_known(self.settings.deregistration_lag, now);
        let has_healthy = self.targets.values().any(|entry| known(entry) && entry.health.state == State::Healthy);
        let serves = if has_healthy { State::Healthy } else { State::Unhealthy };
        let traffic = |entry| match known(entry) && entry.health.state == serves {
            true => Traffic::New,
            false => Traffic::Kept,
        };
        self.targets.iter().map(|(address, entry)| (*address, traffic(entry))).collect()
    }

    /// The next moment at which something changes through the passing of time.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        let Settings { deregistration_lag: lag, deregistration_delay: delay, .. } = self.settings;
        let changes = self.targets.values().flat_map(|entry| {
            let (first, second) = match entry.phase {
                Phase::Registering { until } => (Some(until), None),
                Phase::Registered => (None, None),
                Phase::Deregistered { since } => (Some(since + lag), Some(since + lag + delay)),
            };
            let check = entry.next_check.filter(|_| entry.phase.is_known(lag, now));
            [first.filter(|at| *at > now), second, check]
        });
        changes.flatten().min()
    }

    /// All targets, as people and readiness gates see them.
    pub fn targets(&self) -> Vec<Target> {
        self.targets.iter().map(|(address, entry)| entry.shown(*address)).collect()
    }
}

impl Phase {
    /// Whether the load balancer's machines treat it as a target; they learn of a deregistration late.
    fn is_known(&self, lag: Duration, now: Instant) -> bool {
        match *self {
            Self::Registering { .. } => false,
            Self::Registered => true,
            Self::Deregistered { since } => now < since + lag,
        }
    }
}

impl Entry {
    fn new(phase: Phase, now: Instant) -> Self {
        let health = Health { state: State::Initial, good: 0, bad: 0, last_failure: String::new() };
        Self { phase, health, next_check: Some(now), last_check: now }
    }

    fn shown(&self, address: SocketAddr) -> Target {
        let (state, reason, description) = match (self.phase, self.health.state) {
            (Phase::Registering { .. }, _) => {
                (State::Initial, "Elb.RegistrationInProgress", "The target is being registered.")
            }
            (Phase::Deregistered { .. }, _) => {
                (State::Draining, "Target.DeregistrationInProgress", "The target is being deregistered.")
            }
            (Phase::Registered, State::Healthy) => (State::Healthy, "", ""),
            (Phase::Registered, State::Unhealthy) => {
                (State::Unhealthy, "Target.FailedHealthChecks", self.health.last_failure.as_str())
            }
            (Phase::Registered, _) => {
                (State::Initial, "Elb.InitialHealthChecking", "The target has not answered often enough yet.")
            }
        };
        Target { address, state, reason, description: description.to_owned() }
    }
}

impl Health {
    fn heard(&mut self, answer: Answer, check: &HealthCheck) {
        match answer {
            Ok(()) => (self.good, self.bad) = (self.good + 1, 0),
            Err(why) => (self.good, self.bad, self.last_failure) = (0, self.bad + 1, why),
        }
        if self.good >= check.successes {
            self.state = State::Healthy;
        } else if self.bad >= check.failures {
            self.state = State::Unhealthy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target group and its clock.
    struct Fixture {
        group: TargetGroup,
        now: Instant,
    }

    const ONE: &str = "10.0.0.1:80";
    const TWO: &str = "10.0.0.2:80";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    impl Fixture {
        fn new() -> Self {
            let health_check = HealthCheck {
                path: "/".to_owned(),
                status: 200,
                interval: seconds(10),
                timeout: seconds(6),
                successes: 2,
                failures: 3,
            };
            let settings = Settings {
                health_check,
                registration_delay: seconds(5),
                deregistration_lag: seconds(60),
                deregistration_delay: seconds(30),
            };
            Self { group: TargetGroup::new(settings), now: Instant::now() }
        }

        /// Both targets registered and healthy.
        fn with_two_healthy() -> Self {
            let mut fixture = Self::new();
            fixture.after(0, &[ONE, TWO]);
            fixture.after(5, &[ONE, TWO]);
            fixture.answers(2, &[ONE, TWO], &Ok(()));
            fixture
        }

        fn after(&mut self, passed: u64, endpoints: &[&str]) {
            self.now += seconds(passed);
            self.group.update(&endpoints.iter().copied().map(address).collect(), self.now);
        }

        fn answers(&mut self, times: usize, targets: &[&str], answer: &Answer) {
            for _ in 0..times {
                targets.iter().for_each(|target| self.group.checked(address(target), answer.clone(), self.now));
            }
        }

        fn fails(&mut self, times: usize, targets: &[&str]) {
            self.answers(times, targets, &Err("it said 503".to_owned()));
        }

        fn traffic(&self, target: &str) -> Option<Traffic> {
            self.group.traffic(self.now).get(&address(target)).copied()
        }

        fn state(&self, target: &str) -> (State, &'static str) {
            let targets = self.group.targets();
            let target = targets.iter().find(|shown| shown.address == address(target)).unwrap();
            (target.state, target.reason)
        }

        fn next(&self) -> Option<Duration> {
            self.group.next_change(self.now).map(|at| at - self.now)
        }
    }

    #[test]
    fn a_pod_is_registered_after_a_while_and_gets_connections_once_it_is_healthy() {
        let mut fixture = Fixture::new();
        fixture.after(0, &[ONE]);
        assert_eq!(fixture.state(ONE), (State::Initial, "Elb.RegistrationInProgress"));
        assert_eq!((fixture.group.due(fixture.now), fixture.next()), (vec![], Some(seconds(5))));
        fixture.after(5, &[ONE]);
        assert_eq!(fixture.state(ONE), (State::Initial, "Elb.InitialHealthChecking"));
        assert_eq!(fixture.group.due(fixture.now), [address(ONE)]);
        fixture.answers(1, &[ONE], &Ok(()));
        assert_eq!(fixture.traffic(ONE), Some(Traffic::Kept));
        fixture.answers(1, &[ONE], &Ok(()));
        assert_eq!((fixture.state(ONE), fixture.traffic(ONE)), ((State::Healthy, ""), Some(Traffic::New)));
    }

    #[test]
    fn a_pod_that_ends_before_its_registration_never_becomes_a_target() {
        let mut fixture = Fixture::new();
        fixture.after(0, &[ONE]);
        fixture.after(1, &[]);
        assert_eq!((fixture.group.targets(), fixture.next()), (vec![], None));
    }

    #[test]
    fn a_target_is_probed_at_its_interval_by_one_probe_at_a_time() {
        let mut fixture = Fixture::with_two_healthy();
        fixture.after(5, &[ONE, TWO]);
        assert_eq!(fixture.group.due(fixture.now), [address(ONE), address(TWO)]);
        assert_eq!(fixture.group.due(fixture.now + seconds(100)), []);
        fixture.now += seconds(4);
        fixture.answers(1, &[ONE], &Ok(()));
        assert_eq!(fixture.next(), Some(seconds(6)));
        fixture.now += seconds(8);
        fixture.answers(1, &[TWO], &Ok(()));
        assert_eq!(fixture.group.due(fixture.now), [address(ONE), address(TWO)]);
    }

    #[test]
    fn an_unhealthy_target_keeps_its_connections_and_gets_new_ones_once_it_is_healthy() {
        let mut fixture = Fixture::with_two_healthy();
        fixture.fails(2, &[ONE]);
        assert_eq!(fixture.traffic(ONE), Some(Traffic::New));
        fixture.answers(1, &[ONE], &Ok(()));
        fixture.fails(3, &[ONE]);
        assert_eq!((fixture.traffic(ONE), fixture.traffic(TWO)), (Some(Traffic::Kept), Some(Traffic::New)));
        assert_eq!(fixture.state(ONE), (State::Unhealthy, "Target.FailedHealthChecks"));
        assert_eq!(fixture.group.targets()[0].description, "it said 503");
        fixture.answers(2, &[ONE], &Ok(()));
        assert_eq!(fixture.traffic(ONE), Some(Traffic::New));
    }

    #[test]
    fn when_all_targets_fail_all_get_connections_except_untested_ones() {
        const THREE: &str = "10.0.0.3:80";
        let mut fixture = Fixture::with_two_healthy();
        fixture.after(0, &[ONE, TWO, THREE]);
        fixture.fails(3, &[ONE, TWO]);
        let open = (Some(Traffic::New), Some(Traffic::New), Some(Traffic::Kept));
        assert_eq!((fixture.traffic(ONE), fixture.traffic(TWO), fixture.traffic(THREE)), open);
        fixture.answers(2, &[TWO], &Ok(()));
        assert_eq!((fixture.traffic(ONE), fixture.traffic(TWO)), (Some(Traffic::Kept), Some(Traffic::New)));
    }

    #[test]
    fn a_deregistered_target_gets_new_connections_for_a_while_then_keeps_them_then_loses_them() {
        let mut fixture = Fixture::with_two_healthy();
        fixture.after(5, &[TWO]);
        assert_eq!(fixture.state(ONE), (State::Draining, "Target.DeregistrationInProgress"));
        fixture.group.due(fixture.now);
        fixture.after(59, &[TWO]);
        assert_eq!((fixture.traffic(ONE), fixture.next()), (Some(Traffic::New), Some(seconds(1))));
        fixture.after(1, &[TWO]);
        assert_eq!((fixture.traffic(ONE), fixture.next()), (Some(Traffic::Kept), Some(seconds(30))));
        fixture.after(29, &[TWO]);
        assert_eq!(fixture.traffic(ONE), Some(Traffic::Kept));
        fixture.after(1, &[TWO]);
        assert_eq!((fixture.traffic(ONE), fixture.traffic(TWO)), (None, Some(Traffic::New)));
    }

    #[test]
    fn a_deregistered_target_that_fails_gets_no_more_connections() {
        let mut fixture = Fixture::with_two_healthy();
        fixture.after(0, &[TWO]);
        fixture.fails(3, &[ONE]);
        assert_eq!(fixture.traffic(ONE), Some(Traffic::Kept));
    }

    #[test]
    fn an_endpoint_that_returns_in_time_stays_a_target_and_later_is_a_new_one() {
        let mut fixture = Fixture::with_two_healthy();
        fixture.after(0, &[TWO]);
        fixture.after(59, &[ONE, TWO]);
        assert_eq!((fixture.state(ONE).0, fixture.traffic(ONE)), (State::Healthy, Some(Traffic::New)));
        fixture.after(0, &[TWO]);
        fixture.after(60, &[ONE, TWO]);
        assert_eq!((fixture.state(ONE).0, fixture.traffic(ONE)), (State::Initial, Some(Traffic::Kept)));
    }
}
