"""Real TCP servers in a lab's namespaces: one answers as Cilium's health server, others do not."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from preflight.core.model import HEALTH
from preflight.lab import Lab

PORT = HEALTH.port or 0
OK = b"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 15:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nServer: nginx/1.22.1\r\nContent-Length: 9\r\n\r\nnot found"

Answer = Callable[[socket.socket, bytes, threading.Event], None]


def cilium(connection: socket.socket, asked: bytes, _: threading.Event) -> None:
    known = asked.startswith(b"GET /hello HTTP/1.1\r\n") and b"\r\nHost: " in asked
    connection.sendall(OK if known else NOT_FOUND)


def says(data: bytes) -> Answer:
    return lambda connection, _asked, _stop: connection.sendall(data)


def silent(_connection: socket.socket, _asked: bytes, stop: threading.Event) -> None:
    stop.wait(20)


def trickle(connection: socket.socket, _: bytes, stop: threading.Event) -> None:
    for byte in OK * 10:
        if stop.wait(0.3):
            return
        connection.sendall(bytes((byte,)))


def huge(connection: socket.socket, _: bytes, stop: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while not stop.is_set():
        connection.sendall(bytes(1 << 16))


def ends(_connection: socket.socket, _asked: bytes, _stop: threading.Event) -> None:
    pass


def resets(connection: socket.socket, _asked: bytes, _stop: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Server:
    """One listening socket on all addresses of both families; a thread for each connection."""

    def __init__(self, listener: socket.socket, answer: Answer) -> None:
        self.asked: list[tuple[str, bytes]] = []  # who, and with what
        self._listener = listener
        self._answer = answer
        self._stop = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._woken], [], [])
            if self._woken in ready:
                return
            connection, peer = self._listener.accept()
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, peer[0]))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, peer: str) -> None:
        connection.settimeout(20)
        with connection, suppress(OSError):
            asked = connection.recv(4096)
            if asked:
                self.asked.append((peer.removeprefix("::ffff:"), asked))
                self._answer(connection, asked, self._stop)

    def close(self) -> None:
        self._stop.set()
        self._wake.send(b"x")
        self._threads[0].join()
        for connection in self._open:  # a request may never come
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, self._wake, self._woken):
            one.close()


@contextmanager
def serving(lab: Lab, answers: dict[str, Answer], port: int = PORT) -> Iterator[dict[str, _Server]]:
    """Servers on nodes by name, and what each was asked."""

    def listen() -> socket.socket:
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
        )

    with ExitStack() as stack:
        servers = {}
        for name, answer in answers.items():
            server = _Server(lab.call(name, listen), answer)
            stack.enter_context(contextlib.closing(server))
            servers[name] = server
        yield servers
