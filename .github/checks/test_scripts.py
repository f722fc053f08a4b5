"""The scripts that the workflows call, run with the real AWS client against an emulator."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from datetime import datetime, timedelta, timezone
from email import message_from_string
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from emulator import HERE, THERE, status
from workflows import ROOT, hcl

CLUSTER = [("west-a", "replica"), ("west-b", "leader")]
STANDBY = [("central-a", "standby_leader"), ("central-b", "replica")]
ARGUMENTS = 'printf "%s\\n" "$@"'


@pytest.fixture
def region(aws):
    """The primary region, led by its second data node. Each node prints its name and the command that it got."""
    for name in ("west-a", "west-b"):
        aws.node(name, HERE, "data", dob_status=status(*CLUSTER), dob_switchover=f"echo {name} moved", dob_backup=ARGUMENTS,
                 dob_promote="echo 'the other region still leads' >&2; exit 1", dob_rejoin="exit 124")
    aws.node("west-r", HERE, "restore", dob_restore=ARGUMENTS)
    return aws


def test_a_command_runs_on_the_leader_and_its_output_is_printed(script, region):
    done = script("on-node", HERE, "leader", "dob-switchover", aws=region)
    assert (done.code, done.out) == (0, "west-b moved\n"), done.err
    assert region.sent[-1] == ("west-b", "dob-switchover")


def test_of_two_regions_the_one_that_takes_writes_is_meant(script, region):
    region.node("central-a", THERE, "data", dob_status=status(*STANDBY), dob_switchover="echo central")
    assert script("on-node", f"{THERE},{HERE}", "writer", "dob-switchover", aws=region).out == "west-b moved\n"
    assert script("on-node", f"{THERE},{HERE}", "leader", "dob-switchover", aws=region).out == "central\n"
    refused = script("on-node", THERE, "writer", "dob-switchover", aws=region)
    assert refused.code == 1 and f"no node in {THERE} is writer" in refused.err


def test_a_node_whose_status_fails_does_not_hide_the_leader(script, aws):
    aws.node("west-a", HERE, "data", dob_status="echo 'no Patroni of this region answers' >&2; exit 1")
    aws.node("west-b", HERE, "data", dob_status=status(*CLUSTER), dob_switchover="echo moved")
    assert script("on-node", HERE, "leader", "dob-switchover", aws=aws).out == "moved\n"


def test_the_command_fails_with_its_own_sentence(script, region):
    failed = script("on-node", HERE, "data", "dob-promote", aws=region)
    assert failed.code == 1
    assert "the other region still leads" in failed.err and "dob-promote failed on i-" in failed.err


def test_a_command_that_operations_do_not_have_is_not_blamed_on_the_machine(script, region):
    failed = script("on-node", HERE, "data", "dob-guard", aws=region)
    assert failed.code == 1 and "does not allow 'dob-guard'" in failed.err and "did not take" not in failed.err


def test_aws_may_fail_for_a_while_to_say_what_has_become_of_a_command(script, region):
    region.fails = 3
    done = script("on-node", HERE, "leader", "dob-switchover", aws=region)
    assert (done.code, done.out) == (0, "west-b moved\n"), done.err
    region.fails = 100
    failed = script("on-node", HERE, "leader", "dob-switchover", aws=region, ON_NODE_SILENCE="1")
    assert failed.code == 1 and "InternalServerError" in failed.err


def test_a_command_that_does_not_end_is_given_up(script, region):
    failed = script("on-node", HERE, "data", "dob-rejoin", aws=region, ON_NODE_PATIENCE="2")
    assert failed.code == 1 and "dob-rejoin on i-" in failed.err and "is not done after 2 s" in failed.err


@pytest.mark.parametrize("hangs", ["exit 123", "exit 125", "exit 126", None])
def test_a_node_that_takes_no_command_does_not_hide_the_other(script, aws, tmp_path, hangs):
    aws.node("west-a", HERE, "data", dob_status=hangs or "", dob_promote=hangs or "")
    aws.node("west-b", HERE, "data", dob_status=status(*CLUSTER), dob_promote="echo leads")
    if not hangs:
        shutil.rmtree(tmp_path / "west-a")
    for node in ("data", "leader"):
        done = script("on-node", HERE, node, "dob-promote", aws=aws, ON_NODE_TAKEN_WITHIN="1")
        assert (done.code, done.out) == (0, "leads\n"), done.err


@pytest.mark.parametrize("hangs", ["exit 123", "exit 125"])
def test_a_named_node_that_takes_no_command_is_not_waited_for(script, aws, hangs):
    aws.node("dob-eu-west-1-a", HERE, "data", dob_status=hangs)
    failed = script("on-node", HERE, "dob-eu-west-1-a", "dob-status", aws=aws, ON_NODE_TAKEN_WITHIN="1", ON_NODE_PATIENCE="20")
    assert failed.code == 1 and "did not accept dob-status" in failed.err, failed.err


def test_a_region_whose_api_fails_does_not_hide_the_other(script, fake, aws):
    aws.node("dob-eu-central-1-a", THERE, "data", dob_status="echo well")
    path = fake("aws", f'[[ $* != *"ec2 describe-instances --region {HERE}"* ]] || {{ echo "Could not connect to the endpoint URL" >&2; exit 255; }}\nPATH=${{PATH#*:}} exec aws "$@"')
    done = script("on-node", f"{HERE},{THERE}", "dob-eu-central-1-a", "dob-status", aws=aws, PATH=path)
    assert (done.code, done.out) == (0, "well\n") and f"the nodes of {HERE} can't be listed" in done.err, done.err


def test_it_is_said_when_no_node_takes_a_command(script, aws):
    for name in ("west-a", "west-b"):
        aws.node(name, HERE, "data", dob_promote="exit 126")
    failed = script("on-node", HERE, "data", "dob-promote", aws=aws)
    assert failed.code == 1 and failed.err.count("did not accept dob-promote") == 2 == len(aws.sent)


@pytest.mark.parametrize("code", ["exit 1", "exit 124"])
def test_what_ran_on_one_node_is_not_run_on_another(script, aws, code):
    for name in ("west-a", "west-b"):
        aws.node(name, HERE, "data", dob_promote=code)
    assert script("on-node", HERE, "data", "dob-promote", aws=aws, ON_NODE_TAKEN_WITHIN="1", ON_NODE_PATIENCE="2").code == 1
    assert len(aws.sent) == 1


def test_one_node_is_meant_by_its_name(script, region):
    region.node("dob-eu-west-1-c", HERE, "witness", dob_renew="echo renewed")
    for node in ("dob-eu-west-1-c", "witness"):
        assert script("on-node", HERE, node, "dob-renew", aws=region).out == "renewed\n"
    refused = script("on-node", HERE, "dob-eu-west-1-d", "dob-renew", aws=region)
    assert refused.code == 1 and f"no node in {HERE} is dob-eu-west-1-d" in refused.err


def test_a_time_is_one_argument(script, region):
    done = script("on-node", HERE, "restore", "dob-restore", "2026-05-20 12:00:00.25+00", "2", aws=region)
    assert done.out == "2026-05-20 12:00:00.25+00\n2\n", done.err


@pytest.mark.parametrize("argument", ["$(touch hit)", "a;touch hit", "`touch hit`", "a b", "' touch hit '", "../x", "a\nb", ""])
def test_nothing_that_a_shell_acts_on_gets_to_a_node(script, region, tmp_path, argument):
    refused = script("on-node", HERE, "leader", "dob-backup", argument, aws=region)
    assert refused.code == 1 and "is neither a word" in refused.err
    assert not region.sent and not (tmp_path / "hit").exists()


@pytest.mark.parametrize("arguments, words", [
    ([HERE, "leader"], "usage: on-node"),
    (["Ireland", "leader", "dob-status"], "'Ireland' is not a region"),
    ([HERE, "boss", "dob-status"], "'boss' is neither writer, leader, data, witness, restore nor a node's name"),
    ([HERE, "leader", "rm"], "'rm' is not an operations command"),
    ([HERE, "leader", "dob-status;rm"], "is not an operations command"),
])
def test_wrong_arguments_are_refused_before_aws_is_asked(script, aws, arguments, words):
    refused = script("on-node", *arguments, aws=aws)
    assert refused.code == 1 and words in refused.err and len(refused.err.splitlines()) == 1


def report(backups=(3, 3), archived=1, failed=None, error=False):
    def ago(hours, spelling="%Y-%m-%dT%H:%M:%SZ"):
        return hours if hours is None else (datetime.now(timezone.utc) - timedelta(hours=hours)).strftime(spelling)

    postgres = "%Y-%m-%dT%H:%M:%S.123456+00:00"
    return json.dumps({
        "node": {"archiver": {"last_archived_time": ago(archived, postgres), "last_failed_time": ago(failed, postgres)}},
        "backups": [{"stop": ago(age), "repository": number, "error": error} for number, age in enumerate(backups, 1)]})


def test_fresh_backups_pass(script):
    done = script("check-backups", stdin=report(failed=9))
    assert done.code == 0, done.err
    assert "repository 2: the newest backup is 3 hours old" in done.out and "WAL was archived 1 hours ago" in done.out


@pytest.mark.parametrize("fault, words", [
    ({"backups": (3, 27)}, "the newest backup in repository 2 is 27 hours old"),
    ({"backups": (3,)}, "repository 2 has no complete backup"),
    ({"error": True}, "repository 1 has no complete backup; repository 2 has no complete backup"),
    ({"archived": 27}, "the last WAL was archived 27 hours ago"),
    ({"archived": 2, "failed": 1}, "WAL archiving has failed since"),
    ({"archived": None}, "no WAL was ever archived"),
])
def test_old_or_missing_backups_are_named(script, fault, words):
    done = script("check-backups", stdin=report(**fault))
    assert done.code == 1 and words in done.err


@pytest.mark.parametrize("said", ["", "{}", "no Patroni of this region answers", '{"node": {"name": "west-a"}}'])
def test_input_that_is_no_status_is_refused(script, said):
    done = script("check-backups", stdin=said)
    assert done.code == 1 and "not what dob-status --json prints" in done.err


def secret(aws):
    return json.loads(aws.client("secretsmanager").get_secret_value(SecretId="dob/api")["SecretString"])


def test_two_roles_take_turns_and_the_rest_of_the_secret_stays(script, aws):
    before = {"pg_user": "dob_api_a", "pg_password": "first", "pg_admin_user": "dob_admin", "ca_certificate": "-----\nlines\n"}
    aws.client("secretsmanager").create_secret(Name="dob/api", SecretString=json.dumps(before))
    first = script("rotate-password", aws=aws, AWS_REGION=HERE)
    assert (first.code, first.out) == (0, "dob_api_a\n"), first.err
    after = secret(aws)
    assert after["pg_user"] == "dob_api_b" and len(after["pg_password"]) == 64
    assert {**after, "pg_user": 0, "pg_password": 0} == {**before, "pg_user": 0, "pg_password": 0}
    assert script("rotate-password", aws=aws, AWS_REGION=HERE).out == "dob_api_b\n"
    assert secret(aws)["pg_user"] == "dob_api_a" and secret(aws)["pg_password"] not in ("first", after["pg_password"])
    assert after["pg_password"] not in first.out + first.err


def test_a_run_of_github_rotates_once_however_often_it_is_started_again(script, aws):
    aws.client("secretsmanager").create_secret(Name="dob/api", SecretString='{"pg_user": "dob_api_a", "pg_password": "first"}')
    first = script("rotate-password", aws=aws, AWS_REGION=HERE, GITHUB_RUN_ID="30433642")
    after = secret(aws)
    again = script("rotate-password", aws=aws, AWS_REGION=HERE, GITHUB_RUN_ID="30433642")
    assert (first.out, again.out) == ("dob_api_a\n",) * 2, again.err
    assert secret(aws) == after
    assert script("rotate-password", aws=aws, AWS_REGION=HERE, GITHUB_RUN_ID="30433643").out == "dob_api_b\n"


@pytest.mark.parametrize("value, words", [
    ('{"pg_user": "postgres"}', "has pg_user 'postgres'"), ("nonsense", "is not JSON"), (None, "can't read the secret dob/api"),
])
def test_an_unknown_secret_is_left_alone(script, aws, value, words):
    if value:
        aws.client("secretsmanager").create_secret(Name="dob/api", SecretString=value)
    done = script("rotate-password", aws=aws, AWS_REGION=HERE)
    assert done.code == 1 and words in done.err
    if value:
        assert aws.client("secretsmanager").get_secret_value(SecretId="dob/api")["SecretString"] == value


def with_copy(aws):
    value = '{"pg_user": "dob_api_a", "pg_password": "first"}'
    aws.client("secretsmanager").create_secret(Name="dob/api", SecretString=value, AddReplicaRegions=[{"Region": THERE}])


def test_the_password_is_rotated_where_the_other_region_has_its_copy(script, aws):
    with_copy(aws)
    assert script("rotate-password", aws=aws, AWS_REGION=HERE).out == "dob_api_a\n"


def test_a_secret_whose_copy_is_not_in_sync_is_left_alone(script, aws):
    aws.client("secretsmanager", THERE).create_secret(Name="dob/api", SecretString="in its way")
    with_copy(aws)
    done = script("rotate-password", aws=aws, AWS_REGION=HERE)
    assert done.code == 1 and "not in sync" in done.err and secret(aws)["pg_user"] == "dob_api_a"


@pytest.fixture
def two_regions(aws, tmp_path):
    """Two regions, led by the recovery region. A file says which one leads, so that commands can change it."""
    leads, lag, archiver = (tmp_path / name for name in ("leads", "lag", "archiver"))
    archiver.write_text('{"last_failed_time": null}')
    leads.write_text("central")
    lag.write_text("99999999\n0\n")

    def says(name, follower):
        # Each question for the lag reads the next line of the file.
        role = f'$([[ $(cat {leads}) == {follower} ]] && echo leader || echo standby_leader)'
        return (f'role="{role}"; lag=$(head -n 1 {lag}); [[ $1 != --json || $role != leader ]] || sed -i "1{{\\$!d}}" {lag}\n'
                f'echo "{{\\"cluster\\": [{{\\"name\\": \\"{name}\\", \\"role\\": \\"$role\\"}}], \\"node\\": {{\\"stat_wal_receiver\\": '
                f'{{\\"slot_name\\": \\"s\\"}}, \\"archiver\\": $(cat {archiver}), \\"stat_replication\\": [{{\\"state\\": \\"streaming\\", \\"lag_bytes\\": $lag}}]}}}}"\n')

    aws.node("west-a", HERE, "data", dob_status=says("west-a", "west"), dob_rejoin="echo follows", dob_promote=f"echo west > {leads}")
    aws.node("central-a", THERE, "data", dob_status=says("central-a", "central"), dob_rejoin=f'[[ $1 == --hand-over ]] && echo nobody > {leads}')
    return aws


def test_failback_stops_writes_only_once_the_returning_region_has_caught_up(script, two_regions):
    done = script("fail-back", THERE, HERE, aws=two_regions, FAIL_BACK_INTERVAL="0.1")
    assert done.code == 0, done.err
    changes = [sent for sent in two_regions.sent if not sent[1].startswith("dob-status")]
    assert changes == [("west-a", "dob-rejoin"), ("central-a", "dob-rejoin --hand-over"), ("west-a", "dob-promote")]


def test_failback_stops_no_writes_if_the_returning_region_does_not_catch_up(script, two_regions, tmp_path):
    (tmp_path / "lag").write_text("99999999\n")
    done = script("fail-back", THERE, HERE, aws=two_regions, FAIL_BACK_INTERVAL="0.1", FAIL_BACK_PATIENCE="1")
    assert done.code == 1 and "lag in bytes: 99999999" in done.err
    assert not [sent for sent in two_regions.sent if "--hand-over" in sent[1]]


def test_failback_stops_no_writes_while_the_leading_region_does_not_archive(script, two_regions, tmp_path):
    # PostgreSQL would not end before it has archived.
    (tmp_path / "archiver").write_text('{"last_archived_time": "2026-05-20T12:00:00+00:00", "last_failed_time": "2026-05-20T12:00:01+00:00"}')
    done = script("fail-back", THERE, HERE, aws=two_regions, FAIL_BACK_INTERVAL="0.1", FAIL_BACK_PATIENCE="1")
    assert done.code == 1 and f"{THERE} does not archive" in done.err
    assert not [sent for sent in two_regions.sent if "--hand-over" in sent[1]]


@pytest.mark.parametrize("leads", ["nobody", "west"])
def test_a_failback_that_ended_after_the_hand_over_is_finished_by_the_next(script, two_regions, tmp_path, leads):
    (tmp_path / "leads").write_text(leads)
    done = script("fail-back", THERE, HERE, aws=two_regions)
    assert done.code == 0, done.err
    assert [sent for sent in two_regions.sent if not sent[1].startswith("dob-status")] == [("west-a", "dob-promote")]


def test_a_failed_hand_over_says_that_nobody_may_lead(script, two_regions, tmp_path):
    (tmp_path / "central-a/dob-rejoin").write_text("#!/bin/bash\nexit 1\n")
    done = script("fail-back", THERE, HERE, aws=two_regions, FAIL_BACK_INTERVAL="0.1")
    assert done.code == 1 and "it may be that NO REGION TAKES WRITES" in done.err.splitlines()[-1]
    assert "dob-promote" not in [line for _, line in two_regions.sent]


@pytest.fixture
def cluster(script, fake, tmp_path):
    """Runs roll-pods in a cluster whose External Secrets copies on request, or does not. The copied secret names this role."""

    def cluster(*arguments, copies=True, role="dob_api_b", leaving="", ends=True):
        path = fake("kubectl", f"""case $* in
            *annotate*) {'echo >>' + str(tmp_path / 'copied') if copies else 'true'} ;;
            *'get externalsecret '*) echo "2026-05-20T12:00:0$(grep --count '' {tmp_path}/copied 2>/dev/null)Z" ;;
            *'get secret '*) printf '{role}' | base64 ;;
            *'get pods '*) echo '{leaving}' ;;
            *--for=delete*) {'true' if ends else 'false'} ;;
        esac""")
        done = script("roll-pods", *arguments, PATH=path, ROLL_PODS_COPIED_WITHIN="0")
        return done, (tmp_path / "asked").read_text()

    return cluster


@pytest.mark.parametrize("arguments", [["dob_api_a"], []])
def test_pods_are_rolled_when_their_secrets_are_copied(cluster, arguments):
    done, asked = cluster(*arguments)
    assert done.code == 0, done.err
    for secret in ("dob-api", "dob-api-admin", "database-ca"):
        assert asked.index(f"annotate externalsecret {secret} force-sync=") < asked.index("restart deployment/dob-api-schema")
    assert asked.index("deployment/dob-api-schema") < asked.index("restart deployment/dob-api\n")


def test_no_old_pod_is_left_when_pods_are_rolled(cluster):
    done, asked = cluster("dob_api_a", leaving="pod/old-1 pod/old-2")
    assert done.code == 0, done.err
    assert asked.count("wait pod/old-1 pod/old-2 --for=delete") == 2
    assert asked.index("--for=delete") < asked.index("restart deployment/dob-api\n")


def test_an_old_pod_that_does_not_end_still_needs_the_old_role(cluster):
    done, _ = cluster("dob_api_a", leaving="pod/old-1", ends=False)
    assert done.code == 1 and "old pods do not end: check whether the node of pod/old-1 is lost. Keep dob_api_a until they have ended." in done.err


@pytest.mark.parametrize("arguments, case, words", [
    (["dob_api_a"], {"role": ""}, "still names dob_api_a"), (["dob_api_a"], {"role": "dob_api_a"}, "still names dob_api_a"),
    ([], {"copies": False}, "External Secrets has not copied dob-api"),
])
def test_no_pod_is_rolled_before_its_secrets_are_there(cluster, arguments, case, words):
    done, asked = cluster(*arguments, **case)
    assert done.code == 1 and words in done.err
    assert "rollout" not in asked


def test_no_pod_is_rolled_without_an_answer(script, fake, tmp_path):
    done = script("roll-pods", PATH=fake("kubectl", "exit 1"), ROLL_PODS_COPIED_WITHIN="0")
    assert done.code == 1 and "rollout" not in (tmp_path / "asked").read_text()


def deploys(tmp_path, path, digest, **others):
    """Deploys a digest with these scripts in place of the ones that deploy calls."""
    (tmp_path / "scripts").mkdir(exist_ok=True)
    if not (tmp_path / "k8s").exists():
        shutil.copytree(ROOT / "k8s/release", tmp_path / "k8s/release")
    for script in ("deploy", "edit-yaml"):
        shutil.copy(ROOT / "scripts" / script, tmp_path / "scripts")
    for name, code in others.items():
        (tmp_path / "scripts" / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / "scripts" / name).chmod(0o755)
    return subprocess.run([tmp_path / "scripts/deploy", "primary", digest, "https://a", "https://b"], capture_output=True, text=True, env={"PATH": path})


@pytest.mark.parametrize("broken, words", [("9", "did not work and was rolled back: the image before it"), ("98", "neither sha256:9")])
def test_a_release_that_does_not_work_is_replaced_by_the_one_before(fake, tmp_path, broken, words):
    digest = f"grep --only-matching 'sha256:[0-9a-f]*' {tmp_path}/k8s/release/kustomization.yaml"
    new, before = "sha256:" + "9" * 64, "sha256:" + "8" * 64
    path = fake("kubectl", f"[[ $* != *.spec.image* ]] || echo 1.dkr.ecr/dob-api@{before}")
    done = deploys(tmp_path, path, new, rollout=f"{digest} >>{tmp_path}/rolled", smoke=f"! {digest} | grep --quiet ':[{broken}]'")
    assert done.returncode == 1 and words in done.stderr.splitlines()[-1], done.stderr
    assert (tmp_path / "rolled").read_text().split() == [new, before]


def test_a_release_is_replaced_by_the_last_one_that_worked_although_its_first_deploy_was_killed(fake, tmp_path):
    serves, works, tested = (tmp_path / name for name in ("serves", "works", "tested"))
    path = fake("kubectl", f"""case $* in
        *annotate*dob-api/works=*) echo "${{*##*=}}" >{works} ;;
        *annotations.dob-api/works*) cat {works} 2>/dev/null || true ;;
        *.spec.image*) echo "1.dkr.ecr/dob-api@$(cat {serves} 2>/dev/null)" ;;
        esac""")
    rollout = f"grep --only-matching 'sha256:[0-9a-f]*' {tmp_path}/k8s/release/kustomization.yaml | tee {serves} >>{tmp_path}/rolled"
    # The second deploy is killed before its release is tested.
    smoke = f"echo >>{tested}; [[ $(wc -l <{tested}) -ne 2 ]] || kill -KILL $PPID; ! grep --quiet ':9' {serves}"
    before, new = "sha256:" + "8" * 64, "sha256:" + "9" * 64
    deployed = [deploys(tmp_path, path, digest, rollout=rollout, smoke=smoke) for digest in (before, new, new)]
    assert [done.returncode for done in deployed] == [0, -signal.SIGKILL, 1]
    assert "did not work and was rolled back: the image before it" in deployed[-1].stderr, deployed[-1].stderr
    assert (tmp_path / "rolled").read_text().split() == [before, new, new, before]


def test_the_tunnel_ends_with_the_command(script, fake, tmp_path):
    fake("session-manager-plugin", "true")
    fake("kubectl", "true")
    path = fake("aws", f"""case $* in
        *describe-cluster*) echo https://cluster ;;
        *describe-instances*) echo i-1 ;;
        *start-session*) sleep 60 & echo $! >{tmp_path}/plugin; wait ;;
    esac""")
    done = script("with-cluster", HERE, "bash", "-c", f"until [[ -s {tmp_path}/plugin ]]; do sleep 0.1; done; exit 3", PATH=path)
    assert done.code == 3, done.err
    plugin = (tmp_path / "plugin").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", plugin], capture_output=True, text=True).stdout.strip()
    assert state[:1] in ("", "Z"), "the plugin still runs"


def test_the_tunnel_goes_on_through_another_node(script, fake, tmp_path):
    fake("session-manager-plugin", "true")
    fake("kubectl", f"[[ $* != *--raw* || -e {tmp_path}/open ]]")
    path = fake("aws", f"""case $* in
        *describe-cluster*) echo https://cluster ;;
        *describe-instances*) printf 'i-1\\ti-2\\n' ;;
        *start-session*) echo $6 >>{tmp_path}/targets; [[ $(wc -l <{tmp_path}/targets) == 1 ]] || {{ touch {tmp_path}/open; sleep 60; }} ;;
    esac""")
    done = script("with-cluster", HERE, "true", PATH=path)
    assert done.code == 0, done.err
    assert sorted((tmp_path / "targets").read_text().split()) == ["i-1", "i-2"]


@pytest.fixture
def publish(fake, tmp_path):
    """Runs publish with a registry that has an image with this layer, or none, and with this output from Spin."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/publish", tmp_path / "scripts")
    component = tmp_path / "target/wasm32-wasip2/component/dob_api_wasi_p2.wasm"
    component.parent.mkdir(parents=True)
    component.write_bytes(b"component")

    def publish(layer=None, said="Pushed with digest sha256:" + "1" * 64):
        manifest = json.dumps({"layers": [{"digest": layer}]})
        images = [{"imageId": {"imageDigest": "sha256:" + "2" * 64}, "imageManifest": manifest}] if layer else []
        (tmp_path / "images").write_text(json.dumps({"images": images}))
        fake("aws", f"[[ $* != *batch-get-image* ]] || cat {tmp_path}/images")
        fake("cosign", "true")
        path = fake("spin", f"[[ $2 != push ]] || echo '{said}'")
        done = subprocess.run([tmp_path / "scripts/publish", "1.dkr.ecr/dob-api:v1.2.3", tmp_path / "digest"], capture_output=True, text=True,
                              env={"PATH": path})
        return done, (tmp_path / "asked").read_text()

    return publish


