//! Steps that several scenarios share.

use crate::alerts;
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::traffic::Traffic;
use anyhow::{Result, ensure};
use dob_lab::Node;
use std::time::{Duration, Instant};

/// How long the clients run after recovery.
pub const AFTER: Duration = Duration::from_secs(5);
/// How long a fault lasts: three of Patroni's loops, and less than its ttl.
pub const FAULT: Duration = Duration::from_secs(15);
/// How long etcd does not work, or is partitioned: three times Patroni's ttl.
pub const WITHOUT_ETCD: Duration = Duration::from_secs(60);

/// Waits for a while after recovery, and judges the clients' history.
pub async fn judge_later(environment: &LabEnvironment, traffic: Traffic) -> Result<Outcome> {
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// Waits until these alerts have fired since a moment.
pub async fn until_fired(environment: &LabEnvironment, since: Instant, expected: &[&str]) -> Result<()> {
    let expected = expected.iter().map(|&alert| alert.to_owned()).collect();
    alerts::until_fired(&environment.prometheus, since, &expected).await
}

/// Waits until the node's journal has a sentence, and checks that PostgreSQL does not run.
pub async fn refuses(node: &Node, unit: &str, sentence: &str) -> Result<()> {
    node.until_logged(unit, sentence).await?;
    ensure!(!node.runs_postgresql().await?, "PostgreSQL runs on {}", node.name);
    Ok(())
}
