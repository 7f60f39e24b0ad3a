"""Nodes whose own prefix is too wide: they ask for others on their link that are not there.

Rules of this file:
1. The node sends to the peer on its own link, and gets no answer to ARP or neighbour discovery.
2. The peer's own prefix has not that node, or that of a neighbour that is reached has not the peer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_interface, ip_network
from typing import NamedTuple

from preflight.core.cover import transposed
from preflight.core.findings.claims import Claim, Claims, Told, ip
from preflight.core.findings.model import Cause, Change
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Node
from preflight.core.naming import Naming, members
from preflight.core.tables import Tables, Trail
from preflight.core.terms import listed
from preflight.core.ways import unanswered

_TAKEN_IN = ("local", "")  # the latter is not known
_SHOWN = 4
_LASTS = (
    "Change it also where it comes from: the network's settings (netplan, NetworkManager, "
    "systemd-networkd), the DHCP server, or a start script."
)


class _Own(NamedTuple):
    """Peers that one node takes for neighbours, and those that show that they are none."""

    node: int
    family: Family
    length: int
    ways: list[Trail]
    beside: int  # the set of neighbours whose prefix is another, and has not these peers


def masks(claims: Claims, tables: Mapping[int, Tables]) -> None:
    """Claim what these explain."""
    for node, told in sorted(tables.items()):
        for family in claims.ways:
            own = _own(claims, tables, node, told, family)
            if own is not None:
                cells = [claims.take(family, _claims(node, way)) for way in own.ways]
                kept = [way for way, got in zip(own.ways, cells, strict=True) if got]
                if kept:
                    claims.tell(cells, _told(claims, tables, own._replace(ways=kept)))


def _own(
    claims: Claims, tables: Mapping[int, Tables], node: int, told: Tables, family: Family
) -> _Own | None:
    length = _length(told, family)
    ways = [w for w in told.trails if w.family is family and _on_its_link(w, node)]
    if length is None or not ways:
        return None
    beside = list(_neighbours(claims, tables, node, length, family))

    def lacks(other: int, peer: int) -> bool:
        there = _length(tables.get(other), family)
        return _has(claims, other, there, peer, family) is False

    wrong = [
        way
        for way in ways
        if _has(claims, node, length, way.peer, family)
        and (lacks(way.peer, node) or any(lacks(n, way.peer) for n in beside))
    ]
    right = sum(1 << n for n in beside if wrong and all(lacks(n, way.peer) for way in wrong))
    return _Own(node, family, length, wrong, right) if wrong else None


def _on_its_link(way: Trail, node: int) -> bool:
    return way.kind == "unicast" and way.own and not way.gateway and way.peer != node


def _neighbours(
    claims: Claims, tables: Mapping[int, Tables], node: int, length: int, family: Family
) -> Iterator[int]:
    """Nodes on the link, by either's prefix, that this one reaches."""
    came = claims.ways[family].came.get(node, 0)
    for other, told in tables.items():
        if other != node and came >> other & 1:
            there = _has(claims, node, length, other, family)
            if there and _has(claims, other, _length(told, family), node, family):
                yield other


def _length(told: Tables | None, family: Family) -> int | None:
    """The only one that its address has."""
    lengths = {length for over, length in told.lengths if over is family} if told else set()
    return lengths.pop() if len(lengths) == 1 else None


def _has(claims: Claims, node: int, length: int | None, other: int, family: Family) -> bool | None:
    """Whether that node's prefix has the other one's address; None where it is not known."""
    nodes = claims.matrix.nodes
    mine, address = nodes[node].address_in(family), nodes[other].address_in(family)
    if length is None or mine is None or address is None:
        return None
    return ip_interface(address).ip in ip_network(f"{mine}/{length}", strict=False)


def _claims(node: int, way: Trail) -> Iterator[Claim]:
    there = {node: 1 << way.peer}
    drops = way.back not in _TAKEN_IN
    yield Claim(there, lambda outcome: outcome.cause is CellCause.NO_NEIGHBOUR)
    yield Claim(
        transposed(there),
        lambda outcome: unanswered(outcome) and (outcome.leg is Leg.REPLY or drops),
    )


def _told(claims: Claims, tables: Mapping[int, Tables], own: _Own) -> Told:
    nodes, family = claims.matrix.nodes, own.family
    name, mine = nodes[own.node].name, nodes[own.node].address_in(family)
    strangers = sorted({way.peer for way in own.ways})
    peers = Naming(nodes).name(sum(1 << n for n in strangers), 1 << own.node)
    asks = "neighbour discovery" if family is Family.IPV6 else "ARP"
    network = ip_network(f"{mine}/{own.length}", strict=False)
    device = own.ways[0].device
    at = f" dev {device}" if device else ""
    on_link = f"`{ip(family)} route` on {name}: {network}{at}, without a gateway"
    shown = [f"{on_link}; nobody there answers {asks} for {peers}"]
    beside = list(members(own.beside))
    if beside:
        having = _having(nodes, tables, beside, family)
        shown.append(f"beside it, on the same link, {listed(having)}: without {peers}")
    known = [n for n in strangers if _length(tables.get(n), family) is not None]
    if known:
        shown.append(listed(_having(nodes, tables, known, family)))
    lengths = {_length(tables[n], family) for n in beside}
    right = lengths.pop() if len(lengths) == 1 else None
    changes = []
    if family is Family.IPV4 and right is not None and device:
        # In this order the node is never without its address.
        commands = (
            f"ip addr add {mine}/{right}{at}",
            f"ip addr del {mine}/{own.length}{at}",
        )
        changes = [Change(name, "ip", commands, (_LASTS,))]
    better = f"/{right}, as beside it" if right is not None else "that of its neighbours"
    advice = (
        f"Give {name} the prefix length of its link ({better}): it then sends what is for {peers} "
        f"to its gateway. See `{ip(family)} route show default` afterwards."
    )
    title = (
        f"{name}: its own address {mine}/{own.length} makes it take {peers} for neighbours on its "
        f"own link, where nobody answers {asks}"
    )
    return Told(Cause.ADDRESS, title, [own.node], shown, changes, advice)


def _having(
    nodes: Sequence[Node], tables: Mapping[int, Tables], some: Sequence[int], family: Family
) -> list[str]:
    """`n4 has 10.0.0.4/24`, where that is known."""
    out = []
    for n in some[:_SHOWN]:
        node, length = nodes[n], _length(tables.get(n), family)
        out.append(f"{node.name} has {node.address_in(family)}/{length}")
    return [*out, *([f"{len(some) - _SHOWN} more"] if len(some) > _SHOWN else [])]
