//! `make cluster`: SpinKube with the component rolled out, until Ctrl-C.

use anyhow::{Context, Result, ensure};
use dob_cluster::{API_SERVER, Checkout, Cluster, Database, Parts, Plan, WAY_IN};
use dob_namespaces::Door;
use dob_way_in::Settings;
use std::path::PathBuf;
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

/// The runtime of the pods: the one in SHIM, or the stand-in that was built with this program.
fn shim() -> Result<PathBuf> {
    const NAME: &str = "containerd-shim-spin-v2";
    let shim = match std::env::var_os("SHIM") {
        Some(path) => PathBuf::from(path).canonicalize().context("SHIM names no file")?,
        None => std::env::current_exe()?.with_file_name(NAME),
    };
    ensure!(shim.ends_with(NAME) && shim.exists(), "SHIM must name a program {NAME}, and {} is none", shim.display());
    Ok(shim)
}
