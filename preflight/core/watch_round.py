"""What a watch has to tell: rounds, and nodes that go and come. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from preflight.core.model import AgentInfo, AgentState, Node, Protocol
from preflight.core.naming import Naming
from preflight.core.scope import Scope
from preflight.core.snapshot import Snapshot
from preflight.core.watch_groups import Stands, Turned

_REASONS = 4  # different ones that are worth a line each


@dataclass(frozen=True, slots=True)
class Round:
    """One complete round. Times are seconds since the epoch."""

    number: int  # from 1
    at: float  # when it began
    took_s: float
    snapshot: Snapshot
    turned: Sequence[Turned]
    stands: Sequence[Stands]  # all that is not open
    pending: int  # cells that it saw otherwise, which the next round has to confirm
    odd: int  # cells that a round saw otherwise and the next one did not, over all rounds
    saved: str | None  # the file that it was written to


class Ending(StrEnum):
    """Why a watch ended."""

    INTERRUPTED = "interrupted"
    COUNT = "count"
    FOR = "for"
    NO_NODE = "no-node"  # no node has an agent, and none is tried again


class News(NamedTuple):
    """An agent is there, or gone, or could not be had."""

    node: int
    info: AgentInfo  # its state is ok where the agent is there
    at: float
    gone_since: float | None  # where it is back
    again: bool = True  # it will be tried again, where it is not there


class NodesNews(NamedTuple):
    """The same news of several nodes."""

    nodes: tuple[int, ...]
    names: str  # in words
    info: AgentInfo
    at: float
    gone_since: float | None
    again: bool


def together(nodes: Sequence[Node], news: Iterable[News]) -> list[NodesNews]:
    """News of alike nodes as one; many reasons for one state are told by an example."""
    by_state: dict[tuple[AgentState, bool], list[News]] = {}
    for one in news:
        by_state.setdefault((one.info.state, one.again), []).append(one)
    naming = Naming(nodes)
    out = []
    for alike in by_state.values():
        by_reason: dict[str | None, list[News]] = {}
        for one in alike:
            by_reason.setdefault(one.info.reason, []).append(one)
        parts = list(by_reason.values()) if len(by_reason) <= _REASONS else [alike]
        for part in parts:
            reason = part[0].info.reason
            if len(parts) < len(by_reason):
                reason = f"{nodes[part[0].node].name}, for example: {reason}"
            numbers = sorted({one.node for one in part})
            since = [one.gone_since for one in part if one.gone_since is not None]
            out.append(
                NodesNews(
                    tuple(numbers),
                    naming.name(sum(1 << n for n in numbers), most=16),
                    AgentInfo(part[0].info.state, reason),
                    max(one.at for one in part),
                    min(since, default=None),
                    part[0].again,
                )
            )
    return out


def port_news(
    scope: Scope,
    before: Mapping[int, Mapping[str, Any]],
    after: Mapping[int, Mapping[str, Any]],
) -> list[str]:
    """Which ports were taken or given back between two rounds, by the nodes' first words."""
    naming = Naming(scope.nodes)
    there = before.keys() & after.keys()
    out = []
    for probe in scope.probes:
        if probe.protocol is Protocol.ICMP:
            continue
        key = probe.protocol.value
        taken = {n for n in there if probe.port in after[n][key]}
        former = {n for n in there if probe.port in before[n][key]}
        for nodes, words in ((taken - former, "is in use now"), (former - taken, "is free again")):
            if nodes:
                who = naming.name(sum(1 << n for n in nodes))
                out.append(f"{key.upper()} {probe.port} {words} on {who}")
    return out
