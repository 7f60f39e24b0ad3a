"""Which of a pair's flows pass: always the same ones, or now this one and now that.

Rules of this file:
1. A flow is dead only where chance cannot explain it. All that depends on time alone (random loss,
   bursts, an outage, a rate limiter) hits flows in an order drawn anew for each round, so it loses
   the same ones in every round only by chance, and that chance is known exactly.
2. "Random" is a claim too: nothing may speak against it. What is unclear is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from math import comb
from typing import NamedTuple

from preflight.core.diagnosis.arrivals import passed, shots_in, tried
from preflight.core.diagnosis.chance import (
    RARE,
    all_first,
    as_even,
    few_blocks,
    few_runs,
    lost_every_round,
    these_every_round,
    unlike_flows,
)
from preflight.core.diagnosis.conclusions import FlowPattern, Flows
from preflight.core.diagnosis.trial import Observed, Purpose

_FIRST_UNPRIVILEGED = 1024
_LEAST_FLOWS, _LEAST_ROUNDS = 8, 2
_LEAST_LOST, _LEAST_PASSED = 3, 10  # packets, before loss may be called random
_FEW = 0.25  # of the packets
_ACCUSES = 1e-4  # chance alone must be rarer before flows are called dead
_DOUBT = 0.01  # what is rarer than that by chance is not called random
_PLAIN_SIGHT = 0.05
_LEAST_ALIVE = 3  # flows: with fewer no bundle would be of use to anybody
_MOST_RANGES = 3  # that a rule names
_EVEN = 0.6  # half of all random orders are as even as that


def flows(observed: Observed) -> Flows | None:
    """What the sweep of source ports says; PLAIN shots of the same flows count with it.

    None without a sweep, or where its order of passing and lost packets fits no pattern. Shots are
    taken to have left in the order of their positions at an even pace, and each round of FLOW shots
    in an order of its own.
    """
    sweep = _sweep(observed)
    if sweep is None:
        return None
    pattern = _pattern(sweep)
    if pattern is None:
        return None
    return Flows(
        pattern,
        tried=len(sweep.ports),
        dead=tuple(sorted(sweep.dead)),
        passed=sum(passes for _, passes in sweep.order),
        sent=len(sweep.order),
        passing=tuple(sorted(sweep.ports - sweep.dead)),
    )


class _Sweep(NamedTuple):
    order: Sequence[tuple[int, bool]]  # source port, whether it passed; by time
    rounds: Sequence[dict[int, bool]]  # the same of complete flows alone
    known: AbstractSet[int]  # source ports that PLAIN shots used, and so the looks
    port: int  # destination

    @property
    def ports(self) -> set[int]:
        return {port for port, _ in self.order}

    @property
    def dead(self) -> set[int]:
        return self.ports - {port for port, passes in self.order if passes}

    @property
    def swept(self) -> set[int]:
        """The source ports that were in every round."""
        return set(self.rounds[0])


def _sweep(observed: Observed) -> _Sweep | None:
    through = passed(observed)
    shots = observed.trial.shots
    first = next((shot for shot in shots if shot.purpose is Purpose.FLOW), None)
    if through is None or first is None:
        return None
    order: list[tuple[int, bool]] = []
    known: set[int] = set()
    turns: dict[int, int] = {}  # how often each source port was swept
    rounds: list[dict[int, bool]] = []
    for position in shots_in(tried(observed)):
        shot = shots[position]
        if (shot.form, shot.port) != (first.form, first.port):
            continue
        passes = bool(through >> position & 1)
        if shot.purpose is Purpose.FLOW:
            turn = turns.get(shot.source_port, 0)
            turns[shot.source_port] = turn + 1
            rounds += [{}] if turn == len(rounds) else []
            rounds[turn][shot.source_port] = passes
        elif shot.purpose is Purpose.PLAIN:
            known.add(shot.source_port)
        else:
            continue
        order.append((shot.source_port, passes))
    whole = {port for port, count in turns.items() if count == len(rounds)}
    if len(whole) < _LEAST_FLOWS or len(rounds) < _LEAST_ROUNDS:
        return None
    rounds = [{port: passes for port, passes in turn.items() if port in whole} for turn in rounds]
    return _Sweep(order, rounds, known, first.port)


def _pattern(sweep: _Sweep) -> FlowPattern | None:
    sequence = [passes for _, passes in sweep.order]
    if all(sequence):
        return FlowPattern.ALL
    if not any(sequence):
        return FlowPattern.NONE
    for pattern, may_pass in _BY_PORT:
        if _only(sweep, {port for port in sweep.ports if may_pass(port, sweep.port)}):
            return pattern
    if _sessions_limited(sweep):
        return FlowPattern.LIMITED
    dead = sweep.dead & sweep.swept
    chance = lost_every_round(len(sweep.swept), _lost(sweep.rounds), len(dead))
    if chance < _ACCUSES:
        return _some_dead(sweep, dead)
    if _limited(sequence):
        return FlowPattern.LIMITED
    if chance > _PLAIN_SIGHT and _random(sweep, sequence):
        return FlowPattern.RANDOM
    return None


_BY_PORT: tuple[tuple[FlowPattern, Callable[[int, int], bool]], ...] = (
    (FlowPattern.REPLIES_ONLY, lambda source, port: source == port),
    (FlowPattern.HIGH_ONLY, lambda source, _: source >= _FIRST_UNPRIVILEGED),
    (FlowPattern.LOW_ONLY, lambda source, _: source < _FIRST_UNPRIVILEGED),
)


def _only(sweep: _Sweep, these: AbstractSet[int]) -> bool:
    """Whether just these flows pass, but for loss that hits them alike."""
    others = sweep.swept - these
    if not others or not others <= sweep.dead or not sweep.ports - these <= sweep.dead:
        return False
    flows = len(sweep.swept)
    if these_every_round(flows, _lost(sweep.rounds), len(others)) >= _ACCUSES:
        return False
    if len(others) < flows / 2 and comb(flows, len(others)) * RARE < 1:
        return False  # a dead path may have hit just the others
    return _dead_by_chance(sweep, sweep.swept & these, sweep.dead)


def _some_dead(sweep: _Sweep, dead: AbstractSet[int]) -> FlowPattern | None:
    """What always the same dead flows mean: a dead path, or something that knows the flows."""
    front = _front(list(sweep.rounds[0].values()))
    if front < RARE:  # the first flows got in, and stay in
        return FlowPattern.LIMITED if front < _ACCUSES else None
    ports = sorted(sweep.swept)
    alive = sweep.swept - dead
    if len(alive) < _LEAST_ALIVE:
        return None
    known = sweep.swept & sweep.known
    for some in (alive, dead):
        if some <= known and comb(len(known), len(some)) < RARE * comb(len(ports), len(some)):
            return None  # a firewall's sessions, not a path
    blocks = _blocks(ports, dead)
    in_blocks = few_blocks(len(ports), len(dead), blocks)
    if (blocks <= _MOST_RANGES and in_blocks < RARE) or _ranged(sweep, ports, dead):
        return FlowPattern.RANGE
    return None if in_blocks < _DOUBT else FlowPattern.SOME_DEAD


def _blocks(ports: Sequence[int], dead: AbstractSet[int]) -> int:
    """In how many blocks dead ports lie among those tried; the last is next to the first."""
    return sum(port in dead and ports[i - 1] not in dead for i, port in enumerate(ports))


def _ranged(sweep: _Sweep, ports: Sequence[int], dead: AbstractSet[int]) -> bool:
    """Whether all dead flows, but for those that chance explains, lie side by side, or around all
    others: a hash scatters them.
    """
    alive = [place for place, port in enumerate(ports) if port not in dead]
    gaps = [ports[a + 1 : b] for a, b in pairwise(alive)]
    around = [*ports[: alive[0]], *ports[alive[-1] + 1 :]]
    return any(
        _rare_by_hash(len(ports), len(dead), len(block))
        and _dead_by_chance(sweep, set(ports) - set(block), dead)
        for block in (around, max(gaps, key=len))
    )


def _rare_by_hash(flows: int, dead: int, block: int) -> bool:
    """Whether scattering `dead` over `flows` hardly ever fills a block of that size."""
    return 2 * flows * comb(flows - block, dead - block) < RARE * comb(flows, dead)


def _dead_by_chance(sweep: _Sweep, some: AbstractSet[int], dead: AbstractSet[int]) -> bool:
    """Whether chance explains how many of `some` flows are dead."""
    lost = [sum(not turn[port] for port in some) for turn in sweep.rounds]
    return lost_every_round(len(some), lost, len(dead & some)) >= RARE


def _sessions_limited(sweep: _Sweep) -> bool:
    """Whether flows that once got in stay in, and ever more of them do: new ones are rationed."""
    chance = 1.0
    for port in sweep.swept:
        turns = [turn[port] for turn in sweep.rounds]
        if turns != sorted(turns):
            return False
        chance /= comb(len(turns), sum(turns))
    if chance >= _ACCUSES:
        return False
    mixed = False
    for number, turn in enumerate(sweep.rounds):
        order = list(turn.values())
        if not number and _front(order) < RARE:
            order = order[_first(order) :]  # a full bucket's
        if min(sum(order), len(order) - sum(order)) >= _LEAST_LOST:
            if few_runs(order) < _DOUBT:
                return False  # an outage that ended
            mixed = True
    return mixed


def _limited(sequence: Sequence[bool]) -> bool:
    """Whether the first packets pass and then few, evenly; or all along as a steady drip.

    Passing packets in clumps are bursts of loss, and none after the first an outage, unless it
    began with the first packets, which is no accident.
    """
    first = _first(sequence)
    rest = sequence[first:]
    if as_even(rest) < RARE:
        return True
    if _front(sequence) >= RARE:
        return False
    if not any(rest):
        return first <= len(sequence) / 4
    even = _EVEN if sum(rest) <= len(rest) * _FEW else _DOUBT
    return few_runs(rest) >= _PLAIN_SIGHT and as_even(rest) <= even


def _random(sweep: _Sweep, sequence: Sequence[bool]) -> bool:
    """Whether nothing speaks against loss that hits each packet alike."""
    through = sum(sequence)
    if len(sequence) - through < _LEAST_LOST or through < _LEAST_PASSED:
        return False
    rounds = sweep.rounds
    lost = [sum(not turn[port] for turn in rounds) for port in sweep.swept]
    return (
        unlike_flows(lost, _lost(rounds)) >= _DOUBT
        and _front(sequence) >= _DOUBT
        and few_runs(sequence) >= _DOUBT
        and as_even(sequence) >= _PLAIN_SIGHT
    )


def _front(sequence: Sequence[bool]) -> float:
    """The chance that as many of the first packets all pass, did their order not matter."""
    return all_first(_first(sequence), sum(sequence), len(sequence))


def _first(sequence: Sequence[bool]) -> int:
    return next((i for i, passes in enumerate(sequence) if not passes), len(sequence))


def _lost(rounds: Sequence[dict[int, bool]]) -> list[int]:
    return [len(turn) - sum(turn.values()) for turn in rounds]
