//! What the rendered manifests say about replacing pods, with all times scaled down.

use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// How many times faster than in a cluster everything goes here, but for a probe's patience: the API is as fast as ever.
const FASTER: u32 = 15;

/// How a Deployment's pods are replaced, probed, drained and killed.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// How many pods serve.
    pub replicas: usize,
    /// How many pods there may be besides while versions change.
    pub max_surge: usize,
    /// How many of them may be missing then.
    pub max_unavailable: usize,
    /// How long a rollout may make no progress.
    pub progress_deadline: Duration,
    /// The kubelet's question whether a pod is ready.
    pub readiness: Probe,
    /// Whether a pod counts as ready only when the balancer has found it healthy, too.
    pub readiness_gate: bool,
    /// How long a pod goes on serving after it was told to end.
    pub pre_stop: Option<Duration>,
    /// How long after that telling it is killed.
    pub grace_period: Duration,
    /// The balancer's question.
    pub health_check: Probe,
    /// How long the balancer keeps the connections of a target that is leaving.
    pub deregistration_delay: Duration,
}

/// A question that is asked again and again.
#[derive(Debug, Clone)]
pub struct Probe {
    pub path: String,
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    /// Good answers in a row that make it ready.
    pub successes: u32,
    /// Bad answers in a row that make it not ready.
    pub failures: u32,
}

impl Manifests {
    /// An overlay as the cluster has it in the end.
    pub fn of(overlay: &str) -> Self {
        let resources = complete(overlay);
        let find = |kind: &str, name: &str| {
            let is_it = |resource: &&Value| resource["kind"] == kind && resource["metadata"]["name"] == name;
            resources.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name} in {overlay}"))
        };
        let deployment = &find("Deployment", "dob-api")["spec"];
        let pod = &deployment["template"]["spec"];
        let container = &pod["containers"][0];
        let drain = &find("ConfigMap", "drain")["data"];
        let namespace = &find("Namespace", "dob-api")["metadata"]["labels"];
        let readiness = Probe::of_kubelet(&container["readinessProbe"]);
        Self {
            replicas: number(&find("HorizontalPodAutoscaler", "dob-api")["spec"]["minReplicas"]) as usize,
            max_surge: number(&deployment["strategy"]["rollingUpdate"]["maxSurge"]) as usize,
            max_unavailable: number(&deployment["strategy"]["rollingUpdate"]["maxUnavailable"]) as usize,
            progress_deadline: scaled(&deployment["progressDeadlineSeconds"]),
            readiness_gate: namespace["elbv2.k8s.aws/pod-readiness-gate-inject"] == "enabled",
            pre_stop: Some(scaled(&container["lifecycle"]["preStop"]["sleep"]["seconds"])),
            grace_period: scaled(&pod["terminationGracePeriodSeconds"]),
            health_check: Probe {
                period: scaled(&drain["health_check_interval_seconds"]),
                successes: number(&drain["healthy_threshold_checks"]),
                failures: number(&drain["unhealthy_threshold_checks"]),
                ..readiness.clone()
            },
            deregistration_delay: scaled(&drain["deregistration_delay_seconds"]),
            readiness,
        }
    }
}

impl Probe {
    fn of_kubelet(probe: &Value) -> Self {
        Self {
            path: probe["httpGet"]["path"].as_str().expect("a path").to_owned(),
            initial_delay: scaled(&probe["initialDelaySeconds"]),
            period: scaled(&probe["periodSeconds"]),
            timeout: Duration::from_secs(number(&probe["timeoutSeconds"]).into()),
            successes: probe.get("successThreshold").map_or(1, number),
            failures: number(&probe["failureThreshold"]),
        }
    }
}

/// Seconds of a cluster in the time of this test.
pub fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()) / FASTER
}

fn scaled(value: &Value) -> Duration {
    seconds(number(value))
}

/// A number, which a ConfigMap holds as text.
fn number(value: &Value) -> u32 {
    let from_text = || value.as_str()?.parse().ok();
    value.as_u64().map(|number| number as u32).or_else(from_text).unwrap_or_else(|| panic!("{value} is no number"))
}

fn complete(overlay: &str) -> Vec<Value> {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/python");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/checks/cluster.py");
    let output = Command::new(python).args([program, overlay]).output().expect("Python's packages: `make checks`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}
