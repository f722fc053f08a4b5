//! `make lab`: serves the component on a region's nodes, until Ctrl-C.

use anyhow::Result;
use dob_lab::{BaseImage, CENTRAL, HERE, Lab, Plan, Roles, WEST};
use dob_run::prepare_schema;
use dob_spin::{Build, Options, Server};
use std::process::ExitCode;

const PORT: u16 = 3000;

/// Boots the first region, or both, and prints how to reach the nodes.
pub async fn run(both: bool) -> Result<ExitCode> {
    if !dob_namespaces::is_inside() {
        BaseImage::prepare(&Plan::render()?)?;
        return dob_namespaces::enter("the lab");
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
    let image = BaseImage::prepare(&plan)?;
    dob_namespaces::prepare()?;
    let lab = Lab::make(plan, &image)?;
    let west = lab.region(WEST);
    println!("Booting the nodes of {WEST} ...");
    west.power_on().await?;
    let roles = west.until_leading().await?;
    if both {
        println!("Booting the nodes of {CENTRAL} ...");
        lab.region(CENTRAL).power_on().await?;
        lab.region(CENTRAL).until_following().await?;
    }
    let variables = west.variables("dob_api_a", "lab-password", lab.admin_password())?;
    let options = Options { variables, ..Options::default() };
    let server = Server::serve(&Build::chosen()?.manifest(), options, (HERE, PORT).into()).await?;
    prepare_schema(&server.url()).await?;
    println!("{}", welcome(&lab, roles, &server.url()));
    std::future::pending().await
}

fn welcome(lab: &Lab, Roles { leader, replica, .. }: Roles, url: &str) -> String {
    let shells =
        lab.nodes.values().filter(|node| node.is_on()).map(|node| format!("  {:10} {}", node.name, node.shell()));
    format!(
        "{leader} leads, {replica} follows. The lab has a network of its own; from another terminal, as root:

  nsenter --target $(pgrep --oldest --full 'systemd-nspawn.*--machine={leader}') --net bash
  curl -i -X PUT -d '{{\"dateOfBirth\": \"1990-05-20\"}}' {url}/hello/John
  curl -i {url}/hello/John

A shell on a node, where dob-status, dob-switchover, dob-backup and their like are:

{}

Ctrl-C removes everything.",
        shells.collect::<Vec<_>>().join("\n"),
        leader = leader.name,
        replica = replica.name,
    )
}
