"""Reads the workflows: their jobs, their steps, and everything outside them that they name."""

import re
from pathlib import Path

import hcl2
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))

# Programs that need the network or a service. make is one of them, because people and ci run its targets directly.
OUTSIDE = {"aws", "cosign", "curl", "docker", "gh", "go", "kubectl", "make", "npx", "spin", "sudo", "terraform"}


def text(workflow):
    return (ROOT / ".github/workflows" / workflow).read_text()


def load(workflow):
    return yaml.safe_load(text(workflow))


def hcl(file):
    """The content of a Terraform file, as data."""
    return hcl2.loads((ROOT / "terraform" / file).read_text())


def steps(workflow):
    """Yields every step of a workflow that has a command."""
    for job in load(workflow)["jobs"].values():
        yield from (step for step in job.get("steps", []) if "run" in step)


def scripts(command):
    return set(re.findall(r"\bscripts/([a-z-]+)", command))


def reaches_out(command):
    """Whether a command, or a script that it calls, uses a program in OUTSIDE."""
    words = set(re.findall(r"(?<![\w/.-])[a-z-]+(?![\w/.-])", command))
    return bool(words & OUTSIDE) or any(reaches_out(code(name)) for name in scripts(command))


def code(script):
    """The text of a script without its comments and messages."""
    lines = (ROOT / "scripts" / script).read_text().splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("#") and "echo" not in line)


def named_steps():
    """The steps' commands by workflow and name."""
    return {(path.stem, step["name"]): step["run"] for path in FILES for step in steps(path.name)}
