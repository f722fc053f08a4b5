"""What must be true of an overlay beyond its schemas; each rule gives sentences about what is not."""

import ipaddress
import re
import tomllib
from typing import Iterator

import hcl2

from cluster import Cluster
from rendering import ROOT, find, of_kind

# Connections that Spin keeps in a pod to one address of a database; and those that administration needs besides.
POOL, SPARE_CONNECTIONS = 64, 40
ADMINISTRATOR = {"pg_admin_user", "pg_admin_password"}
# What the operator gives every pod of a SpinApp as a label, where Spin listens in it, and the Service's port, too.
APP, PORT = "core.spinkube.dev/app-name", 80
# The key of the executor's caCertSecret that the operator mounts.
TRUST_STORE = "ca-certificates.crt"
ADMISSION_POLICIES = ("dob-api-drain", "dob-api-readiness-gate")
ZONE = "topology.kubernetes.io/zone"
ENFORCE = "pod-security.kubernetes.io/enforce"
INJECT = "elbv2.k8s.aws/pod-readiness-gate-inject"


def variables(cluster: Cluster) -> Iterator[str]:
    """The SpinApps set the variables of spin.toml, and only the schema's pod has the administrator's."""
    declared = tomllib.loads((ROOT / "spin.toml").read_text())["variables"]
    required = {name for name, options in declared.items() if options.get("required")}
    hosts = {name for name in declared if "host" in name}
    for app in cluster.apps:
        name = app["metadata"]["name"]
        given = [variable["name"] for variable in app["spec"].get("variables", [])]
        for variable in sorted(set(given) - set(declared)):
            yield f"SpinApp {name} sets {variable}, which spin.toml does not have."
        for variable in sorted((required | hosts | {"pg_user"}) - set(given)):
            yield f"SpinApp {name} does not set {variable}."
        for variable in sorted({variable for variable in given if given.count(variable) > 1}):
            yield f"SpinApp {name} sets {variable} twice."
        if (name == "dob-api-schema") != ADMINISTRATOR.issubset(given) or (name == "dob-api" and ADMINISTRATOR & set(given)):
            yield f"SpinApp {name}: dob-api-schema, and no pod that serves, has the administrator's password."


def tls(cluster: Cluster) -> Iterator[str]:
    """The database's certificate is checked."""
    for app in cluster.apps:
        if [variable["value"] for variable in app["spec"].get("variables", []) if variable["name"] == "pg_sslmode"] != ["require"]:
            yield f"SpinApp {app['metadata']['name']} must set pg_sslmode to require: else nobody checks the database's certificate."


def hosts(cluster: Cluster) -> Iterator[str]:
    """Databases are named by the address that their certificates carry."""
    for address in sorted(addresses(cluster)):
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            yield f"A database host is {address or 'empty'}: region.yaml must have its IPv4 address."


def addresses(cluster: Cluster) -> set[str]:
    """The database hosts that the SpinApps name."""
    variables = [variable for app in cluster.apps for variable in app["spec"].get("variables", [])]
    return {variable.get("value", "") for variable in variables if "_host_" in variable["name"]}


def namespaces(cluster: Cluster) -> Iterator[str]:
    """A namespace takes pods without rights only, and nothing goes in or out of it but by a policy that says so."""
    for namespace in of_kind(cluster.resources, "Namespace"):
        name = namespace["metadata"]["name"]
        if namespace["metadata"].get("labels", {}).get(ENFORCE) != "restricted":
            yield f"Namespace {name} must have the label {ENFORCE}: restricted."
        if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in policies(cluster, name):
            yield f"Namespace {name} must have a NetworkPolicy that lets nothing in or out of any pod."


def policies(cluster: Cluster, namespace: str) -> list[dict]:
    """What the network policies of a namespace say."""
    return [policy["spec"] for policy in of_kind(cluster.resources, "NetworkPolicy") if policy["metadata"]["namespace"] == namespace]


def ways_out(cluster: Cluster) -> Iterator[str]:
    """The API's pods reach their databases, names and the collector of telemetry, and nothing else."""
    wanted = {f"TCP 5432 to {address}/32" for address in addresses(cluster)}
    wanted |= {"UDP 53 to kube-dns in kube-system", "TCP 53 to kube-dns in kube-system", "TCP 4318 to otel-collector in observability"}
    found = {way for policy in policies(cluster, "dob-api") for rule in policy.get("egress", []) for way in ways(rule)}
    for way in sorted(wanted ^ found):
        yield f"NetworkPolicies of dob-api: {way} must {'not be open' if way in found else 'be open'}."


