//! A node of the cluster goes, or what runs pods there, while clients are served through the way in.

use crate::cluster::{OnCluster, ROLLED_OUT_WITHIN};
use crate::held::Outcome;
use anyhow::{Context, Result, ensure};
use dob_cluster::Node;
use std::time::{Duration, Instant};

/// How long a zone is cut off.
const CUT_FOR: Duration = Duration::from_secs(30);
/// How long a node may take until its pods serve again, when what runs them was restarted.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);

/// A node loses its power, and gets it back.
pub async fn power_off(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let (_, node) = it.a_pod_that_serves()?;
    traffic.mark(&format!("{}'s power cut", node.name));
    node.power_off().await?;
    let took = it.until_out(|pod| node.has_pod(pod)).await?;
    traffic.mark("out of the way in");
    node.power_on().await?;
    it.ready().await?;
    traffic.mark("three pods serve");
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("out of the way in after {} s", took.as_secs())))
}

/// A zone's cable is cut, and mended.
pub async fn zone_cut(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let (_, node) = it.a_pod_that_serves()?;
    traffic.mark(&format!("{} cut off", node.zone));
    node.cut_off()?;
    let took = it.until_out(|pod| node.has_pod(pod)).await?;
    traffic.mark("out of the way in");
    traffic.run_for(CUT_FOR).await;
    node.reconnect()?;
    traffic.mark("mended");
    it.until_whole().await?;
    traffic.mark("three pods serve");
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("out of the way in after {} s", took.as_secs())))
}

/// A node is drained, as for its replacement, and comes back empty.
pub async fn drained(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let (_, node) = it.a_pod_that_serves()?;
    traffic.mark(&format!("{} drained", node.name));
    let drain = ["drain", node.name, "--ignore-daemonsets", "--delete-emptydir-data"];
    it.cluster.kubectl_within(ROLLED_OUT_WITHIN, &drain)?;
    it.until_whole().await?;
    traffic.mark("three pods serve elsewhere");
    it.cluster.kubectl(&["uncordon", node.name])?;
    let took = it.until_in_every_zone().await?;
    traffic.mark("a pod in every zone");
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("a pod in every zone {} s after the node's return", took.as_secs())))
}

/// containerd is restarted on one node.
pub async fn containerd_restarted(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let (_, node) = it.a_pod_that_serves()?;
    let took = restart_containerd(it, node).await?;
    traffic.mark(&format!("whole after containerd's restart on {}", node.name));
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("whole again after {} s", took.as_secs())))
}

/// The same on all nodes, one after the other.
pub async fn containerd_restarted_everywhere(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let mut longest = Duration::ZERO;
    for node in it.cluster.nodes.values() {
        longest = longest.max(restart_containerd(it, node).await?);
        traffic.mark(&format!("whole after containerd's restart on {}", node.name));
    }
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("whole again after {} s at most", longest.as_secs())))
}

/// Restarts containerd on a node, and waits until three pods serve, none of them an old one of this node.
async fn restart_containerd(it: &OnCluster, node: &Node) -> Result<Duration> {
    let old: Vec<_> =
        it.pods_that_serve()?.into_iter().filter(|(pod, _)| node.has_pod(*pod)).map(|(pod, _)| pod).collect();
    let started = Instant::now();
    node.restart_containerd().await?;
    it.until_out(|pod| old.contains(&pod)).await?;
    it.until_whole().await?;
    let took = started.elapsed();
    ensure!(took <= WHOLE_WITHIN, "{} was whole after {took:?}, at most {WHOLE_WITHIN:?}", node.name);
    it.until_no_orphans().await?;
    Ok(took)
}

/// The shim of a pod is killed. Its Spin is nobody's then, and goes with its pod, as the runbook has it.
pub async fn shim_killed(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let (pod, node) = it.a_pod_that_serves()?;
    let shim = node.parent_of(&node.process_of(pod)?)?;
    traffic.mark(&format!("the shim of {pod} killed"));
    node.signal(&shim, "KILL")?;
    it.until_out(|other| other == pod).await?;
    traffic.mark("out of the way in");
    it.until_whole().await?;
    traffic.mark("three pods serve");
    let pods = it.cluster.restarts().await?;
    let (restarted, _) = pods.iter().find(|(_, restarts)| **restarts > 0).context("no pod was started again")?;
    it.kubectl(&["delete", "pod", restarted, "--wait=false"])?;
    traffic.mark("the pod deleted");
    it.until_new_pod(&pods).await?;
    it.until_whole().await?;
    it.until_no_orphans().await?;
    traffic.mark("nothing left behind");
    it.judge(traffic).await
}
