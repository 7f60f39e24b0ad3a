"""The hop of an answer that is lost on its way back; what is sent again is one of the kernel's."""

from typing import Any

import pytest
from trials import ROUTERS, observed, passage, planned

from preflight.agent.deep.answers import _number, _ttl, again
from preflight.agent.deep.shots import Packet
from preflight.agent.packets import checksum
from preflight.core.diagnosis.conclude import conclude
from preflight.core.diagnosis.conclusions import Path
from preflight.core.diagnosis.hops import path_back
from preflight.core.diagnosis.plan import hops_back
from preflight.core.diagnosis.trial import BackError, Observed
from preflight.core.groups import Kind
from preflight.core.model import ECHO, HEALTH, Cause, Family, Leg, Phase, Place, Probe, Verdict

LOST = Kind(Verdict.BLOCKED, Leg.REPLY, Place.PATH, Cause.DROPPED, None)
EXCEEDED = {Family.IPV4: (11, 0), Family.IPV6: (3, 0)}


def lost_back(
    last: int,
    *,
    probe: Probe = ECHO,
    routers: int = 3,
    resets: bool = False,
    family: Family = Family.IPV4,
    **changes: Any,
) -> Observed:
    """All went there over `routers` routers, was answered, and answers end behind the `last`."""
    shots = planned(probe, LOST, family=family)
    out = observed(shots, lambda i, shot: True, family=family)
    every = out.seen["arrived"]
    out.seen.update(answered=every, returned=0, received=0)
    out.resets = {"answered": every or 0} if resets else {}
    out.passages = {
        "left": {i: passage(shot) for i, shot in enumerate(shots)},
        "arrived": {i: passage(shot, ttl=shot.ttl - routers) for i, shot in enumerate(shots)},
    }
    out.back = 10
    out.back_errors = [
        BackError(ttl, ROUTERS[-ttl], *EXCEEDED[family]) for ttl in range(1, last + 1)
    ]
    for name, value in changes.items():
        setattr(out, name, value)
    return out


def silent(found: Path | None) -> int | None:
    return None if found is None else found.silent


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("last", [1, 2, 3])
def test_behind_the_last_router_that_answers(last: int, family: Family) -> None:
    found = path_back(lost_back(last, family=family))
    assert found is not None
    assert found.back
    assert [r.ttl for r in found.routers] == list(range(1, last + 1))
    assert found.silent == last + 1


@pytest.mark.parametrize(("last", "told"), [(1, None), (2, None), (3, 4)])
def test_a_second_reset_proves_something_at_the_last_router_alone(
    last: int, told: int | None
) -> None:
    """Any other may have forgotten the connection with the first one."""
    assert silent(path_back(lost_back(last, probe=HEALTH, resets=True))) == told
    assert silent(path_back(lost_back(last, probe=HEALTH))) == last + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"back": 0},
        {"back_errors": []},
        {"back": 2},
        {"back_errors": [BackError(1, ROUTERS[0], 11, 0), BackError(2, ROUTERS[1], 3, 13)]},
    ],
    ids=["not sent", "nobody answers", "no further TTL", "rejected aloud"],
)
def test_where_no_place_is_told(changes: dict[str, Any]) -> None:
    assert silent(path_back(lost_back(2, **changes))) is None


@pytest.mark.parametrize(
    ("vantage", "value"), [("returned", None), ("returned", 4), ("answered", 0)]
)
def test_what_came_back_or_was_not_watched_is_not_lost(vantage: str, value: int | None) -> None:
    seen = lost_back(2)
    seen.seen[vantage] = value
    assert silent(path_back(seen)) is None


def test_a_loop_ends_nowhere() -> None:
    turns = [BackError(ttl, ROUTERS[ttl % 2], 11, 0) for ttl in range(1, 7)]
    assert silent(path_back(lost_back(2, back_errors=turns))) is None


def test_it_is_asked_of_answers_alone_that_are_lost_on_the_path() -> None:
    for verdict in Verdict:
        for leg in Leg:
            for place in Place:
                kind = Kind(verdict, leg, place, Cause.DROPPED, None)
                assert bool(hops_back(kind, thorough=False)) == (kind == LOST)
    assert not hops_back(LOST._replace(cause=Cause.REJECTED), thorough=False)
    assert hops_back(LOST, thorough=True) > hops_back(LOST, thorough=False)


def test_a_diagnosis_tells_of_the_leg_that_is_bad() -> None:
    seen = lost_back(2)
    assert conclude(seen, ECHO, LOST, Phase.BEFORE, on_link=False).path == path_back(seen)
    inside = LOST._replace(place=Place.SOURCE)
    assert conclude(seen, ECHO, inside, Phase.BEFORE, on_link=False).path is None


# --- the packets

V4 = bytes.fromhex("450000280000400040060000c6120215c612010b") + bytes.fromhex(
    "1090f000000000000000002a50140000abcd0000"
)
V6 = bytes.fromhex("6001234500140640") + bytes(15) + b"\x15" + bytes(15) + b"\x0b" + V4[20:]
ECHO4 = bytes.fromhex("4500002400004000400100c0c6120215c612010b") + bytes.fromhex(
    "0000ffff12340007" + "61" * 8
)
ECHO6 = bytes.fromhex("60000000001 03a40".replace(" ", "")) + V6[8:40] + bytes.fromhex(
    "8100ffff12340007" + "61" * 8
)  # fmt: skip


@pytest.mark.parametrize("answer", [V4, V6, ECHO4, ECHO6], ids=["rst4", "rst6", "echo4", "echo6"])
def test_it_differs_in_nothing_that_a_firewall_reads(answer: bytes) -> None:
    was = Packet(answer)
    for ttl in (1, 7, 16):
        now = Packet(again(answer, ttl, 0xA000 + ttl))
        assert (now.ttl, now.source, now.destination) == (ttl, was.source, was.destination)
        assert (now.tos, now.df, now.protocol) == (was.tos, was.df, was.protocol)
        if now.protocol == 6:
            assert now.body[:16] == was.body[:16]  # ports, numbers, flags, window
        else:
            assert (now.body[:1], now.body[4:16]) == (was.body[:1], was.body[4:16])
        head = b"" if now.protocol == 1 else now.source + now.destination
        head += bytes([0, now.protocol]) + len(now.body).to_bytes(2, "big") if head else b""
        assert checksum(head + now.body) == 0


@pytest.mark.parametrize("answer", [V4, V6, ECHO4, ECHO6], ids=["rst4", "rst6", "echo4", "echo6"])
def test_a_quote_tells_the_ttl_and_a_strangers_none(answer: bytes) -> None:
    sent = again(answer, 9, _number(3, 9))
    quote = sent[: 28 if answer[0] >> 4 == 4 else None]  # what a router must quote of IPv4
    quoted, was = Packet(quote), Packet(answer)
    assert _ttl(quoted, was, 3) == 9
    if was.family == 4:
        assert not 0 < _ttl(quoted, was, 2) <= 16  # another trial's
    other = bytearray(answer)
    other[len(answer) - len(was.body) + (1 if was.protocol == 6 else 5)] ^= 1  # port, identifier
    assert _ttl(quoted, Packet(bytes(other)), 3) == 0
    other = bytearray(quote)
    other[39 if was.family == 6 else 19] ^= 1  # to somebody else
    assert _ttl(Packet(bytes(other)), was, 3) == 0
