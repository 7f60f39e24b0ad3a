"""Routes of a node that lead what it sends to another one astray, by name.

Rules of this file:
1. A next hop that is another node of the run is wrong where none of that node's devices forwards,
   frames for the peer left and none arrived. One that forwards may be meant to.
2. A device that has not the node's own address, or a gateway, is wrong where nobody there answers
   ARP or neighbour discovery, nothing that the node sends by it arrives, and the node reaches
   others by another way: else the node, the link or the router may be what is broken. Nor where
   other nodes get through by that gateway.
3. A `local` route for a peer's address keeps what is sent there, as an address of its own would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.cover import transposed
from preflight.core.findings.addresses import all_but_unknown, kept_over_ipv6
from preflight.core.findings.claims import Claim, Claims, Told, ip, lasting
from preflight.core.findings.model import Cause, Change
from preflight.core.findings.nexthops import advertised, by_rule, holder, owner
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Outcome, Place
from preflight.core.naming import Naming
from preflight.core.tables import Tables, Trail, refused
from preflight.core.ways import lost_back, lost_there, unanswered

_NODE, _SILENT, _LOCAL = "node", "silent", "local"
_CONTAINERS = re.compile(r"(br-[0-9a-f]+|docker[0-9]+|podman[0-9]+|cni-podman[0-9]+)")


class _Own(NamedTuple):
    """One way of one node."""

    node: int
    way: Trail


def trails(claims: Claims, tables: Mapping[int, Tables]) -> None:
    """Claim what these explain."""
    # Link-local next hops of one address are others on other links.
    alike: dict[tuple[str, str, Family, int | None], list[_Own]] = {}
    for node, told in sorted(tables.items()):
        held = {(one.owner, one.address) for one in told.held}
        for way in told.trails:
            address = claims.matrix.nodes[way.peer].address_in(way.family)
            if not way.words or way.peer == node or (way.peer, address) in held:
                continue
            why = _why(claims, tables, _Own(node, way))
            if why:
                hop = owner(claims.matrix.nodes, tables, way.gateway, way.mac)
                alike.setdefault((why, way.words, way.family, hop), []).append(_Own(node, way))
    for (why, _, family, _), every in alike.items():
        cells = [claims.take(family, _claims(why, one)) for one in every]
        own = [one for one, got in zip(every, cells, strict=True) if got]
        if own:
            claims.tell(cells, _told(claims, tables, why, own))


def _why(claims: Claims, tables: Mapping[int, Tables], own: _Own) -> str:
    """The rule by which it is wrong; empty for none."""
    node, way = own
    ways = claims.ways.get(way.family)
    if ways is None:
        return ""
    if way.kind == "local":
        return _LOCAL
    if way.kind != "unicast":
        return ""
    hop = owner(claims.matrix.nodes, tables, way.gateway, way.mac)
    there = tables.get(hop) if hop not in (None, node, way.peer) else None
    if there and way.family not in there.forwards and ways.dead(node) >> way.peer & 1:
        return _NODE
    if way.own and _serves_others(claims, tables, own):
        return ""
    came = ways.came.get(node, 0)
    elsewhere = bool(way.gateway) if way.own else bool(way.device)
    return _SILENT if elsewhere and not came & way.beside and came & ~way.beside else ""


def _serves_others(claims: Claims, tables: Mapping[int, Tables], own: _Own) -> bool:
    """Whether other nodes get through by the same gateway: it is there, and the route is right."""
    node, way = own
    ways = claims.ways[way.family]
    return any(
        (gateway.family, gateway.address) == (way.family, way.gateway)
        and other != node
        and ways.came.get(other, 0) & gateway.peers
        for other, told in tables.items()
        for gateway in told.gateways
    )


def _claims(why: str, own: _Own) -> Iterator[Claim]:
    there = {own.node: 1 << own.way.peer}
    back = transposed(there)
    if why == _LOCAL:
        wanted = kept_over_ipv6 if own.way.family is Family.IPV6 else all_but_unknown
        yield Claim({**there, **back}, wanted)
    elif why == _NODE:
        yield Claim(there, lost_there)
        yield Claim(back, lost_back)
    else:
        home = own.way.device == "lo"
        drops = refused(own.way.back)
        yield Claim(there, lambda outcome: _unfound(outcome, home=home))
        yield Claim(back, lambda o: unanswered(o) and (o.leg is Leg.REPLY or drops))


def _unfound(outcome: Outcome, *, home: bool) -> bool:
    kept = outcome.cause is CellCause.DROPPED and outcome.place is Place.SOURCE
    return outcome.cause is CellCause.NO_NEIGHBOUR or (home and kept)


def _told(claims: Claims, tables: Mapping[int, Tables], why: str, own: Sequence[_Own]) -> Told:
    nodes, naming = claims.matrix.nodes, Naming(claims.matrix.nodes)
    way = own[0].way
    senders = sum({1 << one.node for one in own})
    who = naming.name(senders)
    alone = senders if senders.bit_count() == 1 else 0  # it has no cell to itself
    peers = naming.name(sum({1 << one.way.peer for one in own}), alone)
    each = "its" if alone else "their"
    asks = "neighbour discovery" if way.family is Family.IPV6 else "ARP"
    hop = owner(nodes, tables, way.gateway, way.mac)
    does = f"sends what is for {peers}"
    if why == _LOCAL:
        does = f"keeps what is sent to {peers}, as if that address were {each} own"
    elif why == _NODE and hop is not None:
        does += f" to {nodes[hop].name}, which forwards nothing"
    elif way.device == "lo":
        does += " out of lo, which leads nowhere"
    elif way.gateway:
        does += f" to {way.gateway} on {way.device}, which does not answer {asks}"
    else:
        does += f" out of {way.device}, where nobody answers {asks}"
    shown = [f"`{ip(way.family)} route show table all` on {who} shows `{way.words}`"]
    if why == _LOCAL and way.family is Family.IPV4:
        shown.append(f"{who}'s kernel drops what comes from an address of its own")
    elif why == _NODE and hop is not None:
        shown.append(
            f"{holder(nodes[hop], who, way.family, way.gateway, way.mac)}, and forwarding is off "
            "on all its devices; frames left, and none arrived"
        )
    if way.rule:
        shown.append(f"`{ip(way.family)} rule` on {who} shows `{way.rule}`, which leads there")
    by_ra = " proto ra" in way.words  # which is told at length
    changes = [
        Change(nodes[node].name, "ip", (command,), () if by_ra else (lasting("a routing daemon"),))
        for node, command in dict.fromkeys((one.node, one.way.command) for one in own)
        if command and (why == _NODE or not way.is_default)
    ]
    title = f"{who}: {each} own route `{way.words}` {does}"
    whose = [one.node for one in own]
    home = why == _LOCAL or way.device == "lo"  # it gets what was meant for the others
    advice = " ".join(_advice(why, way, who, peers))
    return Told(Cause.ADDRESS if home else Cause.ROUTE, title, whose, shown, changes, advice)


def _advice(why: str, way: Trail, who: str, peers: str) -> Iterator[str]:
    if " table " in way.words:
        yield by_rule(way, who)
    elif way.is_default and why == _NODE:
        yield (
            f"{who} then needs a default route that leads to {peers}, if there is no other: "
            f"`{ip(way.family)} route show default`."
        )
    elif way.is_default:
        yield f"Give {who} the default route that leads to {peers}, or one to {peers} of its own."
    if not way.command and not way.is_default:
        yield (
            f"{who}: the route comes with an address on {way.device}: `ip address show dev "
            f"{way.device}`. Give that network a subnet that has none of the nodes' addresses, or "
            "remove it."
        )
    if " proto ra" in way.words and why != _LOCAL:
        yield advertised(way, who)
    if _CONTAINERS.fullmatch(way.device):
        yield (
            "It looks like a container network: make it anew with another subnet, and keep Docker "
            "from such ones (default-address-pools in /etc/docker/daemon.json)."
        )
    elif why == _SILENT and way.device != "lo":
        broken = way.gateway or "something"
        where = f"on {way.device}" if way.gateway else f"behind {way.device}"
        yield (
            f"If {broken} {where} is meant to lead to {peers}, see instead why it does not answer: "
            "whether it is up, its address right, and both in one VLAN."
        )
