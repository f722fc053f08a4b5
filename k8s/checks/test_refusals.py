"""Overlays that can't work are refused, with a sentence that says why."""

import pytest
import yaml

import check
import rules
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
        ("spin-apps.yaml", "pg_password\n      valueFrom", "pg_pass\n      valueFrom", "does not set pg_password."),
        ("spin-apps.yaml", "pg_password\n      valueFrom", "pg_pass\n      valueFrom", "sets pg_pass, which spin.toml"),
        ("spin-apps.yaml", "key: pg_password", "key: password", "Secret dob-api in dob-api has no password"),
        ("kustomization.yaml", "{ kind: SpinApp, name: dob-api-schema }", "{ kind: SpinApp }", "no pod that serves"),
        ("disruption.yaml", "app-name: dob-api", "app-name: dob", "PodDisruptionBudget dob-api selects"),
        ("spin-apps.yaml", "value: require", "value: prefer", "SpinApp dob-api must set pg_sslmode to require"),
        ("spin-apps.yaml", "    - name: pg_sslmode\n      value: require\n", "", "SpinApp dob-api-schema must set pg_sslmode to require"),
        ("network.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "NetworkPolicy that lets nothing in or out"),
        ("network.yaml", "port: 5432", "port: 5433", "TCP 5432 to 10.20.68.11/32 must be open."),
        ("network.yaml", "cidr: set-by-overlay/32", "cidr: 0.0.0.0/0", "TCP 5432 to 10.20.68.11/0 must not be open."),
        ("network.yaml", "otel-collector", "any", "TCP 4318 to otel-collector in observability must be open."),
        ("network.yaml", "        - protocol: UDP\n          port: 53\n", "        - protocol: UDP\n", "UDP port to kube-dns in kube-system must not be open."),
        ("api.yaml", "enableAutoscaling: true", "enableAutoscaling: true\n  replicas: 3", "SpinApp dob-api, spec"),
        ("api.yaml", "        httpHeaders: []\n", "", "SpinApp dob-api: its readiness probe must name its httpHeaders, an empty list if there are none"),
        ("spin-apps.yaml", "      httpHeaders: []\n", "", "SpinApp dob-api-schema: its liveness probe must name its httpHeaders"),
        ("schema.yaml", "    readiness:", "    startup:", "SpinApp dob-api-schema has no readiness probe."),
        ("api.yaml", "      cpu: 250m\n", "", "SpinApp dob-api must have cpu in resources.requests."),
        ("schema.yaml", "    limits:", "    most:", "SpinApp dob-api-schema must have memory in resources.limits."),
        ("api.yaml", "resources:", "lifecycle: {}\n  resources:", "'lifecycle' was unexpected"),
        ("api.yaml", "initialDelaySeconds: 1", "initialDelay: 1", "'initialDelay' was unexpected"),
        ("api.yaml", "path: /healthz", "path: /readyz", "SpinApp dob-api: its readiness probe must ask /healthz."),
        ("schema.yaml", "path: /readyz", "path: /healthz", "SpinApp dob-api-schema: its readiness probe must ask /readyz."),
        ("spin-apps.yaml", "path: /.well-known/spin/health", "path: /healthz", "SpinApp dob-api: its liveness probe must ask /.well-known/spin/health."),
        ("executor.yaml", "kind: SpinAppExecutor", "kind: Executor", "There must be one SpinAppExecutor spin"),
    ],
)
def test_a_base_that_can_not_work(manifests, file, old, new, sentence):
    manifests.replace(f"base/{file}", old, new)
    refused(manifests, sentence)


