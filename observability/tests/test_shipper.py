"""Runs the collector with the log shipper's configuration on files such as containerd and the kubelet write. What arrives must be what was
written, once, with the name of its pod. OTLP to this test stands in for CloudWatch.

`make checks ONLY=collector` builds the collector.
"""

import json
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from test_collector import COLLECTOR, CONFIGURATION, PATIENCE, free, run

POD, OWN = "dob-api_dob-api-5f7c_0a1b2c3d-0000-4000-8000-00000000000a/dob-api", "logs_shipper-x_0a1b2c3d-0000-4000-8000-00000000000b/shipper"


def line(text: str, part: str = "F") -> str:
    """A line as containerd writes it: P is a part of a longer one, F its end."""
    return f"2026-11-26T19:00:00.123456789Z stderr {part} {text}\n"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.batches.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Shipper:
    def __init__(self, folder):
        assert COLLECTOR.exists(), f"{COLLECTOR} is missing: make checks ONLY=collector builds it"
        self.folder, self.pod = folder, folder / "pods" / POD
        for each in (self.pod, folder / "pods" / OWN, folder / "state"):
            each.mkdir(parents=True)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.server.batches = []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        (folder / "collector.yaml").write_text(yaml.safe_dump(self.configuration()))

    def configuration(self) -> dict:
        text = (CONFIGURATION.parent / "k8s/logs/collector.yaml").read_text()
        configuration = yaml.safe_load(text.replace("/var/log/pods", f"{self.folder}/pods").replace("/var/lib/shipper", f"{self.folder}/state"))
        configuration["exporters"] = {"otlphttp": {"endpoint": f"http://127.0.0.1:{self.server.server_port}", "encoding": "json", "compression": "none"}}
        configuration["extensions"]["health_check"]["endpoint"] = free()
        configuration["service"]["pipelines"]["logs"]["exporters"] = ["otlphttp"]
        configuration["service"]["telemetry"] = {"metrics": {"level": "none"}}
        return configuration

    def until(self, *bodies: str) -> None:
        """Runs the shipper until these bodies have arrived, in any order, and for a moment more."""
        log = self.folder / "log"
        with ExitStack() as stack:
            run(stack, log, COLLECTOR, f"--config={self.folder}/collector.yaml")
            until = time.monotonic() + PATIENCE
            while len(self.records()) < len(bodies):
                assert time.monotonic() < until, f"only {self.records()} arrived\n{log.read_text()}"
                time.sleep(0.2)
            # What arrives twice, or should not arrive, would come with the next reading of the files, 0.2 s later.
            time.sleep(2)
        assert sorted(body for body, _ in self.records()) == sorted(bodies)

    def records(self) -> list[tuple[str, dict]]:
        """Each record that arrived: its body, and the attributes of what wrote it."""
        return [(record["body"]["stringValue"], {each["key"]: each["value"].get("stringValue") for each in resource["resource"].get("attributes", [])})
                for batch in self.server.batches for resource in batch["resourceLogs"] for scope in resource["scopeLogs"] for record in scope["logRecords"]]


@pytest.fixture
def shipper(tmp_path):
    shipper = Shipper(tmp_path)
    yield shipper
    shipper.server.shutdown()


def test_each_line_arrives_once_with_the_name_of_its_pod(shipper):
    (shipper.pod / "0.log").write_text(line('{"level": "error"}') + line("half a ", "P") + line("line"))
    (shipper.folder / "pods" / OWN / "0.log").write_text(line("an error of the shipper"))
    shipper.until('{"level": "error"}', "half a line")
    assert {(who["k8s.namespace.name"], who["k8s.pod.name"], who["k8s.container.name"]) for _, who in shipper.records()} == {("dob-api", "dob-api-5f7c", "dob-api")}


def test_what_was_written_while_the_shipper_was_away_arrives(shipper):
    file = shipper.pod / "0.log"
    file.write_text(line("before"))
    shipper.until("before")
    with file.open("a") as written:
        written.write(line("while it was away"))
    # The kubelet rotates the file, and has compressed an older one.
    file.rename(shipper.pod / "0.log.20261126-190000")
    (shipper.pod / "0.log.20261125-190000.gz").write_bytes(b"\x1f\x8b compressed\n")
    file.write_text(line("after the rotation"))
    shipper.until("before", "while it was away", "after the rotation")
