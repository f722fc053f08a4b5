"""The commands of the README that an administrator runs once fit what the deploy workflow does afterwards."""

import re
import shlex
import subprocess

import pytest
import yaml

from rendering import OVERLAYS, ROOT, render
from test_rollout import Run

# Programs that only print their arguments, quoted.
PROGRAMS = """
for name in helmfile kubectl scripts/write-overlay; do eval "$name() { echo $name \\"\\${@@Q}\\"; }"; done
scripts/with-cluster() { shift; "$@"; }
terraform() { echo '{"network": {"vpc_id": "vpc-1"}}'; }
"""


def in_the_guide() -> str:
    [commands] = [block for block in re.findall(r"```sh\n(.*?)```", (ROOT / "terraform/README.md").read_text(), re.S) if "helmfile --file" in block]
    return commands


def in_the_smoke_run() -> str:
    steps = yaml.safe_load((ROOT / ".github/workflows/smoke.yml").read_text())["jobs"]["cluster"]["steps"]
    [commands] = [step["run"] for step in steps if "helmfile --file" in step.get("run", "")]
    return "AWS_REGION=eu-west-1\nSIDE=primary\n" + commands


def asked(commands: str | None = None) -> list[list[str]]:
    """The calls to other programs by the commands that install the charts."""
    commands = commands or in_the_guide()
    done = subprocess.run(["bash", "-euc", PROGRAMS + commands], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_the_smoke_run_installs_as_the_guide_does():
    assert asked(in_the_smoke_run()) == [command for command in asked() if command[0] != "scripts/write-overlay"]


def test_what_belongs_to_no_namespace_is_there_before_the_first_rollout(released):
    [first] = [command for command in asked() if "k8s/overlays/primary" in command]
    assert first[-2] == "--kustomize"
    run = Run(released)
    then = run.calls[run.at("--selector=!dob-api/step")].split()
    assert first[1:-2] == then[:-1]


def test_the_foundation_is_applied_before_everything_that_needs_it():
    places = [next((word for word in command if word.startswith("k8s/")), "") for command in asked()]
    in_order = ["k8s/foundation", "k8s/logs", "k8s/controllers/helmfile.yaml", "k8s/overlays/primary"]
    assert [place for place in places if place] == in_order
    applied = [command for command in asked() if "apply" in command]
    assert len(applied) == 3 and all("--server-side" in command for command in applied)


@pytest.mark.parametrize("overlay", ["primary", "recovery"])
def test_nothing_without_a_namespace_waits_for_its_step(overlay):
    assert not [r["metadata"]["name"] for r in render(OVERLAYS / overlay) if "namespace" not in r["metadata"] and "dob-api/step" in r["metadata"].get("labels", {})]


def test_charts_are_installed_without_comparing():
    # `diff` needs a plugin, and fails in a cluster that does not have the resource definitions of an earlier chart.
    [(_, file_option, file, *_, command)] = [command for command in asked() if command[0] == "helmfile"]
    assert file_option == "--file" and (ROOT / file).is_file() and command == "sync"
