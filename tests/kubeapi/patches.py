"""The kinds of patches: RFC 7386, RFC 6902, and Kubernetes' strategic merge."""

import copy
from typing import Any

from kubeapi.answers import ApiError, bad

# Lists whose members a strategic merge knows by one of their fields: where there are two names,
# the first that the member has.
_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "port"),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "conditions": ("type",),
    "addresses": ("type",),
    "taints": ("key",),
    "ownerReferences": ("uid",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey",),
}
_UNIONS = ("finalizers", "podCIDRs")


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def strategic(target: Any, patch: Any) -> Any:
    """A strategic merge of objects."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    patch = dict(patch)
    if patch.pop("$patch", None) == "replace":
        return copy.deepcopy(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            out[name] = [v for v in out.get(name) or () if v not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            out.pop(key, None)
        elif isinstance(value, list):
            out[key] = _list(key, out.get(key) or [], value)
        else:
            out[key] = strategic(out.get(key), value)
    return out


def _list(name: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if name in _UNIONS:
        return [*target, *(v for v in patch if v not in target)]
    if name not in _KEYS or not all(isinstance(v, dict) for v in [*target, *patch]):
        return copy.deepcopy(patch)
    if any(v.get("$patch") == "replace" for v in patch):
        return [copy.deepcopy(v) for v in patch if "$patch" not in v]

    def key(member: dict[str, Any]) -> Any:
        return next((member[k] for k in _KEYS[name] if k in member), None)

    out = list(target)
    for member in patch:
        there = next((i for i, v in enumerate(out) if key(v) == key(member)), None)
        if member.get("$patch") == "delete":
            if there is not None:
                del out[there]
        elif there is None:
            out.append(strategic({}, member))
        else:
            out[there] = strategic(out[there], member)
    return out


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902."""
    if not isinstance(operations, list):
        raise bad("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    out = copy.deepcopy(target)
    for operation in operations:
        try:
            out = _operate(out, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(
                422,
                "Invalid",
                f"the server rejected our request due to an error in our request: "
                f"{operation.get('op')} {operation.get('path')}: {error}",
            ) from error
    return out


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "replace":
            document, _ = _take(document, path)
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            return _take(document, path)[0]
        case "move":
            document, value = _take(document, _pointer(operation["from"]))
            return _add(document, path, value)
        case "copy":
            return _add(document, path, copy.deepcopy(_at(document, _pointer(operation["from"]))))
        case "test":
            if _at(document, path) != operation["value"]:
                raise ValueError("testing value failed")
            return document
        case other:
            raise ValueError(f"unexpected kind: {other}")


def _pointer(text: str) -> list[str]:
    if not text:
        return []
    if not text.startswith("/"):
        raise ValueError(f"not a pointer: {text}")
    return [step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/")]


def _at(document: Any, path: list[str]) -> Any:
    for step in path:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else int(last), value)
    else:
        parent[last] = value
    return document


def _take(document: Any, path: list[str]) -> tuple[Any, Any]:
    parent, last = _at(document, path[:-1]), path[-1]
    return document, parent.pop(int(last) if isinstance(parent, list) else last)
