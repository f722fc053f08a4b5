//! One machine of the lab: a Debian system that cloud-init sets up from its user data.

use crate::aws::Aws;
use crate::network::{BRIDGE, BUCKETS, HERE};
use crate::plan::{Account, PlannedNode, Ports, Postgresql};
use anyhow::{Context, Result, anyhow, bail, ensure};
use dob_namespaces::DIRECTORY;
use dob_support::{Process, cmd, eventually, random_word, read};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::timeout;

/// How long a node may take for what it does by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The deadline of a command on a node; the longest ones restore a backup.
const COMMAND_DEADLINE: Duration = Duration::from_secs(180);
/// More than etcd ever writes here: segments of its log of 64 MB, and a small store.
const ETCD_VOLUME_MB: u64 = 512;
/// The ports on which etcd listens for clients and for its peers.
const ETCD_PORTS: &str = "{ 2379, 2380 }";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A node, powered on or off.
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
    pub ports: Ports,
    pub region: String,
    /// data, witness or restore
    pub role: String,
    pub(crate) postgresql: Postgresql,
    directory: PathBuf,
    /// The overlay's lower directories.
    layers: String,
    seed: NoCloudSeed,
    pub(crate) http: reqwest::Client,
    running: Mutex<Option<Running>>,
}

/// What cloud-init's NoCloud data source gives a new instance, and its volume.
struct NoCloudSeed {
    user_data: String,
    hosts: String,
    certificates: PathBuf,
    data_device: String,
    data_volume_mb: u64,
}

struct Running {
    nspawn: Process,
    init: Pid,
    /// Keeps the volume attached. The kernel detaches it when this and the node's mount are gone.
    _volume: OwnedFd,
}

/// What is new about a replaced node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// A new system; the data volume is attached again.
    NewInstance,
    /// A new system and an empty volume.
    NewInstanceAndVolume,
    /// A new system, and a volume with the file system of another application.
    NewInstanceAndStrangersVolume,
}

impl Node {
    pub(crate) fn make(layers: String, name: &str, planned: PlannedNode, account: &Account, aws: &Aws) -> Result<Self> {
        let hosts = format!("127.0.0.1 localhost {name}\n{}", aws.hosts);
        let certificates = aws.authority.clone();
        let data_device = account.data_device.clone();
        let seed = NoCloudSeed {
            user_data: planned.user_data,
            hosts,
            certificates,
            data_device,
            data_volume_mb: account.data_volume_mb,
        };
        let node = Self {
            name: name.to_owned(),
            address: planned.address,
            ports: planned.ports,
            region: planned.region,
            role: planned.role,
            postgresql: planned.postgresql,
            directory: Path::new(DIRECTORY).join(name),
            layers,
            seed,
            http: http_client()?,
            running: Mutex::default(),
        };
        node.new_instance()?;
        node.new_volume()?;
        Ok(node)
    }

    /// Whether it is powered on.
    pub fn is_on(&self) -> bool {
        self.running().is_some()
    }

