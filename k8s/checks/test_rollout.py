"""scripts/rollout against a kubectl that renders for real and only writes down what it would ask of a cluster."""

import json
import os
import shutil
import subprocess

import yaml

from conftest import Copy
from rendering import ROOT, of_kind

# Answers as a cluster would in which a version runs already; fails the n-th `rollout status`.
KUBECTL = """#!/bin/bash
[[ $1 != kustomize ]] || exec {kubectl} "$@"
echo "$*" | sed "s|--filename=[^ -]*$|FILE|" >>{calls}
case "$*" in
*--filename=-) cat >{calls}.put_back ;;
*--filename=*) last=${{!#}}; cp "${{last#*=}}" {calls}.applied ;;
*jsonpath={{.spec}}*) echo '{before}' ;;
*rendered}}) [[ -z '{before}' ]] || echo before ;;
*"rollout status"*) (($(grep -c "rollout status" {calls}) != {failing})) ;;
esac
"""


class Run:
    """What a run of the script said and did."""

    def __init__(self, manifests: Copy, before: str = "", failing: int = 0):
        root = manifests.directory.parent
        (root / "scripts").mkdir()
        shutil.copy(ROOT / "scripts/rollout", root / "scripts/rollout")
        calls, binaries = root / "calls", root / "bin"
        binaries.mkdir()
        kubectl = binaries / "kubectl"
        kubectl.write_text(KUBECTL.format(kubectl=shutil.which("kubectl"), calls=calls, before=before, failing=failing))
        kubectl.chmod(0o755)
        path = {"PATH": f"{binaries}:{os.environ['PATH']}"}
        done = subprocess.run([root / "scripts/rollout", "primary"], env=path, capture_output=True, text=True)
        self.status, self.words = done.returncode, done.stderr
        put_back = root / "calls.put_back"
        self.put_back = json.loads(put_back.read_text()) if put_back.exists() else None
        applied = root / "calls.applied"
        self.applied = list(yaml.safe_load_all(applied.read_text())) if applied.exists() else []
        self.calls = calls.read_text().splitlines() if calls.exists() else []

    def at(self, part: str) -> int:
        """Where in the calls the one is that has this part."""
        found = [number for number, call in enumerate(self.calls) if part in call]
        assert len(found) == 1, (part, self.calls)
        return found[0]


def test_secrets_come_before_the_schema_and_the_schema_before_the_pods_that_serve(released):
    run = Run(released)
    assert run.status == 0, run.words
    order = [
        "--selector=!dob-api/step",
        "wait externalsecret --all",
        "--selector=dob-api/step=schema FILE",
        "--selector=dob-api/step=schema-pods FILE",
        "rollout status deployment/dob-api-schema",
        "--selector=dob-api/step=api FILE",
        "--selector=dob-api/step=api-pods FILE",
        "rollout status deployment/dob-api ",
    ]
    assert [run.at(part) for part in order] == sorted(run.at(part) for part in order), run.calls


def test_nothing_is_forced_on_other_managers_of_a_field(released):
    applied = [call for call in Run(released).calls if call.startswith("apply")]
    assert len(applied) == 5
    assert all("--server-side --field-manager=dob-rollout" in call and "force" not in call for call in applied)


def test_what_is_applied_says_which_rendering_it_is(released):
    run = Run(released)
    [mark] = {app["spec"]["deploymentAnnotations"]["rendered"] for app in of_kind(run.applied, "SpinApp")}
    assert mark != "unset"
    for app in ("dob-api-schema", "dob-api"):
        run.at(f"wait deployment/{app} --for=jsonpath={{.metadata.annotations.rendered}}={mark}")


def test_a_version_that_does_not_get_ready_is_put_back(released):
    run = Run(released, before='{"image":"old"}', failing=2)
    assert run.status == 1 and "dob-api was put back" in run.words, run.words
    assert run.put_back["spec"] == {"image": "old"}
    assert (run.put_back["kind"], run.put_back["metadata"]["name"]) == ("SpinApp", "dob-api")
    assert run.put_back["metadata"]["labels"] == {"dob-api/step": "api"}
    put_back = run.at("apply --server-side --field-manager=dob-rollout --filename=-")
    assert put_back < run.at("jsonpath={.metadata.annotations.rendered}=before")
    assert "rollout status deployment/dob-api" in run.calls[-1]


def test_a_schema_that_does_not_get_ready_leaves_the_pods_that_serve_alone(released):
    run = Run(released, before='{"image":"old"}', failing=1)
    assert run.status == 1 and "dob-api-schema was put back" in run.words
    assert not any("step=api" in call for call in run.calls)


def test_a_first_version_that_does_not_get_ready_has_nothing_to_go_back_to(released):
    run = Run(released, failing=2)
    assert run.status == 1 and "there is no earlier version" in run.words
    assert run.put_back is None


def test_an_image_that_was_never_released_is_refused(manifests):
    run = Run(manifests)
    assert run.status == 1 and "The image has no digest yet" in run.words
    assert run.calls == []


def test_the_account_of_the_example_is_refused(released):
    released.replace("overlays/primary/kustomization.yaml", "210987654321", "123456789012")
    run = Run(released)
    assert run.status == 1 and "run scripts/write-overlay primary" in run.words
    assert run.calls == []


def test_a_rollout_waits_for_nothing_but_the_api(released):
    waits = [call for call in Run(released).calls if " wait " in call or " rollout status " in call]
    assert waits and all(call.startswith("--namespace=dob-api ") for call in waits)
