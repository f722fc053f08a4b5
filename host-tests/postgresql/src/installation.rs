//! The installed PostgreSQL: its programs, and the system user that runs them for root.

use anyhow::{Context, Result, ensure};
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

/// The programs for a data directory: those of the version that created it, since no other can read it, or the newest installed ones
/// for a new directory.
pub(crate) fn binaries(data: &Path) -> Result<PathBuf> {
    binaries_in(Path::new(DEBIAN_BINARIES), data)
}

fn binaries_in(installed: &Path, data: &Path) -> Result<PathBuf> {
    if let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) {
        let (version, data) = (version.trim(), data.display());
        let made_by = installed.join(version).join("bin");
        ensure!(
            made_by.join("initdb").exists(),
            "{data} was made by PostgreSQL {version}, which is no longer there: install postgresql-{version}"
        );
        return Ok(made_by);
    }
    let versions = fs::read_dir(installed).into_iter().flatten().flatten();
    let binaries = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let version = |bin: &PathBuf| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    binaries
        .max_by_key(version)
        .with_context(|| format!("there is no PostgreSQL server under {}: `make run` installs it", installed.display()))
}

/// The system user, if this process is root, as which PostgreSQL refuses to run.
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

/// Changes the owner of a file or directory to the user that runs PostgreSQL.
pub fn give_to_system_user(path: &Path) -> Result<()> {
    match system_user()? {
        Some(user) => Ok(chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?),
        None => Ok(()),
    }
}

/// Whether the user that runs PostgreSQL can reach a directory; it can't reach root's home.
pub fn can_enter(directory: &Path) -> Result<bool> {
    let mut command = Command::new("test");
    command.arg("-x").arg(directory).current_dir("/");
    as_system_user(&mut command)?;
    Ok(command.status()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_data_keeps_its_version_and_new_data_gets_the_newest() {
        let scratch = tempfile::tempdir().unwrap();
        let (installed, data) = (scratch.path().join("installed"), scratch.path().join("data"));
        for version in ["9", "15", "17", "common"] {
            fs::create_dir_all(installed.join(version).join("bin/initdb")).unwrap();
        }
        let chosen = || binaries_in(&installed, &data).map_err(|error| error.to_string());
        assert_eq!(chosen(), Ok(installed.join("17/bin")));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(chosen(), Ok(installed.join("15/bin")));
        fs::write(data.join("PG_VERSION"), "14\n").unwrap();
        let refused = chosen().unwrap_err();
        assert!(
            refused.ends_with("was made by PostgreSQL 14, which is no longer there: install postgresql-14"),
            "{refused}"
        );
    }
}