    /// Boots it unless it is on. Returns when its systemd runs, long before its services do.
    pub async fn power_on(&self) -> Result<()> {
        if self.is_on() {
            return Ok(());
        }
        let volume = self.attach_volume()?;
        let group = dob_namespaces::group(&self.name)?.join("cgroup.procs");
        let console = fs::File::create(self.directory.join("console.log"))?;
        // The shell moves itself into the node's control group; systemd-nspawn inherits it.
        let mut nspawn = Command::new("sh");
        nspawn.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(group).arg("systemd-nspawn");
        nspawn.args(["--quiet", "--register=no", "--keep-unit", "--boot"]).arg("-D").arg(self.root());
        nspawn.arg(format!("--network-bridge={BRIDGE}")).arg(format!("--machine={}", self.name));
        nspawn.arg(format!("--bind={}", volume.0)).arg(format!("--bind={}:/var/lib/etcd", self.etcd_data().display()));
        nspawn.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        nspawn.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console).process_group(0);
        let mut nspawn = Process::spawn(&mut nspawn, "`make drill` installs it")?;
        let init = init_of(&mut nspawn).await.with_context(|| format!("{} does not boot", self.name))?;
        *self.running() = Some(Running { nspawn, init, _volume: volume.1 });
        Ok(())
    }

    /// Cuts its power: its processes end at once and its connections are not closed.
    pub async fn power_off(&self) -> Result<()> {
        let Some(running) = self.running().take() else { return Ok(()) };
        self.cut_off()?;
        kill(running.init, Signal::SIGKILL)?;
        self.until_ended(running).await
    }

    /// Cuts its power, and loses what its kernel had not yet written to the data volume and to etcd's. `power_off` writes that.
    pub async fn cut_power(&self) -> Result<()> {
        self.cut_off()?;
        let group = dob_namespaces::group(&self.name)?;
        fs::write(group.join("cgroup.freeze"), "1")?;
        eventually(&format!("{} stands still", self.name), PATIENCE, async || {
            let events = fs::read_to_string(group.join("cgroup.events"))?;
            ensure!(events.contains("frozen 1"), "{events}");
            Ok(())
        })
        .await?;
        let volumes = [self.volume(), self.etcd_volume()];
        for volume in &volumes {
            read(&cmd!("cp", "--sparse=always", volume, volume.with_extension("at-cut")))?;
        }
        // Until the node is off, it writes to the old volumes, which are then replaced by the copies.
        fs::write(group.join("cgroup.freeze"), "0")?;
        self.power_off().await?;
        // Other nodes' namespaces may still have it mounted; what was written there later goes with them.
        read(&cmd!("umount", self.etcd_data()))?;
        for volume in &volumes {
            fs::rename(volume.with_extension("at-cut"), volume)?;
        }
        self.mount_etcd_volume()
    }

    /// Shuts it down in order, as EC2 does when an instance is stopped.
    pub async fn shut_down(&self) -> Result<()> {
        let Some(running) = self.running().take() else { return Ok(()) };
        // SIGRTMIN+4 is systemd's power-off; nix has no name for it.
        read(&cmd!("kill", "-s", "SIGRTMIN+4", running.init.to_string()))?;
        self.until_ended(running).await
    }

    /// Waits until its processes have ended and its volume is free. The kernel takes a moment to unmount a killed system's volume.
    async fn until_ended(&self, running: Running) -> Result<()> {
        let Running { mut nspawn, _volume: volume, .. } = running;
        eventually(&format!("{} ends", self.name), PATIENCE, async || {
            nspawn.0.try_wait()?.context("its processes are still there")
        })
        .await?;
        drop(volume);
        eventually(&format!("the volume of {} is free", self.name), PATIENCE, async || {
            let user = read(&cmd!("losetup", "--associated", self.volume()))?;
            ensure!(user.is_empty(), "{user}");
            Ok(())
        })
        .await
    }

    /// Terminates the instance and boots a new one from the same user data.
    pub async fn replace(&self, boot: Boot) -> Result<()> {
        self.power_off().await?;
        if boot != Boot::NewInstance {
            self.new_volume()?;
        }
        if boot == Boot::NewInstanceAndStrangersVolume {
            read(&cmd!("mkfs.ext4", "-q", "-L", "stranger", self.volume()))?;
        }
        self.new_instance()?;
        self.power_on().await
    }

    /// Partitions it from every network.
    pub fn cut_off(&self) -> Result<()> {
        read(&cmd!("ip", "link", "set", self.interface(), "down")).map(drop)
    }

    /// Undoes `cut_off`.
    pub fn reconnect(&self) -> Result<()> {
        read(&cmd!("ip", "link", "set", self.interface(), "up")).map(drop)
    }

    /// Drops what clients send to the node's PostgreSQL when it arrives. A packet that the sender's own filter drops is not lost for its
    /// kernel, which then takes much longer to give a connection up.
    pub fn drop_packets_of_clients(&self) -> Result<()> {
        self.nft(&format!(
            "add table ip lab; add chain ip lab received {{ type filter hook input priority 0; }};
             add rule ip lab received ip saddr {HERE} tcp dport {} drop",
            self.ports.postgresql
        ))
    }

    /// Drops every packet from the node to these nodes.
    pub fn drop_packets_to<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> Result<()> {
        let addresses: Vec<String> = nodes.into_iter().map(|node| node.address.to_string()).collect();
        self.filter(&format!("ip daddr {{ {} }} drop", addresses.join(", ")))
    }

    /// Drops the packets of etcd and its clients from the node to these nodes.
    pub fn drop_etcd_packets_to<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> Result<()> {
        let addresses: Vec<String> = nodes.into_iter().map(|node| node.address.to_string()).collect();
        let (to, ports) = (addresses.join(", "), ETCD_PORTS);
        self.filter(&format!(
            "ip daddr {{ {to} }} tcp dport {ports} drop; add rule ip lab sent ip daddr {{ {to} }} tcp sport {ports} drop"
        ))
    }

    /// Drops what the node's PostgreSQL sends to another node: replication stops, and neither side gets an error.
    pub fn drop_replication_to(&self, node: &Node) -> Result<()> {
        self.filter(&format!("ip daddr {} tcp sport {} drop", node.address, self.ports.postgresql))
    }

    /// Limits what the node's PostgreSQL sends to another node to one megabyte a second.
    pub fn slow_replication_to(&self, node: &Node) -> Result<()> {
        let (address, port) = (node.address, self.ports.postgresql);
        self.filter(&format!("ip daddr {address} tcp sport {port} limit rate over 1 mbytes/second drop"))
    }

    /// Rejects the node's connections to AWS.
    pub fn refuse_aws(&self) -> Result<()> {
        let [first, second] = BUCKETS;
        self.filter(&format!("ip daddr {{ {HERE}, {first}, {second} }} tcp dport 443 reject with tcp reset"))
    }

    /// Its own region's S3 accepts the node's connections, and never answers on them.
    pub async fn silence_own_bucket(&self) -> Result<()> {
        let address = "getent hosts \"$(sed -n 's/^repo1-s3-endpoint=//p' /etc/pgbackrest.conf)\" | cut --delimiter=' ' --fields=1";
        let address = self.run(&["bash", "-c", address]).await?;
        self.filter(&format!("ip daddr {address} tcp dport 443 tcp flags & syn == 0 drop"))
    }

    /// Removes the node's packet filter.
    pub fn pass_packets(&self) -> Result<()> {
        self.nft("delete table ip lab")
    }

    /// Adds a rule for outgoing packets.
    fn filter(&self, rule: &str) -> Result<()> {
        self.nft(&format!(
            "add table ip lab; add chain ip lab sent {{ type filter hook output priority 0; }};
             add rule ip lab sent {rule}"
        ))
    }

    /// Changes the node's packet filter, which does not survive a power-off.
    fn nft(&self, rules: &str) -> Result<()> {
        read(&cmd!("nsenter", "--target", self.init()?.to_string(), "--net", "nft", rules)).map(drop)
    }

    /// Runs a command on the node as root. An error contains its output.
    pub async fn run(&self, command: &[&str]) -> Result<String> {
        let mut nsenter = tokio::process::Command::new("nsenter");
        // nsenter is never killed: the command would go on, and once it ended, nobody would reap it, so that the node could not end either.
        let limit = COMMAND_DEADLINE.as_secs().to_string();
        nsenter
            .args(["--target", &self.init()?.to_string(), "--all", "--", "timeout", "--kill-after=5", &limit])
            .args(command);
        nsenter.env("PATH", PATH).env_remove("SSL_CERT_FILE").stdin(Stdio::null());
        let output = timeout(COMMAND_DEADLINE + Duration::from_secs(10), nsenter.output())
            .await
            .map_err(|_| anyhow!("{}: {} did not end within {COMMAND_DEADLINE:?}", self.name, command.join(" ")))??;
        let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if !output.status.success() {
            bail!("{}: {}: {printed} {}", self.name, command.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(printed)
    }

    /// Runs a bash script on the node; it ends at the first command that fails.
    pub(crate) async fn script(&self, script: &str) -> Result<String> {
        self.run(&["bash", "-ec", script]).await
    }

    /// The output of a command that must fail.
    pub async fn refusal(&self, command: &[&str]) -> Result<String> {
        match self.run(command).await {
            Ok(said) => bail!("{} should have failed, but succeeded: {said}", command.join(" ")),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// Waits until a script succeeds on the node; `what` says what that means.
    pub(crate) async fn until(&self, what: &str, script: &str) -> Result<String> {
        let what = format!("{}: {what}", self.name);
        eventually(&what, PATIENCE, async || self.script(script).await).await
    }

    /// Waits until a unit's journal of this boot contains a text.
    pub async fn until_logged(&self, unit: &str, text: &str) -> Result<()> {
        let logged = format!("journalctl --boot --no-pager --unit={unit} | grep --quiet --fixed-strings -- \"{text}\"");
        self.until(&format!("{unit} logs \"{text}\""), &logged).await.map(drop)
    }

    /// Waits until a service is active.
    pub async fn until_active(&self, unit: &str) -> Result<()> {
        self.until(&format!("{unit} is active"), &format!("systemctl is-active --quiet {unit}")).await.map(drop)
    }

    /// A unit's journal of this boot.
    pub async fn journal(&self, unit: &str) -> Result<String> {
        self.run(&["journalctl", "--boot", "--no-pager", &format!("--unit={unit}")]).await
    }

    /// The whole journal.
    pub async fn whole_journal(&self) -> Result<String> {
        self.run(&["journalctl", "--no-pager", "--output=short-iso-precise"]).await
    }

    /// The role that the node's Patroni reports (primary, standby_leader, replica), if it answers and PostgreSQL runs.
    pub async fn patroni_role(&self) -> Option<String> {
        self.is_on().then_some(())?;
        let url = format!("https://{}:{}/patroni", self.address, self.ports.patroni);
        let state: serde_json::Value = self.http.get(url).send().await.ok()?.json().await.ok()?;
        (state["state"] == "running").then(|| state["role"].as_str().map(str::to_owned))?
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().expect("no drill panics while it holds this")
    }

    fn init(&self) -> Result<Pid> {
        Ok(self.running().as_ref().with_context(|| format!("{} is off", self.name))?.init)
    }

    /// The command that opens a shell on the node from another terminal.
    pub fn shell(&self) -> String {
        let nspawn = format!("pgrep --oldest --full 'systemd-nspawn.*--machine={}'", self.name);
        format!("nsenter --target $(pgrep --parent $({nspawn})) --all -- bash --login")
    }

    /// The host's end of its network interface.
    fn interface(&self) -> String {
        // Linux limits names of interfaces to 15 characters.
        format!("vb-{}", self.name).chars().take(15).collect()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn volume(&self) -> PathBuf {
        self.directory.join("volume")
    }

    /// The file behind etcd's own volume. EC2 has etcd on the root volume, but the lab can't imitate a power cut of its root file system.
    fn etcd_volume(&self) -> PathBuf {
        self.directory.join("etcd-volume")
    }

    fn etcd_data(&self) -> PathBuf {
        self.directory.join("etcd")
    }

    fn new_etcd_volume(&self) -> Result<()> {
        if self.etcd_data().exists() {
            read(&cmd!("umount", self.etcd_data()))?;
            // A new file: other nodes' namespaces may still have the old one mounted.
            fs::remove_file(self.etcd_volume())?;
        }
        fs::create_dir_all(self.etcd_data())?;
        fs::File::create(self.etcd_volume())?.set_len(ETCD_VOLUME_MB * 1024 * 1024)?;
        read(&cmd!("mkfs.ext4", "-q", self.etcd_volume()))?;
        self.mount_etcd_volume()
    }

    fn mount_etcd_volume(&self) -> Result<()> {
        read(&cmd!("mount", "-o", "loop", self.etcd_volume(), self.etcd_data())).map(drop)
    }

    fn new_volume(&self) -> Result<()> {
        let file = fs::File::create(self.volume())?;
        Ok(file.set_len(self.seed.data_volume_mb * 1024 * 1024)?)
    }

    /// Mounts a fresh copy of the base image, with the node's user data.
    fn new_instance(&self) -> Result<()> {
        let (upper, work, root) = (self.directory.join("upper"), self.directory.join("work"), self.root());
        if root.exists() {
            read(&cmd!("umount", &root))?;
            fs::remove_dir_all(&upper)?;
            fs::remove_dir_all(&work)?;
        }
        for directory in [&upper, &work, &root] {
            fs::create_dir_all(directory)?;
        }
        let (lower, upper, work) = (&self.layers, upper.display(), work.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        read(&cmd!("mount", "-t", "overlay", "overlay", "-o", options, &root))?;
        self.new_etcd_volume()?;
        self.write_seed(&root)
    }

    fn write_seed(&self, root: &Path) -> Result<()> {
        let seed = root.join("var/lib/cloud/seed/nocloud");
        fs::create_dir_all(&seed)?;
        let instance = random_word()?;
        // EC2 names an instance after its address.
        let named = self.address.to_string().replace('.', "-");
        fs::write(seed.join("meta-data"), format!("instance-id: i-{instance}\nlocal-hostname: ip-{named}\n"))?;
        let user_data = cmd!("base64", "--decode").stdin_bytes(self.seed.user_data.as_bytes());
        user_data.stdout_path(seed.join("user-data")).run().context("the user data is not base64")?;
        fs::write(root.join("etc/hosts"), &self.seed.hosts)?;
        fs::write(root.join("etc/resolv.conf"), "")?;
        fs::write(
            root.join("etc/systemd/network/10-host0.network"),
            format!(
                "[Match]\nName=host0\n[Network]\nAddress={}/16\n[Route]\nDestination=169.254.169.254/32\nScope=link\n",
                self.address
            ),
        )?;
        let trusted = root.join("etc/ssl/certs/ca-certificates.crt");
        let both = fs::read_to_string(&trusted)? + &fs::read_to_string(&self.seed.certificates)?;
        Ok(fs::write(trusted, both)?)
    }

    /// Attaches the volume as a block device, with the link that udev would create.
    fn attach_volume(&self) -> Result<(String, OwnedFd)> {
        let device = read(&cmd!("losetup", "--find", "--show", self.volume()))?;
        let open = fs::File::open(&device)?.into();
        // The kernel detaches it when nobody uses it any more.
        read(&cmd!("losetup", "--detach", &device))?;
        let link = format!(
            "d {} 755\nL+ {} - - - - {device}\n",
            Path::new(&self.seed.data_device).parent().unwrap_or(Path::new("/dev")).display(),
            self.seed.data_device
        );
        fs::write(self.root().join("etc/tmpfiles.d/data-volume.conf"), link)?;
        Ok((device, open))
    }
}

/// A client for the node's services. It keeps no connections, because the services may be gone.
fn http_client() -> Result<reqwest::Client> {
    let authority = reqwest::Certificate::from_pem(&fs::read(dob_namespaces::authority())?)?;
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(Duration::from_secs(1));
    Ok(client.add_root_certificate(authority).build()?)
}

/// The init process of the system that systemd-nspawn boots.
async fn init_of(nspawn: &mut Process) -> Result<Pid> {
    let id = nspawn.id();
    let booted = eventually("systemd-nspawn starts systemd", PATIENCE, async || {
        if let Some(status) = nspawn.0.try_wait()? {
            return Ok(Err(anyhow!("systemd-nspawn ended: {status}")));
        }
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let init = children.split_whitespace().next().context("it has not started a process yet")?;
        let program = fs::read_link(format!("/proc/{init}/exe"))?;
        ensure!(program.ends_with("systemd/systemd"), "it has started {}", program.display());
        Ok(Ok(Pid::from_raw(init.parse()?)))
    });
    booted.await?
}
