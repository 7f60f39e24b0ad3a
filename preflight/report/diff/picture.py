"""Both runs' matrices side by side, for as many nodes as a picture can show."""

from __future__ import annotations

from dataclasses import replace

from preflight.core.diff.model import Diff
from preflight.core.diff.turns import COMPARED, Turn
from preflight.core.groups import FamilyProbe
from preflight.core.matrix import Matrix
from preflight.core.model import Probe
from preflight.report.diff import words
from preflight.report.layers import layers
from preflight.report.picture import Picture, draw_matrix, legend
from preflight.report.text import wrap

_MOST = 400  # nodes; above, blocks of cells say more than a picture
_WHEN = ("before", "after")
_ALIKE = frozenset({Turn.SAME, Turn.STILL, Turn.UNKNOWN})


def draw(diff: Diff, width: int, *, color: bool) -> list[str]:
    """Each test that changed, before and after; nothing where none did."""
    in_both = [t for t in diff.tallies if t.turns.keys() & (COMPARED | {Turn.LOST, Turn.CLEARED})]
    changed = [t.test for t in in_both if not t.turns.keys() <= _ALIKE]
    if not changed or len(diff.nodes) > _MOST:
        return []
    probes = list(dict.fromkeys(test.probe for test in changed))
    drawn = [_draw(diff, changed, width, color=color)]
    if len(probes) > 1 and not _in_one_row(diff, drawn[0], probes):
        own = ([test for test in changed if test.probe == probe] for probe in probes)
        drawn = [_draw(diff, tests, width, color=color) for tests in own]
    whole = Picture()
    for picture in drawn:
        whole.lines += picture.lines
        for number, name in picture.shortened.items():
            whole.lines += wrap(f"Row {number}: {name}", width)
        whole.lines += [""] if picture.shortened else []
        whole.signs |= picture.signs
        whole.alike |= picture.alike
    lines = [*whole.lines, *legend(whole, width)]
    same = [t.test for t in in_both if t.test not in changed]
    if same:
        lines.append(f"As before: {words.tests(same, diff)}.")
    return [*lines, ""]


def _draw(diff: Diff, tests: list[FamilyProbe], width: int, *, color: bool) -> Picture:
    matrix = _joined(diff, tests)
    return draw_matrix(matrix, layers(matrix), width, color=color)


def _in_one_row(diff: Diff, picture: Picture, probes: list[int]) -> bool:
    titles = [f"{diff.probe_names[probe]} {when}" for probe in probes for when in _WHEN]
    return any(all(title in line for title in titles) for line in picture.lines)


def _joined(diff: Diff, tests: list[FamilyProbe]) -> Matrix:
    """One matrix of all nodes, where each probe stands twice."""
    wanted = sorted({test.probe for test in tests})
    names = diff.probe_names
    probes: list[Probe] = []
    for probe in wanted:
        own = diff.probes[probe]
        former = own.former or own.probe
        probes += [
            replace(kind, name=f"{names[probe]} {when}")
            for kind, when in zip((former, own.probe), _WHEN, strict=True)
        ]
    matrix = Matrix([pairing.node for pairing in diff.nodes], probes, diff.families)
    for test in tests:
        family = diff.families.index(test.family)
        for source in range(len(diff.nodes)):
            for side, row in enumerate(diff.book.outcomes(test, source)):
                at = wanted.index(test.probe) * 2 + side
                matrix.set_row(family, at, source, list(map(matrix.number, row)))
    return matrix
