"""A matrix with its phase, its agents and its times: what is saved, shown and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from preflight.core.matrix import Matrix
from preflight.core.model import AgentInfo, Phase

if TYPE_CHECKING:
    from preflight.core.findings.model import Finding
    from preflight.core.meeting import Record
    from preflight.core.merge.model import Merged


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One run, finished or interrupted."""

    phase: Phase
    started: str  # UTC, ISO 8601 with a final Z
    finished: str
    matrix: Matrix
    agents: Sequence[AgentInfo]  # one for each of matrix.nodes, in its order
    timings: Mapping[str, float]  # seconds: connect_s, probe_s, total_s
    notes: Sequence[str] = field(default_factory=tuple)  # what the reader of the run must know
    interrupted: bool = False
    findings: Sequence[Finding] = ()  # what matters most first
    records: Sequence[Record] = ()  # of a meeting, for those who join them
    merged: Merged | None = None  # where it is from, if it was put together of several
