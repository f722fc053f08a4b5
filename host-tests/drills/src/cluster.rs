//! The environment of the cluster's drills: SpinKube with the component rolled out, and clients that come through the load balancer.

use crate::current_drill::CurrentDrill;
use crate::outcome::Outcome;
use crate::traffic::{Probe, Traffic, today};
use anyhow::{Context, Result, bail, ensure};
use dob_clients::history::{Findings, stored, stored_query};
use dob_clients::load::{LoadGenerator, LoadProfile, Route, Workload};
use dob_cluster::{
    Access, Checkout, Cluster, Database, Fault, LOAD_BALANCER, NAMESPACE, Node, Parts, Plan, TRUST_STORE, image, shim,
};
use dob_lab::{BaseImage, CENTRAL, Lab, WEST};
use dob_load_balancer::State;
use dob_support::eventually;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard, watch};

/// How long the clients run before the fault, and after recovery.
const AROUND: Duration = Duration::from_secs(5);
/// Clients give up sooner here than in drills of the database: no request has a reason to take long.
const GIVES_UP_AFTER: Duration = Duration::from_secs(10);
/// How long it may take to roll out a Deployment or to drain a node, at full size.
pub(crate) const ROLLED_OUT_WITHIN: Duration = Duration::from_secs(1800);
/// How long pods may take to become ready, in addition to the delays of the load balancer.
const PATIENCE: Duration = Duration::from_secs(180);
/// The SpinApp of the serving pods, and its Deployment.
pub(crate) const API: &str = "dob-api";
/// How many pods serve in normal operation.
pub(crate) const PODS: usize = 3;
/// How long the autoscaler may take: it waits five minutes before it removes a pod.
const AUTOSCALED_WITHIN: Duration = Duration::from_secs(600);
/// The number of clients without pauses that keep this machine busy.
const HEAVY: usize = 32;
/// The name of a pod in a namespace without network policies.
const FOREIGN_POD: &str = "foreign";

/// The database that the component creates.
const DATABASE: &str = "dob_api";
/// The name in `drain.yaml` of the seconds that a terminating pod still serves.
const PRE_STOP: &str = "pre_stop_seconds";

/// By which factor pods and targets start and stop faster than on AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(pub u32);

impl Pace {
    /// Full size: every waiting time as on AWS.
    pub const FULL: Self = Self(1);
    /// The pace of a run on every change.
    pub const EACH_CHANGE: Self = Self(15);
}

/// The database behind the pods.
pub(crate) enum Backend {
    /// The cluster's own PostgreSQL.
    Single(Mutex<Box<Database>>),
    /// The database nodes of the lab.
    Lab(Lab),
}

/// The cluster, with the component on it.
pub(crate) struct ClusterEnvironment {
    pub current: CurrentDrill,
    pub cluster: Arc<Cluster>,
    backend: Backend,
    parts: Parts,
    checkout: Mutex<Checkout>,
    pub pace: Pace,
    /// The seconds that a terminating pod still serves.
    pre_stop: u32,
    /// The original values of the pods' secrets.
    variables: BTreeMap<String, String>,
    access: Mutex<Access>,
    /// The address to which clients connect.
    route: Route,
    /// The number of the newest version.
    version: Mutex<usize>,
}

impl ClusterEnvironment {
    /// Starts a cluster with its own database.
    pub async fn alone(pace: Pace, has_addons: bool) -> Result<Self> {
        Self::make(pace, has_addons, Backend::Single(Mutex::new(Box::new(Database::start().await?)))).await
    }

    /// Starts a cluster with the lab's two regions as its database.
    pub async fn on_lab(pace: Pace) -> Result<Self> {
        let plan = dob_lab::Plan::render()?;
        let image = BaseImage::prepare(&plan)?;
        let lab = Lab::make(plan, &image)?;
        for region in [WEST, CENTRAL] {
            lab.region(region).power_on().await?;
        }
        lab.region(WEST).until_leading().await?;
        lab.region(CENTRAL).until_following().await?;
        Self::make(pace, false, Backend::Lab(lab)).await
    }

