//! `make drill`: the lab's nodes broken under load.

use anyhow::{Result, bail};
use dob_drills::Chosen;
use dob_lab::{Base, Plan};
use std::process::ExitCode;

/// Runs the chosen drills inside namespaces of their own.
pub async fn run(names: &[String]) -> Result<ExitCode> {
    let chosen = Chosen::by(names)?;
    if !dob_namespaces::is_inside() {
        // What takes the machine's own network and files happens outside.
        Base::prepare(&Plan::render()?)?;
        return dob_namespaces::enter("the lab");
    }
    tokio::select! {
        done = dob_drills::run(&chosen) => done.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => bail!("stopped; the lab is gone"),
    }
}
