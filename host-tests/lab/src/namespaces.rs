//! The lab's own view of the machine: its processes, mounts and network, gone when its first process ends.

use anyhow::{Context, Result, bail};
use dob_support::{cmd, read};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Everything a run makes; a memory file system that only the run sees.
pub(crate) const DIRECTORY: &str = "/run/dob-lab";
/// Where the clients are, and AWS.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where EC2's metadata service is.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What all nodes are plugged into.
pub(crate) const BRIDGE: &str = "br-lab";

/// Tells the inner process that it is inside; its value names the run's control groups.
const MARK: &str = "DOB_LAB";
const GROUP_PREFIX: &str = "dob-lab-";

/// Whether this process is inside the lab's namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs this program again with the same arguments inside new namespaces, and gives its exit code when all is gone.
pub fn enter() -> Result<ExitCode> {
    if !Uid::effective().is_root() {
        bail!("the lab boots whole systems with systemd-nspawn, and that takes root: run it with sudo");
    }
    remove_groups()?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    command.env(MARK, format!("{GROUP_PREFIX}{}", std::process::id())).env("SSL_CERT_FILE", authority());
    // SAFETY: prctl is all that happens between fork and exec.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    // Ctrl-C reaches the inner process too, which ends everything; this one waits for that and cleans up.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGINT, nix::sys::signal::SigHandler::SigIgn)? };
    let status = command.status().context("can't run unshare")?;
    remove_groups()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The certificate of the authority that signs the nodes' servers: this run's processes trust it.
pub(crate) fn authority() -> PathBuf {
    Path::new(DIRECTORY).join("authority.crt")
}

/// Makes a file system in memory for this run only, and the network of the nodes.
pub(crate) fn prepare() -> Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    read(&cmd!("mount", "-t", "tmpfs", "-o", "mode=755,size=12g", "tmpfs", DIRECTORY))?;
    read(&cmd!("ip", "link", "set", "lo", "up"))?;
    // An address of its own: a bridge takes that of a port else, and changes it when that node goes, to everybody's confusion.
    read(&cmd!("ip", "link", "add", BRIDGE, "address", "02:00:00:00:77:01", "type", "bridge"))?;
    for address in [format!("{HERE}/16"), format!("{METADATA}/32")] {
        read(&cmd!("ip", "address", "add", address, "dev", BRIDGE))?;
    }
    read(&cmd!("ip", "link", "set", BRIDGE, "up")).map(drop)
}

/// A control group of a node's own, or its systemd would share one with the other nodes' and end their services too.
pub(crate) fn group(node: &str) -> Result<PathBuf> {
    let run = std::env::var(MARK).context("not inside the lab")?;
    let group = root_group()?.join(run).join(node);
    fs::create_dir_all(&group).with_context(|| format!("can't make the control group {}", group.display()))?;
    Ok(group)
}

fn root_group() -> Result<PathBuf> {
    let mut unified = hierarchies()?.into_iter().filter(|(kind, _)| kind == "cgroup2");
    Ok(unified.next().context("this kernel has no cgroup2 mounted, which the nodes' systemd needs")?.1)
}

/// Where control groups are mounted, with their kind: cgroup2, and the older cgroup where a machine still has it.
fn hierarchies() -> Result<Vec<(String, PathBuf)>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let hierarchy = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then(|| (kind.to_owned(), PathBuf::from(at)))
    };
    Ok(mounts.lines().filter_map(hierarchy).collect())
}

/// Removes the empty control groups that ended runs leave; systemd-nspawn makes some in the older hierarchies too.
fn remove_groups() -> Result<()> {
    for (_, hierarchy) in hierarchies()? {
        for entry in fs::read_dir(hierarchy)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(GROUP_PREFIX) {
                remove_tree(&entry.path());
            }
        }
    }
    Ok(())
}

/// Depth first; a group that is still in use stays, with those above it.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
