//! Steps that several scenarios share.

use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::traffic::Traffic;
use anyhow::{Result, ensure};
use dob_lab::Node;
use std::time::Duration;

/// How long the clients run after recovery.
pub const AFTER: Duration = Duration::from_secs(5);

/// Waits for a while after recovery, and judges the clients' history.
pub async fn judge_later(environment: &LabEnvironment, traffic: Traffic) -> Result<Outcome> {
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// Waits until the node's journal has a sentence, and checks that PostgreSQL does not run.
pub async fn refuses(node: &Node, unit: &str, sentence: &str) -> Result<()> {
    node.until_logged(unit, sentence).await?;
    ensure!(!node.runs_postgresql().await?, "PostgreSQL runs on {}", node.name);
    Ok(())
}
