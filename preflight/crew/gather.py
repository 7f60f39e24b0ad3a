"""Asks agents for the facts of their nodes, and what time it is there."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.parse import clock, parse
from preflight.core.facts.request import ALL, CHEAP, Part, request
from preflight.core.facts.risk import Clock
from preflight.core.model import Node, Probe
from preflight.crew.chorus import Chorus
from preflight.transport import bundle

_NUMBER = -1  # no look has it
_LIMIT_S = 20.0  # a node with thousands of processes needs one or two
_LIMIT_EACH_S = 0.5  # besides, for each node: all may be on one machine, or behind one slow line
_CLOCK_LIMIT_S = 5.0


@dataclass(slots=True)
class Gathered:
    """What the nodes told, by their numbers; `failed` says why others did not."""

    facts: dict[int, NodeFacts] = field(default_factory=dict)
    clocks: dict[int, Clock] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


def gather(
    chorus: Chorus,
    nodes: Sequence[Node],
    asked: Sequence[int],
    probes: Sequence[Probe],
    *,
    parts: Sequence[Part] = ALL,
    libraries: Mapping[str, object] | None = None,
    clock_rounds: int = 0,
) -> Gathered:
    """The facts of the nodes in `asked`, those of `nodes` being their peers.

    With `libraries` (see `transport.libraries`) nodes that can run them use them. Each of
    `clock_rounds` asks once more for the time, as the answer that was fastest tells it best.
    Costs no node its agent.
    """
    out = Gathered()
    sent: dict[int, float] = {}

    def keep(node: int, frame: Mapping[str, Any]) -> None:
        received = time.time()
        heard = _compare(sent[node], *clock(frame), received)
        known = out.clocks.get(node)
        if known is None or heard.uncertainty < known.uncertainty:
            out.clocks[node] = heard

    def keep_facts(node: int, frame: Mapping[str, Any]) -> None:
        keep(node, frame)
        out.facts[node] = parse(frame, len(nodes))

    def frames(which: Sequence[int], wanted: Sequence[Part]) -> dict[int, Mapping[str, Any]]:
        more = {"libraries": bool(wanted and libraries)}
        sent.update(dict.fromkeys(which, time.time()))
        return {n: {**request(nodes, n, probes, wanted, _NUMBER), **more} for n in which}

    cheap = not libraries and set(parts) <= set(CHEAP)
    chorus.broadcast(asked, bundle.facts(cheap=cheap, libraries=libraries))
    limit_s = _LIMIT_S + _LIMIT_EACH_S * len(asked)
    out.failed = chorus.ask(frames(asked, parts), "facts", _NUMBER, limit_s, keep_facts)
    for _ in range(clock_rounds):
        chorus.ask(frames(sorted(out.facts), ()), "facts", _NUMBER, _CLOCK_LIMIT_S, keep)
    return out


def _compare(sent: float, began: float, ended: float, received: float) -> Clock:
    """A clock by one question and answer, as NTP does it: half the way there is uncertain."""
    travelled = max((received - sent) - (ended - began), 0.0)
    offset = ((began - sent) + (ended - received)) / 2
    return Clock(offset, travelled / 2)
