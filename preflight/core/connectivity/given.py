"""A manifest of the user's own: which of its objects are made, and what is waited for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from preflight.core.connectivity.manifest import PART_OF, Object
from preflight.core.connectivity.pods import Expected
from preflight.core.connectivity.workloads import KNOWN

WAITED_FOR = ("Deployment", "DaemonSet", "StatefulSet", "Job", "Pod")


class ManifestError(ValueError):
    """Not a manifest that can be used; the text says where and why."""


class Given(NamedTuple):
    """What a file holds."""

    objects: tuple[Object, ...]  # in its order, for the namespace of the check
    plan: tuple[Expected, ...]
    notes: tuple[str, ...]


def given(documents: Iterable[object], namespace: str) -> Given:
    """From a file's YAML documents. Raises ManifestError."""
    objects: list[Object] = []
    plan: dict[tuple[str, str], Expected] = {}
    moved: set[str] = set()
    names: dict[str, str] = {}
    for number, document in enumerate(documents, 1):
        for one in _flat(document, f"document {number}"):
            kind, metadata = str(one["kind"]), dict(one["metadata"])
            name = str(metadata["name"])
            if kind == "Namespace":
                continue
            if metadata.get("namespace", namespace) != namespace:
                moved.add(str(metadata["namespace"]))
            labels = metadata.get("labels")
            metadata["labels"] = {**(labels if isinstance(labels, dict) else {}), **PART_OF}
            objects.append({**one, "metadata": {**metadata, "namespace": namespace}})
            if kind in WAITED_FOR:
                if names.setdefault(name, kind) != kind:
                    raise ManifestError(f"{kind} {name}: a {names[name]} has that name already")
                plan[kind, name] = Expected(kind, name, kind == "Deployment" and name in KNOWN)
    if not plan:
        raise ManifestError(f"no {', '.join(WAITED_FOR[:-1])} or {WAITED_FOR[-1]} in it")
    notes = [f"made in {namespace}, and not in {other} as it says" for other in sorted(moved)]
    return Given(tuple(objects), tuple(plan.values()), tuple(notes))


def _flat(document: object, where: str) -> Iterable[Mapping[str, Any]]:
    """The objects of one document; a List is what it holds."""
    if document is None:
        return
    if not isinstance(document, dict):
        raise ManifestError(f"{where}: not an object of Kubernetes")
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str):
        raise ManifestError(f"{where}: without kind and apiVersion")
    items = document.get("items")
    if kind.endswith("List") and isinstance(items, list):
        for position, item in enumerate(items):
            yield from _flat(item, f"{where}, items[{position}]")
        return
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise ManifestError(f"{where}: {kind} without metadata.name")
    yield document
