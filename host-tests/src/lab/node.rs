//! One machine of the lab: a Debian system of its own that cloud-init sets up from its user data.

use super::aws::Aws;
use super::terraform::{Account, PlannedNode, Ports};
use super::{BRIDGE, Base, PATIENCE, namespaces, run};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A node, off or on.
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
    pub ports: Ports,
    pub region: String,
    /// data, witness or restore
    pub role: String,
    directory: PathBuf,
    base: Base,
    seed: Seed,
    running: Option<Running>,
}

/// What a new instance of the node starts with.
struct Seed {
    user_data: String,
    hosts: String,
    certificates: PathBuf,
    data_device: String,
    data_volume_mb: u64,
}

struct Running {
    nspawn: Child,
    init: Pid,
    /// Keeps the volume attached; it goes when this and the node's mount are gone.
    _volume: OwnedFd,
}

/// What is new about a replaced node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// The system only; the data volume is attached again.
    NewInstance,
    /// The volume too.
    NewInstanceAndVolume,
    /// A volume that already holds a file system of somebody else's.
    NewInstanceAndStrangersVolume,
}

impl Node {
    pub(super) fn make(
        directory: &Path,
        base: &Base,
        name: &str,
        planned: PlannedNode,
        account: &Account,
        aws: &Aws,
    ) -> Result<Self> {
        let hosts = format!("127.0.0.1 localhost {name}\n{} {}\n", super::HERE, aws.names.join(" "));
        let certificates = aws.authority.clone();
        let data_device = account.data_device.clone();
        let seed = Seed {
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
            directory: directory.join(name),
            base: base.clone(),
            seed,
            running: None,
        };
        node.new_instance()?;
        node.new_volume()?;
        Ok(node)
    }

