"""The rules to ask a firewall team for: as text, as CSV for a ticket, as JSON for a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from preflight.core.findings.model import Finding, Request
from preflight.core.model import Family, Probe, Protocol, Severity
from preflight.report.paper import Paper
from preflight.report.spreadsheet import record
from preflight.report.text import Speech

SCHEMA = "preflight/rules/1"
_HEAD = (
    "Rules to ask for, between the nodes. Each is for one direction, from its sources to its "
    "destinations."
)
_NONE = "No rule to ask for: no finding is about the network between the nodes."
_ONE_WAY, _STATEFUL = "one-way", "stateful"
_COLUMNS = (
    "number", "findings", "severity", "family", "protocol", "port", "source_ports", "sources",
    "destinations", "direction", "reason",
)  # fmt: skip


class _Row(NamedTuple):
    """A request with the findings that it is for."""

    request: Request
    findings: tuple[str, ...]
    severity: Severity


def text(findings: Sequence[Finding], probes: Sequence[Probe], file: TextIO, width: int) -> None:
    """For people; no line but one long word is wider than `width` cells."""
    speech, paper = Speech(file), Paper(width, color=False)
    rows = list(_rows(findings, probes))
    paper.sentence(_HEAD if rows else _NONE)
    for number, row in enumerate(rows, 1):
        request = row.request
        paper.gap()
        why = f"{', '.join(row.findings)}, {row.severity}"
        paper.sentence(f"{number}. {_traffic(request)} over {_family(request)} ({why})")
        told = [("from", ", ".join(request.sources)), ("to", ", ".join(request.destinations))]
        if request.source_ports:
            told.append(("source ports", request.source_ports))
        told.append(("reason", f"{request.reason}."))
        paper.rows(told, indent=3)
    file.writelines(f"{speech.say(line)}\n" for line in paper.lines)


def comma_separated(findings: Sequence[Finding], probes: Sequence[Probe], file: TextIO) -> None:
    """For a spreadsheet, as RFC 4180 has it. Addresses in one cell are separated by blanks."""
    file.write(record(_COLUMNS))
    for number, row in enumerate(_rows(findings, probes), 1):
        request = row.request
        cells = (
            number, " ".join(row.findings), row.severity, request.family, request.protocol,
            "" if request.port is None else request.port, request.source_ports,
            " ".join(request.sources), " ".join(request.destinations), _direction(request),
            request.reason,
        )  # fmt: skip
        file.write(record(cells))


def dump(findings: Sequence[Finding], probes: Sequence[Probe], file: TextIO) -> None:
    """One JSON object; a line for each request."""
    file.write(f'{{"schema": "{SCHEMA}", "requests": [')
    separator = "\n  "
    for row in _rows(findings, probes):
        value = {
            "findings": row.findings,
            "severity": row.severity,
            **row.request._asdict(),
            "direction": _direction(row.request),
        }
        file.write(separator + json.dumps(value))
        separator = ",\n  "
    file.write("\n]}\n")


def _rows(findings: Sequence[Finding], probes: Sequence[Probe]) -> Iterator[_Row]:
    """Each request once, in the findings' order; what needs one is as severe as its probe."""
    required = {(p.protocol, p.port) for p in probes if p.severity is Severity.REQUIRED}
    known: dict[Request, tuple[str, ...]] = {}
    for finding in findings:
        for request in finding.requests:
            of = known.get(request, ())
            known[request] = tuple(dict.fromkeys((*of, finding.identifier)))
    for request, identifiers in known.items():
        needed = (request.protocol, request.port) in required
        severity = Severity.REQUIRED if needed else Severity.RECOMMENDED
        yield _Row(request, identifiers, severity)


def _traffic(request: Request) -> str:
    if request.protocol is Protocol.ICMP:
        return "ICMPv6 echo" if request.family == Family.IPV6 else "ICMP echo"
    return f"{request.protocol.upper()} {request.port}"


def _family(request: Request) -> str:
    return "IPv6" if request.family == Family.IPV6 else "IPv4"


def _direction(request: Request) -> str:
    """UDP has no answers that belong to it: the other way needs a rule of its own."""
    return _ONE_WAY if request.protocol is Protocol.UDP else _STATEFUL
