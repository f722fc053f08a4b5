//! What a drill of the cluster has: SpinKube with the component rolled out, and clients who come through the load balancer.

use crate::current::{CurrentDrill, Outcome};
use crate::traffic::{Probe, Traffic, today};
use anyhow::{Context, Result, bail, ensure};
use dob_clients::history::{Findings, stored, stored_query};
use dob_clients::load::{LoadGenerator, LoadProfile, Route, Workload};
use dob_cluster::{
    Access, Checkout, Cluster, Database, Fault, LOAD_BALANCER, NAMESPACE, Node, Parts, Plan, image, shim,
};
use dob_lab::{BaseImage, CENTRAL, Lab, WEST};
use dob_load_balancer::State;
use dob_support::eventually;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard, watch};

/// How long the clients run before anything happens to them, and once all is well.
const AROUND: Duration = Duration::from_secs(5);
/// A client of a rollout gives up sooner than one of a failover: no call has a reason to take long.
const GIVES_UP_AFTER: Duration = Duration::from_secs(10);
/// How long a Deployment may take to be rolled out, and a node to be drained, at full size.
pub(crate) const ROLLED_OUT_WITHIN: Duration = Duration::from_secs(1800);
/// How long pods may take to be as many as they should be, besides what the figures of the rollout give them.
const PATIENCE: Duration = Duration::from_secs(180);
/// The SpinApp of the pods that serve, and its Deployment.
pub(crate) const API: &str = "dob-api";
/// How many pods serve when all is well.
pub(crate) const PODS: usize = 3;
/// How long the autoscaler may take: it waits five minutes before it takes a pod away.
const AUTOSCALED_WITHIN: Duration = Duration::from_secs(600);
/// Clients that send one call after the other, as many as keep this machine busy.
const HEAVY: usize = 32;
/// A pod of a namespace without network policies.
const FOREIGN_POD: &str = "foreign";

/// The database that the component makes.
const DATABASE: &str = "dob_api";
const PRE_STOP: &str = "pre_stop_seconds";

/// How many times faster than on AWS pods and targets come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(pub u32);

impl Pace {
    /// The full size: every figure as it is on AWS.
    pub const FULL: Self = Self(1);
    /// What a run on every change can bear.
    pub const EACH_CHANGE: Self = Self(15);
}

/// Where the pods' data is.
pub(crate) enum Backend {
    /// A PostgreSQL of the cluster's own.
    Single(Mutex<Box<Database>>),
    /// The database nodes of the lab's two regions.
    Lab(Lab),
}

/// The cluster with a service on it.
pub(crate) struct ClusterEnvironment {
    pub current: CurrentDrill,
    pub cluster: Arc<Cluster>,
    backend: Backend,
    checkout: Mutex<Checkout>,
    pub pace: Pace,
    /// The seconds that a pod serves after it was told to end.
    pre_stop: u32,
    /// What the pods' secrets hold when all is well, and now.
    variables: BTreeMap<String, String>,
    access: Mutex<Access>,
    /// Where clients go.
    route: Route,
    /// The version that was rolled out last.
    version: Mutex<usize>,
}

impl ClusterEnvironment {
    /// Starts a cluster before a database of its own.
    pub async fn alone(pace: Pace, has_addons: bool) -> Result<Self> {
        Self::make(pace, has_addons, Backend::Single(Mutex::new(Box::new(Database::start().await?)))).await
    }

