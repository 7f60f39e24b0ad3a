"""What a watch believes of the cells over its rounds, and when it looks again: no network."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.core.groups import FamilyProbe, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    AgentInfo,
    AgentState,
    Cause,
    Evidence,
    Family,
    Leg,
    Node,
    Outcome,
    Place,
    Verdict,
)
from preflight.core.watch import (
    CALM_ROUNDS,
    OPEN,
    UNSEEN,
    UNSTEADY_TURNS,
    Change,
    History,
    Sort,
    Standing,
    carries_on,
    kind_of,
)
from preflight.core.watch_groups import stands, turned
from preflight.core.watch_pace import CONFIRM_S, Pace, retry_s, seconds
from preflight.core.watch_round import News, together

FORWARD, DESTINATION, PATH = Leg.FORWARD, Place.DESTINATION, Place.PATH
O = Outcome(Verdict.OPEN)  # noqa: E741
B = Outcome(Verdict.BLOCKED, FORWARD, DESTINATION, Cause.DROPPED)
P = Outcome(Verdict.BLOCKED, FORWARD, PATH, Cause.DROPPED)
R = Outcome(Verdict.BLOCKED, FORWARD, PATH, Cause.REJECTED, "192.0.2.254")
L = Outcome(Verdict.LOSSY, FORWARD, PATH, Cause.DROPPED)
U = Outcome(Verdict.UNKNOWN, cause=Cause.NO_AGENT)
W = Outcome(Verdict.UNKNOWN, cause=Cause.NOT_WATCHED)
LETTERS = {"o": O, "b": B, "p": P, "r": R, "l": L, "u": U, "w": W}
PROBES = (GENEVE, HEALTH, ECHO)


def node_list(count: int) -> list[Node]:
    return [Node(f"n{i + 1}", (f"198.51.{i // 250}.{i % 250 + 1}",), "host") for i in range(count)]


NODES = node_list(4)


def matrix(cells: Sequence[Outcome]) -> Matrix:
    """GENEVE over IPv4 among two nodes: n1 → n2 and n2 → n1."""
    out = Matrix(NODES[:2], (GENEVE,), (Family.IPV4,))
    for index, outcome in zip((1, 2), cells, strict=True):
        out.set(index, outcome)
    return out


def course(letters: str) -> tuple[History, list[list[Change]]]:
    """One cell's rounds, 10 s apart from 100 on; the other cell is always open."""
    history = History()
    said = [
        history.see(matrix([LETTERS[letter], O]), 100.0 + 10 * i)
        for i, letter in enumerate(letters.replace(" ", ""))
    ]
    return history, said


def told(letters: str) -> list[tuple[int, str, str, float]]:
    """Round, what it was, what it is, and since when, of each change."""
    names = {kind_of(outcome): letter for letter, outcome in LETTERS.items()}
    return [
        (number, names[change.was], names[change.now], change.at)
        for number, changes in enumerate(course(letters)[1], 1)
        for change in changes
    ]


@pytest.mark.parametrize(
    ("letters", "changes"),
    [
        ("oooo", []),
        ("bbbb", []),  # it was so from the start: there is nothing to tell
        ("obo", []),  # one odd round
        ("olo", []),
        ("obobob", []),  # never twice the same
        ("obpo", []),
        ("obb", [(3, "o", "b", 110)]),  # the time is the first sighting's
        ("obbbb", [(3, "o", "b", 110)]),
        ("obboo", [(3, "o", "b", 110), (5, "b", "o", 130)]),
        ("oblbb", [(5, "o", "b", 130)]),  # the odd one does not confirm
        ("ollo", [(3, "o", "l", 110)]),
        ("bbpp", [(4, "b", "p", 120)]),  # another place
        ("pprr", [(4, "p", "r", 120)]),  # a rejection is news,
        ("rrppp", []),  # silence after one is not
        ("buuub", []),  # nobody could look
        ("obub", [(4, "o", "b", 110)]),  # what was seen once still waits
        ("buoo", [(4, "b", "o", 120)]),
        ("uuoo", [(4, "u", "o", 120)]),
        ("oww", [(3, "o", "w", 110)]),
        ("owo", []),
        ("owwbb", [(3, "o", "w", 110), (5, "w", "b", 130)]),
    ],
)
def test_what_is_told_of_a_course(letters: str, changes: list[Any]) -> None:
    assert told(letters) == changes


def standing(history: History, cell: int = 1) -> Standing:
    return history.standing(cell)


def test_since_when() -> None:
    assert standing(course("bbb")[0]) == Standing(kind_of(B), None, False)
    assert standing(course("obb")[0]) == Standing(kind_of(B), 110.0, False)
    assert standing(course("obbbubb")[0]) == Standing(kind_of(B), 110.0, False)
    assert standing(course("ob")[0]) == Standing(OPEN, None, False)
    assert standing(course("obbuu")[0]) == Standing(UNSEEN, None, False)
    assert standing(course("uu")[0]) == Standing(UNSEEN, None, False)
    assert dict(course("obboo")[0].not_open()) == {}
    assert set(dict(course("obb")[0].not_open())) == {1}


