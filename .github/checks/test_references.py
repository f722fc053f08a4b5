"""Everything that a workflow or a script names exists, either in the repository or in .github/environments.json, which the operator sets up."""

import json
import os
import re
import shlex
import subprocess

import pytest
import yaml

from workflows import FILES, ROOT, hcl, load, scripts, steps, text

ALL = "\n".join(path.read_text() for path in FILES)
SCRIPTS = "\n".join(path.read_text() for path in (ROOT / "scripts").iterdir())
GUIDE = (ROOT / "docs/pipelines.md").read_text()
WANTED = json.loads((ROOT / ".github/environments.json").read_text())
ENVIRONMENTS = {environment["name"]: environment for environment in WANTED["environments"]}
VARIABLES = {variable["name"] for variable in WANTED["variables"]}
NEEDED = {variable["name"] for variable in WANTED["variables"] if not variable.get("optional")}
ROLES = hcl("global/github.tf")["locals"][0]["roles"][0]


def missing(names, exists):
    """The names that do not exist."""
    return {name for name in names if not exists(name)}


def test_every_make_target_exists():
    named = {command for path in FILES for step in steps(path.name) for command in re.findall(r"\bmake [a-z][^\n&|;]*", step["run"])}
    named |= {f"make {target}" for target in load("ci.yml")["jobs"]["check"]["strategy"]["matrix"]["target"]}
    named |= {f"make {each['target']} D='{each['drills']}'" for each in load("drills.yml")["jobs"]["drill"]["strategy"]["matrix"]["include"]}
    assert named >= {"make test", "make supply-chain", "make reproducible"}
    assert not missing(named, lambda command: subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0)


def test_every_script_and_folder_exists():
    named = {f"scripts/{name}" for name in scripts(ALL) | scripts(SCRIPTS)}
    named |= set(re.findall(r"\b(?:k8s|terraform)/[a-z/.-]*[a-z]\b", SCRIPTS)) - {"terraform/primary"}
    assert "scripts/on-node" in named
    assert not missing(named, lambda name: (ROOT / name).exists())


def test_every_action_and_workflow_of_ours_exists():
    ours = set(re.findall(r"uses: \$/(\S+)", ALL))
    assert len(ours) == 4
    assert not {name for name in ours if not (ROOT / name).exists()}


def test_a_job_downloads_the_artifact_of_its_own_attempt_or_of_the_last_one_before_it():
    """GitHub keeps the artifacts of all attempts of a run, and `gh run download --name` takes any of those with the name."""
    downloaded = set(re.findall(r'gh run download "\$GITHUB_RUN_ID" --name (\S+)', ALL))
    assert downloaded >= {'"$PLAN"', '"$BUILT"'}
    for variable in downloaded:
        values = re.findall(rf"(?m)^ +{variable[2:-1]}: (.*)$", ALL)
        assert values, variable
        for value in values:
            outputs = re.findall(r"needs\.[a-z]+\.outputs\.([a-z]+)", value)
            assert outputs, value
            for output in outputs:
                made = re.search(rf"(?m)^ +{output}: (\S.*-\$\{{\{{ github\.run_attempt \}}\}})$", ALL)
                assert made and f" name: {made[1]}\n" in ALL, output


def test_one_action_has_one_version():
    versions = {}
    jobs = [job for path in FILES for job in load(path.name)["jobs"].values()]
    jobs += [yaml.safe_load(path.read_text())["runs"] for path in (ROOT / ".github/actions").rglob("action.yml")]
    for name, _, version in (step["uses"].partition("@") for job in jobs for step in job.get("steps", []) if "uses" in step):
        versions.setdefault(name, set()).add(version)
    assert len(versions) > 5 and not {name: found for name, found in versions.items() if len(found) > 1}


