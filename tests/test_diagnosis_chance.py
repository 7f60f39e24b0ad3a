"""The arithmetic of chance, compared with counting every case."""

from collections import Counter
from itertools import combinations, pairwise, product
from math import comb, exp, factorial
from random import Random

import pytest
from cells import CALM
from hypothesis import given
from hypothesis import strategies as st

from preflight.core.diagnosis.chance import (
    all_first,
    as_even,
    cleanly_apart,
    few_blocks,
    few_runs,
    lost_every_round,
    these_every_round,
    unlike_flows,
)


def orders(sent: int, passed: int) -> list[tuple[bool, ...]]:
    """Every order of that many passing packets."""
    return [tuple(i in some for i in range(sent)) for some in combinations(range(sent), passed)]


class TestCleanlyApart:
    @pytest.mark.parametrize(("lost", "tried", "passed"), [(5, 5, 5), (10, 3, 3), (20, 6, 5)])
    def test_no_rate_of_loss_makes_it_more_likely(self, lost: int, tried: int, passed: int) -> None:
        chances = []
        for rate in (i / 500 for i in range(1, 500)):
            tail = sum(
                comb(tried, k) * rate**k * (1 - rate) ** (tried - k)
                for k in range(passed, tried + 1)
            )
            chances.append(tail * (1 - rate) ** lost)
        bound = cleanly_apart(lost, tried, passed)
        assert max(chances) <= bound * 1.0001
        if passed == tried:
            assert bound == pytest.approx(max(chances), rel=0.01)

    def test_what_shows_no_contrast_proves_nothing(self) -> None:
        assert cleanly_apart(0, 5, 5) == 1
        assert cleanly_apart(5, 5, 0) == 1


class TestEveryRound:
    @pytest.mark.parametrize("rounds", [(1, 1), (2, 3), (1, 4, 2), (4, 4, 4)])
    def test_never_less_than_the_share_of_all_draws(self, rounds: tuple[int, ...]) -> None:
        flows = 5
        draws = list(product(*(list(combinations(range(flows), n)) for n in rounds)))
        for dead in range(1, flows + 1):
            hits = sum(len(set.intersection(*map(set, draw))) >= dead for draw in draws)
            assert lost_every_round(flows, rounds, dead) >= hits / len(draws) - 1e-12
        named = sum(all(0 in turn and 1 in turn for turn in draw) for draw in draws)
        assert these_every_round(flows, rounds, 2) == pytest.approx(named / len(draws))

    def test_it_is_the_exact_share_where_as_many_as_can_be_are_dead(self) -> None:
        assert lost_every_round(6, (2, 2, 2), 2) == pytest.approx(comb(6, 2) ** -2)

    def test_more_dead_than_were_lost_in_a_round_cannot_be(self) -> None:
        assert lost_every_round(10, (5, 2), 3) == 0
        assert lost_every_round(10, (5, 2), 0) == 1


class TestUnlikeFlows:
    def test_about_right_for_loss_that_hits_all_alike(self) -> None:
        draw = Random(1)
        below = {0.01: 0, 0.1: 0, 0.5: 0}
        for _ in range(1000):
            turns = [[draw.random() < 0.3 for _ in range(36)] for _ in range(4)]
            chance = unlike_flows([sum(flow) for flow in zip(*turns, strict=True)], _sums(turns))
            for level in below:
                below[level] += chance < level
        assert below[0.01] < 25
        assert 50 < below[0.1] < 150
        assert 400 < below[0.5] < 600

    def test_flows_that_lose_half_among_flows_that_lose_nothing(self) -> None:
        """With 36 degrees of freedom chi-squared's tail is a sum."""
        for lost, rounds in (
            ([2] * 9 + [0] * 28, [5, 4, 5, 4]),
            ([3] * 9 + [0] * 28, [7, 7, 7, 6]),
        ):
            total, squares = sum(lost), sum(n * n for n in rounds)
            q = 36 * (37 * sum(n * n for n in lost) - total**2) / (37 * total - squares)
            tail = exp(-q / 2) * sum((q / 2) ** k / factorial(k) for k in range(18))
            assert unlike_flows(lost, rounds) == pytest.approx(tail, rel=0.4)
            assert tail < 0.01

    def test_without_loss_or_without_passing_there_is_nothing_to_compare(self) -> None:
        assert unlike_flows([0] * 5, [0, 0]) == 1
        assert unlike_flows([2] * 5, [5, 5]) == 1
        assert unlike_flows([1], [1, 0]) == 1


def _sums(turns: list[list[bool]]) -> list[int]:
    return [sum(turn) for turn in turns]


class TestOrders:
    @pytest.mark.parametrize(("sent", "passed"), [(8, 3), (9, 4), (7, 6), (6, 1)])
    def test_against_every_order_there_is(self, sent: int, passed: int) -> None:
        every = orders(sent, passed)
        for sequence in every[:: max(len(every) // 12, 1)]:
            first = next((i for i, passes in enumerate(sequence) if not passes), sent)
            as_many = sum(all(other[:first]) for other in every)
            assert all_first(first, passed, sent) == pytest.approx(as_many / len(every))
            fewer = sum(_runs(other) <= _runs(sequence) for other in every)
            assert few_runs(sequence) == pytest.approx(fewer / len(every))
            alike = [other for other in every if other[0] is sequence[0]]
            even = sum(_off(other) <= _off(sequence) + 1e-6 for other in alike)
            assert as_even(sequence) == pytest.approx(even / len(alike))

    @CALM
    @given(st.lists(st.booleans(), max_size=200))
    def test_always_a_probability(self, sequence: list[bool]) -> None:
        for chance in (few_runs(sequence), as_even(sequence)):
            assert 0 <= chance <= 1

    def test_a_drip_is_more_even_than_chance_and_bursts_have_fewer_changes(self) -> None:
        drip = [at % 8 == 7 for at in range(160)]
        bursts = [at % 40 < 5 for at in range(160)]
        assert as_even(drip) < 1e-4
        assert few_runs(drip) > 0.5
        assert few_runs(bursts) < 1e-4
        assert as_even(bursts) > 0.05


def _runs(sequence: tuple[bool, ...]) -> int:
    return 1 + sum(a is not b for a, b in pairwise(sequence))


def _off(sequence: tuple[bool, ...]) -> float:
    rate = sum(sequence) / len(sequence)
    return max(abs(sum(sequence[:at]) - at * rate + 0.5) for at in range(1, len(sequence) + 1))


@pytest.mark.parametrize(("flows", "dead"), [(6, 1), (7, 3), (8, 4), (9, 7)])
def test_few_blocks_is_what_counting_all_ways_says(flows: int, dead: int) -> None:
    counts = Counter(
        sum(i in chosen and (i - 1) % flows not in chosen for i in range(flows))
        for chosen in map(set, combinations(range(flows), dead))
    )
    for blocks in range(1, flows):
        expected = sum(n for b, n in counts.items() if b <= blocks) / comb(flows, dead)
        assert few_blocks(flows, dead, blocks) == pytest.approx(expected)


def test_few_blocks_says_nothing_of_all_or_none() -> None:
    assert few_blocks(9, 0, 0) == few_blocks(9, 9, 1) == 1.0