def test_what_is_pushed_is_signed_by_its_digest(publish, tmp_path):
    done, asked = publish()
    assert done.returncode == 0, done.stderr
    assert "spin registry push 1.dkr.ecr/dob-api:v1.2.3" in asked and "cosign sign --yes 1.dkr.ecr/dob-api@sha256:" + "1" * 64 in asked
    assert (tmp_path / "digest").read_text() == "sha256:" + "1" * 64 + "\n"


def test_what_is_pushed_already_is_signed_and_nothing_else_is(publish):
    done, asked = publish(layer="sha256:" + hashlib.sha256(b"component").hexdigest())
    assert done.returncode == 0, done.stderr
    assert "push" not in asked and "cosign sign --yes 1.dkr.ecr/dob-api@sha256:" + "2" * 64 in asked


@pytest.mark.parametrize("case, words", [
    ({"layer": "sha256:" + "3" * 64}, "exists already, with another component"), ({"said": "Pushed"}, "did not print the digest"),
])
def test_nothing_unknown_is_signed(publish, case, words):
    done, asked = publish(**case)
    assert done.returncode == 1 and words in done.stderr and "cosign sign" not in asked


PLAN = "No changes. Your infrastructure matches the configuration."


@pytest.fixture
def terraform(script, fake):
    """Runs infrastructure with a Terraform that refreshes many resources and then plans changes, or none."""

    def terraform(command, *arguments, changes=0, **environment):
        path = fake("terraform", f"""case $2 in
            plan) printf 'aws_instance.node[%s]: Refreshing state... [id=i-0123456789abcdef0]\\n' {{1..300}}; exit {changes} ;;
            show) echo '{PLAN}' ;;
        esac""")
        return script("infrastructure", command, *arguments, PATH=path, STATE_BUCKET="state", AWS_REGION=HERE, **environment)

    return terraform


