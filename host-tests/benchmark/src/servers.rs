//! The servers that are compared, each in its own process: this program, started again.

use anyhow::{Context, Result, bail};
use dob_spin::{Build, Manifest, Options, Real, VARIABLE_PREFIX, real_spin};
use dob_support::{Process, free_port, project_file};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The text that a server prints before its address.
const SERVING: &str = "Serving http://";
/// How long a server may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// What a measured server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Implementation {
    /// This project's component, on the imitation of Spin.
    Component(Build),
    /// The smallest component that runs one statement, on the imitation of Spin.
    OneQuery(Build),
    /// The smallest component, on the imitation of Spin.
    Constant(Build),
    /// The native server.
    Native,
}

/// A running server. Dropping it ends its process.
pub struct Server {
    /// The address on which it listens.
    pub address: SocketAddr,
    /// A client for single requests.
    pub client: reqwest::Client,
    running: Running,
}

enum Running {
    /// This program, started again.
    Own(Process),
    /// The Spin that `SPIN` names.
    Spin(Real),
}

impl Server {
    /// Starts a server in its own process, and waits until it listens.
    pub fn start(implementation: Implementation, variables: &BTreeMap<String, String>) -> Result<Self> {
        let (address, running) = match (implementation.manifest(), real_spin()) {
            (Some(manifest), Some(spin)) => {
                let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
                let options = Options { variables: variables.clone(), ..Options::default() };
                (address, Running::Spin(Real::start(&spin, &manifest, &options, address)?))
            }
            _ => Self::start_own(implementation, variables)?,
        };
        Ok(Self { address, client: reqwest::Client::builder().no_proxy().build()?, running })
    }

    fn start_own(
        implementation: Implementation,
        variables: &BTreeMap<String, String>,
    ) -> Result<(SocketAddr, Running)> {
        let mut command = Command::new(std::env::current_exe()?);
        match implementation.manifest() {
            Some(manifest) => command.args(["serve", "--listen", "127.0.0.1:0", "--manifest"]).arg(manifest),
            None => command.arg("native"),
        };
        // Backtraces make errors slow; in production they are off.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command
            .envs(variables.iter().map(|(name, value)| (format!("{VARIABLE_PREFIX}{}", name.to_uppercase()), value)));
        let mut process = Process::spawn(command.stdout(Stdio::piped()), "it is this program, was it moved?")?;
        let printed =
            process.until_printed(SERVING, STARTS_WITHIN).with_context(|| format!("the server {implementation:?}"))?;
        let address = printed.trim_end().strip_prefix(SERVING).context("an address")?.parse()?;
        Ok((address, Running::Own(process)))
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::Own(process) | Running::Spin(Real(process)) => process.id(),
        }
    }
}

impl Implementation {
    /// The manifest of a component; none for the native server.
    pub fn manifest(self) -> Option<PathBuf> {
        let floor = |name: &str, build| {
            let build = if build == Build::Wasi02 { "p2" } else { "p3" };
            project_file(format!("host-tests/benchmark/floors/{name}-{build}/spin.toml"))
        };
        match self {
            Self::Component(build) => Some(build.manifest()),
            Self::OneQuery(build) => Some(floor("one-query", build)),
            Self::Constant(build) => Some(floor("constant", build)),
            Self::Native => None,
        }
    }

    /// The size of the component in bytes; none for the native server.
    pub fn wasm_size(self) -> Result<Option<u64>> {
        let Some(manifest) = self.manifest() else { return Ok(None) };
        Ok(Some(std::fs::metadata(Manifest::read(&manifest)?.source)?.len()))
    }
}

/// Builds the components with which this project's is compared, unless they are up to date.
pub fn build_floors() -> Result<()> {
    for build in ["p2", "p3"] {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "--profile", "component", "--target", "wasm32-wasip2"]);
        // Their manifests expect them here, wherever CARGO_TARGET_DIR is.
        cargo.args(["--target-dir", "target"]);
        cargo.args(["--package", &format!("constant-{build}"), "--package", &format!("one-query-{build}")]);
        cargo.current_dir(project_file(""));
        if !cargo.status().context("can't run cargo")?.success() {
            bail!("the components to compare with can't be built; cargo's output above says why");
        }
    }
    Ok(())
}
