//! The monitoring of `k8s/observability` in the cluster's own pods: two collectors, and Debian's Prometheus.

use crate::parts::Parts;
use crate::{Access, Cluster};
use anyhow::{Context, Result};
use dob_support::project_file;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const NAMESPACE: &str = "observability";
/// The manifests of EKS, without the parts that need AWS.
const MANIFESTS: &str = "host-tests/cluster/manifests/monitoring";
/// Debian's programs; `promtool` queries Prometheus.
const PROMETHEUS: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";
/// How long its pods may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(180);

impl Cluster {
    /// Starts the monitoring. Its scrapes trust the database's certificate authority.
    pub fn start_monitoring(&self, parts: &Parts, access: &Access) -> Result<()> {
        self.registry.push_program(&parts.program("otel-collector")?, &[])?;
        self.registry.push_dynamic_programs(&[Path::new(PROMETHEUS), Path::new(PROMTOOL)])?;
        access.put_authority(self, NAMESPACE, "ca.crt")?;
        self.kubectl(&["apply", "--server-side", "--kustomize", &project_file(MANIFESTS).to_string_lossy()]).map(drop)
    }

    /// Deletes the monitoring, and waits until it is gone.
    pub fn stop_monitoring(&self) -> Result<()> {
        let manifests = project_file(MANIFESTS);
        let delete =
            ["delete", "--ignore-not-found", "--cascade=foreground", "--kustomize", &manifests.to_string_lossy()];
        self.kubectl_within(READY_WITHIN, &delete).map(drop)
    }

    /// Waits until its pods are ready.
    pub fn until_monitored(&self) -> Result<()> {
        for workload in ["otel-collector", "prometheus"] {
            let workload = format!("statefulset/{workload}");
            self.kubectl_within(READY_WITHIN, &["--namespace", NAMESPACE, "rollout", "status", &workload])?;
        }
        Ok(())
    }

    /// The current value of each series of an expression, by one of its labels.
    pub fn measured(&self, expression: &str, label: &str) -> Result<BTreeMap<String, f64>> {
        let query = [PROMTOOL, "query", "instant", "--format=json", "http://127.0.0.1:9090", expression];
        let text = self.kubectl(&[&["--namespace", NAMESPACE, "exec", "prometheus-0", "--"][..], &query].concat())?;
        let rows: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("Prometheus says {text}"))?;
        let series = |row: &Value| {
            let name = row["metric"][label].as_str()?.to_owned();
            Some((name, row["value"][1].as_str()?.parse().ok()?))
        };
        rows.iter().map(|row| series(row).with_context(|| format!("Prometheus says {row}"))).collect()
    }
}
