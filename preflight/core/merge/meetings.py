"""The parties of a meeting brought together: what one sent and another got becomes one cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from preflight.core.matrix import NOT_PLANNED, Matrix
from preflight.core.meeting import Record, join
from preflight.core.merge.fleet import Named
from preflight.core.model import Cause, Outcome, Verdict
from preflight.errors import UsageError


def records(parts: Sequence[Named]) -> tuple[Record, ...]:
    """All of them, each once, in an order that is not the files'."""
    return tuple(one for _, one in _known(parts))


def told(parts: Sequence[Named]) -> list[Named]:
    """The parts, those of one meeting as one that knows what they know together."""
    known = _known(parts)
    out = [(f, part) for f, part in parts if part.merged is not None or not part.records]
    for meeting in dict.fromkeys(record.meeting for _, record in known):
        party = [(file, record) for file, record in known if record.meeting == meeting]
        files = list(dict.fromkeys(file for file, _ in party))
        whole = next(part for _, part in parts if any(r.meeting == meeting for r in part.records))
        try:
            joined = join(whole.matrix, whole.phase, [record for _, record in party])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise UsageError(
                f"{', '.join(files)}: what was recorded of the meeting makes no sense ({error})"
            ) from error
        here = {node.name for node in joined.nodes}
        agents = tuple(
            agent
            for node, agent in zip(whole.matrix.nodes, whole.agents, strict=True)
            if node.name in here
        )
        bare = replace(whole, findings=(), records=(), merged=None)
        one = replace(bare, matrix=joined, agents=agents)
        out.append((files[0], replace(bare, matrix=_unknown(whole.matrix))))
        out.append((" + ".join(sorted(files)), one))
    return out


def _unknown(planned: Matrix) -> Matrix:
    """The same cells, of which nothing is known: what nobody who was there can tell."""
    out = Matrix(planned.nodes, planned.probes, planned.families)
    nothing = out.number(Outcome(Verdict.UNKNOWN, cause=Cause.NO_AGENT))
    for f in range(len(out.families)):
        for p in range(len(out.probes)):
            for s in range(len(out.nodes)):
                row = planned.numbers(f, p, s)
                out.set_row(f, p, s, [nothing if n != NOT_PLANNED else NOT_PLANNED for n in row])
    return out


def _known(parts: Sequence[Named]) -> list[tuple[str, Record]]:
    """Each record with the first file that has it, by meeting and node."""
    found: dict[tuple[str, str], tuple[str, Record]] = {}
    for file, part in sorted(parts, key=lambda named: named[0]):
        for record in part.records:
            found.setdefault((record.meeting, record.node), (file, record))
    return [found[key] for key in sorted(found)]
