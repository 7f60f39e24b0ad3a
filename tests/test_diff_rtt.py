"""Round trips: only what no busy node explains has moved."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from cells import CALM
from hypothesis import given
from hypothesis import strategies as st
from samples import sample

from preflight.core.diff.compare import compare
from preflight.core.diff.model import Diff
from preflight.core.diff.rtt import FACTOR, LEAST_MS
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe
from preflight.core.packing import milliseconds
from preflight.core.snapshot import Snapshot

Time = Callable[[int, int, str], float | None]


def timed(
    time: Time, nodes: int = 6, probes: tuple[Probe, ...] = (GENEVE, HEALTH, ECHO)
) -> Snapshot:
    """Every answered cell takes as long as `time` says of its ends and its probe."""
    made = sample(nodes, 2, probes=probes)
    matrix = made.matrix
    for cell in list(matrix.cells()):
        probe = matrix.probes[cell.probe]
        if not probe.one_way:
            index = matrix.index(0, cell.probe, cell.source, cell.destination)
            took = time(cell.source, cell.destination, probe.name)
            matrix.set(index, cell.outcome, took)
    return made


def moved(before: Snapshot, after: Snapshot) -> Diff:
    return compare(before, replace(after, started="2026-03-01T03:00:00Z"))


def test_one_slow_rack_is_one_line() -> None:
    def after(source: int, destination: int, probe: str) -> float:
        return 0.4 if (source < 3) == (destination < 3) else 12.0

    (move,) = moved(timed(lambda *_: 0.4), timed(after)).rtt
    assert (move.where, move.pairs, move.slower) == ("rack=a ↔ rack=b", 18, True)
    assert abs(move.before_ms / 0.4 - 1) < 0.06
    assert abs(move.after_ms / 12 - 1) < 0.06
    (back,) = moved(timed(after), timed(lambda *_: 0.4)).rtt
    assert (back.slower, back.where, back.pairs) == (False, move.where, move.pairs)


def test_one_direction_alone_is_told_as_such() -> None:
    slow = timed(lambda s, d, p: 9.0 if (s, d) == (0, 1) else 0.4)
    (move,) = moved(timed(lambda *_: 0.4), slow).rtt
    assert (move.where, move.pairs) == ("n1 → n2", 1)


def test_one_probe_alone_is_noise() -> None:
    assert not moved(timed(lambda *_: 0.4), timed(lambda s, d, p: 9.0 if p == "echo" else 0.4)).rtt


def test_with_one_probe_the_way_back_must_say_the_same() -> None:
    only = (ECHO,)
    before = timed(lambda *_: 0.4, probes=only)
    assert not moved(before, timed(lambda s, d, p: 9.0 if s < d else 0.4, probes=only)).rtt
    (move,) = moved(
        before, timed(lambda s, d, p: 9.0 if {s, d} == {0, 1} else 0.4, probes=only)
    ).rtt
    assert (move.where, move.pairs) == ("within n1, n2", 2)


def test_little_is_noise_in_parts_and_in_milliseconds() -> None:
    assert not moved(timed(lambda *_: 0.1), timed(lambda *_: 0.9)).rtt
    assert not moved(timed(lambda *_: 40.0), timed(lambda *_: 52.0)).rtt
    assert moved(timed(lambda *_: 40.0), timed(lambda *_: 70.0)).rtt
    assert moved(timed(lambda *_: 0.1), timed(lambda *_: 1.3)).rtt


def test_what_was_not_measured_in_both_is_not_compared() -> None:
    assert not moved(timed(lambda *_: None), timed(lambda *_: 9.0)).rtt
    half = timed(lambda s, d, p: None if p == "echo" else 0.4)
    assert not moved(half, timed(lambda *_: 9.0)).rtt


def test_other_order_and_other_nodes() -> None:
    before = timed(lambda *_: 0.4)
    after = timed(lambda s, d, p: 9.0 if (s, d) == (0, 1) else 0.4, nodes=4)
    matrix = after.matrix
    was = before.matrix.nodes
    matrix.nodes = (was[5], was[2], was[0], was[1])  # n6 and n3 are now first and second
    (move,) = moved(before, after).rtt
    assert move.where == "n6 → n3"


@CALM
@given(st.integers(0, 10**6))
def test_every_pair_is_as_the_rule_says(seed: int) -> None:
    choose = random.Random(seed)
    table = milliseconds()

    def time(*_: object) -> float | None:
        return None if choose.random() < 0.15 else choose.choice((0.3, 0.5, 1.6, 2.5, 8.0, 9000.0))

    before, after = timed(time, 5), timed(time, 5)
    found: dict[tuple[int, int], bool] = {}
    for move in moved(before, after).rtt:
        for s in move.sources:
            for d in move.destinations:
                for pair in [(s, d), (d, s)] if move.both_ways else [(s, d)]:
                    if s == d:
                        continue  # where it says `within`
                    assert found.setdefault(pair, move.slower) == move.slower
    wanted = {}
    for s in range(5):
        for d in range(5):
            times = []
            for probe in (1, 2):
                index = before.matrix.index(0, probe, s, d)
                both = before.matrix.rtt_ms(index), after.matrix.rtt_ms(index)
                if s != d and None not in both:
                    times.append([min(table, key=lambda t, b=b: abs(t - b)) for b in both])
            if len(times) < 2:
                continue
            for slower, (low, high) in ((True, (0, 1)), (False, (1, 0))):
                least = min(t[high] for t in times)
                most = max(t[low] for t in times)
                if least >= max(FACTOR * most, most + LEAST_MS):
                    wanted[s, d] = slower
    pairs = {(s, d) for s, d in found if s != d and (s, d) in wanted}
    assert pairs == wanted.keys()
    assert all(found[pair] == slower for pair, slower in wanted.items())


def test_families_are_apart() -> None:
    both = (Family.IPV4, Family.IPV6)
    before = sample(3, families=both)
    after = sample(3, families=both)
    for cell in list(after.matrix.cells()):
        if cell.family is Family.IPV6 and cell.rtt_ms is not None:
            index = after.matrix.index(1, cell.probe, cell.source, cell.destination)
            after.matrix.set(index, cell.outcome, 30.0)
    (move,) = moved(before, after).rtt
    assert (move.family, move.where) == (Family.IPV6, "among all nodes")
