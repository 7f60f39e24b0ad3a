"""Rejections and drops that are one firewall's on the path.

Routers send few ICMP errors, so that a rule which rejects everything is seen to reject here and to
drop there; and they speak with another address to each side, and in each family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.diagnosis.conclusions import ContentPattern, Diagnosis
from preflight.core.findings.nobody import is_nobody
from preflight.core.findings.shapes import HALF, Shapes, union
from preflight.core.groups import BY_THE_DESTINATION, BY_THE_SOURCE, Group
from preflight.core.model import Cause, Family, Leg, Place, Protocol, Verdict

_REFUSED = (Cause.DROPPED, Cause.REJECTED)
_SPENT_LATER = {Protocol.TCP: 0, Protocol.ICMP: 1, Protocol.UDP: 2}  # the order of a look


def one_firewall(
    shapes: Shapes,
    a: Group,
    b: Group,
    of_a: Sequence[Diagnosis],
    of_b: Sequence[Diagnosis],
) -> bool:
    """Whether what two groups meet on the way there is one firewall that rejects."""
    if not (_is_refused(a) and _is_refused(b)):
        return False
    if a.kind.cause is b.kind.cause is Cause.REJECTED:
        if is_nobody(a) is not is_nobody(b):
            return False
        return _one_rejecter(shapes, a, b, _senders(a, of_a) & _senders(b, of_b))
    if Cause.REJECTED not in (a.kind.cause, b.kind.cause):
        return False
    if a.kind.cause is Cause.DROPPED:
        a, b, of_a, of_b = b, a, of_b, of_a
    senders = _senders(a, of_a)
    if not senders or senders & _passed(of_b) or by_sender(shapes, a, b):
        return False
    if senders & _senders(b, of_b):
        return True
    if _by_its_port(of_b) and not _probes(a) & _probes(b):
        return False  # a rule of its own, of which nobody ever said that it rejects
    if senders & _last(of_b):
        return True
    if a.tests == b.tests and shapes.back_within(b, a):
        return True
    if not of_b and not (_families(b) <= _families(a) or _probes(b) <= _probes(a)):
        return False  # another probe over another family, and nobody looked
    return shapes.within(b, a) and _turn(shapes, a) <= _turn(shapes, b)


def by_sender(shapes: Shapes, a: Group, b: Group) -> bool:
    """Whether of the same probes to the same nodes all of some senders' are rejected, and all of
    others' are dropped: errors that run out are not shared out so.

    Each sender with two cells at least, as one may well miss the few errors that there are.
    """
    if {a.kind.cause, b.kind.cause} != {*_REFUSED} or a.tests != b.tests:
        return False
    here, there = shapes.rows(a), shapes.rows(b)
    if here.keys() & there.keys() or a.both_ways or b.both_ways:
        return False
    rows = [*here.values(), *there.values()]
    return all(row.bit_count() > 1 for row in rows) and len({*rows}) == 1


def rejecting(shapes: Shapes, groups: Sequence[Group], dropped: Group) -> list[int]:
    """The groups by position whose rejecters may just as well have dropped all of `dropped`."""
    if not _is_refused(dropped) or dropped.kind.cause is not Cause.DROPPED:
        return []
    found = [
        i
        for i, group in enumerate(groups)
        if _is_refused(group)
        and _senders(group, ())
        and _families(group) >= _families(dropped)
        and _turn(shapes, group) <= _turn(shapes, dropped)
        and shapes.meet(group, dropped)
    ]
    rows, there = shapes.rows(dropped), union(shapes.rows(groups[i]) for i in found)
    own = {source: row & there.get(source, 0) for source, row in rows.items()}
    tests = {t for i in found for t in groups[i].tests if t.family in _families(dropped)}
    return found if any(shapes.nearly(own, rows, test, HALF) for test in tests) else []


def mute(diagnosis: Diagnosis) -> bool:
    """Whether a closer look heard nobody and found nothing that tells what ends its cell."""
    routers = diagnosis.path.routers if diagnosis.path else ()
    told = routers or diagnosis.rejecters or diagnosis.hits or diagnosis.kernel
    return not told and not _by_its_port([diagnosis])


def untold(shapes: Shapes, groups: Sequence[Group]) -> Iterator[str]:
    """What is not known of a finding's cells whose like were rejected, and of which nobody said so.

    Probes sent later than those that were rejected are expected to find errors spent.
    """
    refused = [group for group in groups if _is_refused(group)]
    rejected = {t for g in refused if g.kind.cause is Cause.REJECTED for t in g.tests}
    silent = [g for g in refused if g.kind.cause is Cause.DROPPED and rejected & {*g.tests}]
    if silent:
        yield (
            f"whether one rule ends all of it: {shapes.where(silent)} died without a word, by "
            "another rule or by one that sends few errors"
        )


def _is_refused(group: Group) -> bool:
    kind = group.kind
    return (
        kind.verdict is Verdict.BLOCKED
        and kind.leg is Leg.FORWARD
        and kind.place in (Place.PATH, None)
        and kind.cause in _REFUSED
    )


def _one_rejecter(shapes: Shapes, a: Group, b: Group, common: set[str]) -> bool:
    if common:
        return True
    if a.tests == b.tests:
        one_way = shapes.back_within(a, b) or shapes.back_within(b, a)
        return one_way or shapes.turned(a, b)
    probes = [{test.probe for test in group.tests} for group in (a, b)]
    there = shapes.within(a, b) or shapes.within(b, a)
    return probes[0] == probes[1] and not _families(a) & _families(b) and there


def _probes(group: Group) -> set[int]:
    return {test.probe for test in group.tests}


def _families(group: Group) -> set[Family]:
    return {test.family for test in group.tests}


def _senders(group: Group, diagnoses: Sequence[Diagnosis]) -> set[str]:
    """Addresses that rejected; the pair's own are in everybody's mouth."""
    own = {group.kind.rejected_by} - {None, BY_THE_SOURCE, BY_THE_DESTINATION}
    return {sender for sender in own if sender}.union(*(d.rejecters for d in diagnoses))


def _last(diagnoses: Sequence[Diagnosis]) -> set[str]:
    """The routers behind which it ends."""
    return {
        d.path.routers[-1].address
        for d in diagnoses
        if d.path and d.path.routers and not d.path.back
    }


def _passed(diagnoses: Sequence[Diagnosis]) -> set[str]:
    """The routers that it surely got through."""
    return {r.address for d in diagnoses if d.path and not d.path.back for r in d.path.routers[:-1]}


def _by_its_port(diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether other ports got through."""
    return any(d.content and d.content.pattern is ContentPattern.PORT for d in diagnoses)


def _turn(shapes: Shapes, group: Group) -> int:
    """When a look sends the first of a group's probes: what comes later finds errors spent."""
    return min(_SPENT_LATER[shapes.protocol(test)] for test in group.tests)