def test_odd_rounds_are_counted_and_what_waits_too() -> None:
    history, _ = course("obo")
    assert (history.odd, history.pending) == (1, 0)
    history, _ = course("ob")
    assert (history.odd, history.pending) == (0, 1)
    history, _ = course("obb")
    assert (history.odd, history.pending) == (0, 0)


def test_a_cell_that_turns_again_and_again_is_unsteady_once_and_then_steady_again() -> None:
    turns = "oobb" * 6
    history, said = course(turns)
    sorts = [change.sort for changes in said for change in changes]
    assert sorts == [Sort.TURNED] * (UNSTEADY_TURNS - 1) + [Sort.UNSTEADY]
    assert standing(history).unsteady
    assert dict(history.not_open())[1].unsteady
    assert history.pending == 0  # it has nobody look again at once
    history, said = course(turns + "o" * (CALM_ROUNDS - 1))
    assert standing(history).unsteady
    history, said = course(turns + "o" * CALM_ROUNDS)
    (last,) = said[-1]
    assert (last.sort, last.now, last.at) == (Sort.STEADY, OPEN, 100.0 + 10 * len(turns))
    assert standing(history) == Standing(OPEN, last.at, False)
    history, said = course(turns + "o" * CALM_ROUNDS + "bb")
    assert [change.sort for change in said[-1]] == [Sort.TURNED]


def test_slow_turns_are_never_unsteady() -> None:
    _, said = course(("o" * 6 + "b" * 6) * 6)
    assert {change.sort for changes in said for change in changes} == {Sort.TURNED}


def test_a_steady_loss_is_not_told_round_by_round() -> None:
    """Lost now on this leg, now on that one: it is lossy."""
    other = L._replace(leg=Leg.REPLY, place=Place.SOURCE)
    assert carries_on(kind_of(L), kind_of(other))
    assert not carries_on(kind_of(L), kind_of(L._replace(cause=Cause.SIZE)))
    assert not carries_on(kind_of(L), kind_of(B))
    assert not carries_on(OPEN, kind_of(L))


def test_a_place_that_was_not_watched_is_no_other_place() -> None:
    nowhere = B._replace(place=None)
    assert carries_on(kind_of(B), kind_of(nowhere))
    assert carries_on(kind_of(nowhere), kind_of(B))
    assert not carries_on(kind_of(B), kind_of(P))
    assert not carries_on(kind_of(P), kind_of(P._replace(leg=Leg.REPLY)))


def test_counts_and_rejecters_are_no_change() -> None:
    assert kind_of(R._replace(evidence=Evidence(20, 20, 0, 0))) == kind_of(
        R._replace(rejected_by="192.0.2.7")
    )


# --- an oracle ------------------------------------------------------------------------------------


class Plainly:
    """The rules once more, for one cell and without flapping: a list of what was seen."""

    def __init__(self) -> None:
        self.known: Kind | None = None
        self.once: tuple[Kind, float] | None = None

    def see(self, kind: Kind, at: float) -> tuple[Kind, Kind, float] | None:
        if self.known is None:
            self.known = kind
            return None
        if kind == UNSEEN:
            return None
        if carries_on(self.known, kind):
            self.once = None
            return None
        if self.once is None or not carries_on(self.once[0], kind):
            self.once = (kind, at)
            return None
        change = (self.known, kind, self.once[1])
        self.known, self.once = kind, None
        return change


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from("obplru"), min_size=12, max_size=12), max_size=8))
def test_every_cell_of_many_is_told_as_if_it_were_alone(rounds: list[list[str]]) -> None:
    history, alone = History(), [Plainly() for _ in range(12)]
    for number, letters in enumerate(rounds):
        seen = Matrix(NODES, (GENEVE,), (Family.IPV4,))
        planned = [seen.index(0, 0, s, d) for s in range(4) for d in range(4) if s != d]
        for cell, letter in zip(planned, letters, strict=True):
            seen.set(cell, LETTERS[letter])
        expected = {
            cell: change
            for cell, one, letter in zip(planned, alone, letters, strict=True)
            if (change := one.see(kind_of(LETTERS[letter]), float(number)))
        }
        changes = history.see(seen, float(number))
        assert {c.cell: (c.was, c.now, c.at) for c in changes} == expected
        groups = turned(seen, changes)
        covered = [(cell, g) for g in groups for cell in g.extent.cells]
        assert sorted(cell for cell, _ in covered) == sorted(expected)
        for cell, group in covered:
            assert (group.was, group.now, group.at) == expected[cell]
        not_open = dict(history.not_open())
        found = [(cell, s.standing) for s in stands(seen, history) for cell in s.extent.cells]
        assert sorted(c for c, _ in found) == sorted(not_open)
        assert all(not_open[cell] == told for cell, told in found)


