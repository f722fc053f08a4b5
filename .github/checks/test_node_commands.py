"""Commands of a database node, run on paths of their own with programs that stand in for PostgreSQL, Patroni and pgBackRest."""

import hashlib
import json
import os
import re
import subprocess
import time
from types import SimpleNamespace

import pytest

from test_steps import SBIN
from workflows import ROOT

OWN, OTHER = ["10.0.1.11", "10.0.1.12"], ["10.0.2.11", "10.0.2.12"]
LEADS, FOLLOWS = {"ttl": 20}, {"standby_cluster": {"host": OWN[0]}}
SEGMENT = "0000000100000000000000AA"
DATA = "data/version/dob"
EC2 = ROOT / "terraform/modules/database/ec2.sh"
REAL_DATE = subprocess.check_output(["bash", "-c", "type -P date"], text=True).strip()


class Node:
    """A data node: its commands on paths of its own. What its Patroni and those of other nodes answer is in the files `ADDRESS-patroni` and
    `ADDRESS-config`, or there is curl's exit code; the others do not answer. What etcd answers is in the file `etcd`."""

    def __init__(self, folder, fake):
        self.folder, self.answers = folder, folder / "answers"
        for path in ("answers", "sbin", "run/postgres", f"{DATA}/pg_wal/archive_status", "etc", "postgresql", "metrics", "lib"):
            (folder / path).mkdir(parents=True)
        moved = {"/usr/local/sbin": "sbin", "/run/dob": "run", "/etc/dob": "etc", "/etc/pgbackrest.conf": "pgbackrest.conf",
                 "/usr/share/postgresql-common/pgdg": "fakes", "/var/lib/prometheus/node-exporter": "metrics", "/var/lib/dob": "lib"}
        for command in SBIN.iterdir():
            text = re.sub("|".join(moved), lambda found: str(folder / moved[found[0]]), command.read_text())
            # Whoever runs the tests stays who they are.
            (folder / "sbin" / command.name).write_text(text.replace("setpriv --reuid=postgres --regid=postgres --init-groups", "env"))
            (folder / "sbin" / command.name).chmod(0o755)
        (folder / "etc/node.env").write_text("\n".join([
            'DOB_NODE="a"', 'DOB_CLUSTER="dob"', f'DOB_ADDRESS="{OWN[0]}"', 'DOB_PORT_PATRONI="8008"', f'DOB_DATA_NODES="{" ".join(OWN)}"',
            f'DOB_OTHER_REGION="{" ".join(OTHER)}"', 'DOB_RESTORED_CLIENTS=""', 'DOB_PORT_POSTGRESQL="5432"', f'DOB_DATA_MOUNT="{folder}/data"',
            f'DOB_DATA_DIRECTORY="{folder}/{DATA}"', f'DOB_PROGRAMS="{folder}/postgresql"', 'DOB_MEMBERS="a=10.0.1.11"', 'DOB_PORT_ETCD="2379"',
            'DOB_CLUSTER_ROLE="primary"', ""]))
        (folder / "run/secrets.env").touch()
        (folder / "pgbackrest.conf").write_text("[global]\nrepo1-path=/one\nrepo2-path=/two\n")
        self.path = fake("curl", f"""answer="{folder}/answers/$(sed -E "s|.*https://([^:]*):[0-9]*/([a-z]*).*|\\1-\\2|" <<<"$*")"
            [[ -e $answer ]] || exit 7
            [[ $(<"$answer") != exit* ]] || exit "$(cut --delimiter=' ' --fields=2 "$answer")"
            [[ $* == *PATCH* ]] || exec cat "$answer"
            until [[ $1 == --data ]]; do shift; done
            takes=$(cat "$answer.takes" 2>/dev/null || echo yes,yes)
            echo "${{takes#*,}}" >"$answer.takes"
            [[ $takes != no* ]] || exit 22
            jq --argjson change "$2" '. * $change | with_entries(select(.value != null))' "$answer" >"$answer.new" && mv "$answer.new" "$answer"
            [[ $takes != unacknowledged* ]] || exit 28""")
        # The value is an argument, or standard input. A key that does not exist has no value.
        fake("etcdctl", f"""until [[ $1 =~ ^(get|put|del)$ ]]; do shift; done
            case $1 in
            get) cat "{folder}/etcd/$(basename "${{!#}}")" 2>/dev/null || true ;;
            put) [[ $# -eq 2 ]] && cat >"{folder}/etcd/$(basename "$2")" || echo "$3" >"{folder}/etcd/$(basename "$2")" ;;
            del) rm -f "{folder}/etcd/$(basename "$2")" ;;
            esac""")
        (folder / "etcd").mkdir()
        self.fake = fake

    def answer(self, address, state, role, config):
        (self.answers / f"{address}-patroni").write_text(json.dumps({"state": state, "role": role, "timeline": 1, "xlog": {"replayed_location": 1}}))
        (self.answers / f"{address}-config").write_text(config if isinstance(config, str) else json.dumps(config))

    def takes(self, address, *changes):
        """How the Patroni at an address takes each change of its configuration: yes, no, or unacknowledged. The last is for all others, too."""
        (self.answers / f"{address}-config.takes").write_text(",".join(changes))

    def mode(self, address):
        return "synchronous" if json.loads((self.answers / f"{address}-config").read_text()).get("synchronous_mode") else "asynchronous"

    def hurry(self, command):
        """Its waits end after a second."""
        program = self.folder / "sbin" / command
        program.write_text(re.sub(r"\b(patience|timeout(?: --\S+)*) \d+", r"\1 1", program.read_text()))

    def set(self, name, value):
        """Changes a setting of the node."""
        settings = self.folder / "etc/node.env"
        settings.write_text(re.sub(f'(?m)^{name}=.*$', f'{name}="{value}"', settings.read_text()))

    def has_left_timeline_1_and_runs(self):
        """This process stands in for its PostgreSQL."""
        (self.folder / DATA / "pg_wal/00000002.history").write_text("1\t0/AA000100\tno recovery target specified\n")
        (self.folder / "postgresql/postgres").symlink_to(f"/proc/{os.getpid()}/exe")
        (self.folder / DATA / "postmaster.pid").write_text(f"{os.getpid()}\n")

    def run(self, command, *arguments):
        done = subprocess.run(
            [self.folder / "sbin" / command, *arguments], capture_output=True, text=True, timeout=60,
            env={"PATH": self.path, "TZ": "UTC"})
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture
def node(tmp_path, fake):
    return Node(tmp_path, fake)