    /// Whether it is powered on.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Where its Patroni answers, if it has one.
    pub fn patroni(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.ports.patroni)
    }

    /// Boots it; returns when its systemd runs, long before its services do.
    pub async fn power_on(&mut self) -> Result<()> {
        let volume = self.attach_volume()?;
        let group = namespaces::group(&self.name)?.join("cgroup.procs");
        let console = fs::File::create(self.directory.join("console.log"))?;
        // The shell moves itself into the node's control group, where systemd-nspawn stays.
        let mut nspawn = Command::new("sh");
        nspawn.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(group).arg("systemd-nspawn");
        nspawn.args(["--quiet", "--register=no", "--keep-unit", "--boot"]).arg("-D").arg(self.root());
        nspawn.arg(format!("--network-bridge={BRIDGE}")).arg(format!("--machine={}", self.name));
        nspawn.arg(format!("--bind={}", volume.0)).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        nspawn.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        std::os::unix::process::CommandExt::process_group(&mut nspawn, 0);
        let nspawn = nspawn.spawn().context("systemd-nspawn is missing: `make setup-lab`")?;
        let init = init_of(nspawn.id()).await.with_context(|| format!("{} does not boot", self.name))?;
        self.running = Some(Running { nspawn, init, _volume: volume.1 });
        Ok(())
    }

    /// As if its power was cut: nothing of it gets to do anything any more, not even to end its connections.
    pub fn power_off(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        self.cut()?;
        kill(running.init, Signal::SIGKILL)?;
        running.nspawn.wait()?;
        drop(running);
        self.detach()
    }

    /// Shut down in order, as EC2 does when an instance is stopped.
    pub async fn shut_down(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        // SIGRTMIN+4 is systemd's power-off; nix has no name for it.
        run(Command::new("kill").args(["-s", "SIGRTMIN+4", &running.init.to_string()]))?;
        let started = Instant::now();
        while running.nspawn.try_wait()?.is_none() {
            if started.elapsed() > PATIENCE {
                bail!("{} does not shut down", self.name);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(running);
        self.detach()
    }

    /// Terminates the instance; a new one will boot from the same user data.
    pub fn replace(&mut self, boot: Boot) -> Result<()> {
        self.power_off()?;
        if boot != Boot::NewInstance {
            self.new_volume()?;
        }
        if boot == Boot::NewInstanceAndStrangersVolume {
            run(Command::new("mkfs.ext4").args(["-q", "-L", "stranger"]).arg(self.volume()))?;
        }
        self.new_instance()
    }

    /// Cuts it off from every network.
    pub fn cut(&self) -> Result<()> {
        run(Command::new("ip").args(["link", "set", &self.interface(), "down"])).map(drop)
    }

    /// Ends `cut`.
    pub fn heal(&self) -> Result<()> {
        run(Command::new("ip").args(["link", "set", &self.interface(), "up"])).map(drop)
    }

    /// Drops every packet from this machine to the node's PostgreSQL; other nodes reach it.
    pub fn drop_packets_of_clients(&self) -> Result<()> {
        let rules = filtering(&format!("ip daddr {} tcp dport {} drop", self.address, self.ports.postgresql));
        run(Command::new("nft").arg(rules)).map(drop)
    }

    /// Adds a rule of nftables for what the node sends, until the power goes.
    pub fn filter(&self, rule: &str) -> Result<()> {
        self.nft(&[&filtering(rule)])
    }

    /// Ends `filter`.
    pub fn pass_packets(&self) -> Result<()> {
        self.nft(&["delete", "table", "ip", "lab"])
    }

    /// Changes the node's own packet filter.
    fn nft(&self, arguments: &[&str]) -> Result<()> {
        let running = self.running.as_ref().with_context(|| format!("{} is off", self.name))?;
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &running.init.to_string(), "--net", "nft"]).args(arguments);
        run(&mut nsenter).map(drop)
    }

    /// Ends `drop_packets_of_clients`.
    pub fn pass_packets_of_clients(&self) -> Result<()> {
        run(Command::new("nft").args(["delete", "table", "ip", "lab"])).map(drop)
    }

    /// Runs a command on the node as root, to its end; an error holds what it said.
    pub async fn run(&self, command: &[&str]) -> Result<String> {
        let running = self.running.as_ref().with_context(|| format!("{} is off", self.name))?;
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &running.init.to_string(), "--all", "--"]).args(command);
        nsenter.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env_remove("SSL_CERT_FILE");
        let output = tokio::task::spawn_blocking(move || nsenter.stdin(Stdio::null()).output()).await??;
        let printed = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if !output.status.success() {
            bail!("{}: {}: {printed} {}", self.name, command.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(printed)
    }

    /// Asks the node's PostgreSQL as its superuser.
    pub async fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "timeout", "10"];
        self.run(&[&as_postgres[..], &["psql", "-XqAt", "-d", database, "-c", sql]].concat()).await
    }

    /// See `patroni_role`; nothing where the node is off.
    pub async fn patroni_role(&self) -> Option<String> {
        self.is_on().then_some(())?;
        patroni_role(self.patroni()).await
    }

    /// Waits until a command succeeds on the node.
    pub async fn until(&self, what: &str, command: &[&str]) -> Result<String> {
        let started = Instant::now();
        loop {
            match self.run(command).await {
                Ok(printed) => return Ok(printed),
                Err(error) if started.elapsed() > PATIENCE => {
                    return Err(error.context(format!("not within {PATIENCE:?}: {what}")));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
    }

    /// The command that opens a shell on it from another terminal.
    pub fn shell(&self) -> String {
        let nspawn = format!("pgrep --oldest --full 'systemd-nspawn.*--machine={}'", self.name);
        format!("nsenter --target $(pgrep --parent $({nspawn})) --all -- bash --login")
    }

    /// The host's end of its network cable.
    fn interface(&self) -> String {
        // Names of interfaces end after 15 characters.
        format!("vb-{}", self.name).chars().take(15).collect()
    }

    fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn volume(&self) -> PathBuf {
        self.directory.join("volume")
    }

    fn new_volume(&self) -> Result<()> {
        let file = fs::File::create(self.volume())?;
        Ok(file.set_len(self.seed.data_volume_mb * 1024 * 1024)?)
    }

    /// The base system as it came, with the node's user data.
    fn new_instance(&self) -> Result<()> {
        let (upper, work, root) = (self.directory.join("upper"), self.directory.join("work"), self.root());
        if root.exists() {
            run(Command::new("umount").arg(&root))?;
            fs::remove_dir_all(&upper)?;
            fs::remove_dir_all(&work)?;
        }
        for directory in [&upper, &work, &root] {
            fs::create_dir_all(directory)?;
        }
        let options =
            format!("lowerdir={},upperdir={},workdir={}", self.base.0.display(), upper.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root))?;
        self.write_seed(&root)
    }

    fn write_seed(&self, root: &Path) -> Result<()> {
        let seed = root.join("var/lib/cloud/seed/nocloud");
        fs::create_dir_all(&seed)?;
        let instance = super::aws::random()?;
        fs::write(seed.join("meta-data"), format!("instance-id: i-{instance}\nlocal-hostname: {}\n", self.name))?;
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(fs::File::create(seed.join("user-data"))?)
            .spawn()?;
        std::io::Write::write_all(&mut decode.stdin.take().context("piped")?, self.seed.user_data.as_bytes())?;
        decode.wait()?;
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

    /// The volume as a block device, and the link that udev would make for it.
    fn attach_volume(&self) -> Result<(String, OwnedFd)> {
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(self.volume()))?;
        let open = fs::File::open(&device)?.into();
        // Goes on as long as it is in use, and no longer.
        run(Command::new("losetup").args(["--detach", &device]))?;
        let link = format!(
            "d {} 755\nL+ {} - - - - {device}\n",
            Path::new(&self.seed.data_device).parent().unwrap_or(Path::new("/dev")).display(),
            self.seed.data_device
        );
        fs::write(self.root().join("etc/tmpfiles.d/data-volume.conf"), link)?;
        Ok((device, open))
    }

    /// Waits until the volume is free; a mount of a killed system takes a moment to go.
    fn detach(&self) -> Result<()> {
        let started = Instant::now();
        while !run(Command::new("losetup").arg("--associated").arg(self.volume()))?.is_empty() {
            if started.elapsed() > PATIENCE {
                bail!("the volume of {} stays in use", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// A rule for the packets that are sent, and the table for it.
fn filtering(rule: &str) -> String {
    format!(
        "add table ip lab; add chain ip lab sent {{ type filter hook output priority 0; }};
         add rule ip lab sent {rule}"
    )
}

/// What a Patroni says its node is (primary, standby_leader, replica), if it answers and PostgreSQL runs.
pub async fn patroni_role(patroni: SocketAddrV4) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "1", "--cacert"]).arg(super::Lab::authority());
    curl.arg(format!("https://{patroni}/patroni"));
    let answer = tokio::task::spawn_blocking(move || curl.output()).await.ok()?.ok()?;
    let state: serde_json::Value = serde_json::from_slice(&answer.stdout).ok()?;
    (state["state"] == "running").then(|| state["role"].as_str().map(str::to_owned))?
}

/// The first process of the system that systemd-nspawn boots.
async fn init_of(nspawn: u32) -> Result<Pid> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let children =
            fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).context("systemd-nspawn ended")?;
        if let Some(init) = children.split_whitespace().next().and_then(|pid| pid.parse().ok())
            && fs::read_link(format!("/proc/{init}/exe")).is_ok_and(|exe| exe.ends_with("systemd/systemd"))
        {
            return Ok(Pid::from_raw(init));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("systemd-nspawn starts nothing")
}
