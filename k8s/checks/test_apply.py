"""What stays of our half of a Deployment when the operator applies its own, by the library that the API server uses."""

import copy
import json
import os
import subprocess
from pathlib import Path

import pytest

import server_side_apply
from cluster import Cluster
from rendering import OVERLAYS, render

# Where Debian puts Go libraries. It leaves the major version out of this one's path.
LIBRARIES = Path("/usr/share/gocode")
LIBRARY = "sigs.k8s.io/structured-merge-diff"
# What the server fills in where a Deployment says nothing.
DEFAULTS = {
    "spec": {
        "replicas": 1,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"spec": {"terminationGracePeriodSeconds": 30, "securityContext": {}, "restartPolicy": "Always"}},
    }
}


@pytest.fixture(scope="session")
def engine(tmp_path_factory) -> Path:
    """The compiled program."""
    path = tmp_path_factory.mktemp("go")
    (path / "src" / LIBRARY).mkdir(parents=True)
    (path / "src" / LIBRARY / "v4").symlink_to(LIBRARIES / "src" / LIBRARY)
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{path}:{LIBRARIES}"}
    source = Path(__file__).parent / "apply/main.go"
    subprocess.run(["go", "build", "-o", path / "apply", source], env=environment, check=True)
    return path / "apply"


@pytest.fixture(scope="session", params=["dob-api", "dob-api-schema"])
def halves(request) -> tuple[dict, dict]:
    """The operator's half of a Deployment and ours, without what only identifies them."""
    cluster = Cluster("primary", render(OVERLAYS / "primary"))
    app = next(app for app in cluster.apps if app["metadata"]["name"] == request.param)
    return fields(cluster.made(app)), fields(cluster.parts(request.param))


def fields(deployment: dict) -> dict:
    metadata = {name: deployment["metadata"][name] for name in ("labels", "annotations")}
    return {"metadata": metadata, "spec": deployment["spec"]}


def atom(schema: dict) -> dict:
    """A type of the OpenAPI schema as the library writes it."""
    schema = server_side_apply.resolved(schema)
    if "items" in schema:
        keys = server_side_apply.list_keys(schema)
        associative = keys or schema.get("x-kubernetes-list-type") == "set"
        relationship = {"elementRelationship": "associative" if associative else "atomic", **({"keys": keys} if keys else {})}
        return {"list": {"elementType": atom(schema["items"]), **relationship}}
    relationship = {"elementRelationship": schema.get("x-kubernetes-map-type", "separable")}
    if "properties" in schema:
        return {"map": {"fields": [named(*item) for item in schema["properties"].items()], **relationship}}
    if "additionalProperties" in schema:
        return {"map": {"elementType": atom(schema["additionalProperties"]), **relationship}}
    return {"scalar": "untyped"}


def named(name: str, schema: dict) -> dict:
    default = server_side_apply.KEY_DEFAULTS.get(name)
    return {"name": name, "type": atom(schema), **({"default": default} if default else {})}


def applied(engine: Path, *steps: tuple[str, bool, dict]) -> list[dict]:
    """The object after each step: a manager, whether it forces, and what it sends."""
    properties = server_side_apply.definitions()[server_side_apply.DEPLOYMENT]["properties"]
    kind = {"properties": {name: properties[name] for name in ("metadata", "spec")}}
    request = {
        "schema": {"types": [{"name": "deployment", **atom(kind)}]},
        "type": "deployment",
        "steps": [{"manager": manager, "force": force, "object": sent} for manager, force, sent in steps],
    }
    done = subprocess.run([engine], input=json.dumps(request), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def story(engine: Path, operators: dict, ours: dict) -> list[dict]:
    """Both halves are applied; then the operator applies another version, which leaves things out."""
    later = copy.deepcopy(operators)
    container = later["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "another"
    del container["env"], container["readinessProbe"], later["spec"]["template"]["spec"]["volumes"]
    return applied(
        engine,
        ("spin-operator", True, operators),
        ("", False, DEFAULTS),
        ("dob-rollout", False, ours),
        ("spin-operator", True, later),
        ("dob-rollout", False, ours),
    )


def held(state: dict, part: dict) -> bool:
    """Whether every field of a part is there with its value; an empty object may have been filled."""
    there = dict(server_side_apply.leaves(state))
    return all(value == {} or there.get(path) == value for path, value in server_side_apply.leaves(part))


def test_our_half_stays_when_the_operator_applies_its_own(engine, halves):
    operators, ours = halves
    _, _, both, later, last = story(engine, operators, ours)
    assert held(both, ours) and held(both, server_side_apply.merged(operators, ours))
    assert held(later, ours) and later == last
    container = later["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "another" and "env" not in container


def test_a_field_that_both_send_is_a_conflict(engine, halves):
    operators, ours = copy.deepcopy(halves)
    ours["spec"]["template"]["spec"]["serviceAccountName"] = "other"
    with pytest.raises(RuntimeError, match='conflict with "spin-operator": .spec.template.spec.serviceAccountName'):
        story(engine, operators, ours)


def test_the_defaults_come_back_when_our_half_is_not_applied(engine, halves):
    operators, ours = halves
    (_, defaulted) = applied(engine, ("spin-operator", True, operators), ("", False, DEFAULTS))
    assert not held(defaulted, ours)
