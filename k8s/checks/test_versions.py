"""What runs on this machine is what runs on EKS: one version of Kubernetes, and one of the operator, wherever they are named."""

import re
import tomllib

import pytest
import yaml

from rendering import ROOT
from schemas import KUBERNETES

PARTS = ROOT / "host-tests/cluster/parts"


def part(name: str, module: str) -> str:
    """The version of a module that a part of the cluster is built from."""
    return re.search(rf"\b{re.escape(module)} v([0-9.]+)", (PARTS / name / "go.mod").read_text())[1]


def test_the_cluster_has_the_minor_version_of_eks():
    assert part("kubernetes", "k8s.io/kubernetes").rpartition(".")[0] == KUBERNETES


def test_the_client_has_the_types_of_that_version():
    dependencies = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["dependencies"]
    assert dependencies["k8s-openapi"]["features"] == [f"v{KUBERNETES.replace('.', '_')}"]


@pytest.mark.parametrize("document", ["k8s/README.md", "terraform/modules/eks/README.md", "terraform/modules/eks/variables.tf"])
def test_documents_name_that_version(document):
    named = re.findall(r"\b(?:Kubernetes|kubectl|defaults for|--kubernetes-version) (1\.\d+)", (ROOT / document).read_text())
    assert named and set(named) == {KUBERNETES}


def test_the_cluster_has_the_operator_that_is_installed():
    charts = yaml.safe_load((ROOT / "k8s/controllers/helmfile.yaml").read_text())["releases"]
    [operator] = [chart for chart in charts if chart["name"] == "spin-operator"]
    assert part("spin-operator", "github.com/spinkube/spin-operator") == operator["version"]
    [definitions] = [argument for hook in operator["hooks"] for argument in hook["args"] if argument.startswith("https:")]
    assert f"/download/v{operator['version']}/" in definitions
