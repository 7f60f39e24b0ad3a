"""The matrix as the page's script gets it: numbers for cells, and what the numbers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from preflight.core.groups import FamilyProbe
from preflight.core.model import AgentInfo, Family, Node, Phase, Probe, Severity
from preflight.core.packing import milliseconds, pack_test, pack_test_times
from preflight.core.snapshot import Snapshot
from preflight.report import telling
from preflight.report.grouping import Grouping
from preflight.report.html.markup import data
from preflight.report.html.tales import Shapes, Strings, Tales, words
from preflight.report.picture import shared_domain
from preflight.report.symbols import LEGEND, NOT_PLANNED, OPEN, UNKNOWN, symbol
from preflight.report.text import clean
from preflight.report.words import STATES

# The colour of each sign, as `palette` names it.
COLOURS: Mapping[str, str] = {
    OPEN: "open", "S": "source", "s": "source", "P": "path", "p": "path", "D": "destination",
    "d": "destination", "B": "place", "~": "lossy", "c": "closed", UNKNOWN: "unknown",
    NOT_PLANNED: "none",
}  # fmt: skip
_TIMED = 2_000_000  # cells, above which the page leaves round-trip times out, and says so
PHASES = {Phase.BEFORE: "Before Cilium", Phase.AFTER: "With Cilium"}


class Side(NamedTuple):
    """One run of the page, in positions of its own matrix."""

    name: str  # what the switch says
    snapshot: Snapshot
    nodes: Sequence[int | None] | None  # for each node of the page its position; None: the same
    keys: Mapping[FamilyProbe, str]  # the page's name of each test that has cells
    anchors: Mapping[str, str] = {}  # ids of the articles that tell its findings, by identifier


class Test(NamedTuple):
    """One probe over one family, as the page offers it."""

    key: str
    probe: Probe
    family: Family


class Payload:
    """Everything the script reads: one JSON text, and packed cells that it need not unpack."""

    def __init__(self) -> None:
        self._packed: list[tuple[str, Iterator[str]]] = []
        self._strings = Strings()
        self._shapes = Shapes(self._strings)

    def whole(
        self,
        nodes: Sequence[Node],
        agents: Sequence[AgentInfo],
        groupings: Sequence[Grouping],
        tests: Sequence[Test],
        first: str,
        sides: Sequence[Side],
        turns: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The JSON's value; `first` is the key of the test that is shown first."""
        told = [self._side(side) for side in sides]
        return {
            "nodes": _nodes(nodes, agents),
            "groupings": [
                {"title": clean(g.title), "names": list(map(clean, g.names)), "of": g.of}
                for g in groupings
            ],
            "tests": [_test(test) for test in tests],
            "first": first,
            "kinds": [
                [sign, LEGEND[sign].partition(": ")[2] or LEGEND[sign], COLOURS[sign]]
                if sign == NOT_PLANNED
                else [sign, LEGEND[sign], COLOURS[sign]]
                for sign in LEGEND
            ],
            "sides": told,
            "turns": turns,
            "strings": self._strings.all,
            "shapes": self._shapes.all,
            "words": words(),
            "ms": [round(time, 3) for time in milliseconds()],
        }

    def pack(self, pieces: Iterator[str]) -> str:
        """Keep packed bytes for a `script` of their own; answers its id."""
        name = f"packed-{len(self._packed)}"
        self._packed.append((name, pieces))
        return name

    def scripts(self, value: Mapping[str, Any]) -> Iterator[str]:
        """The elements, in pieces."""
        yield f'<script type="application/json" id="data">{data(value)}</script>\n'
        for name, pieces in self._packed:
            yield f'<script type="text/plain" id="{name}">'
            yield from pieces
            yield "</script>\n"

    def _side(self, side: Side) -> dict[str, Any]:
        snapshot = side.snapshot
        matrix = snapshot.matrix
        tales = Tales(snapshot, side.keys, self._strings, self._shapes)
        kinds = list(LEGEND)
        timed = is_timed(snapshot)
        tests = {}
        for test, key in side.keys.items():
            family = matrix.families.index(test.family)
            width, cells = pack_test(matrix, family, test.probe)
            times = pack_test_times(matrix, family, test.probe) if timed else None
            tests[key] = {
                "cells": self.pack(cells),
                "width": width,
                "times": None if times is None else self.pack(times),
                "tales": tales.of_test(family, test.probe),
            }
        return {
            "name": side.name,
            "when": clean(snapshot.started),
            "size": len(matrix.nodes),
            "nodes": None if side.nodes is None else [-1 if n is None else n for n in side.nodes],
            "tests": tests,
            "kinds": [kinds.index(symbol(outcome)) for outcome in matrix.table],
            "seen": tales.outcomes(),
            "findings": tales.findings(side.anchors),
        }


def key_of(probe: int, family: int) -> str:
    """How a test is called in the page's data."""
    return f"{probe}/{family}"


def is_timed(snapshot: Snapshot) -> bool:
    """Whether the page has round-trip times: of very many cells they would be most of the file."""
    matrix = snapshot.matrix
    return len(matrix.nodes) ** 2 * len(matrix.probes) * len(matrix.families) <= _TIMED


def _nodes(nodes: Sequence[Node], agents: Sequence[AgentInfo]) -> dict[str, Any]:
    names = [clean(node.name) for node in nodes]
    return {
        "names": names,
        "domain": shared_domain(names),
        "addresses": [list(map(clean, node.addresses)) for node in nodes],
        "labels": [
            [f"{clean(key)}={clean(value)}" for key, value in node.labels.items()] for node in nodes
        ],
        "agents": [clean(STATES[agent.state]) for agent in agents],
    }


def _test(test: Test) -> dict[str, Any]:
    return {
        "key": test.key,
        "probe": clean(test.probe.name),
        "family": test.family,
        "heading": clean(telling.heading(test.probe, test.family)),
        "required": test.probe.severity is Severity.REQUIRED,
        "oneWay": test.probe.one_way,
    }
