"""Who deploys may apply every resource of an overlay, and nothing that would give it more."""

import pytest
import yaml

from rendering import OVERLAYS, ROOT, of_kind, render
from schemas import KUBERNETES
import kubernetes_validate

DEPLOYERS = list(yaml.safe_load_all((ROOT / "k8s/controllers/deployers.yaml").read_text()))
RULES = [(role["metadata"].get("namespace"), rule) for role in of_kind(DEPLOYERS, "Role") + of_kind(DEPLOYERS, "ClusterRole") for rule in role["rules"]]
PLURALS = {"NetworkPolicy": "networkpolicies", "ValidatingAdmissionPolicy": "validatingadmissionpolicies", "StorageClass": "storageclasses"}


def allowing(verb: str, resource: dict) -> list[dict]:
    """The rules that allow this verb on this resource."""
    group = resource["apiVersion"].rpartition("/")[0]
    plural = PLURALS.get(resource["kind"], f"{resource['kind'].lower()}s")
    metadata = resource["metadata"]
    return [
        rule
        for namespace, rule in RULES
        if namespace in (None, metadata.get("namespace"))
        and group in rule["apiGroups"]
        and plural in rule["resources"]
        and verb in rule["verbs"]
        and {metadata["name"]} <= set(rule.get("resourceNames", [metadata["name"]]))
    ]


def needed(resource: dict) -> list[str]:
    """The verbs of applying on the server; what belongs to no namespace an administrator has made."""
    return ["get", "patch", *(["create"] if "namespace" in resource["metadata"] else [])]


@pytest.mark.parametrize("overlay", ["primary", "recovery"])
def test_every_resource_of_an_overlay_can_be_applied(overlay):
    refused = [f"{verb} {r['kind']} {r['metadata']['name']}" for r in render(OVERLAYS / overlay) for verb in needed(r) if not allowing(verb, r)]
    assert not refused


def test_no_rule_is_for_nothing():
    resources = render(OVERLAYS / "primary")
    used = [rule for resource in resources for verb in needed(resource) for rule in allowing(verb, resource)]
    assert [rule for _, rule in RULES if rule not in used] == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["dob-api"], "verbs": ["get"]}]


def test_no_rule_reaches_further():
    rules = [rule for _, rule in RULES]
    assert all("*" not in rule["resources"] + rule["verbs"] + rule["apiGroups"] for rule in rules)
    assert not any({"roles", "rolebindings", "clusterroles", "clusterrolebindings"} & set(rule["resources"]) for rule in rules)
    assert [rule["resourceNames"] for rule in rules if "secrets" in rule["resources"]] == [["dob-api"]]
    assert all("resourceNames" in rule for namespace, rule in RULES if namespace is None)


def test_the_schemas_know_every_field():
    for resource in DEPLOYERS:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
