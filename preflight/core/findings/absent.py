"""Cells that are unknown for want of agents: told by the nodes that have none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from preflight.core.findings.shapes import Rows, Shapes, pairs, union
from preflight.core.groups import Group

_NAMED = 6  # by their names, where "all except" is shorter


class Absent(NamedTuple):
    """Where it is, and on whom, in words."""

    where: str
    who: str


def absent(shapes: Shapes, groups: Sequence[Group], agentless: Collection[int]) -> Absent | None:
    """Words for groups of cells each of which has an end without an agent; None where one has not.

    What is known of such a node's cells all the same, by what came back, is not in the groups.
    """
    cells = list(pairs(union(shapes.rows(group) for group in groups)))
    if not all(s in agentless or d in agentless for s, d in cells):
        return None
    nodes = {end for cell in cells for end in cell if end in agentless}
    if all(end in nodes for cell in cells for end in cell):
        return Absent(shapes.where(groups), "any of these nodes")
    who = shapes.name(nodes)
    if len(nodes) <= _NAMED and who.startswith("all "):
        who = shapes.each(nodes)  # who has none is sought by name
    whole = all(
        union(shapes.rows(group) for group in groups if test in group.tests)
        == _touched(shapes.planned(test), nodes)
        for test in {test for group in groups for test in group.tests}
    )
    rest = "" if whole else ", where nothing else is known"
    return Absent(f"{who} ↔ all{rest}", who)


def _touched(planned: Sequence[int], nodes: Collection[int]) -> Rows:
    """All planned cells of which some node is an end."""
    ends = sum(1 << node for node in nodes)
    rows = {s: row if s in nodes else row & ends for s, row in enumerate(planned)}
    return {s: row for s, row in rows.items() if row}
