"""What an administrator does once, as the READMEs say it, suits what the deploy workflow does then."""

import re

import pytest

from rendering import OVERLAYS, ROOT, render

FIRST_INSTALLATION = (ROOT / "terraform/README.md").read_text()
HELMFILE = re.compile(r"helmfile --file (\S+) (?:--selector \S+ )*(\w+)")


@pytest.mark.parametrize("overlay", ["primary", "recovery"])
def test_what_belongs_to_no_namespace_is_there_before_the_first_rollout(overlay):
    rollout = (ROOT / "scripts/rollout").read_text()
    manager, selector = (re.search(pattern, rollout, re.M)[1] for pattern in (r"^MANAGER=(.+)$", r"^apply '(.+)'$"))
    assert f"apply --server-side --field-manager={manager} --selector='{selector}' --kustomize k8s/overlays/$side" in FIRST_INSTALLATION
    unmade = [r["metadata"]["name"] for r in render(OVERLAYS / overlay) if "namespace" not in r["metadata"] and selector[1:] in r["metadata"].get("labels", {})]
    assert selector.startswith("!") and not unmade


@pytest.mark.parametrize("readme", ["terraform/README.md", "k8s/README.md"])
def test_charts_are_installed_without_comparing(readme):
    # A comparison fails in a cluster that does not know the kinds of a chart before it, and takes a plugin.
    [(file, command)] = HELMFILE.findall((ROOT / readme).read_text())
    assert (ROOT / file).is_file() and command == "sync"
