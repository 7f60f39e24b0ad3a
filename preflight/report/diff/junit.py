"""A diff as JUnit, for CI servers: a case for each pair and probe that either run tested.

What got worse and is required fails; with `strict` what is recommended, too. What is required, was
known and is not any more is an error. What else was not known in one of the runs is skipped, with
the reason, and so is what got worse and is only recommended. All else passes; what is still bad
says so in its output. Where there are more than 50,000 cells, cases are blocks of cells that turned
alike, and one for all cells of a test that are open in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TextIO
from xml.sax.saxutils import escape, quoteattr

from preflight.core.diff.model import Diff, Tally
from preflight.core.diff.turns import STILL_BAD, WORSENED, Turn
from preflight.core.groups import FamilyProbe
from preflight.core.model import Severity
from preflight.core.naming import members
from preflight.core.terms import plural
from preflight.report.diff import words
from preflight.report.text import clean

_MOST = 50_000  # cells that are cases of their own
_MESSAGES = {
    Turn.LOST: "it was known before, and is not known now",
    Turn.ONLY_BEFORE: "it was known before, and was not tested after",
    Turn.UNKNOWN: "it is known in neither run",
    Turn.REVEALED: "it was not known before, so nobody can say that it got worse",
    Turn.CLEARED: "it was not known before",
    Turn.ONLY_AFTER: "it was not tested before",
    Turn.CAME: "a node came, so there is nothing to compare with",
    Turn.WENT: "a node went, so there is nothing to compare with",
}


class _Case(NamedTuple):
    name: str
    turn: Turn
    before: str
    after: str


def write(diff: Diff, *, strict: bool, file: TextIO) -> None:
    """Write the XML document, a suite for each probe over each family."""
    many = sum(sum(tally.turns.values()) for tally in diff.tallies) > _MOST
    file.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="preflight diff">\n')
    for tally in diff.tallies:
        file.writelines(_suite(diff, tally, strict=strict, many=many))
    file.write("</testsuites>\n")


def _suite(diff: Diff, tally: Tally, *, strict: bool, many: bool) -> Iterator[str]:
    probe = clean(diff.probe_names[tally.test.probe])
    required = strict or tally.severity is Severity.REQUIRED
    cases = list(_blocks(diff, tally) if many else _cells(diff, tally.test))
    bodies = [_body(case, required=required) for case in cases]
    failures = sum(body.startswith("<failure") for body in bodies)
    errors = sum(body.startswith("<error") for body in bodies)
    skipped = sum(body.startswith("<skipped") for body in bodies)
    yield (
        f"  <testsuite name={quoteattr(f'{probe} {tally.test.family}')} tests="
        f'"{len(cases)}" failures="{failures}" errors="{errors}" skipped="{skipped}">\n'
        f'    <properties><property name="severity" value="{tally.severity}"/>'
        f'<property name="cells" value="{sum(tally.turns.values())}"/></properties>\n'
    )
    group = quoteattr(f"preflight.diff.{tally.severity}.{probe}.{tally.test.family}")
    for case, body in zip(cases, bodies, strict=True):
        start = f"    <testcase classname={group} name={quoteattr(clean(case.name))}"
        yield f"{start}>{body}</testcase>\n" if body else f"{start}/>\n"
    yield "  </testsuite>\n"


def _body(case: _Case, *, required: bool) -> str:
    turned = clean(f"{case.before} → {case.after}")
    if case.turn in WORSENED:
        if required:
            return f"<failure type={quoteattr(str(case.turn))} message={quoteattr(turned)}/>"
        return f"<skipped message={quoteattr(f'recommended, and got worse: {turned}')}/>"
    if case.turn in (Turn.LOST, Turn.ONLY_BEFORE) and required:
        return f"<error type={quoteattr(str(case.turn))} message={quoteattr(turned)}/>"
    if case.turn in _MESSAGES:
        return f"<skipped message={quoteattr(f'{_MESSAGES[case.turn]}: {turned}')}/>"
    if case.turn in STILL_BAD or case.turn is Turn.MENDED:
        return f"<system-out>{escape(f'{case.turn}: {turned}')}</system-out>"
    return ""


def _cells(diff: Diff, test: FamilyProbe) -> Iterator[_Case]:
    names = [pairing.node.name for pairing in diff.nodes]
    for source, row in enumerate(diff.book.rows(test)):
        turns = {d: turned for turned, there in row.items() for d in members(there)}
        for destination in sorted(turns):
            turned = turns[destination]
            yield _Case(
                f"{names[source]} → {names[destination]}",
                turned.turn,
                words.state(turned.before, diff),
                words.state(turned.after, diff),
            )


def _blocks(diff: Diff, tally: Tally) -> Iterator[_Case]:
    rest = dict(tally.turns)
    for change in diff.changes:
        if tally.test in change.tests:
            rest[change.turn] -= change.pairs
            yield _Case(
                f"{change.where} ({plural(change.pairs, 'pair')})",
                change.turn,
                words.state(change.before, diff),
                words.state(change.after, diff),
            )
    for turn, number in rest.items():
        if number:
            before = "not tested" if turn is Turn.CAME else "open"
            after = "not tested" if turn is Turn.WENT else "open"
            yield _Case(f"{turn} ({plural(number, 'pair')})", turn, before, after)
