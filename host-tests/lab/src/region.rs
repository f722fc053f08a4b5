//! A region's nodes and their roles.

use crate::node::{Node, PATIENCE};
use anyhow::{Context, Result, anyhow, bail, ensure};
use dob_support::eventually;
use std::collections::BTreeMap;

/// The nodes of a database cluster in a region.
#[derive(Clone, Copy)]
pub struct Region<'a> {
    /// AWS's name of the region.
    pub name: &'static str,
    pub(crate) cluster: &'static str,
    pub(crate) all: &'a BTreeMap<String, Node>,
}

/// The role of each node in a healthy region.
#[derive(Clone, Copy)]
pub struct Roles<'a> {
    /// It accepts writes, or in a standby cluster it receives the other region's WAL.
    pub leader: &'a Node,
    /// It streams from the leader.
    pub replica: &'a Node,
    /// It runs only etcd.
    pub witness: &'a Node,
}

impl<'a> Region<'a> {
    /// The nodes of its cluster, data nodes first.
    pub fn nodes(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.with_role("data").chain(self.with_role("witness"))
    }

    /// The nodes with a PostgreSQL.
    pub fn data_nodes(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        self.with_role("data")
    }

    /// The node on which backups are restored; it is off until then.
    pub fn restore_node(&self) -> Result<&'a Node> {
        self.with_role("restore").next().with_context(|| format!("{} has no node to restore on", self.name))
    }

    fn with_role(&self, role: &'static str) -> impl Iterator<Item = &'a Node> + use<'a> {
        let (name, cluster) = (self.name, self.cluster);
        let is_here = move |node: &&Node| node.region == name && node.postgresql.cluster == cluster;
        self.all.values().filter(move |node| is_here(node) && node.role == role)
    }

    /// Powers on all nodes of its cluster.
    pub async fn power_on(&self) -> Result<()> {
        for node in self.nodes() {
            node.power_on().await?;
        }
        Ok(())
    }

    /// Cuts the power of all nodes of its cluster.
    pub async fn power_off(&self) -> Result<()> {
        for node in self.nodes() {
            node.power_off().await?;
        }
        Ok(())
    }

    /// Partitions it from another region: nothing that it sends arrives there, answers included.
    pub fn cut_off_from(&self, other: &Region) -> Result<()> {
        self.nodes().try_for_each(|node| node.drop_packets_to(other.nodes()))
    }

    /// Undoes `cut_off_from`.
    pub fn reconnect(&self) -> Result<()> {
        self.nodes().try_for_each(Node::pass_packets)
    }

    /// The node that accepts writes, if there is one.
    pub async fn primary(&self) -> Option<&'a Node> {
        for node in self.data_nodes() {
            if node.patroni_role().await.as_deref() == Some("primary") {
                return Some(node);
            }
        }
        None
    }

    /// Waits until it has a primary from which its replica streams.
    pub async fn until_leading(&self) -> Result<Roles<'a>> {
        self.until_healthy("primary").await
    }

    /// Waits until it follows the other region: its standby leader receives WAL, and its replica streams from the standby leader.
    pub async fn until_following(&self) -> Result<Roles<'a>> {
        self.until_healthy("standby_leader").await
    }

    async fn until_healthy(&self, role: &str) -> Result<Roles<'a>> {
        let what = format!("the cluster {} in {} has a {role} with a streaming replica", self.cluster, self.name);
        eventually(&what, PATIENCE, async || {
            let mut roles = BTreeMap::new();
            for node in self.data_nodes() {
                roles.insert(node.patroni_role().await.unwrap_or("no answer".to_owned()), node);
            }
            let (Some(leader), Some(replica)) = (roles.get(role), roles.get("replica")) else {
                bail!("its nodes are {:?}", roles.keys());
            };
            ensure!(streams(leader, replica).await, "{} does not stream from {}", replica.name, leader.name);
            ensure!(role == "primary" || receives(leader).await, "{} receives no WAL", leader.name);
            let witness = self.with_role("witness").next().context("no witness")?;
            Ok(Roles { leader, replica, witness })
        })
        .await
    }

    /// The component's variables for this region.
    pub fn variables(&self, user: &str, password: &str, admin_password: &str) -> Result<BTreeMap<String, String>> {
        Ok(variables(self.pair()?, user, password, admin_password))
    }

    /// Its two data nodes.
    pub fn pair(&self) -> Result<[&'a Node; 2]> {
        let nodes: Vec<&Node> = self.data_nodes().collect();
        let count = nodes.len();
        nodes.try_into().map_err(|_| anyhow!("{} has {count} data nodes, not two", self.name))
    }
}

/// The component's variables for two hosts, of which one accepts writes.
pub fn variables(hosts: [&Node; 2], user: &str, password: &str, admin_password: &str) -> BTreeMap<String, String> {
    let [a, b] = hosts;
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
        ("pg_admin_password", admin_password),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

async fn streams(leader: &Node, replica: &Node) -> bool {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid
         WHERE application_name = '{}' AND state = 'streaming'",
        replica.name
    );
    leader.sql("postgres", &sql).await.is_ok_and(|count| count == "1")
}

async fn receives(standby_leader: &Node) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    standby_leader.sql("postgres", sql).await.is_ok_and(|count| count == "1")
}
