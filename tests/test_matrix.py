"""Many cells at a time say what one at a time says."""

from __future__ import annotations

from array import array
from collections import Counter
from math import isnan, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DELIVERED, sample

from preflight.core.matrix import NOT_PLANNED, Matrix
from preflight.core.model import ECHO, GENEVE, Evidence, Family, Outcome, Verdict

FAMILIES = (Family.IPV4, Family.IPV6)


def outcome(number: int) -> Outcome:
    return Outcome(Verdict.LOSSY, evidence=Evidence(sent=number))


def empty(nodes: int) -> Matrix:
    return Matrix(sample(nodes, families=FAMILIES).matrix.nodes, (GENEVE, ECHO), FAMILIES)


cells = st.lists(
    st.tuples(
        st.integers(0, 4 * 16 - 1),
        st.none() | st.integers(0, 400),
        st.none() | st.floats(0, 1e9, width=32),
    ),
    max_size=300,
)


@settings(deadline=None)
@given(cells)
def test_every_view_of_the_cells_is_the_same(written: list[tuple[int, int | None, Any]]) -> None:
    matrix, known = empty(4), dict[int, tuple[Outcome | None, float | None]]()
    for index, number, rtt in written:
        what = None if number is None else outcome(number)
        matrix.set(index, what, rtt)
        known[index] = (what, rtt)
        matrix.outcomes()  # what was counted is forgotten
    expected = [known.get(i, (None, None)) for i in range(64)]
    assert [(matrix.outcome(i), matrix.rtt_ms(i)) for i in range(64)] == expected
    counts = Counter(o for o, _ in expected if o is not None)
    assert matrix.outcomes() == counts
    told = iter(expected)
    listed = iter(matrix.cells())
    for f in range(2):
        for p in range(2):
            assert matrix.outcomes_of(f, p) == Counter(
                o for o, _ in expected[matrix.index(f, p, 0, 0) :][:16] if o is not None
            )
            grid = matrix.grid(f, p)
            signs = list(matrix.rows(f, p, [65 + i % 5 for i in range(len(matrix.table))]))
            for s in range(4):
                numbers, times = matrix.numbers(f, p, s), matrix.times(f, p, s)
                assert [matrix.table[n] for n in numbers] == grid[s]
                assert list(signs[s]) == [65 + n % 5 for n in numbers]
                for d in range(4):
                    what, rtt = next(told)
                    assert grid[s][d] == what
                    assert (rtt is None) == (times is None or isnan(times[d]))
                    if what is not None:
                        cell = next(listed)
                        assert cell == (s, d, p, FAMILIES[f], what, rtt)
    assert next(listed, None) is None


@pytest.mark.parametrize("kinds", [3, 255, 256, 65_536])
def test_numbers_grow_with_the_outcomes(kinds: int) -> None:
    matrix = empty(4)
    matrix.set(1, outcome(0), 1.5)
    numbers = [matrix.number(outcome(i)) for i in range(kinds)]
    assert numbers == list(range(1, kinds + 1))
    matrix.set(2, outcome(kinds - 1))
    assert [matrix.outcome(i) for i in range(3)] == [None, outcome(0), outcome(kinds - 1)]
    assert matrix.rtt_ms(1) == 1.5
    assert matrix.outcomes() == {outcome(0): 1, outcome(kinds - 1): 1}


def test_a_row_and_a_test_at_once() -> None:
    matrix = empty(4)
    one = matrix.number(outcome(1))
    matrix.set(matrix.index(1, 0, 2, 0), outcome(2), 3.0)
    matrix.set_row(1, 0, 2, [0, one, 0, one], [nan, 2.0, nan, nan])
    assert [matrix.outcome(matrix.index(1, 0, 2, d)) for d in range(4)] == [
        None, outcome(1), None, outcome(1)
    ]  # fmt: skip
    assert matrix.outcomes() == {outcome(1): 2}
    assert matrix.rtt_ms(matrix.index(1, 0, 2, 0)) is None
    assert matrix.rtt_ms(matrix.index(1, 0, 2, 1)) == 2.0
    matrix.set_row(1, 0, 2, bytes(4))
    assert matrix.outcomes() == {}
    assert matrix.rtt_ms(matrix.index(1, 0, 2, 1)) is None
    matrix.set_test(0, 1, array("I", [one] * 16), array("f", [0.5] * 16))
    assert matrix.outcomes_of(0, 1) == {outcome(1): 16}
    assert matrix.rtt_ms(matrix.index(0, 1, 3, 3)) == 0.5
    assert matrix.times(1, 1, 0) is None


@pytest.mark.parametrize("row", [[0, 0, 0], [0, 0, 0, 9]])
def test_a_row_that_is_none(row: list[int]) -> None:
    with pytest.raises(ValueError, match="a row has a known number for each node"):
        empty(4).set_row(0, 0, 0, row)


def test_many_kinds_of_cells_are_counted() -> None:
    matrix = Matrix(sample(20).matrix.nodes, (GENEVE,), (Family.IPV4,))
    for i in range(400):
        matrix.set(i, outcome(i % 40))
    assert matrix.outcomes() == {outcome(i): 10 for i in range(40)}
    assert matrix.counts(0, 0) == {i + 1: 10 for i in range(40)}


def test_times_take_no_room_where_there_are_none() -> None:
    matrix = Matrix(sample(2).matrix.nodes, (GENEVE, ECHO), (Family.IPV4,))
    matrix.set(1, DELIVERED)
    assert matrix.test_times(0, 0) is None
    assert matrix.number(None) == NOT_PLANNED


@given(cells)
def test_tidied_it_says_the_same_and_numbers_are_in_order(written: list[Any]) -> None:
    matrix = empty(4)
    for index, number, rtt in written:
        matrix.set(index, None if number is None else outcome(number), rtt)
    before, counts = list(matrix.cells()), matrix.outcomes()
    matrix.tidy()
    assert list(matrix.cells()) == before
    assert matrix.outcomes() == counts
    firsts = dict.fromkeys(cell.outcome for cell in before)
    assert matrix.table == [None, *firsts]
    assert [matrix.number(o) for o in firsts] == list(range(1, len(firsts) + 1))
