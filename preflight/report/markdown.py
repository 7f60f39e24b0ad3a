"""A snapshot for a ticket: verdict, findings, what to change, the matrix while it is small.

Short, as whoever gets the ticket reads the top of it; `full` leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from io import StringIO
from typing import TextIO

from preflight.core.findings.model import Finding
from preflight.core.groups import FamilyProbe, Group, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import AgentState, Phase, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.terms import plural, traffic
from preflight.core.view import View
from preflight.report import words
from preflight.report.causes import tell_causes
from preflight.report.findings import Room, tell_finding
from preflight.report.layers import SPOKEN, Layer, layers
from preflight.report.picture import draw_matrix, involved, legend
from preflight.report.presentable import presentable
from preflight.report.prose import unusable
from preflight.report.summary import answers, numbers
from preflight.report.text import Speech
from preflight.report.ticket import Ticket, fenced, inline, table

_FINDINGS = 10  # in a short ticket
_CAUSES = 12
_WIDE = 100  # columns of a picture
_LINES = 32  # of a picture in a short ticket
_SHORT = Room(evidence=2, changes=3, requests=4, networks=4)
_WHOLE = Room(*[10**6] * 4)
_MORE = "`--full` has all"


def render(view: View, file: TextIO, *, full: bool = False) -> None:
    """Write the ticket; its lines are as long as their text."""
    speech = Speech(StringIO())
    whole, snapshot = (presentable(s, speech) for s in (view.whole, view.shown))
    tests = layers(snapshot.matrix)
    everything = layers(whole.matrix) if view.words else tests
    ticket = Ticket(titles=full)
    for line in _top(whole, everything):
        ticket.add([line])
    if view.words:
        ticket.add([f"**{inline(view.told)}** What is above is of the whole run."])
    if snapshot.findings:
        _findings(ticket, snapshot, full=full)
    elif full:
        ticket.heading("Not open, and why")
        tell_causes(ticket, snapshot.matrix)
    else:
        _causes(ticket, snapshot.matrix)
    _unusable(ticket, snapshot, involved(tests))
    _picture(ticket, snapshot.matrix, tests, full=full, part=bool(view.words))
    if snapshot.notes:
        ticket.heading("Notes")
        for note in snapshot.notes:
            ticket.bullet(note)
    if full:
        _nodes(ticket, snapshot)
    file.write("\n".join(ticket.lines) + "\n")


def _top(snapshot: Snapshot, tests: Sequence[Layer]) -> Iterator[str]:
    """What it came to, what was tested, and in numbers."""
    if snapshot.interrupted:
        yield "**INTERRUPTED: what was not measured by then is unknown.**"
    if all(agent.state is not AgentState.OK for agent in snapshot.agents):
        yield "**No node could be used: nothing was tested.**"
    for number, (sentence, _) in enumerate(answers(snapshot, tests)):
        yield inline(sentence) if number else f"**{inline(sentence)}**"
    families = [f for f in snapshot.matrix.families if any(t.family is f for t in tests)]
    probes = [
        f"{probe.name} ({traffic(probe, families[0])}, {probe.severity})"
        for probe in dict.fromkeys(test.probe for test in tests)
    ]
    scope = [
        "Before Cilium" if snapshot.phase is Phase.BEFORE else "With Cilium",
        snapshot.started,
        *([" and ".join(SPOKEN[family] for family in families)] if families else []),
        *probes,
    ]
    yield inline(f"{', '.join(scope)}. {numbers(snapshot)}.")


def _findings(ticket: Ticket, snapshot: Snapshot, *, full: bool) -> None:
    ticket.heading("Findings")
    told = snapshot.findings if full else snapshot.findings[:_FINDINGS]
    ticket.add(table(("", "severity", "finding", "where", "pairs"), map(_row, told)))
    left = snapshot.findings[len(told) :]
    if left:
        cells = sum(finding.cells for finding in left)
        ticket.add([f"and {plural(len(left), 'finding')} more, {plural(cells, 'cell')}: {_MORE}."])
    if full or any(f.changes or f.requests or f.advice for f in told):
        ticket.heading("Each of them" if full else "What to change")
    for finding in told:
        if full or finding.changes or finding.requests or finding.advice:
            tell_finding(ticket, finding, snapshot.matrix, _WHOLE if full else _SHORT)


def _row(finding: Finding) -> tuple[str, ...]:
    return (
        inline(finding.identifier),
        str(finding.severity),
        inline(finding.title),
        inline(finding.where),
        f"{finding.pairs:,}" if finding.pairs else "",
    )


def _causes(ticket: Ticket, matrix: Matrix) -> None:
    """What the cells say, where nobody looked closer."""
    if all(outcome.verdict is Verdict.OPEN for outcome in matrix.outcomes()):
        return
    causes: dict[tuple[Kind, tuple[FamilyProbe, ...]], list[Group]] = {}
    for group in groups(matrix):
        causes.setdefault((group.kind, group.tests), []).append(group)
    rows = []
    for (kind, tests), own in causes.items():
        where = own[0].where if len(own) == 1 else f"{own[0].where} and {len(own) - 1:,} more"
        rows.append(
            (
                inline(words.tests_in_words(tests, matrix)),
                str(own[0].severity),
                inline(words.headline(kind, words.rejecter(kind, matrix))),
                inline(where),
                f"{sum(group.pairs for group in own):,}",
            )
        )
    ticket.heading("Not open")
    ticket.add(table(("probes", "severity", "what", "where", "pairs"), rows[:_CAUSES]))
    if len(rows) > _CAUSES:
        ticket.add([f"and {plural(len(rows) - _CAUSES, 'cause')} more: {_MORE}."])


def _unusable(ticket: Ticket, snapshot: Snapshot, involved_nodes: Collection[int]) -> None:
    rows = unusable(snapshot, involved_nodes)
    if rows:
        ticket.heading("Nodes without an agent")
        cells = (tuple(map(inline, row)) for row in rows)
        ticket.add(table(("nodes", "state", "reason"), cells))


def _picture(
    ticket: Ticket, matrix: Matrix, tests: Sequence[Layer], *, full: bool, part: bool
) -> None:
    drawn = [test for test in tests if full or test.uniform is None]
    if not drawn:
        return
    picture = draw_matrix(matrix, tests, _WIDE, color=False)
    ticket.heading("Matrix")
    if not full and len(picture.lines) > _LINES:
        ticket.add([f"{len(picture.lines):,} lines, left out here: {_MORE}."])
        return
    more = [f"{number}: {name}" for number, name in picture.shortened.items()]
    lines = [*picture.lines, *legend(picture, _WIDE, part=part), *([""] if more else []), *more]
    while lines and not lines[-1]:
        lines.pop()
    ticket.add(fenced(lines, "text"))


def _nodes(ticket: Ticket, snapshot: Snapshot) -> None:
    ticket.heading("Nodes")
    rows = (
        (
            inline(node.name),
            inline(", ".join(node.addresses)),
            inline(", ".join(f"{key}={value}" for key, value in node.labels.items())),
            inline(words.STATES[agent.state]),
        )
        for node, agent in zip(snapshot.matrix.nodes, snapshot.agents, strict=True)
    )
    ticket.add(table(("node", "addresses", "labels", "agent"), rows))
