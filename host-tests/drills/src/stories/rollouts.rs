//! Versions come and go, and a node goes, while clients are served through the way in.

use crate::cluster::OnCluster;
use crate::held::Outcome;
use anyhow::{Result, ensure};
use dob_lab::{Roles, WEST};
use std::time::Instant;

/// A digest that no registry has.
const MISSING: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// Three versions, one after the other.
pub async fn three(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    for n in 1..=3 {
        traffic.mark(&format!("version {n} rolled out"));
        it.roll_out_next().await?;
    }
    traffic.mark("the last old pod is gone");
    it.judge(traffic).await
}

/// The same without the sleep that keeps a pod serving while the load balancer forgets it: requests must fail.
pub async fn without_pre_stop(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    it.set_pre_stop(0).await?;
    it.roll_out_next().await?;
    let traffic = it.traffic().await;
    traffic.mark("a version rolled out");
    it.roll_out_next().await?;
    traffic.mark("the last old pod is gone");
    let outcome = it.judge(traffic).await?;
    it.restore_pre_stop().await?;
    it.roll_out_next().await?;
    Ok(outcome.with_note("no preStop sleep: a control, which must fail"))
}

/// An image that the registry does not have.
pub async fn digest_missing(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let started = Instant::now();
    traffic.mark("a digest that no registry has");
    let said = it.refused_rollout(MISSING).await?;
    ensure!(said.contains("was put back"), "scripts/rollout says: {said}");
    traffic.mark("put back");
    let took = started.elapsed().as_secs();
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("put back after {took} s")))
}

/// A node loses its power, and gets it back.
pub async fn node_power_off(it: &OnCluster) -> Result<Outcome> {
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

/// The lab's leader loses its power, and its clients come through load balancer, pod and pool.
pub async fn leader_lost(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let west = it.lab()?.region(WEST);
    let Roles { leader, .. } = west.until_leading().await?;
    let traffic = it.traffic().await;
    traffic.mark(&format!("{}'s power cut", leader.name));
    leader.power_off().await?;
    traffic.until_saved().await?;
    leader.power_on().await?;
    let next = west.until_leading().await?.leader;
    traffic.mark("replica streams");
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("{} leads afterwards", next.name)))
}
