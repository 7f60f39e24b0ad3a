"""What the report can tell of each cell, in Python's words: the page only puts names in.

Alike cells have one story. It is kept as a shape (which points, what became of the probes there,
in which words) and the counts of the outcome; two characters stand for the two nodes' names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from preflight.core.detail import ran_out
from preflight.core.findings.model import Block, Finding
from preflight.core.groups import FamilyProbe
from preflight.core.model import Evidence, Leg, Outcome, Place
from preflight.core.snapshot import Snapshot
from preflight.core.story import (
    Accusation,
    Mark,
    Step,
    accusations,
    may_be_unfound,
    steps,
    stories,
    unfound,
)
from preflight.core.therefore import therefore
from preflight.report import telling
from preflight.report.findings import style as style_of_finding
from preflight.report.text import clean

SOURCE, DESTINATION = "\x01", "\x02"  # no cleaned text has them

_LEGS, _PLACES, _MARKS = list(Leg), list(Place), list(Mark)


_ENDS_OF_PAIR = re.compile(f"([{SOURCE}{DESTINATION}])")


def clean_part(text: str) -> str:
    """A part of a sentence made clean, the spaces at its ends kept."""
    if text.isprintable():
        return text
    before, after = text[:1].isspace(), text[-1:].isspace()
    return " " * before + clean(text) + " " * after


class Strings:
    """Every text once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._known: dict[str, int] = {}  # before they were cleaned

    def number(self, text: str) -> int:
        """Its position in `all`."""
        known = self._known.get(text)
        if known is None:
            told = "".join(
                part if part in (SOURCE, DESTINATION) else clean_part(part)
                for part in _ENDS_OF_PAIR.split(text)
            )
            known = self._known[text] = self._numbers.setdefault(told, len(self._numbers))
        return known

    @property
    def all(self) -> list[str]:
        """The texts by number."""
        return list(self._numbers)


class Shapes:
    """Every way that a story can be drawn, once."""

    def __init__(self, strings: Strings) -> None:
        self._strings = strings
        self._numbers: dict[tuple[tuple[int, ...], ...], int] = {}

    def number(self, told: Sequence[Step]) -> int:
        """The position in `all` of these steps without their counts."""
        shape = tuple(
            (
                _LEGS.index(step.leg),
                _PLACES.index(step.place),
                Evidence._fields.index(step.vantage) if step.vantage else -1,
                _MARKS.index(step.mark),
                self._strings.number(step.text),
            )
            for step in told
            if step.vantage or step.text or step.mark is not Mark.NOTHING
        )
        return self._numbers.setdefault(shape, len(self._numbers))

    @property
    def all(self) -> list[tuple[tuple[int, ...], ...]]:
        """The shapes by number: leg, place, vantage point or -1, mark, text."""
        return list(self._numbers)