# What dob-fence lets a node do. What it is set to (etcd's configuration, or the copy in the data directory), and what the other region does.
OTHER_REGION = {
    "silent": [],
    "never set up": [("stopped", "uninitialized", "exit 22")] * 2,
    "follows": [("running", "standby_leader", FOLLOWS), ("running", "replica", FOLLOWS)],
    "follows, a node is off": [None, ("running", "replica", FOLLOWS)],
    "leads": [("running", "replica", LEADS), ("running", "primary", LEADS)],
    "its leader starts": [("starting", "primary", LEADS), ("running", "replica", LEADS)],
    "its leader is off": [None, ("running", "replica", LEADS)],
    "without etcd": [("running", "replica", "exit 52")] * 2,
}
OWN_REGION = {
    "follows": dict(etcd=FOLLOWS),
    "leads": dict(etcd=LEADS),
    "overtaken": dict(etcd=LEADS, overtaken=True),
    "etcd lost, led": dict(copy=LEADS),
    "etcd lost, followed": dict(copy=FOLLOWS),
    "etcd and copy lost": dict(data=True),
    "new": dict(),
    "data lost": dict(etcd=LEADS, data=False),
    "etcd does not answer": dict(silent=True, copy=FOLLOWS),
}
VERDICTS = {"starts": "", "waits": "until dob-rejoin is run here", "unclear": "or Patroni is stopped there", "no data": "until this one's cluster_role is standby",
            "no etcd": "etcd does not answer"}
# Both regions that boot at once are silent for each other, unless one was set to follow.
DECISIONS = """
                          | silent  | never set up | follows | follows, a node is off | leads   | its leader starts | its leader is off | without etcd
follows                   | starts  | starts       | starts  | starts                 | starts  | starts            | starts            | starts
leads                     | starts  | starts       | starts  | starts                 | waits   | waits             | waits             | unclear
overtaken                 | waits   | waits        | waits   | waits                  | waits   | waits             | waits             | waits
etcd lost, led            | starts  | starts       | starts  | starts                 | waits   | waits             | waits             | unclear
etcd lost, followed       | starts  | starts       | starts  | starts                 | starts  | starts            | starts            | starts
etcd and copy lost        | starts  | starts       | starts  | starts                 | waits   | waits             | waits             | unclear
new                       | starts  | starts       | no data | no data                | no data | no data           | no data           | unclear
data lost                 | starts  | starts       | starts  | starts                 | waits   | waits             | waits             | unclear
etcd does not answer      | no etcd | no etcd      | no etcd | no etcd                | no etcd | no etcd           | no etcd           | no etcd
"""
HEAD, *ROWS = [[cell.strip() for cell in line.split("|")] for line in DECISIONS.strip("\n").splitlines()]


def set_region(node, etcd=None, copy=None, data=None, silent=False, overtaken=False):
    if etcd:
        (node.folder / "etcd/config").write_text(json.dumps(etcd))
    if overtaken:
        (node.folder / "etcd/overtaken").write_text("yes")
    if copy:
        (node.folder / DATA / "patroni.dynamic.json").write_text(json.dumps(copy))
    if data if data is not None else etcd or copy:
        (node.folder / DATA / "PG_VERSION").touch()
    if silent:
        node.fake("etcdctl", "exit 1")


def set_other_region(node, does):
    for address, answer in zip(OTHER, OTHER_REGION[does] or [None, None]):
        for file in node.answers.glob(f"{address}-*"):
            file.unlink()
        if answer:
            node.answer(address, *answer)


@pytest.mark.parametrize("own, other, verdict", [(row[0], other, verdict) for row in ROWS for other, verdict in zip(HEAD[1:], row[1:], strict=True)])
def test_before_patroni_starts(node, own, other, verdict):
    set_region(node, **OWN_REGION[own])
    set_other_region(node, other)
    fenced = node.run("dob-fence")
    assert fenced.code == (verdict != "starts") and VERDICTS[verdict] in fenced.err and (fenced.err == "") == (verdict == "starts"), fenced.err


def test_the_table_names_every_case_once():
    assert HEAD[1:] == list(OTHER_REGION) and [row[0] for row in ROWS] == list(OWN_REGION)


@pytest.mark.parametrize("own", [own for own in OWN_REGION if own != "etcd does not answer"])
def test_a_node_joins_the_leader_that_its_region_has(node, own):
    set_region(node, **OWN_REGION[own])
    set_other_region(node, "leads")
    node.answer(OWN[1], "running", "primary", LEADS)
    assert node.run("dob-fence").code == 0


def test_a_new_node_of_a_standby_cluster_copies_the_other_region_s_data(node):
    node.set("DOB_CLUSTER_ROLE", "standby")
    set_other_region(node, "leads")
    assert node.run("dob-fence").code == 0


@pytest.mark.parametrize("own", ["leads", "etcd lost, led"])
def test_a_region_that_was_overtaken_does_not_lead_when_the_other_one_is_silent_for_a_moment(node, own):
    set_region(node, **OWN_REGION[own])
    for does in ("leads", "silent", "follows"):
        set_other_region(node, does)
        fenced = node.run("dob-fence")
        assert fenced.code == 1 and "until dob-rejoin is run here" in fenced.err, does
    assert (node.folder / "etcd/overtaken").exists()


def test_a_region_that_waits_can_rejoin_although_its_etcd_is_new(node):
    set_region(node, copy={**LEADS, "synchronous_mode": True}, overtaken=True)
    set_other_region(node, "leads")
    node.answer(OWN[0], "running", "standby_leader", FOLLOWS)
    (node.folder / "etc/following.json").write_text(json.dumps({**FOLLOWS, "slots": None}))
    rejoined = node.run("dob-rejoin")
    assert rejoined.code == 0, rejoined.err
    assert json.loads((node.folder / "etcd/config").read_text()) == {**LEADS, **FOLLOWS, "synchronous_mode": True}
    assert node.run("dob-fence").code == 0 and not (node.folder / "etcd/overtaken").exists()


@pytest.mark.parametrize("state, role", [("starting", "primary"), ("crashed", "primary"), ("running", "replica")])
def test_no_region_is_promoted_while_the_other_one_may_lead_again(node, state, role):
    node.answer(OTHER[0], state, role, {"ttl": 20})
    node.answer(OTHER[1], "running", "replica", {"ttl": 20})
    refused = node.run("dob-promote")
    assert refused.code == 1 and "may lead again at any moment" in refused.err