    async fn make(pace: Pace, has_addons: bool, backend: Backend) -> Result<Self> {
        let parts = Parts::prepare(has_addons)?;
        let plan = Plan { faster_by: pace.0, has_addons, shim: shim()? };
        let cluster = Arc::new(Cluster::start(&parts, &plan).await?);
        let access = backend.access(&cluster).await?;
        let checkout = Checkout::make(&cluster, &parts)?;
        checkout.prepare(&cluster, &access)?;
        checkout.hasten(pace.0)?;
        let pre_stop = checkout.change(PRE_STOP, |seconds| seconds)?;
        let (route, _) = watch::channel(LOAD_BALANCER);
        Ok(Self {
            current: CurrentDrill::default(),
            cluster,
            backend,
            parts,
            checkout: Mutex::new(checkout),
            pace,
            pre_stop,
            variables: access.variables.clone(),
            access: Mutex::new(access),
            route,
            version: Mutex::default(),
        })
    }

    /// Rolls out the first version unless that is done, and waits until all pods serve.
    pub async fn ready(&self) -> Result<()> {
        if *self.version.lock().await == 0 {
            self.roll_out_next().await?;
        }
        self.until_healthy().await
    }

    /// Rolls out the next version, and returns when the last old pod is gone.
    pub async fn roll_out_next(&self) -> Result<()> {
        let digest = self.push(None).await?;
        self.roll_out(&digest).await.map(drop)
    }

    /// Pushes the next version. Returns its digest.
    pub async fn push(&self, fault: Option<Fault>) -> Result<String> {
        let mut version = self.version.lock().await;
        *version += 1;
        self.cluster.registry.push_component(&format!("v{version}"), fault)
    }

    /// Rolls out a digest, and returns the previous one when the last old pod is gone.
    pub async fn roll_out(&self, digest: &str) -> Result<String> {
        let mut checkout = self.checkout.lock().await;
        let before = checkout.set_digest(digest)?;
        checkout.roll_out().await?;
        self.until_healthy().await?;
        Ok(before)
    }

    /// Repeats the last rollout.
    pub async fn roll_out_again(&self) -> Result<()> {
        self.checkout.lock().await.roll_out().await?;
        self.until_healthy().await
    }

    /// Rolls out a digest, at which `scripts/rollout` must fail. Returns its output. The checkout has the previous digest again.
    pub async fn refused_rollout(&self, digest: &str) -> Result<String> {
        let mut checkout = self.checkout.lock().await;
        let before = checkout.set_digest(digest)?;
        let said = checkout.refused_rollout().await?;
        checkout.set_digest(&before)?;
        Ok(said)
    }

    /// Changes a value of the pods' secrets where the cluster copies them from. Returns the previous one.
    pub async fn change_secret(&self, name: &str, value: &str) -> Result<String> {
        let mut access = self.access.lock().await;
        let before = access.variables.insert(name.to_owned(), value.to_owned());
        access.put_secrets(&self.cluster)?;
        before.with_context(|| format!("no secret has {name}"))
    }

    /// Copies the secrets into the cluster, and replaces the pods. If there is an old role, no pod uses it afterwards.
    pub async fn roll_pods(&self, old_role: Option<&str>) -> Result<()> {
        self.checkout.lock().await.roll_pods(&self.cluster, old_role).await?;
        self.until_healthy().await
    }

    /// Makes all pods trust these authorities, as PEM, by way of Secrets Manager and `scripts/roll-pods`.
    pub async fn trust(&self, authorities: String) -> Result<()> {
        {
            let mut access = self.access.lock().await;
            access.authority = authorities;
            access.put_secrets(&self.cluster)?;
        }
        self.roll_pods(None).await
    }

    /// Deletes one of these pods, and returns when another one is created.
    pub async fn delete_one(&self, pods: &BTreeMap<String, i32>) -> Result<()> {
        let (pod, _) = pods.first_key_value().context("there is no pod to delete")?;
        self.kubectl(&["delete", "pod", pod, "--wait=false"])?;
        self.until_new_pod(pods).await
    }

