"""Runs the collector and Prometheus with the project's configuration, and sends spans as Spin does. What is counted must be what was sent.

`make checks ONLY=collector` builds the collector, for which it takes Go.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import pytest
import yaml

CONFIGURATION = Path(__file__).resolve().parents[1]
# Where `make` builds it.
COLLECTOR = CONFIGURATION.parent / "target/otel-collector"
# Seconds until a program has started, and until metrics have been flushed, scraped and evaluated.
PATIENCE = 120
# The number of scrapes after which a growing metric has a rate.
SCRAPES = 5
SPANS = count(1)


@dataclass
class Request:
    """Requests of one kind. A request whose client gave up has no status."""

    method: str
    path: str
    status: int | None
    times: int
    seconds: float = 0.004
    tracestate: str = ""

    def spans(self) -> list[dict]:
        """Spin's span of such a request, and two spans within it: of the component and of an SQL statement."""
        trace, root, now = f"{next(SPANS):032x}", f"{next(SPANS):016x}", time.time_ns()
        attributes = {"http.request.method": self.method, "url.path": self.path, "url.query": "", "network.protocol.name": "http"}
        if self.status:
            attributes |= {"http.response.status_code": self.status, "http.route": "/..."}
        times = {"startTimeUnixNano": str(now - int(self.seconds * 1e9)), "endTimeUnixNano": str(now)}
        within = {"traceId": trace, "parentSpanId": root, "traceState": self.tracestate, **times}
        name = f"{self.method} /..." if self.status else "spin_trigger_http.handle_http_request"
        return [
            {"traceId": trace, "spanId": root, "traceState": self.tracestate, "name": name, "kind": 2, "attributes": written(attributes), **times},
            {"spanId": f"{next(SPANS):016x}", "name": "execute_wasm_component dob-api", "kind": 1, **within},
            {"spanId": f"{next(SPANS):016x}", "name": "SELECT 1", "kind": 3, "attributes": written({"db.system": "postgresql"}), **within},
        ]


def written(attributes: dict) -> list[dict]:
    return [{"key": key, "value": {"intValue": value} if isinstance(value, int) else {"stringValue": value}} for key, value in attributes.items()]


HEALTH = Request("GET", "/.well-known/spin/health", 200, 1)
# The kubelet's probes, from k8s/base/schema.yaml and k8s/base/api.yaml.
SCHEMA = [HEALTH, Request("GET", "/readyz", 200, 1), Request("GET", "/readyz", 503, 1)]
PROBED = [HEALTH, Request("GET", "/healthz", 200, 1)]
# 5 of 100 greetings and 2 of 40 saves fail. Of the other 95 greetings, 19 take longer than 100 ms.
SERVED = [
    Request("GET", "/hello/Anna", 200, 66),
    Request("GET", "/hello/Anna", 200, 19, seconds=0.2),
    Request("HEAD", "/hello/Anna", 200, 4),
    Request("GET", "/hello/nobody", 404, 5),
    # As from a client that samples one of 16 traces: each request would count as 16.
    Request("GET", "/hello/Anna", 200, 1, tracestate="ot=th:f"),
    Request("GET", "/hello/Anna", 503, 3),
    Request("GET", "/hello/Anna", None, 2, seconds=3),
    Request("PUT", "/hello/Anna", 204, 38),
    Request("PUT", "/hello/Anna", 500, 1),
    Request("PUT", "/hello/Anna", None, 1),
    Request("POST", "/hello/Anna", 405, 1),
    Request("GET", "/healthz", 200, 7),
]
FAILED, SLOW = 0.05, 0.2


@dataclass
class Collector:
    address: str
    metrics: str
    log: Path

    @classmethod
    def start(cls, folder: Path, stack: ExitStack) -> "Collector":
        """Starts a collector with the project's configuration, but other addresses."""
        folder.mkdir()
        configuration = yaml.safe_load((CONFIGURATION / "collector.yaml").read_text())
        receiver, exporter = configuration["receivers"]["otlp"]["protocols"]["http"], configuration["exporters"]["prometheus"]
        health, (own_host, own_port) = configuration["extensions"]["health_check"], free().split(":")
        for part in (receiver, exporter, health):
            part["endpoint"] = free()
        own = {"pull": {"exporter": {"prometheus": {"host": own_host, "port": int(own_port)}}}}
        configuration["service"]["telemetry"] = {"metrics": {"readers": [own]}}
        (folder / "collector.yaml").write_text(yaml.safe_dump(configuration))
        run(stack, folder / "log", COLLECTOR, f"--config={folder / 'collector.yaml'}")
        await_answer(f"http://{health['endpoint']}/", folder / "log")
        return cls(receiver["endpoint"], exporter["endpoint"], folder / "log")

    def take(self, requests: list[Request]) -> None:
        """Sends all spans in one message, so that a flush has either all of them or none."""
        spans = list(chain.from_iterable(request.spans() for request in requests for _ in range(request.times)))
        resource = {"attributes": written({"service.name": "spin", "service.version": "4.0.1", "telemetry.sdk.language": "rust"})}
        body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "spin"}, "spans": spans}]}]}
        message = urllib.request.Request(f"http://{self.address}/v1/traces", json.dumps(body).encode(), {"Content-Type": "application/json"})
        assert json.load(urllib.request.urlopen(message)).get("partialSuccess", {}) == {}


