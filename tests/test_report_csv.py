"""Every cell on a line, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io

from found import BETWEEN_RACKS, HOST_RULE, with_findings
from hypothesis import example, given
from hypothesis import strategies as st
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    NO_AGENT,
    Fault,
    blocked,
    sample,
)

from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Family, Place
from preflight.core.snapshot import Snapshot
from preflight.report.csv import COLUMNS, dump
from preflight.report.spreadsheet import field, record


def dumped(snapshot: Snapshot) -> str:
    file = io.StringIO(newline="")
    dump(snapshot, file)
    return file.getvalue()


def rows(snapshot: Snapshot) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(dumped(snapshot), newline=""), strict=True))


def test_a_line_for_each_cell_with_all_that_is_known_of_it() -> None:
    rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1")
    snapshot = sample(
        4,
        2,
        [
            Fault(rejected._replace(detail='it says "no", twice'), "n1", "n2", "echo", Family.IPV6),
            Fault(None, "n3"),
            Fault(NO_AGENT, "n4", "n1"),
        ],
        families=(Family.IPV4, Family.IPV6),
    )
    found = rows(snapshot)
    matrix: Matrix = snapshot.matrix
    cells = list(matrix.cells())
    assert [tuple(found[0])] == [COLUMNS]
    assert len(found) == len(cells) == 2 * 3 * 9
    for line, cell in zip(found, cells, strict=True):
        source, destination = matrix.nodes[cell.source], matrix.nodes[cell.destination]
        probe, outcome = matrix.probes[cell.probe], cell.outcome
        expected = {
            "source": source.name,
            "source_address": source.address_in(cell.family),
            "destination": destination.name,
            "destination_address": destination.address_in(cell.family),
            "probe": probe.name,
            "protocol": probe.protocol,
            "port": probe.port,
            "severity": probe.severity,
            "family": cell.family,
            "verdict": outcome.verdict,
            "leg": outcome.leg,
            "place": outcome.place,
            "cause": outcome.cause,
            "rejected_by": outcome.rejected_by,
            "rtt_ms": None if cell.rtt_ms is None else round(cell.rtt_ms, 3),
            **outcome.evidence._asdict(),
            "detail": outcome.detail,
            "findings": "",
        }
        assert line == {k: "" if v is None else str(v) for k, v in expected.items()}


def test_lines_end_as_the_standard_says_and_hold_no_other_break() -> None:
    text = dumped(sample(["a\nb", "c\rd"]))
    assert text.count("\r\n") == text.count("\n") == text.count("\r") == 1 + 6
    assert text.startswith("source,source_address,destination,")


def test_cells_name_their_findings() -> None:
    faults = [
        Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
        Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
        Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "health"),
    ]
    twice = HOST_RULE._replace(identifier="F3")
    snapshot = with_findings(sample(4, 2, faults), HOST_RULE, BETWEEN_RACKS, twice)
    second = snapshot.findings[1].identifier
    for line in rows(snapshot):
        crosses = (line["source"] in "n1n2") is not (line["destination"] in "n1n2")
        expected = ""
        if line["probe"] == "geneve" and line["destination"] == "n2":
            expected = " ".join(f.identifier for f in snapshot.findings[::2])
        elif line["probe"] == "health" and crosses:
            expected = second
        assert line["findings"] == expected, line


def test_an_open_cell_has_no_finding() -> None:
    snapshot = with_findings(sample(4), HOST_RULE)
    assert {line["findings"] for line in rows(snapshot)} == {""}


@given(st.text())
@example("=1+1")
@example("\t=1")
@example(" -2")
@example('"=cmd|')
@example("\uff1d1")
def test_no_field_is_a_formula_and_every_field_comes_back(text: str) -> None:
    (row,) = csv.reader(io.StringIO(record([text, "next"]), newline=""), strict=True)
    assert row[1] == "next"
    assert row[0].isprintable()
    assert (
        not row[0].lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    )
    if text.isprintable() and field(text) == text:
        assert row[0] == text
