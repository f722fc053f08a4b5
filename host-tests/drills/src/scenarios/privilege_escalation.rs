//! A deployer tries to escalate its rights.

use crate::cluster::ClusterEnvironment;
use crate::outcome::Outcome;
use anyhow::{Context, Result, ensure};
use dob_cluster::AS_DEPLOYER;
use std::time::{Duration, Instant};

/// A pod that takes over its node.
const PRIVILEGED: &str = r#"{"spec": {"hostPID": true, "containers": [{"name": "taken", "image": "busybox",
"securityContext": {"privileged": true}}]}}"#;
const HOST_PATH: &str = r#"{"spec": {"volumes": [{"name": "node", "hostPath": {"path": "/"}}], "containers": [{"name": "taken",
"image": "busybox", "volumeMounts": [{"name": "node", "mountPath": "/node"}]}]}}"#;
/// A policy for Deployments, changed so that it redirects role bindings to the deployer.
const HIJACK: &str = r#"{"spec": {"matchConstraints": {"resourceRules": [{"apiGroups": ["rbac.authorization.k8s.io"],
"apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["clusterrolebindings"]}]}, "variables": [], "mutations": [{
"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: \"replace\", path: \"/subjects/0/name\", value: \"deployer\"}]"}}]}}"#;

/// The administrator's command that this policy would redirect.
const BIND: [&str; 6] =
    ["create", "clusterrolebinding", "viewer", "--clusterrole=view", "--user=viewer", "--output=json"];
/// How long the API server may take to apply a changed policy.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Commands of kubectl that must be refused.
const REFUSED: [&[&str]; 10] = [
    &["label", "namespace", "dob-api", "pod-security.kubernetes.io/enforce=privileged", "--overwrite"],
    &["--namespace=dob-api", "run", "taken", "--image=busybox"],
    &["delete", "validatingadmissionpolicybinding", "dob-api-confined"],
    &["delete", "mutatingadmissionpolicy", "dob-api-pods"],
    &["create", "clusterrolebinding", "taken", "--clusterrole=cluster-admin", "--user=deployer"],
    &["--namespace=dob-api", "create", "rolebinding", "taken", "--clusterrole=admin", "--user=deployer"],
    &["--namespace=dob-api", "get", "secret", "dob-api-admin"],
    &["--namespace=spin-operator", "create", "token", "spin-operator"],
    &["label", "node", "node-a", "taken=yes"],
    &["--namespace=dob-api", "exec", "deployment/dob-api", "--", "true"],
];

/// A deployer tries ten commands that would extend its rights. An administrator tries pods that take over their node, and a policy that
/// redirects a command.
pub async fn tried(environment: &ClusterEnvironment) -> Result<Outcome> {
    environment.ready().await?;
    for command in REFUSED {
        let error = environment.cluster.kubectl(&[&AS_DEPLOYER[..], command].concat()).err();
        let error = error.with_context(|| format!("deployers may {}", command.join(" ")))?.to_string();
        ensure!(error.contains("orbidden"), "{} was refused for another reason: {error}", command.join(" "));
    }
    for pod in [PRIVILEGED, HOST_PATH] {
        let overrides = format!("--overrides={pod}");
        let run = ["--namespace=dob-api", "run", "taken", "--image=busybox", &overrides];
        ensure!(
            environment.cluster.kubectl(&run).is_err(),
            "the namespace accepts a pod that takes over its node: {pod}"
        );
    }
    policy_for_deployments_changes_nothing_else(environment).await?;
    Ok(Outcome::noted(format!("{} commands that would extend the rights, and two pods, refused", REFUSED.len())))
}

/// Deployers may change the policy for Deployments, because it has values from `drain.yaml`.
async fn policy_for_deployments_changes_nothing_else(environment: &ClusterEnvironment) -> Result<()> {
    let patch = ["patch", "mutatingadmissionpolicy", "dob-api-deployments", "--type=merge", "--patch", HIJACK];
    environment
        .cluster
        .kubectl(&[&AS_DEPLOYER[..], &patch].concat())
        .context("deployers must be allowed to change the policy for Deployments")?;
    let judged = bindings_stay(environment).await;
    environment.take_back().await?;
    judged
}

/// The administrator's binding must stay as it is, for as long as the API server may take to apply a policy.
async fn bindings_stay(environment: &ClusterEnvironment) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < READ_WITHIN {
        let made = environment.cluster.kubectl(&BIND)?;
        environment.cluster.kubectl(&["delete", "clusterrolebinding", "viewer"])?;
        let is_kept = made.contains("\"viewer\"") && !made.contains("\"deployer\"");
        ensure!(is_kept, "an administrator's binding was changed: {made}");
    }
    Ok(())
}