    /// Starts a cluster before the lab's two regions.
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
            checkout: Mutex::new(checkout),
            pace,
            pre_stop,
            variables: access.variables.clone(),
            access: Mutex::new(access),
            route,
            version: Mutex::default(),
        })
    }

    /// Rolls the first version out, unless that has been done, and waits until as many pods serve as should.
    pub async fn ready(&self) -> Result<()> {
        if *self.version.lock().await == 0 {
            self.roll_out_next().await?;
        }
        self.until_healthy().await
    }

    /// Rolls the next version out, and returns when the last old pod is gone.
    pub async fn roll_out_next(&self) -> Result<()> {
        let digest = self.push(None).await?;
        self.roll_out(&digest).await.map(drop)
    }

    /// Pushes the next version, and gives its digest.
    pub async fn push(&self, fault: Option<Fault>) -> Result<String> {
        let mut version = self.version.lock().await;
        *version += 1;
        self.cluster.registry.push_component(&format!("v{version}"), fault)
    }

    /// Rolls a digest out, and returns when the last old pod is gone; gives the digest before.
    pub async fn roll_out(&self, digest: &str) -> Result<String> {
        let mut checkout = self.checkout.lock().await;
        let before = checkout.set_digest(digest)?;
        checkout.roll_out().await?;
        self.until_healthy().await?;
        Ok(before)
    }

    /// Rolls out what was rolled out last once more.
    pub async fn roll_out_again(&self) -> Result<()> {
        self.checkout.lock().await.roll_out().await?;
        self.until_healthy().await
    }

    /// Rolls out a digest that must be put back; gives what `scripts/rollout` says.
    pub async fn refused_rollout(&self, digest: &str) -> Result<String> {
        let mut checkout = self.checkout.lock().await;
        let before = checkout.set_digest(digest)?;
        let said = checkout.refused_rollout().await?;
        checkout.set_digest(&before)?;
        Ok(said)
    }

    /// Changes a value of the pods' secrets, which they read when they start; gives the one before.
    pub async fn change_secret(&self, name: &str, value: &str) -> Result<String> {
        let mut access = self.access.lock().await;
        let before = access.variables.insert(name.to_owned(), value.to_owned());
        access.put_secrets(&self.cluster)?;
        before.with_context(|| format!("no secret has {name}"))
    }

    /// Ends `change_secret`, of all.
    async fn restore_secrets(&self) -> Result<()> {
        let mut access = self.access.lock().await;
        access.variables.clone_from(&self.variables);
        access.put_secrets(&self.cluster)
    }

    /// Makes new pods of a Deployment, as `kubectl rollout restart` does, and waits until it is rolled out.
    pub fn restart_pods(&self, deployment: &str) -> Result<()> {
        let deployment = format!("deployment/{deployment}");
        self.kubectl(&["rollout", "restart", &deployment])?;
        let status = ["--namespace", NAMESPACE, "rollout", "status", &deployment];
        self.cluster.kubectl_within(ROLLED_OUT_WITHIN, &status).map(drop)
    }

    /// Runs kubectl in the API's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", NAMESPACE], arguments].concat())
    }

    /// Lets the next versions' pods serve for so many seconds after they were told to end.
    pub async fn set_pre_stop(&self, seconds: u32) -> Result<()> {
        self.checkout.lock().await.change(PRE_STOP, |_| seconds).map(drop)
    }

    /// The same for a second more than now.
    pub async fn raise_pre_stop(&self) -> Result<()> {
        self.set_pre_stop(self.pre_stop + 1).await
    }

    /// Ends `set_pre_stop`.
    pub async fn restore_pre_stop(&self) -> Result<()> {
        self.set_pre_stop(self.pre_stop).await
    }

    /// Takes back what was changed by hand.
    pub async fn take_back(&self) -> Result<()> {
        self.checkout.lock().await.take_back(&self.cluster)
    }

    /// Starts clients, and lets them run for a while.
    pub async fn traffic(&self) -> Traffic {
        let profile = LoadProfile {
            gives_up_after: GIVES_UP_AFTER,
            // As long as a balancer keeps the connections of a target that is leaving.
            keeps_connection: Some(self.cluster.target_group.deregistration_delay),
            ..Traffic::profile(self.current.next_load(), today())
        };
        let traffic = Traffic::start(&profile, &self.route, probe(self.cluster.clone()));
        traffic.run_for(AROUND).await;
        traffic
    }

    /// Lets the clients run on, ends them, draws the timeline, and judges their record by what the database holds.
    pub async fn judge(&self, traffic: Traffic) -> Result<Outcome> {
        traffic.run_for(AROUND).await;
        let timeline = traffic.stop().await;
        self.current.draw(&timeline)?;
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

    /// The database that is the cluster's own.
    pub async fn database(&self) -> Result<MutexGuard<'_, Box<Database>>> {
        match &self.backend {
            Backend::Single(database) => Ok(database.lock().await),
            Backend::Lab(_) => bail!("this cluster has the lab's databases"),
        }
    }

    /// A pod that serves, and its node.
    pub fn a_pod_that_serves(&self) -> Result<(IpAddr, &Node)> {
        let pod = serving(&self.cluster).into_iter().next().context("no pod serves")?;
        Ok((pod, self.node_of(pod)?))
    }

    /// All pods that serve, with their nodes.
    pub fn pods_that_serve(&self) -> Result<Vec<(IpAddr, &Node)>> {
        serving(&self.cluster).into_iter().map(|pod| Ok((pod, self.node_of(pod)?))).collect()
    }

    fn node_of(&self, pod: IpAddr) -> Result<&Node> {
        let mut nodes = self.cluster.nodes.values();
        nodes.find(|node| node.has_pod(pod)).with_context(|| format!("{pod} is on no node"))
    }

    /// Waits until none of these pods gets connections; gives how long that took.
    pub async fn until_out_of_service(&self, is_one: impl Fn(IpAddr) -> bool) -> Result<Duration> {
        let started = Instant::now();
        eventually("the load balancer sends some pods no connections", PATIENCE, async || {
            let serving = serving(&self.cluster);
            ensure!(!serving.iter().any(|pod| is_one(*pod)), "it sends {serving:?} some");
            Ok(())
        })
        .await?;
        Ok(started.elapsed())
    }

    /// Waits until as many pods serve as should, and no other pod is left.
    pub async fn until_healthy(&self) -> Result<()> {
        self.cluster.until_pods(PODS, PATIENCE + self.cluster.target_group.deregistration_lag).await?;
        eventually(
            "the load balancer has these pods as its targets, all healthy, and no others",
            PATIENCE,
            async || {
                let targets = self.cluster.load_balancer.targets();
                let healthy = targets.iter().filter(|target| target.state == State::Healthy).count();
                ensure!(healthy == PODS && targets.len() == PODS, "it has {targets:?}");
                Ok(())
            },
        )
        .await
    }

    /// Waits until there is a pod that is none of these.
    pub async fn until_new_pod(&self, before: &BTreeMap<String, i32>) -> Result<()> {
        eventually("a new pod is made", PATIENCE, async || {
            let pods = self.cluster.restarts().await?;
            ensure!(pods.keys().any(|pod| !before.contains_key(pod)), "there are {pods:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a pod serves in every zone; gives how long that took.
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

    /// Waits until no Spin runs that nobody ends any more.
    pub async fn until_no_orphans(&self) -> Result<()> {
        eventually("no Spin is left behind", PATIENCE, async || {
            for node in self.cluster.nodes.values() {
                let orphans = node.orphans()?;
                ensure!(orphans == 0, "{} has {orphans}", node.name);
            }
            Ok(())
        })
        .await
    }

    /// Waits until the autoscaler has so many pods serve; never fewer than when all is well.
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

    /// More clients than three pods should bear, besides those who are counted.
    pub fn heavy_load(&self) -> LoadGenerator {
        let profile = LoadProfile {
            clients: HEAVY,
            pace: Duration::ZERO,
            workload: Workload::Get { path: "/healthz".to_owned() },
            ..Traffic::profile(self.current.next_load(), today())
        };
        LoadGenerator::start(&profile, &self.route)
    }

    /// Starts a pod of another namespace; gives its address and its node. It stays until `delete_foreign_pod`.
    pub async fn start_foreign_pod(&self) -> Result<(IpAddr, &Node)> {
        let image = format!("--image={}", image("busybox"));
        self.cluster.kubectl(&["run", FOREIGN_POD, &image])?;
        let pod = format!("pod/{FOREIGN_POD}");
        self.cluster.kubectl(&["wait", &pod, "--for=condition=Ready", "--timeout=2m"])?;
        let address = self.cluster.kubectl(&["get", &pod, "--output=jsonpath={.status.podIP}"])?.parse()?;
        Ok((address, self.node_of(address)?))
    }

    /// Ends `start_foreign_pod`.
    pub fn delete_foreign_pod(&self) -> Result<()> {
        self.cluster.kubectl(&["delete", "pod", FOREIGN_POD, "--now"]).map(drop)
    }

    /// Takes back what a drill that failed may have left.
    pub async fn repair(&self) -> Result<()> {
        // It fails where they were not cut off.
        let _ = self.cluster.reconnect_control_plane();
        self.restore_secrets().await?;
        self.cluster.stop_operator();
        self.cluster.start_operator().await?;
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
        self.restore_pre_stop().await?;
        self.roll_out_next().await
    }

    /// Keeps the logs of the cluster's programs; gives their directory.
    pub fn keep_logs(&self, drill: &str) -> Result<PathBuf> {
        let directory = std::env::temp_dir().join("dob-drill-logs").join(drill);
        self.cluster.keep_logs(&directory)?;
        Ok(directory)
    }
}

impl Backend {
    /// What pods must know to use it, and their way there.
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

    /// What a query finds that has one column.
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

/// Whose pods get connections.
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
