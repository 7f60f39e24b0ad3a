"""Routes and routing rules of a node that forbid what it sends, by name.

Rules of this file:
1. A route is named where the kernel's own lookup failed with its error, and no other route or rule
   could have given that.
2. What its peers send to the node dies of it only where the kernel says so of packets from there;
   answers always do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from preflight.core.cover import transposed
from preflight.core.findings.claims import Cells, Claim, Claims, Told, lasting
from preflight.core.findings.model import Cause, Change
from preflight.core.groups import FamilyProbe
from preflight.core.model import Family, Leg, Outcome, Place
from preflight.core.naming import Naming
from preflight.core.tables import Forbidden, Tables, number_of, refused
from preflight.core.terms import traffics
from preflight.core.ways import unanswered, unsent

_DROPS = {"blackhole": "throws away", "prohibit": "refuses", "unreachable": "refuses"}


class _Own(NamedTuple):
    """One way that is forbidden."""

    node: int
    way: Forbidden


def routes(claims: Claims, tables: Mapping[int, Tables]) -> None:
    """Claim what these explain."""
    alike: dict[tuple[str, Family], list[_Own]] = {}
    for node, told in sorted(tables.items()):
        for way in told.forbidden:
            alike.setdefault((way.words, way.family), []).append(_Own(node, way))
    for (words, family), own in alike.items():
        cells: list[Cells] = [claims.take(family, _claims(claims, one)) for one in own]
        _tell(claims, words, own, cells)


def _claims(claims: Claims, own: _Own) -> Iterator[Claim]:
    way = own.way
    tests = _tests(claims, way)
    there = {own.node: 1 << way.peer}
    yield Claim(there, unsent, tests)
    if " dport " not in way.words:  # an answer goes to any port
        drops = refused(way.back)
        yield Claim(transposed(there), lambda outcome: _dies_there(outcome, drops=drops), tests)


def _dies_there(outcome: Outcome, *, drops: bool) -> bool:
    return (
        unanswered(outcome)
        and outcome.place is Place.DESTINATION
        and (outcome.leg is Leg.REPLY or drops)
    )


def _tests(claims: Claims, way: Forbidden) -> tuple[FamilyProbe, ...]:
    """Those of whose packets it speaks; none for all."""
    probes = claims.matrix.probes
    return tuple(
        test
        for test in claims.ways[way.family].tests
        if way.protocol
        and number_of(probes[test.probe].protocol, way.family) == way.protocol
        and (probes[test.probe].port or 0) == way.port
    )


def _tell(claims: Claims, words: str, own: list[_Own], cells: list[Cells]) -> None:
    nodes, naming = claims.matrix.nodes, Naming(claims.matrix.nodes)
    first = own[0].way
    is_rule = " rule del " in first.command
    senders = sum({1 << one.node for one in own})
    who = naming.name(senders)
    alone = senders if senders.bit_count() == 1 else 0  # it has no cell to itself
    peers = naming.name(sum({1 << one.way.peer for one in own}), alone)
    kind = next((k for k in _DROPS if k in words.split(" ")), "")
    family = " -6" if first.family is Family.IPV6 else ""
    tests = sorted({test for part in cells for test in part})
    some = tests and (first.protocol or (is_rule and " from all" not in words))
    what = traffics(tests, claims.matrix.probes) if some else "what it sends"
    thing = "routing rule" if is_rule else "route"
    each = "its" if len({one.node for one in own}) == 1 else "their"
    title = (
        f"{who}: {each} own {thing} `{words}` {_DROPS.get(kind, 'forbids')} "
        f"{what if each == 'its' or some else 'what they send'} to {peers}"
    )
    shown = [
        f"`ip{family} {'rule' if is_rule else 'route show table all'}` on {who} shows `{words}`"
    ]
    changes = [
        Change(nodes[node].name, "ip", (command,), (lasting("a routing daemon"),))
        for node, command in dict.fromkeys((one.node, one.way.command) for one in own)
    ]
    advice = ""
    if words.split(" ")[1] == "default":
        advice = f"{who} then needs a default route that leads somewhere, if there is no other."
    told = Told(Cause.ROUTE, title, [one.node for one in own], shown, changes, advice)
    claims.tell(cells, told)
