//! The real spin-operator, with its webhooks. It runs beside the cluster, with the rights that its chart grants.

use crate::addresses::HERE;
use crate::control_plane::{ControlPlane, PATIENCE};
use crate::daemon::Daemon;
use crate::parts::Parts;
use anyhow::{Context, Result, ensure};
use dob_support::{Authority, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use tokio::net::TcpStream;

const NAMESPACE: &str = "spin-operator";
const WEBHOOK_PORT: u16 = 9443;
/// Where the operator's library looks for its certificate, below the directory for temporary files.
const CERTIFICATES: &str = "k8s-webhook-server/serving-certs";

/// The running operator.
pub(crate) struct Operator {
    directory: PathBuf,
    program: PathBuf,
    kubeconfig: PathBuf,
    daemon: Mutex<Option<Daemon>>,
}

impl Operator {
    /// Installs it on a cluster and starts it.
    pub async fn install(plane: &ControlPlane, parts: &Parts) -> Result<Self> {
        let definitions = parts.source("config/crd/bases")?;
        plane.kubectl(&["apply", "--server-side", "--filename", &definitions.to_string_lossy()])?;
        plane.apply(&fs::read_to_string(parts.source("config/rbac/role.yaml")?)?)?;
        plane.kubectl(&["create", "namespace", NAMESPACE])?;
        plane.bind_role(NAMESPACE, "spin-operator", "manager-role")?;
        let authority = Authority::new("webhooks")?;
        let directory = plane.directory.join("operator");
        write_certificate(&directory, &authority)?;
        let kubeconfig = plane.kubeconfig_of(NAMESPACE, "spin-operator")?;
        let operator =
            Self { directory, program: parts.program("spin-operator")?, kubeconfig, daemon: Mutex::default() };
        operator.start().await?;
        register_webhooks(plane, parts, &authority)?;
        Ok(operator)
    }

    /// Starts it; returns when its webhooks listen.
    pub async fn start(&self) -> Result<()> {
        let mut operator = Command::new(&self.program);
        operator.env("KUBECONFIG", &self.kubeconfig).env("TMPDIR", &self.directory);
        operator.args(["--enable-webhooks", "--metrics-bind-address=0", "--health-probe-bind-address=127.0.0.1:8082"]);
        let daemon = Daemon::start(&self.directory, "spin-operator", &mut operator)?;
        eventually("the spin-operator's webhooks listen", PATIENCE, async || {
            daemon.ensure_running()?;
            Ok(TcpStream::connect((HERE, WEBHOOK_PORT)).await.map(drop)?)
        })
        .await?;
        self.daemon.lock().expect("nobody panics while it holds this").replace(daemon);
        Ok(())
    }

    /// Kills it, as a crash would.
    pub fn stop(&self) {
        self.daemon.lock().expect("nobody panics while it holds this").take();
    }
}

fn write_certificate(directory: &Path, authority: &Authority) -> Result<()> {
    let certificates = directory.join(CERTIFICATES);
    fs::create_dir_all(&certificates)?;
    let server = authority.server(&[HERE.to_string()])?;
    fs::write(certificates.join("tls.crt"), server.certificate)?;
    Ok(fs::write(certificates.join("tls.key"), server.key)?)
}

/// The webhooks of the operator's chart, at the address where it runs here.
fn register_webhooks(plane: &ControlPlane, parts: &Parts, authority: &Authority) -> Result<()> {
    let manifests = fs::read_to_string(parts.source("config/webhook/manifests.yaml")?)?;
    let bundle = plane.directory.join("operator/authority.crt");
    fs::write(&bundle, &authority.certificate)?;
    let bundle = dob_support::read(&dob_support::cmd!("base64", "--wrap=0", bundle))?;
    for mut configuration in serde_saphyr::from_multiple::<Value>(&manifests)? {
        let webhooks = configuration["webhooks"].as_array_mut().context("webhooks")?;
        ensure!(!webhooks.is_empty(), "the operator's manifests name no webhook");
        for webhook in webhooks {
            let path = webhook["clientConfig"]["service"]["path"].as_str().context("a path")?;
            let url = format!("https://{HERE}:{WEBHOOK_PORT}{path}");
            webhook["clientConfig"] = json!({ "url": url, "caBundle": bundle });
        }
        plane.apply(&configuration.to_string())?;
    }
    Ok(())
}