def ways(rule: dict) -> Iterator[str]:
    """What a rule of a network policy opens; all where it names nothing."""
    for port in rule.get("ports", [{}]):
        for peer in rule.get("to", [{}]):
            labels = [label for selector in ("podSelector", "namespaceSelector") for label in peer.get(selector, {}).get("matchLabels", {}).values()]
            place = peer.get("ipBlock", {}).get("cidr") or " in ".join(labels) or "anywhere"
            yield f"{port.get('protocol', 'any')} {port.get('port', 'port')} to {place}"


def secrets(cluster: Cluster) -> Iterator[str]:
    """Where secrets come from Secrets Manager, every key that a pod uses is copied, and no other."""
    external = of_kind(cluster.resources, "ExternalSecret")
    if not external:
        return
    copied = {(e["metadata"]["namespace"], e["spec"]["target"]["name"], item["secretKey"]) for e in external for item in e["spec"]["data"]}
    used = {key for app in cluster.apps for key in secret_keys_of_app(cluster, app)}
    used |= {key for workload in of_kind(cluster.resources, "StatefulSet") for key in secret_keys(workload)}
    for namespace, name, key in sorted(used - copied):
        yield f"Secret {name} in {namespace} has no {key}: an ExternalSecret must copy it."
    for namespace, name, key in sorted(copied - used):
        yield f"Secret {name} in {namespace}: no pod uses {key}; no ExternalSecret must copy it."


def secret_keys_of_app(cluster: Cluster, app: dict) -> Iterator[tuple[str, str, str]]:
    """Namespace, name and key of what a SpinApp's pods take from secrets."""
    namespace, executor = app["metadata"]["namespace"], find(cluster.resources, "SpinAppExecutor", app["spec"]["executor"])
    for variable in app["spec"].get("variables", []):
        if "valueFrom" in variable:
            yield namespace, variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"]
    if authority := executor["spec"]["deploymentConfig"].get("caCertSecret"):
        yield namespace, authority, TRUST_STORE


def secret_keys(workload: dict) -> Iterator[tuple[str, str, str]]:
    """The same of a workload that mounts its secrets."""
    namespace, pod = workload["metadata"]["namespace"], workload["spec"]["template"]["spec"]
    for volume in pod.get("volumes", []):
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            for item in source.get("secret", {}).get("items", []):
                yield namespace, source["secret"].get("secretName") or source["secret"]["name"], item["key"]


def images(cluster: Cluster) -> Iterator[str]:
    """Every image is named by digest, and the API's by one."""
    names = {app["spec"]["image"] for app in cluster.apps}
    for image in sorted(names):
        if not re.fullmatch(r"[a-z0-9.:/_-]+/dob-api@sha256:[0-9a-f]{64}", image):
            yield f"Image {image}: it must be <registry>/dob-api@sha256:<digest>."
    if len(names) != 1:
        yield f"The SpinApps run different images: {sorted(names)}."
    for workload in of_kind(cluster.resources, "StatefulSet"):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            if not re.fullmatch(r"[a-z0-9./-]+:v?[0-9.]+@sha256:[0-9a-f]{64}", container["image"]):
                yield f"Image {container['image']}: it must be <name>:<version>@sha256:<digest>."


def probes(cluster: Cluster) -> Iterator[str]:
    """The operator's mutating webhook makes null of headers that a probe leaves out, which its own resource definition refuses."""
    for app in cluster.apps:
        name, checks = app["metadata"]["name"], app["spec"].get("checks", {})
        for probe in ("liveness", "readiness"):
            if probe not in checks:
                yield f"SpinApp {name} has no {probe} probe."
            elif "httpHeaders" not in checks[probe].get("httpGet", {}):
                yield f"SpinApp {name}: its {probe} probe must name its httpHeaders, an empty list where there are none: the operator makes null of what is left out."


def resources(cluster: Cluster) -> Iterator[str]:
    """A pod reserves what it needs, which the autoscaler counts in, and can't take its node's memory."""
    for app in cluster.apps:
        given = app["spec"].get("resources", {})
        for kind, resource in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if resource not in given.get(kind, {}):
                yield f"SpinApp {app['metadata']['name']} must have {resource} in resources.{kind}."


def replicas(cluster: Cluster) -> Iterator[str]:
    """At least one pod a zone, no more than the database has connections for."""
    scaler = find(cluster.resources, "HorizontalPodAutoscaler", "dob-api")["spec"]
    least, most = scaler.get("minReplicas", 1), scaler["maxReplicas"]
    if least < 3:
        yield f"minReplicas is {least}: it must be 3 or more, one for each zone."
    if most < least:
        yield f"maxReplicas is {most}: it must not be less than minReplicas, {least}."
    # At the end of a rollout every old pod can still be asleep before its end, with its connections.
    limit = database_connections() - SPARE_CONNECTIONS
    if 2 * most * POOL > limit:
        yield (
            f"maxReplicas is {most}: as many new pods and as many old ones, {POOL} connections each, are more than "
            f"the database's {limit}; {limit // (2 * POOL)} is the most."
        )


