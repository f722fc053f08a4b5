"""The rules that an overlay must keep beyond its schemas. Each rule yields a sentence for each fault."""

import ipaddress
import re
import tomllib
from typing import Iterable, Iterator

import hcl2

from cluster import Cluster, Policy
from rendering import ROOT, find, of_kind

# Connections that Spin keeps per pod to one address of a database, and connections that administration needs besides.
POOL, SPARE_CONNECTIONS = 64, 40
ADMINISTRATOR = {"pg_admin_user", "pg_admin_password"}
# The label that the operator gives every pod of a SpinApp, and the port of Spin and of the Service.
APP, PORT = "core.spinkube.dev/app-name", 80
# The key of the executor's caCertSecret that the operator mounts.
TRUST_STORE = "ca-certificates.crt"
ZONE = "topology.kubernetes.io/zone"
# Seconds: the longest time until the load balancer controller tries again to register a pod.
BACK_OFF = 1000
# Seconds: the kubelet's delay before the second restart of a container, and the longest time until a pod counts as crash-looping.
FIRST_BACK_OFF, CRASH_LOOPING = 10, 30
# Seconds within which the load balancer must have taken out a pod that hangs.
OUT_WITHIN = 15
# Spin's own health endpoint, which answers even while all instances are in use.
SPIN_RUNS = "/.well-known/spin/health"
ENFORCE = "pod-security.kubernetes.io/enforce"
INJECT = "elbv2.k8s.aws/pod-readiness-gate-inject"


