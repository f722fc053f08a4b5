"""Renders an overlay with kubectl's kustomize."""

import re
import shutil
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ROOT / "k8s/overlays"


class Refused(Exception):
    """An overlay that can't be rendered. The text is a sentence for its author."""


def render(directory: Path) -> list[dict]:
    """The resources of an overlay."""
    if not shutil.which("kubectl"):
        raise Refused("kubectl is missing: https://kubernetes.io/docs/tasks/tools/#kubectl.")
    rendered = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True)
    if rendered.returncode != 0:
        raise Refused(reason(directory.name, rendered.stderr))
    return [resource for resource in yaml.safe_load_all(rendered.stdout) if resource]


def reason(overlay: str, words: str) -> str:
    """Translates kustomize's error into a sentence about the overlay."""
    missing = re.search(r"fieldPath `data\.(\w+)` is missing for replacement source ConfigMap", words)
    if missing:
        return f"{overlay}: region.yaml has no {missing[1]}; add it."
    return f"{overlay}: kustomize can't render it: {words.strip()}"


def find(resources: list[dict], kind: str, name: str) -> dict:
    """The one resource of this kind and name."""
    found = [r for r in resources if r["kind"] == kind and r["metadata"]["name"] == name]
    if len(found) != 1:
        raise Refused(f"There must be one {kind} {name}, and there are {len(found)}.")
    return found[0]


def of_kind(resources: list[dict], kind: str) -> list[dict]:
    """All resources of a kind."""
    return [resource for resource in resources if resource["kind"] == kind]
