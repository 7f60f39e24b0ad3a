"""Routes of several next hops, by name: flows differ by the one that the kernel takes for them.

Rules of this file:
1. A next hop is wrong that is another node of the run of which no device forwards, or that does
   not answer ARP or neighbour discovery while another one of the route does.
2. It explains what is lost, all or in part, between pairs whose packets may take it.
3. Where no next hop is proven wrong, the route is told beside what is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.cover import transposed
from preflight.core.findings.claims import Claim, Claims, Told, ip
from preflight.core.findings.model import Cause, Change
from preflight.core.findings.nexthops import by_rule, holder, owner
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Outcome, Place
from preflight.core.naming import Naming
from preflight.core.tables import NextHop, Tables, Trail, refused
from preflight.core.terms import listed
from preflight.core.ways import failing

_NODE, _SILENT = "node", "silent"
_SHOWN = 4
_LASTS = (
    "Take that next hop out also where it comes from: the network's settings (netplan, "
    "NetworkManager, systemd-networkd), a routing daemon, or a start script."
)


class _Own(NamedTuple):
    """One way of one node, and the next hop that is wrong."""

    node: int
    way: Trail
    hop: NextHop


def several(claims: Claims, tables: Mapping[int, Tables]) -> None:
    """Claim what these explain."""
    alike: dict[tuple[str, Family, str, str, int | None], list[_Own]] = {}
    for node, told in sorted(tables.items()):
        for way in told.trails:
            if len(way.hops) > 1 and way.words and way.kind == "unicast" and way.peer != node:
                for hop in way.hops:
                    why = _why(claims, tables, node, way, hop) if hop.taken else ""
                    if why:
                        there = owner(claims.matrix.nodes, tables, hop.address, hop.mac)
                        key = why, way.family, hop.address, hop.device, there
                        alike.setdefault(key, []).append(_Own(node, way, hop))
    for (why, family, *_), every in alike.items():
        cells = [claims.take(family, _claims(why, one)) for one in every]
        own = [one for one, got in zip(every, cells, strict=True) if got]
        if own:
            claims.tell(cells, _told(claims, tables, why, own))


def _why(claims: Claims, tables: Mapping[int, Tables], node: int, way: Trail, hop: NextHop) -> str:
    """The rule by which it is wrong; empty for none."""
    if hop.silent:
        return _SILENT if any(other.mac and not other.silent for other in way.hops) else ""
    there = owner(claims.matrix.nodes, tables, hop.address, hop.mac)
    told = tables.get(there) if there not in (None, node, way.peer) else None
    return _NODE if told and way.family not in told.forwards else ""


def _claims(why: str, own: _Own) -> Iterator[Claim]:
    there = {own.node: 1 << own.way.peer}
    back = transposed(there)
    if why == _NODE:
        yield Claim(there, _thinned_there)
        yield Claim(back, _thinned_back)
    else:
        drops = refused(own.way.back)
        yield Claim(there, _stuck)
        yield Claim(back, lambda outcome: _unanswered(outcome, drops=drops))


def _thinned_there(outcome: Outcome) -> bool:
    """Some or all of what left did not arrive."""
    seen = outcome.evidence
    fewer = bool(seen.left) and seen.arrived is not None and seen.arrived < (seen.left or 0)
    return fewer and _lost(outcome, Leg.FORWARD, Place.PATH)


def _thinned_back(outcome: Outcome) -> bool:
    """Likewise of answers."""
    seen = outcome.evidence
    fewer = bool(seen.answered) and seen.returned is not None
    fewer = fewer and (seen.returned or 0) < (seen.answered or 0)
    return fewer and _lost(outcome, Leg.REPLY, Place.PATH)


def _stuck(outcome: Outcome) -> bool:
    """It did not leave; a cell's cause is told by the next hop of one flow, and others differ."""
    return outcome.cause is CellCause.NO_NEIGHBOUR or (
        bool(outcome.evidence.sent) and _lost(outcome, Leg.FORWARD, Place.SOURCE)
    )


def _unanswered(outcome: Outcome, *, drops: bool) -> bool:
    return _lost(outcome, Leg.REPLY, Place.DESTINATION) or (
        drops and _lost(outcome, Leg.FORWARD, Place.DESTINATION)
    )


def _lost(outcome: Outcome, leg: Leg, place: Place) -> bool:
    where = outcome.leg is leg and outcome.place is place
    return where and failing(outcome) and outcome.cause is CellCause.DROPPED


