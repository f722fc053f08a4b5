//! The region lab: the database nodes of two regions, booted from the user data that EC2 gets, on this machine.
//!
//! All of it lives in namespaces of its own (processes, mounts, network), so the kernel removes it however a run ends.

mod aws;
mod base;
mod namespaces;
mod node;
mod prometheus;
mod terraform;

pub use base::Base;
pub use namespaces::{inside, lab_command};
pub use node::{Boot, Node, patroni_role};
pub use prometheus::{Prometheus, Series};
pub use terraform::Plan;

use anyhow::{Context, Result, bail};
use aws::Aws;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything a run makes; a memory file system that only the run sees.
const DIRECTORY: &str = "/run/dob-lab";
/// Where the clients are, and AWS.
pub const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const BRIDGE: &str = "br-lab";
/// How long the nodes may take to do what they do by themselves.
const PATIENCE: Duration = Duration::from_secs(120);

/// The nodes, AWS, and the network between them.
pub struct Lab {
    /// The nodes by name; those that take part are powered on.
    pub nodes: BTreeMap<String, Node>,
    /// Of dob_admin, with which `/readyz` makes role, database and schema.
    pub admin_password: String,
    _aws: Aws,
}

impl Lab {
    /// Has Prometheus watch all nodes.
    pub async fn watch(&self) -> Result<Prometheus> {
        Prometheus::start(Path::new(DIRECTORY), &self.nodes).await
    }

    /// Makes the network and AWS, and the nodes without powering them on. Call it inside the lab's namespaces only.
    pub fn make(plan: Plan, base: &Base) -> Result<Self> {
        let directory = PathBuf::from(DIRECTORY);
        namespaces::own_directory(&directory)?;
        namespaces::bridge(BRIDGE, &[(HERE, 16), (Ipv4Addr::new(169, 254, 169, 254), 32)])?;
        let aws = Aws::start(&directory, HERE, &plan.account)?;
        let admin_password = aws.admin_password.clone();
        let nodes = plan.nodes.into_iter().map(|(name, planned)| {
            let node = Node::make(&directory, base, &name, planned, &plan.account, &aws)?;
            Ok((name, node))
        });
        Ok(Self { nodes: nodes.collect::<Result<_>>()?, admin_password, _aws: aws })
    }

    /// A node that the plan has.
    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap_or_else(|| panic!("the lab's plan has no node {name}"))
    }

    /// The nodes of a region that form its cluster, data nodes first.
    pub fn cluster(&self, region: &str) -> Vec<String> {
        let of = |role: &'static str| {
            self.nodes.values().filter(move |node| node.region == region && node.role == role).map(|n| n.name.clone())
        };
        of("data").chain(of("witness")).collect()
    }

    /// The data nodes of a region.
    pub fn data_nodes(&self, region: &str) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(move |node| node.region == region && node.role == "data")
    }

    /// Powers on a region's cluster.
    pub async fn power_on(&mut self, region: &str) -> Result<()> {
        for name in self.cluster(region) {
            self.node(&name).power_on().await?;
        }
        Ok(())
    }

    /// The name of the node that leads a region in this role, if one does.
    pub async fn leader(&self, region: &str, role: &str) -> Option<String> {
        for node in self.data_nodes(region) {
            if node.patroni_role().await.as_deref() == Some(role) {
                return Some(node.name.clone());
            }
        }
        None
    }

    /// Waits until a region has a leader in this role that its replica streams from, and names both. A standby leader must be
    /// streamed to as well.
    pub async fn healthy(&self, region: &str, role: &str) -> Result<(String, String)> {
        let started = Instant::now();
        loop {
            let mut roles = BTreeMap::new();
            for node in self.data_nodes(region) {
                roles.insert(node.patroni_role().await.unwrap_or_default(), node.name.clone());
            }
            if let (Some(leader), Some(replica)) = (roles.get(role), roles.get("replica"))
                && self.streams(leader, replica).await
                && (role == "primary" || self.receives(leader).await)
            {
                return Ok((leader.clone(), replica.clone()));
            }
            if started.elapsed() > PATIENCE {
                bail!("{region} has no {role} with a streaming replica after {PATIENCE:?}; its nodes are {roles:?}");
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn streams(&self, leader: &str, replica: &str) -> bool {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid
             WHERE application_name = '{replica}' AND state = 'streaming'"
        );
        self.nodes[leader].sql("postgres", &sql).await.is_ok_and(|count| count == "1")
    }

    async fn receives(&self, standby_leader: &str) -> bool {
        let sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        self.nodes[standby_leader].sql("postgres", sql).await.is_ok_and(|count| count == "1")
    }

    /// Where the host's certificates of trust are: the authority of the nodes' servers.
    pub fn authority() -> PathBuf {
        Path::new(DIRECTORY).join("authority.crt")
    }

    /// What lets the component serve in a region.
    pub fn variables(&self, region: &str, user: &str, password: &str) -> Result<BTreeMap<String, String>> {
        let nodes: Vec<&Node> = self.data_nodes(region).collect();
        let [a, b] = &nodes[..] else { bail!("{region} has {} data nodes, not two", nodes.len()) };
        let (port, a, b) = (a.ports.postgresql.to_string(), a.address.to_string(), b.address.to_string());
        let variables = [
            ("pg_host_a", a.as_str()),
            ("pg_host_b", &b),
            ("pg_replica_host_a", &a),
            ("pg_replica_host_b", &b),
            ("pg_port", &port),
            ("pg_database", "dob_api"),
            ("pg_user", user),
            ("pg_password", password),
            ("pg_sslmode", "require"),
            ("pg_admin_user", "dob_admin"),
            ("pg_admin_password", &self.admin_password),
        ];
        Ok(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

/// Runs a command to its end and gives what it printed, without the last line's end.
pub(crate) fn run(command: &mut std::process::Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("can't run {:?}: `make setup-lab`", command.get_program()))?;
    if !output.status.success() {
        bail!("{:?} failed: {}", command.get_program(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
