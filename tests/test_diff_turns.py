"""The table of turns: total, right in every entry, and the README's own."""

from itertools import product

import pytest

from preflight.core.diff.turns import (
    COMPARED,
    LOST,
    MEANINGS,
    STATES,
    STILL_BAD,
    TABLE,
    WORSENED,
    Turn,
    alike,
    readme_table,
    turn,
)
from preflight.core.groups import Kind
from preflight.core.model import Cause, Leg, Place, Verdict

BAD = (Verdict.LOSSY, Verdict.CLOSED, Verdict.BLOCKED)


def kind(verdict: Verdict | None) -> Kind | None:
    return None if verdict is None else Kind(verdict, None, None, None, None)


def test_the_table_is_total() -> None:
    assert TABLE.keys() == set(product(STATES, STATES))
    assert set(STATES) == {*Verdict, None}
    assert [pair for pair, found in TABLE.items() if found is None] == [(None, None)]


@pytest.mark.parametrize(("before", "after"), list(product(STATES, STATES)))
def test_each_turn_is_what_its_rules_say(before: Verdict | None, after: Verdict | None) -> None:
    found = turn(kind(before), kind(after))
    known = [side not in (None, Verdict.UNKNOWN) for side in (before, after)]
    # Not tested or unknown on one side: neither worse nor better, whatever the other is.
    if not all(known):
        assert found not in COMPARED
        assert found not in (Turn.BROKEN, Turn.WORSE, Turn.MENDED, Turn.EASED)
    assert (found in LOST) == (known == [True, False])
    if all(known):
        rank = [Verdict.OPEN, *BAD]
        step = rank.index(after) - rank.index(before)  # type: ignore[arg-type]
        assert (found in WORSENED) == (step > 0)
        assert (found in (Turn.MENDED, Turn.EASED)) == (step < 0)
        assert (found is Turn.BROKEN) == (before is Verdict.OPEN and after in BAD)
        assert (found is Turn.MENDED) == (before in BAD and after is Verdict.OPEN)
        assert (found in STILL_BAD) == (before in BAD and after in BAD)
        assert (found is Turn.STILL) == (before == after and before in BAD)
    if before is Verdict.UNKNOWN and after is not None and known[1]:
        assert found is (Turn.CLEARED if after is Verdict.OPEN else Turn.REVEALED)
    if not any(known):
        assert found is (None if before is after is None else Turn.UNKNOWN)


PLAIN = Kind(Verdict.BLOCKED, Leg.FORWARD, Place.PATH, Cause.REJECTED, "10.0.0.9")


@pytest.mark.parametrize(
    "change",
    [
        {"leg": Leg.REPLY},
        {"place": Place.DESTINATION},
        {"cause": Cause.DROPPED},
        {"rejected_by": "10.0.0.8"},
    ],
)
def test_still_bad_in_another_way(change: dict[str, object]) -> None:
    (name,) = change
    assert turn(PLAIN, PLAIN) is Turn.STILL
    assert turn(PLAIN, PLAIN._replace(**change)) is Turn.OTHERWISE  # type: ignore[arg-type]
    # What is not known of one of them is no difference.
    assert alike(PLAIN, PLAIN._replace(**{name: None}))  # type: ignore[arg-type]
    assert alike(PLAIN._replace(**{name: None}), PLAIN)  # type: ignore[arg-type]


def test_the_table_in_words_has_every_turn() -> None:
    text = readme_table()
    assert text.count("\n| ") == len(STATES)
    for which in Turn:
        assert f"`{which}`" in text or which is Turn.OTHERWISE, which
    assert MEANINGS.keys() == {t for t in TABLE.values() if t}