    /// Deletes the pods' trust store, and what tells External Secrets to copy it. `take_back` restores both.
    pub fn delete_trust_store(&self) -> Result<()> {
        self.kubectl(&["delete", "externalsecret,secret", TRUST_STORE, "--ignore-not-found"]).map(drop)
    }

    /// Waits until the cluster has copied what `change_secret` changed.
    pub async fn until_secrets_copied(&self) -> Result<()> {
        self.access.lock().await.until_copied(&self.cluster).await
    }

    /// Undoes every `change_secret`.
    async fn restore_secrets(&self) -> Result<()> {
        let mut access = self.access.lock().await;
        access.variables.clone_from(&self.variables);
        if let Backend::Single(database) = &self.backend {
            access.authority = database.lock().await.access().authority;
        }
        access.put_secrets(&self.cluster)?;
        access.until_copied(&self.cluster).await
    }

    /// Replaces the serving pods with `kubectl rollout restart` or `undo`, and waits until they are replaced.
    pub fn replace_pods(&self, step: &str) -> Result<()> {
        let deployment = format!("deployment/{API}");
        self.kubectl(&["rollout", step, &deployment])?;
        let status = ["--namespace", NAMESPACE, "rollout", "status", &deployment];
        self.cluster.kubectl_within(ROLLED_OUT_WITHIN, &status).map(drop)
    }

