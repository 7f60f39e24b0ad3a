"""Real requests, `GET /hello`, to TCP ports whose SYN-ACK a look has seen.

Only a run after the installation asks, so this file is sent to a node when it first does. What an
answer means is judged elsewhere; here it is cut to a few bytes, in a bounded time.
"""

import _socket as socket
import errno
import fcntl
import select
import struct
import termios
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Target = tuple[int, int, int, int]  # cell, family, port, peer

_ENOUGH = 4096  # bytes of an answer: Cilium's has 100
_HEAD = 1024  # of them told
_STEP_S = 0.02
_IN_PROGRESS = (errno.EINPROGRESS, errno.EINTR)
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_BLANK = b"\r\n\r\n"


class _Request:
    """One connection."""

    __slots__ = ("connected", "data", "due", "end", "errno", "port", "size", "socket", "target")

    def __init__(self, target: "Target", sock: "socket.socket", due: float) -> None:
        self.target = target
        self.socket = sock
        self.due = due
        self.connected = False
        self.port = 0  # our own
        self.data = b""
        self.size = 0
        self.end = ""  # of `core.hello.End`, empty while it goes on
        self.errno = 0


class Asker:
    """Asks all of a `get` frame's targets, some at a time, at the frame's pace."""

    def __init__(
        self, frame: "dict[str, Any]", addresses: "dict[int, list[str]]", own: "dict[int, str]"
    ) -> None:
        self._frame = frame
        self._addresses = addresses
        self._own = own
        self._open: dict[int, _Request] = {}
        self._poll = select.poll()
        # Alike answers together: most are Cilium's.
        self._answers: dict[tuple[bool, str, int, int, bytes], list[tuple[int, int, int]]] = {}

    def run(self, breathe: "Callable[[], None]") -> "dict[str, Any]":
        """The answer to the frame; `breathe` hears the controller meanwhile."""
        waiting = [
            (number, cell["family"], cell["port"], peer)
            for number, cell in enumerate(self._frame["cells"])
            for peer in cell["out"]
        ]
        waiting.reverse()
        start = monotonic()
        try:
            while waiting or self._open:
                now = monotonic()
                while waiting and now >= start and len(self._open) < self._frame["parallel"]:
                    start = max(start, now - _STEP_S) + 1 / self._frame["rate"]
                    self._start(waiting.pop(), now)
                pause = _STEP_S if self._open else min(max(start - now, 0), _STEP_S)
                for fd, events in self._poll.poll(int(pause * 1000) + 1):
                    self._move(self._open[fd], events)
                self._expire(monotonic())
                breathe()
        finally:
            for request in self._open.values():
                request.socket.close()
        answers = [
            [connected, end, code, size, head.hex(), [list(spot) for spot in spots]]
            for (connected, end, code, size, head), spots in self._answers.items()
        ]
        return {"t": "got", "number": self._frame["number"], "answers": answers}

    def _start(self, target: "Target", now: float) -> None:
        cell, family, port, peer = target
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            sock = socket.socket(domain, kind)
        except OSError as error:
            self._count(target, False, "unsent", error.errno or 0, 0, b"", 0)
            return
        request = _Request(target, sock, now + self._frame["wait"])
        try:
            sock.bind((self._own[family], self._frame["cells"][cell].get("from", 0)))
            request.port = sock.getsockname()[1]
            code = sock.connect_ex((self._addresses[family][peer], port))
        except OSError as error:
            code = error.errno or errno.EIO
        if code in _IN_PROGRESS or not code:
            self._open[sock.fileno()] = request
            self._poll.register(sock, select.POLLOUT)
        else:
            self._done(request, "refused" if code == errno.ECONNREFUSED else "unsent", code)

    def _move(self, request: _Request, events: int) -> None:
        try:
            if not request.connected:
                code = request.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    self._done(request, "timeout" if code == errno.ETIMEDOUT else "refused", code)
                elif events & select.POLLOUT:
                    self._ask(request)
            elif events & _READABLE:
                self._read(request)
        except BlockingIOError:
            pass
        except OSError as error:
            self._done(request, "reset", error.errno or 0)

    def _ask(self, request: _Request) -> None:
        _, family, port, peer = request.target
        host = self._addresses[family][peer]
        host = "[%s]:%d" % (host, port) if family == 6 else "%s:%d" % (host, port)
        request.connected = True
        self._poll.register(request.socket, select.POLLIN)
        words = "GET /hello HTTP/1.1\r\nHost: %s\r\nUser-Agent: preflight\r\nConnection: close\r\n"
        request.socket.send((words % host + "\r\n").encode("ascii"))

    def _read(self, request: _Request) -> None:
        while not request.end:
            piece = request.socket.recv(_ENOUGH)
            request.size += len(piece)
            request.data += piece[: _HEAD - len(request.data)]
            if not piece:
                self._done(request, "closed", 0)
            elif request.size >= _ENOUGH or _complete(request.data, request.size):
                self._done(request, "done", 0)

    def _expire(self, now: float) -> None:
        for request in [r for r in self._open.values() if now >= r.due]:
            untaken = request.connected and not request.size and _unacknowledged(request.socket)
            self._done(request, "untaken" if untaken else "timeout", 0)

    def _done(self, request: _Request, end: str, code: int) -> None:
        request.end = end
        if self._open.pop(request.socket.fileno(), None) is not None:
            self._poll.unregister(request.socket)
        request.socket.close()
        self._count(
            request.target, request.connected, end, code, request.size, request.data, request.port
        )

    def _count(
        self,
        target: "Target",
        connected: bool,
        end: str,
        code: int,
        size: int,
        head: bytes,
        port: int,
    ) -> None:
        key = (connected, end, code, size, head)
        self._answers.setdefault(key, []).append((target[0], target[3], port))


def _unacknowledged(sock: "socket.socket") -> bool:
    """Whether the other end's kernel does not say that it has all of it (tcp(7), SIOCOUTQ)."""
    try:
        left = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return False  # not known
    return bool(struct.unpack("=i", left)[0] > 0)


def _complete(data: bytes, size: int) -> bool:
    """Whether that is a whole answer by its own word, so that nobody waits for its end."""
    head, blank, _ = data.partition(_BLANK)
    if not blank or not head.startswith(b"HTTP/"):
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            try:
                return size - len(head) - len(_BLANK) >= int(value)
            except ValueError:
                return False
    return False
