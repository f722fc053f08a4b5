"""The rules of server-side apply that decide whether two managers of one Deployment meet.

A manager owns the fields that it sends, each a leaf: a value, an atomic list or map, an empty object. An item of a list
with keys is the same item for both when its keys are equal, and its keys are owned by both. Which lists have keys and
what is atomic is read from the marks in Kubernetes' own OpenAPI schema.
"""

import functools
import json
from importlib import resources
from typing import Any, Iterator

from schemas import KUBERNETES

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
# What identifies the object: nobody owns it.
IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
# The schema has no defaults; this is the only one among the keys.
KEY_DEFAULTS = {"protocol": "TCP"}

Path = tuple[str, ...]


@functools.cache
def definitions() -> dict:
    file = f"kubernetes-json-schema/v{KUBERNETES}.0-local/_definitions.json"
    return json.loads(resources.files("kubernetes_validate").joinpath(file).read_text())["$defs"]


def resolved(schema: dict) -> dict:
    """The schema with what it refers to; marks beside the reference count, too."""
    if "$ref" not in schema:
        return schema
    return {**definitions()[schema["$ref"].rsplit("/", 1)[1]], **schema}


def field(schema: dict, name: str) -> dict:
    """The schema of a map's field."""
    return resolved(schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {})


def leaves(value: Any, schema: dict | None = None, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The fields that a manager who sends this owns, with their values."""
    schema = resolved(definitions()[DEPLOYMENT]) if schema is None else schema
    if path in IDENTITY:
        return
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        for name, child in value.items():
            yield from leaves(child, field(schema, name), (*path, name))
    elif isinstance(value, list) and list_keys(schema):
        for item in value:
            yield from leaves(item, resolved(schema["items"]), (*path, key_of(item, list_keys(schema))))
    else:
        yield path, value


def list_keys(schema: dict) -> list[str]:
    """The keys of a list that is merged item by item; none where it is atomic."""
    return schema.get("x-kubernetes-list-map-keys", [])


def key_of(item: dict, keys: list[str]) -> str:
    return "[" + ",".join(f"{key}={item.get(key, KEY_DEFAULTS.get(key))}" for key in keys) + "]"


def meeting(ours: dict, theirs: dict) -> list[str]:
    """Fields of ours that the other manager sends, too, and would overwrite."""
    sent = dict(leaves(theirs))
    conflicts = [path for path, value in leaves(ours) if path in sent and not is_key(path, value, sent[path])]
    # An empty object of theirs leaves what is in it alone; anything else of theirs above a field of ours would not.
    covered = [p for p, _ in leaves(ours) if any(p[:n] in sent and sent[p[:n]] != {} for n in range(1, len(p)))]
    return sorted(".".join(path) for path in conflicts + covered)


def is_key(path: Path, ours: Any, theirs: Any) -> bool:
    """Whether this is a list item's key, which both managers must send alike."""
    return len(path) > 1 and path[-2].startswith("[") and f"{path[-1]}={ours}" in path[-2] and ours == theirs


def merged(one: Any, other: Any, schema: dict | None = None) -> Any:
    """The object after both were applied; the managers must not meet."""
    schema = resolved(definitions()[DEPLOYMENT]) if schema is None else schema
    if one is None or other is None:
        return one if other is None else other
    if isinstance(one, dict):
        return {name: merged(one.get(name), other.get(name), field(schema, name)) for name in {**one, **other}}
    if isinstance(one, list) and list_keys(schema):
        items = {key_of(item, list_keys(schema)): item for item in one}
        for item in other:
            key = key_of(item, list_keys(schema))
            items[key] = merged(items.get(key), item, resolved(schema["items"]))
        return list(items.values())
    return other
