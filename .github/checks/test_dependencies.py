"""What the component is made of is said, and is what was decided."""

import tomllib

from workflows import ROOT

LINES = (ROOT / "Cargo.toml").read_text().splitlines()
MANIFEST = tomllib.loads("\n".join(LINES))


def test_each_dependency_of_the_component_says_what_it_is_for():
    number = {name: next(at for at, line in enumerate(LINES) if line.startswith(f"{name} = ")) for name in MANIFEST["dependencies"]}
    # serde_json goes with serde, under one comment.
    number["serde_json"] = number["serde"]
    assert not [name for name, at in number.items() if not LINES[at - 1].startswith("# ")]


def test_the_component_has_no_dependency_beyond_these():
    assert set(MANIFEST["dependencies"]) == {"spin-sdk", "wasi", "chrono", "serde", "serde_json"}
    assert not {"dev-dependencies", "build-dependencies", "target"} & set(MANIFEST)


def test_nothing_brings_features_that_nobody_asked_for():
    assert not [name for name, dependency in MANIFEST["dependencies"].items()
                if name != "wasi" and dependency.get("default-features") is not False]
