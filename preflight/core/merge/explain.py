"""Findings of a merged matrix: made anew from its cells, with the closer looks that still fit.

A closer look of one of the runs is kept where its cell still says what it said then. What no cell
shows, a hazard, is kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.diagnosis.plain import plain, read_diagnosis
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.hazards import numbered
from preflight.core.findings.model import Finding
from preflight.core.groups import FamilyProbe, Group, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.snapshot import Snapshot


def explained(matrix: Matrix, parts: Sequence[Snapshot]) -> tuple[Finding, ...]:
    """What matters most first."""
    own = groups(matrix)
    looks: dict[int, list[Looked]] = {}
    for look in sorted({look for part in parts for look in _looks(matrix, part)}, key=_order):
        for position, group in enumerate(own):
            if _holds(group, look):
                looks.setdefault(position, []).append(look)
                break
    hazards = {
        (finding.title, finding.nodes, finding.advice): finding
        for part in parts
        for finding in _hazards(matrix, part)
    }
    rest = [hazards[key] for key in sorted(hazards)]
    return tuple(numbered(findings(matrix, own, looks), rest))


def _order(look: Looked) -> tuple[object, ...]:
    test = look.test
    return (look.source, look.destination, test and (test.probe, str(test.family)), str(look))


def _looks(matrix: Matrix, part: Snapshot) -> Iterator[Looked]:
    old = part.matrix
    names = [node.name for node in old.nodes]
    positions = {node.name: i for i, node in enumerate(matrix.nodes)}
    probes = {probe.name: i for i, probe in enumerate(matrix.probes)}
    for finding in part.findings:
        if finding.diagnosis is None or finding.sample is None or not finding.kinds:
            continue
        source, destination = (positions[names[n]] for n in finding.sample)
        for test in finding.blocks[0].tests[:1] if finding.blocks else ():
            was = old.outcome(
                old.index(old.families.index(test.family), test.probe, *finding.sample)
            )
            now = FamilyProbe(probes[old.probes[test.probe].name], test.family)
            at = matrix.index(matrix.families.index(now.family), now.probe, source, destination)
            stands = matrix.outcome(at)
            if was is None or stands is None or Kind(*was[:5]) != Kind(*stands[:5]):
                continue
            told = read_diagnosis(plain(finding.diagnosis, names), "diagnosis", positions)
            yield Looked(source, destination, told, now)


def _holds(group: Group, look: Looked) -> bool:
    there = look.source in group.sources and look.destination in group.destinations
    back = look.destination in group.sources and look.source in group.destinations
    return look.test in group.tests and (there or (group.both_ways and back))


def _hazards(matrix: Matrix, part: Snapshot) -> Iterator[Finding]:
    names = [node.name for node in part.matrix.nodes]
    positions = {node.name: i for i, node in enumerate(matrix.nodes)}
    for finding in part.findings:
        if finding.kinds:
            continue
        sample = finding.sample
        diagnosis = finding.diagnosis
        if diagnosis is not None:
            diagnosis = read_diagnosis(plain(diagnosis, names), "diagnosis", positions)
        yield finding._replace(
            identifier="",
            nodes=tuple(sorted(positions[names[n]] for n in finding.nodes)),
            sample=None if sample is None else (
                positions[names[sample[0]]], positions[names[sample[1]]]
            ),
            diagnosis=diagnosis,
        )  # fmt: skip
