"""An overlay as a cluster is given it: the operator makes the Deployments of its SpinApps there, and a half of each is ours."""

from dataclasses import dataclass

from rendering import find, of_kind


@dataclass
class Cluster:
    """What an overlay renders to."""

    resources: list[dict]

    @property
    def apps(self) -> list[dict]:
        return of_kind(self.resources, "SpinApp")

    def parts(self, app: str) -> dict:
        """Our half of a SpinApp's Deployment."""
        return find(self.resources, "Deployment", app)