def test_signatures_need_no_tag():
    """cosign 3 attaches a signature to the digest. Older versions write a tag, and move it for a second signature, which the registry refuses."""
    releases = [step["with"]["cosign-release"] for path in FILES for job in load(path.name)["jobs"].values()
                for step in job.get("steps", []) if "cosign-installer" in step.get("uses", "")]
    assert len(releases) == 5 and len(set(releases)) == 1 and int(releases[0].removeprefix("v").split(".")[0]) >= 3


def test_the_workflows_terraform_is_one_that_every_root_takes():
    [version] = [step["with"]["terraform_version"] for step in yaml.safe_load((ROOT / ".github/actions/toolchain/action.yml").read_text())["runs"]["steps"]
                 if "setup-terraform" in step.get("uses", "")]
    for file in (ROOT / "terraform").rglob("versions.tf"):
        [wanted] = re.findall(r'required_version = "~> 1.(\d+)"', file.read_text())
        major, minor, _ = map(int, version.split("."))
        assert major == 1 and minor >= int(wanted), f"{file} refuses Terraform {version}"


# Arguments that the next major version of the AWS provider removes, for the resource types that are used here.
GONE_IN_6 = {
    "aws_eip": {"vpc"}, "aws_eks_addon": {"resolve_conflicts"}, "aws_flow_log": {"log_group_name"}, "aws_instance": {"cpu_core_count", "cpu_threads_per_core"},
    "aws_launch_template": {"elastic_gpu_specifications", "elastic_inference_accelerator"}, "aws_s3_bucket": {"region"},
}


def test_the_next_major_version_of_the_provider_removes_no_argument_that_is_used():
    seen, used = set(), []
    for file in (ROOT / "terraform").rglob("*.tf"):
        if ".terraform" in file.parts:
            continue
        for kind, body in ((kind, body) for block in hcl(file.relative_to(ROOT / "terraform")).get("resource", []) for kind, named in block.items() for body in named.values()):
            seen.add(kind)
            used += [f"{file}: {kind}.{argument}" for argument in GONE_IN_6.get(kind, set()) & set(body)]
    assert set(GONE_IN_6) <= seen and not used


def test_one_variable_says_which_postgresql_runs():
    says = re.compile(r"postgresql[-/]\d\d\b|PostgreSQL \d\d\b|\bpostgresql/\d\d/")
    # What the module's own tests expect, a test of the search for programs, and what somebody measured or read at a time.
    free = {"terraform/modules/database-node/tests/database_node.tftest.hcl", "host-tests/postgresql/src/installation.rs", "CHANGELOG.md", "docs/benchmarks.md", "docs/decisions.md",
            "docs/drills/results.md"}
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split("\n")
    files = [name for name in tracked if name and name not in free and not name.endswith((".svg", ".lock", ".json"))]
    found = {name: says.findall((ROOT / name).read_text(errors="ignore")) for name in files if (ROOT / name).is_file()}
    assert len(found) > 300 and not {name: said for name, said in found.items() if said}


def environments():
    for path in FILES:
        for job in load(path.name)["jobs"].values():
            environment = job.get("environment", "")
            for placeholder, values in {"inputs.side": ["primary", "recovery"], "matrix.side": ["primary", "recovery"],
                                        "inputs.root": ["global", "primary", "recovery"]}.items():
                if placeholder in environment:
                    yield from (environment.replace(f"${{{{ {placeholder} }}}}", value) for value in values)
                    break
            else:
                yield environment


def test_the_operators_list_has_every_environment_and_no_other():
    assert set(environments()) - {""} == set(ENVIRONMENTS)


def test_the_operators_list_has_every_variable_and_no_other():
    assert set(re.findall(r"\bvars\.(\w+)", ALL)) == VARIABLES


