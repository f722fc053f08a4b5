//! Versions come and go while clients are served through the way in.

use crate::cluster::{API, OnCluster};
use crate::held::Outcome;
use anyhow::{Result, ensure};
use dob_cluster::Fault;
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
    put_back(it, "a digest that no registry has", MISSING).await
}

/// A version that reaches no database.
pub async fn never_ready(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let digest = it.push(Some(Fault::NoDatabase)).await?;
    put_back(it, "a version that never gets ready", &digest).await
}

/// Rolls out what must be put back.
async fn put_back(it: &OnCluster, what: &str, digest: &str) -> Result<Outcome> {
    let traffic = it.traffic().await;
    let started = Instant::now();
    traffic.mark(what);
    let said = it.refused_rollout(digest).await?;
    ensure!(said.contains("was put back"), "scripts/rollout says: {said}");
    it.until_whole().await?;
    traffic.mark("put back");
    let took = started.elapsed().as_secs();
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("put back after {took} s")))
}

/// A version that gets ready and can't save; whoever sees it rolls the one before out again.
pub async fn cannot_save(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let digest = it.push(Some(Fault::CannotSave)).await?;
    let traffic = it.traffic().await;
    traffic.mark("a version that can't save");
    let before = it.roll_out(&digest).await?;
    traffic.mark("the version before");
    it.roll_out(&before).await?;
    let took = traffic.until_saved().await?;
    traffic.mark("the last pod that can't save is gone");
    let outcome = it.judge(traffic).await?;
    Ok(outcome.with_note(format!("saving {} s after it was taken back", took.as_secs())))
}

/// The schema step fails, as where the administrator's password is wrong, while the figures rise of how pods come and go.
pub async fn schema_fails(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let pods = it.cluster.restarts().await?;
    it.raise_pre_stop().await?;
    let role = it.change_secret("pg_user", "dob_api_other").await?;
    let password = it.change_secret("pg_admin_password", "a-wrong-one").await?;
    traffic.mark("a version whose schema step can't make its role");
    let digest = it.push(None).await?;
    let said = it.refused_rollout(&digest).await?;
    ensure!(said.contains("dob-api-schema was put back"), "scripts/rollout says: {said}");
    let after = it.cluster.restarts().await?;
    ensure!(after == pods, "the pods that serve were {pods:?}, and are {after:?}");
    it.change_secret("pg_admin_password", &password).await?;
    traffic.mark("the same with the right password");
    it.roll_out(&digest).await?;
    traffic.mark("rolled out");
    let outcome = it.judge(traffic).await?;
    it.change_secret("pg_user", &role).await?;
    it.restore_pre_stop().await?;
    it.roll_out_next().await?;
    Ok(outcome)
}

/// Somebody restarts the Deployment.
pub async fn restarted(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    traffic.mark("rollout restart");
    it.restart_pods(API)?;
    it.until_whole().await?;
    traffic.mark("the last old pod is gone");
    it.judge(traffic).await
}

/// The operator goes in the middle of a rollout. Pods come and go without it; what served can't be noted, and nothing new applied.
pub async fn operator_killed(it: &OnCluster) -> Result<Outcome> {
    it.ready().await?;
    let traffic = it.traffic().await;
    let (digest, pods) = (it.push(None).await?, it.cluster.restarts().await?);
    traffic.mark("a version rolled out");
    let (said, killed) = tokio::join!(it.refused_rollout(&digest), async {
        it.until_new_pod(&pods).await?;
        it.cluster.stop_operator();
        traffic.mark("the operator killed");
        anyhow::Ok(())
    });
    killed?;
    let said = said?;
    ensure!(said.contains("dob-api is rolled out, but"), "scripts/rollout says: {said}");
    it.until_whole().await?;
    traffic.mark("the last old pod is gone");
    let said = it.refused_rollout(&digest).await?;
    ensure!(said.contains("Nothing was applied"), "scripts/rollout says: {said}");
    it.cluster.start_operator().await?;
    traffic.mark("the operator is back");
    it.roll_out(&digest).await?;
    traffic.mark("run again");
    it.judge(traffic).await
}
