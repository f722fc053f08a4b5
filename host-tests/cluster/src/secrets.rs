//! Secrets Manager, emulated by moto, and External Secrets, which copies the pods' secrets from it.

use crate::addresses::REGION;
use crate::control_plane::{ControlPlane, PATIENCE};
use crate::daemon::Daemon;
use crate::parts::Parts;
use anyhow::{Context, Result};
use dob_support::{cmd, eventually, project_file, read};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::net::TcpStream;

const NAME: &str = "external-secrets";
/// The definitions of the resources that the manifests use, and of one without which External Secrets ends after two minutes.
const DEFINITIONS: [&str; 3] = [
    "external-secrets.io_externalsecrets",
    "external-secrets.io_secretstores",
    "generators.external-secrets.io_generatorstates",
];
/// The emulator's port on this machine.
const PORT: u16 = 4566;
/// The secret that the manifests copy from, as `terraform/modules/secrets` names it.
const SECRET: &str = "dob/api";
/// The emulator accepts any credentials, but clients do not start without.
const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "emulated"), ("AWS_SECRET_ACCESS_KEY", "emulated")];

/// Both, running.
pub(crate) struct SecretsManager {
    /// The file through which values go, because every process can read a command line.
    file: PathBuf,
    region: String,
    emulator: Daemon,
    controller: Daemon,
}

/// Defines the resources of External Secrets for a cluster that does not run it.
pub(crate) fn define_resources(plane: &ControlPlane) -> Result<()> {
    plane.apply(include_str!("../manifests/external-secrets-resources.yaml"))
}

/// Starts the emulator, which takes some seconds to listen.
pub(crate) fn start_emulator(directory: &Path) -> Result<Daemon> {
    let mut emulator = Command::new(project_file(".venv/bin/moto_server"));
    emulator.args(["--host", "127.0.0.1", "--port", &PORT.to_string()]);
    Daemon::start(directory, "secrets-manager", &mut emulator)
}

impl SecretsManager {
    /// Starts External Secrets. The secret has no value yet.
    pub async fn start(emulator: Daemon, plane: &ControlPlane, parts: &Parts) -> Result<Self> {
        let controller = start_controller(plane, parts)?;
        eventually("the emulator of Secrets Manager listens", PATIENCE, async || {
            emulator.ensure_running()?;
            Ok(TcpStream::connect(("127.0.0.1", PORT)).await.map(drop)?)
        })
        .await?;
        let file = plane.directory.join("secret.json");
        let manager = Self { file, region: region()?, emulator, controller };
        manager.call(&["create-secret", "--name", SECRET])?;
        Ok(manager)
    }

    /// Fails if one of both has ended by itself.
    pub fn ensure_running(&self) -> Result<()> {
        self.emulator.ensure_running().context("the emulator of Secrets Manager")?;
        self.controller.ensure_running().context("External Secrets")
    }

    /// Sets the secret's value.
    pub fn put(&self, value: &Value) -> Result<()> {
        fs::write(&self.file, value.to_string())?;
        let value = format!("file://{}", self.file.display());
        self.call(&["put-secret-value", "--secret-id", SECRET, "--secret-string", &value])?;
        Ok(fs::remove_file(&self.file)?)
    }

    fn call(&self, arguments: &[&str]) -> Result<()> {
        let program = project_file(".venv/bin/aws");
        let options = ["--region", &self.region, "--endpoint-url", &endpoint(), "secretsmanager"];
        let call = cmd(program, [&options, arguments].concat());
        read(&CREDENTIALS.iter().fold(call, |call, (name, value)| call.env(name, value))).map(drop)
    }
}

/// Starts External Secrets beside the control plane, with the reconcilers that the chart's values leave on.
fn start_controller(plane: &ControlPlane, parts: &Parts) -> Result<Daemon> {
    for definition in DEFINITIONS {
        let file = parts.source(&format!("config/crds/bases/{definition}.yaml"))?;
        plane.kubectl(&["apply", "--server-side", "--filename", &file.to_string_lossy()])?;
    }
    plane.kubectl(&["create", "namespace", NAME])?;
    plane.apply(include_str!("../manifests/external-secrets.yaml"))?;
    plane.bind_role(NAME, NAME, NAME)?;
    let mut controller = Command::new(parts.program(NAME)?);
    controller.env("KUBECONFIG", plane.kubeconfig_of(NAME, NAME)?).envs(CREDENTIALS);
    controller.env("AWS_SECRETSMANAGER_ENDPOINT", endpoint());
    for reconciler in ["cluster-store", "cluster-external-secret", "cluster-push-secret", "push-secret"] {
        controller.arg(format!("--enable-{reconciler}-reconciler=false"));
    }
    controller.args(["--metrics-addr=0", "--live-addr=127.0.0.1:8083"]);
    Daemon::start(&plane.directory, NAME, &mut controller)
}

fn endpoint() -> String {
    format!("http://127.0.0.1:{PORT}")
}

fn region() -> Result<String> {
    let text = fs::read_to_string(project_file(REGION))?;
    let region = text.lines().find_map(|line| line.trim().strip_prefix("aws_region: "));
    Ok(region.with_context(|| format!("{REGION} names no aws_region"))?.to_owned())
}
