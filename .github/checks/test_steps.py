"""Runs the workflows' steps that need nothing outside the machine, unchanged."""

import json
import shutil
import subprocess
import tomllib
from types import SimpleNamespace

import pytest

from workflows import ROOT, load, named_steps, reaches_out

STEPS = named_steps()
SBIN = ROOT / "terraform/modules/database-node/files/sbin"
CONFIRMATIONS = {
    "switchover": "switchover",
    "promote-recovery": "promote the recovery region",
    "fail-back": "fail back to the primary region",
    "rotate-password": "rotate the password",
}


@pytest.fixture
def run(tmp_path):
    """Runs a step as GitHub does, in a folder with the scripts."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")

    def run(workflow, name, **environment):
        step = tmp_path / "step.sh"
        step.write_text(STEPS[workflow, name])
        output, summary = tmp_path / "output", tmp_path / "summary"
        for file in (output, summary):
            file.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", step], cwd=tmp_path, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": summary, **environment})
        outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return SimpleNamespace(code=done.returncode, said=done.stdout + done.stderr, outputs=outputs, summary=summary.read_text())

    run.folder = tmp_path
    return run


def program(path, code):
    path.write_text(f"#!/bin/bash\n{code}\n")
    path.chmod(0o755)


def test_each_such_step_is_tried_here():
    tried = {("release", "Check that the tag is the version"), ("release", "Collect the files of the release"), ("deploy-region", "Check that the tag is a release's"),
             ("infrastructure", "Write the comment"), ("infrastructure-root", "Are there changes?"), ("rotate-password", "Approved"),
             ("smoke", "Note the time"), ("smoke", "Write the report")}
    assert {step for step, command in STEPS.items() if not reaches_out(command)} == tried | {(workflow, "Confirm") for workflow in CONFIRMATIONS}


@pytest.mark.parametrize("workflow", CONFIRMATIONS)
def test_nothing_is_done_until_it_is_typed(run, workflow):
    # YAML reads the key `on` as true.
    assert load(f"{workflow}.yml")[True]["workflow_dispatch"]["inputs"]["confirm"]["description"] == f"Type: {CONFIRMATIONS[workflow]}"
    assert run(workflow, "Confirm", TYPED=CONFIRMATIONS[workflow]).code == 0
    for typed in ("", "yes", CONFIRMATIONS[workflow].upper(), "$(true)"):
        refused = run(workflow, "Confirm", TYPED=typed)
        assert refused.code == 1 and f"type '{CONFIRMATIONS[workflow]}'" in refused.said


@pytest.mark.parametrize("workflow, asked", [("ci", ["rollout"]), ("drills", ["rollout", "D=all --full-size"])])
def test_what_runs_as_root_knows_where_it_runs(run, workflow, asked):
    """sudo removes the environment, so the step has to pass these variables on."""
    programs = run.folder / "programs"
    programs.mkdir()
    program(programs / "sudo", 'exec env --ignore-environment "$@"')
    program(programs / "make", 'printf "%s\\n" "$@" "$CI" "$HOME"')
    done = run(workflow, "Check", PATH=f"{programs}:/usr/bin:/bin", CI="true", HOME="/home/runner", TARGET="rollout", DRILLS="all --full-size")
    assert done.code == 0 and done.said.splitlines() == [*asked, "true", "/home/runner"], done.said


def test_every_command_that_a_workflow_gives_a_node_exists(run):
    asked = run.folder / "asked"
    program(run.folder / "scripts/on-node", f'echo "$3" >>{asked}')
    for script in ("check-backups", "lose-region", "smoke", "time-saves"):
        program(run.folder / "scripts" / script, "true")
    for folder in ("built", "figures"):
        (run.folder / folder).mkdir()
    program(run.folder / "built/dob-under-load", 'until [[ $1 == -- ]]; do shift; done; "${@:2}"')
    for (workflow, name), command in STEPS.items():
        if "scripts/on-node" in command:
            assert run(workflow, name).code == 0, (workflow, name)
    commands = set(asked.read_text().split())
    assert commands >= {"dob-switchover", "dob-promote", "dob-status", "dob-retire-role"}
    assert not {command for command in commands if not (SBIN / command).exists()}


def test_an_approval_changes_nothing(run):
    before = sorted(run.folder.iterdir())
    assert run("rotate-password", "Approved").code == 0 and set(run.folder.iterdir()) - set(before) == {run.folder / name for name in ("step.sh", "output", "summary")}


def test_a_tag_is_the_version_in_all_manifests(run):
    for manifest in ("Cargo.toml", "spin.toml", "spin-wasi-0.3.toml"):
        shutil.copy(ROOT / manifest, run.folder)
    version = tomllib.loads((ROOT / "spin.toml").read_text())["application"]["version"]
    assert run("release", "Check that the tag is the version", GITHUB_REF_NAME=f"v{version}").code == 0
    assert run("release", "Check that the tag is the version", GITHUB_REF_NAME="v9.9.9").code == 1
    manifest = run.folder / "spin.toml"
    manifest.write_text(manifest.read_text().replace(f'version = "{version}"', 'version = "9.9.9"'))
    refused = run("release", "Check that the tag is the version", GITHUB_REF_NAME=f"v{version}")
    assert refused.code == 1 and "spin.toml has version 9.9.9" in refused.said


def test_what_is_released_has_checksums(run):
    folder = run.folder / "target/wasm32-wasip2/component"
    folder.mkdir(parents=True)
    for build in ("p2", "p3"):
        (folder / f"dob_api_wasi_{build}.wasm").write_bytes(b"component")
    assert run("release", "Collect the files of the release").code != 0, "without its bill of materials"
    shutil.rmtree(run.folder / "release")
    for build in ("p2", "p3"):
        (run.folder / f"target/sbom-wasi-{build}.cdx.json").write_text("{}")
    gathered = run("release", "Collect the files of the release")
    assert gathered.code == 0, gathered.said
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=run.folder / "release", check=True)
    for build in ("p2", "p3"):
        assert f"dob_api_wasi_{build}.wasm" in gathered.summary and f"sbom-wasi-{build}.cdx.json" in gathered.summary


def test_each_build_of_a_release_is_attested_with_its_origin_and_its_contents():
    attested = [step["with"] for step in load("release.yml")["jobs"]["publish"]["steps"] if step.get("uses", "").startswith("actions/attest@")]
    for build in ("p2", "p3"):
        found = [attestation.get("sbom-path") for attestation in attested if f"release/dob_api_wasi_{build}.wasm" in attestation.get("subject-path", "").split()]
        assert found == [None, f"release/sbom-wasi-{build}.cdx.json"]


@pytest.mark.parametrize("tag, code", [("v1.20.3", 0), ("main", 1), ("v1", 1), ("v1.2.3-rc1", 1), ("v1.2.3;true", 1)])
def test_only_a_release_is_deployed(run, tag, code):
    assert run("deploy-region", "Check that the tag is a release's", TAG=tag).code == code


@pytest.mark.parametrize("plan, changes", [
    ("No changes. Your infrastructure matches the configuration.\n", "false"),
    ("Terraform will perform the following actions:\nPlan: 1 to add, 0 to change, 0 to destroy.\n", "true"),
])
def test_a_plan_without_changes_is_not_applied(run, plan, changes):
    (run.folder / "plan.txt").write_text(plan)
    done = run("infrastructure-root", "Are there changes?")
    assert done.outputs == {"changes": changes} and plan.splitlines()[0] in done.summary


def plans(run, attempt, text):
    """The plans of all roots, as an attempt of the run has uploaded them."""
    for root in ("global", "primary", "recovery"):
        folder = run.folder / f"plans/plan-{root}-{attempt}"
        folder.mkdir(parents=True)
        (folder / "plan.txt").write_text(text.replace("ROOT", root))


def test_a_plan_of_outputs_alone_is_commented(run):
    plans(run, 1, 'Changes to Outputs:\n  + zone = "example.com"\n')
    assert run("infrastructure", "Write the comment").code == 0
    assert "<summary>global: Changes to Outputs:" in (run.folder / "comment.md").read_text()


def test_the_plans_of_the_last_attempt_are_commented(run):
    for attempt in (2, 9, 10):
        plans(run, attempt, f"Plan: {attempt} to add, 0 to change, 0 to destroy.\n")
    shutil.rmtree(run.folder / "plans/plan-global-10")
    assert run("infrastructure", "Write the comment").code == 0
    comment = (run.folder / "comment.md").read_text()
    assert "<summary>global: Plan: 9 to add" in comment and "<summary>primary: Plan: 10 to add" in comment


def test_the_report_has_every_outcome_and_every_figure(run):
    assert int(run("smoke", "Note the time").outputs["began"]) > 1_700_000_000
    outcomes = json.dumps({"primary": {"result": "success", "outputs": {}}, "rollout": {"result": "failure"}})
    for name, figures in {"1-primary/apply": "| apply of primary | 900 s |\n", "5-region/lost": "| fails | 40 s |\n| answers | 30 s |\n", "2-rollout/rollout": "| rollout | |\n|---|---|\n| of them lost | 0 |\n"}.items():
        file = run.folder / f"figures/figures-{name}.md"
        file.parent.mkdir(parents=True)
        file.write_text(figures)
    done = run("smoke", "Write the report", OUTCOMES=outcomes)
    assert done.code == 0 and (run.folder / "report.md").read_text() == done.summary, done.said
    # Each table has its head, and only one.
    for words in ("| primary | success |\n| rollout | failure |\n", "\n\n| | |\n|---|---|\n| apply of primary | 900 s |\n",
                  "\n\n| | |\n|---|---|\n| fails | 40 s |\n| answers | 30 s |\n", "\n\n| rollout | |\n|---|---|\n| of them lost | 0 |\n"):
        assert words in done.summary, words


def test_the_table_of_the_replication_lag_has_a_head(run):
    program(run.folder / "scripts/on-node", """echo '{"node": {"stat_replication": [{"application_name": "b"}, {"application_name": "recovery"}]}}'""")
    figures = run.folder / "figures"
    for folder in (run.folder / "built", figures):
        folder.mkdir()
    program(run.folder / "built/dob-under-load", 'until [[ $1 == -- ]]; do shift; done; "${@:2}"; printf "| replication | |\\n|---|---|\\n| lost | 0 |\\n\\n"')
    done = run("smoke", "Measure the replication lag")
    assert done.code == 0, done.said
    for file in list(figures.iterdir()):
        (figures / "figures-3").mkdir(exist_ok=True)
        file.rename(figures / "figures-3" / file.name)
    report = run("smoke", "Write the report", OUTCOMES="{}").summary
    tables = [block.splitlines() for block in report.split("\n\n") if block.strip().startswith("|")]
    assert sorted(map(len, tables)) == [2, 3, 4], report
    assert all(set(table[1]) == set("|-") for table in tables), report


def test_a_run_that_failed_at_once_has_a_report(run):
    done = run("smoke", "Write the report", OUTCOMES=json.dumps({"recovery": {"result": "failure"}}))
    assert done.code == 0 and "| recovery | failure |" in done.summary, done.said


def test_the_comment_has_every_plan_and_fits(run):
    plans(run, 1, "of ROOT\n" + "x" * 99 + "\n" + "y\n" * 50_000 + "Plan: 3 to add, 0 to change, 0 to destroy.\n")
    done = run("infrastructure", "Write the comment")
    comment = (run.folder / "comment.md").read_text()
    assert done.code == 0 and len(comment) < 65_536
    for root in ("global", "primary", "recovery"):
        assert f"<summary>{root}: Plan: 3 to add" in comment and f"    of {root}\n" in comment
    (run.folder / "plans/plan-primary-1/plan.txt").unlink()
    assert run("infrastructure", "Write the comment").code != 0, "a root without a plan"