@pytest.mark.parametrize("changes", [0, 2])
def test_a_plan_is_printed_without_the_refreshed_resources(terraform, changes):
    done = terraform("plan", "primary", changes=changes)
    assert (done.code, done.out) == (0, f"{PLAN}\n"), done.err
    assert done.err.count("Refreshing state") == 300


@pytest.mark.parametrize("command, changes, code", [("plan", 1, 1), ("drift", 0, 0), ("drift", 2, 1), ("drift", 1, 1)])
def test_drift_and_a_failed_plan_fail(terraform, command, changes, code):
    assert terraform(command, "primary", changes=changes).code == code


def test_a_node_is_replaced_in_its_own_root_only(terraform, tmp_path):
    for root in ("global", "primary", "recovery"):
        assert terraform("plan", root, REPLACE="primary-b").code == 0
    [asked] = [line for line in (tmp_path / "asked").read_text().splitlines() if "-replace" in line]
    assert "-chdir=terraform/primary plan " in asked and '-replace=module.region.module.database.aws_instance.node["dob-eu-west-1-b"]' in asked
    for file, block in (("primary/main.tf", 'module "region"'), ("modules/region/main.tf", 'module "database"'),
                        ("modules/database/main.tf", 'resource "aws_instance" "node"')):
        assert block in (ROOT / "terraform" / file).read_text(), file


