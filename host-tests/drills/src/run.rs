//! A run: one drill after the other on one lab, and what remains of it.

use crate::catalogue::{Chosen, Drill};
use crate::environment::Environment;
use crate::table::Row;
use crate::{alerts, dashboard, stories, table};
use anyhow::{Context, Result, bail};
use dob_lab::{Base, Plan};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long both regions may take to boot; before the deadline of the first drill begins.
const BOOTS_WITHIN: Duration = Duration::from_secs(400);

/// Runs drills inside the lab's namespaces, prints their table and keeps it with the timelines in `docs/drills`. An error names the
/// drills that failed.
pub async fn run(chosen: &Chosen) -> Result<()> {
    let plan = Plan::render()?;
    let base = Base::prepare(&plan)?;
    let environment = Environment::make(plan, &base).await?;
    let alerts = alerts::expected()?;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for drill in &chosen.drills {
        println!("{}", drill.name);
        let began = Instant::now();
        match hold(&environment, drill, &alerts).await {
            Ok(row) => {
                println!("    held, {} s", began.elapsed().as_secs());
                rows.push(row);
            }
            Err(error) => {
                println!("    FAILED after {} s: {error:#}", began.elapsed().as_secs());
                failed.push(drill.name.as_str());
                keep_journals(&environment, drill).await;
                if let Err(error) = environment.repair().await {
                    println!("    the lab can't be repaired, no further drill is held: {error:#}");
                    break;
                }
            }
        }
    }
    println!("\n{}\n{} drills held in {} s", table::text(&rows), rows.len(), started.elapsed().as_secs());
    table::keep(&rows)?;
    if chosen.is_everything && failed.is_empty() {
        dashboard::write(&environment.prometheus, started.elapsed()).await?;
    }
    if !failed.is_empty() {
        bail!("of {} drills {} held, these failed: {}", chosen.drills.len(), rows.len(), failed.join(", "));
    }
    Ok(())
}

/// Holds a drill, and checks its promises and the alerts that it must have raised.
async fn hold(environment: &Environment, drill: &Drill, alerts: &BTreeMap<String, BTreeSet<String>>) -> Result<Row> {
    environment.begin(&drill.name);
    if !drill.boots {
        timeout(BOOTS_WITHIN, environment.boot()).await.context("the lab does not boot in time")??;
    }
    let (story, began, deadline) = (stories::find(&drill.name)?, Instant::now(), drill.deadline());
    let told = timeout(deadline, story(environment)).await;
    let outcome = told.with_context(|| format!("it did not end within {deadline:?}"))??;
    if let Some(figures) = &outcome.figures {
        drill.promises.check(figures)?;
    }
    let expected =
        alerts.get(&drill.name).with_context(|| format!("no scenario says which alerts {} raises", drill.name))?;
    alerts::until_fired(&environment.prometheus, began, expected).await?;
    Ok(Row { drill: drill.name.clone(), figures: outcome.figures, note: outcome.note })
}

async fn keep_journals(environment: &Environment, drill: &Drill) {
    match environment.keep_journals(&drill.name).await {
        Ok(directory) => println!("    the nodes' journals are in {}", directory.display()),
        Err(error) => println!("    the nodes' journals can't be kept: {error:#}"),
    }
}