def variables(cluster: Cluster) -> Iterator[str]:
    """The SpinApps set the variables of spin.toml, and only the schema pod has the administrator's."""
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
            yield f"SpinApp {app['metadata']['name']} must set pg_sslmode to require, so that the database's certificate is checked."


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
    """A namespace accepts only confined pods, and only traffic that a network policy allows."""
    used = {workload["metadata"]["namespace"] for workload in cluster.apps + of_kind(cluster.resources, "StatefulSet")}
    for namespace in of_kind(cluster.resources, "Namespace"):
        name = namespace["metadata"]["name"]
        # The pods of SpinApps need a capability that `restricted` refuses. confinement() checks the rest of that level.
        level = "baseline" if name == "dob-api" else "restricted"
        if namespace["metadata"].get("labels", {}).get(ENFORCE) != level:
            yield f"Namespace {name} must have the label {ENFORCE}: {level}."
        if name in used and {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in policies(cluster, name):
            yield f"Namespace {name} must have a NetworkPolicy that lets nothing in or out of any pod."


def confinement(cluster: Cluster) -> Iterator[str]:
    """The policies set and enforce the level `restricted` on every pod of the API, plus the one capability that the shim needs."""
    yield from missing(cluster.policy("Mutating", "dob-api-pods"), (
        "automountServiceAccountToken: false", "runAsNonRoot: true", "runAsUser: 65532", 'seccompProfile{type: "RuntimeDefault"}',
        "allowPrivilegeEscalation: false", 'capabilities{drop: ["ALL"], add: ["DAC_OVERRIDE"]}', "secret{optional: false}",
    ))
    guard = cluster.policy("Validating", "dob-api-confined")
    yield from missing(guard, (
        "object.spec.securityContext.runAsNonRoot &&", "object.spec.securityContext.runAsUser > 0",
        "object.spec.securityContext.seccompProfile.type == 'RuntimeDefault'", "object.spec.containers +", "object.spec.initContainers : []",
        "!container.securityContext.allowPrivilegeEscalation", "!(has(container.securityContext.runAsUser) && container.securityContext.runAsUser == 0)",
        "!has(container.securityContext.seccompProfile)", "container.securityContext.capabilities.drop == ['ALL']",
        "container.securityContext.capabilities.add == ['DAC_OVERRIDE']",
        "object.spec.volumes.all(volume, has(volume.secret) || has(volume.configMap) || has(volume.emptyDir) || has(volume.projected) || has(volume.downwardAPI))",
    ))
    if guard.spec["matchConstraints"]["resourceRules"][0]["operations"] != ["CREATE", "UPDATE"]:
        yield f"{guard} must apply to pods that are created and pods that are changed."


def missing(policy: Policy, expressions: Iterable[str]) -> Iterator[str]:
    """The expressions that a policy lacks."""
    return (f"{policy} must say {expression!r}." for expression in expressions if not policy.says(expression))


def policies(cluster: Cluster, namespace: str) -> list[dict]:
    """What the network policies of a namespace say."""
    return [policy["spec"] for policy in of_kind(cluster.resources, "NetworkPolicy") if policy["metadata"]["namespace"] == namespace]


def ways_out(cluster: Cluster) -> Iterator[str]:
    """The API's pods can reach their databases, DNS and the telemetry collector, and nothing else."""
    wanted = {f"TCP 5432 to {address}/32" for address in addresses(cluster)}
    wanted |= {"UDP 53 to kube-dns in kube-system", "TCP 53 to kube-dns in kube-system", "TCP 4318 to otel-collector in observability"}
    found = {way for policy in policies(cluster, "dob-api") for rule in policy.get("egress", []) for way in ways(rule)}
    for way in sorted(wanted ^ found):
        yield f"NetworkPolicies of dob-api: {way} must {'not be open' if way in found else 'be open'}."


def ways(rule: dict) -> Iterator[str]:
    """What a rule of a network policy opens. A rule that names nothing opens everything."""
    for port in rule.get("ports", [{}]):
        for peer in rule.get("to", [{}]):
            labels = [label for selector in ("podSelector", "namespaceSelector") for label in peer.get(selector, {}).get("matchLabels", {}).values()]
            place = peer.get("ipBlock", {}).get("cidr") or " in ".join(labels) or "anywhere"
            yield f"{port.get('protocol', 'any')} {port.get('port', 'port')} to {place}"


def secrets(cluster: Cluster) -> Iterator[str]:
    """If secrets come from Secrets Manager, exactly the keys that pods use are copied."""
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
    """Namespace, name and key of each value that the pods of a SpinApp take from a secret."""
    namespace, executor = app["metadata"]["namespace"], find(cluster.resources, "SpinAppExecutor", app["spec"]["executor"])
    for variable in app["spec"].get("variables", []):
        if "valueFrom" in variable:
            yield namespace, variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"]
    if authority := executor["spec"]["deploymentConfig"].get("caCertSecret"):
        yield namespace, authority, TRUST_STORE


def secret_keys(workload: dict) -> Iterator[tuple[str, str, str]]:
    """The same for a workload that mounts its secrets."""
    namespace, pod = workload["metadata"]["namespace"], workload["spec"]["template"]["spec"]
    for volume in pod.get("volumes", []):
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            for item in source.get("secret", {}).get("items", []):
                yield namespace, source["secret"].get("secretName") or source["secret"]["name"], item["key"]


def images(cluster: Cluster) -> Iterator[str]:
    """Every image is named by digest, and all SpinApps run the same."""
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
    """The probes are those of k8s/README.md. If a probe has no headers, the operator's webhook writes null, which its own definition refuses."""
    for app in cluster.apps:
        name, checks = app["metadata"]["name"], app["spec"].get("checks", {})
        for probe, path in (("liveness", SPIN_RUNS), ("readiness", "/readyz" if name == "dob-api-schema" else "/healthz")):
            if probe not in checks:
                yield f"SpinApp {name} has no {probe} probe."
            elif "httpHeaders" not in checks[probe].get("httpGet", {}):
                yield f"SpinApp {name}: its {probe} probe must name its httpHeaders, an empty list if there are none: the operator writes null for a missing list, and then refuses that."
            elif checks[probe]["httpGet"]["path"] != path:
                yield f"SpinApp {name}: its {probe} probe must ask {path}."
    yield from missing(cluster.policy("Mutating", "dob-api-serving-pods"), (
        '/spec/containers/0/startupProbe", value: Object.spec.containers.startupProbe{httpGet: Object.spec.containers.startupProbe.httpGet{path: "/readyz"',
        '/spec/containers/0/livenessProbe/terminationGracePeriodSeconds", value: 1}',
    ))


def health_check(cluster: Cluster) -> Iterator[str]:
    """The load balancer takes out a pod that hangs, but no pod whose database is away: its clients get a 503 with Retry-After."""
    check = target_group()["health_check"][0]
    [path], [timeout] = check["path"], check["timeout"]
    interval, failures = cluster.figures["health_check_interval_seconds"], cluster.figures["unhealthy_threshold_checks"]
    if path != "/healthz":
        yield f"The target group asks {path}: it must ask /healthz."
    if not timeout < interval:
        yield f"The target group's timeout ({timeout}) must be less than its interval ({interval}): AWS refuses it."
    if interval * failures + timeout > OUT_WITHIN:
        yield f"The target group takes {interval * failures + timeout} s to take out a pod that hangs: {OUT_WITHIN} s is the most."


def target_group() -> dict:
    resources = hcl2.loads((ROOT / "terraform/modules/edge/main.tf").read_text())["resource"]
    return next(resource["aws_lb_target_group"]["pods"] for resource in resources if "aws_lb_target_group" in resource)


def resources(cluster: Cluster) -> Iterator[str]:
    """A pod reserves what it needs, which is the autoscaler's unit, and has a memory limit."""
    for app in cluster.apps:
        given = app["spec"].get("resources", {})
        for kind, resource in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if resource not in given.get(kind, {}):
                yield f"SpinApp {app['metadata']['name']} must have {resource} in resources.{kind}."


def replicas(cluster: Cluster) -> Iterator[str]:
    """There is at least one pod per zone, and the database has connections for all pods of a rollout."""
    scaler = find(cluster.resources, "HorizontalPodAutoscaler", "dob-api")["spec"]
    least, most = scaler.get("minReplicas", 1), scaler["maxReplicas"]
    if least < 3:
        yield f"minReplicas is {least}: it must be 3 or more, one for each zone."
    if most < least:
        yield f"maxReplicas is {most}: it must not be less than minReplicas, {least}."
    # At the end of a rollout, every old pod can still be in its preStop sleep, with its connections.
    limit = database_connections() - SPARE_CONNECTIONS
    if 2 * most * POOL > limit:
        yield (
            f"maxReplicas is {most}: as many new pods and as many old ones, {POOL} connections each, are more than "
            f"the database's {limit}; {limit // (2 * POOL)} is the most."
        )


def database_connections() -> int:
    return hcl2.loads((ROOT / "terraform/modules/database-node/patroni.tf").read_text())["locals"][0]["max_connections"][0]


def spread(cluster: Cluster) -> Iterator[str]:
    """Pods are spread strictly over zones and, if possible, over nodes. Old and new pods are spread separately."""
    policy = cluster.policy("Mutating", "dob-api-serving-pods")
    constraints = dict(re.findall(r'topologyKey:"([^"]+)",maxSkew:1,whenUnsatisfiable:"([^"]+)"', policy.patches))
    if constraints != {ZONE: "DoNotSchedule", "kubernetes.io/hostname": "ScheduleAnyway"}:
        yield f"{policy} must spread pods over {ZONE} with DoNotSchedule, and over kubernetes.io/hostname with ScheduleAnyway."
    if policy.patches.count('matchLabelKeys:["pod-template-hash"]') != len(constraints):
        yield f"{policy} must spread the pods of each version separately, by pod-template-hash."
    yield from missing(policy, ['nodeTaintsPolicy: "Honor"'])


def drain(cluster: Cluster) -> Iterator[str]:
    """A pod leaves the load balancer before Spin ends, Spin ends before it is killed, and no good version is rolled back."""
    figures = cluster.figures
    delay, sleep, grace = (figures[f"{name}_seconds"] for name in ("deregistration_delay", "pre_stop", "grace_period"))
    if not delay < sleep < grace:
        yield f"deregistration_delay ({delay}) < pre_stop ({sleep}) < grace_period ({grace}) does not hold."
    deadline = figures["serving_progress_deadline_seconds"]
    if deadline <= BACK_OFF:
        yield f"serving_progress_deadline ({deadline}) must be longer than the {BACK_OFF} s after which the load balancer's controller tries again."
    for policy, variable, figure in FIGURES:
        if cluster.policy(*policy).variables.get(variable) != str(figures[figure]):
            yield f"{cluster.policy(*policy)}: {variable} must be {figure} of drain.yaml, {figures[figure]}."
    yield from missing(cluster.policy(*SERVING), (
        "terminationGracePeriodSeconds: variables.gracePeriodSeconds", "preStop.sleep{seconds: variables.preStopSeconds}",
    ))
    yield from missing(cluster.policy(*DRAIN), (
        "object.spec.containers.all(container,", "container.lifecycle.preStop.sleep.seconds >= variables.preStopSeconds",
        "object.spec.terminationGracePeriodSeconds >= variables.gracePeriodSeconds",
    ))
    yield from missing(cluster.policy(*DEPLOYMENTS), (
        'type: "RollingUpdate"', "rollingUpdate{maxSurge: 1, maxUnavailable: 0}",
        "progressDeadlineSeconds: object.metadata.name == 'dob-api' ? variables.servingDeadlineSeconds : variables.schemaDeadlineSeconds",
    ))


def evictions(cluster: Cluster) -> Iterator[str]:
    """The descheduler evicts crash-looping pods of the API, but no pod of a version that a rollout still waits for."""
    plugins = {plugin["name"]: plugin["args"] for profile in cluster.descheduler["profiles"] for plugin in profile["pluginConfig"]}
    for name, settings in plugins.items():
        if name != "DefaultEvictor" and settings.get("namespaces") != {"include": ["dob-api"]}:
            yield f"descheduler.yaml: {name} must be for the namespace dob-api alone."
    restarts = plugins["RemovePodsHavingTooManyRestarts"]
    if restarts.get("states") != ["CrashLoopBackOff"]:
        yield "descheduler.yaml: only crash-looping pods, in the state CrashLoopBackOff, must be evicted for their restarts."
    # The first restart comes at once, and the kubelet doubles its delay before each further one.
    restarted_in = FIRST_BACK_OFF * (2 ** (restarts["podRestartThreshold"] - 1) - 1)
    if restarted_in > CRASH_LOOPING:
        yield f"descheduler.yaml: the restart that podRestartThreshold counts to comes after {restarted_in} s, and a node must serve again within two minutes: {CRASH_LOOPING} s is the most."
    age, deadline = int(plugins["DefaultEvictor"]["minPodAge"].removesuffix("m")) * 60, cluster.figures["serving_progress_deadline_seconds"]
    if age <= deadline:
        yield f"descheduler.yaml: minPodAge ({age} s) must be longer than serving_progress_deadline ({deadline}): a new pod counts as progress, and a bad version would never be rolled back."


SERVING, DRAIN, DEPLOYMENTS = ("Mutating", "dob-api-serving-pods"), ("Validating", "dob-api-drain"), ("Mutating", "dob-api-deployments")
# Policy, variable, and the figure that the variable must have.
FIGURES = [
    (SERVING, "preStopSeconds", "pre_stop_seconds"),
    (SERVING, "gracePeriodSeconds", "grace_period_seconds"),
    (DRAIN, "preStopSeconds", "pre_stop_seconds"),
    (DRAIN, "gracePeriodSeconds", "grace_period_seconds"),
    (DEPLOYMENTS, "servingDeadlineSeconds", "serving_progress_deadline_seconds"),
    (DEPLOYMENTS, "schemaDeadlineSeconds", "schema_progress_deadline_seconds"),
]


def selectors(cluster: Cluster) -> Iterator[str]:
    """Everything that selects pods selects the serving pods."""
    label = {APP: "dob-api"}
    selected = {
        "PodDisruptionBudget dob-api": find(cluster.resources, "PodDisruptionBudget", "dob-api")["spec"]["selector"],
        **{
            f"NetworkPolicy {policy['metadata']['name']}": policy["spec"]["podSelector"]
            for policy in of_kind(cluster.resources, "NetworkPolicy")
            if policy["metadata"]["namespace"] == "dob-api"
        },
    }
    for name, selector in selected.items():
        if not selector.get("matchLabels", {}).items() <= label.items():
            yield f"{name} selects {selector}, and the pods of dob-api have {label}."
    spread_over = set(re.findall(r"labelSelector\{matchLabels:\{([^}]*)\}\}", cluster.policy(*SERVING).patches))
    if spread_over != {f'"{APP}":"dob-api"'}:
        yield f"{cluster.policy(*SERVING)} spreads pods with {sorted(spread_over)}, and the pods of dob-api have {label}."


def readiness_gate(cluster: Cluster) -> Iterator[str]:
    """The load balancer's controller gives every pod a readiness gate."""
    if find(cluster.resources, "Namespace", "dob-api")["metadata"]["labels"].get(INJECT) != "enabled":
        yield f"Namespace dob-api must have the label {INJECT}: enabled."
    yield from missing(cluster.policy("Validating", "dob-api-readiness-gate"), ["has(object.spec.readinessGates) && object.spec.readinessGates.exists("])


# The policies for serving pods. The others apply to every resource of their kind in the namespace.
FOR_SERVING_PODS = ("dob-api-drain", "dob-api-readiness-gate", "dob-api-serving-pods")


def bindings(cluster: Cluster) -> Iterator[str]:
    """Each admission policy applies, and only in the API's namespace, whatever a rollout changes in the policy."""
    for policy in cluster.policies:
        binding = find(cluster.resources, f"{policy.kind}Binding", policy.name)["spec"]
        selector = {"matchLabels": {APP: "dob-api"}} if policy.name in FOR_SERVING_PODS else None
        wanted = {
            "policyName": policy.name,
            "matchResources": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "dob-api"}},
                **({"objectSelector": selector} if selector else {}),
                "resourceRules": policy.spec["matchConstraints"]["resourceRules"],
            },
            **({"validationActions": ["Deny", "Audit"]} if policy.kind.startswith("Validating") else {}),
        }
        for field in sorted(wanted.keys() | binding.keys()):
            if binding.get(field) != wanted.get(field):
                yield f"{policy.kind}Binding {policy.name}: {field} is {binding.get(field)} and must be {wanted.get(field)}."
        if policy.spec.get("failurePolicy") != "Fail":
            yield f"{policy} must fail closed."
    for kind in Policy.KINDS:
        for binding in of_kind(cluster.resources, f"{kind}Binding"):
            find(cluster.resources, kind, binding["spec"]["policyName"])