@dataclass
class Prometheus:
    address: str

    @classmethod
    def start(cls, folder: Path, collectors: dict[str, Collector], stack: ExitStack) -> "Prometheus":
        """Starts a Prometheus with the project's configuration and rules. It scrapes these collectors and no node."""
        (folder / "targets").mkdir(parents=True)
        (folder / "tls").mkdir()
        shutil.copy(CONFIGURATION / "prometheus.yml", folder)
        shutil.copytree(CONFIGURATION / "rules", folder / "rules")
        scraped = [{"targets": [collector.metrics], "labels": {"region": region}} for region, collector in collectors.items()]
        for name, content in {"nodes": [], "collectors": scraped, "alertmanagers": []}.items():
            (folder / f"targets/{name}.json").write_text(json.dumps(content))
        authority = ["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=authority"]
        subprocess.run(["openssl", *authority, "-keyout", os.devnull, "-out", folder / "tls/ca.crt"], check=True, capture_output=True)
        address = free()
        options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
        run(stack, folder / "log", "prometheus", *options)
        await_answer(f"http://{address}/-/ready", folder / "log")
        return cls(address)

    def ask(self, expression: str) -> list[tuple[dict, float]]:
        query = urllib.parse.urlencode({"query": expression})
        answer = json.load(urllib.request.urlopen(f"http://{self.address}/api/v1/query?{query}"))
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]


def free() -> str:
    """An unused address of this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return "127.0.0.1:{}".format(found.getsockname()[1])


def run(stack: ExitStack, log: Path, *command: str | Path) -> None:
    output = stack.enter_context(open(log, "w"))
    process = subprocess.Popen(command, stdout=output, stderr=output)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def await_answer(url: str, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A Prometheus that has watched three regions for some minutes: one has only its schema pod, one is only probed, one serves."""
    assert COLLECTOR.exists(), f"{COLLECTOR} is missing: make checks ONLY=collector builds it"
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as stack:
        collectors = {region: Collector.start(folder / region, stack) for region in ("schema", "probed", "served")}
        prometheus = Prometheus.start(folder / "prometheus", collectors, stack)

        def probe_until(expression: str) -> None:
            until = time.monotonic() + PATIENCE
            while not prometheus.ask(expression):
                assert time.monotonic() < until, f"{expression} has no result after {PATIENCE} s"
                collectors["schema"].take(SCHEMA)
                collectors["probed"].take(PROBED)
                time.sleep(1)

        collectors["served"].take(SERVED)
        probe_until('traces_span_metrics_calls_total{region="served"}')
        collectors["served"].take(SERVED)
        probe_until('changes(traces_span_metrics_calls_total{region="served"}[1h]) > 0')
        probe_until('region_operation:request_slow_ratio:rate5m{region="served"} >= 0')
        probe_until(f'min(count_over_time(up{{job="api"}}[1h])) >= {SCRAPES}')
        yield prometheus, collectors


def test_every_request_is_counted_once(watched):
    sent = Counter()
    for request in SERVED:
        of_a_name = request.path.startswith("/hello/")
        operation = {"GET": "greeting", "HEAD": "greeting", "PUT": "saving"}.get(request.method, "other") if of_a_name else "other"
        sent[operation, str(request.status or "unanswered")] += 2 * request.times
    counted = watched[0].ask('sum by (operation, http_response_status_code) (traces_span_metrics_calls_total{region="served"})')
    assert {(labels["operation"], labels.get("http_response_status_code")): times for labels, times in counted} == sent


@pytest.mark.parametrize("operation", ["greeting", "saving"])
def test_a_request_without_an_answer_has_failed(watched, operation):
    [(_, ratio)] = watched[0].ask(f'region_operation:request_error_ratio:rate5m{{region="served", operation="{operation}"}}')
    assert ratio == pytest.approx(FAILED)


def test_greetings_that_were_answered_are_slow_or_not(watched):
    [(_, ratio)] = watched[0].ask('region_operation:request_slow_ratio:rate5m{region="served"}')
    assert ratio == pytest.approx(SLOW)


def test_the_schema_pod_does_not_speak_for_those_that_serve(watched):
    raised = watched[0].ask('ALERTS{alertname="ApiSilent"}')
    assert [labels["region"] for labels, _ in raised] == ["schema"]


def test_the_collector_logs_no_problem_with_its_configuration(watched):
    lines = [line for collector in watched[1].values() for line in collector.log.read_text().splitlines()]
    assert [line for line in lines if line.split("\t")[1:2] not in (["info"], [])] == []
