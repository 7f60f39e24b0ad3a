"""When the pods have had their say: all ready and staying so, or not going to be.

Times are seconds of any clock that only goes forward; this file reads none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from preflight.core.connectivity.observed import Observation
from preflight.core.connectivity.pods import Judgement, Status
from preflight.core.connectivity.symptoms import Symptom
from preflight.core.connectivity.workloads import FAILURES, PERIOD_S

_FALLS = 2  # times that a workload may stop being ready before it is unsteady


class Patience(NamedTuple):
    """How long to wait for what, in seconds."""

    settle: float = 75.0  # from when the last pod was placed, for those that are not ready
    confirm: float = PERIOD_S + 2.0  # all ready, and again so this much later

    @property
    def ripe(self) -> float:
        """What a started pod is given until its failing probes count."""
        return min(float(FAILURES * PERIOD_S), self.settle)


class Stage(StrEnum):
    """How far it is."""

    WAITING = "waiting"
    READY = "ready"  # all, twice, with the same restarts
    STUCK = "stuck"  # those that are not ready will not be


class Settling:
    """Takes one read after the other."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._started: dict[str, float] = {}  # pods, by uid
        self._placed: dict[str, str] = {}  # pods' nodes, by uid
        self._placed_at: float | None = None
        self._green: tuple[object, ...] = ()
        self._green_at = 0.0
        self._held: dict[str, tuple[Symptom | None, float]] = {}
        self._ready: dict[str, bool] = {}
        self._falls: dict[str, int] = {}

    def ripe(self, now: float, seen: Observation) -> frozenset[str]:
        """The pods, by name, whose failing probes count; to be asked with every new state."""
        for pod in seen.pods:
            if pod.started:
                self._started.setdefault(pod.uid, now)
            if pod.node and self._placed.get(pod.uid) != pod.node:
                self._placed[pod.uid] = pod.node
                self._placed_at = now
        if self._placed_at is None:
            self._placed_at = now
        due = now - self._patience.ripe
        # A liveness probe restarts what failed for as long as this by the node's own clock.
        return frozenset(
            pod.name
            for pod in seen.pods
            if self._started.get(pod.uid, now) <= due or pod.restarts > 0
        )

    def stage(self, now: float, seen: Observation, judged: Sequence[Judgement]) -> Stage:
        """After `ripe` of the same moment."""
        for one in judged:
            if one.workload not in self._held or self._held[one.workload][0] != one.symptom:
                self._held[one.workload] = (one.symptom, now)
            if one.symptom in (Symptom.NOTHING, Symptom.SERVER):
                continue  # another's doing
            ready = one.status is Status.READY
            if self._ready.get(one.workload) and not ready:
                self._falls[one.workload] = self._falls.get(one.workload, 0) + 1
            self._ready[one.workload] = ready
        if all(one.status is Status.READY for one in judged):
            mark = tuple((pod.uid, pod.restarts) for pod in seen.pods if not pod.deleting)
            if self._green != mark:
                self._green, self._green_at = mark, now
                return Stage.WAITING
            enough = now - self._green_at >= self._patience.confirm
            return Stage.READY if enough else Stage.WAITING
        self._green = ()
        late = [one for one in judged if one.status is not Status.READY]
        if all(self._lasting(now, one) for one in late):
            return Stage.STUCK
        return Stage.WAITING

    def _lasting(self, now: float, judged: Judgement) -> bool:
        if judged.symptom is Symptom.STARTING:
            return False
        since = max(self._held[judged.workload][1], self._placed_at or 0.0)
        return now - since >= self._patience.settle

    def unsteady(self) -> Collection[str]:
        """The workloads that were ready and not ready by turns."""
        return frozenset(name for name, falls in self._falls.items() if falls >= _FALLS)