def _told(claims: Claims, tables: Mapping[int, Tables], why: str, own: Sequence[_Own]) -> Told:
    nodes, hop, family = claims.matrix.nodes, own[0].hop, own[0].way.family
    senders = sum({1 << one.node for one in own})
    who = Naming(nodes).name(senders)
    there = owner(nodes, tables, hop.address, hop.mac)
    routes = list(dict.fromkeys(one.way.words for one in own))
    named = [f"`{words}`" for words in routes[:_SHOWN]]
    more = [f"{len(routes) - _SHOWN} more"] if len(routes) > _SHOWN else []
    each = "its" if senders.bit_count() == 1 else "their"
    thing, have = ("route", "has") if len(routes) == 1 else ("routes", "have")
    at = f" on {hop.device}" if hop.device else ""
    if why == _NODE and there is not None:
        bad = f"{nodes[there].name} ({hop.address}), one of them, forwards nothing"
    else:
        asks = "neighbour discovery" if family is Family.IPV6 else "ARP"
        bad = f"one of them, {hop.address}{at}, does not answer {asks}"
    seen = dict.fromkeys((nodes[one.node].name, one.way.words, _hops(one.way)) for one in own)
    evidence = [
        f"`{ip(family)} route show table all` on {name} shows `{words}` with the next hops {hops}: "
        "the kernel sends each flow by one of them"
        for name, words, hops in list(seen)[:_SHOWN]
    ]
    if why == _NODE and there is not None:
        held = holder(nodes[there], who, family, hop.address, hop.mac)
        evidence.append(f"{held}, and forwarding is off on all its devices")
    changes, advice = _mend(claims, tables, why, own, who)
    return Told(
        Cause.ROUTE,
        f"{who}: {each} own {thing} {listed([*named, *more])} {have} several next hops, and {bad}",
        [one.node for one in own],
        evidence,
        changes,
        " ".join(advice),
    )


def _mend(
    claims: Claims, tables: Mapping[int, Tables], why: str, own: Sequence[_Own], who: str
) -> tuple[list[Change], list[str]]:
    """Commands only where nothing else of the route is wrong: each keeps all the other hops."""
    changes: list[Change] = []
    advice: list[str] = []
    hop = own[0].hop
    alone = [
        sum(bool(_why(claims, tables, o.node, o.way, other)) for other in o.way.hops) == 1
        for o in own
    ]
    commands: dict[int, dict[str, None]] = {}
    for one, able in zip(own, alone, strict=True):
        if able and one.hop.command:
            commands.setdefault(one.node, {})[one.hop.command] = None
    for node, some in commands.items():
        changes.append(Change(claims.matrix.nodes[node].name, "ip", tuple(some), (_LASTS,)))
    if not all(alone) or not all(o.hop.command for o in own):
        advice.append(f"Take {hop.address or hop.device} out of the route's next hops.")
    objects = dict.fromkeys(
        o.way.words.partition(" nhid ")[2].split(" ")[0] for o in own if " nhid " in o.way.words
    )
    if objects:
        shows = listed(f"`ip nexthop show id {number}`" for number in objects)
        advice.append(f"They are a group of nexthop objects: {shows} on {who}.")
    advice += dict.fromkeys(by_rule(o.way, who) for o in own if " table " in o.way.words)
    if why == _SILENT:
        advice.append(
            f"If {hop.address or 'something'} is meant to be there, see instead why it does not "
            "answer: whether it is up, its address right, and both in one VLAN."
        )
    return changes, advice


def _hops(way: Trail) -> str:
    """`10.0.0.1 on eth0 and 10.0.0.2 on eth0`."""
    more = [f"{len(way.hops) - _SHOWN} more"] if len(way.hops) > _SHOWN else []
    return listed([*map(str, way.hops[:_SHOWN]), *more])


def beside(owners: Mapping[str, str], who: str, way: Trail) -> tuple[str, str]:
    """Evidence and advice where one of a route's next hops may be what loses packets."""
    known = [f"{hop.address} is {owners[hop.address]}" for hop in way.hops if hop.address in owners]
    told = f", of which {listed(known)}" if known else ""
    evidence = (
        f"{who}'s route `{way.words}` has {len(way.hops)} next hops, {_hops(way)}{told}: the "
        "kernel sends each flow by one of them"
    )
    advice = (
        f"First see each next hop of `{way.words}` on {who} by itself, and its own way on: one of "
        "them may lose what it gets."
    )
    return evidence, advice
