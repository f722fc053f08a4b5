"""The monitoring of a cluster works as deployed: its parts reach each other, and a page reaches a topic of Amazon SNS."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from itertools import product
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from cluster import Cluster
from conftest import Copy
from rendering import OVERLAYS, ROOT, find, of_kind
from rules import APP, PORT

NAMESPACE = "observability"
# It comes from a chart, in a namespace of its own.
KSM = "kube-state-metrics"
# Seconds until a program on this machine has started, and until a message arrives.
PATIENCE = 60


@pytest.fixture(scope="module", params=["primary", "recovery"])
def cluster(request) -> Cluster:
    return Cluster.of(OVERLAYS / request.param)


def container(cluster: Cluster, workload: str) -> dict:
    [only] = find(cluster.resources, "StatefulSet", workload)["spec"]["template"]["spec"]["containers"]
    return only


def option(cluster: Cluster, workload: str, name: str) -> list[str]:
    """The values that a container's arguments give an option."""
    return [argument.partition("=")[2] for argument in container(cluster, workload)["args"] if argument.startswith(f"--{name}=")]


def laid_out(cluster: Cluster, workload: str, root: Path) -> Path:
    """Writes the files of a pod's volumes, and returns the one that its arguments name as its configuration."""
    pod = find(cluster.resources, "StatefulSet", workload)["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container(cluster, workload)["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            for path, text in files(cluster, source):
                (root / mount["mountPath"][1:] / path).parent.mkdir(parents=True, exist_ok=True)
                (root / mount["mountPath"][1:] / path).write_text(text)
    [configuration] = option(cluster, workload, "config") + option(cluster, workload, "config.file")
    return root / configuration[1:]


def files(cluster: Cluster, source: dict) -> list[tuple[str, str]]:
    """Paths and contents of a volume's source."""
    if "configMap" in source:
        data = find(cluster.resources, "ConfigMap", source["configMap"]["name"])["data"]
        items = source["configMap"].get("items", [{"key": key, "path": key} for key in data])
        return [(item["path"], data[item["key"]]) for item in items]
    return [(item["path"], "what External Secrets copies") for item in source.get("secret", {}).get("items", [])]


def targets(cluster: Cluster, tmp_path: Path, file: str) -> list[dict]:
    return json.loads((laid_out(cluster, "prometheus", tmp_path).parent / "targets" / file).read_text())


def scraped(job: dict, nodes: list[dict]) -> set[tuple[str, int]]:
    """Addresses and ports of the database nodes that a Prometheus job scrapes."""
    role, address = job["relabel_configs"]
    port = int(address["replacement"].removeprefix("$1:"))
    return {(node["targets"][0], port) for node in nodes if re.fullmatch(role["regex"], node["labels"]["role"])}


def ran(*command) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_accepts_its_configuration(cluster, tmp_path):
    configuration = laid_out(cluster, "prometheus", tmp_path)
    said = ran("promtool", "check", "config", configuration)
    assert "WARNING" not in said, said
    authority = [job["tls_config"]["ca_file"] for job in yaml.safe_load(configuration.read_text())["scrape_configs"] if "tls_config" in job]
    assert authority and all((configuration.parent / file).exists() for file in authority)
    rules = {path.name: path.read_text() for path in (ROOT / "observability/rules").iterdir()}
    assert {path.name: path.read_text() for path in (configuration.parent / "rules").iterdir()} == rules


def test_the_configuration_is_the_one_that_is_tested(cluster, tmp_path):
    assert laid_out(cluster, "prometheus", tmp_path).read_text() == (ROOT / "observability/prometheus.yml").read_text()
    assert laid_out(cluster, "otel-collector", tmp_path).read_text() == (ROOT / "observability/collector.yaml").read_text()


def test_alertmanager_accepts_its_configuration(cluster, tmp_path):
    ran("amtool", "check-config", laid_out(cluster, "alertmanager", tmp_path))


def test_the_nodes_are_the_regions_own_and_nothing_else_is_reached(cluster, tmp_path):
    region = find(cluster.resources, "TargetGroupBinding", "dob-api")["spec"]["targetGroupARN"].split(":")[3]
    nodes = targets(cluster, tmp_path, "nodes.json")
    assert {target["labels"]["region"] for target in nodes + targets(cluster, tmp_path, "collectors.json") + targets(cluster, tmp_path, "kubernetes.json")} == {region}
    assert [(node["labels"]["node"], node["labels"]["role"]) for node in nodes] == [
        (f"dob-{region}-a", "data"), (f"dob-{region}-b", "data"), (f"dob-{region}-c", "witness")
    ]
    jobs = yaml.safe_load((ROOT / "observability/prometheus.yml").read_text())["scrape_configs"]
    wanted = set().union(*(scraped(job, nodes) for job in jobs if "relabel_configs" in job))
    rule = find(cluster.resources, "NetworkPolicy", "prometheus")["spec"]["egress"][0]
    reached = {(to["ipBlock"]["cidr"].removesuffix("/32"), port["port"]) for to in rule["to"] for port in rule["ports"]}
    # The witness has two of the four exporters.
    assert wanted < reached and len(reached - wanted) == 2
    assert reached == set(product({address for address, _ in wanted}, {port for _, port in wanted}))


@pytest.mark.parametrize(
    "workload, place",
    [("otel-collector", "collectors.json"), ("alertmanager", "alertmanagers.json"), ("alertmanager", "cluster.peer")],
)
def test_every_pod_is_known_by_its_name(cluster, tmp_path, workload, place):
    named = option(cluster, workload, place) or [target for entry in targets(cluster, tmp_path, place) for target in entry["targets"]]
    stateful, service = find(cluster.resources, "StatefulSet", workload), find(cluster.resources, "Service", workload)
    assert service["spec"]["clusterIP"] == "None" and stateful["spec"]["serviceName"] == workload
    assert service["spec"]["selector"].items() <= stateful["spec"]["template"]["metadata"]["labels"].items()
    [port] = {name.rpartition(":")[2] for name in named}
    assert named == [f"{workload}-{number}.{workload}:{port}" for number in range(stateful["spec"]["replicas"])]
    assert int(port) in {entry["port"] for entry in service["spec"]["ports"]}
    # The CNI's network policies match a Service's port only if the pods have the same port.
    opened = {(entry["containerPort"], entry.get("protocol")) for entry in container(cluster, workload)["ports"]}
    assert {(entry["port"], entry.get("protocol")) for entry in service["spec"]["ports"]} <= opened


def test_the_alerts_on_pods_read_what_the_chart_gives(cluster, tmp_path):
    [chart] = [release for release in yaml.safe_load((ROOT / "k8s/controllers/helmfile.yaml").read_text())["releases"] if release["name"] == KSM]
    [target] = [target for entry in targets(cluster, tmp_path, "kubernetes.json") for target in entry["targets"]]
    assert target == f"{chart['name']}.{chart['namespace']}.svc.cluster.local:8080"
    [values] = chart["values"]
    rules = (ROOT / "observability/rules/pods.yml").read_text()
    assert set(values["metricAllowlist"]) == set(re.findall(r"\bkube_\w+", rules))
    assert {name.split("_")[1] + "s" for name in values["metricAllowlist"]} == set(values["collectors"])
    assert values["namespaces"] == [find(cluster.resources, "SpinAppExecutor", "spin")["metadata"]["namespace"]]


def test_spans_are_sent_where_the_collector_takes_them(cluster):
    endpoint = find(cluster.resources, "SpinAppExecutor", "spin")["spec"]["deploymentConfig"]["otel"]["exporter_otlp_traces_endpoint"]
    assert endpoint == f"http://otel-collector.{NAMESPACE}.svc.cluster.local:4318/v1/traces"
    configuration = yaml.safe_load((ROOT / "observability/collector.yaml").read_text())
    listens = [configuration["receivers"]["otlp"]["protocols"]["http"], configuration["exporters"]["prometheus"], configuration["extensions"]["health_check"]]
    assert [int(part["endpoint"].rpartition(":")[2]) for part in listens] == [port["containerPort"] for port in container(cluster, "otel-collector")["ports"]]


def test_pods_that_serve_report_every_request(cluster):
    """By default, Spin would not report a request whose traceparent is not sampled, and lose five seconds of reports when it ends."""
    for name, value in {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_BSP_SCHEDULE_DELAY": "1000"}.items():
        assert cluster.policy("Mutating", "dob-api-serving-pods").says(f'Object.spec.containers.env{{name: "{name}", value: "{value}"}}')


def test_the_schema_pod_does_not_speak_for_those_that_serve(cluster):
    """The collector counts no probe of the schema pod, and some probe of every serving pod."""
    left_out = set(re.findall(r'attributes\["url\.path"\] == "([^"]+)"', (ROOT / "observability/collector.yaml").read_text()))
    asked = {app["metadata"]["name"]: {probe["httpGet"]["path"] for probe in app["spec"]["checks"].values()} for app in cluster.apps}
    assert asked.pop("dob-api-schema") == left_out
    assert all(paths - left_out for paths in asked.values())


def test_pods_speak_to_whom_they_must_and_to_nobody_else(cluster):
    others = [
        {"name": "stranger", "namespace": "default", "labels": {}, "ports": {("TCP", 80)}},
        {"name": KSM, "namespace": KSM, "labels": {"app.kubernetes.io/name": KSM}, "ports": {("TCP", 8080)}},
    ]
    pods = [*others, *map(pod_of_app, cluster.apps), *map(pod, of_kind(cluster.resources, "StatefulSet"))]
    policies = of_kind(cluster.resources, "NetworkPolicy")
    spoken = {
        (source["name"], target["name"], *port)
        for source, target in product(pods, pods)
        for port in target["ports"]
        if source not in others or target not in others
        if lets(policies, "Egress", source, target, port) and lets(policies, "Ingress", target, source, port)
    }
    assert spoken == {
        ("dob-api", "otel-collector", "TCP", 4318),
        ("dob-api-schema", "otel-collector", "TCP", 4318),
        ("prometheus", "otel-collector", "TCP", 8889),
        ("prometheus", KSM, "TCP", 8080),
        ("prometheus", "alertmanager", "TCP", 9093),
        ("alertmanager", "alertmanager", "TCP", 9094),
        ("alertmanager", "alertmanager", "UDP", 9094),
    }


def pod_of_app(app: dict) -> dict:
    """The labels of the operator's pods, as network policies see them."""
    return {**app["metadata"], "labels": {APP: app["metadata"]["name"]}, "ports": {("TCP", PORT)}}


def pod(workload: dict) -> dict:
    """The same for a workload of this repository."""
    template = workload["spec"]["template"]
    ports = {(port.get("protocol", "TCP"), port["containerPort"]) for port in template["spec"]["containers"][0]["ports"]}
    return {**workload["metadata"], "labels": template["metadata"]["labels"], "ports": ports}


def lets(policies: list[dict], direction: str, one: dict, other: dict, port: tuple[str, int]) -> bool:
    """Whether the policies of a pod allow traffic with another pod in this direction."""
    mine = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == one["namespace"]
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], one["labels"])
    ]
    rules = [rule for spec in mine for rule in spec.get(direction.lower(), [])]
    return not mine or any(
        port in {(entry["protocol"], entry["port"]) for entry in rule["ports"]}
        and any(is_peer(peer, one, other) for peer in rule["to" if direction == "Egress" else "from"])
        for rule in rules
    )


