//! The database behind the pods fails or changes, while clients come through the load balancer.

use crate::cluster::ClusterEnvironment;
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use dob_cluster::TRUST_STORE;
use dob_lab::{Roles, WEST};
use dob_postgresql::Shutdown;
use dob_support::{Authority, eventually};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the database is down, in each outage.
const AWAY_FOR: [Duration; 3] = [Duration::from_secs(20), Duration::from_secs(60), Duration::from_secs(300)];
/// The SQL that retires a role: it can't log in any more, and its sessions end.
const END: &str =
    "ALTER ROLE {role} NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'";

/// The lab's leader loses its power.
pub async fn leader_lost(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let west = environment.lab()?.region(WEST);
    let Roles { leader, .. } = west.until_leading().await?;
    let traffic = environment.traffic().await;
    traffic.mark(&format!("{}'s power cut", leader.name));
    leader.power_off().await?;
    traffic.until_saved().await?;
    leader.power_on().await?;
    let next = west.until_leading().await?.leader;
    traffic.mark("replica streams");
    let outcome = environment.judge(traffic).await?;
    Ok(outcome.with_note(format!("{} leads afterwards", next.name)))
}

/// The database is down, longer each time. Clients get 503 from the pods, which must not be restarted.
pub async fn database_away(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let pods = environment.cluster.restarts().await?;
    for time in AWAY_FOR {
        environment.database().await?.server.stop(Shutdown::Crash)?;
        traffic.mark(&format!("database down for {} s", time.as_secs()));
        traffic.run_for(time).await;
        environment.database().await?.server.start().await?;
        traffic.mark("database started");
        traffic.until_saved().await?;
    }
    let after = environment.cluster.restarts().await?;
    ensure!(after == pods, "pods were restarted or replaced: {pods:?} before, {after:?} after");
    environment.judge(traffic).await
}

/// The role that the pods get.
const NEXT_ROLE: &str = "dob_api_next";

/// The pods get another role and password by way of Secrets Manager and `scripts/roll-pods`, and the old role is retired.
pub async fn password_rotated(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let old = environment.change_secret("pg_user", NEXT_ROLE).await?;
    let password = environment.change_secret("pg_password", "another-password").await?;
    traffic.mark("another role and password in Secrets Manager");
    environment.roll_pods(Some(&old)).await?;
    traffic.mark("all pods use the new role");
    environment.database().await?.server.client("postgres").await?.batch_execute(&END.replace("{role}", &old)).await?;
    traffic.mark("old role retired");
    let outcome = environment.judge(traffic).await?;
    environment.change_secret("pg_user", &old).await?;
    environment.change_secret("pg_password", &password).await?;
    environment.roll_pods(Some(NEXT_ROLE)).await?;
    Ok(outcome)
}

/// How long the kubelet may take to say that it can't start a pod.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
/// Prints the pods that the kubelet can't start for lack of a volume, and the reason.
const UNMOUNTED: [&str; 4] = [
    "get",
    "events",
    "--field-selector=reason=FailedMount",
    r#"--output=jsonpath={range .items[*]}{.involvedObject.name} {.message}{"\n"}{end}"#,
];

/// A pod starts while the trust store is missing. Then the database gets a certificate of another authority: pods first trust both
/// authorities, and then only the new one.
pub async fn authority_replaced(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    let traffic = environment.traffic().await;
    let pods = environment.cluster.restarts().await?;
    traffic.mark("the trust store and a pod deleted");
    environment.delete_trust_store()?;
    environment.delete_one(&pods).await?;
    until_pod_waits(environment, &pods).await?;
    traffic.mark("the new pod waits for the trust store, which comes back");
    environment.take_back().await?;
    environment.until_healthy().await?;
    let old = environment.database().await?.access().authority;
    let next = Authority::new("next database authority")?;
    traffic.mark("pods are to trust the next authority, too");
    environment.trust(format!("{old}{}", next.certificate)).await?;
    traffic.mark("the database has a certificate of the next authority");
    environment.database().await?.certify(next).await?;
    // A new pod has to connect. The others may keep their connections.
    environment.delete_one(&environment.cluster.restarts().await?).await?;
    environment.until_healthy().await?;
    let next = environment.database().await?.access().authority;
    environment.trust(next).await?;
    traffic.mark("pods trust only the next authority");
    environment.judge(traffic).await
}

/// Waits until a new pod can't start for lack of the trust store.
async fn until_pod_waits(environment: &ClusterEnvironment, before: &BTreeMap<String, i32>) -> Result<()> {
    eventually("a new pod waits for the trust store", REFUSED_WITHIN, async || {
        let refused = environment.kubectl(&UNMOUNTED)?;
        let pods = environment.cluster.restarts().await?;
        // Events outlive their pods, and another drill's pods may have waited, too.
        let new: Vec<&String> = pods.keys().filter(|pod| !before.contains_key(*pod)).collect();
        let is_it = |line: &str| line.contains(TRUST_STORE) && new.iter().any(|pod| line.starts_with(pod.as_str()));
        ensure!(refused.lines().any(is_it), "none does");
        Ok(())
    })
    .await
}
