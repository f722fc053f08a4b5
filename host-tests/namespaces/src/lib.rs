//! A run's own view of the machine: its processes, mounts and network, gone when its first process ends.
//!
//! The region lab and the cluster both live in one. Nothing leads out of its network; what the caller's shell may reach inside comes
//! through a [`PortForward`].

mod cgroups;
mod port_forward;

pub use cgroups::{for_kubelet, group, limit_memory};
pub use port_forward::PortForward;

use anyhow::{Context, Result, bail};
use dob_support::{cmd, read};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Everything a run makes; a memory file system that only the run sees.
pub const DIRECTORY: &str = "/run/dob-namespaces";

/// Tells the inner process that it is inside; its value names the run's control groups.
const MARK: &str = "DOB_NAMESPACES";

/// Whether this process is inside a run's namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs this program again with the same arguments inside new namespaces, and gives its exit code when all is gone.
/// `what` is what runs there, for the error that only root may do it.
pub fn enter(what: &str) -> Result<ExitCode> {
    enter_with(what, std::env::args().skip(1))
}

/// The same with other arguments.
pub fn enter_with(what: &str, arguments: impl IntoIterator<Item = String>) -> Result<ExitCode> {
    if !Uid::effective().is_root() {
        bail!("{what} has namespaces and control groups of its own, and that takes root: run it with sudo");
    }
    cgroups::remove()?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(arguments);
    command.env(MARK, cgroups::name()).env("SSL_CERT_FILE", authority());
    // SAFETY: prctl is all that happens between fork and exec.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    // Ctrl-C reaches the inner process too, which ends everything; this one waits for that and cleans up.
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGINT, nix::sys::signal::SigHandler::SigIgn)? };
    let status = command.status().context("can't run unshare")?;
    cgroups::remove()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The certificate of the authority that signs the databases' servers: this run's processes trust it.
pub fn authority() -> PathBuf {
    Path::new(DIRECTORY).join("authority.crt")
}

/// Makes a file system in memory for this run only, and its loopback.
pub fn prepare() -> Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    read(&cmd!("mount", "-t", "tmpfs", "-o", "mode=755,size=12g", "tmpfs", DIRECTORY))?;
    read(&cmd!("ip", "link", "set", "lo", "up")).map(drop)
}
