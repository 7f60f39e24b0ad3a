"""A snapshot as a test report that CI servers read: a suite for each test, a case for each pair.

What Cilium requires and is bad is a failure; required and unknown is an error, as nothing was
proved. What is only recommended never fails a pipeline, as `check` does not: it is skipped, with
the reason; strictly taken it fails like the rest.

Above 50,000 cells, more than a CI server shows, what is open is a case for each source, and what
is not is a case for each cell, or where even that is too much for each block of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, TextIO

from preflight.core.belonging import Belonging
from preflight.core.findings.model import Finding
from preflight.core.groups import FamilyProbe, Group, Kind, groups
from preflight.core.model import Evidence, Severity, Verdict
from preflight.core.terms import plural, traffic
from preflight.core.view import View
from preflight.report import words
from preflight.report.xml import DECLARATION, element, indented, lines, start

_MOST = 50_000  # cases in a report
_ERROR, _FAILURE, _SKIPPED = "error", "failure", "skipped"


class _Bad(NamedTuple):
    """What a case that did not pass says."""

    result: str  # the element's name
    verdict: Verdict
    message: str
    about: tuple[str, ...]  # lines


def render(view: View, file: TextIO, *, strict: bool = False) -> None:
    """Write the report, in ASCII; `strict` takes recommended probes for required ones."""
    file.write(DECLARATION)
    file.write("<testsuites>\n")
    file.writelines(_Report(view, strict=strict).suites())
    file.write("</testsuites>\n")


class _Report:
    """All suites."""

    def __init__(self, view: View, *, strict: bool) -> None:
        self._view = view
        self._snapshot = view.shown
        self._matrix = view.shown.matrix
        self._strict = strict
        self._findings = {f.identifier: f for f in self._snapshot.findings}
        self._belonging = Belonging(self._snapshot.findings)
        self._names = [node.name for node in self._matrix.nodes]
        counts = self._matrix.outcomes()
        bad = sum(n for outcome, n in counts.items() if outcome.verdict is not Verdict.OPEN)
        self._each = sum(counts.values()) <= _MOST
        self._blocks = bad > _MOST
        self._groups: Sequence[Group] = groups(self._matrix) if self._blocks else ()

    def suites(self) -> Iterator[str]:
        """One for each test that has a cell."""
        number = 0
        for f, family in enumerate(self._matrix.families):
            for p in range(len(self._matrix.probes)):
                if self._matrix.outcomes_of(f, p):
                    yield from self._suite(number, FamilyProbe(p, family), f)
                    number += 1

    def _suite(self, number: int, test: FamilyProbe, family: int) -> Iterator[str]:
        probe = self._matrix.probes[test.probe]
        title = f"{probe.name} {test.family} ({probe.severity})"
        cases, results = self._count(test, family)
        yield (
            start(
                "testsuite",
                id=number,
                package="preflight",
                name=title,
                tests=cases,
                failures=results[_FAILURE],
                errors=results[_ERROR],
                skipped=results[_SKIPPED],
                time=f"{self._snapshot.timings.get('total_s', 0):.3f}",
                timestamp=_seconds(self._snapshot.started),
                hostname="preflight",
            )
            + "\n"
        )
        yield " <properties>\n"
        yield from indented(self._properties(test), 2)
        yield " </properties>\n"
        yield from indented(self._cases(test, family))
        told = [
            line
            for finding in self._snapshot.findings
            if test in finding.tests or (not finding.tests and number == 0)
            for line in _told(finding)
        ]
        yield f" {element('system-out', lines(told))}\n {element('system-err')}\n</testsuite>\n"

    def _properties(self, test: FamilyProbe) -> Iterator[str]:
        probe = self._matrix.probes[test.probe]
        snapshot = self._snapshot
        values = {
            "phase": snapshot.phase,
            "severity": probe.severity,
            "traffic": traffic(probe, test.family),
            "started": snapshot.started,
            "finished": snapshot.finished,
            "interrupted": str(snapshot.interrupted).lower(),
            "shown": self._view.told,
            "cases": "" if self._each else self._how(),
        }
        for name, value in values.items():
            if value:
                yield element("property", name=name, value=value)

    def _how(self) -> str:
        what = "block of cells" if self._blocks else "cell"
        return f"one for all open cells of a source, one for each {what} that is not open"

    # --- cases

    def _count(self, test: FamilyProbe, family: int) -> tuple[int, Counter[str]]:
        """How many cases a suite has, and how many of each result but passed."""
        results: Counter[str] = Counter()
        opened = 0
        for outcome, number in self._matrix.outcomes_of(family, test.probe).items():
            result = self._result(outcome.verdict, test)
            if result is None:
                opened += number
            elif not self._blocks:
                results[result] += number
        for group in self._groups:
            if test in group.tests and (result := self._result(group.kind.verdict, test)):
                results[result] += 1
        if not self._each:
            opened = sum(any(row) for row in self._opened(test, family))
        return opened + sum(results.values()), results

    def _opened(self, test: FamilyProbe, family: int) -> Iterator[bytes]:
        signs = [o is not None and o.verdict is Verdict.OPEN for o in self._matrix.table]
        return self._matrix.rows(family, test.probe, signs)

    def _cases(self, test: FamilyProbe, family: int) -> Iterator[str]:
        matrix = self._matrix
        parts = [
            None if outcome is None else self._bad(Kind(*outcome[:5]), outcome.detail, test,
                                                   outcome.evidence)
            for outcome in matrix.table
        ]  # fmt: skip
        if not self._each:
            for source, row in enumerate(self._opened(test, family)):
                if any(row):
                    yield self._case(test, f"{self._names[source]} -> all that are open")
        for group in self._groups:
            if test in group.tests:
                found = self._bad(group.kind, None, test, group.sample.outcome.evidence)
                if found is not None:
                    where = group.where.replace("→", "->").replace("↔", "<->")
                    about = (plural(group.pairs, "pair"), *found.about)
                    found = found._replace(about=about)
                    yield self._case(test, f"{where}: {found.message}", found)
        if self._blocks:
            return
        for source, name in enumerate(self._names):
            findings = self._belonging.row(test, source)
            times = matrix.times(family, test.probe, source)
            for destination, number in enumerate(matrix.numbers(family, test.probe, source)):
                if not number or (parts[number] is None and not self._each):
                    continue
                bad = parts[number]
                if bad is not None and destination in findings:
                    bad = self._with(bad, findings[destination])
                time = None if times is None else times[destination]
                yield self._case(test, f"{name} -> {self._names[destination]}", bad, time)

    def _case(
        self, test: FamilyProbe, name: str, bad: _Bad | None = None, rtt_ms: float | None = None
    ) -> str:
        probe = self._matrix.probes[test.probe]
        content = ""
        if bad is not None:
            content = element(bad.result, lines(bad.about), message=bad.message, type=bad.verdict)
        plain = probe.name.replace(".", "_")
        return element(
            "testcase",
            content,
            classname=f"preflight.{probe.severity}.{plain}-{test.family}",
            name=name,
            time="0" if rtt_ms is None or rtt_ms != rtt_ms else f"{rtt_ms / 1000:.6f}",  # noqa: PLR0124
        )

    def _bad(
        self, kind: Kind, detail: str | None, test: FamilyProbe, seen: Evidence
    ) -> _Bad | None:
        """What cells of a kind say; None where they pass."""
        result = self._result(kind.verdict, test)
        if result is None:
            return None
        matrix = self._matrix
        probe = matrix.probes[test.probe]
        who = words.rejecter(kind, matrix)
        what = traffic(probe, test.family)
        told = (
            f"{what}, {probe.severity}",
            words.evidence(seen),
            words.remedy(kind, what, who),
            detail or "",
        )
        return _Bad(result, kind.verdict, words.headline(kind, who), tuple(filter(None, told)))

    def _with(self, bad: _Bad, identifiers: str) -> _Bad:
        titles = [f"{i}: {self._findings[i].title}" for i in identifiers.split()]
        return bad._replace(about=(*bad.about, *titles))

    def _result(self, verdict: Verdict, test: FamilyProbe) -> str | None:
        if verdict is Verdict.OPEN:
            return None
        required = self._matrix.probes[test.probe].severity is Severity.REQUIRED
        if not (required or self._strict):
            return _SKIPPED
        return _ERROR if verdict is Verdict.UNKNOWN else _FAILURE


def _told(finding: Finding) -> Iterator[str]:
    """A finding in short: what it is and what mends it."""
    yield f"{finding.identifier} {finding.severity}: {finding.title}"
    if finding.advice:
        yield f"  {finding.advice}"
    for change in finding.changes:
        for command in change.commands:
            yield f"  {change.node}: {command}" if change.node else f"  {command}"
    for request in finding.requests:
        port = "" if request.port is None else f" {request.port}"
        ends = f"{', '.join(request.sources)} -> {', '.join(request.destinations)}"
        yield f"  to allow: {request.protocol}{port}, {ends}"


def _seconds(moment: str) -> str:
    """An ISO 8601 time without zone or fraction, as such reports have it; it is UTC."""
    try:
        return datetime.fromisoformat(moment).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return "1970-01-01T00:00:00"
