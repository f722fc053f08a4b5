"""scripts/install-packages removes the file that keeps services from starting, however it ends."""

import fcntl
import os
import pty
import signal
import subprocess
import time

import pytest

from workflows import ROOT

UNMARKED = "#!/bin/sh\nexit 101\n"
DEADLINE = 20


class Installation:
    """The script on paths of its own, with a dpkg that reports only what `installed` names, and an apt-get that runs until it may end
    or Ctrl-C comes."""

    def __init__(self, folder, fake):
        self.folder, self.policy, self.ready, self.end = folder, folder / "policy-rc.d", folder / "ready", folder / "end"
        text = (ROOT / "scripts/install-packages").read_text()
        for path, own in {"/usr/sbin/policy-rc.d": self.policy, "/run/systemd/system": folder / "systemd", "/etc/postgresql-common": folder}.items():
            assert path in text
            text = text.replace(path, str(own))
        self.script = folder / "install-packages"
        self.script.write_text(text)
        self.script.chmod(0o755)
        (folder / "systemd").mkdir()
        fake("id", "echo 0")
        fake("dpkg-query", '[[ " $installed " != *" ${@: -1} "* ]] || echo installed')
        path = fake("apt-get", f"[ $1 = install ] || exit 0\ntrap '' HUP\ntouch {self.ready}\nuntil [ -e {self.end} ]; do sleep 0.02; done")
        self.environment = {**os.environ, "PATH": path, "installed": "here"}

    def run(self, *packages):
        done = subprocess.run([self.script, *packages], env=self.environment, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr

    def until(self, condition, what):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
            time.sleep(0.02)

    def installing(self):
        """Starts the script as the first process of a session on a terminal of its own, and returns it and the terminal while apt-get runs."""
        process, terminal = pty.fork()
        if process == 0:
            # The caller of the tests may ignore some of these signals, as a shell does for its background jobs.
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.execve(self.script, [str(self.script), "missing"], self.environment)
        self.until(self.ready.exists, "apt-get installs")
        return process, terminal


@pytest.fixture
def installation(tmp_path, fake):
    return Installation(tmp_path, fake)


@pytest.mark.parametrize("how", ["in order", "terminal", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"])
def test_services_are_kept_from_starting_only_while_packages_are_installed(installation, how):
    process, terminal = installation.installing()
    assert "exit 101" in installation.policy.read_text() and os.access(installation.policy, os.X_OK)
    if how == "terminal":
        os.close(terminal)
    elif how != "in order":
        # Only the script gets the signal, as from make. apt-get continues and must still find the file.
        os.kill(process, signal.Signals[how])
    assert installation.policy.exists()
    installation.end.touch()
    installation.until(lambda: os.waitpid(process, os.WNOHANG)[0], "the script ends")
    assert not installation.policy.exists()


def test_ctrl_c_ends_everything(installation):
    process, terminal = installation.installing()
    os.write(terminal, b"\x03")
    installation.until(lambda: os.waitpid(process, os.WNOHANG)[0], "the script ends")
    assert not installation.policy.exists()


def test_what_a_killed_run_left_is_removed_by_the_next(installation):
    process, _ = installation.installing()
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert installation.policy.exists()
    # The apt-get of the killed run continues and needs the file.
    installation.run("here")
    assert installation.policy.exists()
    installation.end.touch()
    with installation.policy.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    installation.run("here")
    assert not installation.policy.exists()


@pytest.mark.parametrize("systemd", [True, False])
def test_what_an_earlier_version_left_is_removed_where_it_does_harm(installation, systemd):
    if not systemd:
        (installation.folder / "systemd").rmdir()
    installation.policy.write_text(UNMARKED)
    installation.run("here")
    assert installation.policy.exists() != systemd


def test_an_administrator_s_file_stays(installation):
    installation.end.touch()
    own = "#!/bin/sh\n# Nothing starts on this machine.\nexit 101\n"
    installation.policy.write_text(own)
    installation.run("here")
    installation.run("missing")
    assert installation.policy.read_text() == own
