"""The overlay's probes: to which nodes' health endpoints, and how much hangs on them.

Every Cilium agent has a health endpoint: a pod of its own, with an address of the pod network, that
answers ICMP echo and `GET /hello`. What reaches it from other nodes is what reaches pods.

Rules that live here:

1. Nothing is planned where the cluster's configuration turns the endpoints off, nor to or from a
   node without one: that there is none says nothing about the network.
2. `overlay-health` is required, as pods live on TCP; `overlay-echo` is recommended. With policies
   always enforced both are recommended: then they may be refused on purpose (cilium/cilium#14871).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import NamedTuple

from preflight.core.cilium.config import Encryption, Installation, Routing
from preflight.core.cilium.health_policies import Suspects, suspects
from preflight.core.cilium.probes import describe
from preflight.core.cluster.model import CiliumNode
from preflight.core.model import Family, Node, Probe, ProbeKind, Protocol, Severity, family_of
from preflight.core.terms import listed

_SHOWN = 6
_POLICY, _HOST_FIREWALL = "enable-policy", "enable-host-firewall"
_CHECKS, _ENDPOINTS = "enable-health-checking", "enable-endpoint-health-checking"
_OFF = ("false", "f", "0")


@dataclass(frozen=True, slots=True)
class Overlay:
    """What else the cluster says of the overlay: for whoever explains why it carries nothing."""

    source: str
    installed: str  # `GENEVE on UDP 6081`
    native: bool  # no tunnel: the network itself carries pods' packets
    encryption: Encryption = Encryption.NONE
    policy: str = "default"  # `default`, `always` or `never`
    host_firewall: bool = False
    pod_ranges: tuple[str, ...] = ()  # that the agents give out, as far as they say so
    suspects: Suspects = field(default_factory=Suspects)  # policies that may keep nodes out of them


class Planned(NamedTuple):
    """The overlay's part of a check; without probes `notes` say why."""

    probes: tuple[Probe, ...]
    nodes: tuple[Node, ...]
    overlay: Overlay | None
    notes: tuple[str, ...]


def plan(
    it: Installation,
    data: Mapping[str, str],
    nodes: Sequence[Node],
    known: Sequence[CiliumNode] | None,
    unread: str,
    clusterwide: Sequence[Mapping[str, object]] = (),
) -> Planned:
    """What to test, and the nodes with their endpoints' addresses.

    `data` is the ConfigMap of `it`; `known` None where the objects could not be read, and then
    `unread` says why. `clusterwide` are the policies for the whole cluster that are known.
    """
    off = next((k for k in (_CHECKS, _ENDPOINTS) if data.get(k, "").lower() in _OFF), None)
    if off is not None:
        return _without(
            nodes, f"{it.source} has {off}: {data[off]}, so that there is nobody to ask"
        )
    if known is None:
        return _without(nodes, unread)
    found = {node.name: one for node in nodes if (one := _of(node, known)) is not None}
    own = {node.name: _usable(found[node.name], nodes) for node in nodes if node.name in found}
    shared = {a for a, n in Counter(a for own in own.values() for a in own).items() if n > 1}
    out = [
        replace(
            node,
            endpoints=tuple(
                a for a in own.get(node.name, ()) if a not in shared and family_of(a) in it.families
            ),
        )
        for node in nodes
    ]
    notes = list(_left_out(out, shared))
    families = [f for f in it.families if sum(n.endpoint_in(f) is not None for n in out) > 1]
    if not families:
        why = "fewer than two of these nodes have a health endpoint, by their CiliumNode objects"
        return _without(nodes, f"{why} in {it.source}")
    policy = data.get(_POLICY, "").lower() or "default"
    always = policy == "always"
    overlay = Overlay(
        it.source,
        describe(it),
        it.routing is Routing.NATIVE,
        it.encryption,
        policy,
        data.get(_HOST_FIREWALL, "").lower() in ("true", "t", "1"),
        tuple(_ranges(data)),
        Suspects() if policy == "never" else suspects(clusterwide, it.health_port),
    )
    if always:
        notes.append(
            f"{it.source} always enforces policies ({_POLICY}: always): without a policy that lets "
            f"them in, health endpoints refuse everybody, so what is said of the overlay is "
            f"recommended alone"
        )
    return Planned(_probes(it, families, always=always), tuple(out), overlay, tuple(notes))


def _probes(it: Installation, families: Sequence[Family], *, always: bool) -> tuple[Probe, ...]:
    purpose = "Cilium's health endpoints: as one pod reaches another"
    needed = Severity.RECOMMENDED if always else Severity.REQUIRED
    echo = Probe(
        "overlay-echo", ProbeKind.OVERLAY_ECHO, Protocol.ICMP, None, Severity.RECOMMENDED,
        families=tuple(families), purpose=purpose,
    )  # fmt: skip
    health = Probe(
        "overlay-health", ProbeKind.OVERLAY_HEALTH, Protocol.TCP, it.health_port, needed,
        families=tuple(families), purpose=purpose,
    )  # fmt: skip
    return echo, health


def _without(nodes: Sequence[Node], why: str) -> Planned:
    return Planned((), tuple(nodes), None, (f"the overlay is not tested: {why}",))


def _of(node: Node, known: Sequence[CiliumNode]) -> CiliumNode | None:
    """By name, else by an address: an inventory may call its nodes otherwise."""
    named = next((one for one in known if one.name == node.name), None)
    if named is not None:
        return named
    at = [one for one in known if set(node.addresses) & set(_plain(one.internal))]
    return at[0] if len(at) == 1 else None


def _usable(one: CiliumNode, nodes: Sequence[Node]) -> tuple[str, ...]:
    """Its endpoint's addresses, those left out that can be none of a pod."""
    taken = {address for node in nodes for address in node.addresses}
    found: dict[Family, str] = {}
    for address in _plain(one.health):
        ip = ip_address(address)
        odd = ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local
        if not odd and address not in taken:
            found.setdefault(family_of(address), address)
    return tuple(found.values())


def _plain(addresses: Sequence[str]) -> Iterator[str]:
    """Those that are addresses, as everything here writes them."""
    for address in addresses:
        try:
            yield str(ip_address(address))
        except ValueError:
            continue


def _left_out(nodes: Sequence[Node], shared: set[str]) -> Iterator[str]:
    without = [node.name for node in nodes if not node.endpoints]
    if without:
        more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        yield (
            f"the overlay is not tested to and from {', '.join(without[:_SHOWN])}{more}: no "
            f"CiliumNode object gives a health endpoint's address there"
        )
    if shared:
        yield (
            f"{listed(sorted(shared)[:_SHOWN])}: several CiliumNode objects give this address to "
            f"their health endpoint, so it was not tested"
        )


def _ranges(data: Mapping[str, str]) -> Iterator[str]:
    for key in ("cluster-pool-ipv4-cidr", "cluster-pool-ipv6-cidr"):
        yield from data.get(key, "").replace(",", " ").split()
