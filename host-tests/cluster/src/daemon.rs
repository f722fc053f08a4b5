//! A program that runs in the background, with its log, until it is dropped.

use anyhow::{Result, bail};
use dob_support::Process;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// A running program of the cluster.
pub(crate) struct Daemon {
    process: Mutex<Process>,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program. Its log goes to a directory, under the given name.
    pub fn start(directory: &Path, name: &str, command: &mut Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let process = Process::spawn(command, "`make cluster` installs it")?;
        Ok(Self { process: Mutex::new(process), log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.lock().expect("nobody panics while it holds this").id()
    }

    /// Fails if the program has ended by itself; the error has the last line of its log.
    pub fn ensure_running(&self) -> Result<()> {
        if let Some(status) = self.process.lock().expect("nobody panics while it holds this").0.try_wait()? {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it logged nothing");
            bail!("it ended ({status}): {last}; its log is {}", self.log.display());
        }
        Ok(())
    }
}
