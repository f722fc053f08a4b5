"""The descheduler has the rights that its policy needs where its chart puts it, and no more."""

import re

import yaml

from rendering import ROOT, of_kind, render

FOUNDATION = render(ROOT / "k8s/foundation")
[CHART] = [release for release in yaml.safe_load((ROOT / "k8s/controllers/helmfile.yaml").read_text())["releases"] if release["name"] == "descheduler"]
# Seconds between two checks of the descheduler, at most: a node must recover within two minutes, and a new pod takes most of that.
WITHIN = 30


def roles(kind: str) -> list[dict]:
    return [role for role in of_kind(FOUNDATION, kind) if role["metadata"]["name"] == "descheduler"]


def test_it_evicts_in_one_namespace_and_changes_nothing_else():
    assert [(role["metadata"]["namespace"], role["rules"]) for role in roles("Role")] == [("dob-api", [
        {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "update"]},
    ])]
    [everywhere] = roles("ClusterRole")
    assert {verb for rule in everywhere["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert "secrets" not in {resource for rule in everywhere["rules"] for resource in rule["resources"]}


def test_its_rights_are_those_of_the_charts_account_and_the_charts_own_are_not_made():
    for binding in roles("RoleBinding") + roles("ClusterRoleBinding"):
        # The chart names the service account after its release.
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": CHART["name"], "namespace": CHART["namespace"]}]
    template, values = CHART["values"]
    assert (template, values["rbac"], values["kind"]) == ("descheduler.yaml.gotmpl", {"create": False}, "Deployment")


def test_it_looks_often_enough():
    template = (ROOT / "k8s/controllers/descheduler.yaml.gotmpl").read_text()
    assert int(re.search(r"^deschedulingInterval: (\d+)s$", template, re.M)[1]) <= WITHIN
