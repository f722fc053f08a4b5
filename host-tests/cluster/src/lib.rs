//! SpinKube on this machine: Kubernetes with three nodes in three zones, the operator, a registry and a database, as processes.
//!
//! It runs in its own namespaces (processes, mounts, network), so the kernel removes it however a run ends. Each file knows only
//! those above it:
//!
//! ```text
//! addresses            addresses on the cluster's network
//! parts                the programs, built once from Go modules
//! daemon               a program in the background, with its log
//! shim                 the runtime of the pods
//! control_plane        etcd, API server, controller manager, scheduler
//! registry             images: the component's, and those of single programs
//! configuration        files of containerd, kubelet and kube-proxy
//! node                 one machine that runs these
//! processes            the processes of its pods
//! operator             the real spin-operator
//! addons               metrics, network policies, DNS, the descheduler
//! secrets              Secrets Manager, and External Secrets, which copies from it
//! database             a PostgreSQL with TLS and its own certificate authority
//! monitoring           the collectors and Prometheus
//! checkout             the manifests and scripts that are rolled out
//! ```

mod addons;
mod addresses;
mod checkout;
mod configuration;
mod control_plane;
mod daemon;
mod database;
mod monitoring;
mod node;
mod operator;
mod parts;
mod processes;
mod registry;
mod secrets;
mod shim;

pub use addons::eviction_age;
pub use addresses::{API_SERVER, LOAD_BALANCER, make_network};
pub use checkout::{AS_DEPLOYER, Checkout};
pub use database::{Access, Database, TRUST_STORE};
pub use node::Node;
pub use parts::Parts;
pub use processes::Process;
pub use registry::{Fault, Registry, image};
pub use shim::shim;

use addresses::{BRIDGE, PODS};
use anyhow::{Context, Result, ensure};
use control_plane::{ControlPlane, PATIENCE};
use daemon::Daemon;
use dob_load_balancer::{LoadBalancer, READINESS_GATES, Settings, TARGET_GROUP_BINDINGS};
use dob_namespaces::DIRECTORY;
use dob_support::{cmd, eventually, read};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use operator::Operator;
use secrets::SecretsManager;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

/// The namespace of the API.
pub const NAMESPACE: &str = "dob-api";
/// The nodes, each in another zone.
pub const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// A running cluster on which nothing is deployed yet. Dropping it ends it.
pub struct Cluster {
    /// A client with the administrator's rights.
    pub client: kube::Client,
    /// The nodes by name.
    pub nodes: BTreeMap<&'static str, Node>,
    pub registry: Registry,
    /// The settings of the load balancer.
    pub target_group: Settings,
    /// The load balancer, to which clients connect.
    pub load_balancer: LoadBalancer,
    operator: Operator,
    addons: Vec<Daemon>,
    /// Only with the add-ons.
    secrets_manager: Option<SecretsManager>,
    control_plane: ControlPlane,
}

/// How to start a cluster.
pub struct Plan {
    /// How many times faster than on AWS pods and targets come and go.
    pub faster_by: u32,
    /// Whether it has metrics, network policies, DNS and the descheduler.
    pub has_addons: bool,
    /// The runtime of the pods, `containerd-shim-spin-v2`.
    pub shim: PathBuf,
}

impl Cluster {
    /// Starts it. This process must be inside the run's namespaces, with the network prepared.
    pub async fn start(parts: &Parts, plan: &Plan) -> Result<Self> {
        let directory = Path::new(DIRECTORY).join("cluster");
        std::fs::create_dir_all(&directory)?;
        let emulator = plan.has_addons.then(|| secrets::start_emulator(&directory)).transpose()?;
        let registry = Registry::start(parts, &directory).await?;
        let control_plane = ControlPlane::start(parts, &directory).await?;
        let network_policies = plan.has_addons.then(|| addons::prepare_network_policies(&control_plane)).transpose()?;
        let mut nodes = BTreeMap::new();
        for (index, name) in NODES.into_iter().enumerate() {
            let node = Node::make(name, index as u8, &control_plane, parts, &plan.shim, network_policies.as_deref())?;
            node.power_on().await?;
            nodes.insert(name, node);
        }
        let operator = Operator::install(&control_plane, parts).await?;
        let addons =
            if plan.has_addons { addons::start(&control_plane, &registry, parts, plan.faster_by)? } else { Vec::new() };
        let secrets_manager = match emulator {
            Some(emulator) => Some(SecretsManager::start(emulator, &control_plane, parts).await?),
            None => {
                secrets::define_resources(&control_plane)?;
                None
            }
        };
        let client = control_plane.client().await?;
        for manifests in [TARGET_GROUP_BINDINGS, READINESS_GATES] {
            control_plane.apply(manifests)?;
        }
        let target_group = Settings::of_project()?.scaled(plan.faster_by.into());
        let load_balancer =
            LoadBalancer::start(client.clone(), &directory, addresses::LOAD_BALANCER, target_group.clone()).await?;
        let cluster = Self {
            client,
            nodes,
            registry,
            target_group,
            load_balancer,
            operator,
            addons,
            secrets_manager,
            control_plane,
        };
        for node in cluster.nodes.values() {
            node.until_ready(&cluster.client).await?;
        }
        Ok(cluster)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control_plane.kubeconfig()
    }

