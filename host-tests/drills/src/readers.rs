//! Clients that only greet. Their rate shows how much of the service is left during a failover. The other clients can't show this, because
//! they wait for their saves.

use anyhow::{Result, ensure};
use dob_clients::history::{Operation, user};
use dob_clients::load::{LoadGenerator, LoadProfile, Route, Workload};
use dob_clients::statistics::percentile;
use dob_spin::Build;
use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

/// The build for WASI 0.3 keeps at least this share of its greetings.
const SHARE: f64 = 0.8;
/// It answers 99 % of them within this time.
const P99: Duration = Duration::from_millis(300);
/// Both count from so long after the fault, when the first requests have noticed it.
const NOTICED_AFTER: Duration = Duration::from_secs(1);
/// The rate before the fault counts from here, when all clients have connected.
const CONNECTED_AFTER: Duration = Duration::from_millis(500);

/// The number of clients. Few, because at the fault all of a drill's clients log in again, on processors that they share with the lab's nodes.
const CLIENTS: usize = 4;

/// Running clients. Dropping it ends them.
pub(crate) struct Readers(LoadGenerator);

/// The greetings during a failover, compared with those before it.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    /// The rate of successful greetings as a share of the rate before.
    share: f64,
    /// The 99th percentile of the latency, failed greetings included.
    p99: Duration,
}

impl Readers {
    /// Starts clients that greet a user whom a client of `traffic` has saved.
    pub fn start(traffic: &LoadProfile, route: &Route) -> Self {
        let path = format!("/hello/{}", user(traffic.first, 0));
        Self(LoadGenerator::start(
            &LoadProfile { clients: CLIENTS, workload: Workload::Get { path }, ..traffic.clone() },
            route,
        ))
    }

    /// Waits for this time under load.
    pub async fn run_for(&self, time: Duration) {
        self.0.run_for(time).await;
    }

    /// Ends the clients, and compares the time from `fault` until now with the time before.
    pub async fn stop(self, fault: Instant) -> Kept {
        let (fault, end) = (fault - self.0.started, self.0.started.elapsed());
        Kept::of(&self.0.stop().await, fault, end)
    }
}

impl Kept {
    fn of(history: &[Operation], fault: Duration, end: Duration) -> Self {
        let noticed = fault + NOTICED_AFTER;
        let rate = |from: Duration, until: Duration| {
            let succeeded = |one: &&Operation| one.error.is_none() && (from..until).contains(&one.ended);
            history.iter().filter(succeeded).count() as f64 / until.saturating_sub(from).as_secs_f64()
        };
        let during = history.iter().filter(|one| (noticed..end).contains(&one.started));
        let mut latencies: Vec<f64> = during.map(|one| (one.ended - one.started).as_secs_f64()).collect();
        latencies.sort_by(f64::total_cmp);
        let share = rate(noticed, end) / rate(CONNECTED_AFTER, fault);
        Self { share, p99: Duration::from_secs_f64(percentile(&latencies, 0.99)) }
    }

    /// Fails if the build for WASI 0.3 kept less than it promises. The one for WASI 0.2 promises nothing here.
    pub fn check(&self, build: Build) -> Result<()> {
        let kept = self.share >= SHARE && self.p99 <= P99;
        ensure!(build == Build::Wasi02 || kept, "{self}, but the promise is {SHARE} of the rate, and {P99:?}");
        Ok(())
    }
}

impl Display for Kept {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let (share, p99) = (self.share * 100.0, self.p99.as_millis());
        write!(formatter, "greetings kept {share:.0} % of their rate, 99 % of them within {p99} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dob_clients::history::Action;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn greetings(every: u64, from: u64, until: u64, took: u64) -> impl Iterator<Item = Operation> {
        let action = Action::Get { path: String::new() };
        let one = move |at| Operation {
            client: 0,
            started: ms(at),
            ended: ms(at + took),
            action: action.clone(),
            error: None,
        };
        (from..until).step_by(every as usize).map(one)
    }

    #[test]
    fn the_rate_after_the_first_second_is_compared_with_the_rate_before() {
        let history: Vec<_> = greetings(10, 500, 5000, 1).chain(greetings(20, 6000, 10000, 100)).collect();
        let kept = Kept::of(&history, ms(5000), ms(10000));
        assert!((kept.share - 0.49).abs() < 0.02 && kept.p99 == ms(100), "{kept:?}");
        assert!(kept.check(Build::Wasi03).is_err() && kept.check(Build::Wasi02).is_ok());
        assert!(Kept { share: 0.8, p99: ms(300) }.check(Build::Wasi03).is_ok());
        assert!(Kept { share: 1.0, p99: ms(301) }.check(Build::Wasi03).is_err());
    }

    #[test]
    fn a_failed_greeting_counts_as_none() {
        let mut history: Vec<_> = greetings(10, 500, 10000, 1).collect();
        for greeting in history.iter_mut().filter(|greeting| greeting.started >= ms(8000)) {
            greeting.error = Some("503".to_owned());
        }
        let kept = Kept::of(&history, ms(5000), ms(10000));
        assert!((kept.share - 0.5).abs() < 0.02, "{kept:?}");
    }
}