def test_kubernetes_nodes_and_add_ons_are_replaced_by_their_terraform_data(terraform, tmp_path):
    for root in ("primary", "recovery"):
        assert terraform("plan", root, REPLACE="recovery-kubernetes").code == 0
    [asked] = [line for line in (tmp_path / "asked").read_text().splitlines() if "-replace" in line]
    assert "-chdir=terraform/recovery plan " in asked
    for file, name in (("nodes", "image"), ("main", "addons")):
        assert f" -replace=module.region.module.eks.terraform_data.{name} " in asked
        assert f'resource "terraform_data" "{name}"' in (ROOT / f"terraform/modules/eks/{file}.tf").read_text()


@pytest.mark.parametrize("name", ["dob-eu-west-1-b", "primary-r", 'primary-b"]', "global-a", "global-kubernetes"])
def test_nothing_else_is_replaced(terraform, tmp_path, name):
    refused = terraform("plan", "primary", REPLACE=name)
    assert refused.code == 1 and "neither a database node" in refused.err
    assert not (tmp_path / "asked").exists()


@pytest.fixture
def github(script, fake, tmp_path):
    """A GitHub repository set up as docs/pipelines.md says. A test changes it before it runs check-environments."""

    def environment(name, reviewers, pattern, kind="branch"):
        rules = [{"type": "required_reviewers", "reviewers": [{"type": "User"}]}] if reviewers else []
        return {"name": name, "protection_rules": [*rules, {"type": "branch_policy"}], "policies": [{"name": pattern, "type": kind}],
                "deployment_branch_policy": {"protected_branches": False, "custom_branch_policies": True}}

    reviewed = ("global", "primary", "recovery", "deploy-primary", "deploy-recovery", "operations", "rotate-password")
    environments = {name: environment(name, True, "main") for name in reviewed}
    environments |= {name: environment(name, False, "main") for name in ("backup", "restore-drill", "smoke")}
    environments["release"] = environment("release", True, "v*", "tag")
    variables = ["AWS_ACCOUNT_ID", "DOMAIN", *(f"{name}_REGION" for name in ("PRIMARY", "RECOVERY")),
                 *(f"{kind}_{root}" for kind in ("STATE_BUCKET", "TFVARS") for root in ("GLOBAL", "PRIMARY", "RECOVERY"))]

    def check():
        (tmp_path / "environments").write_text(json.dumps({"environments": list(environments.values())}))
        (tmp_path / "variables").write_text(json.dumps({"variables": [{"name": name} for name in variables]}))
        for name, each in environments.items():
            (tmp_path / f"policies-{name}").write_text(json.dumps({"branch_policies": each["policies"]}))
        path = fake("gh", f"""case $2 in
            */environments) cat {tmp_path}/environments ;;
            */deployment-branch-policies) name=${{2%/*}}; cat {tmp_path}/policies-${{name##*/}} ;;
            */actions/variables) cat {tmp_path}/variables ;;
            *) exit 1 ;;
        esac""")
        return script("check-environments", PATH=path)

    return SimpleNamespace(environments=environments, variables=variables, check=check)


