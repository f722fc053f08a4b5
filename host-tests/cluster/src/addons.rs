//! What a cluster on EKS has besides: metrics for the autoscaler, network policies, names. The nodes run what keeps network policies.

use crate::addresses::{DNS, HERE};
use crate::control_plane::ControlPlane;
use crate::daemon::Daemon;
use crate::parts::Parts;
use crate::registry::Registry;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

const NAMESPACE: &str = "kube-system";
const METRICS_PORT: u16 = 4443;

/// Gives kube-router, which keeps network policies on every node, its rights; gives its kubeconfig.
pub(crate) fn prepare_network_policies(plane: &ControlPlane) -> Result<PathBuf> {
    plane.apply(include_str!("../manifests/kube-router.yaml"))?;
    plane.kubeconfig_of(NAMESPACE, "kube-router")
}

/// Has the cluster's names answered by CoreDNS, in a pod as on EKS: network policies name it.
pub(crate) fn start_names(plane: &ControlPlane, registry: &Registry, parts: &Parts) -> Result<()> {
    let image = registry.push_program(&parts.program("coredns")?, &[])?;
    let manifests = include_str!("../manifests/coredns.yaml");
    plane.apply(&manifests.replace("COREDNS_IMAGE", &image).replace("DNS_ADDRESS", &DNS.to_string()))
}

/// Starts metrics-server beside the control plane.
pub(crate) fn start_metrics(plane: &ControlPlane, parts: &Parts) -> Result<Daemon> {
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
