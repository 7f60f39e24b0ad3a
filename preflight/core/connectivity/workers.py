"""Which nodes take the check's pods, which tolerate nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from preflight.core.connectivity.values import record, records, text

_KEEPS_OUT = frozenset({"NoSchedule", "NoExecute"})


class Workers(NamedTuple):
    """The cluster's nodes, by name, as the check sees them."""

    taking: tuple[str, ...]
    others: tuple[tuple[str, str], ...]  # and why they do not
    mixed: bool  # some run another system than Linux
    addresses: Mapping[str, tuple[str, ...]]  # of all nodes


def workers(nodes: Iterable[Mapping[str, object]]) -> Workers:
    """Read v1 Nodes."""
    taking, others, mixed = [], [], False
    addresses: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        metadata, spec, status = (record(node, k) for k in ("metadata", "spec", "status"))
        name = text(metadata, "name")
        system = text(record(metadata, "labels"), "kubernetes.io/os") or "linux"
        addresses[name] = tuple(
            text(a, "address")
            for a in records(status, "addresses")
            if text(a, "type") == "InternalIP"
        )
        mixed = mixed or system != "linux"
        why = system if system != "linux" else _why_not(spec, status)
        if why:
            others.append((name, why))
        else:
            taking.append(name)
    return Workers(tuple(sorted(taking)), tuple(sorted(others)), mixed, addresses)


def _why_not(spec: Mapping[str, object], status: Mapping[str, object]) -> str:
    if spec.get("unschedulable") is True:
        return "cordoned"
    for taint in records(spec, "taints"):
        if text(taint, "effect") in _KEEPS_OUT:
            return f"taint {text(taint, 'key')}"
    for condition in records(status, "conditions"):
        if text(condition, "type") == "Ready" and text(condition, "status") != "True":
            return "not ready"
    return ""