def test_environments_that_are_as_the_guide_says_pass(github):
    done = github.check()
    assert (done.code, done.out) == (0, "11 environments and 10 variables are as .github/environments.json says\n"), done.err


@pytest.mark.parametrize("change, words", [
    (lambda github: github.environments.pop("primary"), "the environment primary does not exist"),
    (lambda github: github.environments["operations"].update(protection_rules=[]), "the environment operations has no required reviewers"),
    (lambda github: github.environments["backup"].update(deployment_branch_policy=None), "the environment backup can be used from every branch"),
    (lambda github: github.environments["global"].update(policies=[]), "the environment global can be used from nothing instead of from branch main"),
    (lambda github: github.environments["release"].update(policies=[{"name": "v*", "type": "branch"}]), "from branch v* instead of from tag v*"),
    (lambda github: github.environments["recovery"]["policies"].append({"name": "*", "type": "branch"}), "from branch main, branch * instead of"),
    (lambda github: github.variables.remove("TFVARS_PRIMARY"), "the variable TFVARS_PRIMARY is not set"),
])
def test_what_is_missing_on_github_is_said_in_a_sentence(github, change, words):
    change(github)
    refused = github.check()
    assert refused.code == 1 and words in refused.err and len(refused.err.splitlines()) == 1, refused.err


def test_everything_that_is_missing_is_said(github):
    for name in ("primary", "release"):
        del github.environments[name]
    github.variables.clear()
    refused = github.check()
    assert refused.code == 1 and len(refused.err.splitlines()) == 2 + 10


def test_without_an_answer_from_github_the_check_fails(script, fake):
    refused = script("check-environments", PATH=fake("gh", "exit 4"))
    assert refused.code == 1 and "can't read environments from GitHub" in refused.err


RESTORE_NODE = [f'module.region.module.database.{resource}["dob-eu-central-1-r"]' for resource in (
    "aws_instance.node", "aws_network_interface.node", "aws_ebs_volume.restore", "aws_volume_attachment.data",
    "aws_route53_record.node", "aws_cloudwatch_metric_alarm.recover")]


@pytest.fixture
def planned(script, fake, tmp_path):
    """Runs restore-drill with a Terraform that plans this action on these addresses."""

    def planned(command, action, addresses, fails_at="nothing"):
        changes = [{"address": address, "change": {"actions": [action]}} for address in addresses]
        (tmp_path / "plan").write_text(json.dumps({"resource_changes": changes}))
        path = fake("terraform", f"[[ $2 != show ]] || cat {tmp_path}/plan; [[ $2 != {fails_at} ]]")
        return script("restore-drill", command, PATH=path, AWS_REGION=THERE, PRIMARY_REGION=HERE, STATE_BUCKET="state", GITHUB_OUTPUT=str(tmp_path / "output"))

    return planned


@pytest.mark.parametrize("command, action", [("up", "create"), ("down", "delete")])
def test_the_restore_node_is_added_and_removed(planned, tmp_path, command, action):
    done = planned(command, action, RESTORE_NODE)
    assert done.code == 0, done.err
    assert "terraform -chdir=terraform/recovery apply" in (tmp_path / "asked").read_text()
    restore = {name for name, node in hcl("modules/topology/main.tf")["locals"][0]["shape"][0].items() if node["role"] == "restore"}
    assert restore == {address[-3] for address in RESTORE_NODE}


@pytest.mark.parametrize("command, action, address", [
    ("up", "delete", RESTORE_NODE[0]), ("up", "create", 'module.region.module.database.aws_instance.node["dob-eu-central-1-a"]'),
    ("down", "delete", 'module.region.module.database.aws_volume_attachment.data["dob-eu-central-1-a"]'),
    ("down", "delete", 'module.region.module.database.aws_iam_role.node["restore"]'),
])
def test_a_drill_changes_nothing_but_the_restore_node(planned, tmp_path, command, action, address):
    done = planned(command, action, [address])
    assert done.code == 1 and f"({address})" in done.err
    assert " apply " not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("action, addresses", [("no-op", RESTORE_NODE), ("create", RESTORE_NODE[1:]), ("create", [])])
def test_a_drill_refuses_to_use_an_existing_restore_node(planned, tmp_path, action, addresses):
    done = planned("up", action, addresses)
    assert done.code == 1 and "already has a restore node" in done.err
    assert " apply " not in (tmp_path / "asked").read_text() and not (tmp_path / "output").exists()


@pytest.mark.parametrize("fails_at, code", [("nothing", 0), ("apply", 1)])
def test_a_drill_reports_the_node_that_it_adds_even_if_the_apply_fails(planned, tmp_path, fails_at, code):
    assert planned("up", "create", RESTORE_NODE, fails_at).code == code
    assert (tmp_path / "output").read_text() == "made=true\n"


def test_a_drill_removes_its_node_once_a_cancelled_apply_has_ended(script, fake, tmp_path):
    (tmp_path / "plan").write_text(json.dumps({"resource_changes": [{"address": RESTORE_NODE[0], "change": {"actions": ["delete"]}}]}))
    # As Terraform does: without a limit, a lock is an error at once.
    path = fake("terraform", f"""case $2 in
        show) cat {tmp_path}/plan ;;
        plan | apply) [[ $* != *-lock-timeout* ]] || wait=60
            exec flock --timeout "${{wait:-0}}" {tmp_path}/lock true ;;
        esac""")
    applies = subprocess.Popen(["flock", tmp_path / "lock", "bash", "-c", f"touch {tmp_path}/locked; until [[ -s {tmp_path}/asked ]]; do sleep 0.1; done; sleep 1"])
    while not (tmp_path / "locked").exists() and applies.poll() is None:
        time.sleep(0.05)
    done = script("restore-drill", "down", PATH=path, AWS_REGION=THERE, PRIMARY_REGION=HERE, STATE_BUCKET="state")
    assert applies.wait(timeout=30) == 0
    assert done.code == 0, done.err


