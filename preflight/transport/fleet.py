"""All agents at once: a thread for each connection, one queue of events for whoever decides.

A node's troubles become an event like any other. They cost that node's cells, never the run.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preflight import wire
from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport import bundle
from preflight.transport.base import Connector, Session

_MAX_NOISE = 1 << 20  # bytes before the marker
_NOISE = 16 * 1024  # of them kept
_MAX_FRAME = 1 << 27
_CLOSE_S = 2.0
_BEAT = bundle.encode({"t": "beat"})


CONNECTED: Mapping[str, Any] = {"t": "connected"}
"""In an event: the node is logged in to, and its agent is being sent."""


@dataclass(frozen=True, slots=True)
class Event:
    """What one node said, or that it is lost. `frame` is None where it is."""

    node: int
    frame: Mapping[str, Any] | None
    state: AgentState = AgentState.OK
    reason: str | None = None


class _Link:
    """One node's connection: a thread that reads, and a thread that writes and beats."""

    def __init__(self, number: int, node: Node, events: "queue.SimpleQueue[Event]") -> None:
        self.number = number
        self.node = node
        self.closed = False
        self._events = events
        self._telling = threading.Lock()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._session: Session | None = None
        self._noise = b""  # the last of it before the agent's first word
        self._sent = b""  # until then
        self._begun = False  # its python runs

    def run(self, connector: Connector, run: str, first: bytes) -> None:
        """Log in, start the agent, and read until it ends. Whatever goes wrong is an event."""
        try:
            self._live(connector.connect(self.node), run, first)
        except NodeError as error:
            self._lose(error.state, str(error))
        except Exception as error:  # a bug costs this node, never the run
            reason = f"a bug of preflight's own ({type(error).__name__}: {error})"
            self._lose(AgentState.FAILED, reason)

    def _live(self, session: Session, run: str, first: bytes) -> None:
        self._session = session
        if self.closed:
            session.close()
            return
        threading.Thread(target=self._write, args=(session,), daemon=True).start()
        self._sent = first
        self.send(first)
        self._tell(Event(self.number, CONNECTED))
        self._read(session, wire.marker(run))

    def _read(self, session: Session, marker: bytes) -> None:
        parts = [self._first_words(session, marker)]
        while True:
            piece = parts[-1]
            if b"\n" in piece:
                *lines, rest = b"".join(parts).split(b"\n")
                parts = [rest]
                for line in lines:
                    self._tell(Event(self.number, _frame(line)))
            if sum(map(len, parts)) > _MAX_FRAME:
                raise NodeError(AgentState.FAILED, "the agent sent a frame of over 128 MiB")
            piece = session.receive()
            if not piece:
                self._lose(AgentState.LOST, self._why(session))
                return
            parts.append(piece)

    def _first_words(self, session: Session, marker: bytes) -> bytes:
        """What follows the marker in its piece. Raises NodeError where it never comes."""
        from preflight.transport.command import explain_exit

        data, size = b"", 0
        while size <= _MAX_NOISE:
            piece = session.receive()
            if not piece:
                raise NodeError(*explain_exit(*session.ending(), self._printed()))
            self._noise = (self._noise + piece)[-_NOISE:]
            size += len(piece)
            noise, found, rest = (data + piece).partition(marker)
            if found:
                self._begun, self._sent = True, b""
                return rest
            data = noise[-len(marker) :]
        raise NodeError(AgentState.FAILED, "it said 1 MiB, and not that the agent is there")

    def _printed(self) -> str:
        from preflight.transport.command import own_words, printed_tail

        own = own_words(self._noise, self._sent)
        back = "" if own == self._noise else "what it was sent, as a terminal does"
        return "; ".join(filter(None, (printed_tail(own), back)))

    def words(self) -> str:
        """What the node has said in its python's place; may be empty."""
        if self._begun:
            return ""
        complaints = "" if self._session is None else self._session.complaints()
        return "; ".join(filter(None, (complaints, self._printed())))

    def _why(self, session: Session) -> str:
        status, stderr = session.ending()
        if status is None:
            return "the connection was lost while probing"
        said = f": {stderr.splitlines()[-1]}" if stderr else ""
        return f"the agent ended with status {status} while probing{said}"

    def _write(self, session: Session) -> None:
        while not self.closed:
            try:
                data = self._outbox.get(timeout=wire.BEAT_S)
            except queue.Empty:
                data = _BEAT
            if data is None:
                return
            try:
                session.send(data)
            except NodeError:
                return  # the reader tells

    def send(self, data: bytes) -> None:
        """Never blocks."""
        self._outbox.put(data)

    def _lose(self, state: str, reason: str) -> None:
        self._tell(Event(self.number, None, AgentState(state), reason))

    def _tell(self, event: Event) -> None:
        with self._telling:  # a later link to this node may not be taken for this one
            if not self.closed:
                self._events.put(event)

    def hush(self) -> None:
        """Once this returns it adds no event any more."""
        with self._telling:
            self.closed = True

    def close(self) -> None:
        """End the agent: it goes when its standard input closes."""
        self.hush()
        self._outbox.put(None)
        if self._session is not None:
            self._session.close()


def _frame(line: bytes) -> Mapping[str, Any]:
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NodeError(AgentState.FAILED, "the agent sent what is not a frame") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("t"), str):
        raise NodeError(AgentState.FAILED, "the agent sent what is not a frame")
    return frame


class Fleet:
    """The agents of a run. Used from one thread; `events` is where everything they say comes in."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._links: dict[int, _Link] = {}
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def start(
        self,
        nodes: Iterable[tuple[int, Node]],
        connector: Callable[[Node], Connector],
        setup: Callable[[int], Mapping[str, Any]],
    ) -> None:
        """Log in to all of them side by side; each sends its hello or is lost."""
        boot = bundle.bootstrap(self._run)
        for number, node in nodes:
            link = self._links[number] = _Link(number, node, self.events)
            first = boot + bundle.encode(setup(number))
            arguments = (connector(node), self._run, first)
            threading.Thread(target=link.run, args=arguments, daemon=True).start()

    def send(self, node: int, frame: Mapping[str, Any]) -> None:
        """To one agent."""
        self._links[node].send(bundle.encode(frame))

    def broadcast(self, nodes: Sequence[int], frame: Mapping[str, Any]) -> None:
        """The same to several agents."""
        data = bundle.encode(frame)
        for node in nodes:
            self._links[node].send(data)

    def words(self, node: int) -> str:
        """What a node has said in its python's place, on one line; for one that is overdue."""
        return self._links[node].words()

    def drop(self, node: int) -> None:
        """Have no more to do with one agent. Does not wait: it may hang."""
        link = self._links[node]
        link.hush()
        threading.Thread(target=link.close, daemon=True).start()

    def close(self) -> None:
        """End all agents. Those that hang cost `_CLOSE_S` together."""
        for link in self._links.values():
            link.hush()
        threads = [
            threading.Thread(target=link.close, daemon=True) for link in self._links.values()
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + _CLOSE_S
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0))
