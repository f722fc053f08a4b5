"""Overlays that can't work are refused, with a sentence that says why."""

import pytest
import yaml

import check
from conftest import Copy
from rendering import ROOT


def refused(manifests: Copy, sentence: str) -> None:
    problems = check.problems(manifests.overlay)
    assert any(sentence in problem for problem in problems), problems


@pytest.mark.parametrize(
    "setting",
    ["database_host_a", "database_host_c", "database_node_a", "aws_region", "target_group_arn", "load_balancer_cidr_c", "alarm_topics"],
)
def test_a_setting_that_is_missing(manifests, setting):
    manifests.replace("overlays/primary/region.yaml", f"  {setting}:", f"  other_{setting}:")
    refused(manifests, f"primary: region.yaml has no {setting}; add it.")


def test_a_database_host_that_is_no_address(manifests):
    manifests.replace("overlays/primary/region.yaml", "10.20.68.11", "db-a.internal")
    refused(manifests, "A database host is db-a.internal: region.yaml must have its IPv4 address.")


@pytest.mark.parametrize(
    "file, old, new, sentence",
    [
        ("autoscaling.yaml", "minReplicas: 3", "minReplicas: 2", "minReplicas is 2: it must be 3 or more"),
        ("autoscaling.yaml", "maxReplicas: 4", "maxReplicas: 5", "maxReplicas is 5: as many new pods and as many old ones"),
        ("pods.yaml", "topologyKey: topology.kubernetes.io/zone", "topologyKey: rack", "must be spread over topology"),
        ("pods.yaml", "maxUnavailable: 0", "maxUnavailable: 1", "must roll with maxUnavailable 0"),
        ("drain.yaml", 'deregistration_delay_seconds: "30"', 'deregistration_delay_seconds: "90"', "does not hold"),
        ("drain.yaml", 'grace_period_seconds: "120"', 'grace_period_seconds: "90"', "does not hold"),
        ("spin-apps.yaml", "pg_password\n      valueFrom", "pg_pass\n      valueFrom", "does not set pg_password."),
        ("spin-apps.yaml", "pg_password\n      valueFrom", "pg_pass\n      valueFrom", "sets pg_pass, which spin.toml"),
        ("spin-apps.yaml", "key: pg_password", "key: password", "Secret dob-api in dob-api has no password"),
        ("kustomization.yaml", "{ kind: SpinApp, name: dob-api-schema }", "{ kind: SpinApp }", "no pod that serves"),
        ("disruption.yaml", "app-name: dob-api", "app-name: dob", "PodDisruptionBudget dob-api selects"),
        ("admission.yaml", "app-name: dob-api", "app-name: dob", "ValidatingAdmissionPolicyBinding dob-api-drain selects"),
        ("namespace.yaml", "pod-readiness-gate-inject: enabled", "pod-readiness-gate-inject: off", "gate-inject: enabled."),
        ("namespace.yaml", "enforce: restricted", "enforce: baseline", "Namespace dob-api must have the label pod-security"),
        ("spin-apps.yaml", "value: require", "value: prefer", "SpinApp dob-api must set pg_sslmode to require"),
        ("spin-apps.yaml", "    - name: pg_sslmode\n      value: require\n", "", "SpinApp dob-api-schema must set pg_sslmode to require"),
        ("network.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "NetworkPolicy that lets nothing in or out"),
        ("network.yaml", "port: 5432", "port: 5433", "TCP 5432 to 10.20.68.11/32 must be open."),
        ("network.yaml", "cidr: set-by-overlay/32", "cidr: 0.0.0.0/0", "TCP 5432 to 10.20.68.11/0 must not be open."),
        ("network.yaml", "otel-collector", "any", "TCP 4318 to otel-collector in observability must be open."),
        ("network.yaml", "        - protocol: UDP\n          port: 53\n", "        - protocol: UDP\n", "UDP port to kube-dns in kube-system must not be open."),
        ("api.yaml", "enableAutoscaling: true", "enableAutoscaling: true\n  replicas: 3", "SpinApp dob-api, spec"),
        ("api.yaml", "        httpHeaders: []\n", "", "SpinApp dob-api: its readiness probe must name its httpHeaders, an empty list where there are none"),
        ("spin-apps.yaml", "      httpHeaders: []\n", "", "SpinApp dob-api-schema: its liveness probe must name its httpHeaders"),
        ("schema.yaml", "    readiness:", "    startup:", "SpinApp dob-api-schema has no readiness probe."),
        ("api.yaml", "      cpu: 250m\n", "", "SpinApp dob-api must have cpu in resources.requests."),
        ("schema.yaml", "    limits:", "    most:", "SpinApp dob-api-schema must have memory in resources.limits."),
        ("api.yaml", "resources:", "lifecycle: {}\n  resources:", "'lifecycle' was unexpected"),
        ("api.yaml", "initialDelaySeconds: 1", "initialDelay: 1", "'initialDelay' was unexpected"),
        ("pods.yaml", "progressDeadlineSeconds:", "progressDeadline:", "'progressDeadline' was unexpected"),
        ("executor.yaml", "kind: SpinAppExecutor", "kind: Executor", "There must be one SpinAppExecutor spin"),
        ("pod-security.yaml", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "CKV_K8S_20"),
    ],
)
def test_a_base_that_can_not_work(manifests, file, old, new, sentence):
    manifests.replace(f"base/{file}", old, new)
    refused(manifests, sentence)


@pytest.mark.parametrize(
    "file, old, new, sentence",
    [
        ("prometheus.yaml", "@sha256:5ce7540c3c00ef4ab0c9d2c995c6a5b9c421f44b4a115d97a2c7af3b1c21cbb0", "", "<version>@sha256:<digest>."),
        ("namespace.yaml", "enforce: restricted", "enforce: privileged", "Namespace observability must have the label pod-security"),
        ("network.yaml", "  podSelector: {}\n", "  podSelector: { matchLabels: { a: b } }\n", "Namespace observability must have a NetworkPolicy"),
        ("secrets.yaml", "secretKey: ca.crt", "secretKey: tls.crt", "Secret database-ca in observability has no ca.crt"),
        ("alertmanager.yaml", "serviceName:", "service:", "'service' was unexpected"),
        ("pods.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "CKV_K8S_22"),
    ],
)
def test_monitoring_that_can_not_work(manifests, file, old, new, sentence):
    manifests.replace(f"observability/{file}", old, new)
    refused(manifests, sentence)


def test_pods_without_readiness_gate_are_let_in(manifests):
    manifests.replace("aws/load-balancer.yaml", "policyName: dob-api-readiness-gate", "policyName: dob-api-readiness")
    refused(manifests, "ValidatingAdmissionPolicyBinding dob-api-readiness-gate binds dob-api-readiness, which is not there.")


def test_no_pod_is_made_while_the_controller_of_readiness_gates_is_away():
    [values] = [values for values in release("aws-load-balancer-controller")["values"] if isinstance(values, dict)]
    assert values["podMutatorWebhookConfig"] == {"failurePolicy": "Fail"}
    assert values["keepTLSSecret"] is True, "an upgrade of the controller makes its webhook unknown to the API server"


def test_a_kind_without_a_schema(manifests):
    manifests.replace("aws/shim.yaml", "kind: Shim", "kind: Shims")
    refused(manifests, "Shims spin-v2: there is no schema for runtime.spinkube.dev/v1alpha1 Shims")


def test_a_secret_that_no_pod_uses_is_not_copied(manifests):
    manifests.replace("aws/secrets.yaml", "secretKey: pg_user", "secretKey: other")
    refused(manifests, "Secret dob-api in dob-api: no pod uses other")


def test_an_image_without_digest(manifests):
    manifests.replace("release/kustomization.yaml", "digest: sha256:" + "0" * 64, "newTag: latest")
    refused(manifests, "dob-api:latest: it must be <registry>/dob-api@sha256:<digest>.")


def test_a_port_that_spin_does_not_listen_on(manifests):
    manifests.replace("aws/load-balancer.yaml", "port: 80\n      from", "port: 8080\n      from")
    refused(manifests, "NetworkPolicy from-load-balancer must open 80")


def test_a_service_that_the_operator_does_not_make(manifests):
    manifests.replace("aws/load-balancer.yaml", "name: dob-api\n    port: 80", "name: dob\n    port: 80")
    refused(manifests, "TargetGroupBinding dob-api must name port 80")


def release(name: str) -> dict:
    """A chart that the cluster runs besides."""
    charts = yaml.safe_load((ROOT / "k8s/controllers/helmfile.yaml").read_text())
    return next(release for release in charts["releases"] if release["name"] == name)
