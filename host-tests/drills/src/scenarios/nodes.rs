//! A node of the cluster or its container runtime fails, while clients come through the load balancer.

use crate::cluster::{ClusterEnvironment, ROLLED_OUT_WITHIN};
use crate::outcome::Outcome;
use anyhow::{Context, Result, ensure};
use dob_cluster::{Node, eviction_age};
use std::time::{Duration, Instant};

/// How long a zone is partitioned.
const CUT_FOR: Duration = Duration::from_secs(30);
/// How long the load balancer may send new connections to pods that can't be reached.
const OUT_WITHIN: Duration = Duration::from_secs(30);
/// How long a node's pods may take to serve again after its runtime was restarted.
const SERVES_WITHIN: Duration = Duration::from_secs(120);

/// A node loses its power, and gets it back.
pub async fn power_off(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let (_, node) = environment.any_serving_pod()?;
    traffic.mark(&format!("{}'s power cut", node.name));
    node.power_off().await?;
    let took = until_out(environment, node).await?;
    traffic.mark("out of the load balancer");
    node.power_on().await?;
    node.until_ready(&environment.cluster.client).await?;
    environment.ready().await?;
    traffic.mark("three pods serve");
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("out of the load balancer after {} s", took.as_secs())))
}

/// A zone is partitioned, and reconnected.
pub async fn zone_cut(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let (_, node) = environment.any_serving_pod()?;
    traffic.mark(&format!("{} cut off", node.zone));
    node.cut_off()?;
    let took = until_out(environment, node).await?;
    traffic.mark("out of the load balancer");
    traffic.run_for(CUT_FOR).await;
    node.reconnect()?;
    traffic.mark("zone reconnected");
    environment.until_healthy().await?;
    traffic.mark("three pods serve");
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("out of the load balancer after {} s", took.as_secs())))
}

/// Waits until a node that can't be reached gets no new connections. Returns how long that took.
async fn until_out(environment: &ClusterEnvironment, node: &Node) -> Result<Duration> {
    let took = environment.until_out_of_service(|pod| node.has_pod(pod)).await?;
    ensure!(took <= OUT_WITHIN, "{} got new connections for {took:?}, but the limit is {OUT_WITHIN:?}", node.name);
    Ok(took)
}

/// A node is drained, as before its replacement, and comes back empty.
pub async fn drained(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let (_, node) = environment.any_serving_pod()?;
    traffic.mark(&format!("{} drained", node.name));
    let drain = ["drain", node.name, "--ignore-daemonsets", "--delete-emptydir-data"];
    environment.cluster.kubectl_within(ROLLED_OUT_WITHIN, &drain)?;
    environment.until_healthy().await?;
    traffic.mark("three pods serve elsewhere");
    environment.cluster.kubectl(&["uncordon", node.name])?;
    let took = environment.until_in_every_zone().await?;
    traffic.mark("a pod in every zone");
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("a pod in every zone {} s after the node's return", took.as_secs())))
}

/// containerd is restarted on one node.
pub async fn containerd_restarted(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let (_, node) = environment.any_serving_pod()?;
    until_evictable(environment, node).await?;
    let traffic = environment.traffic().await;
    let took = restart_containerd(environment, node).await?;
    traffic.mark(&format!("three pods serve after containerd's restart on {}", node.name));
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("three pods served again after {} s", took.as_secs())))
}

/// The same on all nodes, one after the other.
pub async fn containerd_restarted_everywhere(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let mut longest = Duration::ZERO;
    for node in environment.cluster.nodes.values() {
        until_evictable(environment, node).await?;
        longest = longest.max(restart_containerd(environment, node).await?);
        traffic.mark(&format!("three pods serve after containerd's restart on {}", node.name));
    }
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("three pods served again after {} s at most", longest.as_secs())))
}

/// Waits until the node's pods are old enough for the descheduler to evict them.
async fn until_evictable(environment: &ClusterEnvironment, node: &Node) -> Result<()> {
    environment.cluster.until_pods_have_age(node, eviction_age(environment.pace.0)?).await
}

/// Restarts containerd on a node, and waits until three pods serve, none of them an old one of this node.
async fn restart_containerd(environment: &ClusterEnvironment, node: &Node) -> Result<Duration> {
    let old: Vec<_> =
        environment.serving_pods()?.into_iter().filter(|(pod, _)| node.has_pod(*pod)).map(|(pod, _)| pod).collect();
    let started = Instant::now();
    node.restart_containerd().await?;
    environment.until_out_of_service(|pod| old.contains(&pod)).await?;
    environment.until_healthy().await?;
    let took = started.elapsed();
    ensure!(
        took <= SERVES_WITHIN,
        "after containerd's restart on {}, pods served again only after {took:?}, but the limit is {SERVES_WITHIN:?}",
        node.name
    );
    environment.until_no_orphans().await?;
    Ok(took)
}

/// The shim of a pod is killed. Its Spin is orphaned, and ends when the pod is deleted, as the runbook says.
pub async fn shim_killed(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let (pod, node) = environment.any_serving_pod()?;
    let shim = node.parent_of(&node.process_of(pod)?)?;
    traffic.mark(&format!("the shim of {pod} killed"));
    node.signal(&shim, "KILL")?;
    environment.until_out_of_service(|other| other == pod).await?;
    traffic.mark("out of the load balancer");
    environment.until_healthy().await?;
    traffic.mark("three pods serve");
    let pods = environment.cluster.restarts().await?;
    let (restarted, _) = pods.iter().find(|(_, restarts)| **restarts > 0).context("no pod was started again")?;
    environment.kubectl(&["delete", "pod", restarted, "--wait=false"])?;
    traffic.mark("the pod deleted");
    environment.until_new_pod(&pods).await?;
    environment.until_healthy().await?;
    environment.until_no_orphans().await?;
    traffic.mark("no orphaned Spin is left");
    environment.judge(traffic).await
}