def test_a_restore_is_compared_with_the_moment(script, aws, tmp_path):
    moment = '{"at": "2026-05-20 12:00:00+00", "segment": "000000010000000000000002", "rows": 3, "checksum": "c"}'
    aws.node("west-a", HERE, "data", dob_checksum=f"echo '{moment}'",
             dob_status=status(("west-a", "leader"), archiver={"last_archived_wal": "000000010000000000000003"}))
    not_yet = f"[[ -e {tmp_path}/asked-once ]] || {{ touch {tmp_path}/asked-once; echo 'dob-restore: the secrets are not there' >&2; exit 1; }}"
    aws.node("central-r", THERE, "restore", dob_restore=not_yet, dob_checksum=f"echo '{moment}'")
    done = script("restore-drill", "run", aws=aws, AWS_REGION=THERE, PRIMARY_REGION=HERE, RESTORE_DRILL_INTERVAL="0.1")
    assert done.code == 0 and "| rows restored | 3, checksum c |" in done.out, done.err
    assert ("central-r", "dob-restore '2026-05-20 12:00:00+00'") in aws.sent


SHIM = "containerd-shim-spin-v2"


def archive(program=b"the shim"):
    """The archive of a release of the shim."""
    packed = io.BytesIO()
    # Without a time, so that it has the same checksum a second later.
    with gzip.GzipFile(fileobj=packed, mode="w", mtime=0) as compressed, tarfile.open(fileobj=compressed, mode="w") as tar:
        member = tarfile.TarInfo(SHIM)
        member.size = len(program)
        tar.addfile(member, io.BytesIO(program))
    return packed.getvalue()


@pytest.fixture
def node(aws, fake, tmp_path):
    """A region's bucket, and a node that boots with this checksum: it runs cloud-init's commands, for which nodeadm waits."""
    [bucket] = re.findall(r'bucket += "(.*)"', (ROOT / "terraform/modules/region/main.tf").read_text())
    bucket = bucket.replace("${local.service}", "dob").replace("${data.aws_caller_identity.current.account_id}", "123456789012").replace("${local.here.region}", HERE)
    aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": HERE})
    key = hcl("modules/eks/nodes.tf")["locals"][0]["shim"][0]["object"].replace("${var.shim.version}", "1.2.3")
    path = fake("sleep", f"[[ ! -e {tmp_path}/repaired ]] || exec {tmp_path}/repaired; exit 1")

    def starts(checksum):
        command = [f"{tmp_path}/install-shim", HERE, f"s3://{bucket}/{key}", checksum, f"{tmp_path}/bin"]
        files = ROOT / "terraform/modules/eks/files"
        settings = {"install_shim": (files / "install-shim").read_text(), "command": command, "handler": "spin-v2"}
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        said = subprocess.run(["terraform", "console"], cwd=tmp_path, capture_output=True, text=True, check=True,
                              input=f'jsonencode(templatefile("{files}/user-data.tftpl", jsondecode(file("settings.json"))))')
        parts = message_from_string(json.loads(json.loads(said.stdout))).get_payload()
        assert [part.get_content_type() for part in parts] == ["text/cloud-config", "application/node.eks.aws"]
        config = json.loads(parts[0].get_payload())
        for file in config["write_files"]:
            with open(file["path"], "w", opener=lambda name, flags: os.open(name, flags, int(file["permissions"], 8))) as written:
                written.write(file["content"])
        (tmp_path / "bin").mkdir()
        environment = {"PATH": path, "AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated", "AWS_MAX_ATTEMPTS": "1"}
        [run] = config["runcmd"]
        return subprocess.run(run, capture_output=True, text=True, env=environment)

    return SimpleNamespace(starts=starts, bucket=bucket, key=key, path=path, shim=tmp_path / "bin" / SHIM)


@pytest.fixture
def mirror(aws, fake, tmp_path):
    """Runs mirror-shim with a release of this content, and this checksum pinned."""
    for folder in ("scripts", "terraform"):
        (tmp_path / folder).mkdir()
    for script in ("mirror-shim", "fetch-shim"):
        shutil.copy(ROOT / "scripts" / script, tmp_path / "scripts")

    def mirror(released, checksum):
        (tmp_path / "released").write_bytes(released)
        (tmp_path / "terraform/shim.auto.tfvars.json").write_text(json.dumps({"shim": {"version": "1.2.3", "sha256": checksum}}))
        # The URL is the last argument. The file follows --output.
        path = fake("curl", f'while [[ $1 != --output ]]; do shift; done; cp {tmp_path}/released "$2"')
        return subprocess.run([tmp_path / "scripts/mirror-shim", HERE], capture_output=True, text=True, env={
            "PATH": path, "AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated"})

    return mirror


def test_a_node_installs_the_shim_that_was_mirrored(node, mirror, tmp_path):
    checksum = hashlib.sha256(archive()).hexdigest()
    mirrored = mirror(archive(), checksum)
    assert mirrored.returncode == 0, mirrored.stderr
    assert "/v1.2.3/containerd-shim-spin-v2-linux-x86_64.tar.gz" in (tmp_path / "asked").read_text()
    done = node.starts(checksum)
    assert done.returncode == 0, done.stderr
    assert node.shim.read_bytes() == b"the shim" and node.shim.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("there, words", [(archive(b"another"), "does not have the checksum"), (b"no archive", "does not have the checksum"), (None, "can't be read")], ids=["another", "garbage", "nothing"])
def test_a_node_waits_until_the_shim_is_the_right_one(node, aws, tmp_path, there, words):
    s3, checksum = aws.client("s3"), hashlib.sha256(archive()).hexdigest()
    if there:
        s3.put_object(Bucket=node.bucket, Key=node.key, Body=there)
    # The node waits for the archive. Nobody uploads it during the first wait.
    (tmp_path / "right").write_bytes(archive())
    (tmp_path / "repaired").write_text(f"#!/bin/bash\n[[ ! -e {node.shim} ]] && aws s3 cp --quiet {tmp_path}/right s3://{node.bucket}/{node.key}\n")
    (tmp_path / "repaired").chmod(0o755)
    done = node.starts(checksum)
    assert done.returncode == 0 and words in done.stderr and ": run scripts/mirror-shim." in done.stderr, done.stderr
    assert (tmp_path / "asked").read_text().count("sleep 10") == 1
    assert node.shim.read_bytes() == b"the shim"


def test_an_archive_without_the_shim_is_refused(node, aws):
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w:gz").close()
    packed = empty.getvalue()
    aws.client("s3").put_object(Bucket=node.bucket, Key=node.key, Body=packed)
    done = node.starts(hashlib.sha256(packed).hexdigest())
    assert done.returncode != 0 and f"has no {SHIM}" in done.stderr and not node.shim.exists()


@pytest.mark.parametrize("checksum, words", [("", "has no checksum of the shim 1.2.3 yet"), ("0" * 64, "has another checksum than terraform/shim.auto.tfvars.json")])
def test_only_the_shim_with_the_pinned_checksum_is_mirrored(node, mirror, aws, checksum, words):
    refused = mirror(archive(), checksum)
    assert refused.returncode == 1 and words in refused.stderr
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket=node.bucket)


