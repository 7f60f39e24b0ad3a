"""A client of ssh-agent: which keys it holds, and signatures by them. One connection for all nodes.

paramiko has one, too, but its waits have no end and its connection is not safe to share.
"""

import socket
import struct
import threading
from typing import NamedTuple

from preflight.transport.keyfile import read_string

_IDENTITIES_REQUEST, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_RSA_SHA2_256, _RSA_SHA2_512 = 2, 4
_LARGEST_ANSWER = 1 << 20


class AgentError(Exception):
    """The agent does not answer, or refuses."""


class Identity(NamedTuple):
    """A key in the agent."""

    blob: bytes  # the public key or certificate
    comment: str

    @property
    def kind(self) -> str:
        """The key's type, e.g. ssh-ed25519."""
        return read_string(self.blob, 0)[0].decode("ascii", "replace")


class SshAgent:
    """The agent at a socket's path. Every answer must come within `timeout` seconds.

    A signature may need the user's touch or consent, so it may take `sign_timeout`.
    """

    def __init__(self, path: str, timeout: float, sign_timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._sign_timeout = sign_timeout
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def identities(self) -> list[Identity]:
        """The keys it holds, in its order. Raises AgentError."""
        kind, body = self._ask(bytes([_IDENTITIES_REQUEST]), self._timeout)
        if kind != _IDENTITIES_ANSWER:
            raise AgentError(f"{self._path} lists no keys")
        try:
            (count,) = struct.unpack_from(">I", body)
            at, found = 4, []
            for _ in range(count):
                blob, at = read_string(body, at)
                comment, at = read_string(body, at)
                read_string(blob, 0)
                found.append(Identity(blob, comment.decode("utf-8", "replace")))
        except struct.error as exc:
            raise AgentError(f"{self._path} sent a broken list of keys") from exc
        return found

    def sign(self, blob: bytes, data: bytes, algorithm: str) -> bytes:
        """The signature by the key with the public half `blob`. Raises AgentError."""
        flags = {"rsa-sha2-256": _RSA_SHA2_256, "rsa-sha2-512": _RSA_SHA2_512}
        request = b"".join(
            (
                bytes([_SIGN_REQUEST]),
                struct.pack(">I", len(blob)) + blob,
                struct.pack(">I", len(data)) + data,
                struct.pack(">I", flags.get(algorithm.removesuffix("-cert-v01@openssh.com"), 0)),
            )
        )
        kind, body = self._ask(request, self._sign_timeout)
        if kind != _SIGN_RESPONSE:
            raise AgentError("ssh-agent refused to sign")
        try:
            return read_string(body, 0)[0]
        except struct.error as exc:
            raise AgentError("ssh-agent sent a broken signature") from exc

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _ask(self, request: bytes, timeout: float) -> tuple[int, bytes]:
        with self._lock:
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    self._socket.settimeout(timeout)
                    self._socket.connect(self._path)
                self._socket.settimeout(timeout)
                self._socket.sendall(struct.pack(">I", len(request)) + request)
                answer = self._read(self._size())
            except OSError as exc:
                # A late answer would be taken for the next one's.
                self._drop()
                raise AgentError(f"ssh-agent at {self._path}: {exc.strerror or exc}") from exc
        return answer[0], answer[1:]

    def _size(self) -> int:
        (size,) = struct.unpack(">I", self._read(4))
        if not 0 < size <= _LARGEST_ANSWER:
            raise OSError("its answer is no agent's answer")
        return int(size)

    def _read(self, size: int) -> bytes:
        assert self._socket is not None
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise OSError("it hung up")
            data += more
        return data

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
