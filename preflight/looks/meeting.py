"""This node's part in a meeting: listen, probe at the time agreed on, keep what was seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from preflight.core.collect import parse
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
from preflight.core.plan import FLOW_WINDOW_S, LookPlan
from preflight.core.scope import Scope
from preflight.core.terms import listed
from preflight.errors import UsageError
from preflight.looks.strays import Sent, of_this_run, senders
from preflight.transport import bundle

if TYPE_CHECKING:
    from preflight.core.options import Meeting
    from preflight.crew.crew import Crew
    from preflight.looks.lookout import Lookout

_GRACE_S = 15.0


def in_time(meeting: Meeting, early_s: float = EARLY_S) -> None:
    """Raises UsageError where others may be sending before this node listens."""
    left = meeting.at - time.time()
    if left < early_s:
        raise UsageError(
            f"--meet: that is {'over' if left < 0 else f'in {left:.0f} s'}, and everybody has to "
            f"listen {EARLY_S:.0f} s before: agree on a later time (UTC)"
        )


def outsiders(report: Mapping[str, Any], look: LookPlan, scope: Scope, key: bytes) -> list[str]:
    """Who meets at the same time and not with us: nodes, or addresses of none of them.

    Their packets were made with another key, that is with another secret, or for other nodes,
    probes or another phase. Packets of this meeting that went astray are none of theirs.
    """
    nodes: set[int] = set()
    addresses: dict[str, None] = {}
    for sample in parse(report).samples:
        if of_this_run(sample, [Sent.of(look)], scope, key) is False:
            known = senders(sample[1], scope)
            nodes.update(known)
            addresses.update({} if known else {sample[1]: None})
    return [*(scope.nodes[n].name for n in sorted(nodes)), *addresses]


def meet(
    crew: Crew, lookout: Lookout, meeting: Meeting
) -> tuple[Matrix, tuple[Record, ...], list[str]]:
    """Take part: what this node alone can say, its record for those who join them, and notes."""
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
        return matrix, (), []
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
        return matrix, (), []
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
    notes = []
    if others := outsiders(reports[node], look, extent, crew.key):
        notes.append(
            f"{extent.nodes[node].name}: {listed(others)} met at the same time with another "
            "secret in --meet-key, or with another inventory, phase or probes: nothing of that "
            "counts; make them the same everywhere, and meet again"
        )
    return matrix, (record,), notes