@pytest.mark.parametrize("name, arguments, words", [
    ("smoke", [], "usage: smoke URL"),
    ("smoke", ["https://dob.example.com/hello"], "is not a URL without a path"),
    ("smoke", ["http://127.0.0.1:1"], "http://127.0.0.1:1/readyz did not answer"),
    ("deploy", ["primary", "latest", "https://a", "https://b"], "'latest' is not a digest"),
    ("infrastructure", ["plan", "nowhere"], "there is no root terraform/nowhere"),
    ("infrastructure", ["destroy", "primary"], "usage: infrastructure plan|apply|drift ROOT"),
    ("restore-drill", ["run"], "set AWS_REGION"),
    ("fail-back", ["eu-west-1", "eu-west-1"], "usage: fail-back LEADING RETURNING, with two different regions"),
    ("confirm", ["words"], "usage: confirm EXPECTED TYPED"),
    ("rotate-password", [], "AWS_REGION is not set"),
    ("publish", ["image"], "usage: publish REGISTRY/NAME:TAG FILE"),
    ("fetch-shim", [], "usage: fetch-shim FILE"),
    ("mirror-shim", [], "usage: mirror-shim REGION"),
    ("with-cluster", ["eu-west-1"], "usage: with-cluster REGION COMMAND"),
    ("roll-pods", ["dob_api_a", "now"], "usage: roll-pods [OLD-ROLE]"),
    ("check-environments", ["primary"], "usage: check-environments"),
    ("check-account", ["eu-west-1"], "usage: check-account global|primary|recovery"),
    ("tear-down", ["global", "123456789012"], "usage: tear-down primary|recovery ACCOUNT"),
    ("tear-down", ["primary"], "usage: tear-down primary|recovery ACCOUNT"),
    ("remove-data", ["eu-west-1"], "usage: remove-data ACCOUNT REGION..."),
    ("time-saves", ["https://dob.example.com"], "usage: time-saves URL TITLE"),
    ("lose-region", ["eu-west-1", "dob.example.com"], "usage: lose-region REGION URL"),
])
def test_wrong_use_is_one_sentence_and_changes_nothing(script, name, arguments, words):
    refused = script(name, *arguments)
    assert refused.code == 1 and words in refused.err.splitlines()[-1]


@pytest.fixture
def account(script, fake, tmp_path, aws):
    """Runs check-account with a Terraform that plans these resources, and with these quotas. The emulator answers everything else."""

    def account(root, planned, quota="50", asked="service-quotas"):
        changes = [{"address": f"{kind}.x", "mode": "managed", "type": kind, "change": {"actions": ["create"], "after": after}} for kind, after in planned]
        (tmp_path / "plan").write_text(json.dumps({"resource_changes": changes}))
        fake("terraform", f"cat {tmp_path}/plan")
        path = fake("aws", f'[[ $* != *{asked}* ]] || {{ echo {quota}; exit; }}\n[[ $1 != service-quotas ]] || exit 254\nPATH=${{PATH#*:}} exec aws "$@"')
        return script("check-account", root, aws=aws, PATH=path, AWS_REGION=HERE, AWS_DEFAULT_REGION=HERE)

    return account


REGION = [("aws_vpc", {}), ("aws_launch_template", {"instance_type": "m7i.large"}), ("aws_eks_node_group", {"scaling_config": [{"desired_size": 3, "max_size": 6}]}),
          ("aws_instance", {"instance_type": "t3.small"}), *[("aws_eip", {}), ("aws_nat_gateway", {})] * 3]


def test_an_account_with_room_passes(account):
    done = account("primary", REGION)
    assert done.code == 0, done.err
    # Nine nodes during an update and one more machine, with two processors each. The emulator has a VPC from the start.
    assert f"{HERE}: processors of virtual machines: 20 planned, 0 in use, 50 allowed" in done.out
    assert f"{HERE}: VPCs: 1 planned, 1 in use" in done.out and f"{HERE}: NAT gateways in a zone: 1 planned" in done.out


def test_the_quota_of_an_account_that_never_asked_for_more_is_aws_s_default(account):
    done = account("primary", REGION, quota="2.0", asked="get-aws-default-service-quota")
    assert done.code == 1 and "no room for 20 more processors" in done.err, done.err


def test_every_quota_that_is_too_small_is_named_with_what_to_ask_for(account, aws):
    aws.node("west-a", HERE, "data")
    done = account("primary", REGION, quota="2.0")
    assert done.code == 1
    assert "no room for 20 more processors" in done.err and "--quota-code L-0263D0A3 --desired-value 3" in done.err and "VPCs" not in done.err


def test_what_is_in_use_leaves_less_room(account, aws):
    assert account("primary", REGION, quota="20").code == 0
    aws.node("west-a", HERE, "data")
    done = account("primary", REGION, quota="20")
    assert done.code == 1 and "no room for 20 more processors" in done.err and len(done.err.splitlines()) == 1, done.err


def test_a_second_resource_of_a_kind_that_an_account_can_have_once_is_refused(account, aws):
    planned = [("aws_iam_openid_connect_provider", {}), ("aws_ecr_replication_configuration", {})]
    assert account("global", planned).code == 0
    aws.client("iam").create_open_id_connect_provider(Url="https://token.actions.githubusercontent.com", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40])
    aws.client("ecr").put_replication_configuration(replicationConfiguration={"rules": [{"destinations": [{"region": "us-east-1", "registryId": "123456789012"}]}]})
    done = account("global", planned)
    assert done.code == 1 and "identity_provider = false" in done.err and "replication = false" in done.err
    assert account("global", []).code == 0


@pytest.fixture
def api():
    """Saves what it is sent, with this status. Each connection adds the paths of its requests to a list."""
    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            self.server.connections.append([])

        def do_PUT(self):
            assert json.loads(self.rfile.read(int(self.headers["Content-Length"]))) == {"dateOfBirth": "1990-05-20"}
            self.server.connections[-1].append(self.path)
            self.send_response(self.server.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Api)
    server.connections, server.status = [], 204
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_saves_are_timed_over_one_connection(script, api):
    done = script("time-saves", f"http://127.0.0.1:{api.server_port}", "synchronous")
    assert done.code == 0, done.err
    assert re.fullmatch(r"\| a save, synchronous: median and longest of 100 \| \d+\.\d ms, \d+\.\d ms \|\n", done.out), done.out
    [paths] = api.connections
    assert len(set(paths)) == 100 and all(re.fullmatch("/hello/[A-Za-z]+", path) for path in paths)


def test_a_save_that_fails_is_not_timed(script, api):
    api.status = 503
    done = script("time-saves", f"http://127.0.0.1:{api.server_port}", "synchronous")
    assert done.code == 1 and "not every date was saved" in done.err and not done.out
    assert sum(map(len, api.connections)) == 1


@pytest.fixture
def lose(script, aws, fake, tmp_path):
    """Runs lose-region on two database nodes. The URL has these answers, one after the other, and then the last one again and again."""
    for name in ("west-a", "west-b"):
        aws.node(name, HERE, "data")
    aws.node("central-a", THERE, "data")

    def lose(*answers, **limits):
        (tmp_path / "answers").write_text("".join(f"{code}\n" for code in answers))
        path = fake("curl", f'code=$(head -n 1 {tmp_path}/answers); sed -i "1{{\\$!d}}" {tmp_path}/answers; exit "$code"')
        fake("sleep", "true")
        fake("aws", f'exec {shutil.which("aws")} "$@"')
        done = script("lose-region", HERE, "https://dob.example.com", aws=aws, PATH=path, **limits)
        states = {name: [node["State"]["Name"] for group in aws.client("ec2", name).describe_instances()["Reservations"] for node in group["Instances"]] for name in (HERE, THERE)}
        return done, states

    return lose


def test_a_region_is_lost_until_the_other_one_answers(lose, tmp_path):
    done, states = lose(0, 0, 22, 22, 0)
    # Like a power cut: a leader that shuts down sends the other region what it has.
    assert "stop-instances --skip-os-shutdown" in (tmp_path / "asked").read_text()
    assert done.code == 0 and len(done.out.splitlines()) == 2, done.err
    assert states == {HERE: ["stopped"] * 2, THERE: ["running"]}


