"""scripts/rollout against an imitation of kubectl, which renders for real and stores what a cluster would store (imitated_kubectl.py)."""

import json
import os
import re
import shutil
import subprocess
import sys

import yaml

from conftest import Copy
from rendering import ROOT, of_kind, render

CONFLICT = """error: Apply failed with 1 conflict: conflict with "kubectl-edit" using autoscaling/v2: .spec.maxReplicas
Please review the fields above--they currently have other managers. Here
are the ways you can resolve this warning:
See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts
"""


def digest(letter: str) -> str:
    return "sha256:" + 64 * letter


class Run:
    """The output and the calls of a run of the script, in a cluster with the results of earlier runs of this test."""

    def __init__(self, manifests: Copy, version: str = "a", **trouble):
        root = manifests.directory.parent
        binaries = root / "bin"
        for folder in (root / "scripts", binaries):
            folder.mkdir(exist_ok=True)
        shutil.copy(ROOT / "scripts/rollout", root / "scripts/rollout")
        kubectl = binaries / "kubectl"
        imitation = ROOT / "k8s/checks/imitated_kubectl.py"
        kubectl.write_text(f'#!/bin/bash\nexec {sys.executable} -IS {imitation} {shutil.which("kubectl")} {root} "$@"\n')
        kubectl.chmod(0o755)
        (root / "trouble.json").write_text(json.dumps(trouble))
        calls, rolled_back, applied = root / "calls", root / "rolled_back", root / "applied"
        for left in (calls, rolled_back, applied):
            left.unlink(missing_ok=True)
        release = manifests.directory / "release/kustomization.yaml"
        release.write_text(re.sub("a{64}", version * 64, release.read_text()))
        path = {"PATH": f"{binaries}:{os.environ['PATH']}"}
        done = subprocess.run([root / "scripts/rollout", "primary"], env=path, capture_output=True, text=True, start_new_session=True)
        release.write_text(re.sub(f"{version}{{64}}", "a" * 64, release.read_text()))
        self.status, self.words = done.returncode, done.stderr
        self.rolled_back = json.loads(rolled_back.read_text()) if rolled_back.exists() else None
        self.applied = list(yaml.safe_load_all(applied.read_text())) if applied.exists() else []
        self.calls = calls.read_text().splitlines() if calls.exists() else []

    def at(self, *parts: str) -> int:
        """The position of the call that has all these parts and is no dry run."""
        found = [number for number, call in enumerate(self.calls) if all(part in call for part in parts) and "dry-run" not in call]
        assert len(found) == 1, (parts, self.calls)
        return found[0]

    @property
    def changes(self) -> list[str]:
        """The calls that change the cluster."""
        return [call for call in self.calls if re.search(r"^apply|annotate|patch|delete ", call) and "dry-run" not in call]


def test_secrets_come_before_the_schema_and_the_schema_before_the_pods_that_serve(released):
    run = Run(released)
    assert run.status == 0, run.words
    order = [
        ("--selector=!dob-api/step",),
        ("wait externalsecret --all",),
        ("--selector=dob-api/step=schema FILE",),
        ("rollout status deployment/dob-api-schema",),
        ("--selector=dob-api/step=api FILE",),
        ("rollout status deployment/dob-api ",),
    ]
    assert [run.at(*parts) for parts in order] == sorted(run.at(*parts) for parts in order), run.calls


def test_nothing_is_forced_on_other_managers_of_a_field(released):
    applied = [call for call in Run(released).calls if call.startswith("apply") and "dry-run" not in call]
    assert len(applied) == 4
    assert all("--server-side --field-manager=dob-rollout" in call and "force" not in call for call in applied)


def test_spin_apps_carry_the_checksum_of_their_rendering(released):
    run = Run(released)
    [mark] = {app["spec"]["deploymentAnnotations"]["rendered"] for app in of_kind(run.applied, "SpinApp")}
    assert mark != "unset"
    for app in ("dob-api-schema", "dob-api"):
        run.at(f"wait deployment/{app} --for=jsonpath={{.metadata.annotations.rendered}}={mark}")