def database_connections() -> int:
    return hcl2.loads((ROOT / "terraform/modules/database-node/patroni.tf").read_text())["locals"][0]["max_connections"][0]


def spread(cluster: Cluster) -> Iterator[str]:
    """Pods are spread over zones, strictly."""
    template = cluster.parts("dob-api")["spec"]["template"]["spec"]
    zones = [rule for rule in template.get("topologySpreadConstraints", []) if rule["topologyKey"] == ZONE]
    if [rule["whenUnsatisfiable"] for rule in zones] != ["DoNotSchedule"]:
        yield f"Deployment dob-api must be spread over {ZONE} with DoNotSchedule."


def drain(cluster: Cluster) -> Iterator[str]:
    """A pod leaves the load balancer before Spin ends, and Spin ends before the kernel ends it."""
    figures = find(cluster.resources, "ConfigMap", "drain")["data"]
    delay, sleep, grace = (
        int(figures[f"{name}_seconds"]) for name in ("deregistration_delay", "pre_stop", "grace_period")
    )
    if not delay < sleep < grace:
        yield f"deregistration_delay ({delay}) < pre_stop ({sleep}) < grace_period ({grace}) does not hold."
    spec = cluster.parts("dob-api")["spec"]
    pod = spec["template"]["spec"]
    slept = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds")
    if (slept, pod.get("terminationGracePeriodSeconds")) != (sleep, grace):
        yield "Deployment dob-api does not drain as the ConfigMap drain says."
    if spec.get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "Deployment dob-api must roll with maxUnavailable 0."


def selectors(cluster: Cluster) -> Iterator[str]:
    """What selects pods, selects the pods that serve."""
    label = {APP: "dob-api"}
    selected = {
        "PodDisruptionBudget dob-api": find(cluster.resources, "PodDisruptionBudget", "dob-api")["spec"]["selector"],
        **{
            f"ValidatingAdmissionPolicyBinding {policy}": find(
                cluster.resources, "ValidatingAdmissionPolicyBinding", policy
            )["spec"]["matchResources"]["objectSelector"]
            for policy in ADMISSION_POLICIES
        },
        **{
            f"topologySpreadConstraint {rule['topologyKey']}": rule["labelSelector"]
            for rule in cluster.parts("dob-api")["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        },
        **{
            f"NetworkPolicy {policy['metadata']['name']}": policy["spec"]["podSelector"]
            for policy in of_kind(cluster.resources, "NetworkPolicy")
            if policy["metadata"]["namespace"] == "dob-api"
        },
    }
    for name, selector in selected.items():
        if not selector.get("matchLabels", {}).items() <= label.items():
            yield f"{name} selects {selector}, and the pods of dob-api have {label}."


def readiness_gate(cluster: Cluster) -> Iterator[str]:
    """The load balancer's controller gives every pod a readiness gate."""
    if find(cluster.resources, "Namespace", "dob-api")["metadata"]["labels"].get(INJECT) != "enabled":
        yield f"Namespace dob-api must have the label {INJECT}: enabled."


def bindings(cluster: Cluster) -> Iterator[str]:
    """A binding's admission policy is there."""
    policies = {policy["metadata"]["name"] for policy in of_kind(cluster.resources, "ValidatingAdmissionPolicy")}
    for binding in of_kind(cluster.resources, "ValidatingAdmissionPolicyBinding"):
        name, policy = binding["metadata"]["name"], binding["spec"]["policyName"]
        if policy not in policies:
            yield f"ValidatingAdmissionPolicyBinding {name} binds {policy}, which is not there."


def ports(cluster: Cluster) -> Iterator[str]:
    """Load balancer and network policy use the operator's Service and port."""
    if find(cluster.resources, "TargetGroupBinding", "dob-api")["spec"]["serviceRef"] != {"name": "dob-api", "port": PORT}:
        yield f"TargetGroupBinding dob-api must name port {PORT} of the operator's Service dob-api."
    policy = find(cluster.resources, "NetworkPolicy", "from-load-balancer")
    if [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] != [PORT]:
        yield f"NetworkPolicy from-load-balancer must open {PORT}, which Spin listens on, and nothing else."


ALL = (
    variables, tls, hosts, namespaces, ways_out, secrets, images, probes, resources, replicas, spread, drain, selectors, readiness_gate, bindings, ports,
)
