"""The image, the devcontainer and the commit hooks have the versions, files and commands that the rest of the repository has."""

import re
import subprocess
import tomllib

import yaml

from workflows import ROOT

IMAGE = (ROOT / "docker/Dockerfile").read_text()
DEVCONTAINER = (ROOT / ".devcontainer/Dockerfile").read_text()
GO_MODULES = (ROOT / "host-tests/cluster/parts").glob("*/go.mod")


def base(dockerfile, name):
    """The version of an image that a Dockerfile starts from or copies from, without the name of a distribution."""
    [version] = re.findall(rf"(?:^FROM |--from=){re.escape(name)}:v?([0-9.]+)", dockerfile, re.M)
    return version


def test_both_have_the_rust_of_the_toolchain_file():
    channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert base(IMAGE, "rust") == base(DEVCONTAINER, "rust") == channel


def test_the_devcontainer_has_the_terraform_of_the_workflows():
    [version] = re.findall(r"terraform_version: (\S+)", (ROOT / ".github/actions/toolchain/action.yml").read_text())
    assert base(DEVCONTAINER, "hashicorp/terraform") == version


def test_the_devcontainer_has_the_newest_go_that_a_part_of_the_cluster_asks_for():
    asked = [re.search(r"^go (\S+)$", path.read_text(), re.M)[1] for path in GO_MODULES]
    assert base(DEVCONTAINER, "golang") == max(asked, key=lambda version: [int(part) for part in version.split(".")])


def test_the_devcontainer_has_the_kubectl_of_the_cluster():
    [version] = re.findall(r"^require k8s.io/kubernetes v(\S+)$", (ROOT / "host-tests/cluster/parts/kubernetes/go.mod").read_text(), re.M)
    assert base(DEVCONTAINER, "registry.k8s.io/kubectl") == version


def test_the_image_gets_what_cargo_reads():
    """Each crate of the workspace, and each file of the project that code is built with."""
    sent = {line[1:] for line in (ROOT / "docker/Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert not {name for name in sent if not (ROOT / name).exists()}
    needed = {"Cargo.lock", "Cargo.toml", *tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]}
    for source in (ROOT / "src").rglob("*.rs"):
        included = re.findall(r'include_(?:str|bytes)!\((?:concat!\()?"([^"]+)"', source.read_text())
        needed |= {str((source.parent / name).resolve().relative_to(ROOT)) for name in included}
    assert {"migrations", "openapi.json"} <= needed
    assert not {name for name in needed if name.split("/")[0] not in sent}


def test_every_hook_calls_a_target_of_make():
    hooks = [hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]]
    assert hooks
    for hook in hooks:
        make, *targets = hook["entry"].split()
        assert make == "make" and targets and subprocess.run([make, "--dry-run", *targets], cwd=ROOT, capture_output=True).returncode == 0, hook["id"]