def expressions(cluster: Cluster) -> Iterator[str]:
    """Policies avoid known faults of Kubernetes 1.36."""
    for policy in cluster.policies:
        if "paramKind" in policy.spec:
            yield f"{policy} must have no parameters: the API server keeps using old values (kubernetes#130887)."
        if re.search(r"value:\[[^\]]", policy.patches):
            yield f"{policy} must add an empty list, and then each of its members: a patch whose value is a list of objects makes the API server panic."
        for field in ("sysctls", "capabilities", "topologySpreadConstraints"):
            if field in policy.applied:
                yield f"{policy} must give {field} by JSONPatch: ApplyConfiguration can't set such lists."


def ports(cluster: Cluster) -> Iterator[str]:
    """Load balancer and network policy use the operator's Service and port."""
    if find(cluster.resources, "TargetGroupBinding", "dob-api")["spec"]["serviceRef"] != {"name": "dob-api", "port": PORT}:
        yield f"TargetGroupBinding dob-api must name port {PORT} of the operator's Service dob-api."
    policy = find(cluster.resources, "NetworkPolicy", "from-load-balancer")
    if [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] != [PORT]:
        yield f"NetworkPolicy from-load-balancer must open {PORT}, which Spin listens on, and nothing else."


ALL = (
    variables, tls, hosts, namespaces, confinement, ways_out, secrets, images, probes, health_check, resources, replicas, spread, drain, evictions,
    selectors, readiness_gate, bindings, expressions, ports,
)
