"""What the workflows say: jobs, steps, and everything outside them that they name."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))

# Programs that reach out of the machine, and make, whose targets people and ci run themselves.
OUTSIDE = {"aws", "cosign", "curl", "gh", "kubectl", "make", "spin", "sudo", "terraform"}


def text(workflow):
    return (ROOT / ".github/workflows" / workflow).read_text()


def load(workflow):
    return yaml.safe_load(text(workflow))


def steps(workflow):
    """Every step of a workflow with a command."""
    for job in load(workflow)["jobs"].values():
        yield from (step for step in job.get("steps", []) if "run" in step)


def scripts(command):
    return set(re.findall(r"\bscripts/([a-z-]+)", command))


def reaches_out(command):
    """Whether a command, or a script that it calls, uses a program of OUTSIDE."""
    words = set(re.findall(r"(?<![\w/.-])[a-z-]+(?![\w/.-])", command))
    return bool(words & OUTSIDE) or any(reaches_out(code(name)) for name in scripts(command))


def code(script):
    """A script without its comments and messages."""
    lines = (ROOT / "scripts" / script).read_text().splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("#") and "echo" not in line)


def local_steps():
    """The steps that a machine without network can run, as (workflow, name) with their command."""
    return {
        (path.stem, step["name"]): step["run"]
        for path in FILES
        for step in steps(path.name)
        if not reaches_out(step["run"])
    }