def test_the_guides_commands_make_every_environment_and_variable():
    [block] = re.findall(r"```sh\n(.*?)```", GUIDE.split("## Setting up\n")[1].split("\n## ")[0], re.S)
    programs = 'gh() { echo "$*" >&2; }\nscripts/check-environments() { :; }\n'
    asked = subprocess.run(["bash", "-euc", programs + block], stderr=subprocess.PIPE, text=True, check=True, cwd=ROOT,
                           env={"PATH": os.environ["PATH"], "account": "1", **{f"TF_VAR_{name}": "x" for name in ("domain", "github_repository", "state_buckets", "admin_arns")}}).stderr
    assert set(re.findall(r"--method PUT \S+/environments/(\S+) ", asked)) == set(ENVIRONMENTS)
    assert set(re.findall(r"^variable set (\S+)", asked, re.M)) == NEEDED
    assert set(re.findall(r"gh variable set (\S+)", GUIDE.split("## Smoke run on AWS\n")[1].split("\n## ")[0])) == VARIABLES - NEEDED
    used = dict(re.findall(r"/environments/(\S+)/deployment-branch-policies --raw-field (type=\S+ --raw-field name=\S+)", asked))
    for name, environment in ENVIRONMENTS.items():
        kind, pattern = environment["from"].split()
        assert used[name] == f"type={kind} --raw-field name={pattern}"


def test_a_variable_that_the_installation_exports_is_kept_by_the_workflow():
    """Otherwise the workflow's first apply would take it back."""
    installation = (ROOT / "terraform/README.md").read_text()
    section = GUIDE.split("## Setting up\n")[1].split("\n## ")[0]
    [sentence] = re.findall(r"Put every other variable .*? \((.*?)\)", section)
    named = set(re.findall(r"`(\w+)`", sentence))
    exported = set(re.findall(r"TF_VAR_(\w+)", installation))
    declared = {name for root in ("global", "primary") for each in hcl(f"{root}/variables.tf")["variable"] for name in each}
    assert exported - set(re.findall(r"TF_VAR_(\w+)", section)) <= named <= declared


def test_the_installation_names_every_tool_that_its_scripts_ask_for():
    installation = (ROOT / "terraform/README.md").read_text()
    called, found = set(), scripts(installation) | scripts(GUIDE.split("## Setting up\n")[1].split("\n## ")[0])
    while found - called:
        called |= found
        found = {name for script in called for name in scripts((ROOT / "scripts" / script).read_text())}
    code = "\n".join((ROOT / "scripts" / name).read_text() for name in called)
    needed = {tool for tools in re.findall(r"for tool in ([a-z -]+);|command -v ([a-z-]+)", code) for tool in " ".join(tools).split()}
    [listed] = re.findall(r"^- (Terraform [\s\S]*?)\n\n", installation, re.M)
    assert needed >= {"aws", "kubectl", "openssl"} and not missing(needed, lambda tool: re.search(rf"\b{tool}\b", listed.lower()))


def test_every_workflow_that_a_document_starts_takes_what_it_is_given():
    commands = [command for path in (*(ROOT / "docs").glob("*.md"), ROOT / "terraform/README.md")
                for command in re.findall(r"gh workflow run [^`\n#]+", path.read_text())]
    started = set()
    for _, _, _, workflow, *options in map(shlex.split, commands):
        inputs = load(workflow)[True]["workflow_dispatch"]
        given = dict(option.split("=", 1) for option in options if option != "--field")
        for name, value in given.items():
            known = inputs["inputs"][name]
            assert value in known.get("options", [value]), f"{workflow}: {name}={value}"
            assert name != "confirm" or known["description"] == f"Type: {value}", f"{workflow}: {value}"
        assert not {name for name, each in ((inputs or {}).get("inputs") or {}).items() if each.get("required") and "default" not in each} - set(given)
        started.add(workflow)
    assert started == {path.name for path in FILES if "workflow_dispatch" in load(path.name)[True]}


def test_there_is_no_secret_to_set_up():
    assert not re.findall(r"\bsecrets\.(\w+)", ALL)


def test_terraform_makes_every_role_and_no_other():
    assert {role for named in re.findall(r"role-to-assume: .+:role/dob-(.+)", ALL) for role in of_each_root(named)} == set(ROLES)


def of_each_root(role):
    """The roles that a name with a placeholder stands for."""
    return {re.sub(r"\$\{\{ (inputs|matrix)\.root \}\}", root, role) for root in ("global", "primary", "recovery")}


