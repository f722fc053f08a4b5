//! The rolling update of a Deployment, as Kubernetes' controller does it.

use crate::balancer::Balancer;
use crate::manifests::Manifests;
use crate::pod::Pod;
use dob_support::{eventually, free_port};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often the controller looks.
const TICK: Duration = Duration::from_millis(20);
/// What a slow machine may take besides.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pods of some versions, of which one is wanted.
pub struct Deployment {
    pub manifests: Manifests,
    versions: Vec<BTreeMap<String, String>>,
    balancer: Arc<Balancer>,
    /// What all pods have logged.
    log: PathBuf,
    pods: Vec<Arc<Pod>>,
    port: u16,
    made: u8,
}

/// A rollout made no progress for as long as it may: `kubectl rollout status` fails.
#[derive(Debug, thiserror::Error)]
#[error("no pod got ready in time; the last line of the pods' log: {last_log_line}")]
pub struct DeadlineExceeded {
    last_log_line: String,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Step {
    /// Pods of the wanted version to start.
    start: usize,
    /// Old pods to end.
    end: usize,
}

/// How many pods there are, those that are ending left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Count {
    new: usize,
    new_ready: usize,
    old: usize,
    old_ready: usize,
}

impl Deployment {
    /// No pods yet. `versions` are the variables that each version's pods are started with.
    pub fn new(
        manifests: Manifests,
        versions: Vec<BTreeMap<String, String>>,
        balancer: Arc<Balancer>,
        log: PathBuf,
    ) -> Self {
        Self { manifests, versions, balancer, log, pods: Vec::new(), port: free_port().expect("a port"), made: 0 }
    }

    /// Replaces all pods by such of this version, and returns when they are ready.
    pub async fn roll_out(&mut self, version: usize) -> Result<(), DeadlineExceeded> {
        let (mut last, mut progress) = (Count::default(), Instant::now());
        loop {
            let count = self.count(version);
            if count != last {
                (last, progress) = (count, Instant::now());
            }
            if count.new_ready == self.manifests.replicas && count.old == 0 {
                return Ok(());
            }
            if progress.elapsed() > self.manifests.progress_deadline {
                let log = fs::read_to_string(&self.log).expect("the pods' log");
                return Err(DeadlineExceeded { last_log_line: log.lines().last().unwrap_or_default().to_owned() });
            }
            self.take(Step::next(count, &self.manifests), version);
            sleep(TICK).await;
        }
    }

    /// Waits until the pods that were told to end are gone.
    pub async fn settle(&self) {
        // Those that the balancer has to hear of take longest.
        let deadline = 2 * (self.manifests.grace_period + self.manifests.deregistration_delay) + PATIENCE;
        let gone = eventually("the pods that were told to end are gone", deadline, async || {
            let left = self.pods.iter().filter(|pod| pod.is_terminating() && !pod.has_ended()).count();
            anyhow::ensure!(left == 0, "{left} are left");
            Ok(())
        });
        gone.await.expect("in time");
    }

    fn count(&self, version: usize) -> Count {
        let mut count = Count::default();
        for pod in self.pods.iter().filter(|pod| !pod.is_terminating()) {
            let ready = usize::from(pod.is_ready(&self.manifests, &self.balancer));
            if pod.version == version {
                (count.new, count.new_ready) = (count.new + 1, count.new_ready + ready);
            } else {
                (count.old, count.old_ready) = (count.old + 1, count.old_ready + ready);
            }
        }
        count
    }

    fn take(&mut self, step: Step, version: usize) {
        for _ in 0..step.start {
            self.made += 1;
            let address = SocketAddr::new(Ipv4Addr::new(127, 0, 1, self.made).into(), self.port);
            let variables = self.versions[version].clone();
            let log = File::options().create(true).append(true).open(&self.log).expect("the pods' log");
            self.pods.push(Pod::start(version, address, variables, log, &self.manifests, &self.balancer));
        }
        let is_old = |pod: &&Arc<Pod>| pod.version != version && !pod.is_terminating();
        let mut old: Vec<_> = self.pods.iter().filter(is_old).collect();
        // Those that serve nobody go first.
        old.sort_by_key(|pod| pod.is_ready(&self.manifests, &self.balancer));
        for pod in old.into_iter().take(step.end) {
            pod.terminate(&self.manifests, &self.balancer);
        }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.pods.iter().for_each(|pod| pod.kill());
    }
}

impl Step {
    /// Never more pods than replicas and surge, never fewer ready ones than replicas less those that may be missing.
    fn next(count: Count, manifests: &Manifests) -> Self {
        let total = count.new + count.old;
        let most = manifests.replicas + manifests.max_surge;
        let start = most.saturating_sub(total).min(manifests.replicas.saturating_sub(count.new));
        let least = manifests.replicas - manifests.max_unavailable;
        // A new pod that is not ready yet counts as one that is missing.
        let may_end = total.saturating_sub(least + count.new - count.new_ready);
        let unready = (count.old - count.old_ready).min(may_end);
        let spare = (count.new_ready + count.old_ready).saturating_sub(least).min(count.old_ready);
        Self { start, end: unready + spare.min(may_end - unready) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(new: usize, new_ready: usize, old: usize, old_ready: usize) -> (usize, usize) {
        let manifests = Manifests { replicas: 3, max_surge: 1, max_unavailable: 0, ..Manifests::of("primary") };
        let step = Step::next(Count { new, new_ready, old, old_ready }, &manifests);
        (step.start, step.end)
    }

    #[test]
    fn no_old_pod_ends_before_its_successor_is_ready() {
        for (count, step) in [
            ((0, 0, 0, 0), (3, 0)),
            ((0, 0, 3, 3), (1, 0)),
            ((1, 0, 3, 3), (0, 0)),
            ((1, 1, 3, 3), (0, 1)),
            ((1, 1, 2, 2), (1, 0)),
            ((3, 3, 1, 1), (0, 1)),
            // The way back from a version that never got ready.
            ((3, 3, 1, 0), (0, 1)),
        ] {
            assert_eq!(next(count.0, count.1, count.2, count.3), step, "{count:?}");
        }
    }
}
