//! What pods may do, and what is done to them.

use crate::cluster::OnCluster;
use crate::held::Outcome;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// What the kernel must say of the process that serves.
const CONFINED: [(&str, &str); 5] = [
    // DAC_OVERRIDE, and nothing else.
    ("CapEff", "0000000000000002"),
    ("CapPrm", "0000000000000002"),
    ("Seccomp", "2"),
    ("NoNewPrivs", "1"),
    ("Uid", "65532\t65532\t65532\t65532"),
];
/// How long a frozen pod may go on getting connections, and be missing.
const OUT_WITHIN: Duration = Duration::from_secs(15);
const BACK_WITHIN: Duration = Duration::from_secs(30);
const CUT_OFF_FOR: Duration = Duration::from_secs(90);

/// What the process of each serving pod may do.
pub async fn confined(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    for (pod, node) in it.pods_that_serve()? {
        let status = node.status_of(&node.process_of(pod)?)?;
        for (field, wanted) in CONFINED {
            let found = status.get(field).with_context(|| format!("the kernel says no {field}"))?;
            ensure!(found == wanted, "the process of {pod} has {field} {found}, not {wanted}");
        }
    }
    Ok(Outcome::noted("one capability, DAC_OVERRIDE; user 65532, seccomp, no new privileges"))
}

/// Spin is stopped in one pod, as if it hung.
pub async fn frozen(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let (pod, node) = it.a_pod_that_serves()?;
    let process = node.process_of(pod)?;
    traffic.mark(&format!("Spin stopped in {pod}"));
    let started = Instant::now();
    node.signal(&process, "STOP")?;
    let out = it.until_out(|other| other == pod).await?;
    traffic.mark("out of the way in");
    it.until_whole().await?;
    let back = started.elapsed();
    traffic.mark("three pods serve");
    let outcome = it.judge(traffic).await?;
    ensure!(out <= OUT_WITHIN, "it got connections for {out:?}, at most {OUT_WITHIN:?}");
    ensure!(back <= BACK_WITHIN, "it was missing for {back:?}, at most {BACK_WITHIN:?}");
    Ok(outcome.with_note(format!("out after {} s, back after {} s", out.as_secs(), back.as_secs())))
}

/// Somebody deletes the Deployment.
pub async fn deployment_deleted(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    traffic.mark("the Deployment deleted");
    let old = it.pods_that_serve()?;
    it.cluster.kubectl(&["--namespace", "dob-api", "delete", "deployment", "dob-api", "--wait=false"])?;
    it.until_out(|pod| old.iter().any(|(one, _)| *one == pod)).await?;
    it.until_whole().await?;
    traffic.mark("three new pods serve");
    it.judge(traffic).await
}

/// No node reaches the control plane.
pub async fn control_plane_cut_off(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    traffic.mark("nodes cut off from the control plane");
    it.cluster.cut_off_control_plane()?;
    traffic.run_for(CUT_OFF_FOR).await;
    it.cluster.reconnect_control_plane()?;
    traffic.mark("reconnected");
    it.until_whole().await?;
    traffic.mark("whole");
    it.judge(traffic).await
}
