"""What make gives to the programs that it calls."""

import os
import pwd
import subprocess

import pytest

from workflows import ROOT


@pytest.mark.parametrize("environment", [{"CARGO_HOME": "/home/a user/.cargo"}, {"HOME": "/home/a user"}, {}])
def test_cargo_s_packages_are_renamed_wherever_they_are(fake, environment):
    """Without a HOME, Cargo takes the one that the system has for the user."""
    fake("rustup", "echo wasm32-wasip2")
    path = fake("cargo", 'printf "%s\\n" "${CARGO_ENCODED_RUSTFLAGS-$(tr " " "\\37" <<<"$RUSTFLAGS")}"')
    built = subprocess.run(["make", "--silent", "component"], cwd=ROOT, env={"PATH": path, **environment}, capture_output=True, text=True, check=True)
    home_of_user = environment.get("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    home = environment.get("CARGO_HOME", f"{home_of_user}/.cargo")
    assert built.stdout.rstrip("\n").split("\x1f") == [f"--remap-path-prefix={home}=cargo"]


def test_all_of_it_works_without_git(fake):
    path = fake("git", "echo called >&2; exit 1")
    for target in ("help", "--dry-run component", "--dry-run run", "--dry-run test", "--dry-run checks"):
        done = subprocess.run(["make", *target.split()], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True)
        assert "called" not in done.stderr
