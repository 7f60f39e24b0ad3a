"""What a node says of itself in a deep look: a trial's marks, its losses, and pieces that fail."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from test_agent_shots import ENDS, RUN_IDENT, RUN_TAG, made, row, trial

from preflight.agent.deep.inside import Inside, MissingError, Piece, Rules
from preflight.agent.deep.losses import losses
from preflight.agent.deep.marks import marks
from preflight.agent.deep.shots import DESTINATION, SOURCE, Packet, Trial
from preflight.agent.deep.sightings import Record, Sightings
from preflight.agent.inet import packed
from preflight.agent.packets import ICMP, TCP
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe

PROBES = (GENEVE, HEALTH, ECHO)
EVERY_CELL = [
    pytest.param(probe, family, role, id=f"{probe.name}-{family}-{role}")
    for probe in PROBES
    for family in Family
    for role in (SOURCE, DESTINATION)
]

# --- marks ---------------------------------------------------------------------------------------


def bears(mark: Any, data: bytes) -> bool:
    """Whether a rule that tests for this mark would meet the packet."""
    family, protocol, parts = mark
    packet = Packet(data)
    if (packet.family, packet.protocol) != (family, protocol):
        return False
    bases = {"network": data, "transport": packet.body}
    return all(bases[base][at : at + len(what)] == what for base, at, what in parts)


def answer(one: Trial, shot: int = 0, flags: int = 0x14) -> bytes:
    """What the destination's kernel answers to a shot."""
    data = made(one, shot)
    packet = Packet(data)
    header = len(data) - len(packet.body)
    ends = packet.destination + packet.source
    if packet.protocol == TCP:
        first, second = packet.body[2:4], packet.body[:2]
        ack = (int.from_bytes(packet.body[4:8], "big") + 1).to_bytes(8, "big")[4:]
        body = first + second + bytes(4) + ack + bytes((0x50, flags)) + bytes(6)
    else:
        kind = 0 if packet.protocol == ICMP else 129
        body = bytes((kind,)) + packet.body[1:]
    return data[: header - len(ends)] + ends + body


@pytest.mark.parametrize(("probe", "family", "role"), EVERY_CELL)
def test_every_shot_and_answer_bears_a_mark(probe: Probe, family: Family, role: str) -> None:
    rows = [row(probe), row(probe, 40001, ttl=3, size=900)]
    if probe is not ECHO:
        rows.append(row(probe, port=9999))
    one = trial(probe, family, rows, role=role)
    known = marks([one, one], RUN_TAG)
    assert len(set(known)) == len(known)
    # A destination knows a SYN by its own address too: the path may have changed the other.
    each = 2 if probe is HEALTH and role == "destination" else 1
    for shot in range(len(rows)):
        assert sum(bears(mark, made(one, shot)) for mark in known) == each
        if probe is not GENEVE:
            for flag in (0x12, 0x14) if probe is HEALTH else (0,):
                assert sum(bears(mark, answer(one, shot, flag)) for mark in known) == each


@pytest.mark.parametrize(("probe", "family", "role"), EVERY_CELL)
def test_strangers_bear_none(probe: Probe, family: Family, role: str) -> None:
    """The same ports, from and to others; what goes the other way; a connection's own segments."""
    one = trial(probe, family, [row(probe)], role=role)
    known = marks([one], RUN_TAG)
    stranger = {Family.IPV4: ("192.0.2.77", "192.0.2.78"), Family.IPV6: ("2001:db8::77", "::78")}
    other = trial(probe, family, [row(probe)], role=role, ends=stranger[family])
    data = made(other)
    data = data.replace(RUN_TAG, b"\1\2\3\4")
    assert not any(bears(mark, data) for mark in known)
    if probe is HEALTH:
        turned = trial(probe, family, [row(probe)], role=role, ends=ENDS[family][::-1])
        assert not any(bears(mark, made(turned)) for mark in known)
        for flags in (0x10, 0x18, 0x11):
            assert not any(bears(mark, answer(one, flags=flags)) for mark in known)


def test_many_ports_are_one_mark() -> None:
    """Each mark costs every packet of the node."""
    rows = [row(HEALTH, port=port) for port in range(1, 100)]
    one = trial(HEALTH, Family.IPV4, rows)
    known = marks([one], RUN_TAG)
    assert len(known) == 3
    assert all(any(bears(mark, made(one, shot)) for mark in known) for shot in range(99))


# --- traced packets ------------------------------------------------------------------------------


def sightings(*trials: Trial) -> Sightings:
    return Sightings(list(trials), RUN_TAG, RUN_IDENT, False)