def test_a_region_is_promoted_once_the_other_one_is_set_to_follow(node):
    for address in OTHER:
        node.answer(address, "stopped", "replica", FOLLOWS)
    node.answer(OWN[0], "running", "standby_leader", FOLLOWS)
    (node.folder / "etc/leading.json").write_text("{}")
    set_region(node, etcd=FOLLOWS)
    node.fake("etcdctl", f"""case $* in *" get "*) echo '{{}}' ;; *" put "*) sed -i s/standby_leader/primary/ {node.answers}/{OWN[0]}-patroni ;; esac""")
    promoted = node.run("dob-promote")
    assert (promoted.code, promoted.out) == (0, "this region leads\n"), promoted.err


def test_a_region_is_promoted_though_a_node_of_the_one_that_follows_is_off(node):
    node.answer(OTHER[1], "stopped", "replica", FOLLOWS)
    node.answer(OWN[0], "running", "standby_leader", FOLLOWS)
    (node.folder / "etc/leading.json").write_text("{}")
    node.fake("etcdctl", f"""case $* in *" get "*) echo '{{}}' ;; *" put "*) sed -i s/standby_leader/primary/ {node.answers}/{OWN[0]}-patroni ;; esac""")
    promoted = node.run("dob-promote")
    assert (promoted.code, promoted.out) == (0, "this region leads\n"), promoted.err
    node.answer(OTHER[1], "running", "replica", LEADS)
    assert "may lead again" in node.run("dob-promote").err


def test_a_region_is_not_promoted_if_the_other_one_was_meanwhile(node):
    for address in OTHER:
        node.answer(address, "running", "standby_leader", FOLLOWS)
    node.answer(OWN[0], "running", "standby_leader", FOLLOWS)
    set_region(node, etcd=FOLLOWS)
    (node.folder / "etc/leading.json").write_text("{}")
    # It waits for what it lacks. Somebody promotes the other region, whose leader then reports no position of a replay.
    (node.answers / f"{OWN[0]}-patroni").write_text('{"state": "running", "role": "standby_leader", "xlog": {"replayed_location": 0}}')
    promoted = json.dumps({"state": "running", "role": "primary", "xlog": {}})
    node.fake("sleep", f"for address in {' '.join(OTHER)}; do echo '{promoted}' >{node.answers}/$address-patroni; done")
    refused = node.run("dob-promote")
    assert refused.code == 1 and "the other region still leads" in refused.err, refused.err
    assert json.loads((node.folder / "etcd/config").read_text()) == FOLLOWS


@pytest.fixture
def replicating(node):
    """The leader of two regions. Its region's replica confirms saves if it is set to."""
    node.answer(OWN[0], "running", "primary", LEADS)
    node.answer(OTHER[1], "running", "standby_leader", FOLLOWS)
    node.fake("patronictl", f"""jq '[{{Role: (if .synchronous_mode then "Sync Standby" else "Replica" end)}}]' {node.answers}/{OWN[0]}-config""")
    node.hurry("dob-replication")
    return node


def test_both_regions_change_their_replication(replicating):
    for mode in ("synchronous", "asynchronous"):
        changed = replicating.run("dob-replication", mode)
        assert (changed.code, changed.out) == (0, f"replication is {mode}\n"), changed.err
        assert {replicating.mode(OWN[0]), replicating.mode(OTHER[1])} == {mode}


@pytest.mark.parametrize("before, after", [("asynchronous", "synchronous"), ("synchronous", "asynchronous")])
@pytest.mark.parametrize("fails", ["the own change", "the acknowledgment", "the confirmation"])
def test_neither_region_changes_if_one_can_not(replicating, fails, before, after):
    assert before == "asynchronous" or replicating.run("dob-replication", before).code == 0
    if fails == "the own change":
        replicating.takes(OWN[0], "no", "yes")
    if fails == "the acknowledgment":
        replicating.takes(OTHER[1], "unacknowledged", "yes")
    if fails == "the confirmation":
        replicating.fake("patronictl", f"""echo '[{{"Role": "{"Sync Standby" if before == "synchronous" else "Replica"}"}}]'""")
    refused = replicating.run("dob-replication", after)
    assert refused.code == 1 and "run dob-replication" not in refused.err, refused.err
    assert {replicating.mode(OWN[0]), replicating.mode(OTHER[1])} == {before}


def test_only_the_leader_can_see_its_replica_confirm(replicating):
    replicating.answer(OWN[0], "running", "standby_leader", FOLLOWS)
    refused = replicating.run("dob-replication", "synchronous")
    assert refused.code == 1 and "run this on the leader" in refused.err
    assert {replicating.mode(OWN[0]), replicating.mode(OTHER[1])} == {"asynchronous"}


def test_what_can_not_be_put_back_is_named(replicating):
    replicating.takes(OWN[0], "no", "yes")
    replicating.takes(OTHER[1], "yes", "no")
    refused = replicating.run("dob-replication", "synchronous")
    assert refused.code == 1 and f"the Patroni at {OTHER[1]} refuses" in refused.err and "run dob-replication asynchronous when it answers" in refused.err
    assert (replicating.mode(OWN[0]), replicating.mode(OTHER[1])) == ("asynchronous", "synchronous")


def test_replication_is_left_alone_if_a_region_does_not_say_what_it_is_set_to(replicating):
    replicating.answer(OTHER[1], "running", "standby_leader", "exit 52")
    refused = replicating.run("dob-replication", "synchronous")
    assert refused.code == 1 and "nothing has changed" in refused.err and "PATCH" not in (replicating.folder / "asked").read_text()


@pytest.mark.parametrize("installed, known, added", [(True, False, False), (False, True, False), (False, False, True)])
def test_a_version_that_debian_lacks_comes_from_postgresqls_own_repository(node, installed, known, added):
    with (node.folder / "etc/node.env").open("a") as settings:
        settings.write('DOB_ROLE="restore"\nDOB_PACKAGES="curl postgresql-next"\n')
    for program in ("groupadd", "usermod", "systemctl", "apt.postgresql.org.sh", "packages"):
        node.fake(program, "")
    node.fake("dpkg", "true" if installed else "false")
    node.fake("apt-cache", "true" if known else "false")
    (node.folder / "sbin/dob-packages").write_text('#!/bin/bash\npackages "$@"\n')
    done = node.run("dob-install")
    assert done.code == 0, done.err
    asked = (node.folder / "asked").read_text()
    before, _, after = asked.partition("packages curl postgresql-next\n")
    assert ("apt.postgresql.org.sh -y\n" in before) == added and "systemctl" in after
    assert not added or before.index("packages postgresql-common\n") < before.index("apt.postgresql.org.sh")


