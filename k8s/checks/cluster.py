"""A rendered overlay together with the foundation that an administrator has applied."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from rendering import find, of_kind, render


@dataclass
class Cluster:
    """The applied resources, and what is read but not applied: the figures of drain.yaml and the descheduler's policy."""

    resources: list[dict]
    figures: dict[str, int]
    descheduler: dict

    @classmethod
    def of(cls, overlay: Path) -> "Cluster":
        manifests = overlay.parents[1]
        figures = yaml.safe_load((manifests / "base/drain.yaml").read_text())["data"]
        descheduler = yaml.safe_load((manifests / "controllers/descheduler.yaml").read_text())
        return cls(render(manifests / "foundation") + render(overlay), {name: int(figure) for name, figure in figures.items()}, descheduler)

    @property
    def apps(self) -> list[dict]:
        return of_kind(self.resources, "SpinApp")

    @property
    def policies(self) -> list["Policy"]:
        return [Policy(r) for r in self.resources if r["kind"] in Policy.KINDS]

    def policy(self, kind: str, name: str) -> "Policy":
        """The admission policy of this kind, Mutating or Validating, and name."""
        return Policy(find(self.resources, f"{kind}AdmissionPolicy", name))


class Policy:
    """An admission policy. Its expressions are compared without whitespace."""

    KINDS = ("MutatingAdmissionPolicy", "ValidatingAdmissionPolicy")

    def __init__(self, resource: dict):
        self.kind, self.name, self.spec = resource["kind"], resource["metadata"]["name"], resource["spec"]
        self.variables = {variable["name"]: variable["expression"] for variable in self.spec.get("variables", [])}
        mutations = self.spec.get("mutations", [])
        self.applied = "".join(squeezed(m["applyConfiguration"]["expression"]) for m in mutations if "applyConfiguration" in m)
        self.patches = "".join(squeezed(m["jsonPatch"]["expression"]) for m in mutations if "jsonPatch" in m)
        validations = "".join(squeezed(validation["expression"]) + ";" for validation in self.spec.get("validations", []))
        self.text = ";".join([self.applied, self.patches, validations, *map(squeezed, self.variables.values())])

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def says(self, expression: str) -> bool:
        return squeezed(expression) in self.text


def squeezed(expression: str) -> str:
    return re.sub(r"\s+", "", expression)
