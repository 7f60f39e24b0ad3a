"""Every cell as a line of comma-separated values: for a spreadsheet, or a script without JSON.

The columns are fixed; new ones may come at the end. What is not known or does not apply is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from preflight.core.belonging import Belonging
from preflight.core.groups import FamilyProbe
from preflight.core.model import Outcome, Verdict
from preflight.core.snapshot import Snapshot
from preflight.report.milliseconds import Milliseconds
from preflight.report.spreadsheet import END, field, record

COLUMNS = (
    "source", "source_address", "destination", "destination_address",
    "probe", "protocol", "port", "severity", "family",
    "verdict", "leg", "place", "cause", "rejected_by", "rtt_ms",
    "sent", "left", "arrived", "accepted", "answered", "returned", "received",
    "detail", "findings",
)  # fmt: skip


def dump(snapshot: Snapshot, file: TextIO) -> None:
    """Write a header and a line for each planned cell, by family, probe, source, destination."""
    file.write(record(COLUMNS))
    file.writelines(_lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[str]:
    matrix = snapshot.matrix
    parts = [("", "") if outcome is None else _parts(outcome) for outcome in matrix.table]
    untimed = ["".join(part) for part in parts]
    opened = [outcome is None or outcome.verdict is Verdict.OPEN for outcome in matrix.table]
    belonging = Belonging(snapshot.findings)
    number = Milliseconds("")
    for f, family in enumerate(matrix.families):
        ends = [f"{field(n.name)},{n.address_in(family) or ''}," for n in matrix.nodes]
        for p, probe in enumerate(matrix.probes):
            port = "" if probe.port is None else probe.port
            test = f"{field(probe.name)},{probe.protocol},{port},{probe.severity},{family},"
            rest = [f"{end}{test}" for end in ends]
            for source, begin in enumerate(ends):
                row, times = matrix.numbers(f, p, source), matrix.times(f, p, source)
                if times is None:
                    lines = [
                        f"{begin}{end}{untimed[cell]}" if cell else ""
                        for end, cell in zip(rest, row, strict=True)
                    ]
                else:
                    lines = [
                        f"{begin}{end}{parts[cell][0]}{number[time]}{parts[cell][1]}"
                        if cell
                        else ""
                        for end, cell, time in zip(rest, row, times, strict=True)
                    ]
                for destination, findings in belonging.row(FamilyProbe(p, family), source).items():
                    if not opened[row[destination]]:
                        lines[destination] += findings
                if any(row):
                    yield END.join(filter(None, lines)) + END


def _parts(outcome: Outcome) -> tuple[str, str]:
    """What a line says before its round-trip time and after, up to the findings."""
    before = outcome[:5]
    after = (*outcome.evidence, outcome.detail)
    return (
        "".join(f"{_known(value)}," for value in before),
        "".join(f",{_known(value)}" for value in after) + ",",
    )


def _known(value: object) -> str:
    return "" if value is None else field(value)
