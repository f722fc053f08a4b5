"""An overlay as the cluster will have it: with the Deployments and Services that the operator makes of the SpinApps.

As a program it prints that as JSON: cluster.py OVERLAY.
"""

import json
import sys
from dataclasses import dataclass

import server_side_apply
import spin_operator
from rendering import OVERLAYS, find, of_kind, render


@dataclass
class Cluster:
    """What an overlay renders to, and what becomes of it."""

    overlay: str
    resources: list[dict]

    @property
    def apps(self) -> list[dict]:
        return of_kind(self.resources, "SpinApp")

    def parts(self, app: str) -> dict:
        """The part of the operator's Deployment that is ours."""
        return find(self.resources, "Deployment", app)

    def made(self, app: dict) -> dict:
        """The Deployment as the operator sends it."""
        return spin_operator.deployment(app, find(self.resources, "SpinAppExecutor", app["spec"]["executor"]))

    def deployment(self, app: dict) -> dict:
        """The Deployment as it is in the end."""
        return server_side_apply.merged(self.made(app), self.parts(app["metadata"]["name"]))

    def workloads(self) -> list[dict]:
        """What has pods, whole."""
        return [*map(self.deployment, self.apps), *of_kind(self.resources, "StatefulSet")]

    def complete(self) -> list[dict]:
        """All resources, the operator's included, with whole Deployments."""
        others = [resource for resource in self.resources if resource["kind"] != "Deployment"]
        return others + [make(app) for app in self.apps for make in (self.deployment, spin_operator.service)]


if __name__ == "__main__":
    overlay = sys.argv[1]
    print(json.dumps(Cluster(overlay, render(OVERLAYS / overlay)).complete()))