def test_changes_are_told_in_few_words() -> None:
    """A firewall on n2, for two families."""
    history = History()
    for number in range(3):
        seen = Matrix(NODES, PROBES, tuple(Family))
        for f in range(2):
            for p in range(3):
                for s in range(4):
                    for d in range(4):
                        if s != d:
                            hit = number > 0 and d == 1 and p == 0
                            seen.set(seen.index(f, p, s, d), B if hit else O)
        changes = history.see(seen, float(number))
    (one,) = turned(seen, changes)
    assert one.extent.where == "all → n2"
    assert one.extent.tests == (FamilyProbe(0, Family.IPV4), FamilyProbe(0, Family.IPV6))
    assert (one.extent.pairs, len(one.extent.cells)) == (3, 6)
    assert (one.was, one.now, one.was_since, one.at) == (OPEN, kind_of(B), None, 1.0)
    (still,) = stands(seen, history)
    assert still.extent == one.extent
    assert still.standing == Standing(kind_of(B), 1.0, False)


def test_a_large_matrix_is_one_statement_and_takes_little_time_and_room() -> None:
    many = node_list(300)
    history = History()
    for number in range(3):
        seen = Matrix(many, (GENEVE,), (Family.IPV4,))
        opened, blocked = seen.number(O), seen.number(B)
        for s in range(300):
            row = [opened] * 300
            if number:
                row[7] = blocked
            row[s] = 0
            seen.set_row(0, 0, s, row)
        changes = history.see(seen, float(number))
    assert len(changes) == 299
    (one,) = turned(seen, changes)
    assert one.extent.where == f"all → {many[7].name}"


# --- the pace ------------------------------------------------------------------------------------


def test_rounds_begin_at_the_interval_and_never_together() -> None:
    pace = Pace(10.0)
    assert pace.next_at(100.0, 101.0, confirm=False, delay_s=0) == 110.0
    assert pace.next_at(100.0, 115.0, confirm=False, delay_s=0) == 115.0
    assert pace.next_at(100.0, 101.0, confirm=True, delay_s=0) == 101.0 + CONFIRM_S
    assert Pace(1.0).next_at(100.0, 100.5, confirm=True, delay_s=0) == 101.5
    assert pace.next_at(100.0, 101.0, confirm=True, delay_s=25.0) == 126.0  # firewalls come first
    assert pace.next_at(100.0, 101.0, confirm=False, delay_s=25.0) == 126.0


def test_it_ends_after_so_many_rounds_or_so_long() -> None:
    assert not Pace().over(10**6, 1e9)
    assert [Pace(count=3).over(n, 0) for n in (1, 2, 3)] == [False, False, True]
    assert [Pace(for_s=60).over(1, t) for t in (59, 60)] == [False, True]
    assert Pace(count=9, for_s=60).over(1, 61)


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("30s", 30), ("1.5m", 90), ("2h", 7200), (" 10 min ", 600), ("5M", 300)],
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "10d", "-5", "1e3", "10 s s", "٣"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="write it as seconds, or like 30s, 10m or 2h"):
        seconds(text)


def test_who_may_come_back_is_tried_soon_and_then_less_often() -> None:
    waits = [retry_s(AgentState.LOST, n, was_there=True) for n in range(1, 9)]
    assert waits == [2, 4, 8, 16, 30, 30, 30, 30]
    assert retry_s(AgentState.UNREACHABLE, 10**6, was_there=False) == 30


def test_a_refused_login_is_not_tried_until_the_account_is_locked() -> None:
    for state in (AgentState.AUTH, AgentState.BECOME):
        assert retry_s(state, 1, was_there=False) is None
        tries = [retry_s(state, n, was_there=True) for n in range(1, 6)]
        assert tries == [60, 60, 60, None, None]


@pytest.mark.parametrize("state", sorted(set(AgentState) - {AgentState.OK, AgentState.NONE}))
def test_every_other_state_has_a_wait(state: AgentState) -> None:
    assert (retry_s(state, 1, was_there=True) or 0) > 0


def news(numbers: Iterable[int], state: AgentState, reason: str | None) -> list[News]:
    return [News(n, AgentInfo(state, reason), 50.0, None) for n in numbers]


def test_the_same_news_of_many_nodes_is_said_once() -> None:
    many = node_list(40)
    (one,) = together(many, news(range(40), AgentState.LOST, "the connection was lost"))
    assert (one.names, one.info.reason) == ("all", "the connection was lost")
    assert one.nodes == tuple(range(40))
    each = [News(n, AgentInfo(AgentState.UNREACHABLE, f"no {n}"), 50.0, None) for n in range(9)]
    (one,) = together(many, each)
    assert one.info.reason == f"{many[0].name}, for example: no 0"
    assert len(together(many, each[:3])) == 3
