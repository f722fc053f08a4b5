//! The database behind the pods fails or changes, while clients come through the load balancer.

use crate::cluster::ClusterEnvironment;
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use dob_lab::{Roles, WEST};
use dob_postgresql::Shutdown;
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
    environment.roll_pods(&old).await?;
    traffic.mark("all pods use the new role");
    environment.database().await?.server.client("postgres").await?.batch_execute(&END.replace("{role}", &old)).await?;
    traffic.mark("old role retired");
    let outcome = environment.judge(traffic).await?;
    environment.change_secret("pg_user", &old).await?;
    environment.change_secret("pg_password", &password).await?;
    environment.roll_pods(NEXT_ROLE).await?;
    Ok(outcome)
}
