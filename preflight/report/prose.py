"""What stands below the matrix: nodes that could not be used, findings, notes.

A clean run has none of it, and then neither this module nor rich is imported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from preflight.core.model import AgentState
from preflight.core.naming import Naming
from preflight.core.snapshot import Snapshot
from preflight.report.paper import Paper
from preflight.report.words import STATES


def prose(
    snapshot: Snapshot,
    shortened: Mapping[str, str],
    involved: Collection[int],
    width: int,
    *,
    color: bool,
) -> list[str]:
    """Everything that needs sentences, in lines of at most `width` but for commands.

    `shortened` are names that the matrix shows in part, by their row's number; `involved` the
    nodes that are in some planned pair.
    """
    paper = Paper(width, color=color)
    if shortened:
        paper.rows(list(shortened.items()))
        paper.gap()
    rows = unusable(snapshot, involved)
    if rows:
        paper.sentence(("Nodes without an agent", "head"))
        paper.rows(rows, indent=2)
        paper.gap()
    if snapshot.findings:
        from preflight.report.findings import tell_findings

        tell_findings(paper, snapshot)
    else:
        from preflight.report.causes import tell_causes

        tell_causes(paper, snapshot.matrix)
    if snapshot.notes:
        paper.sentence(("Notes", "head"))
        paper.rows([("-", note) for note in snapshot.notes], indent=2)
        paper.gap()
    return paper.lines


def unusable(snapshot: Snapshot, involved: Collection[int]) -> list[tuple[str, str, str]]:
    """Node, state and reason; nodes that share both share a row."""
    nodes: dict[tuple[AgentState, str], int] = {}
    for position, agent in enumerate(snapshot.agents):
        if agent.state is AgentState.OK or position not in involved:
            continue
        key = (agent.state, agent.reason or "")
        nodes[key] = nodes.get(key, 0) | 1 << position
    naming = Naming(snapshot.matrix.nodes)
    return [
        (naming.whole(which), STATES[state], reason) for (state, reason), which in nodes.items()
    ]
