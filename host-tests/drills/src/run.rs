//! A run: one drill after the other at one place, and what remains of it.

use crate::catalogue::{Chosen, Drill, Place};
use crate::cluster::{ClusterEnvironment, Pace};
use crate::current::Outcome;
use crate::lab::LabEnvironment;
use crate::table::Row;
use crate::{alerts, dashboard, scenarios, table};
use anyhow::{Context, Result, bail};
use dob_lab::{BaseImage, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a place may take to boot; before the deadline of the first drill begins.
const BOOTS_WITHIN: Duration = Duration::from_secs(400);

/// Where drills are held.
trait Environment {
    /// Whether every waiting time is as on AWS.
    fn is_full_size(&self) -> bool;
    /// Makes ready what a drill starts from.
    async fn boot(&self) -> Result<()>;
    /// Tells the scenario of a drill.
    async fn run_scenario(&self, drill: &Drill) -> Result<Outcome>;
    /// Waits until the drill has raised the alerts that it must raise.
    async fn until_alerted(&self, drill: &Drill, since: Instant) -> Result<()>;
    /// Takes back what a drill that failed may have left. An error says that the place is of no use any more.
    async fn repair(&self) -> Result<()>;
    /// Keeps what tells why a drill failed; gives its directory.
    async fn keep_logs(&self, drill: &Drill) -> Result<PathBuf>;
}

/// What a run has come to.
struct Results {
    rows: Vec<Row>,
    failed: Vec<String>,
    took: Duration,
}

/// Holds drills of the database inside a run's namespaces, prints their table and keeps it with the timelines in `docs/drills`. An
/// error names the drills that failed.
pub async fn run_on_lab(chosen: &Chosen) -> Result<()> {
    dob_namespaces::prepare()?;
    let plan = Plan::render()?;
    let image = BaseImage::prepare(&plan)?;
    let lab = WatchedLab { environment: LabEnvironment::make(plan, &image).await?, alerts: alerts::expected()? };
    let results = run_all(&lab, &chosen.drills).await?;
    if chosen.is_everything && results.failed.is_empty() {
        dashboard::write(&lab.environment.prometheus, results.took).await?;
    }
    results.report(chosen)
}

/// The same with those of the cluster, all of one place.
pub async fn run_on_cluster(chosen: &Chosen, pace: Pace) -> Result<()> {
    dob_namespaces::prepare()?;
    dob_cluster::make_network()?;
    let has_lab = chosen.at(Place::ClusterOnLab).next().is_some();
    let cluster = if has_lab {
        ClusterEnvironment::on_lab(pace).await?
    } else {
        ClusterEnvironment::alone(pace, chosen.needs_addons()).await?
    };
    run_all(&cluster, &chosen.drills).await?.report(chosen)
}

async fn run_all(environment: &impl Environment, drills: impl IntoIterator<Item = &Drill>) -> Result<Results> {
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for drill in drills {
        println!("{}", drill.name);
        let began = Instant::now();
        match run(environment, drill).await {
            Ok(row) => {
                println!("    held, {} s", began.elapsed().as_secs());
                rows.push(row);
            }
            Err(error) => {
                println!("    FAILED after {} s: {error:#}", began.elapsed().as_secs());
                failed.push(drill.name.clone());
                keep_logs(environment, drill).await;
                if let Err(error) = environment.repair().await {
                    println!("    what it has left can't be repaired, no further drill is held: {error:#}");
                    break;
                }
            }
        }
    }
    Ok(Results { rows, failed, took: started.elapsed() })
}

/// Holds a drill, and checks its promises and the alerts that it must have raised.
async fn run(environment: &impl Environment, drill: &Drill) -> Result<Row> {
    if !drill.boots {
        timeout(BOOTS_WITHIN, environment.boot())
            .await
            .with_context(|| format!("no boot within {BOOTS_WITHIN:?}"))??;
    }
    let (began, deadline) = (Instant::now(), drill.deadline(environment.is_full_size()));
    let ended = timeout(deadline, environment.run_scenario(drill)).await;
    let outcome = ended.with_context(|| format!("it did not end within {deadline:?}"))??;
    if let Some(figures) = &outcome.figures {
        drill.promises.check(figures)?;
    }
    environment.until_alerted(drill, began).await?;
    Ok(Row { drill: drill.name.clone(), figures: outcome.figures, note: outcome.note })
}

async fn keep_logs(environment: &impl Environment, drill: &Drill) {
    match environment.keep_logs(drill).await {
        Ok(directory) => println!("    what was logged is in {}", directory.display()),
        Err(error) => println!("    what was logged can't be kept: {error:#}"),
    }
}

impl Results {
    fn report(&self, chosen: &Chosen) -> Result<()> {
        let (rows, failed) = (&self.rows, &self.failed);
        println!("\n{}\n{} drills held in {} s", table::text(rows), rows.len(), self.took.as_secs());
        table::keep(rows)?;
        if !failed.is_empty() {
            bail!("of {} drills {} held, these failed: {}", chosen.drills.len(), rows.len(), failed.join(", "));
        }
        Ok(())
    }
}

/// The lab, and which alerts each drill must raise.
struct WatchedLab {
    environment: LabEnvironment,
    alerts: BTreeMap<String, BTreeSet<String>>,
}

impl Environment for WatchedLab {
    fn is_full_size(&self) -> bool {
        true
    }

    async fn boot(&self) -> Result<()> {
        self.environment.boot().await
    }

    async fn run_scenario(&self, drill: &Drill) -> Result<Outcome> {
        self.environment.current.begin(&drill.name);
        scenarios::on_lab(&drill.name)?(&self.environment).await
    }

    async fn until_alerted(&self, drill: &Drill, since: Instant) -> Result<()> {
        let name = &drill.name;
        let expected = self.alerts.get(name).with_context(|| format!("no scenario says which alerts {name} raises"))?;
        alerts::until_fired(&self.environment.prometheus, since, expected).await
    }

    async fn repair(&self) -> Result<()> {
        self.environment.repair().await
    }

    async fn keep_logs(&self, drill: &Drill) -> Result<PathBuf> {
        self.environment.keep_logs(&drill.name).await
    }
}

impl Environment for ClusterEnvironment {
    fn is_full_size(&self) -> bool {
        self.pace == Pace::FULL
    }

    async fn boot(&self) -> Result<()> {
        self.ready().await
    }

    async fn run_scenario(&self, drill: &Drill) -> Result<Outcome> {
        self.current.begin(&drill.name);
        scenarios::on_cluster(&drill.name)?(self).await
    }

    /// Nothing watches the cluster.
    async fn until_alerted(&self, _: &Drill, _: Instant) -> Result<()> {
        Ok(())
    }

    async fn repair(&self) -> Result<()> {
        ClusterEnvironment::repair(self).await
    }

    async fn keep_logs(&self, drill: &Drill) -> Result<PathBuf> {
        ClusterEnvironment::keep_logs(self, &drill.name)
    }
}