def policies_of(run: Run) -> str:
    [mark] = {app["spec"]["podAnnotations"]["policies"] for app in of_kind(run.applied, "SpinApp")}
    return mark


def test_a_changed_policy_replaces_the_pods(released):
    before = policies_of(Run(released))
    assert before != "unset" and policies_of(Run(released, "b")) == before
    for file, old, new in [
        ("base/drain.yaml", 'pre_stop_seconds: "300"', 'pre_stop_seconds: "310"'),
        ("base/serving-pods.yaml", "periodSeconds: 5", "periodSeconds: 6"),
        ("foundation/pods.yaml", "65532", "65533"),
    ]:
        released.replace(file, old, new)
        after = policies_of(Run(released))
        assert after != before, file
        before = after


def test_a_change_by_hand_is_named_before_anything_is_applied(released):
    for selector in ("!dob-api/step", "dob-api/step"):
        run = Run(released, refused=f"--selector={selector}", words=CONFLICT)
        assert run.status == 1 and 'conflict with "kubectl-edit" using autoscaling/v2: .spec.maxReplicas' in run.words
        assert f"--force-conflicts --field-manager=dob-rollout --selector='{selector}'" in run.words
        assert "Please review" not in run.words and not run.changes


def test_what_the_cluster_refuses_is_said_before_anything_is_applied(released):
    run = Run(released, refused="--selector=dob-api/step", words='namespaces "dob-api" not found')
    assert run.status == 1 and 'namespaces "dob-api" not found' in run.words and "by hand" not in run.words
    assert not run.changes


def test_a_rollout_ends_with_the_old_pods(released):
    run = Run(released, leaving="pod/old-1 pod/old-2 ")
    assert run.status == 0, run.words
    waits = [number for number, call in enumerate(run.calls) if "wait pod/old-1 pod/old-2 --for=delete" in call]
    assert len(waits) == 2, "those of the schema, and those that serve"
    assert waits[0] < run.at("--selector=dob-api/step=api FILE") and run.at("rollout status deployment/dob-api ") < waits[1]


def test_old_pods_that_do_not_end_roll_no_good_version_back(released):
    run = Run(released, leaving="pod/old-1", stuck=True)
    assert run.status == 1 and "is rolled out, but old pods do not end" in run.words and "pod/old-1" in run.words
    assert run.rolled_back is None and run.at("annotate", "spinapp/dob-api-schema")


def test_a_version_that_the_operator_can_not_annotate_is_named(released):
    run = Run(released, operator_gone=True)
    assert run.status == 1 and "dob-api-schema is rolled out, but can't be annotated as such" in run.words
    assert run.rolled_back is None
    assert Run(released).status == 0


def test_a_version_that_does_not_become_ready_is_rolled_back(released):
    assert Run(released).status == 0
    run = Run(released, "b", broken={"dob-api": [digest("b")]})
    assert run.status == 1 and "dob-api was rolled back" in run.words, run.words
    assert run.rolled_back["spec"]["image"] == digest("a")
    assert (run.rolled_back["kind"], run.rolled_back["metadata"]["name"]) == ("SpinApp", "dob-api")
    assert run.rolled_back["metadata"]["labels"] == {"dob-api/step": "api"}
    rolled_back = run.calls.index("apply --server-side --field-manager=dob-rollout --filename=-", run.at("step=api FILE"))
    assert rolled_back < run.at(f"rendered}}={run.rolled_back['spec']['deploymentAnnotations']['rendered']}")
    assert "rollout status deployment/dob-api" in run.calls[-1]
    assert not any("annotate" in call and "spinapp/dob-api " in call for call in run.calls), "what does not serve is no version to go back to"


