//! `make drill` and `make rollout`: the lab's nodes, or the cluster, broken under load.

use anyhow::{Result, bail};
use dob_cluster::Parts;
use dob_drills::{Chosen, Pace, Place};
use dob_lab::{BaseImage, Plan};
use std::process::ExitCode;

/// Holds the chosen drills of the database inside namespaces of their own.
pub async fn run_on_lab(names: &[String]) -> Result<ExitCode> {
    let chosen = Chosen::by(&[Place::Lab], names)?;
    if !dob_namespaces::is_inside() {
        // What takes the machine's own network and files happens outside.
        BaseImage::prepare(&Plan::render()?)?;
        return dob_namespaces::enter("the lab");
    }
    until_interrupted(dob_drills::run_on_lab(&chosen)).await
}

/// The same with those of the cluster.
pub async fn run_on_cluster(names: &[String], pace: Pace) -> Result<ExitCode> {
    let chosen = Chosen::by(&[Place::Cluster, Place::ClusterOnLab], names)?;
    if !dob_namespaces::is_inside() {
        Parts::prepare(chosen.needs_addons())?;
        return enter_for_each_place(&chosen, pace);
    }
    until_interrupted(dob_drills::run_on_cluster(&chosen, pace)).await
}

/// Each place has namespaces of its own.
fn enter_for_each_place(chosen: &Chosen, pace: Pace) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for place in [Place::Cluster, Place::ClusterOnLab] {
        let names: Vec<String> = chosen.at(place).map(|drill| drill.name.clone()).collect();
        if names.is_empty() {
            continue;
        }
        if place == Place::ClusterOnLab {
            BaseImage::prepare(&Plan::render()?)?;
        }
        let size = (pace == Pace::FULL).then(|| "--full-size".to_owned());
        let arguments = ["rollout".to_owned()].into_iter().chain(names).chain(size);
        let ended = dob_namespaces::enter_with("the cluster", arguments)?;
        if ended != ExitCode::SUCCESS {
            code = ended;
        }
    }
    Ok(code)
}

async fn until_interrupted(drills: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    tokio::select! {
        done = drills => done.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => bail!("stopped; all that was started is gone"),
    }
}
