"""make passes the right environment and arguments to the programs that it calls."""

import os
import pwd
import shutil
import subprocess
import tomllib

import pytest

from workflows import ROOT


@pytest.mark.parametrize("environment", [{"CARGO_HOME": "/home/a user/.cargo"}, {"HOME": "/home/a user"}, {}])
def test_paths_of_cargo_s_home_are_remapped_wherever_it_is(fake, environment):
    """Without HOME, Cargo uses the home directory in the system's user database."""
    fake("rustup", "echo wasm32-wasip2")
    path = fake("cargo", 'printf "%s\\n" "${CARGO_ENCODED_RUSTFLAGS-$(tr " " "\\37" <<<"$RUSTFLAGS")}"')
    built = subprocess.run(["make", "--silent", "component"], cwd=ROOT, env={"PATH": path, **environment}, capture_output=True, text=True, check=True)
    home_of_user = environment.get("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    home = environment.get("CARGO_HOME", f"{home_of_user}/.cargo")
    assert built.stdout.splitlines() == [f"--remap-path-prefix={home}=cargo"] * 2, "a build for each WASI"


def test_the_component_is_where_the_manifest_looks_for_it(fake):
    """CARGO_TARGET_DIR moves everything but the component."""
    fake("rustup", "echo wasm32-wasip2")
    path = fake("cargo", 'echo "$@"')
    asked = subprocess.run(["make", "--silent", "component"], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True).stdout
    for name, command in zip(("spin.toml", "spin-wasi-0.3.toml"), asked.strip().splitlines(), strict=True):
        manifest = tomllib.loads((ROOT / name).read_text())["component"]["dob-api"]
        for words in (command.split(), manifest["build"]["command"].split()):
            package = words[words.index("--package") + 1].replace("-", "_")
            assert manifest["source"] == f"{words[words.index('--target-dir') + 1]}/wasm32-wasip2/component/{package}.wasm", words


@pytest.fixture
def project(tmp_path):
    """A folder with the Makefile and a slow imitation of scripts/install-packages."""
    (tmp_path / "scripts").mkdir()
    install = tmp_path / "scripts/install-packages"
    install.write_text(f'#!/bin/sh\nsleep 0.2\necho installed "$@" >>{tmp_path}/asked\n')
    install.chmod(0o755)
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_packages_come_first_in_a_parallel_make_too(fake, project):
    fake("rustup", "echo wasm32-wasip2")
    path = fake("cargo", "")
    subprocess.run(["make", "run"], cwd=project, env={**os.environ, "PATH": path, "MAKEFLAGS": "-j8"}, capture_output=True, check=True)
    asked = [line.split()[0] for line in (project / "asked").read_text().splitlines()]
    assert asked == ["installed", "rustup", "cargo", "cargo"]


def test_pip_s_configuration_keeps_nothing_out_of_the_environment(fake, project):
    path = fake("python3", f"""mkdir -p .venv/bin
printf '#!/bin/sh\\necho pip $PIP_USER >>{project}/asked\\n' >.venv/bin/pip
printf '#!/bin/sh\\n' >.venv/bin/uv
chmod +x .venv/bin/*""")
    subprocess.run(["make", ".venv/installed"], cwd=project, env={**os.environ, "PATH": path, "PIP_USER": "1"}, capture_output=True, check=True)
    assert "pip 0" in (project / "asked").read_text().splitlines()


def test_all_of_it_works_without_git(fake):
    path = fake("git", "echo called >&2; exit 1")
    for target in ("help", "--dry-run component", "--dry-run run", "--dry-run test", "--dry-run checks"):
        done = subprocess.run(["make", *target.split()], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True)
        assert "called" not in done.stderr
