"""This node's part in a meeting: listen, probe at the time agreed on, keep what was seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from preflight.core.matrix import Matrix
from preflight.core.meeting import (
    EARLY_S,
    LATE_S,
    NEAR_S,
    NUMBER,
    Record,
    identity,
    join,
    parts,
    plan,
)
from preflight.core.model import Cause, Outcome, Verdict
from preflight.core.plan import FLOW_WINDOW_S
from preflight.errors import UsageError
from preflight.transport import bundle

if TYPE_CHECKING:
    from preflight.core.options import Meeting
    from preflight.crew import Crew
    from preflight.lookout import Lookout

_GRACE_S = 15.0


def in_time(meeting: Meeting, early_s: float = EARLY_S) -> None:
    """Raises UsageError where others may be sending before this node listens."""
    left = meeting.at - time.time()
    if left < early_s:
        raise UsageError(
            f"--meet: that is {'over' if left < 0 else f'in {left:.0f} s'}, and everybody has to "
            f"listen {EARLY_S:.0f} s before: agree on a later time (UTC)"
        )


def meet(crew: Crew, lookout: Lookout, meeting: Meeting) -> tuple[Matrix, tuple[Record, ...]]:
    """Take part; what this node alone can say, and its record for those who join them."""
    extent, options, chorus = crew.extent, crew.options, crew.chorus
    matrix = Matrix(extent.nodes, extent.probes, extent.families)
    unknown = Outcome(Verdict.UNKNOWN, cause=Cause.NO_AGENT)
    look = plan(extent, options.rate, options.max_flows, FLOW_WINDOW_S)
    for cell in look.cells:
        f = extent.families.index(cell.family)
        for s, row in enumerate(cell.pairs):
            for d in row:
                matrix.set(matrix.index(f, cell.probe, s, d), unknown)
    part = set(chorus.alive)
    if not part or chorus.interrupted:
        return matrix, ()
    (node,) = part
    in_time(meeting, NEAR_S)
    chorus.broadcast(part, bundle.taps())
    chorus.send({node: lookout.alone(look, node, meeting.at)})
    chorus.until(part, "ready", NUMBER, _GRACE_S)
    chorus.broadcast(part, {"t": "go"})
    wait = meeting.at - time.time()
    crew.progress.phase(f"listening; the meeting is in {wait:.0f} s", 0)
    reports: dict[int, Mapping[str, Any]] = {}

    def keep(who: int, frame: Mapping[str, Any]) -> None:
        frame["heard"]
        reports[who] = frame

    limit = wait + 2 * look.sending_s() + _GRACE_S
    chorus.until(part, "sent", NUMBER, limit, keep)
    chorus.broadcast(part - reports.keys(), {"t": "drain", "wait": LATE_S})
    chorus.until(part - reports.keys(), "report", NUMBER, LATE_S + _GRACE_S, keep)
    if node not in reports:
        return matrix, ()
    hello = crew.hellos[node]
    name, _ = identity(meeting, extent, options.phase)
    record = Record(
        name,
        extent.nodes[node].name,
        tuple(one.name for one in extent.nodes),
        parts(look, extent, node),
        reports[node],
        hello["served"],
        tuple(hello["echo_ignored"]),
    )
    own = join(matrix, options.phase, [record])
    for found in own.cells():
        f = matrix.families.index(found.family)
        at = matrix.index(f, found.probe, found.source, found.destination)
        matrix.set(at, found.outcome, found.rtt_ms)
    return matrix, (record,)
