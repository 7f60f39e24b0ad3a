"""One group of cells that die inside several nodes, by what kills them there.

Rules of a fleet that are alike are one cause; unlike ones are one cause each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.findings.shapes import Shapes, pairs
from preflight.core.groups import Group
from preflight.core.matrix import Matrix
from preflight.core.model import Place


def blamed(group: Group) -> tuple[int, ...]:
    """The nodes inside which a group's cells die; none where they do not die inside nodes."""
    if group.kind.place not in (Place.SOURCE, Place.DESTINATION):
        return ()
    if group.both_ways:
        return tuple(sorted({*group.sources, *group.destinations}))
    return group.sources if group.kind.place is Place.SOURCE else group.destinations


def culprit(diagnosis: Diagnosis) -> Hashable | None:
    """What is alike on nodes that are set up alike; None where nothing is known."""
    for hit in diagnosis.hits:
        rule = hit.rule
        if rule.sure:
            return (rule.tool, rule.family, rule.table, rule.chain, rule.policy, rule.text)
    return None if diagnosis.kernel is None else diagnosis.kernel.reason


def split(
    matrix: Matrix, shapes: Shapes, group: Group, culprits: Mapping[int, Hashable | None]
) -> list[Group]:
    """The group as it is, or cut by the blamed nodes' culprits.

    Nodes that nobody looked at go with the others where all those that were looked at agree.
    """
    nodes = blamed(group)
    known = {culprits[n] for n in nodes if culprits.get(n) is not None}
    if len(known) < 2:
        return [group]
    parts: dict[Hashable | None, list[int]] = {}
    for node in nodes:
        parts.setdefault(culprits.get(node), []).append(node)
    return [part for own in parts.values() for part in _parts(matrix, shapes, group, own)]


def _parts(matrix: Matrix, shapes: Shapes, group: Group, own: Sequence[int]) -> Iterator[Group]:
    """The cells of the group that die inside `own`, in one direction each."""
    ways = [(group.sources, group.destinations)]
    if group.both_ways:
        ways.append((group.destinations, group.sources))
    at_source = group.kind.place is Place.SOURCE
    for sources, destinations in ways:
        there = tuple(n for n in (sources if at_source else destinations) if n in own)
        if not there:
            continue
        sides = (there, destinations) if at_source else (sources, there)
        part = group._replace(sources=sides[0], destinations=sides[1], both_ways=False)
        cells = list(pairs(shapes.rows(part)))
        if cells:
            test = group.tests[0]
            index = matrix.index(matrix.families.index(test.family), test.probe, *cells[0])
            outcome = matrix.outcome(index)
            assert outcome is not None  # it was planned
            yield part._replace(
                where=f"{shapes.name(sides[0])} → {shapes.name(sides[1])}",
                pairs=len(cells),
                cells=len(cells) * len(group.tests),
                sample=group.sample._replace(
                    source=cells[0][0], destination=cells[0][1], outcome=outcome
                ),
            )
