//! Prometheus on the lab's network, with production's alert rules. A minute in the rules is a second here.

use crate::network::HERE;
use crate::node::{Node, PATIENCE};
use anyhow::{Context, Result, bail};
use dob_namespaces::authority;
use dob_support::{Process, eventually, project_file};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PORT: u16 = 9090;
/// The deadline of a query.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// A running Prometheus; it ends with the lab.
pub struct Prometheus {
    http: reqwest::Client,
    _process: Process,
}

/// A time series: its labels, and its values at seconds from the start.
#[derive(Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub points: Vec<(f64, f64)>,
}

impl Prometheus {
    /// Starts it with these nodes as targets and waits until it answers.
    pub(crate) async fn start<'a>(directory: &Path, nodes: impl Iterator<Item = &'a Node>) -> Result<Self> {
        let directory = directory.join("prometheus");
        write_configuration(&directory, nodes)?;
        let log = fs::File::create(directory.join("log"))?;
        let mut prometheus = Command::new("prometheus");
        prometheus.arg("--config.file=prometheus.yml").arg("--storage.tsdb.path=data");
        prometheus.arg(format!("--web.listen-address={HERE}:{PORT}")).current_dir(&directory);
        prometheus.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = Process::spawn(&mut prometheus, "`make drill` installs it")?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWERS_WITHIN).build()?;
        let started = Self { http, _process: process };
        let what = format!("Prometheus answers; its log is in {}", directory.display());
        eventually(&what, PATIENCE, async || started.query("up").await).await?;
        Ok(started)
    }

    /// Names of the alerts that have started to fire since a moment.
    pub async fn fired(&self, since: Instant) -> Result<BTreeSet<String>> {
        let time = since.elapsed();
        let start = (SystemTime::now() - time).duration_since(UNIX_EPOCH)?.as_secs();
        let seconds = time.as_secs() + 1;
        // An alert that was active before was not caused by what has happened since.
        let new = format!(
            "max_over_time(ALERTS{{alertstate=\"firing\"}}[{seconds}s])
             and ignoring(alertstate) max_over_time(ALERTS_FOR_STATE[{seconds}s]) >= {start}"
        );
        self.alerts(&new).await
    }

    /// Names of the alerts that fire now.
    pub async fn firing(&self) -> Result<BTreeSet<String>> {
        self.alerts("ALERTS{alertstate=\"firing\"}").await
    }

    async fn alerts(&self, expression: &str) -> Result<BTreeSet<String>> {
        let rows = self.query(expression).await?;
        Ok(rows.iter().filter_map(|row| row["metric"]["alertname"].as_str().map(str::to_owned)).collect())
    }

    /// The values of an expression over the time until now, in 300 steps.
    pub async fn series(&self, expression: &str, length: Duration) -> Result<Vec<Series>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let start = now.saturating_sub(length).as_secs_f64();
        let step = (length.as_secs_f64() / 300.0).max(1.0);
        let (from, to, step) = (start.to_string(), now.as_secs_f64().to_string(), step.to_string());
        let range = [("start", from.as_str()), ("end", &to), ("step", &step)];
        let rows = self.ask("query_range", expression, &range).await?;
        rows.into_iter().map(|row| Series::parse(row, start).context("Prometheus' answer")).collect()
    }

    async fn query(&self, expression: &str) -> Result<Vec<Value>> {
        self.ask("query", expression, &[]).await
    }

    async fn ask(&self, method: &str, expression: &str, parameters: &[(&str, &str)]) -> Result<Vec<Value>> {
        let url = format!("http://{HERE}:{PORT}/api/v1/{method}");
        let query = [("query", expression)].into_iter().chain(parameters.iter().copied());
        let answer = self.http.get(url).query(&query.collect::<Vec<_>>()).send().await?;
        let answer: Value = answer.json().await.context("Prometheus' answer")?;
        match answer["data"]["result"].as_array() {
            Some(rows) => Ok(rows.clone()),
            None => bail!("Prometheus says {answer}"),
        }
    }
}

impl Series {
    fn parse(row: Value, start: f64) -> Option<Self> {
        let text = |(label, value): (&String, &Value)| Some((label.clone(), value.as_str()?.to_owned()));
        let labels = row["metric"].as_object()?.iter().map(text).collect::<Option<_>>()?;
        let point = |pair: &Value| Some((pair[0].as_f64()? - start, pair[1].as_str()?.parse().ok()?));
        let points = row["values"].as_array()?.iter().map(point).collect::<Option<_>>()?;
        Some(Self { labels, points })
    }
}

fn write_configuration<'a>(directory: &Path, nodes: impl Iterator<Item = &'a Node>) -> Result<()> {
    for part in ["rules", "targets", "tls"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let target = |node: &Node| {
        let labels = json!({ "region": node.region, "node": node.name, "role": node.role });
        json!({ "targets": [node.address], "labels": labels })
    };
    let targets: Vec<Value> = nodes.map(target).collect();
    fs::write(directory.join("targets/nodes.json"), json!(targets).to_string())?;
    for nobody in ["collectors", "alertmanagers"] {
        fs::write(directory.join(format!("targets/{nobody}.json")), "[]")?;
    }
    fs::copy(authority(), directory.join("tls/ca.crt"))?;
    let sources = project_file("observability");
    let configuration = fs::read_to_string(sources.join("prometheus.yml"))?;
    fs::write(directory.join("prometheus.yml"), configuration.replace("15s", "2s").replace("5s", "2s"))?;
    for entry in fs::read_dir(sources.join("rules"))? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().context("a file")?;
        fs::write(directory.join("rules").join(name), hurried(&fs::read_to_string(&path)?))?;
    }
    Ok(())
}

/// The rules with every `for` divided by 60, because drills last seconds.
fn hurried(rules: &str) -> String {
    let line = |line: &str| match line.split_once("for: ") {
        Some((indent, time)) if indent.trim().is_empty() => {
            format!("{indent}for: {}\n", time.replace('m', "s").replace('h', "m"))
        }
        _ => format!("{line}\n"),
    };
    rules.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rules_run_sixty_times_as_fast() {
        let rules = "  expr: rate(x[5m]) > 0 # for: 1m\n  for: 5m\n  for: 1h\n";
        assert_eq!(super::hurried(rules), "  expr: rate(x[5m]) > 0 # for: 1m\n  for: 5s\n  for: 1m\n");
    }
}
