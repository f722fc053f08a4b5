//! `make lab`: a region's nodes with the component serving on them, until Ctrl-C.

use crate::quickstart::prepare_schema;
use anyhow::Result;
use dob_host::lab::{Base, HERE, Lab, Plan, inside, lab_command};
use dob_host::spin::{App, Manifest, Options, Server};
use std::process::ExitCode;

const REGION: &str = "eu-west-1";
const PORT: u16 = 3000;

/// Boots the first region, or both, and says how to reach what runs.
pub async fn run(both: bool) -> Result<ExitCode> {
    if !inside() {
        Base::prepare(&Plan::render()?)?;
        return lab_command();
    }
    tokio::select! {
        result = serve(both) => result,
        _ = tokio::signal::ctrl_c() => {
            println!("The lab is gone.");
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve(both: bool) -> Result<ExitCode> {
    let plan = Plan::render()?;
    let base = Base::prepare(&plan)?;
    let mut lab = Lab::make(plan, &base)?;
    println!("Booting the nodes of {REGION} ...");
    lab.power_on(REGION).await?;
    let (leader, replica) = lab.healthy(REGION, "primary").await?;
    if both {
        println!("Booting the nodes of the recovery region ...");
        lab.power_on("eu-central-1").await?;
        lab.healthy("eu-central-1", "standby_leader").await?;
    }
    let variables = lab.variables(REGION, "dob_api_a", "lab-password")?;
    let app = App::load(&Manifest::of_project()?, Options { variables, ..Options::default() })?;
    let server = Server::start(app, (HERE, PORT).into()).await?;
    prepare_schema(server.address).await?;
    println!("{}", welcome(&lab, &leader, &replica, &server.url()));
    std::future::pending().await
}

fn welcome(lab: &Lab, leader: &str, replica: &str, url: &str) -> String {
    let shells =
        lab.nodes.values().filter(|node| node.is_on()).map(|node| format!("  {:10} {}", node.name, node.shell()));
    format!(
        "{leader} leads, {replica} follows. The lab has a network of its own; from another terminal, as root:

  nsenter --target $(pgrep --oldest --full 'systemd-nspawn.*--machine={leader}') --net bash
  curl -i -X PUT -d '{{\"dateOfBirth\": \"1990-05-20\"}}' {url}/hello/John

A shell on a node, where dob-status, dob-switchover, dob-backup and their like are:

{}

Ctrl-C removes everything.",
        shells.collect::<Vec<_>>().join("\n")
    )
}
