"""check.py OVERLAY...: refuses overlays that can't work. Renders each, and checks schemas, rules and policies."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

import rules
import schemas
from cluster import Cluster
from rendering import OVERLAYS, Refused


def problems(*directories: Path) -> list[str]:
    """The faults of overlays, one sentence each."""
    found, sound = [], {}
    for directory in directories:
        try:
            cluster = Cluster.of(directory)
            broken = [problem for rule in rules.ALL for problem in rule(cluster)]
            broken += [problem for resource in cluster.resources for problem in schemas.problems(resource)]
        except Refused as refused:
            broken = [str(refused)]
        if not broken:
            sound[directory.name] = cluster
        found += [f"k8s/overlays/{directory.name}: {problem}" for problem in broken]
    return found + (lint(sound) if sound else [])


def lint(clusters: dict[str, Cluster]) -> list[str]:
    """The findings of checkov. It takes seconds to start, so it reads all overlays at once."""
    with tempfile.TemporaryDirectory() as directory:
        for overlay, cluster in clusters.items():
            Path(directory, overlay).with_suffix(".yaml").write_text(yaml.safe_dump_all(cluster.resources, sort_keys=False))
        checkov = [Path(sys.executable).with_name("checkov"), "--framework", "kubernetes", "--directory", directory, "--skip-download"]
        found = subprocess.run([*checkov, "--output", "json", "--quiet"], capture_output=True, text=True)
    return [
        f"k8s/overlays/{Path(check['file_path']).stem}: {check['resource']}: {check['check_name']} ({check['check_id']}); "
        "fix it, or justify it in observability/pods.yaml."
        for check in json.loads(found.stdout)["results"]["failed_checks"]
    ]


def main(overlays: list[str]) -> int:
    found = problems(*(OVERLAYS / overlay for overlay in overlays))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
