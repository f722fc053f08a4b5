//! One machine of the cluster: containerd, kubelet and kube-proxy in namespaces of their own.

use crate::NODES;
use crate::addresses::{self, BRIDGE, HERE, REGISTRY};
use crate::configuration;
use crate::control_plane::{ControlPlane, PATIENCE};
use crate::daemon::Daemon;
use crate::parts::Parts;
use anyhow::{Context, Result, ensure};
use dob_support::{cmd, eventually, read};
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::ErrorKind::NotFound;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

/// A node's init, which adopts orphaned processes such as containers' shims.
const INIT: [&str; 3] = ["tini", "--", "sleep"];
/// The limit of open files for containerd, and so for its pods. A shell's limit would stop Spin at a thousand connections.
const OPEN_FILES: [&str; 2] = ["prlimit", "--nofile=16384"];
/// Directories that a node may write to, with their names in the node's own directory.
const FOLDERS: [(&str, &str); 4] = [
    ("kubelet", "/var/lib/kubelet"),
    ("containerd", "/var/lib/containerd"),
    ("cni", "/etc/cni/net.d"),
    ("addresses", "/var/lib/cni"),
];
/// Directories that a node loses with its power.
const IN_MEMORY: [(&str, &str); 2] = [("run", "/run/containerd"), ("netns", "/run/netns")];
/// Directories of this machine of which a node has an overlay.
const OVERLAID: [&str; 3] = ["etc", "var", "run"];

/// A node, off or on.
pub struct Node {
    pub name: &'static str,
    pub address: Ipv4Addr,
    /// Its availability zone.
    pub zone: String,
    number: u8,
    directory: PathBuf,
    parts: Parts,
    /// PATH on the node: the shim, then the parts.
    path: String,
    /// kube-router's kubeconfig, if the cluster enforces network policies.
    network_policies: Option<PathBuf>,
    running: Mutex<Option<Running>>,
}

struct Running {
    init: Daemon,
    containerd: Daemon,
    /// kube-router, once it runs.
    router: Option<Daemon>,
    _daemons: [Daemon; 2],
}

impl Node {
    /// The n-th node, powered off.
    pub(crate) fn make(
        name: &'static str,
        n: u8,
        plane: &ControlPlane,
        parts: &Parts,
        shim: &Path,
        network_policies: Option<&Path>,
    ) -> Result<Self> {
        let directory = plane.directory.join(name);
        let shim = shim.parent().context("a shim in a directory")?.display();
        let zone = name.replace("node-", "eu-west-1");
        let path = format!("{shim}:{}", parts.path());
        let address = addresses::node(n);
        let node = Self {
            name,
            address,
            zone,
            number: n,
            directory,
            parts: parts.clone(),
            path,
            network_policies: network_policies.map(Path::to_owned),
            running: Mutex::default(),
        };
        for (folder, _) in FOLDERS.into_iter().chain(IN_MEMORY) {
            fs::create_dir_all(node.directory.join(folder))?;
        }
        node.write_configuration(plane)?;
        Ok(node)
    }

    /// Whether it is powered on.
    pub fn is_on(&self) -> bool {
        self.running().is_some()
    }

