//! The monitoring of `k8s/observability`: its request counts against those of the clients.

use crate::cluster::ClusterEnvironment;
use crate::outcome::Outcome;
use anyhow::{Result, ensure};
use dob_cluster::LOAD_BALANCER;
use dob_support::eventually;
use std::collections::BTreeMap;
use std::time::Duration;

/// The number of requests whose client asks not to trace them.
const UNTRACED: usize = 100;
const NOT_TO_BE_TRACED: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
/// How long Prometheus may take to count a request, and to raise an alert for it: spans leave every second, metrics every 15 s, and
/// Prometheus scrapes and evaluates every 15 s.
pub(super) const SEEN_WITHIN: Duration = Duration::from_secs(90);

/// Prometheus counts exactly the requests that clients send during a rollout, traced or not.
pub async fn requests_counted(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    environment.start_monitoring().await?;
    let before = counted(environment)?;
    let traffic = environment.traffic().await;
    traffic.mark("a version rolled out");
    environment.roll_out_next().await?;
    traffic.mark("the last old pod is gone");
    greet_untraced().await?;
    traffic.mark("requests that are not to be traced");
    let outcome = environment.judge(traffic).await?;
    let figures = outcome.figures()?;
    let (greetings, saves) =
        (figures.greetings + figures.failed_greetings, figures.acknowledged + figures.failed_saves);
    let sent = [("greeting", greetings + UNTRACED), ("saving", saves)];
    let expected = sent.map(|(operation, count)| {
        (operation.to_owned(), before.get(operation).copied().unwrap_or_default() + count as f64)
    });
    let expected = BTreeMap::from(expected);
    eventually("Prometheus counts as many requests as were sent", SEEN_WITHIN, async || {
        let counted = counted(environment)?;
        ensure!(counted == expected, "{expected:?} are expected, {counted:?} are counted");
        Ok(())
    })
    .await?;
    environment.stop_monitoring()?;
    let note = format!("Prometheus counts {} greetings and {saves} saves, as many as were sent", greetings + UNTRACED);
    Ok(outcome.with_note(note))
}

/// The greetings and saves that Prometheus has counted so far.
fn counted(environment: &ClusterEnvironment) -> Result<BTreeMap<String, f64>> {
    let query = r#"sum by (operation) (traces_span_metrics_calls_total{operation!="other"})"#;
    environment.cluster.measured(query, "operation")
}

async fn greet_untraced() -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    for _ in 0..UNTRACED {
        let (name, value) = NOT_TO_BE_TRACED;
        let request = client.get(format!("http://{LOAD_BALANCER}/hello/nobody")).header(name, value);
        let status = request.send().await?.status();
        ensure!(status == 404, "an unknown user is greeted with {status}");
    }
    Ok(())
}
