//! A real Spin in place of the imitation: the program that the environment's `SPIN` names, started as users start it.

use crate::app::Options;
use crate::variables::VARIABLE_PREFIX;
use anyhow::{Context, Result};
use dob_support::{Process, end_within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use wasmtime_wasi::p2::OutputStream;

/// What Spin prints before its address.
const SERVING: &str = "Serving http://";
/// How long it may take to start: it compiles the component first.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The program that `SPIN` names, if it is set.
pub fn program() -> Option<PathBuf> {
    std::env::var_os("SPIN").filter(|program| !program.is_empty()).map(PathBuf::from)
}

fn command(program: &Path, manifest: &Path, listen: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.args(["up", "--from"]).arg(manifest).args(["--listen", &listen.to_string()]);
    // Without colours, and without backtraces, which make errors slow.
    command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A running Spin. Dropping it ends it and its child processes.
pub struct Real(pub Process);

impl Real {
    /// Serves the manifest's application on this address. Only the imitation supports a set clock and faults.
    pub fn start(program: &Path, manifest: &Path, options: &Options, listen: SocketAddr) -> Result<Self> {
        let mut command = command(program, manifest, listen);
        let name = |name: &String| format!("{VARIABLE_PREFIX}{}", name.to_uppercase());
        command.envs(options.variables.iter().map(|(variable, value)| (name(variable), value)));
        if options.stderr.is_some() {
            command.stderr(Stdio::piped());
        }
        let mut spin = Self(Process::spawn(&mut command, "SPIN must name the program of Spin")?);
        if let (Some(log), Some(stderr)) = (options.stderr.clone(), spin.0.0.stderr.take()) {
            std::thread::spawn(move || keep(BufReader::new(stderr), log));
        }
        spin.0.until_printed(SERVING, SERVES_WITHIN).context("Spin does not serve")?;
        Ok(spin)
    }
}

/// Keeps the component's log, as long as the buffer has room.
fn keep(stderr: impl BufRead, mut log: impl OutputStream) {
    for line in stderr.lines().map_while(Result::ok) {
        let line = line + "\n";
        if log.check_write().is_ok_and(|room| room >= line.len()) {
            let _ = log.write(line.into());
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // Spin forwards this signal to its child processes; SIGKILL would leave them running.
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = end_within(ENDS_WITHIN, "Spin", &mut self.0.0);
    }
}
