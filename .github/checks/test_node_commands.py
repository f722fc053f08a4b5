"""Commands of a database node, run on paths of their own with programs that stand in for PostgreSQL, Patroni and pgBackRest."""

import json
import os
import re
import subprocess
import time
from types import SimpleNamespace

import pytest

from test_steps import SBIN

OWN, OTHER = ["10.0.1.11", "10.0.1.12"], ["10.0.2.11", "10.0.2.12"]
FOLLOWS = {"standby_cluster": {"host": OWN[0]}}
SEGMENT = "0000000100000000000000AA"
DATA = "data/version/dob"
REAL_DATE = subprocess.check_output(["bash", "-c", "type -P date"], text=True).strip()


class Node:
    """A data node: its commands on paths of its own. What its Patroni and those of other nodes answer is in the files `ADDRESS-patroni` and
    `ADDRESS-config`; the others do not answer."""

    def __init__(self, folder, fake):
        self.folder, self.answers = folder, folder / "answers"
        for path in ("answers", "sbin", "run/postgres", f"{DATA}/pg_wal/archive_status", "etc", "postgresql"):
            (folder / path).mkdir(parents=True)
        moved = {"/usr/local/sbin": "sbin", "/run/dob": "run", "/etc/dob": "etc", "/etc/pgbackrest.conf": "pgbackrest.conf",
                 "/usr/share/postgresql-common/pgdg": "fakes"}
        for command in SBIN.iterdir():
            text = re.sub("|".join(moved), lambda found: str(folder / moved[found[0]]), command.read_text())
            # Whoever runs the tests stays who they are.
            (folder / "sbin" / command.name).write_text(text.replace("setpriv --reuid=postgres --regid=postgres --init-groups", "env"))
            (folder / "sbin" / command.name).chmod(0o755)
        (folder / "etc/node.env").write_text("\n".join([
            'DOB_NODE="a"', 'DOB_CLUSTER="dob"', f'DOB_ADDRESS="{OWN[0]}"', 'DOB_PORT_PATRONI="8008"', f'DOB_DATA_NODES="{" ".join(OWN)}"',
            f'DOB_OTHER_REGION="{" ".join(OTHER)}"', 'DOB_RESTORED_CLIENTS=""', 'DOB_PORT_POSTGRESQL="5432"', f'DOB_DATA_MOUNT="{folder}/data"',
            f'DOB_DATA_DIRECTORY="{folder}/{DATA}"', f'DOB_PROGRAMS="{folder}/postgresql"', ""]))
        (folder / "run/secrets.env").touch()
        (folder / "pgbackrest.conf").write_text("[global]\nrepo1-path=/one\nrepo2-path=/two\n")
        self.path = fake("curl", f'cat "{folder}/answers/$(sed -E "s|.*https://([^:]*):[0-9]*/([a-z]*).*|\\1-\\2|" <<<"$*")" 2>/dev/null')
        self.fake = fake

    def answer(self, address, state, role, config):
        (self.answers / f"{address}-patroni").write_text(json.dumps({"state": state, "role": role, "xlog": {"replayed_location": 1}}))
        (self.answers / f"{address}-config").write_text(json.dumps(config))

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
    node.fake("patronictl", f"sed -i s/standby_leader/primary/ {node.answers}/{OWN[0]}-patroni")
    promoted = node.run("dob-promote")
    assert (promoted.code, promoted.out) == (0, "this region leads\n"), promoted.err


@pytest.mark.parametrize("installed, known, added", [(True, False, False), (False, True, False), (False, False, True)])
def test_a_version_that_debian_lacks_comes_from_postgresqls_own_repository(node, installed, known, added):
    with (node.folder / "etc/node.env").open("a") as settings:
        settings.write('DOB_ROLE="restore"\nDOB_PACKAGES="curl postgresql-99"\n')
    for program in ("groupadd", "usermod", "systemctl", "apt.postgresql.org.sh", "packages"):
        node.fake(program, "")
    node.fake("dpkg", "true" if installed else "false")
    node.fake("apt-cache", "true" if known else "false")
    (node.folder / "sbin/dob-packages").write_text('#!/bin/bash\npackages "$@"\n')
    done = node.run("dob-install")
    assert done.code == 0, done.err
    asked = (node.folder / "asked").read_text()
    before, _, after = asked.partition("packages curl postgresql-99\n")
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


def test_a_bucket_that_is_left_out_has_a_hole_from_that_moment_on(node):
    # Later, another node may lead, and the bucket may be back before that node leaves it out.
    waiting = node.folder / DATA / "pg_wal/archive_status" / f"{SEGMENT}.ready"
    waiting.touch()
    os.utime(waiting, (0, 0))
    node.answer(OWN[0], "running", "primary", {})
    # There is no newer timeline. Only the first bucket can be reached.
    node.fake("pgbackrest", "case $* in *archive-get*) exit 1 ;; *--config=*) ! grep -q repo2 \"$(grep -o -- '--config=[^ ]*' <<<\"$*\" | cut -d= -f2)\" ;; *) exit 1 ;; esac")
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
    """The same as a node for restores, whose PostgreSQL keeps its pid in a file."""
    for program in ("chown", "install", "pgbackrest"):
        node.fake(program, "")
    program = node.folder / "postgresql/pg_ctl"
    program.write_text(f"#!/bin/bash\nsource {node.folder}/starts\n")
    program.chmod(0o755)
    (node.folder / "data/version/restore-begun").touch()
    return node


def test_the_end_of_the_archive_is_restored_without_a_time(restoring):
    (restoring.folder / "starts").write_text(f"touch {restoring.folder}/{DATA}/postmaster.pid")
    (restoring.folder / "run/secrets.env").write_text("DOB_ADMIN_PASSWORD=secret")
    restoring.fake("psql", "echo f")
    done = restoring.run("dob-restore", "run", "latest", "2")
    assert done.code == 0 and "restored to latest" in done.out, done.err
    asked = (restoring.folder / "asked").read_text()
    assert "--repo=2 restore" in asked and "--type=default" in asked and "--target" not in asked
    assert not (restoring.folder / "data/version/restore-begun").exists()


def test_a_time_that_the_archive_does_not_reach_ends_the_restore_with_postgresql_s_reason(restoring):
    # PostgreSQL ends soon after pg_ctl has reported it as started.
    log = restoring.folder / "data/version/restored.log"
    (restoring.folder / "starts").write_text(
        f"printf 'FATAL:  the database system is starting up\\nFATAL:  recovery ended before the target\\nLOG:  shut down\\n' >>{log}")
    restoring.fake("psql", "exit 2")
    done = restoring.run("dob-restore", "run", "2099-01-01 00:00:00+00")
    assert done.code == 1 and done.err.endswith("the restored database has ended: FATAL:  recovery ended before the target\n"), done.err
    assert "--type=time --target=2099-01-01 00:00:00+00" in (restoring.folder / "asked").read_text()
    assert (restoring.folder / "data/version/restore-begun").exists()
