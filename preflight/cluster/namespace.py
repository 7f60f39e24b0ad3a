"""A namespace of a run's own: made, recognised, and taken away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from preflight.cluster.api import Cluster
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.resources import NAMESPACES
from preflight.core.connectivity.manifest import namespace_object
from preflight.core.connectivity.ownership import (
    BY,
    KEPT,
    RUN,
    STARTED,
    Existing,
    Whose,
    existing,
)

_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between two looks; the last one from then on
_AWAY = frozenset({Fault.UNREACHABLE, Fault.BROKEN, Fault.THROTTLED})


def found(cluster: Cluster, name: str) -> Existing:
    """Whose the namespace is."""
    try:
        return existing(cluster.get(NAMESPACES, name))
    except ClusterError as error:
        if error.fault is Fault.MISSING:
            return Existing(Whose.NOBODY)
        raise


def make(cluster: Cluster, name: str, run: str, started: str, by: str) -> Existing:
    """Make it, marked as this run's. Raises ClusterError: EXISTS where somebody was faster."""
    body = namespace_object(name, {RUN: run}, {STARTED: started, BY: by})
    try:
        return existing(cluster.create(NAMESPACES, body))
    except ClusterError as error:
        # An answer that was lost on its way: it may be there all the same.
        if error.fault not in (*_AWAY, Fault.EXISTS):
            raise
        try:
            there = found(cluster, name)
        except ClusterError:
            raise error from None
        if there.run != run:
            raise
        return there


def keep(cluster: Cluster, name: str) -> None:
    """Note that its run has ended and left it there on purpose."""
    cluster.patch(NAMESPACES, name, {"metadata": {"annotations": {KEPT: "true"}}})


def remove(
    cluster: Cluster,
    name: str,
    *,
    uid: str,
    seconds: float,
    tell: Callable[[str], None],
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[str, tuple[str, ...]] | None:
    """Delete the namespace of that uid and wait until it is gone, for so many seconds.

    None where it is gone; else why it is not, and what holds it. An API server that is away is
    asked again until then. `stop` ends the wait; without it only KeyboardInterrupt does.
    """
    until = clock() + seconds
    attempt = 0
    stop = stop or threading.Event()
    while True:
        holding: tuple[str, ...] = ()
        try:
            there = found(cluster, name)
            if there.uid != uid:
                return None  # gone, or another's by now
            holding, why = there.holding, "it could not be deleted"
            if not there.ending:
                cluster.delete(NAMESPACES, name, uid=uid)
            why = "it is still being deleted"
        except ClusterError as error:
            if error.fault not in (*_AWAY, Fault.CONFLICT, Fault.MISSING):
                return str(error), holding
            if error.fault in _AWAY:
                why = str(error)
        left = until - clock()
        if left <= 0 or stop.is_set():
            return why, holding
        tell(why)
        stop.wait(min(_PAUSES[min(attempt, len(_PAUSES) - 1)], left))
        attempt += 1
