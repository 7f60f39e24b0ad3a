"""The outcome of a connectivity check, and what its process answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from preflight.core.connectivity.picture import Finding, Settings
from preflight.core.connectivity.pods import Judgement, Status
from preflight.core.connectivity.workloads import DENIED, KNOWN, Way
from preflight.core.model import Severity
from preflight.errors import ExitCode


class Ending(StrEnum):
    """Why the pods are no longer waited for."""

    READY = "ready"  # all are, and stayed so
    STUCK = "stuck"  # those that are not will not be
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    LOST = "lost"  # the API server was gone at the end


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What the check made and could not take away."""

    namespace: str
    why: str
    holding: tuple[str, ...]  # conditions and finalizers, as the API server tells them


@dataclass(frozen=True, slots=True)
class Exercised:
    """An ordered pair of nodes: the clients on the first, the servers on the second."""

    source: str
    destination: str
    overlay: tuple[int, int]  # workloads that asked by pods' addresses: ready, failed
    ports: tuple[int, int]  # that asked by ports of the node


@dataclass(frozen=True, slots=True)
class Result:
    """One check."""

    cluster: str
    server: str
    version: str
    namespace: str
    run: str
    started: str  # UTC, ISO 8601 with a final Z
    finished: str
    ending: Ending
    workers: tuple[str, ...] | None  # that take pods; None not known
    images: tuple[str, ...]
    settings: Settings
    judged: tuple[Judgement, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    kept: bool = False
    left_behind: LeftBehind | None = None
    where: str = ""  # arguments that name the cluster

    @property
    def pairs(self) -> tuple[Exercised, ...]:
        """The pairs of nodes between which something was asked."""
        counts: dict[tuple[str, str], dict[Way, list[int]]] = {}
        for one in self.judged:
            known = KNOWN.get(one.workload)
            inside = known is not None and known.way in (Way.POD, Way.NODE)
            if not inside or one.workload == DENIED or one.server is None or not one.nodes:
                continue
            if one.status is Status.UNKNOWN:
                continue
            assert known is not None
            ways = counts.setdefault(
                (one.nodes[0], one.server), {Way.POD: [0, 0], Way.NODE: [0, 0]}
            )
            ways[known.way][one.red] += 1
        return tuple(
            Exercised(a, b, _two(ways[Way.POD]), _two(ways[Way.NODE]))
            for (a, b), ways in sorted(counts.items())
        )

    @property
    def how_to_remove(self) -> str:
        """The command that takes away what is still there."""
        return how_to_remove(self.namespace, self.where)

    def exit_code(self, *, strict: bool = False) -> ExitCode:
        """`strict` takes what is recommended for required."""
        if self.ending is Ending.INTERRUPTED:
            return ExitCode.INTERRUPTED
        counting = [one for one in self.judged if strict or one.severity is Severity.REQUIRED]
        if any(one.red for one in counting):
            return ExitCode.BAD
        if self.ending is Ending.LOST:
            return ExitCode.NO_NODE
        if self.left_behind or not counting or any(not one.green for one in counting):
            return ExitCode.INCOMPLETE
        return ExitCode.OK


def how_to_remove(namespace: str, where: str = "") -> str:
    """The command that takes a namespace of ours away; `where` are arguments for the cluster."""
    command = f"preflight cilium connectivity-check --clean-up --namespace {namespace}"
    return f"{command} {where}".rstrip()


def _two(counts: list[int]) -> tuple[int, int]:
    return counts[0], counts[1]
