"""A TCP proxy in front of an API server, for what happens to connections in the field."""

import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class Wire:
    """Carries bytes both ways until a test says otherwise."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._port = self._listener.getsockname()[1]
        self.url = f"{parts.scheme}://127.0.0.1:{self._port}"
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._over = False
        self._budget: int | None = None  # bytes that may still come back
        self._held = threading.Event()
        self._held.set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._held.set()
        self._close_listener()
        self.cut()
        self._thread.join(5)
        for thread in self._threads:
            thread.join(5)

    def down(self) -> None:
        """Reset every connection and refuse new ones."""
        self._close_listener()
        self.cut()

    def back(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Reset every connection that there is."""
        with self._lock:
            for pair in self._pairs:
                for one in pair:
                    _reset(one)

    def down_after(self, size: int) -> None:
        """Go down as soon as so many more bytes came back from the server."""
        self._budget = size

    def hold(self) -> None:
        """Let nothing through any more, and say nothing: a firewall's silent drop."""
        self._held.clear()

    def release(self) -> None:
        """Let everything through again."""
        self._held.set()

    def _close_listener(self) -> None:
        # Closing alone does not wake a thread that waits in accept.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add((near, far))
            thread = threading.Thread(target=self._carry, args=(near, far), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        try:
            while True:
                ready, _, _ = select.select([near, far], [], [], 30)
                self._held.wait()
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    if one is far and not self._may(len(data)):
                        self.down()
                        return
                    (near if one is far else far).sendall(data)
        except (OSError, ValueError):
            return
        finally:
            with self._lock:
                self._pairs.discard((near, far))
                near.close()
                far.close()

    def _may(self, size: int) -> bool:
        if self._budget is None:
            return True
        self._budget -= size
        return self._budget >= 0


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
