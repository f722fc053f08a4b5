"""scripts/write-overlay with a terraform that only has an output."""

import json
import os
import shutil
import subprocess

import pytest
import yaml

from conftest import Copy
from rendering import ROOT, find, of_kind, render

ARN = "arn:aws:elasticloadbalancing:eu-west-1:210987654321:targetgroup/dob/fedcba9876543210"


def write(manifests: Copy, output: str) -> subprocess.CompletedProcess:
    root = manifests.directory.parent
    (root / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts/write-overlay", root / "scripts/write-overlay")
    for name, code in {"terraform": f"echo '{output}'", "git": ""}.items():
        program = root / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{code}\n")
        program.chmod(0o755)
    path = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run([root / "scripts/write-overlay", "primary"], env=path, capture_output=True, text=True)


def output(*topics: str) -> str:
    return json.dumps({"kubernetes": {"target_group_arn": ARN, "alarm_topics": topics}})


def test_account_and_target_group_are_written(manifests):
    done = write(manifests, output())
    assert done.returncode == 0, done.stderr
    rendered = render(manifests.overlay)
    assert find(rendered, "TargetGroupBinding", "dob-api")["spec"]["targetGroupARN"] == ARN
    images = {find(rendered, "SpinApp", name)["spec"]["image"].split("/")[0] for name in ("dob-api", "dob-api-schema")}
    assert images == {"210987654321.dkr.ecr.eu-west-1.amazonaws.com"}
    assert "123456789012" not in str(rendered)


@pytest.mark.parametrize("names", [[], ["operators"], ["operators", "on-call"]])
def test_alarm_topics_are_written(manifests, names):
    topics = [f"arn:aws:sns:eu-west-1:210987654321:{name}" for name in names]
    for again in topics, topics[::-1], topics:
        done = write(manifests, output(*again))
        assert done.returncode == 0, done.stderr
    [configuration] = [c["data"]["alertmanager.yml"] for c in of_kind(render(manifests.overlay), "ConfigMap") if "alertmanager.yml" in c["data"]]
    [receiver] = yaml.safe_load(configuration)["receivers"]
    assert receiver["sns_configs"] == [{"topic_arn": topic, "sigv4": {"region": "eu-west-1"}} for topic in topics]


@pytest.mark.parametrize("output", ["{}", "", "No outputs found", json.dumps({"kubernetes": {"target_group_arn": ARN}})])
def test_without_an_output_nothing_is_written(manifests, output):
    before = (manifests.overlay / "region.yaml").read_text()
    done = write(manifests, output)
    assert done.returncode == 1 and "apply" in done.stderr.splitlines()[-1]
    assert (manifests.overlay / "region.yaml").read_text() == before
