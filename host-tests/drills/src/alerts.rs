//! The alerts that a drill must raise. The lab's Prometheus has production's rules.

use anyhow::{Context, Result, ensure};
use dob_lab::Prometheus;
use dob_support::eventually;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const ALERT_TESTS: &str = include_str!("../../../observability/tests/scenarios.yml");
const RULES: &str = include_str!("../../../observability/rules/database.yml");
/// How long an alert may take to fire, or to end, at the lab's pace.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct AlertTest {
    #[serde(default)]
    drills: Vec<String>,
    fires: Vec<String>,
}

/// The alerts that each drill must raise, from the tests of the alert rules. Alerts on requests are omitted: the lab has no
/// collector for the spans that Spin sends.
pub(crate) fn expected() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let tests: Vec<AlertTest> = serde_yaml_ng::from_str(ALERT_TESTS).context("observability/tests/scenarios.yml")?;
    let mut expected = BTreeMap::<String, BTreeSet<String>>::new();
    for AlertTest { drills, fires } in tests {
        let names = fires.iter().filter_map(|alert| alert.split('{').next());
        let watched: Vec<&str> = names.filter(|name| RULES.contains(&format!("alert: {name}\n"))).collect();
        for drill in drills {
            expected.entry(drill).or_default().extend(watched.iter().map(|&name| name.to_owned()));
        }
    }
    Ok(expected)
}

/// Waits until all these alerts have fired since a moment.
pub(crate) async fn until_fired(prometheus: &Prometheus, since: Instant, expected: &BTreeSet<String>) -> Result<()> {
    eventually(&format!("the alerts {expected:?} fire"), PATIENCE, async || {
        let fired = prometheus.fired(since).await?;
        ensure!(expected.is_subset(&fired), "only {fired:?} fired");
        Ok(())
    })
    .await
}

/// Waits until an alert that an earlier drill has raised no longer fires. Until then it can't begin to fire.
pub(crate) async fn until_ended(prometheus: &Prometheus, alert: &str) -> Result<()> {
    eventually(&format!("the alert {alert} ends"), PATIENCE, async || {
        ensure!(!prometheus.firing().await?.contains(alert), "it fires");
        Ok(())
    })
    .await
}
