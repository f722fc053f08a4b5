//! A real Spin in place of the imitation: the program that the environment's `SPIN` names, started as its users start it.

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
/// How long it may take until it serves: a large component is compiled first.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end when it is told to.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The program, where there is one.
pub fn program() -> Option<PathBuf> {
    std::env::var_os("SPIN").filter(|program| !program.is_empty()).map(PathBuf::from)
}

fn command(program: &Path, manifest: &Path, listen: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.args(["up", "--from"]).arg(manifest).args(["--listen", &listen.to_string()]);
    // It would print in colours, and its backtraces make errors slow.
    command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A Spin that serves; dropping it ends it, and what it has started.
pub struct Real(pub Process);

impl Real {
    /// Serves the manifest's application on this address. A clock that was set and faults are the imitation's.
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

/// Keeps what the component logs, as long as there is room for it.
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
        // It passes this on to what it has started; killed, it could not.
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = end_within(ENDS_WITHIN, "Spin", &mut self.0.0);
    }
}
