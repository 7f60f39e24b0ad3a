"""The threads around each agent: whatever a session does, it becomes events, and costs one node."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight import wire
from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport import bundle, fleet
from preflight.transport.fleet import CONNECTED, Event, Fleet
from preflight.wire import marker

RUN = "0123456789abcdef"
PATIENCE_S = 20
NODE = Node("n1", ("192.0.2.1",), "192.0.2.1")
HELLO = b'{"t":"hello","state":"ok"}\n'


class FakeSession:
    """Says these pieces, then its end; `b""` from `hang` on only once it is closed."""

    def __init__(self, *pieces: bytes, hang: bool = False, status: int | None = 1,
                 stderr: str = "") -> None:  # fmt: skip
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for piece in pieces:
            self._pieces.put(piece)
        if not hang:
            self._pieces.put(b"")
        self._ending = status, stderr
        self.sent: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.closed = threading.Event()

    def send(self, data: bytes) -> None:
        self.sent.put(data)

    def receive(self) -> bytes:
        return self._pieces.get(timeout=PATIENCE_S)

    def ending(self) -> tuple[int | None, str]:
        return self._ending

    def complaints(self) -> str:
        return self._ending[1]

    def close(self) -> None:
        self.closed.set()
        self._pieces.put(b"")


class Way:
    """A connector to one session, or to an exception."""

    def __init__(self, what: FakeSession | Exception) -> None:
        self._what = what

    def prepare(self) -> None:
        pass

    def connect(self, node: Node) -> FakeSession:
        if isinstance(self._what, Exception):
            raise self._what
        return self._what

    def close(self) -> None:
        pass


@pytest.fixture
def start() -> Iterator[Callable[..., Fleet]]:
    """`start(session or exception, ...)`: a fleet of them, ended after the test."""
    begun: list[Fleet] = []

    def of(*sessions: FakeSession | Exception) -> Fleet:
        one = Fleet(RUN)
        begun.append(one)
        ways = [Way(session) for session in sessions]
        nodes = [(n, NODE) for n in range(len(ways))]
        numbers = iter(range(len(ways)))
        one.start(nodes, lambda node: ways[next(numbers)], lambda n: {"t": "setup", "me": n})
        return one

    yield of
    for one in begun:
        one.close()


def hear(one: Fleet) -> Event:
    """The next event, other than that somebody is logged in."""
    while (event := one.events.get(timeout=PATIENCE_S)).frame is CONNECTED:
        pass
    return event


def test_an_agent_is_booted_set_up_and_heard(start: Callable[..., Fleet]) -> None:
    session = FakeSession(marker(RUN), HELLO, hang=True)
    one = start(session)
    assert one.events.get(timeout=PATIENCE_S) == Event(0, CONNECTED)
    event = one.events.get(timeout=PATIENCE_S)
    assert (event.node, event.state) == (0, AgentState.OK)
    assert event.frame == {"t": "hello", "state": "ok"}
    first = session.sent.get(timeout=PATIENCE_S)
    assert first == bundle.bootstrap(RUN) + bundle.encode({"t": "setup", "me": 0})


@settings(max_examples=60, deadline=None)
@given(
    noise=st.binary(max_size=40),
    cuts=st.lists(st.integers(0, 200), max_size=12),
    frames=st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), max_size=4),
)
def test_frames_come_whole_however_they_are_cut(
    noise: bytes, cuts: list[int], frames: list[dict[str, int]]
) -> None:
    wanted: list[Mapping[str, Any]] = [{**frame, "t": "x"} for frame in frames]
    data = noise + marker(RUN) + b"".join(map(bundle.encode, wanted))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if a < b]
    one = Fleet(RUN)
    way = Way(FakeSession(*pieces, status=0))
    one.start([(7, NODE)], lambda node: way, lambda n: {})
    events = [hear(one) for _ in range(len(wanted) + 1)]
    one.close()
    assert [event.frame for event in events] == [*wanted, None]
    assert {event.node for event in events} == {7}
    assert events[-1].state is AgentState.LOST


@pytest.mark.parametrize(
    ("session", "state", "says"),
    [
        (FakeSession(b"motd\n", status=97), AgentState.NO_PYTHON, "python"),
        (FakeSession(status=None), AgentState.LOST, "lost"),
        (FakeSession(b"x" * 700_000, b"x" * 700_000, hang=True), AgentState.FAILED, "said 1 MiB"),
        (FakeSession(marker(RUN), status=99, stderr="agent: KeyError: 1"), AgentState.LOST,
         "agent: KeyError: 1"),
        (FakeSession(marker(RUN), HELLO[:9], status=None), AgentState.LOST, "connection was lost"),
        (FakeSession(marker(RUN), b"hello\n", hang=True), AgentState.FAILED, "not a frame"),
        (FakeSession(marker(RUN), b"\n", hang=True), AgentState.FAILED, "not a frame"),
        (FakeSession(marker(RUN), b"[1]\n", hang=True), AgentState.FAILED, "not a frame"),
        (FakeSession(marker(RUN), b'{"no":1}\n', hang=True), AgentState.FAILED, "not a frame"),
        (FakeSession(marker(RUN), b'{"t":1}\n', hang=True), AgentState.FAILED, "not a frame"),
        (FakeSession(marker(RUN), b'{"t":"\xff"}\n', hang=True), AgentState.FAILED, "not a frame"),
        (FakeSession(marker(RUN), b"9" * 5000 + b"\n", hang=True), AgentState.FAILED, "a frame"),
        (FakeSession(marker(RUN), b"[" * 99_999 + b"\n", hang=True), AgentState.FAILED, "a frame"),
        (FakeSession(b"This account is currently not available.\n"), AgentState.FAILED,
         "login shell runs no commands (This account is currently not available.)"),
        (FakeSession(b"1) a\r\n", b"no such\r\nno such\r\n", status=0), AgentState.FAILED,
         "with status 0 and said: 1) a; no such (does a forced command"),
        (NodeError("host-key", "changed"), AgentState.HOST_KEY, "changed"),
        (NodeError("auth", "refused"), AgentState.AUTH, "refused"),
        (RuntimeError("oops"), AgentState.FAILED, "RuntimeError: oops"),
    ],
)  # fmt: skip
def test_every_trouble_is_an_event(
    start: Callable[..., Fleet], session: FakeSession | Exception, state: AgentState, says: str
) -> None:
    """And the node beside it is heard all the same."""
    one = start(session, FakeSession(marker(RUN), HELLO, hang=True))
    events = {event.node: event for event in (hear(one), hear(one))}
    assert events[1].frame is not None
    assert events[0].frame is None
    assert events[0].state is state
    assert says in (events[0].reason or "")
    assert "\n" not in (events[0].reason or "")


def test_what_a_node_says_in_the_agents_place_can_be_asked_for(start: Callable[..., Fleet]) -> None:
    session = FakeSession(b"1) status\x1b[0m 2) quit\r\n", hang=True, stderr="tty?")
    one = start(session)
    session.sent.get(timeout=PATIENCE_S)
    for _ in range(9):
        session._pieces.put(b"invalid choice\n")
    session._pieces.put(b"")
    assert hear(one).frame is None
    assert one.words(0) == "tty?; 1) status 2) quit; invalid choice"


def test_what_comes_back_as_from_a_terminal_is_not_repeated(start: Callable[..., Fleet]) -> None:
    """The run's key is in it."""
    session = FakeSession(b"Welcome\r\n", hang=True, status=130)
    one = start(session)
    sent = session.sent.get(timeout=PATIENCE_S)
    for at in range(0, 4000, 20):
        session._pieces.put(sent[at : at + 20].replace(b"\n", b"\r\n"))
    session._pieces.put(b"")
    reason = hear(one).reason or ""
    said = "Welcome; what it was sent, as a terminal does"
    assert f"with status 130 and said: {said} (does" in reason
    assert one.words(0) == said


