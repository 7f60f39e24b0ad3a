"""Packets with the run's tag that came up where nobody was to get them: meant for another, or torn.

Only whoever holds the run's key can make a token. One that names a pair of this run was meant for
its destination; one that names none was damaged on the way, or made with another key.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preflight.agent.packets import TAG, TOKEN, UDP, tokens
from preflight.core.model import Family
from preflight.core.offsets import tag_offset
from preflight.core.plan import LookPlan
from preflight.core.scope import Scope

_MOST_PAIRS = 20_000  # whose tokens are made to find one

Sample = tuple[int, str, bytes]  # protocol number, sender, the packet from its header on
Strays = Mapping[int, tuple[int, tuple[Sample, ...]]]  # by node: how many, and some


class Sent(NamedTuple):
    """What of a look its tokens are made from."""

    number: int
    cells: tuple[tuple[int, Family, int], ...]  # probe, packets to each destination over a family

    @classmethod
    def of(cls, plan: LookPlan) -> "Sent":
        """That of a plan."""
        cells = ((cell.probe, cell.family, cell.volley.count) for cell in plan.cells)
        return cls(plan.number, tuple(dict.fromkeys(cells)))


class Sorted(NamedTuple):
    """Strays told apart."""

    astray: dict[int, tuple[int, tuple[Sample, ...]]]  # meant for another node, or not known
    damaged: dict[int, int]  # how many, by node


def sort_out(strays: Strays, looks: Sequence[Sent], scope: Scope, key: bytes) -> Sorted:
    """Which of them were meant for another node."""
    astray, damaged = dict[int, tuple[int, tuple[Sample, ...]]](), dict[int, int]()
    for node, (count, samples) in strays.items():
        meant = tuple(s for s in samples if of_this_run(s, looks, scope, key) is not False)
        if meant:
            astray[node] = count, meant
        else:
            damaged[node] = count
    return Sorted(astray, damaged)


def of_this_run(sample: Sample, looks: Sequence[Sent], scope: Scope, key: bytes) -> bool | None:
    """Whether its token names a pair of these looks; None where that would take too long to say."""
    protocol, sender, data = sample
    family = Family.IPV6 if ":" in sender else Family.IPV4
    sources = senders(sender, scope) or range(len(scope.nodes))
    if len(sources) * len(scope.nodes) > _MOST_PAIRS:
        return None
    at = 8
    if protocol == UDP:
        port = int.from_bytes(data[2:4], "big")
        at += next((tag_offset(p) for p in scope.probes if p.port == port), 0)
    token = data[at + TAG : at + TAG + TOKEN]
    return any(
        token in tokens(key, look.number, int(family[-1]), probe, (source, destination), count)
        for look in looks
        for probe, over, count in look.cells
        if over is family
        for source in sources
        for destination in range(len(scope.nodes))
    )


def senders(address: str, scope: Scope) -> list[int]:
    """The nodes with that address: one, or none."""
    family = Family.IPV6 if ":" in address else Family.IPV4
    return [n for n, node in enumerate(scope.nodes) if node.address_in(family) == address]
