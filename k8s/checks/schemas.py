"""Checks every resource against a schema that refuses unknown fields: Kubernetes' own, or the one in schemas/."""

from pathlib import Path

import hcl2
import jsonschema
import kubernetes_validate
import yaml

from rendering import ROOT

# The Kubernetes version of the clusters.
[VARIABLE] = [v["kubernetes"] for v in hcl2.loads((ROOT / "terraform/modules/eks/variables.tf").read_text())["variable"] if "kubernetes" in v]
KUBERNETES = VARIABLE["default"][0]

# Custom resources, with the API versions that serve them.
CUSTOM = {
    "core.spinkube.dev/v1alpha1": ("SpinApp", "SpinAppExecutor"),
    "external-secrets.io/v1": ("ExternalSecret", "SecretStore"),
    "elbv2.k8s.aws/v1beta1": ("TargetGroupBinding",),
}
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


def problems(resource: dict) -> list[str]:
    """The faults that a schema finds in a resource."""
    name = f"{resource['kind']} {resource['metadata']['name']}"
    try:
        if resource["kind"] in CUSTOM.get(resource["apiVersion"], ()):
            jsonschema.validate(resource, custom_schema(resource["kind"]))
        else:
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        where = ".".join(str(step) for step in error.path)
        return [f"{name}, {where or 'at the top'}: {error.message}."]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"{name}: there is no schema for {resource['apiVersion']} {resource['kind']}; write one in k8s/checks/schemas."]
    return []


def custom_schema(kind: str) -> dict:
    spec = yaml.safe_load((Path(__file__).parent / f"schemas/{kind}.yaml").read_text())
    definitions = spec.pop("$defs", {})
    return {
        "$defs": definitions,
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {"apiVersion": {}, "kind": {}, "metadata": METADATA, "spec": spec},
    }
