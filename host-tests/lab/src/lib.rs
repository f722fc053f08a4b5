//! The region lab: the database nodes of two regions, booted from the user data that EC2 gets, with their network and an AWS emulator.
//!
//! It runs in its own namespaces (processes, mounts, network), so the kernel removes it however a run ends. Each file knows only
//! those above it, or in its line:
//!
//! ```text
//! plan                          the lab as Terraform plans it
//! base_image, network, aws      the nodes' base image, their network, the AWS emulator
//! node                          one machine: power, network, commands
//! database, etcd                a node's PostgreSQL with Patroni, its member of etcd
//! archive, secrets              its backups, its secrets
//! region                        the nodes of a region, and who leads
//! prometheus                    their monitoring
//! ```

mod archive;
mod aws;
mod base_image;
mod database;
mod etcd;
mod network;
mod node;
mod plan;
mod prometheus;
mod region;
mod secrets;

pub use archive::Checksum;
pub use base_image::BaseImage;
pub use node::{Boot, Node};
pub use plan::Plan;
pub use prometheus::{Prometheus, Series};
pub use region::{Region, Roles, variables};

use anyhow::Result;
use aws::Aws;
use dob_namespaces::DIRECTORY;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The primary region.
pub const WEST: &str = "eu-west-1";
/// The recovery region.
pub const CENTRAL: &str = "eu-central-1";
/// The name of the database cluster in both regions, and of the one to which it is upgraded.
const CLUSTER: &str = "dob";
const NEWER: &str = "dob-newer";
/// The address of the clients and of the AWS emulator.
pub const HERE: Ipv4Addr = network::HERE;
/// The bridge that connects all nodes.
pub const BRIDGE: &str = network::BRIDGE;

/// The nodes, the AWS emulator, and the network between them.
pub struct Lab {
    /// The nodes by name.
    pub nodes: BTreeMap<String, Node>,
    admin_password: String,
    _aws: Aws,
}

impl Lab {
    /// Creates the network, the AWS emulator and the nodes, which are off. This process must be inside the run's prepared namespaces.
    pub fn make(plan: Plan, image: &BaseImage) -> Result<Self> {
        network::make()?;
        let aws = Aws::start(Path::new(DIRECTORY), &plan.account)?;
        let admin_password = aws.admin_password.clone();
        // Nodes of the newer PostgreSQL exist only if the image has it.
        let nodes = plan.nodes.into_iter().filter_map(|(name, planned)| {
            let layers = image.layers_of(&planned)?;
            Some(Node::make(layers, &name, planned, &plan.account, &aws).map(|node| (name, node)))
        });
        Ok(Self { nodes: nodes.collect::<Result<_>>()?, admin_password, _aws: aws })
    }

    /// A region's nodes.
    pub fn region(&self, name: &'static str) -> Region<'_> {
        Region { name, cluster: CLUSTER, all: &self.nodes }
    }

    /// The nodes of the newer PostgreSQL, in the primary region.
    pub fn newer(&self) -> Region<'_> {
        Region { name: WEST, cluster: NEWER, all: &self.nodes }
    }

    /// The initial password of dob_admin, with which `/readyz` creates role, database and schema.
    pub fn admin_password(&self) -> &str {
        &self.admin_password
    }

    /// The certificate of the authority that signs the nodes' servers, as PEM.
    pub fn authority(&self) -> Result<String> {
        Ok(std::fs::read_to_string(dob_namespaces::authority())?)
    }

    /// Starts Prometheus, which monitors the nodes of both regions, as on AWS. The newer cluster becomes one of them when pods use it.
    pub async fn watch(&self) -> Result<Prometheus> {
        let watched = self.nodes.values().filter(|node| node.postgresql.cluster == CLUSTER);
        Prometheus::start(Path::new(DIRECTORY), watched).await
    }

    /// The logs of the AWS emulator.
    pub fn logs() -> [PathBuf; 2] {
        ["moto.log", "haproxy.log"].map(|log| Path::new(DIRECTORY).join(log))
    }
}
