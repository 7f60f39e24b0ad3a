"""From an address to a byte stream: TCP, a proxy command, or a channel through a bastion.

Every wait has an end, and what goes wrong is told here in the words of the network.
"""

import contextlib
import errno
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from typing import Any, BinaryIO

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.command import readable_tail
from preflight.transport.endpoint import Endpoint

_HEAD_START = 0.25  # seconds until the next address of a name is tried besides
_TICK = 0.5  # seconds after which a waiting thread looks whether it is still wanted
_POLITE = 1.0  # seconds that a proxy command has to end by itself
_BLOCK = 65536
_QUICKACK: int = getattr(socket, "TCP_QUICKACK", 0)  # Linux


class Wire:
    """A socket as paramiko uses one, with what paramiko lacks: sends end, and a close wakes reads.

    `end` is a socket, or a channel through a bastion.
    """

    def __init__(
        self,
        end: Any,
        send_timeout: float,
        command: "ProxyCommand | None" = None,
        trouble: tuple[type[Exception], ...] = (OSError,),
    ) -> None:
        """`trouble` is what `end` raises once its connection is gone."""
        self._end = end
        self._trouble = trouble
        self._send_timeout = send_timeout
        self._command = command
        self._ahead = b""
        is_tcp = isinstance(end, socket.socket) and end.family != socket.AF_UNIX
        self._tcp: socket.socket | None = end if is_tcp and _QUICKACK else None
        self._stalled_since: float | None = None
        self._closed = False
        self._lock = threading.Lock()
        end.settimeout(_TICK)

    def settimeout(self, seconds: float) -> None:
        """Ignored: paramiko would wake up ten times a second."""

    def recv(self, size: int) -> bytes:
        """At least one byte, b"" at the end."""
        if not self._ahead:
            # paramiko asks for each packet in two small pieces.
            self._ahead = self._end.recv(_BLOCK)
            if self._tcp is not None:
                # sshd sends by Nagle's rules: until we acknowledge, which the kernel would put off
                # for 40 ms, its next packet stays there. The kernel forgets this option by itself.
                self._tcp.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def send(self, data: bytes) -> int:
        """Write some of it. Raises OSError once nothing has been taken for the send timeout."""
        try:
            sent = int(self._end.send(data))
        except TimeoutError:
            now = time.monotonic()
            if self._stalled_since is None:
                self._stalled_since = now - _TICK
            if now - self._stalled_since >= self._send_timeout:
                raise ConnectionAbortedError(
                    errno.ECONNABORTED, f"it took nothing for {self._send_timeout:g} s"
                ) from None
            raise
        self._stalled_since = None
        return sent

    def close(self) -> None:
        """Close it and wake up whoever reads. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if isinstance(self._end, socket.socket):
            with contextlib.suppress(OSError):
                self._end.shutdown(socket.SHUT_RDWR)
            self._end.close()
        else:
            # It has to tell the bastion, which may not be listening.
            threading.Thread(target=self._close_channel, daemon=True).start()
        if self._command is not None:
            self._command.end()

    def _close_channel(self) -> None:
        with contextlib.suppress(*self._trouble):
            self._end.close()

    def said(self) -> str:
        """What a proxy command had to say, if there is one."""
        return "" if self._command is None else self._command.said()


def connect(end: Endpoint, timeout: float) -> socket.socket:
    """A TCP connection to `end`, by the first of its addresses that answers.

    Raises NodeError (unreachable) within about `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    addresses = _addresses(end, timeout)
    errors: list[OSError] = []
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                if addresses:
                    _begin(selector, addresses.pop(0), errors)
                if not addresses and not selector.get_map():
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                for key, _ in selector.select(min(_HEAD_START, left) if addresses else left):
                    pending = key.fileobj
                    assert isinstance(pending, socket.socket)
                    selector.unregister(pending)
                    code = pending.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if code == 0:
                        pending.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        return pending
                    errors.append(OSError(code, os.strerror(code)))
                    pending.close()
        finally:
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
    if errors and not addresses and time.monotonic() < deadline:
        raise _unreachable(end, errors[0]) from errors[0]
    raise NodeError(
        AgentState.UNREACHABLE,
        f"no answer from {end.host} port {end.port} within {timeout:g} s (connect timeout): "
        "check that the node is up, and that a firewall lets SSH through",
    )


def _begin(
    selector: selectors.BaseSelector, address: tuple[Any, ...], errors: list[OSError]
) -> None:
    family, kind, protocol, _, place = address
    try:
        pending = socket.socket(family, kind, protocol)
    except OSError as exc:
        errors.append(exc)
        return
    pending.setblocking(False)
    code = pending.connect_ex(place)
    if code in (0, errno.EINPROGRESS):
        selector.register(pending, selectors.EVENT_WRITE)
    else:
        pending.close()
        errors.append(OSError(code, os.strerror(code)))


def _addresses(end: Endpoint, timeout: float) -> list[tuple[Any, ...]]:
    """The resolver's answers. It has no timeout of its own, so it may be left behind."""

    def ask(flags: int) -> list[tuple[Any, ...]]:
        return list(
            socket.getaddrinfo(end.host, end.port, end.family, socket.SOCK_STREAM, 0, flags)
        )

    with contextlib.suppress(socket.gaierror, UnicodeError):
        return ask(socket.AI_NUMERICHOST)
    answers: list[list[tuple[Any, ...]]] = []
    failures: list[OSError | UnicodeError] = []

    def look_up() -> None:
        try:
            answers.append(ask(0))
        except (OSError, UnicodeError) as exc:
            failures.append(exc)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    if answers:
        return answers[0]
    why = "is not known" if failures else f"was not resolved within {timeout:g} s (connect timeout)"
    said = getattr(failures[0], "strerror", None) if failures else None
    raise NodeError(
        AgentState.UNREACHABLE,
        f"the name {end.host} {why}{f' ({said})' if said else ''}: "
        "correct host: in the inventory, or give an address",
    ) from (failures[0] if failures else None)


def _unreachable(end: Endpoint, error: OSError) -> NodeError:
    advice = {
        errno.ECONNREFUSED: "refused the connection: check that sshd runs there on that port",
        errno.EHOSTUNREACH: "cannot be reached (no route to host): check that the node is up "
        "and the network between",
        errno.ENETUNREACH: "cannot be reached (network is unreachable): check the routes here",
        errno.ECONNRESET: "reset the connection: check the firewalls between",
        errno.ETIMEDOUT: "does not answer: check that the node is up, "
        "and that a firewall lets SSH through",
        errno.EPERM: "may not be reached: this machine's own firewall forbids it",
        errno.EACCES: "may not be reached: this machine's own firewall or routes forbid it",
    }.get(error.errno or 0, f"cannot be reached: {error.strerror or error}")
    return NodeError(AgentState.UNREACHABLE, f"{end.host} port {end.port} {advice}")


class ProxyCommand:
    """ssh_config's ProxyCommand: a process whose stdin and stdout lead to the host."""

    def __init__(self, command: str) -> None:
        """Raises NodeError (unreachable) where it cannot be started."""
        import tempfile  # few need it, and it brings much along

        self._lock = threading.Lock()
        self._tail = ""
        self._stderr: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        self.socket, far = socket.socketpair()
        with far:
            try:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", f"exec {command}"],
                    stdin=far.fileno(),
                    stdout=far.fileno(),
                    stderr=self._stderr,
                    start_new_session=True,
                )
            except OSError as exc:
                self.socket.close()
                self._stderr.close()
                raise NodeError(
                    AgentState.UNREACHABLE, f"ProxyCommand cannot be started: {exc.strerror}"
                ) from exc

    def said(self) -> str:
        """The last lines it wrote to stderr; call it after its stdout has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_TICK)
        with self._lock:
            if not self._stderr.closed:
                size = self._stderr.seek(0, os.SEEK_END)
                self._stderr.seek(max(0, size - _BLOCK))
                self._tail = readable_tail(self._stderr.read())
        return self._tail

    def end(self) -> None:
        """End the process and all that it started, in its own time."""

        def end() -> None:
            end_process(self._process, _POLITE)
            self.said()
            with self._lock:
                self._stderr.close()

        threading.Thread(target=end, daemon=True).start()


def end_process(process: "subprocess.Popen[bytes]", patience: float) -> None:
    """Wait for a process that leads its own session; after `patience` seconds end all of it."""
    for number in (0, signal.SIGTERM, signal.SIGKILL):
        if number:
            # A process that became root cannot be signalled; it sees its stdin end instead.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
