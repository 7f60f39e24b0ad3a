"""A matrix too large to draw node by node: its nodes by rack, label or subnet, a sign for a block.

A block is all cells from one group of nodes to another. Where all of them are alike it has their
sign; where they are not, its sign says how many are not open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter

from preflight.core.model import Node, Severity
from preflight.core.naming import Naming
from preflight.core.terms import plural
from preflight.report.grouping import Grouping, groupings
from preflight.report.layers import Layer
from preflight.report.symbols import NOT_PLANNED, OPEN, SAME_NODE, UNKNOWN, style

SOME_UNKNOWN = "u"
A_FEW = ","
_TENTHS = "123456789"
_MOST = 64  # groups that are drawn
_CHUNKS = 40  # groups of neighbours in the inventory, where nothing else tells nodes apart

LEGEND: Mapping[str, str] = {
    A_FEW: ", up to 1 in 100 is not open",
    _TENTHS: "1…9 so many tenths are not open, rounded up",
    SOME_UNKNOWN: "u some are unknown, the rest is open",
}


def grouping(nodes: Sequence[Node], tests: Sequence[Layer]) -> Grouping:
    """The finest there is with few enough groups, else neighbours in the inventory's order."""
    usable = [g for g in groupings(nodes, tests) if len(g.names) <= _MOST]
    if usable:
        return max(usable, key=lambda g: len(g.names))
    size = -(-len(nodes) // _CHUNKS)
    naming = Naming(nodes)
    names = []
    for start in range(0, len(nodes), size):
        some = sum(1 << node for node in range(start, min(start + size, len(nodes))))
        names.append(naming.name(some, most=1))
    return Grouping("neighbours", tuple(names), tuple(i // size for i in range(len(nodes))))


def sizes(by: Grouping) -> list[int]:
    """How many nodes each group has."""
    counts = Counter(by.of)
    return [counts[group] for group in range(len(by.names))]


def words(by: Grouping) -> str:
    """What is drawn: `Drawn by rack: a cell stands for all pairs of two of the 12 groups.`"""
    what = "neighbours in the inventory" if by.title == "neighbours" else by.title
    groups = plural(len(by.names), "group")
    return f"Drawn by {what}: a cell stands for all pairs between two of {groups} of nodes."


def draw_blocks(test: Layer, by: Grouping) -> list[str]:
    """A line for each group as source, a sign for each as destination."""
    order = sorted(range(len(by.of)), key=by.of.__getitem__)
    starts = [order_at for order_at, (a, b) in enumerate(pairwise([-1, *order])) if _new(by, a, b)]
    bounds = [*pairwise([*starts, len(order)])]
    in_order = order == list(range(len(order)))
    pick = itemgetter(*order) if len(order) > 1 else tuple
    lines = []
    for first, last in bounds:
        counts = [Counter[str]() for _ in bounds]
        for source in order[first:last]:
            line = test.lines[source]
            if not in_order:
                line = "".join(pick(line))
            for (start, stop), count in zip(bounds, counts, strict=True):
                part = line[start:stop]
                opened = part.count(OPEN)
                if opened:
                    count[OPEN] += opened
                if opened < len(part):
                    for sign in set(part) - {OPEN}:
                        count[sign] += part.count(sign)
        lines.append("".join(map(_sign, counts)))
    return lines


def block_style(sign: str, severity: Severity) -> str | None:
    """The style of a block's sign."""
    if sign == SOME_UNKNOWN:
        return style(UNKNOWN, severity)
    return style("B", severity) if sign in A_FEW + _TENTHS else style(sign, severity)


def legend(signs: set[str]) -> Iterator[str]:
    """What the signs mean that only blocks have."""
    return (words for own, words in LEGEND.items() if signs & set(own))


def _new(by: Grouping, before: int, node: int) -> bool:
    return before < 0 or by.of[before] != by.of[node]


def _sign(counts: Counter[str]) -> str:
    """What stands for a block."""
    planned = {s: n for s, n in counts.items() if s not in (SAME_NODE, NOT_PLANNED)}
    if len(planned) < 2:
        return next(iter(planned), NOT_PLANNED)
    if set(planned) == {OPEN, UNKNOWN}:
        return SOME_UNKNOWN
    total = sum(planned.values())
    shut = total - planned.get(OPEN, 0)
    return A_FEW if 100 * shut <= total else _TENTHS[min(8, (10 * shut - 1) // total)]
