"""The cluster on this machine runs what EKS runs: one version of Kubernetes and one of the operator, wherever they are named."""

import json
import os
import re
import subprocess
import tomllib

import kubernetes_validate
import pytest
import yaml

from rendering import ROOT
from schemas import KUBERNETES

PARTS = ROOT / "host-tests/cluster/parts"
HELMFILE = ROOT / "k8s/controllers/helmfile.yaml"
CHARTS = yaml.safe_load(HELMFILE.read_text())["releases"]
# The digests of these images are unknown here: add them from their registries.
NO_DIGEST = {"aws-load-balancer-controller", "descheduler", "external-secrets", "spin-operator"}


def part(name: str, module: str) -> str:
    """The version of a Go module that a part of the cluster is built from."""
    return re.search(rf"\b{re.escape(module)} v([0-9.]+)", (PARTS / name / "go.mod").read_text())[1]


def test_the_cluster_has_the_minor_version_of_eks():
    assert part("kubernetes", "k8s.io/kubernetes").rpartition(".")[0] == KUBERNETES


def test_the_client_has_the_types_of_that_version():
    dependencies = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["dependencies"]
    assert dependencies["k8s-openapi"]["features"] == [f"v{KUBERNETES.replace('.', '_')}"]


def test_no_newer_version_is_supported_by_all_that_is_pinned():
    """A pinned part that supports more than the others changes nothing. When the last one is raised, so must the version be."""
    newest = {
        "kubernetes-validate": minor(kubernetes_validate.latest_version()),
        "the cluster's Kubernetes": minor(part("kubernetes", "k8s.io/kubernetes")),
        # Its minor version is that of the Kubernetes that it is made for.
        "the descheduler": minor([chart for chart in CHARTS if chart["name"] == "descheduler"][0]["version"]),
    }
    assert minor(KUBERNETES) >= min(newest.values()), f"all pinned parts support a newer Kubernetes than {KUBERNETES}: {newest}"


def minor(version: str) -> int:
    return int(version.split(".")[1])


@pytest.mark.parametrize("document", ["k8s/README.md", "terraform/modules/eks/README.md"])
def test_documents_name_that_version(document):
    named = re.findall(r"\b(?:Kubernetes|kubectl) (1\.\d+)", (ROOT / document).read_text())
    assert named and set(named) == {KUBERNETES}


@pytest.mark.parametrize("name, module", [("spin-operator", "github.com/spinkube/spin-operator"), ("descheduler", "sigs.k8s.io/descheduler")])
def test_the_cluster_has_what_is_installed(name, module):
    [chart] = [chart for chart in CHARTS if chart["name"] == name]
    assert part(name, module) == chart["version"]


def test_the_descheduler_is_made_for_that_version():
    [descheduler] = [chart for chart in CHARTS if chart["name"] == "descheduler"]
    assert descheduler["version"].split(".")[:2] == ["0", KUBERNETES.partition(".")[2]]


def test_documents_name_the_shim_that_nodes_get():
    version = json.loads((ROOT / "terraform/shim.auto.tfvars.json").read_text())["shim"]["version"]
    for document in ("README.md", "docs/decisions.md"):
        named = re.findall(r"\bshim (\d+\.\d+\.\d+)", (ROOT / document).read_text())
        assert named and set(named) == {version}, document


def test_the_documents_say_how_the_collector_differs_from_the_one_that_is_tried():
    """Nobody can look up the digest of a newer image offline. Who raises the image or the modules changes the sentence."""
    manifests = [ROOT / "k8s/observability/collector.yaml", ROOT / "k8s/logs/shipper.yaml", ROOT / "observability/collector.yaml"]
    images = {version for file in manifests for version in re.findall(r"opentelemetry-collector-contrib[: ](\d+\.\d+\.\d+)", file.read_text())}
    modules = set(re.findall(r"opentelemetry-collector-contrib/\S+ v(\S+)\n", (PARTS / "otel-collector/go.mod").read_text()))
    [said] = re.findall(r"built from newer modules \((.+?), and (.+?) for files, instead of the image (.+?),", (ROOT / "k8s/README.md").read_text())
    assert (modules, images) == (set(said[:2]), {said[2]}), "k8s/README.md, Not tried yet, says otherwise"


def digests(value) -> list[str]:
    """All digests in a chart's values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [digest for item in value for digest in digests(item)]
    return re.findall(r"sha256:[0-9a-f]{64}$", str(value))


def test_charts_run_images_by_digest_but_for_those_that_are_named():
    assert {chart["name"] for chart in CHARTS if not digests(chart["values"])} == NO_DIGEST
    assert [len(digests(chart["values"])) for chart in CHARTS if chart["name"] == "cert-manager"] == [4]


@pytest.fixture
def asked(tmp_path):
    """Runs `definitions` with programs that only record their arguments and where they ran."""
    # kubectl reads its input to the end: otherwise a program that writes to it could be ended by SIGPIPE.
    for name, does in {"go": """echo '{"Dir": "/module"}'""", "helm": "echo", "kubectl": "cat"}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\necho \"$PWD: {name} $*\" >>{tmp_path}/asked\n{does}\n")
        (tmp_path / name).chmod(0o755)

    def asked(name: str) -> list[str]:
        [chart] = [chart for chart in CHARTS if chart["name"] == name]
        [hook] = chart["hooks"]
        assert hook["events"] == ["presync"]
        subprocess.run([HELMFILE.parent / hook["command"], *hook["args"]], check=True, stdin=subprocess.DEVNULL,
                       env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        # The programs of a pipe start in either order.
        return sorted((tmp_path / "asked").read_text().splitlines())

    return asked


def test_the_operators_definitions_are_those_that_the_cluster_has(asked):
    assert asked("spin-operator") == [
        f"{PARTS}/spin-operator: go mod download -json github.com/spinkube/spin-operator",
        f"{PARTS}/spin-operator: kubectl apply --server-side --filename=/module/config/crd/bases",
    ]


def test_a_chart_brings_its_own_definitions_with_each_version(asked):
    [chart] = [chart for chart in CHARTS if chart["name"] == "aws-load-balancer-controller"]
    assert asked(chart["name"]) == [
        f"{ROOT}: helm show crds {chart['chart']} --version {chart['version']}",
        f"{ROOT}: kubectl apply --server-side --filename=-",
    ]
