//! `make drill` and `make rollout`: break the lab's nodes, or the cluster, under load.

use anyhow::Result;
use dob_cluster::{Parts, shim};
use dob_drills::{Pace, Selection, Testbed};
use dob_lab::{BaseImage, Plan};
use std::process::ExitCode;

/// The exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Runs the named drills of the database in new namespaces.
pub async fn run_on_lab(names: &[String]) -> Result<ExitCode> {
    let selection = Selection::by(&[Testbed::Lab], names)?;
    if !dob_namespaces::is_inside() {
        // Preparations that need the machine's own network and files happen outside the namespaces.
        let image = BaseImage::prepare(&Plan::render()?)?;
        if selection.needs_newer_postgresql() {
            image.add_newer()?;
        }
        return dob_namespaces::enter("the lab");
    }
    until_interrupted(dob_drills::run_on_lab(&selection)).await
}

/// Runs the named drills of the cluster in new namespaces.
pub async fn run_on_cluster(names: &[String], pace: Pace) -> Result<ExitCode> {
    let selection = Selection::by(&[Testbed::Cluster, Testbed::ClusterOnLab], names)?;
    if !dob_namespaces::is_inside() {
        // Preparations that need the machine's own network and files happen outside the namespaces.
        shim()?;
        Parts::prepare(selection.needs_addons())?;
        if selection.at(Testbed::ClusterOnLab).next().is_some() {
            BaseImage::prepare(&Plan::render()?)?;
        }
        return enter_for_each_testbed(&selection, pace);
    }
    until_interrupted(dob_drills::run_on_cluster(&selection, pace)).await
}

/// Runs the drills of each testbed in other namespaces.
fn enter_for_each_testbed(selection: &Selection, pace: Pace) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for testbed in [Testbed::Cluster, Testbed::ClusterOnLab] {
        let names: Vec<String> = selection.at(testbed).map(|drill| drill.name.clone()).collect();
        if names.is_empty() {
            continue;
        }
        let size = (pace == Pace::FULL).then(|| "--full-size".to_owned());
        let arguments = ["rollout".to_owned()].into_iter().chain(names).chain(size);
        let ended = dob_namespaces::enter_with("the cluster", arguments)?;
        if ended == ExitCode::from(INTERRUPTED) {
            return Ok(ended);
        }
        if ended != ExitCode::SUCCESS {
            code = ended;
        }
    }
    Ok(code)
}

async fn until_interrupted(drills: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    tokio::select! {
        // In this order, so that Ctrl-C is noticed from the start.
        biased;
        _ = tokio::signal::ctrl_c() => {
            eprintln!("stopped; everything that was started has ended");
            Ok(ExitCode::from(INTERRUPTED))
        }
        done = drills => done.map(|()| ExitCode::SUCCESS),
    }
}