def traced(told: Sightings, data: bytes) -> Any:
    """As the kernel tells of a packet: the first 20 bytes of its transport header and beyond."""
    packet = Packet(data)
    return told.traced(packet.ident, packet.source, packet.destination, packet.body[:20])


@pytest.mark.parametrize(("probe", "family", "role"), EVERY_CELL)
def test_a_traced_packet_is_its_shot(probe: Probe, family: Family, role: str) -> None:
    """Though 20 bytes leave a GENEVE probe's token out, and ten shots are of one flow."""
    rows = [row(probe, ttl=ttl) for ttl in range(1, 11)]
    other = trial(ECHO, family, [row(ECHO)], role=role, number=9)
    one = trial(probe, family, rows, role=role)
    told = sightings(other, one)
    for shot in range(10):
        assert traced(told, made(one, shot)) == (1, "forward", shot)
        if probe is not GENEVE:
            assert traced(told, answer(one, shot)) == (1, "reply", shot)


@pytest.mark.parametrize("family", Family)
def test_a_translated_geneve_probe_is_of_its_trial_at_least(family: Family) -> None:
    one = trial(GENEVE, family, [row(GENEVE), row(GENEVE, ttl=2)], role=DESTINATION)
    data = made(one, 1)
    v6 = family is Family.IPV6
    at, size = (8, 16) if v6 else (12, 4)
    elsewhere = packed(6 if v6 else 4, "2001:db8::5" if v6 else "203.0.113.5")
    data = data[:at] + elsewhere + data[at + size :]
    assert traced(sightings(one), data) == (None if v6 else (0, "forward", 1))
    # Its checksum was mended by something else than its addresses.
    odd = made(one, 1)
    odd = odd[: at + 2 * size + 6] + b"\1\1" + odd[at + 2 * size + 8 :]
    assert traced(sightings(one), odd) == (0, "forward", None if v6 else 1)


@pytest.mark.parametrize("body", [b"", b"\0" * 7, b"\0" * 8, b"\0" * 20, b"\xff" * 20])
def test_a_strangers_traced_packet_is_none_of_ours(body: bytes) -> None:
    told = sightings(
        trial(GENEVE, Family.IPV4, [row(GENEVE)]), trial(ECHO, Family.IPV4, [row(ECHO)])
    )
    ends = [packed(4, end) for end in ENDS[Family.IPV4]]
    assert told.traced(0, *ends, body) is None


# --- losses --------------------------------------------------------------------------------------

ALL = {"sent", "left", "arrived", "accepted", "answered", "returned", "received"}


def lost(
    one: Trial, record: Record, watched: set[str] = ALL
) -> list[tuple[str, list[int], dict[str, Any]]]:
    return [(x.leg, x.shots, vars(x.lost)) for x in losses([one], [record], [watched])]


def a_record(**seen: list[int]) -> Record:
    record = Record()
    for vantage, shots in seen.items():
        for shot in shots:
            record.see(vantage, shot)
    return record


def test_what_arrives_and_is_not_accepted_is_lost_inside() -> None:
    rows = [row(HEALTH), row(HEALTH, 40001), row(HEALTH, port=9999), row(HEALTH, 40003)]
    one = trial(HEALTH, Family.IPV4, rows, role=DESTINATION)
    record = a_record(arrived=[0, 1, 2, 3], accepted=[3], answered=[3])
    record.passages["arrived"] = {0: ["eth1", "192.0.2.99"], 1: ["eth1", "192.0.2.99"]}
    first, second = lost(one, record)
    assert first[:2] == ("forward", [0, 1])
    assert first[2] == {
        "family": 4, "protocol": 6, "source": "192.0.2.99", "destination": one.own, "packets": 2,
        "incoming": True, "ports": [40000, 40001], "port": 4240, "kind": None, "flags": 2,
        "device": "eth1", "idle": 0, "doubtful": 0, "rewrites": "",
    }  # fmt: skip
    assert second[:2] == ("forward", [2])
    assert (second[2]["source"], second[2]["device"]) == (one.far, "")


def test_an_answer_that_does_not_come_up_is_lost_inside() -> None:
    one = trial(HEALTH, Family.IPV6, [row(HEALTH)])
    ((leg, shots, what),) = lost(one, a_record(sent=[0], left=[0], returned=[0]))
    assert (leg, shots) == ("reply", [0])
    assert (what["source"], what["destination"]) == (one.far, one.own)
    assert (what["ports"], what["port"], what["incoming"]) == ([4240], 40000, True)
    assert what["flags"] is None


def test_an_answer_that_does_not_leave_may_be_lost_inside() -> None:
    one = trial(ECHO, Family.IPV4, [row(ECHO)], role=DESTINATION)
    ((leg, shots, what),) = lost(one, a_record(arrived=[0], accepted=[0]))
    assert (leg, shots) == ("reply", [0])
    assert (what["source"], what["destination"], what["incoming"]) == (one.own, one.far, False)
    assert (what["ports"], what["port"], what["kind"]) == (None, None, 0)


