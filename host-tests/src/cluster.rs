//! `make cluster`: SpinKube with the component rolled out, until Ctrl-C.

use anyhow::{Context, Result};
use dob_cluster::{API_SERVER, Checkout, Cluster, Database, Parts, Plan, WAY_IN, shim};
use dob_namespaces::Door;
use dob_way_in::Settings;
use std::process::ExitCode;

/// Where the caller's shell finds the cluster: ports of 127.0.0.1, and the open files that lead inside.
const KUBERNETES: (&str, u16) = ("DOB_KUBERNETES", 6443);
const SERVICE: (&str, u16) = ("DOB_SERVICE", 8080);

/// Starts the cluster, rolls out, and says how to reach what runs.
pub async fn run() -> Result<ExitCode> {
    if !dob_namespaces::is_inside() {
        Parts::prepare(true)?;
        for (variable, port) in [KUBERNETES, SERVICE] {
            Door::reserve(variable, port).context("is another cluster up?")?;
        }
        return dob_namespaces::enter("the cluster");
    }
    tokio::select! {
        result = serve() => result,
        _ = tokio::signal::ctrl_c() => {
            println!("The cluster is gone.");
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve() -> Result<ExitCode> {
    let parts = Parts::prepare(true)?;
    dob_namespaces::prepare()?;
    println!("Starting Kubernetes {} ...", parts.kubernetes);
    let plan = Plan { target_group: Settings::of_project()?, has_addons: true, shim: shim()? };
    let cluster = Cluster::start(&parts, &plan).await?;
    let database = Database::start().await?;
    database.put_secrets(&cluster)?;
    println!("Rolling out ...");
    let mut checkout = Checkout::make(&cluster, &parts)?;
    checkout.set_digest(&cluster.registry.push_component("dev")?)?;
    checkout.roll_out().await?;
    let _doors = [Door::open(KUBERNETES.0, API_SERVER)?, Door::open(SERVICE.0, WAY_IN)?];
    println!("up");
    std::future::pending().await
}
