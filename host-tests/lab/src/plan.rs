//! The lab as Terraform plans it: its nodes with their user data, and the AWS resources that they need.

use anyhow::{Context, Result};
use dob_support::{cmd, project_file, read_within};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// The lab's Terraform root.
const ROOT: &str = "host-tests/lab/terraform";
/// The deadline of a Terraform command.
const DEADLINE: Duration = Duration::from_secs(120);

/// The output of the lab's Terraform root.
#[derive(Debug, Deserialize)]
pub struct Plan {
    /// The nodes by name.
    pub nodes: BTreeMap<String, PlannedNode>,
    /// Debian packages of the base image.
    pub packages: Vec<String>,
    /// Patroni's release on PyPI.
    pub patroni: Release,
    /// The AWS resources.
    pub account: Account,
}

/// A release of a program.
#[derive(Debug, Hash, Deserialize)]
pub struct Release {
    pub version: String,
    /// The checksum of its only file.
    pub sha256: String,
}

/// A node as Terraform plans it.
#[derive(Debug, Deserialize)]
pub struct PlannedNode {
    pub address: Ipv4Addr,
    pub region: String,
    /// data, witness or restore
    pub role: String,
    /// The user data as EC2 gets it: compressed, in base64.
    pub user_data: String,
    pub ports: Ports,
    pub postgresql: Postgresql,
}

/// A node's PostgreSQL; a witness has the cluster's.
#[derive(Debug, Clone, Deserialize)]
pub struct Postgresql {
    /// The name of its cluster.
    pub cluster: String,
    pub package: String,
    pub data_directory: PathBuf,
}

/// A node's ports.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Ports {
    pub postgresql: u16,
    pub patroni: u16,
    pub node_exporter: u16,
    pub postgres_exporter: u16,
}

/// Names and sizes that the nodes and AWS share.
#[derive(Debug, Deserialize)]
pub struct Account {
    /// Names of the database clusters.
    pub clusters: Vec<String>,
    /// By region.
    pub buckets: BTreeMap<String, String>,
    pub secrets: Secrets,
    pub data_device: String,
    pub data_volume_mb: u64,
}

/// Names of the secrets.
#[derive(Debug, Deserialize)]
pub struct Secrets {
    pub certificate_authority: String,
    pub passwords: String,
}

#[derive(Deserialize)]
struct Output<T> {
    value: T,
}

impl Plan {
    /// Renders the lab with Terraform, which keeps nothing but the cache of `terraform init`.
    pub fn render() -> Result<Self> {
        let state = std::env::temp_dir().join(format!("dob-lab-{}.tfstate", std::process::id()));
        let state_option = format!("-state={}", state.display());
        let terraform = |arguments: &[&str]| {
            let common = ["-input=false", "-no-color"].iter().filter(|_| arguments[0] != "output");
            let arguments = arguments.iter().chain(common);
            read_within(DEADLINE, &cmd("terraform", arguments).dir(project_file(ROOT)))
        };
        terraform(&["init"])?;
        let printed = terraform(&["apply", "-auto-approve", &state_option])
            .and_then(|_| terraform(&["output", "-json", "-no-color", &state_option]));
        // It does not exist if Terraform has failed early.
        let _ = std::fs::remove_file(&state);
        #[derive(Deserialize)]
        struct Outputs {
            nodes: Output<BTreeMap<String, PlannedNode>>,
            packages: Output<Vec<String>>,
            patroni: Output<Release>,
            account: Output<Account>,
        }
        let outputs: Outputs = serde_json::from_str(&printed?).context("terraform's output")?;
        Ok(Self {
            nodes: outputs.nodes.value,
            packages: outputs.packages.value,
            patroni: outputs.patroni.value,
            account: outputs.account.value,
        })
    }
}