    /// Whether a pod of this address runs here.
    pub fn has_pod(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if addresses::is_pod_of(self.number, address))
    }

    /// Powers it on unless it is on. Returns when its container runtime answers.
    pub async fn power_on(&self) -> Result<()> {
        if self.is_on() {
            return Ok(());
        }
        self.forget_memory()?;
        let init = self.start_init()?;
        let pid = until_alone(self.name, &init).await?;
        self.plug_in(pid)?;
        self.nsenter(pid, &["sh", "-ec", &self.mounts()])?;
        let containerd = self.start_containerd(pid).await?;
        let proxy = ["--config", &self.file("kube-proxy.yaml"), "--hostname-override", self.name];
        let proxy = self.daemon(pid, "kube-proxy", &proxy)?;
        let labels = format!("topology.kubernetes.io/zone={}", self.zone);
        let address = self.address.to_string();
        let kubelet = self.daemon(
            pid,
            "kubelet",
            &[
                "--config",
                &self.file("kubelet.yaml"),
                "--kubeconfig",
                &self.file("kubelet.conf"),
                "--hostname-override",
                self.name,
                "--node-ip",
                &address,
                "--node-labels",
                &labels,
            ],
        )?;
        *self.running() = Some(Running { init, containerd, router: None, _daemons: [proxy, kubelet] });
        Ok(())
    }

    async fn start_containerd(&self, init: Pid) -> Result<Daemon> {
        let socket = self.directory.join("run/containerd.sock");
        // A containerd that was killed leaves its socket behind.
        fs::remove_file(&socket).or_else(|error| if error.kind() == NotFound { Ok(()) } else { Err(error) })?;
        let containerd = self.daemon(init, "containerd", &["--config", &self.file("containerd.toml")])?;
        eventually(&format!("containerd of {} listens", self.name), PATIENCE, async || {
            containerd.ensure_running()?;
            ensure!(socket.exists(), "there is no {}", socket.display());
            Ok(())
        })
        .await?;
        Ok(containerd)
    }

    /// Restarts containerd as systemd would: pods and shims keep running, and the new containerd finds them.
    pub async fn restart_containerd(&self) -> Result<()> {
        kill(self.with_running(|running| child_of(&running.containerd))?, Signal::SIGTERM)?;
        eventually(&format!("containerd of {} ends", self.name), PATIENCE, async || {
            self.with_running(|running| {
                ensure!(running.containerd.ensure_running().is_err(), "it runs on");
                Ok(())
            })
        })
        .await?;
        let containerd = self.start_containerd(self.init()?).await?;
        self.with_running(|running| {
            running.containerd = containerd;
            Ok(())
        })
    }

    fn with_running<T>(&self, work: impl FnOnce(&mut Running) -> Result<T>) -> Result<T> {
        work(self.running().as_mut().with_context(|| format!("{} is off", self.name))?)
    }

    /// Starts kube-router unless it runs. Kubernetes must know the node. Returns when network policies are enforced.
    async fn keep_network_policies(&self, kubeconfig: &Path) -> Result<()> {
        if self.running().as_ref().is_some_and(|running| running.router.is_some()) {
            return Ok(());
        }
        let kubeconfig = kubeconfig.to_string_lossy();
        let only_firewall = ["--run-firewall=true", "--run-router=false", "--run-service-proxy=false"];
        let arguments = [&only_firewall[..], &["--kubeconfig", &kubeconfig, "--hostname-override", self.name]].concat();
        let router = self.daemon(self.init()?, "kube-router", &arguments)?;
        eventually(&format!("network policies are in force on {}", self.name), PATIENCE, async || {
            router.ensure_running()?;
            self.run(&["iptables", "--list-rules", "KUBE-ROUTER-FORWARD"])
        })
        .await?;
        self.with_running(|running| {
            running.router = Some(router);
            Ok(())
        })
    }

    /// Cuts its power: its processes end at once and its connections are not closed.
    pub async fn power_off(&self) -> Result<()> {
        let Some(running) = self.running().take() else { return Ok(()) };
        self.cut_off()?;
        let init = child_of(&running.init)?;
        kill(init, Signal::SIGKILL)?;
        eventually(&format!("the processes of {} end", self.name), PATIENCE, async || {
            ensure!(running.init.ensure_running().is_err(), "{init} is still there");
            Ok(())
        })
        .await
    }

    /// Partitions it from every network; its connections are not closed.
    pub fn cut_off(&self) -> Result<()> {
        read(&cmd!("ip", "link", "set", self.name, "down")).map(drop)
    }

    /// Undoes `cut_off`.
    pub fn reconnect(&self) -> Result<()> {
        read(&cmd!("ip", "link", "set", self.name, "up")).map(drop)
    }

    /// Runs a command on the node as root. An error contains its output.
    pub fn run(&self, command: &[&str]) -> Result<String> {
        self.nsenter(self.init()?, command)
    }

    fn init(&self) -> Result<Pid> {
        self.with_running(|running| child_of(&running.init))
    }

    /// Waits until the node is ready, and network policies are enforced if the cluster has them.
    pub async fn until_ready(&self, client: &kube::Client) -> Result<()> {
        let nodes = kube::Api::<KubernetesNode>::all(client.clone());
        eventually(&format!("{} is Ready", self.name), PATIENCE, async || {
            let conditions = nodes.get(self.name).await?.status.and_then(|status| status.conditions);
            let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
            let ready = ready.context("it has reported no condition yet")?;
            ensure!(ready.status == "True", "{}", ready.message.unwrap_or_default());
            Ok(())
        })
        .await?;
        match &self.network_policies {
            Some(kubeconfig) => self.keep_network_policies(kubeconfig).await,
            None => Ok(()),
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().expect("no drill panics while it holds this")
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn forget_memory(&self) -> Result<()> {
        for (folder, _) in IN_MEMORY {
            fs::remove_dir_all(self.directory.join(folder))?;
            fs::create_dir_all(self.directory.join(folder))?;
        }
        Ok(())
    }

    fn start_init(&self) -> Result<Daemon> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.args(["--propagation", "shared"]).args(INIT).arg("infinity");
        Daemon::start(&self.directory, "init", &mut unshare)
    }

    /// A daemon in the node's namespaces; it ends with its `nsenter`.
    fn daemon(&self, init: Pid, program: &str, arguments: &[&str]) -> Result<Daemon> {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(entering(init)).args(OPEN_FILES).args(["setpriv", "--pdeathsig", "KILL", "--"]);
        nsenter.arg(self.parts.program(program)?).args(arguments);
        // Pods would inherit this process's environment from their runtime.
        nsenter.env_clear().env("PATH", &self.path);
        Daemon::start(&self.directory, program, &mut nsenter)
    }

    fn nsenter(&self, init: Pid, command: &[&str]) -> Result<String> {
        let arguments = entering(init).into_iter().chain(command.iter().map(|word| word.to_string()));
        read(&cmd("nsenter", arguments).env("PATH", &self.path).env_remove("SSL_CERT_FILE"))
    }

    /// Its network interface, address and routes to all pods.
    fn plug_in(&self, init: Pid) -> Result<()> {
        let name = self.name;
        // The kernel takes a moment to remove the network of a node that has ended, and its interface with it.
        if read(&cmd!("ip", "link", "show", name)).is_ok() {
            read(&cmd!("ip", "link", "delete", name))?;
        }
        read(&cmd!("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", init.to_string()))?;
        read(&cmd!("ip", "link", "set", name, "master", BRIDGE, "up"))?;
        let pods = addresses::pods_of(self.number);
        read(&cmd!("ip", "route", "replace", pods, "via", self.address.to_string()))?;
        let mut commands = format!(
            "ip address add {}/24 dev eth0
ip link set eth0 up
ip link set lo up
ip route add default via {HERE}
sysctl --quiet --write net.ipv4.ip_forward=1
hostname {name}
",
            self.address
        );
        for other in (0..NODES.len() as u8).filter(|other| *other != self.number) {
            let (pods, node) = (addresses::pods_of(other), addresses::node(other));
            commands += &format!("ip route add {pods} via {node}\n");
        }
        self.nsenter(init, &["sh", "-ec", &commands]).map(drop)
    }

    /// The commands that give the node its own view of the file system. A kubelet needs shared mounts.
    fn mounts(&self) -> String {
        let mut commands = "mount --make-rshared /\n".to_owned();
        for folder in OVERLAID {
            let (upper, work) = (self.file(&format!("{folder}.upper")), self.file(&format!("{folder}.work")));
            commands += &format!(
                "mkdir -p {upper} {work}
exec 3<{run}
mount -t overlay overlay -o lowerdir=/{folder},upperdir={upper},workdir={work} /{folder}
[ {folder} != run ] || mount --no-canonicalize --rbind /proc/self/fd/3 {run}
exec 3<&-
",
                run = dob_namespaces::DIRECTORY,
            );
        }
        for (folder, at) in FOLDERS.into_iter().chain(IN_MEMORY) {
            let folder = self.file(folder);
            commands += &format!("mkdir -p {at}\nmount --bind {folder} {at}\nmount --make-rshared {at}\n");
        }
        commands
    }

    fn write_configuration(&self, plane: &ControlPlane) -> Result<()> {
        let group = dob_namespaces::for_kubelet(self.name)?;
        let proxy = plane.kubeconfig_of("kube-system", "kube-proxy")?;
        let hosts = self.directory.join("registries").join(REGISTRY.to_string());
        fs::create_dir_all(&hosts)?;
        plane.kubeconfig_of_node(self.name, &self.directory)?;
        let files = [
            ("cni/10-pods.conflist", configuration::pod_network(&addresses::pods_of(self.number))),
            ("containerd.toml", configuration::containerd(&self.directory)),
            ("kubelet.yaml", configuration::kubelet(&group, &plane.certificate("ca.crt"))),
            ("kube-proxy.yaml", configuration::kube_proxy(&proxy)),
        ];
        for (name, content) in files {
            fs::write(self.directory.join(name), content)?;
        }
        Ok(fs::write(hosts.join("hosts.toml"), format!("[host.\"http://{REGISTRY}\"]\n"))?)
    }
}

/// nsenter's arguments for a node's namespaces.
fn entering(init: Pid) -> Vec<String> {
    ["--target", &init.to_string(), "--net", "--mount", "--uts", "--pid", "--"].map(str::to_owned).into()
}

/// The process that unshare or nsenter has started in the node's namespaces.
fn child_of(daemon: &Daemon) -> Result<Pid> {
    let id = daemon.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    Ok(Pid::from_raw(children.split_whitespace().next().context("it has not started a process")?.parse()?))
}

/// Waits until the node's init has all its namespaces.
async fn until_alone(name: &str, init: &Daemon) -> Result<Pid> {
    eventually(&format!("{name} starts"), PATIENCE, async || {
        init.ensure_running()?;
        let first = child_of(init)?;
        let program = fs::read_link(format!("/proc/{first}/exe"))?;
        ensure!(program.ends_with(INIT[0]), "it runs {}", program.display());
        Ok(first)
    })
    .await
}
