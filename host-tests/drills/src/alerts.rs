//! What a drill must raise: the lab's Prometheus runs the rules that production runs.

use anyhow::{Context, Result, ensure};
use dob_lab::Prometheus;
use dob_support::eventually;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const ALERT_TESTS: &str = include_str!("../../../observability/tests/scenarios.yml");
const RULES: &str = include_str!("../../../observability/rules/database.yml");
/// How long an alert may take once its cause is there, at the lab's pace.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct AlertTest {
    #[serde(default)]
    drills: Vec<String>,
    fires: Vec<String>,
}

/// The alerts that each drill raises, as the rules' own tests have it. Those on requests are left out: they are made of
/// spans, which only Spin has.
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

/// Waits until all of these have fired since a moment.
pub(crate) async fn until_fired(prometheus: &Prometheus, since: Instant, expected: &BTreeSet<String>) -> Result<()> {
    eventually(&format!("the alerts {expected:?} fire"), PATIENCE, async || {
        let fired = prometheus.fired(since).await?;
        ensure!(expected.is_subset(&fired), "fired have {fired:?}");
        Ok(())
    })
    .await
}
