"""Rules to ask a firewall team for: what must pass between the nodes that a finding names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preflight.core.cover import cover
from preflight.core.findings.cidrs import cidrs
from preflight.core.findings.model import Block, Request
from preflight.core.findings.translation import Borne
from preflight.core.groups import FamilyProbe
from preflight.core.model import Node, Probe, ProbeKind, Protocol
from preflight.core.naming import members

_WHAT: Mapping[ProbeKind, str] = {
    ProbeKind.GENEVE: "Cilium GENEVE overlay between Kubernetes nodes; required",
    ProbeKind.VXLAN: "Cilium VXLAN overlay between Kubernetes nodes; required",
    ProbeKind.HEALTH: "Cilium health checks between Kubernetes nodes",
    ProbeKind.ECHO: "Cilium health checks (ping) between Kubernetes nodes",
}
_ONE_WAY = (
    "each direction is a flow of its own, with source ports of its own: what comes back is no "
    "reply, and needs a rule of its own"
)
_STATEFUL = "a stateful rule: its answers pass with it"
_ECHO = "ICMP type {request}, code 0; answers (type {answer}) pass with it"
_WIDENED = "the subnets hold no other node, but may hold other addresses"
_ANY = "any (1-65535)"
_HIGH = "any (1024-65535)"


def requests(
    nodes: Sequence[Node],
    probes: Sequence[Probe],
    tests: Sequence[FamilyProbe],
    blocks: Sequence[Block],
    borne: Borne | None = None,
) -> tuple[Request, ...]:
    """What a firewall between the nodes must let pass, so that no pair of `blocks` stays shut.

    `borne` are addresses that nodes' packets have instead of their own: they are asked for, too.
    As few for each test and direction as its pairs need, however the blocks cut them. No CIDR holds
    the address of a node that is not meant.
    """
    found: dict[Request, None] = {}
    for test in tests:
        own = [b for b in blocks if not b.tests or test in b.tests]
        for sources, destinations in _ways(len(nodes), own):
            for request in _request(
                nodes, probes[test.probe], test, sources, destinations, borne or {}
            ):
                found.setdefault(request)
    return tuple(found)


def _ways(nodes: int, blocks: Sequence[Block]) -> list[tuple[int, int]]:
    """The blocks' pairs as few sources times destinations as can be, both as sets of nodes."""
    rows: dict[int, int] = {}
    for block in blocks:
        sides = [sum(1 << n for n in side) for side in (block.sources, block.destinations)]
        for sources, destinations in (sides, sides[::-1])[: 1 + block.both_ways]:
            for source in members(sources):
                rows[source] = rows.get(source, 0) | destinations
    found = (_others(*way) for way in cover(rows, [(1 << nodes) - 1] * nodes, ()))
    ways = [way for way in found if all(way)]
    return sorted(ways, key=lambda way: [side & -side for side in way])  # as in the inventory


def _others(sources: int, destinations: int) -> tuple[int, int]:
    """The same without the way of one node to itself."""
    if sources.bit_count() == 1:
        return sources, destinations & ~sources
    if destinations.bit_count() == 1:
        return sources & ~destinations, destinations
    return sources, destinations


def _request(
    nodes: Sequence[Node],
    probe: Probe,
    test: FamilyProbe,
    sources: int,
    destinations: int,
    borne: Borne,
) -> Iterator[Request]:
    """One request for each cluster: nodes of different ones need not talk."""
    clusters = dict.fromkeys(nodes[n].cluster for n in members(sources))
    for cluster in clusters:
        sides = []
        foreign = {
            nodes[n].name: borne[n, test]
            for n in members(sources)
            if nodes[n].cluster == cluster and (n, test) in borne
        }
        for side in (sources, destinations):
            chosen = (nodes[n] for n in members(side) if nodes[n].cluster == cluster)
            meant = {a for n in chosen if (a := n.address_in(test.family)) is not None}
            meant |= set(foreign.values()) if side is sources else set()
            others = {a for n in nodes for a in n.addresses} - meant
            sides.append(cidrs(meant, others))
        there, back = sides
        if not there.texts or not back.texts:
            continue
        reason = _reason(probe, test, foreign, exact=there.exact and back.exact)
        yield Request(
            there.texts,
            back.texts,
            probe.protocol,
            probe.port,
            _source_ports(probe),
            str(test.family),
            reason,
        )


def _source_ports(probe: Probe) -> str:
    if probe.protocol is Protocol.ICMP:
        return ""
    if probe.source_ports is not None:
        return f"{probe.source_ports[0]}-{probe.source_ports[1]}"
    return _ANY if probe.one_way else _HIGH


def _reason(probe: Probe, test: FamilyProbe, foreign: Mapping[str, str], *, exact: bool) -> str:
    parts = [probe.purpose or _WHAT.get(probe.kind, "Kubernetes nodes")]
    if probe.protocol is Protocol.ICMP:
        request, answer = (128, 129) if test.family == "ipv6" else (8, 0)
        parts.append(_ECHO.format(request=request, answer=answer))
    else:
        parts.append(_ONE_WAY if probe.one_way else _STATEFUL)
    parts += [f"{node}'s packets bear {address} now" for node, address in foreign.items()]
    if not exact:
        parts.append(_WIDENED)
    return "; ".join(parts)
