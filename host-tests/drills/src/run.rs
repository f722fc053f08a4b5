//! A run: drills of one testbed, one after the other.

use crate::catalogue::{Drill, Selection, Testbed};
use crate::cluster::{ClusterEnvironment, Pace};
use crate::current_drill::CurrentDrill;
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use crate::processors::Processors;
use crate::promises::TooSlow;
use crate::results::{self, Row, Rows};
use crate::{alerts, dashboard, scenarios, timeline};
use anyhow::{Context, Result, bail};
use dob_lab::{BaseImage, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long an environment may take to boot, before the deadline of the first drill begins.
const BOOTS_WITHIN: Duration = Duration::from_secs(400);

/// Where drills run.
trait Environment {
    /// Whether the waiting times are those of AWS.
    fn is_full_size(&self) -> bool;
    /// Prepares the state from which drills start.
    async fn boot(&self) -> Result<()>;
    /// The drill that is running.
    fn current(&self) -> &CurrentDrill;
    /// Runs the scenario of a drill.
    async fn run_scenario(&self, drill: &Drill) -> Result<Outcome>;
    /// Waits until the drill has raised the alerts that it must raise.
    async fn until_alerted(&self, drill: &Drill, since: Instant) -> Result<()>;
    /// Undoes what a failed drill may have left. After an error the environment is unusable.
    async fn repair(&self) -> Result<()>;
    /// Saves the logs of a failed drill in a directory.
    async fn keep_logs(&self, directory: &Path) -> Result<()>;
}

/// The results of a run.
struct Run {
    rows: Rows,
    failed: Vec<String>,
    took: Duration,
}

/// Runs drills of the database. This process must be inside a run's namespaces. Prints the results, and saves them with the timelines
/// in `docs/drills`. An error names the drills that failed.
pub async fn run_on_lab(selection: &Selection) -> Result<()> {
    dob_namespaces::prepare()?;
    let plan = Plan::render()?;
    let image = BaseImage::prepare(&plan)?;
    let lab = WatchedLab { environment: LabEnvironment::make(plan, &image).await?, alerts: alerts::expected()? };
    let results = run_all(&lab, &selection.drills).await?;
    let took = results.took;
    results.report(selection)?;
    if selection.is_everything {
        dashboard::write(&lab.environment.prometheus, took).await?;
    }
    Ok(())
}

/// The same for drills of the cluster, all of one testbed.
pub async fn run_on_cluster(selection: &Selection, pace: Pace) -> Result<()> {
    dob_namespaces::prepare()?;
    dob_cluster::make_network()?;
    let has_lab = selection.at(Testbed::ClusterOnLab).next().is_some();
    let cluster = if has_lab {
        ClusterEnvironment::on_lab(pace).await?
    } else {
        ClusterEnvironment::alone(pace, selection.needs_addons()).await?
    };
    run_all(&cluster, &selection.drills).await?.report(selection)
}

/// How a drill ended.
enum Ended {
    Succeeded(Box<Row>),
    /// It was too slow, while the host withheld the processors.
    Disturbed,
    Failed,
}

async fn run_all(environment: &impl Environment, drills: impl IntoIterator<Item = &Drill>) -> Result<Run> {
    let (mut rows, mut failed) = (Rows::new(), Vec::new());
    let started = Instant::now();
    for drill in drills {
        println!("{}", drill.name);
        let mut ended = measure(environment, drill).await?;
        if matches!(ended, Ended::Disturbed) && repaired(environment).await {
            println!("    measured again, once, because the host withheld the processors");
            ended = measure(environment, drill).await?;
        }
        if let Ended::Succeeded(row) = ended {
            rows.insert(drill.name.clone(), *row);
            continue;
        }
        failed.push(drill.name.clone());
        if !repaired(environment).await {
            break;
        }
    }
    Ok(Run { rows, failed, took: started.elapsed() })
}

/// Runs a drill, and prints how it ended.
async fn measure(environment: &impl Environment, drill: &Drill) -> Result<Ended> {
    let (began, before) = (Instant::now(), Processors::read()?);
    let result = run(environment, drill).await;
    let took = began.elapsed().as_secs();
    let error = match result {
        Ok(row) => {
            println!("    succeeded after {took} s");
            return Ok(Ended::Succeeded(Box::new(row)));
        }
        Err(error) => error,
    };
    let meanwhile = Processors::read()?.since(&before);
    println!("    FAILED after {took} s: {error:#}\n    meanwhile, {meanwhile}");
    keep_logs(environment, drill).await;
    Ok(if error.is::<TooSlow>() && meanwhile.is_disturbed() { Ended::Disturbed } else { Ended::Failed })
}

/// Undoes what a failed drill may have left; false if that fails.
async fn repaired(environment: &impl Environment) -> bool {
    let repaired = environment.repair().await;
    if let Err(error) = &repaired {
        println!("    its faults can't be undone, so that no further drill runs: {error:#}");
    }
    repaired.is_ok()
}

/// Runs a drill, and checks its promises and the alerts that it must raise.
async fn run(environment: &impl Environment, drill: &Drill) -> Result<Row> {
    if !drill.boots {
        timeout(BOOTS_WITHIN, environment.boot())
            .await
            .with_context(|| format!("it did not boot within {BOOTS_WITHIN:?}"))??;
    }
    let (began, deadline) = (Instant::now(), drill.deadline(environment.is_full_size()));
    let ended = timeout(deadline, environment.run_scenario(drill)).await;
    let outcome = ended.with_context(|| {
        format!("it did not end within {deadline:?}; its last step: {}", environment.current().reached())
    })??;
    if let Some(figures) = &outcome.figures {
        drill.promises.check(figures)?;
    }
    environment.until_alerted(drill, began).await?;
    environment.current().draw(&timeline::directory())?;
    Ok(Row::new(outcome.figures.as_ref(), &outcome.note))
}

/// Saves the logs and the timeline of a failed drill, whose last good timeline stays beside its row.
async fn keep_logs(environment: &impl Environment, drill: &Drill) {
    let directory = std::env::temp_dir().join("dob-drill-logs").join(&drill.name);
    let kept = async {
        std::fs::create_dir_all(&directory)?;
        environment.current().draw(&directory)?;
        environment.keep_logs(&directory).await
    };
    match kept.await {
        Ok(()) => println!("    its logs are in {}", directory.display()),
        Err(error) => println!("    its logs can't be saved: {error:#}"),
    }
}

impl Run {
    fn report(self, selection: &Selection) -> Result<()> {
        let succeeded = self.rows.len();
        println!("\n{}\n{succeeded} drills succeeded in {} s", results::table(&self.rows), self.took.as_secs());
        results::keep(self.rows)?;
        if !self.failed.is_empty() {
            bail!(
                "{succeeded} of {} drills succeeded, these failed: {}",
                selection.drills.len(),
                self.failed.join(", ")
            );
        }
        Ok(())
    }
}

/// The lab, and the alerts that each drill must raise.
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

    fn current(&self) -> &CurrentDrill {
        &self.environment.current
    }

    async fn run_scenario(&self, drill: &Drill) -> Result<Outcome> {
        self.environment.current.begin(&drill.name);
        scenarios::on_lab(&drill.name)?(&self.environment).await
    }

    async fn until_alerted(&self, drill: &Drill, since: Instant) -> Result<()> {
        let name = &drill.name;
        let expected = self.alerts.get(name).with_context(|| {
            format!("no test in observability/tests/scenarios.yml names the drill {name} with its alerts")
        })?;
        alerts::until_fired(&self.environment.prometheus, since, expected).await
    }

    async fn repair(&self) -> Result<()> {
        self.environment.repair().await
    }

    async fn keep_logs(&self, directory: &Path) -> Result<()> {
        self.environment.keep_logs(directory).await
    }
}

impl Environment for ClusterEnvironment {
    fn is_full_size(&self) -> bool {
        self.pace == Pace::FULL
    }

    async fn boot(&self) -> Result<()> {
        self.ready().await?;
        self.until_no_orphans().await
    }

    fn current(&self) -> &CurrentDrill {
        &self.current
    }

    async fn run_scenario(&self, drill: &Drill) -> Result<Outcome> {
        self.current.begin(&drill.name);
        scenarios::on_cluster(&drill.name)?(self).await
    }

    /// A drill of the cluster that expects an alert waits for it itself.
    async fn until_alerted(&self, _: &Drill, _: Instant) -> Result<()> {
        Ok(())
    }

    async fn repair(&self) -> Result<()> {
        ClusterEnvironment::repair(self).await
    }

    async fn keep_logs(&self, directory: &Path) -> Result<()> {
        self.cluster.keep_logs(directory)
    }
}