def test_a_frame_without_end_is_given_up(
    start: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_MAX_FRAME", 1000)
    event = hear(start(FakeSession(marker(RUN), *[b"x" * 100] * 11, hang=True)))
    assert event.state is AgentState.FAILED


def test_a_session_that_breaks_while_it_is_written_to_is_told_by_its_end(
    start: Callable[..., Fleet],
) -> None:
    class Broken(FakeSession):
        def send(self, data: bytes) -> None:
            self._pieces.put(b"")
            raise NodeError("lost", "the pipe is broken")

    event = hear(start(Broken(marker(RUN), hang=True, status=None)))
    assert event.state is AgentState.LOST


def test_frames_are_sent_in_their_order_to_those_who_are_meant(
    start: Callable[..., Fleet],
) -> None:
    sessions = [FakeSession(marker(RUN), HELLO, hang=True) for _ in range(3)]
    one = start(*sessions)
    for _ in sessions:
        hear(one)
    one.send(0, {"t": "a"})
    one.broadcast([0, 2], {"t": "b"})
    one.send(1, {"t": "c"})
    for session, wanted in zip(sessions, ("ab", "c", "b"), strict=True):
        session.sent.get(timeout=PATIENCE_S)  # the bootstrap
        for kind in wanted:
            assert session.sent.get(timeout=PATIENCE_S) == bundle.encode({"t": kind})


def test_beats_are_sent_while_nothing_else_is(
    start: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "BEAT_S", 0.01)
    session = FakeSession(marker(RUN), HELLO, hang=True)
    hear(start(session))
    session.sent.get(timeout=PATIENCE_S)
    for _ in range(3):
        assert session.sent.get(timeout=PATIENCE_S) == bundle.encode({"t": "beat"})


class Hanging(FakeSession):
    """Its closing waits until the test is over."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__(marker(RUN), HELLO, hang=True)
        self._release = release
        self.closing = threading.Event()

    def close(self) -> None:
        self.closing.set()
        assert self._release.wait(PATIENCE_S)
        super().close()


def test_dropping_an_agent_that_hangs_waits_for_nobody(start: Callable[..., Fleet]) -> None:
    release = threading.Event()
    session = Hanging(release)
    one = start(session)
    hear(one)
    one.drop(0)  # would never return
    assert session.closing.wait(PATIENCE_S)
    release.set()
    assert session.closed.wait(PATIENCE_S)
    assert one.events.empty()  # whoever is dropped is heard no more


def test_closing_waits_for_no_agent_that_hangs(
    start: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_CLOSE_S", 0.05)
    release = threading.Event()
    sessions = [Hanging(release) for _ in range(5)]
    fine = FakeSession(marker(RUN), HELLO, hang=True)
    one = start(*sessions, fine)
    for _ in range(6):
        hear(one)
    one.close()
    assert all(session.closing.wait(PATIENCE_S) for session in sessions)
    assert fine.closed.wait(PATIENCE_S)
    release.set()


def test_an_agent_that_comes_when_all_is_over_is_sent_home() -> None:
    arrived, proceed = threading.Event(), threading.Event()
    session = FakeSession(marker(RUN), HELLO, hang=True)

    class Slow(Way):
        def connect(self, node: Node) -> FakeSession:
            arrived.set()
            assert proceed.wait(PATIENCE_S)
            return session

    one = Fleet(RUN)
    one.start([(0, NODE)], lambda node: Slow(session), lambda n: {})
    assert arrived.wait(PATIENCE_S)
    one.close()
    proceed.set()
    assert session.closed.wait(PATIENCE_S)
    assert one.events.empty()
