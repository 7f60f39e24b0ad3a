"""What a running cluster says of its nodes and of Cilium, from the API server's own objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from preflight.core.cilium.remarks import Remark
from preflight.core.cluster.model import CiliumNode
from preflight.core.model import Connection, Node, Severity, family_of

_ROLE_LABEL = "node-role.kubernetes.io/"
_ROLES = {
    "control-plane": "control-plane",
    "master": "control-plane",  # before Kubernetes 1.24
    "etcd": "etcd",
}
# Label of ours, and those of Kubernetes that say it, the newer one first.
_PLACES = {
    "zone": ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    "region": ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
}
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What was read from a cluster."""

    source: str  # for messages: `cluster prod`
    nodes: tuple[Node, ...]
    config: Mapping[str, str] | None  # ConfigMap kube-system/cilium-config; None: not known
    notes: tuple[str, ...] = ()
    no_config: str = ""  # why there is none
    nodes_known: bool = True  # the list of nodes could be read
    cilium_nodes: tuple[CiliumNode, ...] | None = None  # None: not asked for, or not known
    no_cilium_nodes: str = ""  # why they are not known
    clusterwide: tuple[Mapping[str, Any], ...] = ()  # policies; none where they could not be read


def nodes_of(objects: Iterable[Mapping[str, Any]]) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """The nodes of `v1/Node` objects, and what is to be said of those that cannot be used."""
    nodes, notes = [], []
    for one in objects:
        meta = _mapping(one.get("metadata"))
        name = str(meta.get("name", ""))
        addresses = tuple(_internal(one))
        if not addresses:
            notes.append(f"{name} has no InternalIP in the cluster: it was left out")
            continue
        labels = {str(k): str(v) for k, v in _mapping(meta.get("labels")).items()}
        nodes.append(
            Node(name, addresses, addresses[0], Connection.SSH, labels=dict(_labels(labels)))
        )
    return tuple(nodes), tuple(notes)


def _internal(one: Mapping[str, Any]) -> Iterator[str]:
    """The first InternalIP of each family, in the order of the kubelet's: the first is its own."""
    seen = set()
    listed = _mapping(one.get("status")).get("addresses")
    for entry in listed if isinstance(listed, list) else ():
        fields = _mapping(entry)
        if fields.get("type") != "InternalIP":
            continue
        try:
            address = str(ip_address(str(fields.get("address", ""))))
        except ValueError:
            continue
        if family_of(address) not in seen:
            seen.add(family_of(address))
            yield address


def _labels(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    roles = {
        _ROLES.get(key.removeprefix(_ROLE_LABEL), "")
        for key in labels
        if key.startswith(_ROLE_LABEL)
    }
    # EKS Anywhere's workers have no role label; what is no control plane takes pods.
    yield "role", next((role for role in ("control-plane", "etcd") if role in roles), "worker")
    for ours, keys in _PLACES.items():
        value = next((labels[key] for key in keys if labels.get(key)), None)
        if value is not None:
            yield ours, value


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def compare(known: Sequence[Node], file: str, facts: ClusterFacts) -> list[Remark]:
    """An inventory's nodes against the cluster's."""
    by_name = {node.name: node for node in facts.nodes}
    shorts = Counter(node.name.partition(".")[0] for node in facts.nodes)
    by_short = {
        short: node for node in facts.nodes if shorts[short := node.name.partition(".")[0]] == 1
    }
    by_address = {a: node for node in facts.nodes for a in node.addresses}
    met: set[str] = set()
    absent, moved = [], []
    for node in known:
        # An address says more than a name that is alike, and less than the very name.
        owners = [by_address[a] for a in node.addresses if a in by_address]
        alike = by_short.get(node.name.partition(".")[0])
        there = by_name.get(node.name) or (owners[0] if owners else alike)
        if there is None:
            absent.append(node)
            continue
        met.add(there.name)
        wrong = [
            f"{node.name}: {address} in {file}, {other} in {facts.source}"
            for address in node.addresses
            if (other := there.address_in(family_of(address))) is not None and other != address
        ]
        if wrong:
            moved.append((node, wrong))
    missing = [node for node in facts.nodes if node.name not in met]
    return [*_moved(moved, file), *_missing(missing, file, facts), *_absent(absent, file, facts)]


def _moved(moved: Sequence[tuple[Node, list[str]]], file: str) -> Iterator[Remark]:
    if moved:
        who = _names([node for node, _ in moved])
        yield Remark(
            Severity.REQUIRED,
            f"{who}: the address that was tested is not the cluster's InternalIP",
            tuple(text for _, wrong in moved for text in wrong[:1])[:_SHOWN],
            f"Cilium sends to the InternalIP: write it as address: in {file}.",
            tuple(node.name for node, _ in moved),
        )


def _missing(missing: Sequence[Node], file: str, facts: ClusterFacts) -> Iterator[Remark]:
    if missing:
        yield Remark(
            Severity.RECOMMENDED,
            f"{_names(missing)} of {facts.source} {_is(missing)} not in {file}, and so not tested",
            tuple(f"{node.name}: {', '.join(node.addresses)}" for node in missing[:_SHOWN]),
            f"Add {'them' if len(missing) > 1 else 'it'} to {file}.",
        )


def _absent(absent: Sequence[Node], file: str, facts: ClusterFacts) -> Iterator[Remark]:
    if absent:
        yield Remark(
            Severity.RECOMMENDED,
            f"{_names(absent)} of {file} {_is(absent)} not in {facts.source}",
            tuple(f"{node.name}: {', '.join(node.addresses)}" for node in absent[:_SHOWN]),
            "A node that is to join, a spare, or another cluster's.",
            tuple(node.name for node in absent),
        )


def _is(nodes: Sequence[Node]) -> str:
    return "are" if len(nodes) > 1 else "is"


def _names(nodes: Sequence[Node]) -> str:
    shown = ", ".join(node.name for node in nodes[:_SHOWN])
    more = len(nodes) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
