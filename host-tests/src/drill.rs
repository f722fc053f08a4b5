//! `make drill` and `make rollout`: the lab's nodes, or the cluster, broken under load.

use anyhow::{Result, bail};
use dob_cluster::Parts;
use dob_drills::{Chosen, Pace, Place};
use dob_lab::{Base, Plan};
use std::process::ExitCode;

/// Holds the chosen drills of the database inside namespaces of their own.
pub async fn run_on_lab(names: &[String]) -> Result<ExitCode> {
    let chosen = Chosen::by(Place::Lab, names)?;
    if !dob_namespaces::is_inside() {
        // What takes the machine's own network and files happens outside.
        Base::prepare(&Plan::render()?)?;
        return dob_namespaces::enter("the lab");
    }
    until_interrupted(dob_drills::run_on_lab(&chosen)).await
}

/// The same with those of the cluster.
pub async fn run_on_cluster(names: &[String], pace: Pace) -> Result<ExitCode> {
    let chosen = Chosen::by(Place::Cluster, names)?;
    if !dob_namespaces::is_inside() {
        Parts::prepare(false)?;
        return dob_namespaces::enter("the cluster");
    }
    until_interrupted(dob_drills::run_on_cluster(&chosen, pace)).await
}

async fn until_interrupted(drills: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    tokio::select! {
        done = drills => done.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => bail!("stopped; all that was started is gone"),
    }
}
