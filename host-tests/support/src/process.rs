//! A process that ends with its owner.

use anyhow::{Context, Result, bail};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;
use wait_timeout::ChildExt;

/// A running program; dropping this kills it and waits for its end.
pub struct Process(pub Child);

impl Process {
    /// Starts a program. `hint` says what to do where it is missing.
    pub fn spawn(command: &mut Command, hint: &str) -> Result<Self> {
        let child = command.spawn();
        child.map(Self).with_context(|| format!("{} is missing: {hint}", command.get_program().to_string_lossy()))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for a program's end; `what` names it where it does not end in time.
pub fn end_within(deadline: Duration, what: &str, child: &mut Child) -> Result<ExitStatus> {
    match child.wait_timeout(deadline)? {
        Some(status) => Ok(status),
        None => bail!("{what} does not end within {deadline:?}"),
    }
}
