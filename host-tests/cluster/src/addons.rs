//! The add-ons of a cluster on EKS: metrics for the autoscaler, network policies, DNS, the descheduler. Network policies are enforced on
//! the nodes.

use crate::addresses::{DNS, HERE};
use crate::control_plane::ControlPlane;
use crate::daemon::Daemon;
use crate::parts::Parts;
use crate::registry::Registry;
use anyhow::{Context, Result};
use dob_support::project_file;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const NAMESPACE: &str = "kube-system";
const METRICS_PORT: u16 = 4443;
/// The descheduler's policy and interval, as on EKS.
const DESCHEDULER: &str = "descheduler";
const DESCHEDULER_POLICY: &str = "k8s/controllers/descheduler.yaml";
const DESCHEDULER_VALUES: &str = "k8s/controllers/descheduler.yaml.gotmpl";
/// The setting of the policy, in minutes, that shrinks where pods come and go faster.
const MINIMUM_AGE: &str = "minPodAge: ";

/// Grants kube-router, which enforces network policies on every node, its rights. Returns its kubeconfig.
pub(crate) fn prepare_network_policies(plane: &ControlPlane) -> Result<PathBuf> {
    plane.apply(include_str!("../manifests/kube-router.yaml"))?;
    plane.kubeconfig_of(NAMESPACE, "kube-router")
}

/// Starts all other add-ons.
pub(crate) fn start(plane: &ControlPlane, registry: &Registry, parts: &Parts, faster_by: u32) -> Result<Vec<Daemon>> {
    start_names(plane, registry, parts)?;
    Ok(vec![start_metrics(plane, parts)?, start_descheduler(plane, parts, faster_by)?])
}

/// Starts CoreDNS in a pod, as on EKS, because network policies select that pod.
fn start_names(plane: &ControlPlane, registry: &Registry, parts: &Parts) -> Result<()> {
    let image = registry.push_program(&parts.program("coredns")?, &[])?;
    let manifests = include_str!("../manifests/coredns.yaml");
    plane.apply(&manifests.replace("COREDNS_IMAGE", &image).replace("DNS_ADDRESS", &DNS.to_string()))
}

/// Starts metrics-server beside the control plane.
fn start_metrics(plane: &ControlPlane, parts: &Parts) -> Result<Daemon> {
    let manifests = include_str!("../manifests/metrics-server.yaml");
    let manifests = manifests.replace("HERE", &HERE.to_string()).replace("METRICS_PORT", &METRICS_PORT.to_string());
    plane.apply(&manifests)?;
    let kubeconfig = plane.kubeconfig_of(NAMESPACE, "metrics-server")?;
    let mut server = Command::new(parts.program("metrics-server")?);
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        server.arg(format!("--{flag}={}", kubeconfig.display()));
    }
    server.arg(format!("--secure-port={METRICS_PORT}")).arg("--cert-dir").arg(plane.directory.join("metrics-server"));
    // The kubelets sign their own certificates.
    server.args(["--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP", "--metric-resolution=15s"]);
    Daemon::start(&plane.directory, "metrics-server", &mut server)
}

/// Starts the descheduler beside the control plane. The administrator's manifests grant its rights before the first rollout.
fn start_descheduler(plane: &ControlPlane, parts: &Parts, faster_by: u32) -> Result<Daemon> {
    let policy = plane.directory.join("descheduler.yaml");
    fs::write(&policy, descheduler_policy(faster_by)?)?;
    plane.kubectl(&["create", "namespace", DESCHEDULER])?;
    plane.kubectl(&["--namespace", DESCHEDULER, "create", "serviceaccount", DESCHEDULER])?;
    let mut descheduler = Command::new(parts.program(DESCHEDULER)?);
    descheduler.arg("--policy-config-file").arg(policy);
    descheduler.arg("--kubeconfig").arg(plane.kubeconfig_of(DESCHEDULER, DESCHEDULER)?);
    descheduler.args(["--descheduling-interval", &descheduling_interval()?, "--secure-port=0"]);
    Daemon::start(&plane.directory, DESCHEDULER, &mut descheduler)
}

/// How old a pod must be before the descheduler evicts it.
pub fn eviction_age(faster_by: u32) -> Result<Duration> {
    let policy = fs::read_to_string(project_file(DESCHEDULER_POLICY))?;
    let minutes = policy.lines().find_map(|line| line.trim_start().strip_prefix(MINIMUM_AGE)?.strip_suffix('m'));
    let minutes = minutes.with_context(|| format!("{DESCHEDULER_POLICY} has no {MINIMUM_AGE}"))?;
    let minutes: u64 = minutes.parse().with_context(|| format!("{DESCHEDULER_POLICY}: {MINIMUM_AGE}{minutes}m"))?;
    Ok(Duration::from_secs(60 * minutes) / faster_by)
}

fn descheduler_policy(faster_by: u32) -> Result<String> {
    let policy = fs::read_to_string(project_file(DESCHEDULER_POLICY))?;
    let age = format!("{MINIMUM_AGE}{}s", eviction_age(faster_by)?.as_secs());
    let line = |line: &str| match line.split_once(MINIMUM_AGE) {
        Some((indent, _)) => format!("{indent}{age}\n"),
        None => format!("{line}\n"),
    };
    Ok(policy.lines().map(line).collect())
}

fn descheduling_interval() -> Result<String> {
    let values = fs::read_to_string(project_file(DESCHEDULER_VALUES))?;
    let interval = values.lines().find_map(|line| line.strip_prefix("deschedulingInterval: "));
    Ok(interval.with_context(|| format!("{DESCHEDULER_VALUES} has no deschedulingInterval"))?.to_owned())
}