def test_a_wait_that_never_comes_true_ends_with_what_was_waited_for(node):
    began = time.monotonic()
    script = '. "$0"/sbin/dob-lib; patience 2 "the moon is not a cheese" false; echo went on'
    done = subprocess.run(["bash", "-c", script, node.folder], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.endswith(": the moon is not a cheese\n")
    assert 1 <= time.monotonic() - began < 10


@pytest.mark.parametrize("now, newest, due", [
    ("2026-03-10 14:00", "2026-03-10 02:20", False),
    # Twenty hours later, but the night has not come.
    ("2026-03-10 23:30", "2026-03-10 02:20", False),
    ("2026-03-11 01:59", "2026-03-10 02:20", False),
    ("2026-03-11 02:01", "2026-03-10 02:20", True),
    # Made by hand in the evening.
    ("2026-03-11 02:01", "2026-03-10 21:00", True),
    ("2026-03-10 14:00", "2026-03-09 02:20", True),
])
def test_a_backup_is_due_once_a_night(node, now, newest, due):
    def seconds(moment):
        return int(subprocess.check_output(["date", f"--date={moment}", "+%s"], env={**os.environ, "TZ": "UTC"}))

    node.answer(OWN[0], "running", "primary", {})
    info = [{"backup": [{"timestamp": {"stop": seconds(newest)}, "database": {"repo-key": key}} for key in (1, 2)]}]
    node.fake("pgbackrest", f"[[ $* != *info* ]] || echo '{json.dumps(info)}'")
    # The night of another moment: the real date with that moment in place of now.
    day = now.split()[0]
    node.fake("date", f'[[ $1 == +%s ]] && exec {REAL_DATE} --date="{now}" +%s; exec {REAL_DATE} --date="{day} ${{1#--date=}}" +%s')
    done = node.run("dob-backup", "nightly")
    assert done.code == 0, done.err
    assert ("backed up" in done.out) == due


def reached_for_archiving(repository):
    """pgBackRest's code. There is no newer timeline, and the other bucket can't be reached."""
    configuration = "$(grep -o -- '--config=[^ ]*' <<<\"$*\" | cut -d= -f2)"
    return f'case $* in *archive-get*) exit 1 ;; *--config=*) ! grep -q repo{3 - repository} "{configuration}" ;; *) exit 1 ;; esac'


def test_a_lost_bucket_is_not_waited_for_before_the_one_that_is_reached(node):
    node.answer(OWN[0], "running", "primary", {})
    left_out = node.folder / "run/postgres/bucket-left-out"
    left_out.write_text("2\n")
    os.utime(left_out, (0, 0))
    node.fake("pgbackrest", reached_for_archiving(2))
    assert node.run("dob-archive", f"pg_wal/{SEGMENT}").code == 0
    asked = [line for line in (node.folder / "asked").read_text().splitlines() if "archive-push" in line]
    # The first one asks for both.
    assert len(asked) == 2 and "--config=" in asked[1], asked


def hanging(repository, answer):
    return f"case $* in *--repo={repository}*) sleep 20 ;; *) {answer} ;; esac"


def asked_for_wal(node):
    return re.findall(r"--repo=(\d) archive-get", (node.folder / "asked").read_text())


def test_a_bucket_that_does_not_answer_is_waited_for_once_in_some_minutes(node):
    node.hurry("dob-archive-get")
    node.fake("pgbackrest", hanging(1, "exit 1"))
    for _ in range(3):
        assert node.run("dob-archive-get", SEGMENT, "segment").code == 1
    assert asked_for_wal(node) == ["1", "2", "2", "2"]
    os.utime(node.folder / "run/postgres/other-first", (0, 0))
    assert node.run("dob-archive-get", SEGMENT, "segment").code == 1
    assert asked_for_wal(node)[4:] == ["1", "2"]


def test_the_other_region_s_bucket_may_be_the_next_that_does_not_answer(node):
    node.hurry("dob-archive-get")
    (node.folder / "run/postgres/other-first").touch()
    node.fake("pgbackrest", hanging(2, "exit 0"))
    assert node.run("dob-archive-get", SEGMENT, "segment").code == 0
    assert asked_for_wal(node) == ["2", "1"]


def test_an_overtaken_leader_learns_it_from_the_bucket_that_answers(node):
    node.hurry("dob-archive-get")
    node.hurry("dob-archive")
    history = "1\\t0/AA000100\\tno recovery target specified\\n"
    node.fake("pgbackrest", hanging(1, f'[[ $* == *archive-get\\ 00000002.history* ]] || exit 1; printf "{history}" >"${{!#}}"'))
    done = node.run("dob-archive", f"pg_wal/{SEGMENT}")
    assert done.code == 1 and "another leader has taken over" in done.err, done.err


@pytest.mark.parametrize("repository", [1, 2])
def test_an_overtaken_leader_learns_it_if_one_bucket_lacks_the_history(node, repository):
    history = "1\\t0/AA000100\\tno recovery target specified\\n"
    # The other one has it.
    node.fake("pgbackrest", f"""case $* in *push*) ;; *--repo={repository}*) exit 1 ;; *archive-get\\ 00000002.history*) printf "{history}" >"${{!#}}" ;; *) exit 1 ;; esac""")
    done = node.run("dob-archive", f"pg_wal/{SEGMENT}")
    assert done.code == 1 and "another leader has taken over" in done.err, done.err
    assert not (node.folder / "run/postgres/other-first").exists()


@pytest.mark.parametrize("parted, archived", [("0/AB000000", True), ("0/AB000100", False)])
def test_the_last_segment_of_the_timeline_before_may_be_archived_with_another_rest(node, parted, archived):
    (node.folder / DATA / "pg_wal/00000002.history").write_text(f"1\t{parted}\tno recovery target specified\n")
    # The first bucket has the segment, the second one lacks it.
    node.fake("pgbackrest", f"""[[ $* == *push* ]] || exit 1
        [[ $* =~ --config=([^ ]*) ]] || exit 45
        ! grep --quiet repo1 "${{BASH_REMATCH[1]}}" || exit 45
        touch {node.folder}/pushed""")
    done = node.run("dob-archive", f"pg_wal/{SEGMENT}")
    assert (done.code == 0, (node.folder / "pushed").exists()) == (archived, archived), done.err


def test_postgresql_that_asks_for_wal_never_gets_a_signal_s_exit_code(node):
    # It would take one for the order to end. pgBackRest may not end when it is told to.
    node.hurry("dob-archive-get")
    node.fake("pgbackrest", "trap '' TERM; sleep 20")
    assert node.run("dob-archive-get", SEGMENT, "segment").code == 2


def test_a_bucket_that_returns_gets_the_histories_that_it_lacks(node):
    left_out = node.folder / "run/postgres/bucket-left-out"
    left_out.write_text("2\n")
    os.utime(left_out, (0, 0))
    (node.folder / DATA / "pg_wal/00000002.history").touch()
    node.fake("pgbackrest", "[[ $* == *push* && $* != *history* ]]")
    (node.folder / "sbin/dob-archive-get").write_text("exit 1")
    assert node.run("dob-archive", f"pg_wal/{SEGMENT}").code == 1 and left_out.exists()
    node.fake("pgbackrest", "[[ $* == *push* ]] || exit 1")
    assert node.run("dob-archive", f"pg_wal/{SEGMENT}").code == 0 and not left_out.exists()
    pushed = [line.split("/")[-1] for line in (node.folder / "asked").read_text().splitlines() if "push" in line]
    assert pushed == [SEGMENT, "00000002.history"] * 2


def test_a_volume_that_can_not_be_read_is_not_formatted(node):
    volume = node.folder / "sbin/dob-volume"
    volume.write_text(volume.read_text().replace("test -b", "test -e"))
    with (node.folder / "etc/node.env").open("a") as settings:
        settings.write(f'DOB_DATA_DEVICE="{node.folder}"\n')
    node.fake("mountpoint", "exit 1")
    # For a volume that it can't read, blkid says that it found nothing.
    node.fake("blkid", "exit 2")
    node.fake("mkfs.ext4", f"touch {node.folder}/formatted")
    node.fake("mount", "exit 32")
    refused = node.run("dob-volume")
    assert refused.code == 1 and "it is not formatted" in refused.err, refused.err
    assert not (node.folder / "formatted").exists()


@pytest.mark.parametrize("minutes, archived", [(1, True), (10, False)])
def test_a_region_that_stays_archives_its_timeline_for_minutes_only(node, minutes, archived):
    stays = node.folder / "run/postgres/stays"
    stays.write_text("1\n")
    os.utime(stays, (time.time() - minutes * 60,) * 2)
    history = "1\\t0/AA000100\\tno recovery target specified\\n"
    node.fake("pgbackrest", f'[[ $* != *archive-get* ]] || {{ [[ $* == *\\ 00000002.history* ]] || exit 1; printf "{history}" >"${{!#}}"; }}')
    done = node.run("dob-archive", f"pg_wal/{SEGMENT}")
    assert (done.code == 0, "another leader has taken over" in done.err) == (archived, not archived), done.err


@pytest.mark.parametrize("state, minutes, asks", [("ready", 0.5, False), ("ready", 1.5, True), ("stopping", 1.5, False), ("stopping", 2.5, True)])
def test_a_switchover_does_not_wait_for_a_question_that_was_just_asked(node, state, minutes, asks):
    node.has_left_timeline_1_and_runs()
    with (node.folder / DATA / "postmaster.pid").open("a") as file:
        file.write(f"{state}\n")
    asked = node.folder / "run/postgres/archive-asked"
    asked.touch()
    os.utime(asked, (time.time() - minutes * 60,) * 2)
    node.fake("pgbackrest", "[[ $* != *archive-get* ]] || exit 1")
    done = node.run("dob-archive", f"pg_wal/00000002{SEGMENT[8:]}")
    assert done.code == 0, done.err
    assert ("archive-get" in (node.folder / "asked").read_text()) == asks


def test_an_overtaken_leader_that_stops_archives_nothing_either(node):
    node.has_left_timeline_1_and_runs()
    asked = node.folder / "run/postgres/archive-asked"
    asked.touch()
    os.utime(asked, (time.time() - 90,) * 2)
    history = "2\\t0/AA000100\\tno recovery target specified\\n"
    node.fake("pgbackrest", f'[[ $* != *archive-get* ]] || {{ [[ $* == *\\ 00000003.history* ]] || exit 1; printf "{history}" >"${{!#}}"; }}')
    for state in "ready", "stopping":
        (node.folder / DATA / "postmaster.pid").write_text(f"{os.getpid()}\n{state}\n")
        refused = node.run("dob-archive", f"pg_wal/00000002{SEGMENT[8:]}")
        assert refused.code == 1 and "another leader has taken over" in refused.err, refused.err


def test_a_bucket_that_is_left_out_has_a_hole_from_that_moment_on(node):
    # Later, another node may lead, and the bucket may be back before that node leaves it out.
    waiting = node.folder / DATA / "pg_wal/archive_status" / f"{SEGMENT}.ready"
    waiting.touch()
    os.utime(waiting, (0, 0))
    node.answer(OWN[0], "running", "primary", {})
    # There is no newer timeline. Only the first bucket can be reached.
    node.fake("pgbackrest", reached_for_archiving(1))
    hole = node.folder / "data/version/archive-hole"
    archived = node.run("dob-archive", f"pg_wal/{SEGMENT}")
    assert archived.code == 0, archived.err
    assert "only repository 1 can be reached" in archived.err and hole.exists()
    # One hole, however long it gets: a backup that is newer than its beginning is not made again each hour.
    os.utime(hole, (1, 1))
    os.utime(node.folder / "run/postgres/bucket-left-out", (0, 0))
    assert node.run("dob-archive", f"pg_wal/{SEGMENT}").code == 0
    assert hole.stat().st_mtime == 1


@pytest.mark.parametrize("number, archived", [("A9", True), ("AA", False), ("AB", False)])
def test_a_segment_that_the_node_s_own_history_has_left_does_not_hold_up_the_archive(node, number, archived):
    # This node led timeline 1, which ended within segment AA, and now leads timeline 2.
    node.has_left_timeline_1_and_runs()
    node.fake("pgbackrest", '[[ $* != *archive-get* ]] || exit 1')
    done = node.run("dob-archive", f"pg_wal/0000000100000000000000{number}")
    assert done.code == 0, done.err
    asked = node.folder / "asked"
    assert (asked.exists() and "archive-push" in asked.read_text()) == archived
    assert ("is not archived" in done.err) != archived


def test_a_node_that_follows_keeps_what_it_wrote_beyond_its_leader_s_history(node):
    node.has_left_timeline_1_and_runs()
    (node.folder / DATA / "standby.signal").touch()
    node.fake("pgbackrest", "exit 1")
    done = node.run("dob-archive", f"pg_wal/{SEGMENT}")
    assert done.code == 1 and "another leader has taken over" in done.err, done.err


@pytest.fixture
def restoring(node):
    """The same as a node for restores, whose PostgreSQL keeps its pid in a file and has ended its recovery when it is asked."""
    for program in ("chown", "install", "pgbackrest"):
        node.fake(program, "")
    program = node.folder / "postgresql/pg_ctl"
    program.write_text(f"#!/bin/bash\nsource {node.folder}/starts\n")
    program.chmod(0o755)
    (node.folder / "starts").write_text(f"touch {node.folder}/{DATA}/postmaster.pid")
    (node.folder / "run/secrets.env").write_text("DOB_ADMIN_PASSWORD=secret")
    # It reads what it is sent, because whoever writes into a closed pipe is killed.
    node.fake("psql", "[[ $* == *--command* ]] || cat >/dev/null; echo f")
    (node.folder / "data/version/restore-asked").write_text("latest\n")
    return node


def test_the_end_of_the_archive_is_restored_without_a_time(restoring):
    done = restoring.run("dob-restore", "run", "latest", "2")
    assert done.code == 0 and "restored to latest" in done.out, done.err
    asked = (restoring.folder / "asked").read_text()
    assert "--repo=2 restore" in asked and "--type=default" in asked and "--target" not in asked and "/dob-restore segment 2 %f %p" in asked
    assert (restoring.folder / "data/version/restore-done").exists()


def test_a_restore_that_a_power_cut_ended_while_it_replayed_is_resumed(restoring):
    postmaster = restoring.folder / DATA / "postmaster.pid"
    postmaster.write_text("1\n")
    restoring.fake("pgbackrest", f'[[ $* != *" restore "* || ! -e {postmaster} ]] || exit 38')
    done = restoring.run("dob-restore", "run", "latest")
    assert done.code == 0 and "restored to latest" in done.out, done.err


def test_a_restored_database_is_started_again_without_another_restore(restoring):
    (restoring.folder / "data/version/restore-done").touch()
    done = restoring.run("dob-restore", "run", "latest")
    assert done.code == 0 and "restored to latest" in done.out, done.err
    assert "pgbackrest" not in (restoring.folder / "asked").read_text()


@pytest.mark.parametrize("state", ["start", "exited", "dead"])
def test_a_restore_is_asked_for_with_one_time_only(restoring, state):
    restoring.fake("mountpoint", "")
    restoring.fake("journalctl", "echo restored to latest")
    restoring.fake("systemd-run", f"echo exited >{restoring.folder}/state")
    restoring.fake("systemctl", f"cat {restoring.folder}/state")
    (restoring.folder / "state").write_text(state)
    if state != "start":
        (restoring.folder / "data/version/restore-done").touch()
    refused = restoring.run("dob-restore", "2026-05-20 12:00:00+00")
    assert refused.code == 1 and ("still runs" if state == "start" else "'latest' is restored here") in refused.err, refused.err
    (restoring.folder / "state").write_text("exited" if state == "start" else state)
    again = restoring.run("dob-restore", "latest")
    assert again.code == 0 and "restored to latest" in again.out, again.err
    assert ("systemd-run" in (restoring.folder / "asked").read_text()) == (state == "dead")


def test_a_restore_waits_for_the_secrets(restoring):
    restoring.fake("mountpoint", "")
    restoring.fake("systemctl", "echo dead")
    (restoring.folder / "run/secrets.env").unlink()
    refused = restoring.run("dob-restore", "latest")
    assert refused.code == 1 and "the secrets are not there" in refused.err, refused.err


def test_a_time_that_the_archive_does_not_reach_ends_the_restore_with_postgresql_s_reason(restoring):
    # PostgreSQL ends soon after pg_ctl has reported it as started.
    log = restoring.folder / "data/version/restored.log"
    (restoring.folder / "starts").write_text(
        f"printf 'FATAL:  the database system is starting up\\nFATAL:  recovery ended before the target\\nLOG:  shut down\\n' >>{log}")
    restoring.fake("psql", "exit 2")
    done = restoring.run("dob-restore", "run", "2099-01-01 00:00:00+00")
    assert done.code == 1 and done.err.endswith("the restored database has ended: FATAL:  recovery ended before the target\n"), done.err
    assert "--type=time --target=2099-01-01 00:00:00+00" in (restoring.folder / "asked").read_text()
    assert not (restoring.folder / "data/version/restore-done").exists()


# The codes with which pgBackRest ends, first for one repository, then for the other.
@pytest.mark.parametrize("codes, code", [
    ([0], 0),
    ([1, 0], 0),
    ([103, 0], 0),
    # The end of the archive.
    ([1, 1, 1, 1], 1),
    # A note in the spool says that the first has no such segment, but it is about the other.
    ([1, 1, 0], 0),
    # S3 is away for a moment.
    ([103, 101, 0], 0),
    ([103, 101, 1, 1, 1, 1], 1),
    ([1, 103, 1, 0], 0),
    # And for good: PostgreSQL must not take it for the end of the archive, even if one repository says so.
    ([103] * 9, 255),
    ([1, 103] * 9, 255),
])
def test_a_restore_does_not_end_where_the_archive_can_not_be_asked(restoring, codes, code):
    left = restoring.folder / "codes"
    left.write_text(" ".join(map(str, codes)))
    restoring.fake("pgbackrest", f"read -r code rest <{left}; echo $rest >{left}; exit ${{code:-42}}")
    restoring.fake("sleep", "")
    if code == 255:
        program = restoring.folder / "sbin/dob-restore"
        program.write_text(re.sub("(?m)^SEGMENT_PATIENCE=.*", "SEGMENT_PATIENCE=0", program.read_text()))
    assert restoring.run("dob-restore", "segment", "all", SEGMENT, "pg_wal/RECOVERYXLOG").code == code
    assert f"--stanza=dob --repo=1 --archive-async archive-get {SEGMENT} pg_wal/RECOVERYXLOG" in (restoring.folder / "asked").read_text()


def test_a_restore_from_both_repositories_needs_both(restoring):
    restoring.fake("pgbackrest", "case $* in *--repo=2*repo-ls*) exit 103 ;; esac")
    refused = restoring.run("dob-restore", "run", "latest")
    assert refused.code == 1 and "repository 2 can't be read" in refused.err and "dob-restore 'latest' 1" in refused.err, refused.err
    assert " restore " not in (restoring.folder / "asked").read_text()


@pytest.mark.parametrize("state", ["starting", "stopped", "running"])
def test_a_blank_member_of_etcd_waits_while_a_patroni_runs(node, state):
    node.answer(OWN[1], state, "primary", LEADS)
    blank = lose_etcd(node)
    assert blank.code == 1 and "lost its majority" in blank.err


def test_a_member_of_etcd_whose_first_start_was_interrupted_is_blank(node):
    node.answer(OWN[1], "running", "primary", LEADS)
    (node.folder / "etcd-data/member/snap").mkdir(parents=True)
    blank = lose_etcd(node)
    assert blank.code == 1 and "lost its majority" in blank.err


def test_a_member_of_etcd_leaves_the_others_once_only(node):
    (node.folder / "etcd-data/member/wal").mkdir(parents=True)
    (node.folder / "run/etcd-alone").touch()
    started = [(lose_etcd(node).code, "ETCD_FORCE_NEW_CLUSTER=true" in (node.folder / "run/etcd.env").read_text()) for _ in range(2)]
    assert started == [(0, True), (0, False)]


def test_blank_members_of_etcd_form_the_first_cluster(node):
    assert lose_etcd(node).code == 0 and (node.folder / "run/etcd.env").read_text() == "ETCD_INITIAL_CLUSTER_STATE=new\n"


def lose_etcd(node):
    with (node.folder / "etc/node.env").open("a") as settings:
        settings.write(f'ETCD_DATA_DIR="{node.folder}/etcd-data"\nETCD_INITIAL_ADVERTISE_PEER_URLS="https://10.0.1.11:2380"\n')
    node.set("DOB_MEMBERS", "a=10.0.1.11 b=10.0.1.12")
    node.fake("etcdctl", "exit 1")
    node.fake("install", "")
    return node.run("etcd-member")


def test_the_state_is_shown_while_postgresql_does_not_answer(node):
    node.answer(OWN[0], "starting", "primary", LEADS)
    (node.answers / f"{OWN[0]}-cluster").write_text(json.dumps({"members": [{"name": "a", "role": "leader", "state": "starting"}]}))
    node.fake("psql", "echo 'the database system is starting up' >&2; exit 2")
    node.fake("pgbackrest", "echo '[]'")
    shown = node.run("dob-status")
    assert shown.code == 0 and "a\tleader\tstarting" in shown.out and "starting up" in shown.err, shown.err


@pytest.mark.parametrize("answer, shown", [("echo '[]'", "none"), ("exit 49", "unknown")])
def test_a_backup_that_can_not_be_asked_for_is_not_said_to_be_missing(node, answer, shown):
    node.answer(OWN[0], "running", "primary", LEADS)
    (node.answers / f"{OWN[0]}-cluster").write_text(json.dumps({"members": [{"name": "a", "role": "leader", "state": "running"}]}))
    node.fake("psql", "echo '{}'")
    node.fake("pgbackrest", answer)
    assert node.run("dob-status").out.splitlines()[-1] == f"last backup {shown}"


def test_a_stream_of_logs_that_could_not_be_created_is_created_at_the_next_start(node):
    node.fake("journalctl", """echo '{"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1", "MESSAGE": "started"}'""")
    node.fake("aws", "exit 255")
    assert node.run("dob-logs").code != 0
    assert [line.split()[2] for line in (node.folder / "asked").read_text().splitlines() if line.startswith("aws")] == ["create-log-stream", "put-log-events"]


def test_logs_are_shipped_although_the_clock_was_set_back_by_days(node):
    days = [10, 7, 7, 7.4, 7.6]
    lines = [json.dumps({"__CURSOR": str(number), "__REALTIME_TIMESTAMP": str(int(day * 86400) * 10**6), "MESSAGE": f"line {number}"}) for number, day in enumerate(days)]
    (node.folder / "journal").write_text("\n".join(lines) + "\n")
    node.fake("journalctl", f"""[[ $* =~ --after-cursor=([0-9]+) ]] && after=$((BASH_REMATCH[1] + 1)); tail --lines=+$((${{after:-0}} + 1)) {node.folder}/journal""")
    # As CloudWatch does, it refuses a batch that spans more than a day.
    node.fake("aws", f"""[[ $* == *put-log-events* ]] || exit 0
        jq --exit-status 'map(.timestamp) | max - min <= 86400000' {node.folder}/run/logs.json && jq --raw-output .[].message {node.folder}/run/logs.json >>{node.folder}/shipped""")
    node.fake("sleep", f"[[ $(<{node.folder}/lib/logs.cursor) != {len(days) - 1} ]]")
    node.run("dob-logs")
    assert (node.folder / "shipped").read_text().splitlines() == [f"kernel: line {number}" for number in range(len(days))]


def test_a_long_line_of_the_journal_is_shipped(node):
    # journalctl leaves out the text of a field above 4096 bytes, unless it is told otherwise.
    node.fake("journalctl", """[[ $* == *--all* ]] && text='"long"' || text=null; echo "{\\"__CURSOR\\": \\"1\\", \\"__REALTIME_TIMESTAMP\\": \\"1\\", \\"MESSAGE\\": $text}\"""")
    node.fake("aws", "")
    node.fake("sleep", "exit 1")
    node.run("dob-logs")
    assert json.loads((node.folder / "run/logs.json").read_text()) == [{"timestamp": 0, "message": "kernel: long"}]


def test_a_backup_is_made_in_each_bucket_although_old_ones_can_not_be_removed_from_the_first(node):
    node.answer(OWN[0], "running", "primary", LEADS)
    node.fake("pgbackrest", "case $* in *info*) echo '[]' ;; *--repo=1*expire) exit 1 ;; esac")
    done = node.run("dob-backup")
    assert done.code == 1 and "can't be removed from repository 1;" in done.err
    assert "--repo=2 backup" in (node.folder / "asked").read_text()


@pytest.mark.parametrize("damaged", [True, False])
def test_an_old_backup_expires_unless_the_newest_one_has_a_damaged_page(node, damaged):
    node.answer(OWN[0], "running", "primary", LEADS)
    now = int(time.time())
    info = [{"backup": [{"timestamp": {"stop": stop}, "error": error, "database": {"repo-key": key}}
                        for key in (1, 2) for stop, error in ((now - 15 * 86400, False), (now + 1, damaged))]}]
    old = [node.folder / f"old-{repository}" for repository in (1, 2)]
    for backup in old:
        backup.touch()
    node.fake("pgbackrest", f"""case $* in
        *info*) echo '{json.dumps(info)}' ;;
        *--repo=[12]*expire) [[ $* =~ --repo=(.) ]] && rm "{node.folder}/old-${{BASH_REMATCH[1]}}" ;;
        esac""")
    done = node.run("dob-backup")
    assert (done.code, "the backup in repository 1 2 holds it" in done.err) == (damaged, damaged), done.err
    assert [backup.exists() for backup in old] == [damaged, damaged]
    # The timer runs each hour.
    again = node.run("dob-backup", "nightly")
    assert again.code == 0, again.err
    assert re.findall(r"--repo=(\d) backup", (node.folder / "asked").read_text()) == ["1", "2"]


@pytest.mark.parametrize("first, verified", [("exit 49", 2), ("true", 1)])
def test_a_bucket_that_could_not_be_read_is_read_again_before_a_week_is_over(node, first, verified):
    node.answer(OWN[0], "running", "primary", LEADS)
    for answer in (first, "true", "true"):
        node.fake("pgbackrest", answer)
        node.run("dob-backup", "weekly")
    assert (node.folder / "asked").read_text().count("--repo=1 verify") == verified
    assert "dob_backup_verify_success 1\n" in (node.folder / "metrics/dob-verify.prom").read_text()


@pytest.mark.parametrize("code, said", [(1, "nothing to do"), (103, "the archive can't be asked")])
def test_a_region_that_stays_knows_whether_the_archive_has_a_newer_leader(node, code, said):
    node.answer(OWN[0], "running", "primary", LEADS)
    node.fake("pgbackrest", f"exit {code}")
    stays = node.run("dob-stay")
    assert stays.code == 1 and said in stays.err, stays.err


def test_dates_that_are_copied_back_in_part_are_named(node):
    node.answer(OWN[0], "running", "primary", LEADS)
    (node.folder / "run/secrets.env").write_text("DOB_ADMIN_PASSWORD=secret")
    node.fake("psql", "case $* in *STDOUT*) echo anna; exit 2 ;; *) cat >/dev/null; echo '1 dates copied back' ;; esac")
    copied = node.run("dob-copy-back", "10.0.1.14")
    assert copied.code == 1 and "not every date was copied" in copied.err and "Run it again" in copied.err


def test_a_patronictl_that_waits_for_an_etcd_that_is_gone_ends(node):
    node.answer(OWN[0], "running", "primary", LEADS)
    node.fake("patronictl", "exec sleep 50")
    node.hurry("dob-lib")
    began = time.monotonic()
    refused = node.run("dob-switchover")
    assert refused.code == 1 and "Patroni refuses" in refused.err and time.monotonic() - began < 20


class Agent:
    """What only a node on EC2 runs, with a folder in place of S3, apt's own program for downloads, and a systemd-run that tries a unit three times if
    it may be tried again. systemd-run exits as the last try did."""

    def __init__(self, folder, fake):
        self.folder, self.fake, self.package = folder, fake, folder / "amazon-ssm-agent.deb"
        self.published = folder / "s3/amazon-ssm-eu-west-1/1.2.3/debian_amd64/amazon-ssm-agent.deb"
        self.published.parent.mkdir(parents=True)
        self.published.write_text("the agent")
        moved = {"https://s3.${region}.amazonaws.com": f"copy:{folder}/s3", "/run/amazon-ssm-agent.deb": str(self.package)}
        text = EC2.read_text()
        for path, place in moved.items():
            assert path in text
            text = text.replace(path, place)
        (folder / "ec2.sh").write_text(text)
        fake("dpkg", f'[[ $1 != --install ]] || cp "$2" "{folder}/installed"')
        fake("systemctl", "")

    def run(self, comes_at=1):
        """The package can be downloaded from this try on."""
        if comes_at > 1:
            self.published.rename(self.folder / "later")
        path = self.fake("systemd-run", f"""tries=1
            until [[ $1 != --* ]]; do
                [[ $1 != --property=Restart=on-failure ]] || tries=3
                shift
            done
            for ((try = 1; try <= tries; try++)); do
                [[ $try != {comes_at} || $try == 1 ]] || mv "{self.folder}/later" "{self.published}"
                ! "$@" || exit 0
            done
            exit 1""")
        # Terraform fills in what the environment has here.
        done = subprocess.run(
            ["bash", self.folder / "ec2.sh"], capture_output=True, text=True, timeout=60,
            env={"PATH": path, "LC_ALL": "C", "region": "eu-west-1", "version": "1.2.3", "sha256": hashlib.sha256(b"the agent").hexdigest()})
        return SimpleNamespace(code=done.returncode, err=done.stderr, asked=(self.folder / "asked").read_text().splitlines())


@pytest.fixture
def agent(tmp_path, fake):
    return Agent(tmp_path, fake)


@pytest.mark.parametrize("comes_at", [1, 3])
def test_the_agent_is_installed_as_soon_as_it_can_be_downloaded(agent, comes_at):
    done = agent.run(comes_at)
    assert done.code == 0 and done.err.count("E: Download Failed") == comes_at - 1, done.err
    assert (agent.folder / "installed").read_text() == "the agent" and not agent.package.exists()
    assert done.asked[-2:] == [f"dpkg --install {agent.package}", "systemctl enable --now amazon-ssm-agent"]


def test_an_agent_with_another_checksum_is_refused(agent):
    agent.published.write_text("another program")
    done = agent.run()
    assert done.code == 1 and "Hash Sum mismatch" in done.err, done.err
    assert not (agent.folder / "installed").exists() and "systemctl enable --now amazon-ssm-agent" not in done.asked
