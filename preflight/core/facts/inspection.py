"""All that `preflight node` has found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.risk import Clock, Risk
from preflight.core.model import AgentInfo, Node, Phase, Severity
from preflight.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of the nodes, and what of it stands in Cilium's way."""

    nodes: Sequence[Node]
    asked: Sequence[int]  # the nodes that facts were wanted of
    agents: Sequence[AgentInfo]
    facts: Sequence[NodeFacts | None]
    clocks: Mapping[int, Clock]
    risks: Sequence[Risk]
    phase: Phase
    interrupted: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """What the process is to answer."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if not any(self.facts[n] is not None for n in self.asked):
            return ExitCode.NO_NODE
        if any(risk.severity is Severity.REQUIRED for risk in self.risks):
            return ExitCode.BAD
        missing = any(self.facts[n] is None for n in self.asked)
        return ExitCode.INCOMPLETE if missing else ExitCode.OK
