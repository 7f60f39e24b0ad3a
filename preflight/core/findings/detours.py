"""What a node sends by another node, or by a gateway that it alone uses, and that gets no further.

The route may well be meant, so nobody is accused: the next hop and the route that chose it are
named, instead of a network between the two nodes that nobody knows there.

Rules of this file:
1. All cells of a finding go, one way, by such a route, and all by the same next hop.
2. Where routers answer a rising TTL, that next hop is the last that does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.findings.claims import cells_of, ip
from preflight.core.findings.made import Made
from preflight.core.findings.model import Cause, Finding
from preflight.core.findings.nexthops import advertised, by_rule, owner
from preflight.core.findings.several import beside
from preflight.core.findings.shapes import Shapes, pairs
from preflight.core.matrix import Matrix
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Place, Verdict
from preflight.core.tables import Tables, Trail
from preflight.core.terms import listed, traffics
from preflight.core.ways import Ways

_THINNED = (Cause.LOSS, Cause.FLOWS, Cause.RATE_LIMIT)


class Detour(NamedTuple):
    """One way of one node, or one by several next hops."""

    way: Trail
    hop: int | None  # the node that has the only next hop's address


Detours = Mapping[tuple[int, int, Family], Detour]  # by who sends, to whom


def detours(matrix: Matrix, ways: Mapping[Family, Ways], tables: Mapping[int, Tables]) -> Detours:
    """All of them."""
    out: dict[tuple[int, int, Family], Detour] = {}
    for node, told in tables.items():
        for way in told.trails:
            if way.kind != "unicast" or not way.words:
                continue
            if len(way.hops) > 1:
                out[node, way.peer, way.family] = Detour(way, None)
            if not way.gateway:
                continue
            hop = owner(matrix.nodes, tables, way.gateway, way.mac)
            if hop in (node, way.peer):
                continue
            if hop is not None or _alone(ways, tables, node, way):
                out[node, way.peer, way.family] = Detour(way, hop)
    return out


def _alone(
    ways: Mapping[Family, Ways], tables: Mapping[int, Tables], node: int, own: Trail
) -> bool:
    """Whether no other node has that gateway, and the node gets through to some by another one."""
    known = ways.get(own.family)
    if known is None or own.is_default:
        return False
    this = own.family, own.gateway
    others = [told for other, told in tables.items() if other != node]
    used = any((g.family, g.address) == this for told in others for g in told.gateways)
    used = used or any((w.family, w.gateway) == this for told in others for w in told.trails)
    came = known.came.get(node, 0)
    return not used and any(
        gateway.family is own.family and gateway.address != own.gateway and gateway.peers & came
        for gateway in tables[node].gateways
    )


def by_hops(matrix: Matrix, shapes: Shapes, made: Sequence[Made], known: Detours) -> list[Made]:
    """All findings, those about what goes by such ways in words that name them."""
    out = []
    for one in made:
        own = list(_own(shapes, one, known)) if known and _fits(one) else []
        hops = {detour.way.gateway for _, detour in own}
        alike = len(hops) == len({detour.hop for _, detour in own}) == 1
        if "" in hops:
            several = one.finding.cause is not Cause.RULE
            out.append(_by_several(matrix, one, own) if several else one)
        elif own and one.finding.cause is Cause.RULE:
            out.append(one._replace(finding=_beside(matrix, one.finding, own)))
        elif alike and _ends_at(one, hops.pop()):
            out.append(one._replace(finding=_told(matrix, shapes, one, own)))
        else:
            out.append(one)
    return out


def _fits(one: Made) -> bool:
    lost = Place.PATH, CellCause.DROPPED
    kinds = one.finding.kinds
    if not all((k.place, k.cause) == lost for k in kinds):
        return False
    if any(k.verdict is Verdict.LOSSY for k in kinds):
        return one.finding.cause in _THINNED
    return one.finding.cause in (Cause.NETWORK, Cause.RULE)


def _own(shapes: Shapes, one: Made, known: Detours) -> Iterator[tuple[int, Detour]]:
    """The ways that all its cells take, there or back; none where one does not."""
    found: dict[tuple[int, Detour], None] = {}
    for test, rows in cells_of(shapes, one.finding).items():
        for source, destination in pairs(rows):
            there = known.get((source, destination, test.family))
            back = known.get((destination, source, test.family))
            if there is None and (back is None or shapes.one_way(test)):
                return
            if there is not None:
                found[source, there] = None
            elif back is not None:
                found[destination, back] = None
    yield from found


def _ends_at(one: Made, hop: str) -> bool:
    """Whether no router answers, or that one last."""
    paths = [d.path for d in one.diagnoses if d.path is not None and d.path.routers]
    return all(path.silent is not None and path.routers[-1].address == hop for path in paths)


def _told(matrix: Matrix, shapes: Shapes, one: Made, own: Sequence[tuple[int, Detour]]) -> Finding:
    finding, nodes = one.finding, matrix.nodes
    way, hop = own[0][1]
    senders = sorted({node for node, _ in own})
    who = shapes.name(senders)
    there = nodes[hop].name if hop is not None else way.gateway
    routes = list(dict.fromkeys(detour.way.words for _, detour in own))
    named = f"route `{routes[0]}` sends" if len(routes) == 1 else "routes send"
    what = traffics(finding.tests, matrix.probes)
    heard = any(d.path is not None and d.path.routers for d in one.diagnoses)
    ends = "and it gets no further" if heard else "and none of it arrives"
    if any(kind.verdict is Verdict.LOSSY for kind in finding.kinds):
        ends = "and not all of it arrives"
    whose = f"{who}'s" if len(senders) == 1 else f"{who}: their"
    return finding._replace(
        title=f"{finding.where}: {whose} own {named} {what} to {there}, {ends}",
        nodes=finding.nodes if hop is None else (hop,),
        evidence=tuple(dict.fromkeys((*_shown(matrix, own), *finding.evidence))),
        requests=() if hop is not None else finding.requests,
        advice=" ".join(_advice(matrix, there, own)),
    )


def _beside(matrix: Matrix, finding: Finding, own: Sequence[tuple[int, Detour]]) -> Finding:
    """A rule's, at the node that it goes by."""
    removal = _removal(matrix, own, "If it need not go that way, remove the route instead")
    return finding._replace(
        evidence=tuple(
            dict.fromkeys((*finding.evidence[:1], *_shown(matrix, own), *finding.evidence[1:]))
        ),
        advice=" ".join(filter(None, (finding.advice, *removal))),
    )


