"""A DSCP that the node sets itself: whether the path drops it is told only where it was tried."""

from collections.abc import Callable

import pytest
from trials import BLOCKED, LOSSY, observed, passage, planned

from preflight.core.diagnosis.conclude import conclude
from preflight.core.diagnosis.conclusions import ContentPattern, Marking
from preflight.core.diagnosis.marks import MarkSearch, own_mark
from preflight.core.diagnosis.trial import Observed, Purpose, Shot
from preflight.core.model import GENEVE, Phase

EF = 46 << 2
SHOTS = planned(known=(700, 20000, 40000))

Tos = Callable[[Shot], int]


def seen(shots: tuple[Shot, ...], leaves: Tos, passes: Callable[[Shot, int], bool]) -> Observed:
    left = {i: passage(shot, tos=leaves(shot)) for i, shot in enumerate(shots)}
    return observed(
        shots, lambda i, shot: passes(shot, left[i].tos), passages={"left": left, "arrived": {}}
    )


def asked(leaves: Tos, passes: Callable[[Shot, int], bool]) -> tuple[Marking | None, Observed]:
    first = seen(SHOTS, leaves, passes)
    search = MarkSearch(first)
    if search.pays and (more := search.next_shots(None)):
        known = {(s.source_port, s.port) for s in SHOTS}
        assert {(s.source_port, s.port) for s in more} <= known
        assert {s.purpose for s in more} == {Purpose.CONTROL}
        again = seen(more, lambda shot: leaves(shot) or shot.tos, passes)
        assert search.next_shots(again) == ()
    return search.result(), first


def of_port(shot: Shot) -> int:
    return EF if shot.port == 6081 else 0


def test_the_mark_is_dropped() -> None:
    told, first = asked(of_port, lambda _, tos: tos != EF)
    assert told == Marking(EF, True, 12, 12, 12, 6082)
    assert told.dscp == 46
    ended = conclude(first, GENEVE, BLOCKED, Phase.BEFORE, on_link=None, marking=told)
    assert ended.content is None  # it is not for its port


def test_the_port_is_dropped_whatever_the_mark() -> None:
    told, first = asked(of_port, lambda shot, _: shot.port != 6081)
    assert told is not None
    assert told.dropped is False
    ended = conclude(first, GENEVE, BLOCKED, Phase.BEFORE, on_link=None, marking=told)
    assert ended.content is not None
    assert ended.content.pattern is ContentPattern.PORT


@pytest.mark.parametrize("lost", [lambda *_: False, lambda _, tos: tos != EF])
def test_what_marks_everything_leaves_nothing_to_compare(
    lost: Callable[[Shot, int], bool],
) -> None:
    told, _ = asked(lambda _: EF, lost)
    assert told == Marking(EF, None, 0, 0, 0, 0)


def test_where_nothing_passes_anyway_the_mark_is_not_accused() -> None:
    told, _ = asked(of_port, lambda *_: False)
    assert told is not None
    assert told.dropped is None


def test_what_the_node_leaves_alone_is_none() -> None:
    assert own_mark(seen(SHOTS, lambda _: 0, lambda *_: False)) == 0
    assert own_mark(seen(SHOTS, lambda _: 1, lambda *_: False)) == 0  # ECN
    assert asked(lambda _: 0, lambda *_: False)[0] is None


def test_a_mark_without_loss_is_nobodys_business() -> None:
    first = seen(planned(kind=LOSSY), of_port, lambda *_: True)
    assert MarkSearch(first).result() is None
