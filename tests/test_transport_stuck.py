"""Servers that stop half-way, refuse, or ask for more: every wait ends, and says which it was."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)
from paramiko.server import InteractiveQuery
from sshd import Client, make_key, read_until

from preflight.core.model import AgentState, Node
from preflight.errors import NodeError


class Server(paramiko.ServerInterface):
    """Lets anybody in with the password "right", and runs nothing; tests override the rest."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.answers: list[list[str]] = []

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        return AUTH_SUCCESSFUL if password == "right" else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return True


class SlowToDecide(Server):
    def check_auth_password(self, username: str, password: str) -> int:
        self.over.wait(20)
        return AUTH_FAILED


class SlowToRun(Server):
    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.over.wait(20)
        return False


class SlowToOpen(Server):
    def check_channel_request(self, kind: str, chanid: int) -> int:
        self.over.wait(20)
        return OPEN_FAILED_RESOURCE_SHORTAGE


class Full(Server):
    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_FAILED_RESOURCE_SHORTAGE


class NoCommands(Server):
    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return False


class Interactive(Server):
    """Asks for a password, and then for `more` in the same breath or the next."""

    def __init__(self, *rounds: list[tuple[str, bool]]) -> None:
        super().__init__()
        self.rounds = list(rounds)

    def get_allowed_auths(self, username: str) -> str:
        return "keyboard-interactive"

    def check_auth_password(self, username: str, password: str) -> int:
        return AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: Any) -> Any:
        return InteractiveQuery("Hello", "who is it?", *self.rounds.pop(0))

    def check_auth_interactive_response(self, responses: list[str]) -> Any:
        self.answers.append(responses)
        if self.rounds:
            return InteractiveQuery("", "", *self.rounds.pop(0))
        right = [answer for answers in self.answers for answer in answers] == ["right"]
        return AUTH_SUCCESSFUL if right else AUTH_FAILED


@pytest.fixture(scope="module")
def host_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("stuck") / "host")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Client(tmp_path)
    yield made
    made.close()


@contextlib.contextmanager
def serving(server: Server, host_key: Path, client: Client) -> Iterator[Node]:
    """One connection's worth of `server`."""
    transports: list[paramiko.Transport] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            peer = listener.accept()[0]
            transport = paramiko.Transport(peer)
            transports.append(transport)
            transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(host_key)))
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(server=server)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        kind, blob = Path(f"{host_key}.pub").read_text().split()[:2]
        known = client.directory / "kh"
        known.write_text(f"[127.0.0.1]:{port} {kind} {blob}\n")
        try:
            yield Node(
                name="n1",
                addresses=("192.0.2.1",),
                host="127.0.0.1",
                port=port,
                user="root",
                known_hosts=str(known),
            )
        finally:
            server.over.set()
            client.close()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for transport in transports:
                transport.close()
                transport.join()


@pytest.mark.parametrize(
    ("server", "timeouts", "state", "said"),
    [
        (SlowToDecide, {"auth": 0.3}, AgentState.AUTH, "did not decide on root within 0.3 s (auth"),
        (SlowToRun, {"channel": 0.3}, AgentState.UNREACHABLE, "no command within 0.3 s (channel"),
        (SlowToOpen, {"channel": 0.3}, AgentState.UNREACHABLE, "no command within 0.3 s (channel"),
        (Full, {}, AgentState.FAILED, "opens no session (Resource shortage): check MaxSessions"),
        (NoCommands, {}, AgentState.FAILED, "refuses to run commands: check the user's login"),
    ],
)
def test_servers_that_get_stuck_or_refuse(
    server: type[Server],
    timeouts: dict[str, float],
    state: AgentState,
    said: str,
    host_key: Path,
    client: Client,
) -> None:
    with serving(server(), host_key, client) as n1:
        error = client.refusal(n1, password="right", **timeouts)
        assert (error.state, said in str(error)) == (state, True), error


def test_a_node_that_takes_no_bytes_is_lost(host_key: Path, client: Client) -> None:
    with serving(Server(), host_key, client) as n1:
        session = client.connect(n1, password="right", send=0.3)
        data = bytes(4 << 20)  # more than SSH's window
        with pytest.raises(NodeError, match=r"took no data for 0.3 s \(send timeout\)") as caught:
            session.send(data)
        assert caught.value.state == AgentState.LOST


def test_questions_that_a_password_answers(host_key: Path, client: Client) -> None:
    for rounds in ([[("Password:", False)]], [[], [("Password:", False)]]):
        server = Interactive(*rounds)
        with serving(server, host_key, client) as n1:
            client.connect(n1, password="right")
        assert server.answers[-1] == ["right"]


@pytest.mark.parametrize(
    ("rounds", "answers"),
    [
        ([[("Password:", False), ("Code:", False)]], [["", ""]]),
        ([[("Password:", False)], [("Code:", False)]], [["right"], [""]]),
        ([[("Your name?", True)]], [[""]]),
    ],
)
def test_questions_that_a_password_does_not_answer(
    rounds: list[list[tuple[str, bool]]],
    answers: list[list[str]],
    host_key: Path,
    client: Client,
) -> None:
    server = Interactive(*rounds)
    with serving(server, host_key, client) as n1:
        error = client.refusal(n1, password="right")
    assert error.state == AgentState.AUTH
    assert "it takes keyboard-interactive" in str(error)
    assert "right" not in str(error)
    assert server.answers == answers


def test_nothing_of_paramiko_reaches_stderr(
    host_key: Path, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(SlowToRun(), host_key, client) as n1:
        client.refusal(n1, password="right", channel=0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up_twice() -> None:
            for _ in range(2):
                listener.accept()[0].close()

        thread = threading.Thread(target=hang_up_twice)
        thread.start()
        port = listener.getsockname()[1]
        client.refusal(Node(name="n1", addresses=("192.0.2.1",), host="127.0.0.1", port=port))
        thread.join()
    assert capfd.readouterr() == ("", "")


def test_no_password_shows_itself(host_key: Path, client: Client) -> None:
    with serving(Server(), host_key, client) as n1:
        connector = client.connector(n1, password="Geheim", become_password="Versteckt")
        with pytest.raises(NodeError) as caught:
            connector.connect(n1)
        shown = [str(caught.value), repr(connector), repr(vars(connector))]
        link: BaseException | None = caught.value
        while link is not None:
            shown.append(repr(link))
            link = link.__cause__ or link.__context__
        assert not any("Geheim" in text or "Versteckt" in text for text in shown)


def test_the_reader_of_an_open_session_can_be_woken(host_key: Path, client: Client) -> None:
    with serving(Server(), host_key, client) as n1:
        session = client.connect(n1, password="right")
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(session.receive()))
        reader.start()
        session.close()
        reader.join(10)
        assert got == [b""]
        assert session.ending() == (None, "")


def test_read_until_is_honest(host_key: Path, client: Client) -> None:
    with serving(Server(), host_key, client) as n1:
        session = client.connect(n1, password="right")
        session.close()
        with pytest.raises(AssertionError, match="it ended after"):
            read_until(session, b"never")
