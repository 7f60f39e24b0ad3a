"""Routers that say "host unreachable": they find nobody with that address on the last link.

A firewall may say so in their stead, and so does a route of the type `unreachable`; it is no
refusal for which a rule could be asked, but where other probes of the same pairs get there: then
the address is found, and it is a refusal like others. RFC 1812 5.2.7.1, RFC 4443 3.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from preflight.core.detail import finds_nobody
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import BY_THE_DESTINATION, BY_THE_SOURCE, Group
from preflight.core.model import Cause, Family, Leg, Place
from preflight.core.terms import listed


def is_nobody(group: Group) -> bool:
    """Whether somebody between its nodes said so of a cell of it."""
    kind = group.kind
    there = kind.cause is Cause.REJECTED and kind.leg is Leg.FORWARD
    own = (None, BY_THE_DESTINATION, BY_THE_SOURCE)
    between = kind.place in (Place.PATH, None) and kind.rejected_by not in own
    return there and between and finds_nobody(group.sample.outcome)


def sought(shapes: Shapes, groups: Sequence[Group], nodes: Collection[str]) -> list[int]:
    """The nodes that were not found; none where any of the groups was refused otherwise, or in
    the name of one of `nodes`, the addresses of all, or where other probes find them.
    """
    refused = [group for group in groups if group.kind.cause is Cause.REJECTED]
    if not all(is_nobody(g) and g.kind.rejected_by not in nodes for g in refused):
        return []
    if refused and all(map(shapes.found_by_others, refused)):
        return []
    ends = [(*g.destinations, *(g.sources if g.both_ways else ())) for g in refused]
    return sorted({node for some in ends for node in some})


def same(groups: Sequence[Group]) -> Iterator[tuple[int, int]]:
    """Pairs of groups in which the same nodes are not found."""
    first: dict[tuple[object, ...], int] = {}
    for i, group in enumerate(groups):
        if is_nobody(group) and not group.both_ways:
            families = {test.family for test in group.tests}
            yield first.setdefault((group.destinations, *sorted(families)), i), i


def title(where: str, who: str, speakers: Sequence[str], family: Family) -> str:
    """`n1 → n3: 198.18.1.1 says host unreachable: ...`"""
    says = "says" if len(speakers) == 1 else "say"
    each = "it gets" if len(speakers) == 1 else "they get"
    return (
        f"{where}: {listed(speakers)} {says} {_said(family)}: {each} no answer to {_asks(family)} "
        f"from {who}, or an unreachable route or a firewall speaks instead"
    )


def advice(who: str, speakers: Sequence[str], family: Family) -> str:
    """What to look at."""
    shows = "ip -6 neigh" if family is Family.IPV6 else "ip neigh"
    return (
        f"See whether {who} is up, has this address, and is on the right VLAN and switch port. "
        f"Then ask who runs {listed(speakers)} what it has for that address: a neighbour entry "
        f"(`{shows}`, show arp) that is incomplete, or an unreachable route. If there is "
        "neither, a firewall speaks instead."
    )


def _said(family: Family) -> str:
    return "address unreachable" if family is Family.IPV6 else "host unreachable"


def _asks(family: Family) -> str:
    return "neighbour discovery" if family is Family.IPV6 else "ARP"
