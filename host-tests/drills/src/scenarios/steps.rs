//! What several scenarios do.

use crate::current::Outcome;
use crate::lab::LabEnvironment;
use crate::traffic::Traffic;
use anyhow::{Result, ensure};
use dob_lab::Node;
use std::time::Duration;

/// How long the clients run on once all is well.
pub const AFTER: Duration = Duration::from_secs(5);

/// Lets the clients run on once all is well, and judges them.
pub async fn judge_later(environment: &LabEnvironment, traffic: Traffic) -> Result<Outcome> {
    traffic.run_for(AFTER).await;
    environment.judge(traffic).await
}

/// The node's journal must say it, and PostgreSQL must not run.
pub async fn refuses(node: &Node, unit: &str, sentence: &str) -> Result<()> {
    node.until_logged(unit, sentence).await?;
    ensure!(!node.runs_postgresql().await?, "PostgreSQL runs on {}", node.name);
    Ok(())
}
