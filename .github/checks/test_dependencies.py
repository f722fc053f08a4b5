"""What the component is made of is said, and is what was decided."""

import tomllib

import pytest
from workflows import ROOT

# The service, and its adapter to WASI 0.2.
MANIFESTS = {name: tomllib.loads((ROOT / name).read_text()) for name in ("Cargo.toml", "src/host/wasi_p2/Cargo.toml")}
DEPENDENCIES = {name: dependency for manifest in MANIFESTS.values() for name, dependency in manifest["dependencies"].items()}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_each_dependency_of_the_component_says_what_it_is_for(manifest):
    lines = (ROOT / manifest).read_text().splitlines()
    number = {name: next(at for at, line in enumerate(lines) if line.startswith(f"{name} = ")) for name in MANIFESTS[manifest]["dependencies"]}
    # serde_json goes with serde, under one comment.
    if "serde" in number:
        number["serde_json"] = number["serde"]
    assert not [name for name, at in number.items() if not lines[at - 1].startswith("# ")]


def test_the_component_has_no_dependency_beyond_these():
    assert set(DEPENDENCIES) == {"dob-api", "spin-sdk", "wasi", "chrono", "http", "serde", "serde_json"}
    assert not {key for manifest in MANIFESTS.values() for key in manifest} & {"dev-dependencies", "build-dependencies", "target"}


def test_nothing_brings_features_that_nobody_asked_for():
    assert not [name for name, dependency in DEPENDENCIES.items()
                if name not in ("dob-api", "wasi") and dependency.get("default-features") is not False]
