//! Rollouts, while clients come through the load balancer.

use super::monitoring::SEEN_WITHIN;
use crate::cluster::{API, ClusterEnvironment};
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use dob_cluster::Fault;
use dob_support::eventually;
use std::time::{Duration, Instant};

/// How long a rollout that fails may take in addition to its deadline: for the step before, and for the rollback.
const OVERHEAD: Duration = Duration::from_secs(120);
const ALERT: &str = "AvailabilityBudgetBurningFast";

/// A step of `scripts/rollout`: its SpinApp, and the name of its deadline in `drain.yaml`.
struct Step {
    app: &'static str,
    deadline: &'static str,
}

const SCHEMA: Step = Step { app: "dob-api-schema", deadline: "schema_progress_deadline_seconds" };
const SERVING: Step = Step { app: API, deadline: "serving_progress_deadline_seconds" };

/// A role that the schema step has to create.
const OTHER_ROLE: &str = "dob_api_other";
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

/// An image that the registry does not have. The schema step fails, so that no serving pod is replaced.
pub async fn digest_missing(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    roll_back(environment, "a digest that no registry has", MISSING, &SCHEMA).await
}

/// A version whose serving pods lack a variable. Its schema step succeeds.
pub async fn never_ready(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let digest = environment.push(Some(Fault::VariableMissing)).await?;
    roll_back(environment, "a version that never becomes ready", &digest, &SERVING).await
}

/// Rolls out a version that must be rolled back in this step.
async fn roll_back(environment: &ClusterEnvironment, what: &str, digest: &str, step: &Step) -> Result<Outcome> {
    let deadline = environment.drain_time(step.deadline).await?;
    let limit = deadline + OVERHEAD;
    let traffic = environment.traffic().await;
    let started = Instant::now();
    traffic.mark(what);
    let said = environment.refused_rollout(digest).await?;
    let took = started.elapsed();
    ensure_rolled_back(&said, step)?;
    ensure!(took <= limit, "{} was rolled back after {took:?}, but the limit is {limit:?}", step.app);
    environment.until_healthy().await?;
    traffic.mark("rolled back");
    let outcome = environment.judge(traffic).await?;
    let (took, deadline) = (took.as_secs(), deadline.as_secs());
    Ok(outcome.with_note(format!("{} was rolled back after {took} s; its deadline is {deadline} s", step.app)))
}

fn ensure_rolled_back(said: &str, step: &Step) -> Result<()> {
    ensure!(said.contains(&format!("{} was rolled back", step.app)), "scripts/rollout says: {said}");
    Ok(())
}

/// A version that becomes ready but answers greetings with 500. An alert fires, and an operator rolls out the previous version again.
pub async fn cannot_greet(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    environment.start_monitoring().await?;
    let digest = environment.push(Some(Fault::CannotGreet)).await?;
    let traffic = environment.traffic().await;
    traffic.mark("a version that answers 500");
    let before = environment.roll_out(&digest).await?;
    until_alerted(environment).await?;
    traffic.mark("an alert fires; the previous version rolled out again");
    environment.roll_out(&before).await?;
    traffic.mark("the last pod that answers 500 is gone");
    let outcome = environment.judge(traffic).await?;
    environment.stop_monitoring()?;
    Ok(outcome.with_note(format!("{ALERT} fired")))
}

async fn until_alerted(environment: &ClusterEnvironment) -> Result<()> {
    let query = format!(r#"ALERTS{{alertname="{ALERT}",alertstate="firing",operation="greeting"}}"#);
    eventually(&format!("the alert {ALERT} fires"), SEEN_WITHIN, async || {
        let firing = environment.cluster.measured(&query, "alertname")?;
        ensure!(!firing.is_empty(), "it does not fire");
        Ok(())
    })
    .await
}

/// The schema step fails, as with a wrong administrator's password, in a rollout that also raises the preStop time.
pub async fn schema_fails(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let pods = environment.cluster.restarts().await?;
    environment.raise_pre_stop().await?;
    let role = environment.change_secret("pg_user", OTHER_ROLE).await?;
    let password = environment.change_secret("pg_admin_password", "a-wrong-one").await?;
    environment.until_secrets_copied().await?;
    traffic.mark("a version whose schema step can't make its role");
    let digest = environment.push(None).await?;
    let said = environment.refused_rollout(&digest).await?;
    ensure_rolled_back(&said, &SCHEMA)?;
    let after = environment.cluster.restarts().await?;
    ensure!(after == pods, "serving pods were restarted or replaced: {pods:?} before, {after:?} after");
    environment.change_secret("pg_user", &role).await?;
    environment.until_secrets_copied().await?;
    traffic.mark("a serving pod deleted, so that one starts with the raised times");
    environment.delete_one(&pods).await?;
    environment.until_healthy().await?;
    environment.change_secret("pg_user", OTHER_ROLE).await?;
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

/// Somebody restarts the Deployment, and undoes that.
pub async fn restarted(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    for step in ["restart", "undo"] {
        let before = environment.cluster.restarts().await?;
        traffic.mark(&format!("rollout {step}"));
        environment.replace_pods(step)?;
        environment.until_healthy().await?;
        let after = environment.cluster.restarts().await?;
        let kept = after.keys().find(|pod| before.contains_key(*pod));
        ensure!(kept.is_none(), "rollout {step} has not replaced {kept:?}");
        traffic.mark("the last old pod is gone");
    }
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
