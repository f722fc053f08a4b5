//! A run's own namespaces of processes, mounts and network. The kernel removes them when the run's first process ends.
//!
//! The region lab and the cluster run in them. Their network has no way out; the caller's shell reaches into it through a
//! [`PortForward`].

mod cgroups;
mod port_forward;

pub use cgroups::{for_kubelet, group, limit_memory};
pub use port_forward::PortForward;

use anyhow::{Context, Result, bail};
use dob_support::{cmd, read};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::Uid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The directory for all files of a run: a file system in memory, which only the run sees.
pub const DIRECTORY: &str = "/run/dob-namespaces";

/// The variable that is set inside the namespaces; its value names the run's control groups.
const MARK: &str = "DOB_NAMESPACES";

/// Whether this process is inside a run's namespaces.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs this program again inside new namespaces, with the same arguments. Returns its exit code when all processes have ended.
/// `what` names the run in the error for users who are not root.
pub fn enter(what: &str) -> Result<ExitCode> {
    enter_with(what, std::env::args().skip(1))
}

/// The same with other arguments.
pub fn enter_with(what: &str, arguments: impl IntoIterator<Item = String>) -> Result<ExitCode> {
    if !Uid::effective().is_root() {
        bail!("{what} creates namespaces and control groups, which needs root: run it with sudo");
    }
    cgroups::remove()?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(std::env::current_exe()?).args(arguments);
    command.env(MARK, cgroups::name()).env("SSL_CERT_FILE", authority());
    // SAFETY: between fork and exec only prctl is called.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    // Ctrl-C also reaches the inner process, which ends everything; this one waits for that and cleans up.
    // SAFETY: an ignored signal runs no handler.
    let before = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn)? };
    let status = command.status().context("can't run unshare")?;
    cgroups::remove()?;
    // SAFETY: it is the handler that was set before.
    unsafe { signal(Signal::SIGINT, before)? };
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The certificate of the authority that signs the database servers' certificates; this run's processes trust it.
pub fn authority() -> PathBuf {
    Path::new(DIRECTORY).join("authority.crt")
}

/// Mounts the run's file system in memory, and brings up its loopback interface.
pub fn prepare() -> Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    read(&cmd!("mount", "-t", "tmpfs", "-o", "mode=755,size=12g", "tmpfs", DIRECTORY))?;
    read(&cmd!("ip", "link", "set", "lo", "up")).map(drop)
}
