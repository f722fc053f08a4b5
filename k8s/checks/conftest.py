"""Copies of the manifests that a test may break."""

import shutil
from pathlib import Path

import pytest
import yaml

from rendering import OVERLAYS, ROOT


class Copy:
    """A copy of the manifests, and of the configuration that they include."""

    def __init__(self, directory: Path):
        shutil.copytree(ROOT / "k8s", directory, ignore=shutil.ignore_patterns("checks"))
        shutil.copytree(ROOT / "observability", directory.parent / "observability")
        self.directory = directory
        self.overlay = directory / OVERLAYS.name / "primary"

    def replace(self, file: str, old: str, new: str) -> None:
        """Replaces text in a file. The old text must exist."""
        path = self.directory / file
        text = path.read_text()
        assert old in text, f"{file} does not have {old!r}"
        path.write_text(text.replace(old, new))

    def patch(self, kind: str, name: str, *operations: dict) -> None:
        """Adds a patch of a resource to the overlay."""
        path = self.overlay / "kustomization.yaml"
        kustomization = yaml.safe_load(path.read_text())
        patch = {"target": {"kind": kind, "name": f"^{name}$"}, "patch": yaml.safe_dump(list(operations))}
        kustomization["patches"] = [*kustomization.get("patches", []), patch]
        path.write_text(yaml.safe_dump(kustomization))


@pytest.fixture
def manifests(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "k8s")


@pytest.fixture
def released(manifests: Copy) -> Copy:
    """Manifests that can be rolled out: with the digest of a release and an account of one's own."""
    manifests.replace("release/kustomization.yaml", "0" * 64, "a" * 64)
    for file in ("region.yaml", "kustomization.yaml"):
        manifests.replace(f"overlays/primary/{file}", "123456789012", "210987654321")
    return manifests