@pytest.mark.parametrize("workflow", [path.name for path in FILES])
def test_commands_run_with_pipefail(workflow):
    if any(steps(workflow)):
        assert load(workflow)["defaults"]["run"]["shell"] == "bash"


@pytest.mark.parametrize("workflow", [path.name for path in FILES])
def test_a_job_that_gets_credentials_waits_for_an_environment_or_only_reads(workflow):
    for name, job in load(workflow)["jobs"].items():
        roles = re.findall(r"role/dob-([\w-]+)", yaml.dump(job))
        assert not roles or "environment" in job or roles == ["plan"], f"{name} takes {roles} without an environment"


def test_infrastructure_is_planned_when_a_file_changes_that_terraform_reads():
    code = "\n".join(path.read_text() for path in (ROOT / "terraform").rglob("*.tf"))
    outside = set(re.findall(r"\$\{path\.module\}/\.\./\.\./\.\./([\w./-]+)", code))
    assert outside and not missing(outside, lambda name: (ROOT / name).is_file())
    # YAML reads the key `on` as true.
    triggers = load("infrastructure.yml")[True]
    for event in ("pull_request", "push"):
        assert outside <= set(triggers[event]["paths"]), event


def test_the_workflow_can_replace_every_node():
    shape = hcl("modules/topology/main.tf")["locals"][0]["shape"][0]
    nodes = [name for name, node in shape.items() if node["role"] != "restore"]
    choices = load("infrastructure.yml")[True]["workflow_dispatch"]["inputs"]["replace"]["options"]
    assert nodes and choices == ["none", *(f"{side}-{node}" for side in ("primary", "recovery") for node in [*nodes, "kubernetes"])]
    for root in ("primary", "recovery"):
        assert load("infrastructure.yml")["jobs"][root]["with"]["replace"] == "${{ inputs.replace }}"


def test_a_plan_that_waits_for_approval_keeps_no_later_plan_waiting():
    """GitHub counts a run that waits for its reviewers as in progress."""
    for path in FILES:
        for job in load(path.name)["jobs"].values():
            if job.get("uses", "").endswith("infrastructure-root.yml"):
                assert load(path.name)["concurrency"]["group"] == "infrastructure-${{ github.event_name == 'pull_request' && github.ref || github.run_id }}"
    assert not [name for name, job in load("infrastructure-root.yml")["jobs"].items() if "concurrency" in job]


def test_workflows_that_start_by_themselves_skip_aws_until_it_is_set_up():
    for path in FILES:
        triggers = load(path.name)[True]
        if {"schedule", "pull_request"} & set(triggers) and "vars.PRIMARY_REGION" in text(path.name):
            jobs = load(path.name)["jobs"]
            assert any("vars." in yaml.dump(job) for job in jobs.values())
            assert not [name for name, job in jobs.items() if "vars." in yaml.dump(job) and not waits_for_its_account(jobs, name)], path.name


def waits_for_its_account(jobs, name):
    """Whether the job is skipped while the variable with its account is not set: by its own condition, or because a job that it needs is."""
    needed = jobs[name].get("needs", [])
    if re.search(r"vars\.(AWS|SMOKE)_ACCOUNT_ID != ''", jobs[name].get("if", "")):
        return True
    return "if" not in jobs[name] and any(waits_for_its_account(jobs, each) for each in ([needed] if isinstance(needed, str) else needed))


def test_no_job_outlasts_its_credentials_and_no_role_refuses_them():
    for path in FILES:
        for name, job in load(path.name)["jobs"].items():
            for given in (step["with"] for step in job.get("steps", []) if "configure-aws-credentials" in step.get("uses", "")):
                seconds = given.get("role-duration-seconds", 3600)
                assert job["timeout-minutes"] * 60 <= seconds, f"{path.name}: {name} outlasts its credentials"
                role = given["role-to-assume"].split("role/dob-")[1]
                assert seconds <= 3600 * min(ROLES[each]["hours"] for each in of_each_root(role)), f"AWS refuses {path.name}: {name}"


