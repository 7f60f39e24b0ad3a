"""What is said around a cell's story, wherever it is told: of whom, what it came to, what to do."""

from __future__ import annotations

from preflight.core.groups import FamilyProbe, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Leg, Outcome, Place, Probe, Severity, Verdict
from preflight.core.terms import traffic
from preflight.report import words
from preflight.report.layers import SPOKEN


def heading(probe: Probe, family: Family) -> str:
    """`geneve: UDP 6081 over IPv4, required`."""
    return f"{probe.name}: {traffic(probe, family)} over {SPOKEN[family]}, {probe.severity}"


def verdict(outcome: Outcome, test: FamilyProbe, matrix: Matrix) -> tuple[str, str]:
    """A cell's headline, and what to do where no finding knows better; that may be empty."""
    if outcome.verdict is Verdict.OPEN:
        return "open", ""
    kind = Kind(*outcome[:5])
    who = words.rejecter(kind, matrix, outcome)
    what = traffic(matrix.probes[test.probe], test.family)
    return words.headline(kind, who), words.remedy(kind, what, who)


def style(outcome: Outcome, severity: Severity) -> str:
    """The style of a headline."""
    if outcome.verdict in (Verdict.OPEN, Verdict.UNKNOWN):
        return "good" if outcome.verdict is Verdict.OPEN else "unknown"
    return "bad" if severity is Severity.REQUIRED else "warn"


def heads(leg: Leg, place: Place) -> str:
    """What stands above the points of one place."""
    if place is Place.PATH:
        return "path" if leg is Leg.FORWARD else "path back"
    return str(place)


def no_answer(source: str, destination: str) -> str:
    """Why a one-way probe's story ends at the destination."""
    return f"It has no answer: {destination} → {source} is a cell of its own."


def took(milliseconds: str) -> str:
    """A round-trip time."""
    return f"Its answers took {milliseconds} ms."
