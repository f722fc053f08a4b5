//! `make cluster`: SpinKube with the component rolled out, until Ctrl-C.

use anyhow::{Context, Result};
use dob_cluster::{API_SERVER, Checkout, Cluster, Database, LOAD_BALANCER, Parts, Plan, make_network, shim};
use dob_namespaces::PortForward;
use dob_support::project_file;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// The cluster's ports on 127.0.0.1 for the caller's shell, each with the variable that names its open file.
const KUBERNETES: (&str, u16) = ("DOB_KUBERNETES", 6443);
const SERVICE: (&str, u16) = ("DOB_SERVICE", 8080);
/// The kubeconfig for the caller's kubectl.
const KUBECONFIG: &str = ".cluster/kubeconfig";

/// Starts the cluster, rolls out, and prints how to reach it.
pub async fn run() -> Result<ExitCode> {
    if !dob_namespaces::is_inside() {
        shim()?;
        Parts::prepare(true)?;
        for (variable, port) in [KUBERNETES, SERVICE] {
            PortForward::reserve(variable, port)?;
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
    let started = Instant::now();
    // First of all: a process that is started before would inherit the open files.
    let _port_forwards = [PortForward::open(KUBERNETES.0, API_SERVER)?, PortForward::open(SERVICE.0, LOAD_BALANCER)?];
    let parts = Parts::prepare(true)?;
    dob_namespaces::prepare()?;
    make_network()?;
    println!("Starting Kubernetes {} with three nodes ...", parts.kubernetes);
    let plan = Plan { faster_by: 1, has_addons: true, shim: shim()? };
    let cluster = Cluster::start(&parts, &plan).await?;
    let database = Database::start().await?;
    println!("Rolling out ...");
    let mut checkout = Checkout::make(&cluster, &parts)?;
    checkout.prepare(&cluster, &database.access())?;
    cluster.start_monitoring(&parts, &database.access())?;
    checkout.set_digest(&cluster.registry.push_component("dev", None)?)?;
    checkout.roll_out().await?;
    let kubeconfig = Kubeconfig::write(&cluster.kubeconfig())?;
    println!("{}", welcome(&parts, &kubeconfig, started.elapsed().as_secs())?);
    std::future::pending().await
}

fn welcome(parts: &Parts, kubeconfig: &Kubeconfig, seconds: u64) -> Result<String> {
    Ok(format!(
        "Up after {seconds} s, with {shim}. From another terminal:

  export KUBECONFIG={kubeconfig}
  alias kubectl={kubectl}
  kubectl get nodes,pods --all-namespaces --output wide
  curl -i -X PUT -d '{{\"dateOfBirth\": \"1990-05-20\"}}' http://127.0.0.1:{port}/hello/John
  curl -i http://127.0.0.1:{port}/hello/John

Ctrl-C removes everything.",
        shim = shim()?.display(),
        kubeconfig = kubeconfig.0.display(),
        kubectl = parts.program("kubectl")?.display(),
        port = SERVICE.1,
    ))
}

/// The administrator's kubeconfig for the caller's shell. Dropping it removes the file.
struct Kubeconfig(PathBuf);

impl Kubeconfig {
    fn write(inside: &Path) -> Result<Self> {
        let text = fs::read_to_string(inside)?;
        let outside = text.replace(&API_SERVER.to_string(), &format!("127.0.0.1:{}", KUBERNETES.1));
        let directory = project_file(KUBECONFIG).parent().context("a directory")?.to_owned();
        fs::create_dir_all(&directory)?;
        let file = Self(directory.canonicalize()?.join("kubeconfig"));
        fs::write(&file.0, outside)?;
        fs::set_permissions(&file.0, fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
}

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}