def test_a_region_is_not_stopped_while_nobody_answers(lose):
    # Its deadline is the limit of one request.
    done, states = lose(22)
    assert done.code == 1 and "nothing was stopped" in done.err and states[HERE] == ["running"] * 2


@pytest.mark.parametrize("answers, limit, words", [
    ((0,), "FAILS_WITHIN", "still answers after 1 s"),
    ((0, 22), "ANSWERS_WITHIN", "Route 53 has not sent clients to the other region after 1 s"),
])
def test_what_route_53_does_not_do_in_time_is_said(lose, answers, limit, words):
    done, _ = lose(*answers, **{f"LOSE_REGION_{limit}": "1"})
    assert done.code == 1 and words in done.err


OTHER, OURS = "210987654321", "123456789012"


@pytest.fixture
def leftovers(aws):
    """What a demonstration leaves: a locked backup with an older version, volumes, secrets. And what is somebody else's."""
    s3, name = aws.client("s3"), f"dob-backups-{OURS}-{HERE}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": HERE}, ObjectLockEnabledForBucket=True)
    s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}})
    for key in ("backup", "backup", "wal"):
        s3.put_object(Bucket=name, Key=key, Body=b"x")
    s3.delete_object(Bucket=name, Key="wal")
    s3.create_bucket(Bucket="others", CreateBucketConfiguration={"LocationConstraint": HERE})
    prometheus = [("Service", "dob"), ("ebs.csi.aws.com/cluster", "true")]
    tags = ([("Service", "dob")], prometheus, [("ebs.csi.aws.com/cluster", "true"), ("Service", "other")])
    for each in tags:
        aws.client("ec2").create_volume(AvailabilityZone=f"{HERE}a", Size=1, TagSpecifications=[
            {"ResourceType": "volume", "Tags": [{"Key": key, "Value": value} for key, value in each]}])
    for secret in ("dob/api", "dob/certificate-authority", "dob/passwords", "other"):
        aws.client("secretsmanager").create_secret(Name=secret, SecretString="x")
        aws.client("secretsmanager").delete_secret(SecretId=secret, RecoveryWindowInDays=30)
    return aws


def test_nothing_of_a_demonstration_is_left_and_nothing_else_is_deleted(script, leftovers):
    done = script("remove-data", OURS, HERE, THERE, aws=leftovers)
    assert done.code == 0 and done.out.splitlines()[-1] == f"nothing is left in {HERE} {THERE}", done.err
    assert [bucket["Name"] for bucket in leftovers.client("s3").list_buckets()["Buckets"]] == ["others"]
    assert [{tag["Value"] for tag in volume["Tags"]} for volume in leftovers.client("ec2").describe_volumes()["Volumes"]] == [{"true", "other"}]
    assert [secret["Name"] for secret in leftovers.client("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"]] == ["other"]
    # What is gone already is no fault.
    assert script("remove-data", OURS, HERE, THERE, aws=leftovers).code == 0


def test_locked_backups_stay_and_everything_else_is_deleted(script, leftovers):
    """The first bucket has one object that nobody can delete, and one that is deleted. The other region comes after it."""
    s3, locked, other = leftovers.client("s3"), f"dob-backups-{OURS}-{HERE}", f"dob-backups-{OURS}-{THERE}"
    until = datetime.now(timezone.utc) + timedelta(days=20)
    s3.put_object(Bucket=locked, Key="wal", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    leftovers.client("s3", THERE).create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": THERE})
    leftovers.client("ec2", THERE).create_volume(AvailabilityZone=f"{THERE}a", Size=1, TagSpecifications=[
        {"ResourceType": "volume", "Tags": [{"Key": "Service", "Value": "dob"}]}])
    refused = script("remove-data", OURS, HERE, THERE, aws=leftovers)
    assert refused.code == 1 and f"{locked} keeps 1 objects until {until.date()}: Access Denied" in refused.err, refused.err
    assert "nothing is left" not in refused.out
    assert [version["Key"] for version in s3.list_object_versions(Bucket=locked)["Versions"]] == ["wal"]
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {locked, "others"}
    assert leftovers.client("ec2", THERE).describe_volumes()["Volumes"] == []
    assert [secret["Name"] for secret in leftovers.client("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"]] == ["other"]


def test_what_costs_money_and_is_left_is_named(script, leftovers):
    [instance] = leftovers.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=[
        {"ResourceType": "instance", "Tags": [{"Key": "Service", "Value": "dob"}]}])["Instances"]
    refused = script("remove-data", OURS, HERE, aws=leftovers)
    assert refused.code == 1 and f"instances are left: {instance['InstanceId']}. " in refused.err, refused.err
    assert len(leftovers.client("ec2").describe_volumes(Filters=[{"Name": "tag:Service", "Values": ["dob"]}])["Volumes"]) >= 2, "nothing was deleted"
    leftovers.client("ec2").terminate_instances(InstanceIds=[instance["InstanceId"]])
    [address] = [leftovers.client("ec2").allocate_address(TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": [{"Key": "Service", "Value": "dob"}]}])["AllocationId"]]
    refused = script("remove-data", OURS, HERE, aws=leftovers)
    assert refused.code == 1 and f"cost money: {address}. " in refused.err, refused.err


def test_a_question_that_is_refused_does_not_mean_that_nothing_is_left(script, leftovers, fake):
    """Each of AWS's refusals ends the script: a bucket that can't be read is not a bucket that is gone."""
    real = shutil.which("aws")
    for question in ("head-bucket", "describe-addresses", "list-clusters"):
        path = fake("aws", f'[[ " $* " != *" {question} "* ]] || {{ echo "AccessDenied" >&2; exit 254; }}; exec {real} "$@"')
        refused = script("remove-data", OURS, HERE, THERE, aws=leftovers, PATH=path)
        assert refused.code != 0 and "nothing is left" not in refused.out, question


@pytest.mark.parametrize("name, arguments", [("remove-data", (OTHER, HERE)), ("tear-down", ("primary", OTHER))])
def test_another_account_is_left_alone(script, leftovers, fake, tmp_path, name, arguments):
    refused = script(name, *arguments, aws=leftovers, AWS_REGION=HERE, PATH=fake("terraform", "true"))
    assert refused.code == 1 and f"are for the account {OURS}, not for {OTHER}" in refused.err
    assert not (tmp_path / "asked").exists() and len(leftovers.client("ec2").describe_volumes()["Volumes"]) == 3


BUCKET = "module.region.module.backups.aws_s3_bucket.this"


@pytest.mark.parametrize("state, asked", [("", []), ("x", ["destroy"]), (BUCKET, ["state rm", "destroy"])])
def test_a_side_that_is_not_there_is_not_destroyed(script, aws, fake, tmp_path, state, asked):
    """A run that ended early may have created nothing."""
    path = fake("terraform", f'[[ "$2 $3" != "state list" ]] || printf "{state}"')
    done = script("tear-down", "primary", OURS, aws=aws, AWS_REGION=HERE, PATH=path)
    assert done.code == 0, done.err
    said = (tmp_path / "asked").read_text()
    assert [words for words in ("state rm", "destroy") if f"-chdir=terraform/primary {words} " in said] == asked


def test_a_state_that_cannot_be_read_is_not_an_empty_one(script, aws, fake, tmp_path):
    empty, unread = "No state file was found!", "Error: Backend initialization required"
    for said, code in ((empty, 0), (unread, 1)):
        path = fake("terraform", f'[[ "$2 $3" != "state list" ]] || {{ echo "{said}" >&2; exit 1; }}')
        done = script("tear-down", "primary", OURS, aws=aws, AWS_REGION=HERE, PATH=path)
        assert done.code == code and "destroy " not in (tmp_path / "asked").read_text(), done.err
    assert f"can't read the state of primary, nothing was destroyed: {unread}" in done.err
