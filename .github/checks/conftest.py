import os
import subprocess
from types import SimpleNamespace

import pytest

from emulator import Emulator
from workflows import ROOT


@pytest.fixture
def aws(tmp_path):
    emulator = Emulator(tmp_path)
    yield emulator
    emulator.server.stop()


@pytest.fixture
def fake(tmp_path):
    """Puts a program of this name before the real one on PATH. Its arguments are appended to the file `asked`."""
    folder = tmp_path / "fakes"
    folder.mkdir()

    def fake(name, code):
        program = folder / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >>{tmp_path}/asked\n{code}\n')
        program.chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    return fake


@pytest.fixture
def script(tmp_path):
    """Runs a script of the project. With an emulator, the script's AWS is the emulator."""

    def script(name, *arguments, aws=None, stdin=None, **environment):
        reach = {"AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated", "AWS_MAX_ATTEMPTS": "1"} if aws else {}
        done = subprocess.run(
            [ROOT / "scripts" / name, *arguments], input=stdin, capture_output=True, text=True, cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ON_NODE_INTERVAL": "0.1", **reach, **environment})
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    return script
