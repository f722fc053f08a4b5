//! The servers that are compared, each in a process of its own: this program, started again.

use crate::native;
use anyhow::{Context, Result, bail};
use dob_host::spin::{self, App, Manifest, Options};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Spin's prefix for a variable in the environment.
pub const VARIABLE: &str = "SPIN_VARIABLE_";

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
    /// `http://` and the address.
    pub url: String,
    /// Asks it for single things.
    pub client: reqwest::Client,
    process: Child,
}

impl Server {
    /// Starts a server in a process of its own and waits until it listens.
    pub fn start(subject: Subject, variables: &BTreeMap<String, String>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        match subject.manifest() {
            Some(manifest) => command.arg("host").arg(manifest),
            None => command.arg("native"),
        };
        // Backtraces make errors slow, and a production server has them off.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command.envs(variables.iter().map(|(name, value)| (format!("{VARIABLE}{}", name.to_uppercase()), value)));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("piped")?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut server = Self { url: String::new(), client, process };
        BufReader::new(output).read_line(&mut server.url)?;
        server.url.truncate(server.url.trim_end().len());
        if server.url.is_empty() {
            bail!("the server {subject:?} does not start; its own words are above");
        }
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Subject {
    /// The manifest of a component; none for the native server.
    pub fn manifest(self) -> Option<PathBuf> {
        let path = match self {
            Self::Component => "../spin.toml",
            Self::OneQuery => "benches/components/one-query/spin.toml",
            Self::Constant => "benches/components/constant/spin.toml",
            Self::Native => return None,
        };
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
    }

    /// The component's size in bytes; none for the native server.
    pub fn wasm_size(self) -> Result<Option<u64>> {
        let Some(manifest) = self.manifest() else { return Ok(None) };
        Ok(Some(std::fs::metadata(Manifest::read(&manifest)?.source)?.len()))
    }
}

/// Builds the components that this one is compared with; where they are up to date, nothing happens.
pub fn build_floors() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2", "--target-dir"]);
    build.arg(directory.join("target/components")).current_dir(directory.join("benches/components"));
    // What cargo sets for this program is not meant for that build.
    build.env_remove("CARGO_TARGET_DIR").stdout(Stdio::null());
    if !build.status().context("can't run cargo")?.success() {
        bail!("the components to compare with can't be built; cargo's own words are above");
    }
    Ok(())
}

/// Serves a component on the test host until the parent ends.
pub async fn host(manifest: &Path) -> Result<()> {
    let variable = |(name, value): (String, String)| Some((name.strip_prefix(VARIABLE)?.to_lowercase(), value));
    let options = Options { variables: std::env::vars().filter_map(variable).collect(), ..Options::default() };
    let app = App::load(&Manifest::read(manifest)?, options)?;
    let server = spin::Server::start(app, (Ipv4Addr::LOCALHOST, 0).into()).await?;
    println!("{}", server.url());
    native::parent_ended().await
}
