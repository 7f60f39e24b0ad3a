"""Byte streams to a host: the network's ways to fail, and waits that end."""

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sshd import free_port

from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport import dial
from preflight.transport.dial import ProxyCommand, Wire, connect
from preflight.transport.endpoint import Endpoint, Endpoints
from preflight.transport.sshconfig import SshConfig


def end(host: str, port: int = 22) -> Endpoint:
    node = Node(name="n1", addresses=("192.0.2.1",), host=host, port=port)
    return Endpoints(SshConfig([])).of(node)


def refusal(host: str, port: int, timeout: float = 10) -> NodeError:
    with pytest.raises(NodeError) as caught:
        connect(end(host, port), timeout)
    assert caught.value.state == AgentState.UNREACHABLE
    return caught.value


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where a SYN gets no answer: the queue behind it is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            guest = stack.enter_context(socket.socket())
            guest.settimeout(0.2)
            try:
                guest.connect(server.getsockname())
            except TimeoutError:
                break
        yield server.getsockname()[1]


def resolve(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int]) -> None:
    """Let every name resolve to `places`."""
    real = socket.getaddrinfo

    def look_up(host: str, port: int, family: int, kind: int, proto: int, flags: int) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            return real(host, port, family, kind, proto, flags)
        return [(socket.AF_INET, kind, 0, "", place) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_a_connection(listener: socket.socket) -> None:
    with connect(end(*listener.getsockname()), 10) as made, listener.accept()[0] as peer:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        wire = Wire(made, 10)
        assert wire.send(b"hello") == 5
        assert peer.recv(10) == b"hello"
        peer.sendall(b"answer")
        assert wire.recv(2) == b"an"
        assert wire.recv(100) == b"swer"
        peer.close()
        assert wire.recv(1) == b""
        wire.close()


def test_a_refusal() -> None:
    port = free_port()
    assert str(refusal("127.0.0.1", port)) == (
        f"127.0.0.1 port {port} refused the connection: check that sshd runs there on that port"
    )


def test_silence(silent: int) -> None:
    said = str(refusal("127.0.0.1", silent, 0.2))
    assert said.startswith(f"no answer from 127.0.0.1 port {silent} within 0.2 s (connect timeout)")


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def look_up(host: str, port: int, family: int, kind: int, proto: int, flags: int) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            return list(real(host, port, family, kind, proto, flags))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert str(refusal("no-such-node", 22)) == (
        "the name no-such-node is not known (Name or service not known): "
        "correct host: in the inventory, or give an address"
    )


@pytest.mark.parametrize("name", ["a..b", "x" * 300, "ü" * 70])
def test_a_name_that_is_none(name: str) -> None:
    assert "is not known" in str(refusal(name, 22))


def test_a_resolver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    real = socket.getaddrinfo

    def look_up(host: str, port: int, family: int, kind: int, proto: int, flags: int) -> list[Any]:
        if not flags & socket.AI_NUMERICHOST:
            over.wait(20)
        return list(real("127.0.0.1", port, family, kind, proto, socket.AI_NUMERICHOST))

    # Only a name needs the resolver.
    monkeypatch.setattr(socket, "getaddrinfo", numeric_first(look_up))
    said = str(refusal("slow-node", 22, 0.2))
    over.set()
    assert "slow-node was not resolved within 0.2 s (connect timeout)" in said


def numeric_first(look_up: Any) -> Any:
    def wrapped(host: str, *rest: Any) -> Any:
        if rest[-1] & socket.AI_NUMERICHOST and not host[0].isdigit():
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        return look_up(host, *rest)

    return wrapped


def test_the_next_address_is_tried_after_a_refusal(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, ("127.0.0.1", free_port()), listener.getsockname())
    with connect(end("dual"), 10) as made:
        assert made.getpeername() == listener.getsockname()


def test_the_next_address_does_not_wait_for_a_silent_one(
    listener: socket.socket, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, ("127.0.0.1", silent), listener.getsockname())
    # The kernel itself would give up on the first one after minutes.
    with connect(end("dual"), 30) as made:
        assert made.getpeername() == listener.getsockname()


def test_no_address_answers(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, ("127.0.0.1", free_port()), ("127.0.0.1", silent))
    assert "no answer from dual port 22 within 0.5 s" in str(refusal("dual", 22, 0.5))
    resolve(monkeypatch, ("127.0.0.1", free_port()), ("127.0.0.1", free_port()))
    assert "dual port 22 refused" in str(refusal("dual", 22))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EHOSTUNREACH, "no route to host"),
        (errno.ENETUNREACH, "network is unreachable"),
        (errno.EACCES, "own firewall or routes forbid it"),
        (errno.EPERM, "own firewall forbids it"),
        (errno.ECONNRESET, "reset the connection"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_kernel_says_at_once(
    number: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Socket(socket.socket):
        def connect_ex(self, address: Any) -> int:
            return number

    monkeypatch.setattr(socket, "socket", Socket)
    assert said in str(refusal("127.0.0.1", 22))


def test_a_send_that_nobody_takes_ends() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(ours, 0.5)
        with pytest.raises(ConnectionAbortedError, match=r"took nothing for 0.5 s"):
            send_for_ever(wire)
        wire.close()


def send_for_ever(wire: Wire) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            wire.send(bytes(65536))


def test_closing_wakes_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_TICK", 1000)  # it would look up by itself
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(ours, 10)
        got: list[object] = []

        def read() -> None:
            try:
                got.append(wire.recv(1))
            except OSError as error:
                got.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        wire.close()
        wire.close()
        reader.join(10)
        assert len(got) == 1


def test_a_channel_that_cannot_be_closed_any_more_is_no_matter() -> None:
    closed = threading.Event()

    class Channel:
        def settimeout(self, seconds: float) -> None: ...

        def close(self) -> None:
            closed.set()
            raise EOFError

    # pytest fails a test whose threads raise.
    before = threading.active_count()
    Wire(Channel(), 10, trouble=(EOFError,)).close()
    assert closed.wait(10)
    for thread in threading.enumerate()[before:]:
        thread.join()


def test_a_proxy_command() -> None:
    command = ProxyCommand("cat")
    wire = Wire(command.socket, 10, command)
    wire.send(b"hello")
    assert wire.recv(5) == b"hello"
    wire.close()
    assert wire.said() == ""


def test_what_a_failing_proxy_command_says() -> None:
    command = ProxyCommand("sh -c 'echo first >&2; echo no tunnel >&2'")
    wire = Wire(command.socket, 10, command)
    assert wire.recv(1) == b""
    assert wire.said() == "first; no tunnel"
    wire.close()
    assert wire.said() == "first; no tunnel"
