//! The data plane: a load balancer with one target group, independent of Kubernetes.

use crate::haproxy::Haproxy;
use crate::health::Checker;
use crate::report::ReportOnce;
use crate::settings::Settings;
use crate::targets::{Answer, Target, TargetGroup};
use anyhow::Result;
use dob_support::Process;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The longest pause between two updates, and the pause before a command that haproxy refused is repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// A running load balancer. Dropping it ends it and every connection.
pub(crate) struct DataPlane {
    endpoints: watch::Sender<BTreeSet<SocketAddr>>,
    targets: watch::Receiver<Vec<Target>>,
    work: JoinHandle<()>,
    _haproxy: Process,
}

/// The background task.
struct Work {
    group: TargetGroup,
    haproxy: Haproxy,
    checker: Checker,
    checks: JoinSet<(SocketAddr, Answer)>,
    endpoints: watch::Receiver<BTreeSet<SocketAddr>>,
    targets: watch::Sender<Vec<Target>>,
    report: ReportOnce,
}

impl DataPlane {
    /// Starts without targets.
    pub async fn start(directory: &Path, listen: SocketAddr, settings: Settings) -> Result<Self> {
        let (process, haproxy) = Haproxy::start(directory, listen).await?;
        let (endpoints, wanted) = watch::channel(BTreeSet::new());
        let (shown, targets) = watch::channel(Vec::new());
        let work = Work {
            checker: Checker::new(&settings.health_check)?,
            group: TargetGroup::new(settings),
            haproxy,
            checks: JoinSet::new(),
            endpoints: wanted,
            targets: shown,
            report: ReportOnce::default(),
        };
        Ok(Self { endpoints, targets, work: tokio::spawn(work.run()), _haproxy: process })
    }

    /// Receives the complete set of addresses to register.
    pub fn endpoints(&self) -> watch::Sender<BTreeSet<SocketAddr>> {
        self.endpoints.clone()
    }

    /// Publishes all targets whenever one changes.
    pub fn targets(&self) -> watch::Receiver<Vec<Target>> {
        self.targets.clone()
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Work {
    async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.group.update(&self.endpoints.borrow_and_update().clone(), now);
            let applied = self.haproxy.apply(&self.group.traffic(now)).await;
            let failed = self.report.about("does not move connections", applied);
            let again = failed.then_some(now + PAUSE);
            for target in self.group.due(now) {
                let checker = self.checker.clone();
                self.checks.spawn(async move { (target, checker.ask(target).await) });
            }
            publish(&self.targets, self.group.targets());
            let next = self.group.next_change(now).into_iter().chain(again).min().unwrap_or(now + PAUSE);
            tokio::select! {
                changed = self.endpoints.changed() => if changed.is_err() { break },
                Some(Ok((target, answer))) = self.checks.join_next() => {
                    self.group.checked(target, answer, Instant::now());
                }
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }
}

/// Notifies the watchers of a value only if it has changed.
pub(crate) fn publish<T: PartialEq>(sender: &watch::Sender<T>, new: T) {
    sender.send_if_modified(|old| {
        let differs = *old != new;
        *old = new;
        differs
    });
}
