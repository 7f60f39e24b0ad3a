"""Nodes whose own prefix is too wide: they ask for others on their link that are not there.

Rules of this file:
1. The node sends to the peer on its own link, and gets no answer to ARP or neighbour discovery.
2. The peer's own prefix has not that node, or that of a neighbour that is reached has not the peer.
3. It reaches none of the kind: a router may answer in their place (proxy ARP), and that be meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_interface, ip_network
from typing import NamedTuple

from preflight.core.cover import transposed
from preflight.core.findings.claims import Cells, Claim, Claims, Told, ip
from preflight.core.findings.model import Cause, Change
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Node
from preflight.core.naming import Naming, members
from preflight.core.tables import Tables, Trail, refused
from preflight.core.terms import listed
from preflight.core.ways import unanswered

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
    alike: dict[tuple[Family, str, frozenset[int]], list[tuple[_Own, list[Cells]]]] = {}
    for node, told in sorted(tables.items()):
        for family in claims.ways:
            own = _own(claims, tables, node, told, family)
            if own is not None:
                cells = [claims.take(family, _claims(node, way)) for way in own.ways]
                kept = [way for way, got in zip(own.ways, cells, strict=True) if got]
                if kept:
                    key = family, _network(claims, own), frozenset(way.peer for way in kept)
                    alike.setdefault(key, []).append((own._replace(ways=kept), cells))
    for (_, network, strangers), every in alike.items():
        told_of = _told(claims, tables, network, sorted(strangers), [own for own, _ in every])
        claims.tell([part for _, cells in every for part in cells], told_of)


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

    came = claims.ways[family].came.get(node, 0)
    inside = [n for n in tables if _has(claims, node, length, n, family) and came >> n & 1]
    if any(lacks(n, node) for n in inside):
        return None
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
    drops = refused(way.back)
    yield Claim(there, lambda outcome: outcome.cause is CellCause.NO_NEIGHBOUR)
    yield Claim(
        transposed(there),
        lambda outcome: unanswered(outcome) and (outcome.leg is Leg.REPLY or drops),
    )


def _network(claims: Claims, own: _Own) -> str:
    mine = claims.matrix.nodes[own.node].address_in(own.family)
    return str(ip_network(f"{mine}/{own.length}", strict=False))


def _told(
    claims: Claims,
    tables: Mapping[int, Tables],
    network: str,
    strangers: Sequence[int],
    every: Sequence[_Own],
) -> Told:
    nodes, family = claims.matrix.nodes, every[0].family
    naming, senders = Naming(nodes), sum(1 << own.node for own in every)
    alone = len(every) == 1
    who = naming.name(senders)
    peers = naming.name(sum(1 << n for n in strangers), senders if alone else 0)
    asks = "neighbour discovery" if family is Family.IPV6 else "ARP"
    device = every[0].ways[0].device
    at = f" dev {device}" if device else ""
    on_link = f"`{ip(family)} route` on {who}: {network}{at}, without a gateway"
    shown = [f"{on_link}; nobody there answers {asks} for {peers}"]
    near = list(members(every[0].beside)) if alone else []
    if near:
        having = _having(nodes, tables, near, family)
        shown.append(f"beside it, on the same link, {listed(having)}: without {peers}")
    known = [n for n in strangers if _length(tables.get(n), family) is not None]
    if known:
        shown.append(listed(_having(nodes, tables, known, family)))
    changes = [change for own in every for change in _changes(claims, tables, own)]
    it, its, makes = ("it", "its", "makes it") if alone else ("they", "their", "make them")
    which = "address" if alone else "addresses"
    mine = nodes[every[0].node].address_in(family)
    what = f"{mine}/{every[0].length}" if alone else f"in {network}"
    takes = "then sends" if alone else "then send"
    advice = (
        f"Give {who} the prefix length of {its} link{_right(tables, every[0])}: {it} {takes} what "
        f"is for {peers} to the gateway. See `{ip(family)} route show default` afterwards."
    )
    title = (
        f"{who}: {its} own {which} {what} {makes} take {peers} for neighbours on {its} own link, "
        f"where nobody answers {asks}"
    )
    return Told(Cause.ADDRESS, title, [own.node for own in every], shown, changes, advice)


def _better(tables: Mapping[int, Tables], own: _Own) -> int | None:
    """The length that all its right neighbours have."""
    lengths = {_length(tables[n], own.family) for n in members(own.beside)}
    return lengths.pop() if len(lengths) == 1 else None


def _right(tables: Mapping[int, Tables], own: _Own) -> str:
    better = _better(tables, own)
    return f" (/{better}, as beside it)" if better is not None else ""


def _changes(claims: Claims, tables: Mapping[int, Tables], own: _Own) -> Iterator[Change]:
    """In this order the node is never without its address; IPv6 takes no second length of it."""
    node, device, better = claims.matrix.nodes[own.node], own.ways[0].device, _better(tables, own)
    if own.family is Family.IPV4 and better is not None and device:
        mine = node.address_in(own.family)
        commands = (
            f"ip addr add {mine}/{better} dev {device}",
            f"ip addr del {mine}/{own.length} dev {device}",
        )
        yield Change(node.name, "ip", commands, (_LASTS,))


def _having(
    nodes: Sequence[Node], tables: Mapping[int, Tables], some: Sequence[int], family: Family
) -> list[str]:
    """`n4 has 10.0.0.4/24`, where that is known."""
    out = []
    for n in some[:_SHOWN]:
        node, length = nodes[n], _length(tables.get(n), family)
        out.append(f"{node.name} has {node.address_in(family)}/{length}")
    return [*out, *([f"{len(some) - _SHOWN} more"] if len(some) > _SHOWN else [])]
