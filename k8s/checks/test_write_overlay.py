"""scripts/write-overlay with a terraform that only prints an output."""

import json
import os
import shutil
import subprocess

import pytest
import yaml

from conftest import Copy
from rendering import ROOT, find, of_kind, render

ARN = "arn:aws:elasticloadbalancing:eu-north-1:210987654321:targetgroup/dob/fedcba9876543210"
# Terraform's output for a side with another region and other addresses than the example.
SETTINGS = {
    "aws_region": "eu-north-1",
    "target_group_arn": ARN,
    "alarm_topics": "[]",
    **{f"database_host_{zone}": f"10.30.{68 + index}.11" for index, zone in enumerate("abc")},
    **{f"database_node_{zone}": f"dob-eu-north-1-{zone}" for zone in "abc"},
    **{f"load_balancer_cidr_{zone}": f"10.30.{64 + index}.0/24" for index, zone in enumerate("abc")},
}


def write(manifests: Copy, output: str) -> subprocess.CompletedProcess:
    root = manifests.directory.parent
    (root / "scripts").mkdir(exist_ok=True)
    for script in ("write-overlay", "edit-yaml"):
        shutil.copy(ROOT / "scripts" / script, root / "scripts")
    for name, code in {"terraform": f"echo '{output}'", "git": ""}.items():
        program = root / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{code}\n")
        program.chmod(0o755)
    path = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run([root / "scripts/write-overlay", "primary"], env=path, capture_output=True, text=True)


def output(**settings: str) -> str:
    return json.dumps({"kubernetes": {"overlay": {**SETTINGS, **settings}}})


def test_all_settings_are_written(manifests):
    done = write(manifests, output())
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((manifests.overlay / "region.yaml").read_text())["data"] == SETTINGS
    rendered = render(manifests.overlay)
    assert find(rendered, "TargetGroupBinding", "dob-api")["spec"]["targetGroupARN"] == ARN
    images = {find(rendered, "SpinApp", name)["spec"]["image"].split("/")[0] for name in ("dob-api", "dob-api-schema")}
    assert images == {"210987654321.dkr.ecr.eu-north-1.amazonaws.com"}
    assert not [example for example in ("123456789012", "eu-west-1", "10.20.") if example in str(rendered)]


@pytest.mark.parametrize("names", [[], ["operators"], ["operators", "on-call"]])
def test_alarm_topics_are_written(manifests, names):
    topics = [{"topic_arn": f"arn:aws:sns:eu-north-1:210987654321:{name}", "sigv4": {"region": "eu-north-1"}} for name in names]
    for again in topics, topics[::-1], topics:
        done = write(manifests, output(alarm_topics=json.dumps(again, separators=(",", ":"))))
        assert done.returncode == 0, done.stderr
    [configuration] = [c["data"]["alertmanager.yml"] for c in of_kind(render(manifests.overlay), "ConfigMap") if "alertmanager.yml" in c["data"]]
    [receiver] = yaml.safe_load(configuration)["receivers"]
    assert receiver["sns_configs"] == topics


@pytest.mark.parametrize("output", ["{}", "", "No outputs found", json.dumps({"kubernetes": {"cluster": "dob"}}), output(target_group_arn="unknown")])
def test_without_an_output_nothing_is_written(manifests, output):
    before = (manifests.overlay / "region.yaml").read_text()
    done = write(manifests, output)
    assert done.returncode == 1 and "apply" in done.stderr.splitlines()[-1]
    assert (manifests.overlay / "region.yaml").read_text() == before