    /// Runs kubectl in the API's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", NAMESPACE], arguments].concat())
    }

    /// A time of `drain.yaml`, at this environment's pace.
    pub async fn drain_time(&self, name: &str) -> Result<Duration> {
        let seconds = self.checkout.lock().await.change(name, |seconds| seconds)?;
        Ok(Duration::from_secs(seconds.into()))
    }

    /// Sets for how many seconds terminating pods of the next versions still serve.
    pub async fn set_pre_stop(&self, seconds: u32) -> Result<()> {
        self.checkout.lock().await.change(PRE_STOP, |_| seconds).map(drop)
    }

    /// Raises this time by a second.
    pub async fn raise_pre_stop(&self) -> Result<()> {
        self.set_pre_stop(self.pre_stop + 1).await
    }

    /// Undoes `set_pre_stop`.
    pub async fn restore_pre_stop(&self) -> Result<()> {
        self.set_pre_stop(self.pre_stop).await
    }

    /// Reverts manual changes.
    pub async fn take_back(&self) -> Result<()> {
        self.checkout.lock().await.take_back(&self.cluster)
    }

    /// Starts clients, and waits for a while.
    pub async fn traffic(&self) -> Traffic {
        let profile = LoadProfile {
            gives_up_after: GIVES_UP_AFTER,
            // The load balancer cuts the connections of a drained target after this delay, and a request on them must have ended by then.
            keeps_connection: Some(self.cluster.target_group.deregistration_delay.mul_f64(2.0 / 3.0)),
            ..Traffic::profile(self.current.next_load(), today())
        };
        let traffic = Traffic::start(&profile, &self.route, probe(self.cluster.clone()));
        self.current.follow(&traffic);
        traffic.run_for(AROUND).await;
        traffic
    }

    /// Waits for a while, ends the clients, keeps the timeline, and checks their history against the database.
    pub async fn judge(&self, traffic: Traffic) -> Result<Outcome> {
        traffic.run_for(AROUND).await;
        let timeline = self.current.keep(traffic.stop().await);
        let rows = self.backend.rows(&stored_query()).await?;
        let stored = stored(rows.iter().map(String::as_str))?;
        Ok(Outcome { figures: Some(Findings::of(&timeline.operations, &stored)), note: String::new() })
    }

    /// The lab behind the cluster.
    pub fn lab(&self) -> Result<&Lab> {
        match &self.backend {
            Backend::Lab(lab) => Ok(lab),
            Backend::Single(_) => bail!("this cluster has a database of its own"),
        }
    }

    /// The cluster's own database.
    pub async fn database(&self) -> Result<MutexGuard<'_, Box<Database>>> {
        match &self.backend {
            Backend::Single(database) => Ok(database.lock().await),
            Backend::Lab(_) => bail!("this cluster has the lab's databases"),
        }
    }

    /// A serving pod, and its node.
    pub fn any_serving_pod(&self) -> Result<(IpAddr, &Node)> {
        let pod = serving(&self.cluster).into_iter().next().context("no pod serves")?;
        Ok((pod, self.node_of(pod)?))
    }

    /// All serving pods, with their nodes.
    pub fn serving_pods(&self) -> Result<Vec<(IpAddr, &Node)>> {
        serving(&self.cluster).into_iter().map(|pod| Ok((pod, self.node_of(pod)?))).collect()
    }

    fn node_of(&self, pod: IpAddr) -> Result<&Node> {
        let mut nodes = self.cluster.nodes.values();
        nodes.find(|node| node.has_pod(pod)).with_context(|| format!("no node has the pod {pod}"))
    }

    /// Waits until none of these pods gets new connections. Returns how long that took.
    pub async fn until_out_of_service(&self, is_one: impl Fn(IpAddr) -> bool) -> Result<Duration> {
        let started = Instant::now();
        eventually("the load balancer sends the pods no new connections", PATIENCE, async || {
            let serving = serving(&self.cluster);
            ensure!(!serving.iter().any(|pod| is_one(*pod)), "it still sends some to {serving:?}");
            Ok(())
        })
        .await?;
        Ok(started.elapsed())
    }

    /// Waits until all pods serve, and no other pod is left. Fails if an add-on has ended.
    pub async fn until_healthy(&self) -> Result<()> {
        self.cluster.ensure_addons_run()?;
        self.cluster.until_pods(PODS, PATIENCE + self.cluster.target_group.deregistration_lag).await?;
        eventually("exactly these pods are targets of the load balancer, all healthy", PATIENCE, async || {
            let targets = self.cluster.load_balancer.targets();
            let healthy = targets.iter().filter(|target| target.state == State::Healthy).count();
            ensure!(healthy == PODS && targets.len() == PODS, "it has {targets:?}");
            Ok(())
        })
        .await
    }

    /// Waits until there is a pod that is not one of these.
    pub async fn until_new_pod(&self, before: &BTreeMap<String, i32>) -> Result<()> {
        eventually("a new pod is created", PATIENCE, async || {
            let pods = self.cluster.restarts().await?;
            ensure!(pods.keys().any(|pod| !before.contains_key(pod)), "there are {pods:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a pod serves in every zone. Returns how long that took.
    pub async fn until_in_every_zone(&self) -> Result<Duration> {
        let started = Instant::now();
        eventually("a pod serves in every zone", PATIENCE, async || {
            let serving = serving(&self.cluster);
            for node in self.cluster.nodes.values() {
                ensure!(serving.iter().any(|pod| node.has_pod(*pod)), "none serves in {}: {serving:?}", node.zone);
            }
            Ok(())
        })
        .await?;
        self.until_healthy().await?;
        Ok(started.elapsed())
    }

    /// Waits until no orphaned Spin runs.
    pub async fn until_no_orphans(&self) -> Result<()> {
        eventually("no orphaned Spin runs", PATIENCE, async || {
            for node in self.cluster.nodes.values() {
                let orphans = node.orphans()?;
                ensure!(orphans == 0, "{} has {orphans}", node.name);
            }
            Ok(())
        })
        .await
    }

    /// Waits until the autoscaler has scaled to this many serving pods. Meanwhile there must never be fewer than normally.
    pub async fn until_serving(&self, wanted: usize) -> Result<()> {
        let mut least = PODS;
        eventually(&format!("{wanted} pods serve"), AUTOSCALED_WITHIN, async || {
            let count = serving(&self.cluster).len();
            least = least.min(count);
            ensure!(count == wanted, "{count} do");
            Ok(())
        })
        .await?;
        ensure!(least == PODS, "only {least} pods served");
        Ok(())
    }

    /// Starts more clients than three pods can serve, in addition to those whose history counts.
    pub fn heavy_load(&self) -> LoadGenerator {
        let profile = LoadProfile {
            clients: HEAVY,
            pace: Duration::ZERO,
            workload: Workload::Get { path: "/healthz".to_owned() },
            ..Traffic::profile(self.current.next_load(), today())
        };
        LoadGenerator::start(&profile, &self.route)
    }

    /// Starts collectors and a Prometheus, and waits until they are ready.
    pub async fn start_monitoring(&self) -> Result<()> {
        self.cluster.start_monitoring(&self.parts, &*self.access.lock().await)?;
        self.cluster.until_monitored()
    }

    /// Removes what `start_monitoring` has started.
    pub fn stop_monitoring(&self) -> Result<()> {
        self.cluster.stop_monitoring()
    }

    /// Starts a pod in another namespace. Returns its address and its node.
    pub async fn start_foreign_pod(&self) -> Result<(IpAddr, &Node)> {
        let image = format!("--image={}", image("busybox"));
        self.cluster.kubectl(&["run", FOREIGN_POD, &image])?;
        let pod = format!("pod/{FOREIGN_POD}");
        self.cluster.kubectl(&["wait", &pod, "--for=condition=Ready", "--timeout=2m"])?;
        let address = self.cluster.kubectl(&["get", &pod, "--output=jsonpath={.status.podIP}"])?.parse()?;
        Ok((address, self.node_of(address)?))
    }

    /// Deletes the pod of `start_foreign_pod`.
    pub fn delete_foreign_pod(&self) -> Result<()> {
        self.cluster.kubectl(&["delete", "pod", FOREIGN_POD, "--ignore-not-found", "--now"]).map(drop)
    }

    /// Undoes what a failed drill may have left.
    pub async fn repair(&self) -> Result<()> {
        // It fails if the control plane was not cut off.
        let _ = self.cluster.reconnect_control_plane();
        self.cluster.stop_operator();
        self.cluster.start_operator().await?;
        self.take_back().await?;
        self.restore_secrets().await?;
        for node in self.cluster.nodes.values() {
            node.power_on().await?;
            node.reconnect()?;
            node.until_ready(&self.cluster.client).await?;
            self.cluster.kubectl(&["uncordon", node.name])?;
        }
        if let Backend::Single(database) = &self.backend {
            let server = &mut database.lock().await.server;
            if server.pid().is_none() {
                server.start().await?;
            }
        }
        self.delete_foreign_pod()?;
        self.stop_monitoring()?;
        self.restore_pre_stop().await?;
        self.roll_out_next().await
    }
}

impl Backend {
    /// Prepares the route to the database. Returns what pods need to use it.
    async fn access(&self, cluster: &Cluster) -> Result<Access> {
        match self {
            Self::Single(database) => Ok(database.lock().await.access()),
            Self::Lab(lab) => {
                cluster.lead_to(dob_lab::BRIDGE)?;
                let variables = lab.region(WEST).variables("dob_api_a", "first-password", lab.admin_password())?;
                Ok(Access { variables, authority: lab.authority()? })
            }
        }
    }

    /// The result of a query with one column.
    async fn rows(&self, query: &str) -> Result<Vec<String>> {
        match self {
            Self::Single(database) => {
                let rows = database.lock().await.server.client(DATABASE).await?.query(query, &[]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            }
            Self::Lab(lab) => {
                let rows = lab.region(WEST).until_leading().await?.leader.sql(DATABASE, query).await?;
                Ok(rows.lines().map(str::to_owned).collect())
            }
        }
    }
}

/// Finds the pods that get connections.
fn probe(cluster: Arc<Cluster>) -> Probe {
    let sample = move || {
        let names = serving(&cluster).iter().map(ToString::to_string).collect();
        Box::pin(std::future::ready(names)) as BoxFuture<'static, Vec<String>>
    };
    Probe { lanes: "serves", sample: Box::new(sample) }
}

fn serving(cluster: &Cluster) -> Vec<IpAddr> {
    let targets = cluster.load_balancer.targets().into_iter();
    targets.filter(|target| target.state == State::Healthy).map(|target| target.address.ip()).collect()
}