@pytest.mark.parametrize(
    "file, old, new, sentence",
    [
        ("prometheus.yaml", "@sha256:5ce7540c3c00ef4ab0c9d2c995c6a5b9c421f44b4a115d97a2c7af3b1c21cbb0", "", "<version>@sha256:<digest>."),
        ("network.yaml", "  podSelector: {}\n", "  podSelector: { matchLabels: { a: b } }\n", "Namespace observability must have a NetworkPolicy"),
        ("secrets.yaml", "secretKey: ca.crt", "secretKey: tls.crt", "Secret database-ca in observability has no ca.crt"),
        ("alertmanager.yaml", "serviceName:", "service:", "'service' was unexpected"),
        ("pods.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "CKV_K8S_22"),
    ],
)
def test_monitoring_that_can_not_work(manifests, file, old, new, sentence):
    manifests.replace(f"observability/{file}", old, new)
    refused(manifests, sentence)


SERVING, DRAIN, DEPLOYMENTS, PODS, CONFINED, BINDINGS = (
    "base/serving-pods.yaml", "base/drain-check.yaml", "base/deployments.yaml", "foundation/pods.yaml", "foundation/confined.yaml", "foundation/bindings.yaml"
)


@pytest.mark.parametrize(
    "file, old, new, sentence",
    [
        ("base/drain.yaml", 'deregistration_delay_seconds: "30"', 'deregistration_delay_seconds: "300"', "(300) < pre_stop (300) < grace_period (330) does not hold"),
        ("base/drain.yaml", 'grace_period_seconds: "330"', 'grace_period_seconds: "300"', "does not hold"),
        ("base/drain.yaml", 'serving_progress_deadline_seconds: "1200"', 'serving_progress_deadline_seconds: "1000"', "must be longer than the 1000 s"),
        ("base/drain.yaml", 'health_check_interval_seconds: "5"', 'health_check_interval_seconds: "10"', "23 s to take out a pod that hangs: 15 s is the most"),
        ("base/kustomization.yaml", "name: dob-api-serving-pods }\n        fieldPaths: [\"spec.variables.[name=preStop", "name: dob-api-serving-pods }\n        fieldPaths: [\"spec.variables.[name=gracePeriod", "preStopSeconds must be pre_stop_seconds of drain.yaml, 300."),
        ("base/kustomization.yaml", "fieldPath: data.grace_period_seconds", "fieldPath: data.pre_stop_seconds", "ValidatingAdmissionPolicy dob-api-drain: gracePeriodSeconds must be grace_period_seconds of drain.yaml, 330."),
        ("base/kustomization.yaml", "fieldPath: data.schema_progress", "fieldPath: data.serving_progress", "schemaDeadlineSeconds must be schema_progress_deadline_seconds"),
        (SERVING, "sleep{seconds: variables.preStopSeconds}", "sleep{seconds: 5}", "must say 'preStop.sleep{seconds: variables.preStopSeconds}'"),
        (SERVING, "terminationGracePeriodSeconds: variables.gracePeriodSeconds", "terminationGracePeriodSeconds: 30", "must say 'terminationGracePeriodSeconds: variables"),
        (SERVING, 'topologyKey: "topology.kubernetes.io/zone"', 'topologyKey: "rack"', "must spread pods over topology"),
        (SERVING, "DoNotSchedule", "ScheduleAnyway", "must spread pods over topology"),
        (SERVING, '"core.spinkube.dev/app-name": "dob-api"', '"core.spinkube.dev/app-name": "dob"', "spreads pods with"),
        (SERVING, 'matchLabelKeys: ["pod-template-hash"]', "matchLabelKeys: []", "must spread the pods of each version separately"),
        (SERVING, '              nodeTaintsPolicy: "Honor",\n', "", "nodeTaintsPolicy"),
        (SERVING, 'path: "/readyz"', 'path: "/healthz"', "startupProbe"),
        (SERVING, "livenessProbe/terminationGracePeriodSeconds", "livenessProbe/timeoutSeconds", "livenessProbe/terminationGracePeriodSeconds"),
        (SERVING, "failurePolicy: Fail", "failurePolicy: Ignore", "MutatingAdmissionPolicy dob-api-serving-pods must fail closed."),
        (SERVING, "failurePolicy: Fail", "failurePolicies: Fail", "'failurePolicies' was unexpected"),
        (SERVING, "  failurePolicy: Fail\n", "  failurePolicy: Fail\n  paramKind: { apiVersion: v1, kind: ConfigMap }\n", "must have no parameters"),
        (SERVING, 'path: "/spec/topologySpreadConstraints", value: []', 'path: "/spec/topologySpreadConstraints", value: [Object.spec.topologySpreadConstraints{}]', "makes the API server panic"),
        (DRAIN, "sleep.seconds >= variables.preStopSeconds", "sleep.seconds >= 0", "ValidatingAdmissionPolicy dob-api-drain must say"),
        (DRAIN, "object.spec.terminationGracePeriodSeconds >= variables.gracePeriodSeconds", "true", "ValidatingAdmissionPolicy dob-api-drain must say"),
        (DRAIN, "containers.all(", "containers.exists(", "ValidatingAdmissionPolicy dob-api-drain must say"),
        (DEPLOYMENTS, "maxUnavailable: 0", "maxUnavailable: 1", "must say 'rollingUpdate{maxSurge: 1, maxUnavailable: 0}'"),
        (DEPLOYMENTS, "'dob-api' ? variables.servingDeadlineSeconds", "'dob-api' ? 60", "dob-api-deployments must say"),
        (PODS, 'drop: ["ALL"], add: ["DAC_OVERRIDE"]', 'drop: ["ALL"]', "dob-api-pods must say"),
        (PODS, "runAsNonRoot: true,", "runAsNonRoot: true, capabilities: Object.spec.capabilities{},", "dob-api-pods must give capabilities by JSONPatch"),
        (PODS, "optional: false", "optional: true", "dob-api-pods must say 'secret{optional: false}'"),
        (PODS, "automountServiceAccountToken: false", "automountServiceAccountToken: true", "dob-api-pods must say"),
        (CONFINED, "capabilities.add == ['DAC_OVERRIDE']", "capabilities.add != ['SYS_ADMIN']", "dob-api-confined must say"),
        (CONFINED, "object.spec.securityContext.runAsUser > 0", "true", "dob-api-confined must say"),
        (CONFINED, "has(volume.emptyDir) ||", "has(volume.emptyDir) || has(volume.hostPath) ||", "dob-api-confined must say"),
        (CONFINED, "operations: [CREATE, UPDATE]", "operations: [CREATE]", "dob-api-confined must apply to pods that are created and pods that are changed"),
        (BINDINGS, "name: dob-api-drain\nspec:\n  policyName: dob-api-drain", "name: dob-api-drain\nspec:\n  policyName: dob-api-drained", "There must be one ValidatingAdmissionPolicy dob-api-drained, and there are 0."),
        (BINDINGS, "name: dob-api-confined\nspec:\n  policyName: dob-api-confined\n  validationActions: [Deny, Audit]", "name: dob-api-confined\nspec:\n  policyName: dob-api-confined\n  validationActions: [Warn]", "Binding dob-api-confined: validationActions is ['Warn']"),
        (BINDINGS, "resources: [deployments]", 'resources: ["*"]', "Binding dob-api-deployments: matchResources is"),
        (BINDINGS, "kubernetes.io/metadata.name: dob-api", "kubernetes.io/metadata.name: dob", "Binding dob-api-pods: matchResources is"),
        (BINDINGS, "app-name: dob-api", "app-name: dob", "ValidatingAdmissionPolicyBinding dob-api-readiness-gate: matchResources is"),
        (BINDINGS, "kind: MutatingAdmissionPolicyBinding\nmetadata:\n  name: dob-api-pods", "kind: MutatingAdmissionPolicyBinding\nmetadata:\n  name: pods", "There must be one MutatingAdmissionPolicyBinding dob-api-pods, and there are 0."),
        ("foundation/namespaces.yaml", "pod-readiness-gate-inject: enabled", "pod-readiness-gate-inject: off", "gate-inject: enabled."),
        ("foundation/namespaces.yaml", "enforce: baseline", "enforce: privileged", "Namespace dob-api must have the label pod-security.kubernetes.io/enforce: baseline."),
        ("foundation/namespaces.yaml", "enforce: restricted", "enforce: baseline", "Namespace observability must have the label pod-security.kubernetes.io/enforce: restricted."),
        ("aws/load-balancer.yaml", "has(object.spec.readinessGates) &&", "true ||", "dob-api-readiness-gate must say"),
    ],
)
def test_policies_that_can_not_work(manifests, file, old, new, sentence):
    manifests.replace(file, old, new)
    refused(manifests, sentence)


def test_a_policy_without_a_binding(manifests):
    manifests.replace("base/kustomization.yaml", "  - drain-check.yaml\n", "  - drain-check.yaml\n  - more.yaml\n")
    policy = yaml.safe_load((manifests.directory / "foundation/confined.yaml").read_text()) | {"metadata": {"name": "more"}}
    (manifests.directory / "base/more.yaml").write_text(yaml.safe_dump(policy))
    refused(manifests, "There must be one ValidatingAdmissionPolicyBinding more, and there are 0.")


def test_a_binding_without_its_policy(manifests):
    manifests.replace("foundation/kustomization.yaml", "  - confined.yaml\n", "")
    refused(manifests, "There must be one ValidatingAdmissionPolicy dob-api-confined, and there are 0.")


@pytest.mark.parametrize("old, new, sentence", [
    ("minPodAge: 25m", "minPodAge: 20m", "minPodAge (1200 s) must be longer than serving_progress_deadline (1200)"),
    ("podRestartThreshold: 2", "podRestartThreshold: 4", "comes after 70 s"),
    ("states: [CrashLoopBackOff]", "states: [Running]", "only crash-looping pods"),
    ("namespaces:\n            include: [dob-api]", "namespaces:\n            exclude: [dob-api]", "RemovePodsHavingTooManyRestarts must be for the namespace dob-api alone"),
])
def test_evictions_that_do_harm(manifests, old, new, sentence):
    manifests.replace("controllers/descheduler.yaml", old, new)
    refused(manifests, sentence)


@pytest.mark.parametrize("path, timeout, sentence", [
    ("/readyz", 3, "The target group asks /readyz: it must ask /healthz."),
    ("/healthz", 5, "The target group's timeout (5) must be less than its interval (5)"),
])
def test_a_health_check_that_can_not_work(manifests, monkeypatch, path, timeout, sentence):
    monkeypatch.setattr(rules, "target_group", lambda: {"health_check": [{"path": [path], "timeout": [timeout]}]})
    refused(manifests, sentence)


def test_no_pod_is_made_while_the_controller_of_readiness_gates_is_away():
    [values] = [values for values in release("aws-load-balancer-controller")["values"] if isinstance(values, dict)]
    assert values["podMutatorWebhookConfig"] == {"failurePolicy": "Fail"}
    assert values["keepTLSSecret"] is True, "an upgrade of the controller makes its webhook unknown to the API server"


def test_a_kind_without_a_schema(manifests):
    manifests.replace("aws/secrets.yaml", "kind: SecretStore", "kind: SecretStores")
    refused(manifests, "SecretStores secrets-manager: there is no schema for external-secrets.io/v1 SecretStores")


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
    """The release of a chart in helmfile.yaml."""
    charts = yaml.safe_load((ROOT / "k8s/controllers/helmfile.yaml").read_text())
    return next(release for release in charts["releases"] if release["name"] == name)