def test_what_may_not_be_sent_is_lost_inside() -> None:
    """And only what the node's firewall forbids."""
    one = trial(GENEVE, Family.IPV4, [row(GENEVE), row(GENEVE, 40001)])
    record = a_record()
    record.send_errors = {0: errno.EPERM, 1: errno.EMSGSIZE}
    ((leg, shots, what),) = lost(one, record)
    assert (leg, shots) == ("forward", [0])
    assert (what["source"], what["destination"], what["incoming"]) == (one.own, one.far, False)


@pytest.mark.parametrize("blind", ["arrived", "accepted"])
def test_what_was_not_watched_is_not_lost(blind: str) -> None:
    one = trial(GENEVE, Family.IPV4, [row(GENEVE)], role=DESTINATION)
    assert lost(one, a_record(arrived=[0]), ALL - {blind}) == []
    assert len(lost(one, a_record(arrived=[0]))) == 1


def test_a_clean_path_loses_nothing() -> None:
    for probe in PROBES:
        for role in (SOURCE, DESTINATION):
            one = trial(probe, Family.IPV4, [row(probe)], role=role)
            watched = ALL if probe is not GENEVE else {"sent", "left", "arrived", "accepted"}
            assert lost(one, a_record(**{v: [0] for v in watched}), watched) == []


# --- pieces that fail ----------------------------------------------------------------------------


class Brittle(Piece):
    """Breaks at one step; notes all."""

    name = "brittle"

    def __init__(self, breaks_at: str, error: Exception) -> None:
        self.steps: list[str] = []
        self._at, self._error = breaks_at, error

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self._at:
            raise self._error

    def open(self) -> None:
        self._step("open")

    def read(self) -> None:
        self._step("read")

    def settle(self) -> None:
        self._step("settle")

    def tell(self, node: dict[str, Any]) -> None:
        self._step("tell")
        node["brittle"] = True

    def close(self) -> None:
        self._step("close")


class Sound(Brittle):
    name = "sound"

    def __init__(self) -> None:
        super().__init__("", ValueError())

    def tell(self, node: dict[str, Any]) -> None:
        node["sound"] = True


STEPS: dict[str, Callable[[Inside], Any]] = {
    "open": Inside.open,
    "read": Inside.read,
    "settle": Inside.settle,
    "tell": Inside.tell,
    "close": Inside.close,
}


@pytest.mark.parametrize("breaks_at", STEPS)
@pytest.mark.parametrize(("error", "words"), [
    (MissingError("no CAP_NET_ADMIN"), "no CAP_NET_ADMIN"),
    (OSError(errno.ENOENT, "No such file or directory"), "No such file or directory"),
    (ImportError("No module named preflight.agent.x"), "not available"),
    (ZeroDivisionError(), "ZeroDivisionError"),
    (ValueError("x" * 5000), "x" * 200),
])  # fmt: skip
def test_a_piece_that_fails_costs_itself_alone(
    breaks_at: str, error: Exception, words: str
) -> None:
    """It is closed, asked no more, and the reason is told; the others go on."""
    breathed: list[None] = []
    bad, good = Brittle(breaks_at, error), Sound()
    inside = Inside([bad, good], lambda: breathed.append(None))
    inside.open()
    assert breaks_at != "open" or bad.steps == ["open", "close"]  # at once
    inside.read()
    inside.settle()
    node = inside.tell()
    inside.close()
    assert breathed
    assert node["sound"]
    assert node["failed"] == ({"brittle": words} if breaks_at != "close" else {})
    assert node["trace"] == ""
    after = bad.steps[bad.steps.index(breaks_at) + 1 :]
    assert set(after) <= {"close"}
    assert breaks_at == "close" or after
    assert ("brittle" in node) == (breaks_at == "close")


def test_who_does_not_answer_while_a_tool_runs_is_gone() -> None:
    """The controller's end of file goes through, and is no piece's failure."""

    class GoneError(Exception):
        pass

    def gone() -> None:
        raise GoneError

    piece = Sound()
    inside = Inside([piece], gone)
    with pytest.raises(GoneError):
        inside.open()
    inside.close()
    assert piece.steps == ["open", "close"]


def test_a_trace_that_cannot_be_is_told() -> None:
    """Here nothing bears a mark, so there is nothing to trace."""
    inside = Inside([Rules("0123456789abcdef", [], [])], lambda: None)
    inside.open()
    inside.read()
    node = inside.tell()
    inside.close()
    assert node["trace"] == "nothing to trace"
    assert node["rules"] == []
