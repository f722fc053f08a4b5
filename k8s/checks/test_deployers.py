"""Who deploys may apply every resource of an overlay, and nothing that would give it more."""

import pytest
import yaml

from rendering import OVERLAYS, ROOT, of_kind, render
from schemas import KUBERNETES
import kubernetes_validate

DEPLOYERS = list(yaml.safe_load_all((ROOT / "k8s/controllers/deployers.yaml").read_text()))
RULES = [rule for role in of_kind(DEPLOYERS, "Role") + of_kind(DEPLOYERS, "ClusterRole") for rule in role["rules"]]
PLURALS = {"NetworkPolicy": "networkpolicies", "ValidatingAdmissionPolicy": "validatingadmissionpolicies"}


def may(verb: str, resource: dict) -> bool:
    """Whether a rule allows this verb on this resource."""
    group = resource["apiVersion"].rpartition("/")[0]
    plural = PLURALS.get(resource["kind"], f"{resource['kind'].lower()}s")
    names = {resource["metadata"]["name"]}
    return any(
        group in rule["apiGroups"] and plural in rule["resources"] and verb in rule["verbs"] and names <= set(rule.get("resourceNames", names))
        for rule in RULES
    )


@pytest.mark.parametrize("overlay", ["primary", "recovery"])
def test_every_resource_of_an_overlay_can_be_applied(overlay):
    refused = [f"{r['kind']} {r['metadata']['name']}" for r in render(OVERLAYS / overlay) if not (may("get", r) and may("patch", r))]
    assert not refused


def test_no_rule_reaches_further():
    assert all("*" not in rule["resources"] + rule["verbs"] + rule["apiGroups"] for rule in RULES)
    assert not any({"roles", "rolebindings", "clusterroles", "clusterrolebindings"} & set(rule["resources"]) for rule in RULES)
    assert [rule["resourceNames"] for rule in RULES if "secrets" in rule["resources"]] == [["dob-api"]]


def test_the_schemas_know_every_field():
    for resource in DEPLOYERS:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