class Tales:
    """The stories of one snapshot's cells."""

    def __init__(
        self, snapshot: Snapshot, keys: Mapping[FamilyProbe, str], strings: Strings, shapes: Shapes
    ) -> None:
        self._snapshot = snapshot
        self._keys = keys  # how a test is called in the page's data
        self._strings = strings
        self._shapes = shapes
        self._verdicts: dict[object, tuple[str, str]] = {}  # alike outcomes differ in counts alone

    def of_test(self, family: int, probe: int) -> dict[int, list[int]]:
        """For each number that occurs in the test's cells its story.

        A headline, a shape, whether it may be due to neighbour discovery, advice, and then
        sentences.
        """
        matrix = self._snapshot.matrix
        test = FamilyProbe(probe, matrix.families[family])
        found = {}
        for number in matrix.counts(family, probe):
            outcome = matrix.table[number]
            if outcome is not None:
                found[number] = self._tale(outcome, test)
        return found

    def outcomes(self) -> list[list[int | None] | None]:
        """For each number that occurs at all the counts of the seven vantage points."""
        occur = set(self._snapshot.matrix.outcomes())
        return [
            list(outcome.evidence) if outcome is not None and outcome in occur else None
            for outcome in self._snapshot.matrix.table
        ]

    def _tale(self, outcome: Outcome, test: FamilyProbe) -> list[int]:
        matrix = self._snapshot.matrix
        probe = matrix.probes[test.probe]
        way = {"one_way": probe.one_way, "overlay": probe.overlay}
        headline, advice = self._verdict(outcome, test)
        told = steps(outcome, test, **way)
        if not any(count is not None for count in outcome.evidence):
            told = ()
        return [
            self._strings.number(headline),
            self._shapes.number(told),
            int(may_be_unfound(outcome, test.family)),
            self._strings.number(advice),
            *map(self._strings.number, therefore(outcome, SOURCE, DESTINATION, **way)),
        ]

    def _verdict(self, outcome: Outcome, test: FamilyProbe) -> tuple[str, str]:
        key = (outcome[:5], ran_out(outcome), test)
        if key not in self._verdicts:
            self._verdicts[key] = telling.verdict(outcome, test, self._snapshot.matrix)
        return self._verdicts[key]

    def findings(self, anchors: Mapping[str, str]) -> list[dict[str, Any]]:
        """What a story takes from findings: which cells they hold, and whom they accuse.

        `anchors` are ids on the page, by identifier; without one it is the identifier itself.
        """
        return [
            self._finding(finding, anchors.get(finding.identifier, finding.identifier))
            for finding in self._snapshot.findings
        ]

    def _finding(self, finding: Finding, anchor: str) -> dict[str, Any]:
        return {
            "id": clean(finding.identifier),
            "anchor": clean(anchor),
            "title": clean(finding.title),
            "style": style_of_finding(finding),
            "blocks": [self._block(block) for block in finding.blocks],
            "accuses": [_accusation(accusation) for accusation in accusations(finding)],
            "sample": self._sample(finding),
        }

    def _sample(self, finding: Finding) -> list[Any] | None:
        """The cell that was looked at closely: the routers on its way are its own."""
        if finding.sample is None or finding.diagnosis is None or not finding.blocks:
            return None
        tests = finding.blocks[0].tests[:1]
        if not tests or tests[0] not in self._keys:
            return None
        own = stories(self._snapshot, *finding.sample, tests)
        if not own or not any(count is not None for count in own[0].outcome.evidence):
            return None
        return [self._keys[tests[0]], *finding.sample, self._shapes.number(own[0].steps)]

    def _block(self, block: Block) -> list[Any]:
        return [
            runs(block.sources),
            runs(block.destinations),
            int(block.both_ways),
            [self._keys[test] for test in block.tests if test in self._keys],
        ]


def _accusation(accusation: Accusation) -> list[Any]:
    """Node, leg (-1 either, -2 neither), words; and those for who was not found."""
    leg = -1 if accusation.leg is None else -2
    if accusation.leg in _LEGS:
        leg = _LEGS.index(Leg(accusation.leg))
    told = [accusation.node, leg, clean(accusation.words)]
    if accusation.of_discovery:
        told += [clean(unfound(accusation, place)) for place in _ENDS]
    return told


_ENDS = (Place.SOURCE, Place.DESTINATION)


def words() -> Mapping[str, Any]:
    """The words around the stories."""
    return {
        "heads": [[telling.heads(leg, place) for place in _PLACES] for leg in _LEGS],
        "vantages": Evidence._fields,
        "marks": _MARKS,
        "noAnswer": telling.no_answer(SOURCE, DESTINATION),
        "took": telling.took(SOURCE),
    }


def runs(positions: Sequence[int]) -> list[int]:
    """Ascending positions as first and last of each run: 1, 2, 3, 7 is 1, 3, 7, 7."""
    told: list[int] = []
    for position in sorted(set(positions)):
        if told and told[-1] == position - 1:
            told[-1] = position
        else:
            told += [position, position]
    return told
