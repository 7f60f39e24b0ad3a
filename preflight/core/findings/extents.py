"""Which pairs a finding names, test by test: one rule ends UDP from n1, and TCP from n2 alone.

Rules of this file:
1. Tests share words only where these cover no cell of any of them that is open, or not known.
2. Each test of a finding is in exactly one extent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preflight.core.findings.shapes import Rows, Shapes, union
from preflight.core.groups import FamilyProbe, Group
from preflight.core.model import Family
from preflight.core.terms import listed


class Extent(NamedTuple):
    """Some of a finding's tests, with the pairs of theirs that it is about."""

    tests: tuple[FamilyProbe, ...]
    what: str  # `UDP 6081`, or `UDP 6081 over IPv6` where that differs from IPv4's
    where: str
    pairs: int


def extents(shapes: Shapes, groups: Sequence[Group]) -> list[Extent]:
    """One where words for all pairs are true of each test, else one for each set of pairs."""
    tests = sorted({t for g in groups for t in g.tests}, key=lambda t: (t.family, t.probe))
    own = {t: union(shapes.rows(g) for g in groups if t in g.tests) for t in tests}
    out = []
    for same in alike(shapes, own):
        parts = [g._replace(tests=t) for g in groups
                 if (t := tuple(test for test in g.tests if test in same))]  # fmt: skip
        others = [test for test in tests if test not in same]
        pairs = sum(row.bit_count() for row in union(own[test] for test in same).values())
        out.append(Extent(tuple(same), _what(shapes, same, others), shapes.where(parts), pairs))
    return out


def alike(shapes: Shapes, own: Mapping[FamilyProbe, Rows]) -> list[list[FamilyProbe]]:
    """The tests, those together whose pairs the same words may name; `own` are a finding's."""
    every = union(own.values())
    if all(_fills(shapes, test, rows, every) for test, rows in own.items()):
        return [list(own)]
    shared: dict[tuple[tuple[int, int], ...], list[FamilyProbe]] = {}
    for test, rows in own.items():
        shared.setdefault(tuple(sorted(rows.items())), []).append(test)
    return list(shared.values())


def pairs_in_words(found: Sequence[Extent]) -> str:
    """All of them: `n1 → n5 (UDP 6081); n2, n6 → n5 (TCP 4240)`, or where it is one, just where."""
    if len(found) == 1:
        return found[0].where
    return "; ".join(named(one) for one in found)


def named(one: Extent) -> str:
    """`n1 → n5 and n3 → n4 (UDP 6081)`."""
    return f"{one.where.replace('; and ', ' and ').replace('; ', ' and ')} ({one.what})"


def _fills(shapes: Shapes, test: FamilyProbe, rows: Rows, every: Rows) -> bool:
    """Whether all that was planned of `every` is the test's own, or bad for another reason."""
    planned = shapes.planned(test)
    whole = {s: both for s, row in every.items() if (both := row & planned[s])}
    return shapes.nearly(rows, whole, test)


def _what(shapes: Shapes, tests: Sequence[FamilyProbe], others: Sequence[FamilyProbe]) -> str:
    """The tests' names, with the family where the same probe over another is told apart."""
    elsewhere = {test.probe for test in others}
    families = {test.family for test in (*tests, *others)}
    words: dict[str, None] = {}
    for test in tests:
        name = shapes.traffic(test)
        if test.probe in elsewhere and len(families) > 1 and "ICMP" not in name:
            name += f" over {'IPv6' if test.family is Family.IPV6 else 'IPv4'}"
        words[name] = None
    return listed(words)
