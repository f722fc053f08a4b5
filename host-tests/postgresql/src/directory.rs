//! Checks of a data directory, before anything in it is changed.

use crate::installation::server_user;
use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Uid, User};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Refuses a directory of another user, because changing its owner would lock that user out. Root may change the owner of its own.
pub fn refuse_other_owner(directory: &Path) -> Result<()> {
    let user = server_user()?;
    for path in [directory, &directory.join("data")] {
        let owner = match fs::metadata(path) {
            Ok(metadata) => Uid::from_raw(metadata.uid()),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("can't look at {}", path.display())),
        };
        ensure!(
            owner == user || owner == Uid::effective(),
            "{} belongs to {}, and PostgreSQL would run as {} here: run this as the user who made it (root where it \
             belongs to postgres), or with another directory (make run DATA=DIRECTORY)",
            path.display(),
            name(owner),
            name(user)
        );
    }
    Ok(())
}

fn name(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or(format!("user {user}"), |user| user.name)
}

/// Refuses a directory in which a server runs. Locks it until the result is dropped.
pub(crate) fn lock(directory: &Path) -> Result<File> {
    let lock = File::open(directory).with_context(|| format!("can't open {}", directory.display()))?;
    let data = directory.join("data");
    let server = named_process(&data).filter(|named| data.canonicalize().is_ok_and(|data| named.runs_in == data));
    let user = match (lock.try_lock(), server) {
        (Ok(()), None) => return Ok(lock),
        (Err(TryLockError::Error(error)), _) => {
            return Err(error).with_context(|| format!("can't lock {}", directory.display()));
        }
        (_, Some(server)) => format!("PostgreSQL (process {})", server.pid),
        (Err(TryLockError::WouldBlock), None) => "another run".to_owned(),
    };
    bail!(
        "{user} uses {} already: use the API that it serves, or another port and directory (make run \
         LISTEN=127.0.0.1:3001 DATA=DIRECTORY)",
        directory.display()
    )
}

/// Removes the pid file of a crashed server. PostgreSQL ignores the file if no such process exists, but mistakes any process of the
/// same user for the server, even a zombie, as it can occur in a container.
pub(crate) fn remove_stale_pid_file(data: &Path) -> Result<()> {
    let (data, pid_file) = (data.canonicalize()?, pid_file(data));
    let processes = fs::read_dir("/proc")?.flatten();
    // Child processes of a crashed server may still use its data.
    let mut run_in = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
    if pid_file.exists() && !run_in.any(|directory| directory == data) {
        fs::remove_file(&pid_file).with_context(|| format!("can't remove {}", pid_file.display()))?;
    }
    Ok(())
}

/// The running process that a pid file names, of whatever program.
struct NamedProcess {
    pid: u32,
    /// Whether a process is PostgreSQL's: all its processes have the data directory as their working directory.
    runs_in: PathBuf,
}

fn named_process(data: &Path) -> Option<NamedProcess> {
    let pid = fs::read_to_string(pid_file(data)).ok()?.lines().next()?.parse().ok()?;
    let runs_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    Some(NamedProcess { pid, runs_in })
}

fn pid_file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}
