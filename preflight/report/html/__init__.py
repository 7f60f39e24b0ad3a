"""A report to hand on: one HTML file that needs no network, made for people."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import TextIO

from preflight.core.diff.model import Diff
from preflight.core.diff.turns import WORSENED
from preflight.core.groups import FamilyProbe, groups
from preflight.core.model import AgentInfo, Severity
from preflight.core.snapshot import Snapshot
from preflight.core.terms import plural
from preflight.report.grouping import groupings
from preflight.report.html import comparison, header, page, sections
from preflight.report.html.payload import PHASES, Payload, Side, Test, is_timed, key_of
from preflight.report.layers import Layer, layers
from preflight.report.presentable import presentable
from preflight.report.text import Speech

__all__ = ["render", "render_diff"]

_UNTIMED = "Round-trip times of so many cells are left out here: preflight explain tells a pair's."


def render(snapshot: Snapshot, file: TextIO) -> None:
    """Write the whole report to `file`, in ASCII."""
    snapshot = presentable(snapshot, Speech(StringIO()))
    matrix = snapshot.matrix
    tests = layers(matrix)
    shown = [
        Test(key_of(matrix.probes.index(t.probe), matrix.families.index(t.family)), *t[:2])
        for t in tests
    ]
    keys = {FamilyProbe(matrix.probes.index(t.probe), t.family): t.key for t in shown}
    payload = Payload()
    value = payload.whole(
        matrix.nodes,
        snapshot.agents,
        groupings(matrix.nodes, tests),
        shown,
        worst(tests, shown),
        [Side(PHASES[snapshot.phase], snapshot, None, keys)],
    )
    top = header.answer(snapshot, tests) + header.facts(snapshot, tests) + header.cards(tests)
    title = f"preflight: {plural(len(matrix.nodes), 'node')}, {PHASES[snapshot.phase].lower()}"
    file.writelines(page.write(title, top, _sections(snapshot, tests), payload.scripts(value)))


def render_diff(diff: Diff, file: TextIO) -> None:
    """Write what changed between two runs, with both matrices, to `file`, in ASCII."""
    from preflight.report.diff.presentable import presentable_diff

    diff = presentable_diff(diff, Speech(StringIO()))
    nodes = [pairing.node for pairing in diff.nodes]
    names = diff.probe_names
    shown = [
        Test(
            key_of(tally.test.probe, diff.families.index(tally.test.family)),
            replace(
                diff.probes[tally.test.probe].probe,
                name=names[tally.test.probe],
                severity=tally.severity,
            ),
            tally.test.family,
        )
        for tally in diff.tallies
    ]
    payload = Payload()
    turns = {
        "kinds": comparison.kinds(),
        "tests": {
            test.key: payload.pack(comparison.pack_turns(diff, tally))
            for test, tally in zip(shown, diff.tallies, strict=True)
        },
    }
    groups = groupings(nodes, ())
    value = payload.whole(
        nodes, _agents(diff), groups, shown, _first(diff, shown), _sides(diff), turns
    )
    title = f"preflight: what changed, {plural(len(nodes), 'node')}"
    told = [_notes(diff), *comparison.sections(diff), *_common(diff, shown)]
    found = [section for section in told if section.markup]
    file.writelines(page.write(title, comparison.top(diff), found, payload.scripts(value)))


def _agents(diff: Diff) -> list[AgentInfo]:
    return [
        diff.after.agents[pairing.after]
        if pairing.after is not None
        else diff.before.agents[pairing.before or 0]
        for pairing in diff.nodes
    ]


def _sides(diff: Diff) -> list[Side]:
    sides = []
    for name, snapshot, after, anchors in zip(
        ("Before", "After"), (diff.before, diff.after), (False, True), comparison.anchors(diff),
        strict=True,
    ):  # fmt: skip
        positions = [pairing.after if after else pairing.before for pairing in diff.nodes]
        matrix = snapshot.matrix
        keys = {}
        for number, pairing in enumerate(diff.probes):
            own = pairing.after if after else pairing.before
            for position, family in enumerate(matrix.families):
                if own is not None and matrix.outcomes_of(position, own):
                    key = key_of(number, diff.families.index(family))
                    keys[FamilyProbe(own, family)] = key
        straight = positions == list(range(len(matrix.nodes)))
        sides.append(Side(name, snapshot, None if straight else positions, keys, anchors))
    return sides


def _first(diff: Diff, shown: list[Test]) -> str:
    """The key of the test to begin with: the first that got worse, required ones before others."""
    bad = [tally.turns.keys() & WORSENED for tally in diff.tallies]
    order = sorted(
        range(len(shown)),
        key=lambda i: (diff.tallies[i].severity is not Severity.REQUIRED, not bad[i]),
    )
    worse = [i for i in order if bad[i]] or order
    return shown[worse[0]].key if worse else ""


def _notes(diff: Diff) -> page.Section:
    timed = is_timed(diff.before) and is_timed(diff.after)
    notes = [*diff.notes, *([] if timed else [_UNTIMED])]
    return page.Section("notes", "Notes", sections.notes(notes))


def _common(diff: Diff, shown: list[Test]) -> list[page.Section]:
    return [
        page.Section("matrix", "Matrix", page.matrix() if shown else ""),
        page.Section("nodes", "Nodes", comparison.nodes(diff), True, len(diff.nodes)),
    ]


def worst(tests: list[Layer], shown: list[Test]) -> str:
    """The key of the test to begin with: the first that Cilium requires and that is not open."""
    ranks = {"bad": 0, "warn": 1, "unknown": 2}
    pairs = zip(tests, shown, strict=True)
    return min(pairs, key=lambda pair: ranks.get(pair[0].style or "", 3))[1].key if shown else ""


def _sections(snapshot: Snapshot, tests: list[Layer]) -> list[page.Section]:
    notes = [*snapshot.notes, *([] if is_timed(snapshot) else [_UNTIMED])]
    unusable = sections.unusable(snapshot)
    alike = groups(snapshot.matrix)
    told = sections.findings(snapshot, alike)
    listed = sections.cell_list(snapshot.matrix, alike)
    found = [
        page.Section("notes", "Notes", sections.notes(notes)),
        page.Section("findings", "Findings", told, number=len(snapshot.findings))
        if snapshot.findings
        else page.Section("findings", "Not open, and why", told),
        page.Section("agents", "Nodes without an agent", unusable),
        page.Section("matrix", "Matrix", page.matrix()) if tests else None,
        page.Section("cells", "Cells that are not open, in groups", listed, True, len(alike)),
        page.Section(
            "nodes", "Nodes", sections.node_list(snapshot), True, len(snapshot.matrix.nodes)
        ),
    ]
    return [section for section in found if section is not None and section.markup]
