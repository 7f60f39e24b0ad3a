"""A matrix with its phase, its agents and its times: what is saved, shown and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from preflight.core.matrix import Matrix
from preflight.core.model import AgentInfo, Phase, Verdict

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

    @property
    def empty(self) -> bool:
        """Nothing was measured: no verdict is known, and no end saw a packet of its own.

        A row measured alone has no verdict but may have its half of the evidence. Of a run that was
        interrupted that half is by chance.
        """
        outcomes = self.matrix.outcomes()
        if self.records or any(o.verdict is not Verdict.UNKNOWN for o in outcomes):
            return False
        return self.interrupted or not any(any(o.evidence) for o in outcomes)