def _by_several(matrix: Matrix, one: Made, own: Sequence[tuple[int, Detour]]) -> Made:
    """What may be lost by one next hop alone; where routers answer, they tell how far it gets."""
    owners = {address: node.name for node in matrix.nodes for address in node.addresses}
    told = dict.fromkeys(
        beside(owners, matrix.nodes[node].name, detour.way)
        for node, detour in own
        if not detour.way.gateway
    )
    evidence, advice = zip(*told, strict=True)
    finding = one.finding._replace(
        evidence=tuple(dict.fromkeys((*evidence, *one.finding.evidence)))
    )
    if not any(d.path is not None and d.path.routers for d in one.diagnoses):
        if_right = "only if all next hops of that route are right"
        finding = finding._replace(
            advice=" ".join(filter(None, (*dict.fromkeys(advice), finding.advice))),
            requests=tuple(
                r._replace(reason="; ".join(filter(None, (if_right, r.reason))))
                for r in finding.requests
            ),
        )
    return one._replace(finding=finding)


def _shown(matrix: Matrix, own: Sequence[tuple[int, Detour]]) -> Iterator[str]:
    for node, (way, hop) in own:
        there = matrix.nodes[hop].name if hop is not None else way.gateway
        yield (
            f"`{ip(way.family)} route get {_address(matrix, way)}` on {matrix.nodes[node].name} "
            f"goes by {there}: its route is `{way.words}`"
        )


def _removal(matrix: Matrix, own: Sequence[tuple[int, Detour]], told: str) -> Iterator[str]:
    commands = [
        f"`{detour.way.command}` on {matrix.nodes[node].name}"
        for node, detour in own
        if detour.way.command and (not detour.way.is_default or _by_ra(detour.way))
    ]
    if commands:
        yield f"{told}: {listed(dict.fromkeys(commands))}."


def _advice(matrix: Matrix, there: str, own: Sequence[tuple[int, Detour]]) -> Iterator[str]:
    node, (way, hop) = own[0]
    sender = matrix.nodes[node].address_in(way.family)
    to = _address(matrix, way)
    where = f"{there}, a node that forwards," if hop is not None else f"{there}, whoever has it,"
    yield (
        f"If it is meant to go by {there}: look on {where} at what drops forwarded packets (nft "
        f"list ruleset, iptables-save: FORWARD) and at its own way on (`{ip(way.family)} route get "
        f"{to} from {sender} iif DEVICE`)."
    )
    yield from _removal(matrix, own, "If not, remove the route")
    name = matrix.nodes[node].name
    if " table " in way.words:
        yield by_rule(way, name)
    if _by_ra(way):
        yield advertised(way, name)


def _by_ra(way: Trail) -> bool:
    return " proto ra" in way.words


def _address(matrix: Matrix, way: Trail) -> str:
    return matrix.nodes[way.peer].address_in(way.family) or matrix.nodes[way.peer].address
