"""Follows a check's pods until they have had their say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from preflight.cluster.api import Cluster, Object
from preflight.cluster.resources import DAEMON_SETS, DEPLOYMENTS, EVENTS, PODS, Resource
from preflight.cluster.watching import Query, State, Watcher
from preflight.core.connectivity.observed import Observation, observation
from preflight.core.connectivity.pods import Expected, Judgement, judge
from preflight.core.connectivity.result import Ending
from preflight.core.connectivity.settle import Patience, Settling, Stage

OWNERS: Mapping[str, Resource] = {
    "Deployment": DEPLOYMENTS,
    "DaemonSet": DAEMON_SETS,
    "StatefulSet": Resource("apps/v1", "statefulsets", "StatefulSet"),
    "Job": Resource("batch/v1", "jobs", "Job"),
}
_TICK = 0.5  # seconds between two looks where nothing changes


class Teller(Protocol):
    """Who is told how it goes."""

    def phase(self, text: str) -> None:
        """Something else is being done now."""

    def pods(self, judged: Sequence[Judgement]) -> None:
        """The workloads as they are now."""

    def note(self, text: str) -> None:
        """Something that must be read."""


class Seen(NamedTuple):
    """What was seen last."""

    ending: Ending
    observation: Observation
    judged: tuple[Judgement, ...]
    plan: tuple[Expected, ...]
    ripe: frozenset[str]  # pods whose failing probes count
    unsteady: frozenset[str]
    lost: str  # why the API server could not be asked any more; else empty


def follow(
    cluster: Cluster,
    namespace: str,
    plan: Sequence[Expected],
    refused: Mapping[tuple[str, str], str],
    *,
    events: bool,
    patience: Patience,
    until: float,
    stop: threading.Event,
    teller: Teller,
    clock: Callable[[], float] = time.monotonic,
) -> Seen:
    """Until all are ready and stay so, will not be, `until`, or `stop`. `until` is by `clock`."""
    kinds = {one.kind for one in plan} - {"Pod"}
    queries = {kind: Query(OWNERS[kind], namespace) for kind in sorted(kinds)}
    queries["Pod"] = Query(PODS, namespace)
    if events:
        queries["Event"] = Query(EVENTS, namespace)
    settling = Settling(patience)
    seen = Observation((), (), ())
    known: set[tuple[str, str]] = set()
    ripe: frozenset[str] = frozenset()
    judged = judge(seen, plan, ripe)
    told = False
    with Watcher(cluster, queries) as watcher:
        while True:
            watcher.wait(min(_TICK, patience.confirm))
            states = watcher.states()
            now = clock()
            lost = _lost(states)
            if lost and not told:
                teller.note(f"{lost}; asking again until the deadline")
            elif told and not lost:
                teller.note(f"cluster {cluster.name}: the API server answers again")
            told = bool(lost)
            stage = Stage.WAITING
            if all(s.items is not None for key, s in states.items() if key != "Event"):
                seen = _observed(states, plan, refused)
                known.update((owner.kind, owner.name) for owner in seen.owners)
                seen = seen._replace(known=frozenset(known))
                ripe = settling.ripe(now, seen)
                judged = judge(seen, plan, ripe)
                teller.pods(judged)
                if not lost:  # what is not seen does not count as having stayed
                    stage = settling.stage(now, seen, judged)
            ending = _ending(stage, stop, now >= until, lost)
            if ending is not None:
                unsteady = frozenset(settling.unsteady())
                return Seen(ending, seen, judged, tuple(plan), ripe, unsteady, lost)


def _ending(stage: Stage, stop: threading.Event, late: bool, lost: str) -> Ending | None:
    if stage is Stage.READY:
        return Ending.READY
    if stop.is_set():
        return Ending.INTERRUPTED
    if stage is Stage.STUCK:
        return Ending.STUCK
    if late:
        return Ending.LOST if lost else Ending.TIMEOUT
    return None


def _lost(states: Mapping[str, State]) -> str:
    """Why a collection cannot be read, events aside; empty where all can."""
    errors = (state.error for key, state in states.items() if key != "Event")
    return next((str(error) for error in errors if error is not None), "")


def _observed(
    states: Mapping[str, State],
    plan: Sequence[Expected],
    refused: Mapping[tuple[str, str], str],
) -> Observation:
    items: dict[str, Sequence[Object]] = {k: s.items or () for k, s in states.items()}
    owners = [(kind, item) for kind in items if kind in OWNERS for item in items[kind]]
    single = {one.name for one in plan if one.kind == "Pod"}
    owners += [("Pod", pod) for pod in items["Pod"] if pod["metadata"]["name"] in single]
    return observation(owners, items["Pod"], items.get("Event", ()), refused=refused)
