"""Nodes that send to the wrong MAC address, by their own neighbour tables.

Rules of this file:
1. A MAC address that differs proves nothing where anything arrives: it may be a router's that
   answers for others, or one of several of a virtual router.
2. On a link it is wrong where frames leave, none arrives, and the destination has no device with
   that MAC address. An entry that is permanent was set by somebody; another one was learnt, and
   only what is seen is said of it.
3. A gateway's entry is suspect where it is permanent, nothing gets through by it, and other nodes
   get through by the same gateway with another MAC address. Even then it is told as a hint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from preflight.core.cover import transposed
from preflight.core.findings.claims import Cells, Claim, Claims, Told, ip, lasting
from preflight.core.findings.model import Cause, Change
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Outcome
from preflight.core.naming import Naming
from preflight.core.tables import Gateway, Hop, Tables
from preflight.core.terms import listed
from preflight.core.ways import lost_back, lost_there

_SHOWN = 4
_LASTING = lasting("/etc/ethers")


class _Entry(NamedTuple):
    """A wrong one."""

    node: int
    hop: Hop


def neighbours(claims: Claims, tables: Mapping[int, Tables]) -> None:
    """Claim what these explain."""
    wrong = [
        _Entry(node, hop)
        for node, told in sorted(tables.items())
        for hop in told.hops
        if _is_wrong(claims, tables, node, hop)
    ]
    alike: dict[object, list[_Entry]] = {}
    for entry in wrong:
        alike.setdefault((entry.hop.peer, entry.hop.mac, entry.hop.permanent), []).append(entry)
    several = [own for own in alike.values() if len({e.node for e in own}) > 1]
    rest: dict[object, list[_Entry]] = {}
    for own in alike.values():
        if own not in several:
            for entry in own:
                rest.setdefault((entry.node, entry.hop.permanent), []).append(entry)
    for own in (*several, *rest.values()):
        _tell(claims, tables, own)
    for node, told in sorted(tables.items()):
        for gateway in told.gateways:
            _gateway(claims, tables, node, gateway)


def _is_wrong(claims: Claims, tables: Mapping[int, Tables], node: int, hop: Hop) -> bool:
    peer = claims.matrix.nodes[hop.peer].address_in(hop.family)
    there = tables.get(hop.peer)
    if (
        peer is None
        or there is None
        or there.macs is None
        or ip_address(peer) != ip_address(hop.address)
    ):
        return False
    if not claims.ways[hop.family].dead(node) >> hop.peer & 1 or hop.mac in there.macs:
        return False
    # What answers for many addresses is a router or a cloud's network, and may well be meant to.
    return hop.permanent or not hop.shared


def _lost(node: int, peers: int) -> Iterator[Claim]:
    """What goes from that node to these, probes and answers."""
    yield Claim({node: peers}, lost_there)
    yield Claim(transposed({node: peers}), lost_back)


def _unfound(outcome: Outcome) -> bool:
    return outcome.cause is CellCause.NO_NEIGHBOUR


def _tell(claims: Claims, tables: Mapping[int, Tables], own: Sequence[_Entry]) -> None:
    cells: list[Cells] = []
    for entry in own:
        cells.append(claims.take(entry.hop.family, _lost(entry.node, 1 << entry.hop.peer)))
        if entry.hop.family is Family.IPV6:
            # An advertisement goes where the entry says, an ARP reply to who asked.
            unfound = Claim({entry.hop.peer: 1 << entry.node}, _unfound)
            cells.append(claims.take(Family.IPV6, [unfound]))
    naming, nodes = Naming(claims.matrix.nodes), claims.matrix.nodes
    senders = naming.name(sum({1 << entry.node for entry in own}))
    peers = naming.name(sum({1 << entry.hop.peer for entry in own}))
    hop = own[0].hop
    if hop.permanent:
        one = len({(entry.node, entry.hop.address) for entry in own}) == 1
        title = f"{senders}'s neighbour entry for {peers} is permanent and wrong"
        if not one:
            title = f"{senders}: permanent neighbour entries for {peers} are wrong"
    else:
        title = f"{senders} → {peers}: another machine answers for the address {hop.address}"
        if len({entry.hop.peer for entry in own}) > 1:
            title = f"{senders} → {peers}: other machines answer for their addresses"
    changes = [_removal(nodes[e.node].name, e.hop) for e in own if hop.permanent and e.hop.device]
    advice = ""
    if not hop.permanent:
        advice = (
            "Find the machine by its MAC address in the switches' tables: it has the address, too, "
            "or answers in its place (proxy ARP, a router's or hypervisor's). Where it is meant "
            "to, look at what it does with these packets."
        )
    told = [sentence for entry in own[:_SHOWN] for sentence in _seen(claims, tables, entry)]
    who = sorted({entry.node for entry in own}) if hop.permanent else ()
    claims.tell(
        cells, Told(Cause.NEIGHBOUR, title, who, list(dict.fromkeys(told)), changes, advice)
    )


def _seen(claims: Claims, tables: Mapping[int, Tables], entry: _Entry) -> Iterator[str]:
    nodes, hop = claims.matrix.nodes, entry.hop
    how = " PERMANENT" if hop.permanent else ""
    at = f" dev {hop.device}" if hop.device else ""
    shown = f"`{ip(hop.family)} neigh` on {nodes[entry.node].name}"
    yield f"{shown}: {hop.address}{at} lladdr {hop.mac}{how}"
    there = tables[hop.peer].macs or frozenset()
    name = nodes[hop.peer].name
    few = f": it has {listed(sorted(there))}" if 0 < len(there) <= _SHOWN else ""
    yield f"{name} has no device with that MAC address{few}; frames left, and none arrived there"
    owners = [nodes[n].name for n, told in sorted(tables.items()) if hop.mac in (told.macs or ())]
    if owners:
        yield f"{hop.mac} is {listed(owners[:_SHOWN])}'s own"


def _removal(node: str, hop: Hop | Gateway) -> Change:
    command = f"{ip(hop.family)} neigh del {hop.address} dev {hop.device}"
    return Change(node, "ip", (command,), (_LASTING,))


# --- gateways


def _gateway(claims: Claims, tables: Mapping[int, Tables], node: int, own: Gateway) -> None:
    ways = claims.ways[own.family]
    gone = ways.lost.get(node, 0) & own.peers
    passes = ways.came.get(node, 0) | ways.rejected.get(node, 0)
    if not own.permanent or not gone or passes & own.peers:
        return
    others = {
        n: gateway
        for n, told in sorted(tables.items())
        for gateway in told.gateways
        if (gateway.family, gateway.address) == (own.family, own.address)
        and n != node
        and ways.came.get(n, 0) & gateway.peers
    }
    if not others or any(gateway.mac == own.mac for gateway in others.values()):
        return
    nodes = claims.matrix.nodes
    name = nodes[node].name
    witness, right = next(iter(others.items()))
    at = f" dev {own.device}" if own.device else ""
    cells = claims.take(own.family, _lost(node, gone))
    told = Told(
        Cause.NEIGHBOUR,
        f"{name}'s neighbour entry for its gateway {own.address} is permanent, and not the MAC "
        f"address by which {nodes[witness].name} gets through",
        [node],
        [
            f"`{ip(own.family)} neigh` on {name}: {own.address}{at} lladdr {own.mac} PERMANENT",
            f"{nodes[witness].name} reaches {own.address} at {right.mac}, and gets through",
            f"nothing that {name} sends by that gateway arrives",
        ],
        [_removal(name, own)] if own.device else [],
        "A gateway address may be several routers' (VRRP, HSRP): if both MAC addresses are right, "
        f"look at the router that has {own.mac} instead.",
    )
    claims.tell([cells], told)