def is_peer(peer: dict, one: dict, other: dict) -> bool:
    if "ipBlock" in peer:
        return False
    namespace = {"kubernetes.io/metadata.name": other["namespace"]}
    near = selects(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else one["namespace"] == other["namespace"]
    return near and selects(peer.get("podSelector", {}), other["labels"])


def selects(selector: dict, labels: dict) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def test_one_of_two_pods_stays_when_a_node_is_drained(cluster):
    for workload in of_kind(cluster.resources, "StatefulSet"):
        budget = find([r for r in cluster.resources if r["metadata"].get("namespace") == NAMESPACE], "PodDisruptionBudget", workload["metadata"]["name"])
        assert budget["spec"]["selector"] == workload["spec"]["selector"]
        assert (workload["spec"]["replicas"], budget["spec"]["maxUnavailable"]) == (2, 1)


def test_prometheus_deletes_old_data_before_its_volume_is_full(cluster):
    [claim] = find(cluster.resources, "StatefulSet", "prometheus")["spec"]["volumeClaimTemplates"]
    [kept] = option(cluster, "prometheus", "storage.tsdb.retention.size")
    volume = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    assert int(kept.removesuffix("GB")) <= 0.8 * volume
    storage = find(cluster.resources, "StorageClass", claim["spec"]["storageClassName"])
    assert storage["parameters"]["encrypted"] == "true" and storage["volumeBindingMode"] == "WaitForFirstConsumer"


@pytest.fixture
def aws(monkeypatch) -> str:
    """The address of an emulator of AWS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "emulated")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def topic(aws) -> tuple[str, callable]:
    """A topic, and a function that returns its next message."""
    sns, sqs = (boto3.client(service, region_name="eu-west-1", endpoint_url=aws) for service in ("sns", "sqs"))
    arn = sns.create_topic(Name="operators")["TopicArn"]
    queue = sqs.create_queue(QueueName="operators")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)

    def next_message() -> dict:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5).get("Messages", []):
                return json.loads(message["Body"])
        raise AssertionError(f"the topic was told nothing in {PATIENCE} s")

    return arn, next_message


@pytest.fixture
def alertmanager(manifests: Copy, topic, aws, tmp_path):
    """The address of an Alertmanager that runs with the overlay's configuration and notifies the emulator's topic."""
    sns_configs = json.dumps([{"topic_arn": topic[0], "sigv4": {"region": "eu-west-1"}}])
    manifests.replace("overlays/primary/region.yaml", "alarm_topics: '[]'", f"alarm_topics: '{sns_configs}'")
    configuration = laid_out(Cluster.of(manifests.overlay), "alertmanager", tmp_path / "pod")
    settings = yaml.safe_load(configuration.read_text())
    for sns_config in settings["receivers"][0]["sns_configs"]:
        sns_config["api_url"] = aws
    configuration.write_text(yaml.safe_dump(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{}".format(free.getsockname()[1])
    log = open(tmp_path / "log", "w+")
    program = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    options = [f"--config.file={configuration}", f"--storage.path={tmp_path / 'data'}", f"--web.listen-address={address}", "--cluster.listen-address="]
    process = subprocess.Popen([program, *options], stdout=log, stderr=log, env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"})
    try:
        until = time.monotonic() + PATIENCE
        while not answers(f"http://{address}/-/ready"):
            assert process.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()
        log.close()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except urllib.error.URLError:
        return False


def alert(name: str, **labels: str) -> dict:
    """An alert as Prometheus sends it."""
    rules = [rule for path in (ROOT / "observability/rules").iterdir() for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    [rule] = [rule for rule in rules if rule.get("alert") == name]
    return {"labels": {"alertname": name, **labels, **rule["labels"]}, "annotations": rule["annotations"]}


def posted(alertmanager: str, alert: dict) -> None:
    """Sends an alert to Alertmanager, and waits until it is in a group."""
    request = urllib.request.Request(f"{alertmanager}/api/v2/alerts", json.dumps([alert]).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request)
    until = time.monotonic() + PATIENCE
    while alert["labels"] not in grouped(alertmanager):
        assert time.monotonic() < until, f"{alert['labels']} is in no group after {PATIENCE} s"
        time.sleep(0.05)


def grouped(alertmanager: str) -> list[dict]:
    groups = json.load(urllib.request.urlopen(f"{alertmanager}/api/v2/alerts/groups"))
    return [alert["labels"] for group in groups for alert in group["alerts"]]


def test_a_page_is_told_at_once_and_a_ticket_waits(alertmanager, topic):
    page, ticket = alert("NoLeader", region="eu-west-1"), alert("NodeDown", region="eu-west-1", node="dob-eu-west-1-b")
    posted(alertmanager, ticket)
    posted(alertmanager, page)
    message = topic[1]()
    assert message["Subject"] == "page firing: NoLeader in eu-west-1"
    assert message["Message"].split("\n")[:3] == ["page firing: NoLeader", page["annotations"]["summary"], page["annotations"]["runbook"]]
    metrics = urllib.request.urlopen(f"{alertmanager}/metrics").read().decode()
    told = re.findall(r'^alertmanager_notifications_total{.*integration="sns".*} (\d+)$', metrics, re.MULTILINE)
    assert sum(map(int, told)) == 1, "the ticket did not wait"