def test_a_state_that_an_apply_could_not_write_is_kept():
    job = load("infrastructure-root.yml")["jobs"]["apply"]
    [apply] = [index for index, step in enumerate(job["steps"]) if "infrastructure apply" in step.get("run", "")]
    [kept] = [step for step in job["steps"][apply + 1:] if "errored.tfstate" in step.get("with", {}).get("path", "")]
    assert kept["if"] == "always()" and kept["with"]["path"] == "terraform/${{ inputs.root }}/errored.tfstate"
    # The slowest change replaces all Kubernetes nodes, and each drain may take a quarter of an hour.
    assert job["timeout-minutes"] >= 180


def test_a_restore_drill_removes_only_the_node_that_it_added():
    up, _, down = (step for step in load("restore-drill.yml")["jobs"]["drill"]["steps"] if "restore-drill" in step.get("run", ""))
    assert "restore-drill up" in up["run"] and "restore-drill down" in down["run"]
    assert down["if"] == f"always() && steps.{up['id']}.outputs.made == 'true'"


def test_every_workflow_publishes_with_the_same_spin():
    assert len(set(re.findall(r"install-spin (v[\d.]+)", ALL))) == 1


def test_an_emergency_waits_for_no_other_workflow():
    groups = {path.stem: load(path.name).get("concurrency", {}).get("group") for path in FILES}
    assert [name for name, group in groups.items() if group == groups["promote-recovery"]] == ["promote-recovery"]


def test_what_the_smoke_run_creates_is_destroyed_in_any_case():
    jobs = load("smoke.yml")["jobs"]
    for name in ("destroy", "leftovers", "report"):
        assert jobs[name]["if"] == "always() && vars.SMOKE_ACCOUNT_ID != ''"
    # A job that was not waited for could still create something.
    assert set(jobs["destroy"]["needs"]) == set(jobs) - {"destroy", "leftovers", "report"} and jobs["leftovers"]["needs"] == "destroy"
    # What the report does not wait for could fail without being in it.
    assert set(jobs["report"]["needs"]) == set(jobs) - {"report"}
    assert jobs["destroy"]["strategy"]["matrix"]["root"] == ["recovery", "primary"] and not jobs["destroy"]["strategy"]["fail-fast"]
    # Another run, or a cancelled one, must not create what this one destroys.
    assert load("smoke.yml")["concurrency"] == {"group": "smoke", "cancel-in-progress": False}


def test_the_smoke_run_reaches_no_other_account():
    for name in ("smoke.yml", "smoke-region.yml"):
        assert "vars.AWS_ACCOUNT_ID" not in text(name)
        for job in load(name)["jobs"].values():
            assert "id-token" not in job["permissions"] or job.get("environment") == "smoke" or "uses" in job


def test_the_restore_drill_plans_with_the_variables_of_the_last_apply():
    """With other variables, its plan would have changes besides the restore node, and scripts/restore-drill would refuse it."""
    given = load("smoke.yml")["jobs"]["peering"]["with"]["peering"]
    applied = load("smoke-region.yml")["jobs"]["apply"]["env"]["TFVARS"].replace("${{ inputs.peering }}", given)
    assert load("smoke.yml")["jobs"]["drill"]["env"]["TFVARS"] == applied


def test_the_smoke_run_takes_nothing_of_another_account_from_the_repository():
    """The guide has people commit values for their own account. The smoke run overrides each of them with TFVARS."""
    committed = re.findall(r"(\w+) = [^\n]*>\S*\.auto\.tfvars", (ROOT / "terraform/README.md").read_text())
    assert set(committed) == {"alarm_topics", "peering"}
    for name, job in (("smoke-region.yml", "apply"), ("smoke.yml", "drill"), ("smoke.yml", "destroy")):
        given = load(name)["jobs"][job]["env"]["TFVARS"]
        assert not [each for each in committed if not re.search(rf"^{each} +=", given, re.M)], (name, job)
