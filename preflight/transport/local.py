"""This machine as a node: the same command, in a process of our own."""

import contextlib
import os
import select
import subprocess
import threading
import time

from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport.base import Credentials, Session, Timeouts
from preflight.transport.command import explain_exit, readable_tail, shell_command
from preflight.transport.dial import end_process
from preflight.transport.start import Start, Tail, new_prompt

_BLOCK = 65536
_TICK = 0.5  # seconds; how often a waiting reader looks whether it was closed
_PATIENCE = 1.0  # seconds that python has to end by itself once its stdin is closed
_ENDING = 2.0  # seconds to wait for the exit status


class LocalConnector:
    """Starts python here, through sudo where the node wants it and we are not root already."""

    def __init__(self, credentials: Credentials, timeouts: Timeouts, *, boot: str) -> None:
        """`boot` is the Python to run, fit for `shell_command`."""
        self._credentials = credentials
        self._timeouts = timeouts
        self._boot = boot

    def prepare(self) -> None:
        """Nothing to do."""

    def connect(self, node: Node) -> Session:
        """Start python; see `Connector`. With a sudo password, wait until it runs."""
        become = None if os.geteuid() == 0 else node.become
        password = self._credentials.become_password if become else None
        prompt = None if password is None else new_prompt()
        command = shell_command(node.python, become, self._boot, prompt)
        try:
            session = LocalSession(command, self._timeouts)
        except OSError as exc:
            raise NodeError(
                AgentState.FAILED, f"/bin/sh cannot be started on this machine: {exc.strerror}"
            ) from exc
        if password is not None and prompt is not None:
            try:
                session.answer_sudo(Start(prompt), password)
            except BaseException:
                session.close()
                raise
        return session

    def close(self) -> None:
        """Nothing to do."""


class LocalSession:
    """The python in a child process."""

    def __init__(self, command: str, timeouts: Timeouts) -> None:
        """Raises OSError."""
        self._timeouts = timeouts
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._stdin, self._stdout, self._stderr = (
            stream.fileno()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr)
            if stream is not None
        )
        os.set_blocking(self._stdin, False)
        self._open = [self._stdout, self._stderr]
        self._errors = Tail()
        self._early = b""
        self._closing = threading.Event()
        self._reading = threading.Lock()
        self._sending = threading.Lock()

    def answer_sudo(self, start: Start, password: str) -> None:
        """Wait until python runs, and give sudo the password if it asks. Raises NodeError."""
        deadline = time.monotonic() + self._timeouts.start
        while not start.started:
            left = deadline - time.monotonic()
            if left <= 0:
                raise start.timed_out(self._timeouts.start)
            for stream, data in self._read(left):
                if stream == self._stdout:
                    start.stdout(data)
                elif start.stderr(data):
                    self.send(password.encode() + b"\n")
            if not self._open:
                self._errors.add(start.errors)
                raise NodeError(*explain_exit(*self.ending(), start.printed))
        self._errors.add(start.errors)
        self._early = start.output

    def send(self, data: bytes) -> None:
        """See `Session`."""
        seconds = self._timeouts.send
        deadline = time.monotonic() + seconds
        view = memoryview(data)
        poll = select.poll()
        with self._sending:
            if not self._closing.is_set():
                poll.register(self._stdin, select.POLLOUT)
            while view:
                if self._closing.is_set():
                    raise self._lost("it was ended")
                try:
                    view = view[os.write(self._stdin, view) :]
                    deadline = time.monotonic() + seconds
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        late = f"it took no data for {seconds:g} s (send timeout)"
                        raise self._lost(late) from None
                    poll.poll(_TICK * 1000)
                except OSError as exc:
                    raise self._lost("it ended") from exc

    @staticmethod
    def _lost(why: str) -> NodeError:
        return NodeError(AgentState.LOST, f"python on this machine was lost: {why}")

    def receive(self) -> bytes:
        """See `Session`."""
        if self._early:
            early, self._early = self._early, b""
            return early
        with self._reading:
            while self._stdout in self._open and not self._closing.is_set():
                output = b""
                for stream, data in self._read(_TICK):
                    if stream == self._stdout:
                        output += data
                    else:
                        self._errors.add(data)
                if output:
                    return output
        return b""

    def _read(self, seconds: float) -> list[tuple[int, bytes]]:
        """What the streams hold, waiting for it at most so long; those that ended are dropped."""
        poll = select.poll()
        for stream in self._open:
            poll.register(stream, select.POLLIN)
        pieces = [(s, os.read(s, _BLOCK)) for s, _ in poll.poll(seconds * 1000)]
        for stream, data in pieces:
            if not data:
                self._open.remove(stream)
        return [(stream, data) for stream, data in pieces if data]

    def ending(self) -> tuple[int | None, str]:
        """See `Session`."""
        deadline = time.monotonic() + _ENDING
        with self._reading:
            while self._open and not self._closing.is_set() and time.monotonic() < deadline:
                for stream, data in self._read(deadline - time.monotonic()):
                    if stream == self._stderr:
                        self._errors.add(data)
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(max(0.0, deadline - time.monotonic()))
        # Negative: a signal ended it.
        return None if status is None or status < 0 else status, readable_tail(bytes(self._errors))

    def complaints(self) -> str:
        """See `Session`."""
        return readable_tail(bytes(self._errors))

    def close(self) -> None:
        """End python: its stdin closes, and if that does not do, signals follow."""
        if self._closing.is_set():
            return
        self._closing.set()
        with self._sending:
            if self._process.stdin is not None:
                self._process.stdin.close()
        end_process(self._process, _PATIENCE)
        # A reader looks up within a tick; then the descriptors are nobody's.
        with self._reading:
            self._open.clear()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
