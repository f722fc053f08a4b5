//! Rollouts, while clients come through the load balancer.

use crate::cluster::{API, ClusterEnvironment};
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use dob_cluster::Fault;
use std::time::Instant;

/// A digest that no registry has.
const MISSING: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// Three versions, one after the other.
pub async fn three(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    for n in 1..=3 {
        traffic.mark(&format!("version {n} rolled out"));
        environment.roll_out_next().await?;
    }
    traffic.mark("the last old pod is gone");
    environment.judge(traffic).await
}

/// The same without the preStop sleep, during which a pod serves until the load balancer has removed it. Requests must fail.
pub async fn without_pre_stop(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    environment.set_pre_stop(0).await?;
    environment.roll_out_next().await?;
    let traffic = environment.traffic().await;
    traffic.mark("a version rolled out");
    environment.roll_out_next().await?;
    traffic.mark("the last old pod is gone");
    let outcome = environment.judge(traffic).await?;
    environment.restore_pre_stop().await?;
    environment.roll_out_next().await?;
    Ok(outcome.with_note("no preStop sleep: a control, which must fail"))
}

/// An image that the registry does not have.
pub async fn digest_missing(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    roll_back(environment, "a digest that no registry has", MISSING).await
}

/// A version that can't reach the database.
pub async fn never_ready(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let digest = environment.push(Some(Fault::NoDatabase)).await?;
    roll_back(environment, "a version that never becomes ready", &digest).await
}

/// Rolls out a version that must be rolled back.
async fn roll_back(environment: &ClusterEnvironment, what: &str, digest: &str) -> Result<Outcome> {
    let traffic = environment.traffic().await;
    let started = Instant::now();
    traffic.mark(what);
    let said = environment.refused_rollout(digest).await?;
    ensure!(said.contains("was rolled back"), "scripts/rollout says: {said}");
    environment.until_healthy().await?;
    traffic.mark("rolled back");
    let took = started.elapsed().as_secs();
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("rolled back after {took} s")))
}

/// A version that becomes ready but can't save. An operator rolls out the previous one again.
pub async fn cannot_save(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let digest = environment.push(Some(Fault::CannotSave)).await?;
    let traffic = environment.traffic().await;
    traffic.mark("a version that can't save");
    let before = environment.roll_out(&digest).await?;
    traffic.mark("the previous version rolled out again");
    let (rolled_out, took) = tokio::join!(environment.roll_out(&before), traffic.until_saved());
    rolled_out?;
    traffic.mark("the last pod that can't save is gone");
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("saves succeeded {} s after the rollback began", took?.as_secs())))
}

/// The schema step fails, as with a wrong administrator's password, in a rollout that also raises the preStop time.
pub async fn schema_fails(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let pods = environment.cluster.restarts().await?;
    environment.raise_pre_stop().await?;
    let role = environment.change_secret("pg_user", "dob_api_other").await?;
    let password = environment.change_secret("pg_admin_password", "a-wrong-one").await?;
    environment.until_secrets_copied().await?;
    traffic.mark("a version whose schema step can't make its role");
    let digest = environment.push(None).await?;
    let said = environment.refused_rollout(&digest).await?;
    ensure!(said.contains("dob-api-schema was rolled back"), "scripts/rollout says: {said}");
    let after = environment.cluster.restarts().await?;
    ensure!(after == pods, "serving pods were restarted or replaced: {pods:?} before, {after:?} after");
    environment.change_secret("pg_admin_password", &password).await?;
    environment.until_secrets_copied().await?;
    traffic.mark("the same with the right password");
    environment.roll_out(&digest).await?;
    traffic.mark("rolled out");
    let outcome = environment.judge(traffic).await?;
    environment.change_secret("pg_user", &role).await?;
    environment.until_secrets_copied().await?;
    environment.restore_pre_stop().await?;
    environment.roll_out_next().await?;
    Ok(outcome)
}

/// Somebody restarts the Deployment.
pub async fn restarted(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    traffic.mark("rollout restart");
    environment.restart_pods(API)?;
    environment.until_healthy().await?;
    traffic.mark("the last old pod is gone");
    environment.judge(traffic).await
}

/// The operator is killed in the middle of a rollout. The Deployment finishes without it, but `scripts/rollout` can't record what
/// serves and applies nothing new.
pub async fn operator_killed(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let (digest, pods) = (environment.push(None).await?, environment.cluster.restarts().await?);
    traffic.mark("a version rolled out");
    let (said, killed) = tokio::join!(environment.refused_rollout(&digest), async {
        environment.until_new_pod(&pods).await?;
        environment.cluster.stop_operator();
        traffic.mark("the operator killed");
        anyhow::Ok(())
    });
    killed?;
    let said = said?;
    ensure!(said.contains("dob-api is rolled out, but"), "scripts/rollout says: {said}");
    environment.until_healthy().await?;
    traffic.mark("the last old pod is gone");
    let said = environment.refused_rollout(&digest).await?;
    ensure!(said.contains("Nothing was applied"), "scripts/rollout says: {said}");
    environment.cluster.start_operator().await?;
    traffic.mark("the operator is back");
    environment.roll_out(&digest).await?;
    traffic.mark("scripts/rollout run again");
    environment.judge(traffic).await
}
