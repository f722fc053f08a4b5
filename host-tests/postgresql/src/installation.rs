//! What is installed: PostgreSQL's programs, and the user that runs them for root.

use anyhow::{Context, Result};
use nix::unistd::{Uid, User};
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The system user that runs PostgreSQL for root; Debian's packages create it.
const SYSTEM_USER: &str = "postgres";
/// Where Debian's packages put each major version.
const DEBIAN_BINARIES: &str = "/usr/lib/postgresql";

/// The programs of the newest PostgreSQL that is installed.
pub(crate) fn binaries() -> Result<PathBuf> {
    let versions = fs::read_dir(DEBIAN_BINARIES).into_iter().flatten().flatten();
    let binaries = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let version = |bin: &PathBuf| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    binaries
        .max_by_key(version)
        .with_context(|| format!("there is no PostgreSQL server under {DEBIAN_BINARIES}: `make run` installs it"))
}

/// PostgreSQL refuses to run as root.
fn system_user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let user = User::from_name(SYSTEM_USER)?;
    user.map(Some).with_context(|| {
        format!("PostgreSQL refuses root and there is no user {SYSTEM_USER}: `make run` installs both")
    })
}

pub(crate) fn as_system_user(command: &mut Command) -> Result<()> {
    if let Some(user) = system_user()? {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    Ok(())
}

/// The user that runs PostgreSQL.
pub(crate) fn server_user() -> Result<Uid> {
    Ok(system_user()?.map_or(Uid::effective(), |user| user.uid))
}

/// Makes a file or directory belong to the user that runs PostgreSQL.
pub fn give_to_system_user(path: &Path) -> Result<()> {
    match system_user()? {
        Some(user) => Ok(chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?),
        None => Ok(()),
    }
}

/// Whether the user that runs PostgreSQL can reach a directory; root's own home it can't.
pub fn can_enter(directory: &Path) -> Result<bool> {
    let mut command = Command::new("test");
    command.arg("-x").arg(directory).current_dir("/");
    as_system_user(&mut command)?;
    Ok(command.status()?.success())
}
