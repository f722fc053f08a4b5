"""Refuses overlays that can't work: renders each, checks schemas, rules and policies. Usage: check.py OVERLAY..."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import rules
import schemas
from cluster import Cluster
from rendering import OVERLAYS, Refused, render


def problems(directory: Path) -> list[str]:
    """What is wrong with an overlay, in sentences."""
    try:
        cluster = Cluster(directory.name, render(directory))
        broken = [problem for rule in rules.ALL for problem in rule(cluster)]
        broken += [problem for resource in cluster.complete() for problem in schemas.problems(resource)]
    except Refused as refused:
        return [str(refused)]
    return broken or lint(cluster)


def lint(cluster: Cluster) -> list[str]:
    """What checkov finds in the whole resources."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all(cluster.complete(), file, sort_keys=False)
        file.flush()
        checkov = [Path(sys.executable).with_name("checkov"), "--framework", "kubernetes", "--file", file.name]
        found = subprocess.run([*checkov, "--output", "json", "--quiet"], capture_output=True, text=True)
    report = json.loads(found.stdout)
    return [
        f"{check['resource']}: {check['check_name']} ({check['check_id']}); fix it, or justify it in base/pod-security.yaml or observability/pods.yaml."
        for check in report["results"]["failed_checks"]
    ]


def main(overlays: list[str]) -> int:
    refused = False
    for overlay in overlays:
        for problem in problems(OVERLAYS / overlay):
            print(f"k8s/overlays/{overlay}: {problem}", file=sys.stderr)
            refused = True
    return refused


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
