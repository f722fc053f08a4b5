"""The deploy workflow may apply every resource of an overlay, and nothing that would extend its rights."""

import pytest

from rendering import OVERLAYS, ROOT, find, of_kind, render
from schemas import problems

FOUNDATION = render(ROOT / "k8s/foundation")
ROLES = [role for role in of_kind(FOUNDATION, "Role") + of_kind(FOUNDATION, "ClusterRole") if role["metadata"]["name"] == "dob-deployers"]
RULES = [(role["metadata"].get("namespace"), rule) for role in ROLES for rule in role["rules"]]
# What a rollout only reads.
READ = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resourceNames": ["dob-api"], "resources": ["secrets"], "verbs": ["get"]},
]
# What the operator and other controllers create from what a rollout applies.
MADE = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "patch", "watch"]}]


def plural(kind: str) -> str:
    return kind.lower()[:-1] + "ies" if kind.endswith("y") else kind.lower() + ("es" if kind.endswith("s") else "s")


def allowing(verb: str, resource: dict) -> list[dict]:
    """The rules that allow this verb on this resource."""
    group = resource["apiVersion"].rpartition("/")[0]
    metadata = resource["metadata"]
    return [
        rule
        for namespace, rule in RULES
        if namespace in (None, metadata.get("namespace"))
        and group in rule["apiGroups"]
        and plural(resource["kind"]) in rule["resources"]
        and verb in rule["verbs"]
        and {metadata["name"]} <= set(rule.get("resourceNames", [metadata["name"]]))
    ]


def needed(resource: dict) -> list[str]:
    """The verbs of a server-side apply. An administrator has created the cluster-scoped resources."""
    return ["get", "patch", *(["create"] if "namespace" in resource["metadata"] else [])]


@pytest.mark.parametrize("overlay", ["primary", "recovery"])
def test_every_resource_of_an_overlay_can_be_applied(overlay):
    refused = [f"{verb} {r['kind']} {r['metadata']['name']}" for r in render(OVERLAYS / overlay) for verb in needed(r) if not allowing(verb, r)]
    assert not refused


def test_no_rule_is_for_nothing():
    resources = render(OVERLAYS / "primary")
    used = [rule for resource in resources for verb in needed(resource) for rule in allowing(verb, resource)]
    unused = [rule for _, rule in RULES if rule not in used]
    assert sorted(unused, key=str) == sorted(READ + MADE, key=str)
    names = {resource["metadata"]["name"] for resource in resources}
    assert not [rule for _, rule in RULES if rule not in READ and not set(rule.get("resourceNames", [])) <= names]


@pytest.mark.parametrize("resource", FOUNDATION, ids=lambda resource: f"{resource['kind']}-{resource['metadata']['name']}")
def test_the_foundation_is_the_administrators(resource):
    verbs = {verb for _, rule in RULES for verb in rule["verbs"]} | {"update", "delete", "deletecollection"}
    assert not [verb for verb in verbs if allowing(verb, resource)]


def test_an_overlay_has_nothing_of_the_foundation():
    laid = {(resource["kind"], resource["metadata"]["name"], resource["metadata"].get("namespace")) for resource in FOUNDATION}
    for overlay in OVERLAYS.iterdir():
        assert not laid & {(r["kind"], r["metadata"]["name"], r["metadata"].get("namespace")) for r in render(overlay)}


def test_what_confines_pods_is_in_the_foundation():
    for kind, name in [("ValidatingAdmissionPolicy", "dob-api-confined"), ("MutatingAdmissionPolicy", "dob-api-pods"), ("Namespace", "dob-api")]:
        find(FOUNDATION, kind, name)


def test_no_rule_reaches_further():
    rules = [rule for _, rule in RULES]
    assert all("*" not in rule["resources"] + rule["verbs"] + rule["apiGroups"] for rule in rules)
    assert {verb for rule in rules for verb in rule["verbs"]} == {"create", "get", "list", "patch", "watch"}
    reached = {resource for rule in rules for resource in rule["resources"]}
    assert not reached & {
        "roles", "rolebindings", "clusterroles", "clusterrolebindings", "namespaces", "nodes", "runtimeclasses", "persistentvolumes",
        "mutatingadmissionpolicybindings", "validatingadmissionpolicybindings", "mutatingwebhookconfigurations", "validatingwebhookconfigurations",
    }
    # The subresources of a pod, such as exec, are ways into it.
    assert not [resource for resource in reached if "/" in resource]
    assert [rule["verbs"] for rule in rules if "pods" in rule["resources"]] == [["get", "list", "watch"]]
    assert [rule["resourceNames"] for rule in rules if "secrets" in rule["resources"]] == [["dob-api"]]
    assert all("resourceNames" in rule and "create" not in rule["verbs"] for namespace, rule in RULES if namespace is None)


def test_the_schemas_know_every_field():
    assert not [problem for resource in FOUNDATION for problem in problems(resource)]
