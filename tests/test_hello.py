"""What a `GET /hello` answered means, without a network: parsing, the way it went, the verdict."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NO_AGENT, sample

from preflight.core.hello import (
    DOMAINS,
    TABLE,
    End,
    Heard,
    Passed,
    decide,
    follow,
    in_words,
    parse,
    settle,
)
from preflight.core.model import (
    GENEVE,
    HEALTH,
    Came,
    Cause,
    Evidence,
    Hello,
    Inventory,
    Leg,
    Outcome,
    Phase,
    Place,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.core.plan import FlowBudget
from preflight.core.scope import scope
from preflight.looks.hello import greet

SPOKE = (Came.HTTP, Came.OTHER)
SOME_BODY = "HTTP 200, but no empty body"
OPEN = Outcome(Verdict.OPEN, evidence=Evidence(3, None, None, 3, None, None, 3))


def heard(data: bytes, end: End = End.CLOSED) -> Hello:
    return parse(end, data[:1024], len(data), connected=True)


class TestParse:
    """Bytes from a stranger."""

    @pytest.mark.parametrize(
        ("data", "end"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", End.DONE),
            (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", End.TIMEOUT),  # keeps it open
            (b"HTTP/1.1 200 OK\r\n\r\n", End.CLOSED),
            (b"HTTP/1.0 200\r\nDate: x\r\n\r\n", End.CLOSED),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", End.CLOSED),
        ],
    )
    def test_200_and_an_empty_body_is_cilium(self, data: bytes, end: End) -> None:
        assert heard(data, end) == Hello(Came.CILIUM, 200)

    @pytest.mark.parametrize(
        ("data", "end", "says"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", End.DONE, SOME_BODY),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", End.TIMEOUT, SOME_BODY),
            (b"HTTP/1.1 200 OK\r\n\r\nx", End.CLOSED, SOME_BODY),
            (b"HTTP/1.1 200 OK\r\n\r\n", End.TIMEOUT, SOME_BODY),  # it may come yet
            (b"HTTP/1.1 200 OK\r\nContent-Len", End.TIMEOUT, SOME_BODY),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
             End.CLOSED, SOME_BODY),
            (b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n", End.DONE,
             "HTTP 404 from 'nginx'"),
            (b"HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n", End.DONE,
             "HTTP 301"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", End.CLOSED, "HTTP 204"),
            (b"HTTP/1.1 2000 OK\r\n\r\n", End.CLOSED, "HTTP, cut short"),
            (b"H", End.TIMEOUT, "HTTP, cut short"),
            (b"HTTP/1.", End.TIMEOUT, "HTTP, cut short"),
            (b"\x15\x03\x01\x00\x02\x02\x32", End.CLOSED, "'TLS', which is not HTTP"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", End.TIMEOUT, "'SSH-2.0-OpenSSH_9.2', which is not HTTP"),
            (b"\x00\xff\x1b[31m", End.CLOSED, "'???[31m', which is not HTTP"),
            (b"\r\n\r\n", End.CLOSED, "bytes that are not HTTP"),
            (b"", End.CLOSED, "the connection was closed without a word"),
            (b"", End.RESET, "the connection was reset"),
            (b"", End.TIMEOUT, "nothing came"),
        ],
    )  # fmt: skip
    def test_anything_else_is_not(self, data: bytes, end: End, says: str) -> None:
        hello = heard(data, end)
        assert hello.answer is not Came.CILIUM
        assert in_words(hello) == says

    def test_what_a_server_calls_itself_is_short_and_harmless(self) -> None:
        name = b"evil\x1b]0;owned\x07\xe2\x80\xae" + b"x" * 500
        hello = heard(b"HTTP/1.1 500 No\r\nServer: " + name + b"\r\n\r\n")
        assert hello.says is not None
        assert hello.says.startswith("evil?]0;owned?")
        assert hello.says.isprintable()
        assert len(hello.says) == 40

    def test_a_body_longer_than_what_was_kept_is_a_body(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        assert parse(End.CLOSED, head, len(head) + 1, connected=True).answer is Came.HTTP

    @pytest.mark.parametrize(
        ("end", "came"),
        [(End.REFUSED, Came.REFUSED), (End.TIMEOUT, Came.UNANSWERED), (End.UNSENT, Came.UNSENT)],
    )
    def test_without_a_connection(self, end: End, came: Came) -> None:
        assert parse(end, b"", 0, connected=False, errno=1).answer is came

    @given(st.binary(max_size=300), st.sampled_from(End), st.booleans(), st.booleans())
    def test_it_is_total_and_only_a_200_is_cilium(
        self, data: bytes, end: End, http: bool, connected: bool
    ) -> None:
        data = b"HTTP/1.1 " + data if http else data
        hello = parse(end, data, len(data), connected=connected)
        assert in_words(hello).isprintable()
        assert hello.says is None or len(hello.says) <= 40
        if hello.answer is Came.CILIUM:
            assert connected
            assert data[9:12] == b"200"


def taps(seen: str) -> tuple[Passed | None, Passed | None]:
    """`source/destination`, each a letter for what it saw, `-` for not watched."""
    letters = dict(zip("SDKAXE", Passed, strict=True))
    sides = [
        None if side == "-" else Passed(sum(letters[letter] for letter in side))
        for side in seen.split("/")
    ]
    return sides[0], sides[1]


class TestFollow:
    """S SYN, D request, K SYN-ACK, A acknowledged, X answer, E RST or FIN."""

    @pytest.mark.parametrize(
        ("came", "seen", "leg", "place"),
        [
            (Came.SILENT, "SK/SK", "forward", "source"),
            (Came.SILENT, "SDK/SK", "forward", "path"),
            (Came.SILENT, "SDK/SDK", "forward", "destination"),
            (Came.SILENT, "SDK/SDKA", "reply", "destination"),
            (Came.SILENT, "SDK/SDKAX", "reply", "path"),
            (Came.SILENT, "SDK/SDKX", "reply", "path"),
            (Came.SILENT, "SDKAX/SDKAX", "reply", "source"),
            (Came.SILENT, "SDKAX/-", "reply", "source"),
            (Came.SILENT, "SK/-", "forward", "source"),
            (Came.SILENT, "SDK/-", None, None),  # anywhere beyond the source
            (Came.SILENT, "-/SK", None, None),  # the source or the path
            (Came.SILENT, "-/SDK", "forward", "destination"),
            (Came.SILENT, "-/SDKA", "reply", "destination"),
            (Came.SILENT, "-/-", None, None),
            (Came.SILENT, "SDK/", None, None),  # it came about and was not seen: rewritten
            (Came.UNTAKEN, "SDK/SK", "forward", "path"),
            (Came.UNTAKEN, "SDK/SDK", "forward", "destination"),
            (Came.UNTAKEN, "SDK/-", None, None),
            (Came.UNANSWERED, "/", "forward", "source"),
            (Came.UNANSWERED, "S/", "forward", "path"),
            (Came.UNANSWERED, "S/S", "forward", "destination"),
            (Came.UNANSWERED, "S/SK", "reply", "path"),
            (Came.UNANSWERED, "SK/SK", "reply", "source"),
            (Came.RESET, "SDKE/SK", "forward", "path"),
            (Came.RESET, "SDKE/SDKA", "reply", "path"),
            (Came.RESET, "SDKE/SDKE", "forward", "destination"),
            (Came.RESET, "SDKE/SDKAE", "reply", "destination"),
            (Came.RESET, "SK/SK", "forward", "source"),
            (Came.RESET, "SDKE/-", None, None),
            (Came.RESET, "-/SDKE", None, None),
            (Came.REFUSED, "SE/", "forward", "path"),
            (Came.REFUSED, "SE/S", "forward", "path"),
            (Came.REFUSED, "SE/SE", "forward", "destination"),
            (Came.REFUSED, "S/S", "forward", "source"),
            (Came.ENDED, "SDKE/SDKAE", "reply", "destination"),
            (Came.HTTP, "SDKX/SDKX", None, None),
        ],
    )
    def test_where_it_was_lost(
        self, came: Came, seen: str, leg: str | None, place: str | None
    ) -> None:
        assert follow(came, *taps(seen))[1:] == (leg, place)

    @pytest.mark.parametrize(
        ("seen", "there"),
        [("SDKX/SDKX", True), ("SDKX/SK", False), ("SDKX/", None), ("SDKX/-", None)],
    )
    def test_whether_the_destination_sent_the_answer(self, seen: str, there: bool | None) -> None:
        assert follow(Came.HTTP, *taps(seen)).there is there

    @given(
        st.sampled_from(Came),
        st.none() | st.builds(Passed, st.integers(0, 63)),
        st.none() | st.builds(Passed, st.integers(0, 63)),
    )
    def test_it_is_total_and_nobody_is_accused_without_a_witness(
        self, came: Came, source: Passed | None, destination: Passed | None
    ) -> None:
        course = follow(came, source, destination)
        assert (course.leg is None) == (course.place is None)
        if source is None and destination is None:
            assert course == (None, None, None)
        if course.place is Place.PATH:
            assert source is not None
            assert destination is not None


def everything() -> list[Heard]:
    return [Heard(*values) for values in product(*DOMAINS.values())]


class TestTable:
    """Every combination, judged by what may be said of it."""

    def test_every_row_is_reached(self) -> None:
        reached = set()
        for one in everything():
            for number, row in enumerate(TABLE):
                if all(getattr(one, field) in allowed for field, allowed in row.when.items()):
                    reached.add(number)
                    break
        assert reached == set(range(len(TABLE)))

    def test_what_may_be_said(self) -> None:
        for one in everything():
            verdict, leg, place, cause = decide(one)
            if verdict is Verdict.OPEN:
                assert one.agent
                assert one.came is Came.CILIUM
            if not one.agent:
                assert (verdict, cause) == (Verdict.UNKNOWN, Cause.NO_AGENT)
            if cause is Cause.NOT_CILIUM:  # somebody was heard there who is not
                assert one.own is not Came.CILIUM
                assert one.own in SPOKE or (one.came in SPOKE and one.there)
            if cause is Cause.NOT_ANSWERING:
                assert not {one.came, one.own} & {Came.CILIUM, *SPOKE, None}
            if verdict is Verdict.CLOSED:
                assert (leg, place) == (Leg.FORWARD, Place.DESTINATION)
            if cause is Cause.DATA:  # the network, or a firewall: taps saw where
                assert (leg, place) == (one.leg, one.place)
                assert leg is not None
                assert place is not None
                assert one.came not in (Came.CILIUM, *SPOKE, Came.UNSENT)
                if (leg, place) == (Leg.REPLY, Place.DESTINATION):  # or a mute server's
                    assert one.own is Came.CILIUM
            if cause is Cause.INTERCEPTED:
                assert one.came in SPOKE
                assert one.own is Came.CILIUM or one.there is False
                assert place is not Place.PATH or one.there is False

    def test_what_no_kernel_acknowledged_accuses_no_program(self) -> None:
        """Nor a firewall, where connections wait in vain for the program."""
        for one in everything():
            quiet = (Came.UNTAKEN, Came.UNANSWERED)
            _, leg, place, cause = decide(one)
            if cause is Cause.NOT_ANSWERING and one.own in quiet:
                assert one.full
            if one.full and cause is Cause.DATA and leg is Leg.FORWARD:
                assert place is not Place.DESTINATION
        eaten = Heard(True, Came.UNTAKEN, Came.UNTAKEN, None, Leg.FORWARD, Place.DESTINATION)
        assert decide(eaten)[:3] == (Verdict.BLOCKED, Leg.FORWARD, Place.DESTINATION)
        assert decide(eaten._replace(leg=None, place=None))[0] is Verdict.UNKNOWN
        assert decide(eaten._replace(own=Came.SILENT))[3] is Cause.NOT_ANSWERING
        assert decide(eaten._replace(full=True))[3] is Cause.NOT_ANSWERING

    def test_a_silence_that_nobody_watched_accuses_nobody(self) -> None:
        for came in (Came.SILENT, Came.RESET, Came.ENDED, Came.UNANSWERED, Came.REFUSED):
            assert decide(Heard(True, came, Came.CILIUM))[0] is Verdict.UNKNOWN
            assert decide(Heard(True, came))[0] is Verdict.UNKNOWN


class TestSettle:
    """The outcome that a cell keeps."""

    def test_cilium_leaves_it_open_and_says_so(self) -> None:
        hello = Hello(Came.CILIUM, 200)
        after = settle(OPEN, Heard(True, Came.CILIUM), hello, None)
        assert after == OPEN._replace(hello=hello)

    def test_another_program_is_named_with_who_holds_the_port(self) -> None:
        hello = Hello(Came.HTTP, 404, "nginx", "nginx")
        after = settle(OPEN, Heard(True, Came.HTTP, Came.HTTP), hello, hello)
        assert after[:4] == (
            Verdict.CLOSED, Leg.FORWARD, Place.DESTINATION, Cause.NOT_CILIUM
        )  # fmt: skip
        assert after.evidence == OPEN.evidence
        assert after.detail == (
            "GET /hello: HTTP 404 from 'nginx'; asked by its own node: the same; nginx has the port"
        )

    def test_what_the_port_told_its_own_node_is_kept_where_the_source_heard_nothing(self) -> None:
        own = Hello(Came.HTTP, 404, "nginx")
        after = settle(OPEN, Heard(True, Came.SILENT, Came.HTTP), Hello(Came.SILENT), own)
        assert after.hello == own
        assert after.cause is Cause.NOT_CILIUM

    def test_without_an_agent_there_it_stays_unknown_and_tells_what_came(self) -> None:
        before = Outcome(Verdict.UNKNOWN, cause=Cause.NO_AGENT, detail="an answer came back")
        hello = Hello(Came.CILIUM, 200)
        after = settle(before, Heard(False, Came.CILIUM), hello, None)
        assert after[:4] == before[:4]
        assert after.detail == "an answer came back; GET /hello: 200 and an empty body"
        assert after.hello == hello


class Fleet:
    """Agents that answer `get` frames; the clock goes on when somebody waits."""

    def __init__(self, nodes: int, max_flows: int, deaf: set[int] | None = None) -> None:
        probes = (GENEVE, HEALTH)
        snapshot = sample(nodes, probes=probes)
        known = Inventory("x", snapshot.matrix.nodes, probes)
        self.options = CheckOptions(phase=Phase.AFTER, max_flows=max_flows)
        self.extent = scope(known, self.options)
        self.matrix = snapshot.matrix
        self.chorus = self.stop = self.progress = self
        self.alive = set(range(nodes))
        self.hellos: dict[int, object] = {node: {} for node in self.alive}
        self.interrupted = False
        self.now = 1000.0
        self.waited: list[float] = []
        self.asked: list[int] = []  # connections of each wave
        self.said: list[str] = []
        self._deaf = deaf or set()

    def phase(self, text: str, total: int) -> None:
        assert not total
        self.said.append(text)

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    def broadcast(self, nodes: set[int], frame: dict[str, Any]) -> None:
        assert frame["t"] == "load"

    def ask(
        self, frames: dict[int, Any], kind: str, number: int, limit: float, keep: Any
    ) -> dict[int, str]:
        assert kind == "got"
        assert limit > 0
        self.asked.append(sum(len(c["out"]) for f in frames.values() for c in f["cells"]))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        for node, frame in frames.items():
            if node not in self._deaf:
                spots = [
                    [c, p, 40000] for c, cell in enumerate(frame["cells"]) for p in cell["out"]
                ]
                answer = [True, "done", 0, len(head), head.hex(), spots]
                keep(node, {"t": "got", "number": number, "answers": [answer]})
        return dict.fromkeys(self._deaf & frames.keys(), "no answer within 3 s")


class TestAsking:
    """How many connections, and when."""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet = Fleet(12, 100)
        monkeypatch.setattr("preflight.looks.requests.time.monotonic", lambda: self.fleet.now)

    def greet(self, fleet: Fleet, budget: FlowBudget | None = None) -> list[str]:
        self.fleet = fleet
        return greet(fleet, fleet.matrix, budget or FlowBudget(fleet.options.max_flows))  # type: ignore[arg-type]

    def test_each_connection_counts_as_a_flow(self) -> None:
        fleet = Fleet(12, 100)
        assert self.greet(fleet) == []
        assert sum(fleet.asked) == 12 * 11
        assert max(fleet.asked) <= 100
        assert fleet.waited == [30.0]

    def test_what_the_looks_have_opened_counts_too(self) -> None:
        fleet, budget = Fleet(4, 100), FlowBudget(100)
        budget.spend(95, fleet.now)
        self.greet(fleet, budget)
        assert fleet.waited == [30.0]

    def test_only_health_cells_that_are_open_are_asked(self) -> None:
        fleet = Fleet(4, 1000)
        matrix = fleet.matrix
        bad = Outcome(Verdict.BLOCKED, Leg.FORWARD, Place.PATH, Cause.DROPPED)
        lossy = Outcome(Verdict.LOSSY, Leg.FORWARD, Place.PATH, Cause.DROPPED)
        matrix.set(matrix.index(0, 1, 0, 1), bad)
        matrix.set(matrix.index(0, 1, 0, 2), lossy)
        self.greet(fleet)
        assert fleet.asked == [10]
        assert {o.hello for o in matrix.outcomes_of(0, 0)} == {None}, "not a GENEVE cell"
        assert matrix.outcome(matrix.index(0, 1, 0, 1)) == bad

    def test_who_could_not_ask_is_told_and_its_cells_stay_as_they_were(self) -> None:
        fleet = Fleet(3, 1000, deaf={1})
        assert self.greet(fleet) == ["GET /hello was not asked from n2: no answer within 3 s"]
        for source in range(3):
            outcome = fleet.matrix.outcome(fleet.matrix.index(0, 1, source, (source + 1) % 3))
            assert outcome is not None
            assert outcome.verdict is Verdict.OPEN
            assert (outcome.hello is None) == (source == 1)

    def test_nothing_open_nothing_asked(self) -> None:
        fleet = Fleet(3, 1000)
        for s, d in product(range(3), range(3)):
            if s != d:
                fleet.matrix.set(fleet.matrix.index(0, 1, s, d), NO_AGENT)
        assert self.greet(fleet) == []
        assert fleet.said == []
