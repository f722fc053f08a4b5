//! The servers that are compared, each in a process of its own: this program, started again.

use anyhow::{Context, Result, bail};
use dob_spin::{Manifest, VARIABLE_PREFIX};
use dob_support::{Process, project_file};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a server prints before its address.
const SERVING: &str = "Serving http://";
/// How long a server may take to print that.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A server that can be put under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// This project's component on the test host.
    Component,
    /// The smallest component that runs one statement, on the test host.
    OneQuery,
    /// The smallest component, on the test host.
    Constant,
    /// The native server.
    Native,
}

/// A running server; dropping it ends its process.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Asks it for single things.
    pub client: reqwest::Client,
    process: Process,
}

impl Server {
    /// Starts a server in a process of its own and waits until it listens.
    pub fn start(subject: Subject, variables: &BTreeMap<String, String>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        match subject.manifest() {
            Some(manifest) => command.args(["serve", "--listen", "127.0.0.1:0", "--manifest"]).arg(manifest),
            None => command.arg("native"),
        };
        // Backtraces make errors slow, and a production server has them off.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command
            .envs(variables.iter().map(|(name, value)| (format!("{VARIABLE_PREFIX}{}", name.to_uppercase()), value)));
        let mut process = Process::spawn(command.stdout(Stdio::piped()), "it is this program, was it moved?")?;
        let printed =
            process.until_printed(SERVING, STARTS_WITHIN).with_context(|| format!("the server {subject:?}"))?;
        let address = printed.trim_end().strip_prefix(SERVING).context("an address")?.parse()?;
        Ok(Self { address, client: reqwest::Client::builder().no_proxy().build()?, process })
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Subject {
    /// The manifest of a component; none for the native server.
    pub fn manifest(self) -> Option<PathBuf> {
        let path = match self {
            Self::Component => "spin.toml",
            Self::OneQuery => "host-tests/benchmark/floors/one-query/spin.toml",
            Self::Constant => "host-tests/benchmark/floors/constant/spin.toml",
            Self::Native => return None,
        };
        Some(project_file(path))
    }

    /// The component's size in bytes; none for the native server.
    pub fn wasm_size(self) -> Result<Option<u64>> {
        let Some(manifest) = self.manifest() else { return Ok(None) };
        Ok(Some(std::fs::metadata(Manifest::read(&manifest)?.source)?.len()))
    }
}

/// Builds the components that this one is compared with; where they are up to date, nothing happens.
pub fn build_floors() -> Result<()> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    build.args(["build", "--quiet", "--locked", "--profile", "component", "--target", "wasm32-wasip2"]);
    // Where their manifests look for them, wherever CARGO_TARGET_DIR has the rest.
    build.args(["--target-dir", "target", "--package", "constant", "--package", "one-query"]);
    build.current_dir(project_file(""));
    if !build.status().context("can't run cargo")?.success() {
        bail!("the components to compare with can't be built; cargo's own words are above");
    }
    Ok(())
}
