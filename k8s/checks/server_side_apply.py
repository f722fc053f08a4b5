"""The rules of server-side apply that decide whether two managers of one object meet.

A manager owns the fields that it sends, each a leaf: a value, an atomic list, an empty object. An item of a list with
keys is the same item for both when its keys are equal, and its keys are owned by both. Source: the Kubernetes
documentation of server-side apply and the x-kubernetes-list-type marks of the Deployment's OpenAPI schema.
"""

from typing import Any, Iterator

# Keys of the lists in a Deployment that are merged item by item; every other list is atomic.
LIST_KEYS = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "ports": ("containerPort", "protocol"),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
# What identifies the object: nobody owns it.
IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}

Path = tuple[str, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The fields that a manager who sends this owns, with their values."""
    if path in IDENTITY:
        return
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    elif isinstance(value, list) and path[-1] in LIST_KEYS:
        for item in value:
            yield from leaves(item, (*path, key_of(item, LIST_KEYS[path[-1]])))
    else:
        yield path, value


def key_of(item: dict, keys: tuple[str, ...]) -> str:
    return "[" + ",".join(f"{key}={item.get(key, 'TCP')}" for key in keys) + "]"


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


def merged(one: Any, other: Any, field: str = "") -> Any:
    """The object after both were applied; the managers must not meet."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: merged(one.get(key), other.get(key), key) for key in {**one, **other}}
    if field in LIST_KEYS and one is not None and other is not None:
        keys = LIST_KEYS[field]
        items = {key_of(item, keys): item for item in one}
        for item in other:
            items[key_of(item, keys)] = merged(items.get(key_of(item, keys)), item)
        return list(items.values())
    return one if other is None else other