    /// Fails if an add-on has ended by itself: nobody would notice before something waits for it in vain.
    pub fn ensure_addons_run(&self) -> Result<()> {
        self.addons.iter().try_for_each(Daemon::ensure_running).context("an add-on")?;
        self.secrets_manager.as_ref().map_or(Ok(()), SecretsManager::ensure_running)
    }

    /// Kills the operator, as a crash would.
    pub fn stop_operator(&self) {
        self.operator.stop();
    }

    /// Starts the operator again; returns when its webhooks listen.
    pub async fn start_operator(&self) -> Result<()> {
        self.operator.start().await
    }

    /// The API's pods, and how often each was restarted.
    pub async fn restarts(&self) -> Result<BTreeMap<String, i32>> {
        let pods = self.pods().await?.into_iter();
        Ok(pods.map(|pod| (pod.metadata.name.clone().unwrap_or_default(), restarts_of(&pod))).collect())
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        Ok(pods.list(&ListParams::default().labels("core.spinkube.dev/app-name=dob-api")).await?.items)
    }

    /// Waits until the API has exactly this many pods, all ready.
    pub async fn until_pods(&self, wanted: usize, deadline: Duration) -> Result<()> {
        eventually(&format!("{wanted} pods are ready, and no others are left"), deadline, async || {
            let pods = self.pods().await?;
            let ready = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).count();
            ensure!(ready == wanted && pods.len() == wanted, "{ready} of {} are ready", pods.len());
            Ok(())
        })
        .await
    }

    /// Waits until the API's pods on a node have this age.
    pub async fn until_pods_have_age(&self, node: &Node, wanted: Duration) -> Result<()> {
        eventually(&format!("the pods on {} are {wanted:?} old", node.name), wanted + PATIENCE, async || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            for pod in self.pods().await? {
                let created = pod.metadata.creation_timestamp.as_ref().context("a pod without a date")?.0.as_second();
                let age = now.saturating_sub(Duration::from_secs(created.try_into()?));
                let is_here = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node.name));
                ensure!(!is_here || age >= wanted, "one is {age:?} old");
            }
            Ok(())
        })
        .await
    }

    /// Cuts all nodes off from the control plane; the load balancer still reaches it.
    pub fn cut_off_control_plane(&self) -> Result<()> {
        let rule = format!("add rule ip control arriving iifname {BRIDGE} tcp dport {} drop", API_SERVER.port());
        let table = "add table ip control; add chain ip control arriving { type filter hook input priority 0; }";
        read(&cmd!("nft", format!("{table}; {rule}"))).map(drop)
    }

    /// Undoes `cut_off_control_plane`.
    pub fn reconnect_control_plane(&self) -> Result<()> {
        read(&cmd!("nft", "delete table ip control")).map(drop)
    }

    /// Routes pods to another bridge of this machine, with this machine's address as their source.
    pub fn lead_to(&self, bridge: &str) -> Result<()> {
        let rule = format!("add rule ip cluster leaving oifname {bridge} ip saddr {PODS} masquerade");
        let table = "add table ip cluster; add chain ip cluster leaving { type nat hook postrouting priority srcnat; }";
        read(&cmd!("nft", format!("{table}; {rule}"))).map(drop)
    }

    /// Listens at an unused address of the nodes' network.
    pub async fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        read(&cmd!("ip", "address", "replace", format!("{}/32", address.ip()), "dev", BRIDGE))?;
        Ok(TcpListener::bind(address).await?)
    }

    /// Removes the address of `listen`.
    pub fn remove_address(&self, address: IpAddr) -> Result<()> {
        read(&cmd!("ip", "address", "delete", format!("{address}/32"), "dev", BRIDGE)).map(drop)
    }

    /// Copies the logs of all programs into a directory.
    pub fn keep_logs(&self, directory: &Path) -> Result<()> {
        let own = Path::new(DIRECTORY).join("cluster");
        let folders = [own.clone(), own.join("operator")].into_iter().chain(NODES.map(|name| own.join(name)));
        for folder in folders {
            let prefix = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            for entry in std::fs::read_dir(folder)?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".log") {
                    std::fs::copy(entry.path(), directory.join(format!("{prefix}-{name}")))?;
                }
            }
        }
        Ok(())
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.control_plane.kubectl(arguments)
    }

    /// The same with this deadline, for a command that waits.
    pub fn kubectl_within(&self, deadline: Duration, arguments: &[&str]) -> Result<String> {
        self.control_plane.kubectl_within(deadline, arguments)
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.control_plane.apply(manifests).context("the cluster accepts no manifests")
    }
}

/// Whether a pod is ready, including its readiness gate.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn restarts_of(pod: &Pod) -> i32 {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten().map(|container| container.restart_count).sum()
}
