"""The bytes to and from a node's python, over one SSH channel."""

import contextlib
import threading
import time
from collections.abc import Callable
from threading import Event
from typing import Protocol

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.base import Timeouts
from preflight.transport.command import explain_exit, readable_tail
from preflight.transport.start import Start, Tail

_BLOCK = 65536
_PIECE = 32768  # about what goes into one packet
_TICK = 0.5  # seconds; how often a waiting reader looks at stderr
_START_TICK = 0.02
_ENDING = 2.0  # seconds to wait for the exit status and the rest of stderr


class Channel(Protocol):
    """What a session needs of paramiko's channel. Reads and sends end with TimeoutError."""

    status_event: Event
    exit_status: int

    def settimeout(self, timeout: float | None) -> None: ...
    def send(self, s: bytes) -> int: ...
    def recv(self, nbytes: int) -> bytes: ...
    def recv_stderr(self, nbytes: int) -> bytes: ...
    def recv_stderr_ready(self) -> bool: ...


class SshSession:
    """The python on a node, through one channel of one connection."""

    def __init__(
        self,
        channel: Channel,
        close: Callable[[], None],
        place: str,
        timeouts: Timeouts,
        trouble: tuple[type[Exception], ...],
    ) -> None:
        """`trouble` is what the channel raises once the connection is gone; `place` names it."""
        self._channel = channel
        self._close = close
        self._trouble = trouble
        self._place = place
        self._timeouts = timeouts
        self._errors = Tail()
        self._early = b""
        self._sending = threading.Lock()
        channel.settimeout(_TICK)

    def answer_sudo(self, start: Start, password: str) -> None:
        """Wait until python runs, and give sudo the password if it asks. Raises NodeError."""
        deadline = time.monotonic() + self._timeouts.start
        self._channel.settimeout(_START_TICK)
        try:
            while not start.started:
                if time.monotonic() >= deadline:
                    raise start.timed_out(self._timeouts.start)
                with contextlib.suppress(TimeoutError):
                    data = self._channel.recv(_BLOCK)
                    if not data:
                        self._drain(start, password)
                        self._errors.add(start.errors)
                        raise NodeError(*explain_exit(*self.ending(), start.printed))
                    start.stdout(data)
                self._drain(start, password)
        except self._trouble as exc:
            raise NodeError(AgentState.LOST, f"the connection to {self._place} was lost") from exc
        self._errors.add(start.errors)
        self._early = start.output
        self._channel.settimeout(_TICK)

    def _drain(self, start: Start, password: str) -> None:
        while self._channel.recv_stderr_ready():
            if start.stderr(self._channel.recv_stderr(_BLOCK)):
                self.send(password.encode() + b"\n")

    def send(self, data: bytes) -> None:
        """See `Session`."""
        seconds = self._timeouts.send
        deadline = time.monotonic() + seconds
        if not self._sending.acquire(timeout=seconds):
            raise self._stuck()
        try:
            for at in range(0, len(data), _PIECE):
                piece = data[at : at + _PIECE]
                while piece:
                    try:
                        sent = self._channel.send(piece)
                    except TimeoutError:
                        if time.monotonic() >= deadline:
                            raise self._stuck() from None
                        continue
                    if not sent:
                        raise EOFError
                    piece = piece[sent:]
                    deadline = time.monotonic() + seconds
        except self._trouble as exc:
            raise NodeError(AgentState.LOST, f"the connection to {self._place} was lost") from exc
        finally:
            self._sending.release()

    def _stuck(self) -> NodeError:
        return NodeError(
            AgentState.LOST,
            f"{self._place} took no data for {self._timeouts.send:g} s (send timeout)",
        )

    def receive(self) -> bytes:
        """See `Session`."""
        if self._early:
            early, self._early = self._early, b""
            return early
        try:
            while True:
                # Both streams share one window: unread, stderr would stop stdout after 2 MiB.
                while self._channel.recv_stderr_ready():
                    self._errors.add(self._channel.recv_stderr(_BLOCK))
                with contextlib.suppress(TimeoutError):
                    return self._channel.recv(_BLOCK)
        except self._trouble:
            return b""

    def ending(self) -> tuple[int | None, str]:
        """See `Session`."""
        deadline = time.monotonic() + _ENDING
        self._channel.status_event.wait(_ENDING)
        with contextlib.suppress(*self._trouble):
            while time.monotonic() < deadline:
                data = self._channel.recv_stderr(_BLOCK)
                if not data:
                    break
                self._errors.add(data)
        status = self._channel.exit_status
        return None if status < 0 else status, readable_tail(bytes(self._errors))

    def complaints(self) -> str:
        """See `Session`."""
        return readable_tail(bytes(self._errors))

    def close(self) -> None:
        """See `Session`."""
        self._close()