def test_a_killed_rollout_is_continued(released):
    """Whatever the killed run had applied, the version that served before it is restored."""
    assert Run(released).status == 0
    for killed_at in (
        "dry-run",
        "--filename=-",
        "!dob-api/step FILE\n",
        "wait externalsecret",
        "step=schema FILE",
        "wait deployment/dob-api-schema .*rendered",
        "status deployment/dob-api-schema",
        "annotate",
        "wait pod/old",
        "step=api FILE",
        "wait deployment/dob-api .*rendered",
        "status deployment/dob-api ",
        r"status deployment/dob-api .*\n.*--filename=-",
    ):
        killed = Run(released, "b", broken={"dob-api": [digest("b")]}, leaving="pod/old", killed_at=killed_at)
        assert killed.status == -9 and killed.rolled_back is None, killed_at
        run = Run(released, "b", broken={"dob-api": [digest("b")]})
        assert run.status == 1 and run.rolled_back["spec"]["image"] == digest("a"), killed_at


def test_a_rollout_that_was_killed_once_its_pods_were_ready_is_continued(released):
    """The next run records that the version served, and later rollouts go back to it."""
    for killed_at in ("annotate .*spinapp/dob-api ", r"(?s)step=api FILE.*wait pod/old"):
        assert Run(released).status == 0
        assert Run(released, "b", leaving="pod/old", killed_at=killed_at).status == -9, killed_at
        assert Run(released, "b").status == 0
        assert Run(released, "c", broken={"dob-api": [digest("c")]}).rolled_back["spec"]["image"] == digest("b"), killed_at


def test_neither_the_new_nor_the_old_version_becomes_ready(released):
    assert Run(released).status == 0
    run = Run(released, "b", broken={"dob-api": [digest("a"), digest("b")]})
    assert run.status == 1 and "neither does the version that served before" in run.words


def test_a_schema_that_does_not_get_ready_leaves_the_pods_that_serve_alone(released):
    assert Run(released).status == 0
    run = Run(released, "b", broken={"dob-api-schema": [digest("b")]})
    assert run.status == 1 and "dob-api-schema was rolled back" in run.words
    assert run.rolled_back["spec"]["image"] == digest("a")
    assert not any("step=api" in call for call in run.calls)


def test_a_first_version_that_does_not_get_ready_has_nothing_to_go_back_to(released):
    for _ in range(2):
        run = Run(released, broken={"dob-api": [digest("a")]})
        assert run.status == 1 and "there is no earlier version" in run.words
        assert run.rolled_back is None


def left(run: Run) -> list[str]:
    """The printed commands that would delete what has left the manifests."""
    assert run.status == 0, run.words
    return [line for line in run.words.splitlines() if line.startswith("kubectl delete")]


def test_what_left_the_manifests_is_named_until_somebody_deletes_it(released):
    assert not left(Run(released))
    released.replace("base/kustomization.yaml", "  - disruption.yaml\n", "")
    released.replace("observability/kustomization.yaml", "  - storage.yaml\n", "")
    budget, storage = "PodDisruptionBudget.policy/dob-api", "StorageClass.storage.k8s.io/gp3"
    commands = [f"kubectl delete {storage}", f"kubectl delete --namespace=dob-api {budget}"]
    # The inventory keeps everything that was ever applied, even by killed runs.
    assert Run(released, killed_at="step=schema FILE").status == -9
    for _ in range(2):
        assert left(Run(released)) == commands
    assert left(Run(released, gone=[storage])) == commands[1:]
    assert not left(Run(released, gone=[budget]))
    # A resource that somebody has deleted is no longer named.
    assert not any(budget in call for call in Run(released).calls)


def test_a_resource_that_returns_to_the_manifests_is_not_named_any_more(released):
    released.replace("base/kustomization.yaml", "  - disruption.yaml\n", "")
    assert not left(Run(released)), "what no rollout has applied is nobody's"
    released.replace("base/kustomization.yaml", "  - network.yaml\n", "  - network.yaml\n  - disruption.yaml\n")
    assert not left(Run(released))


def test_everything_that_is_applied_is_remembered(released):
    Run(released)
    remembered = set((released.directory.parent / "inventory").read_text().splitlines())
    rendered = render(released.overlay)
    assert remembered == {
        "{} {}{}/{}".format(r["metadata"].get("namespace", "-"), r["kind"], "".join(f".{group}" for group in r["apiVersion"].split("/")[:-1]), r["metadata"]["name"])
        for r in rendered
    } and len(remembered) == len(rendered)


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
