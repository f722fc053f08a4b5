//! One pod, with what the kubelet and the balancer's controller do for it.

use crate::balancer::{Balancer, Slot};
use crate::helpers::HostProcess;
use crate::manifests::{Manifests, Probe, seconds};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Seconds from a change of a pod until the balancer acts on it: its controller must see it, and the balancer learn it.
const BALANCER_HEARS_AFTER_S: u32 = 35;

/// A process of the host that lives as a pod does.
pub struct Pod {
    /// Which version it runs.
    pub version: usize,
    address: SocketAddr,
    process: Mutex<Option<HostProcess>>,
    slot: Mutex<Option<Slot>>,
    answers: AtomicBool,
    terminating: AtomicBool,
    ended: AtomicBool,
}

impl Pod {
    /// Starts a pod; its process comes up and is probed in the background.
    pub fn start(
        version: usize,
        address: SocketAddr,
        variables: BTreeMap<String, String>,
        log: File,
        manifests: &Manifests,
        balancer: &Arc<Balancer>,
    ) -> Arc<Self> {
        let pod = Arc::new(Self {
            version,
            address,
            process: Mutex::default(),
            slot: Mutex::default(),
            answers: AtomicBool::default(),
            terminating: AtomicBool::default(),
            ended: AtomicBool::default(),
        });
        let served = pod.clone();
        let start = move || *served.process.lock().unwrap() = Some(HostProcess::start_on(address, variables, log));
        let started = tokio::task::spawn_blocking(start);
        tokio::spawn(pod.clone().live(started, manifests.readiness.clone(), balancer.clone()));
        pod
    }

    /// Whether it counts as ready.
    pub fn is_ready(&self, manifests: &Manifests, balancer: &Balancer) -> bool {
        let healthy = || self.slot.lock().unwrap().is_some_and(|slot| balancer.is_healthy(slot));
        self.answers.load(Ordering::SeqCst) && (!manifests.readiness_gate || healthy())
    }

    /// Whether it was told to end.
    pub fn is_terminating(&self) -> bool {
        self.terminating.load(Ordering::SeqCst)
    }

    /// Whether its process is gone, and the balancer has forgotten it.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    async fn live(self: Arc<Self>, started: JoinHandle<()>, probe: Probe, balancer: Arc<Balancer>) {
        started.await.expect("the process starts");
        sleep(probe.initial_delay).await;
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(probe.timeout);
        let client = client.build().expect("a client");
        let (mut good, mut bad) = (0, 0);
        while !self.is_terminating() {
            let answer = client.get(format!("http://{}{}", self.address, probe.path)).send().await;
            (good, bad) = if answer.is_ok_and(|answer| answer.status() == 200) { (good + 1, 0) } else { (0, bad + 1) };
            if good == probe.successes {
                self.answers.store(true, Ordering::SeqCst);
                self.register(&balancer).await;
            }
            if bad == probe.failures {
                self.answers.store(false, Ordering::SeqCst);
            }
            sleep(probe.period).await;
        }
    }

    /// The controller registers a pod whose container answers, once.
    async fn register(&self, balancer: &Balancer) {
        sleep(seconds(BALANCER_HEARS_AFTER_S)).await;
        let mut slot = self.slot.lock().unwrap();
        if slot.is_none() && !self.is_terminating() {
            *slot = Some(balancer.register(self.address));
        }
    }

    /// Ends it without ceremony.
    pub fn kill(&self) {
        self.terminating.store(true, Ordering::SeqCst);
        *self.process.lock().unwrap() = None;
    }

    /// Tells the pod to end. The kubelet ends the process while the balancer lets go of it: nobody waits for the other.
    pub fn terminate(self: &Arc<Self>, manifests: &Manifests, balancer: &Arc<Balancer>) {
        self.terminating.store(true, Ordering::SeqCst);
        let (pod, manifests, balancer) = (self.clone(), manifests.clone(), balancer.clone());
        tokio::spawn(async move {
            tokio::join!(pod.leave(&manifests, &balancer), pod.end(&manifests));
            pod.ended.store(true, Ordering::SeqCst);
        });
    }

    async fn leave(&self, manifests: &Manifests, balancer: &Balancer) {
        let Some(slot) = *self.slot.lock().unwrap() else { return };
        sleep(seconds(BALANCER_HEARS_AFTER_S)).await;
        balancer.drain(slot);
        sleep(manifests.deregistration_delay).await;
        balancer.deregister(slot);
    }

    async fn end(&self, manifests: &Manifests) {
        let asked = async {
            sleep(manifests.pre_stop.unwrap_or_default()).await;
            self.signal(Signal::SIGTERM);
            while !self.is_gone() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(manifests.grace_period, asked).await.is_err() {
            self.signal(Signal::SIGKILL);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(host) = &*self.process.lock().unwrap() {
            let _ = kill(Pid::from_raw(host.process.id() as i32), signal);
        }
    }

    fn is_gone(&self) -> bool {
        self.process
            .lock()
            .unwrap()
            .as_mut()
            .is_none_or(|host| host.process.0.try_wait().is_ok_and(|end| end.is_some()))
    }
}
