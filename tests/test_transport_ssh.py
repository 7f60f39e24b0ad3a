"""SSH against real sshd processes: ways in, and what is said where there is none."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sshd import (
    BOOT,
    Client,
    Sshd,
    children,
    free_port,
    make_key,
    node,
    public,
    read_all,
    read_until,
    run_agent,
    run_sshd,
    say,
    temporary_user,
)

from preflight.core.model import AgentState, Connection, Node
from preflight.errors import NodeError
from preflight.transport import connectors, sshconnector
from preflight.transport.base import Credentials, Session, Timeouts
from preflight.transport.command import explain_exit

Start = Callable[..., Sshd]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ssh")


@pytest.fixture(scope="module")
def key(place: Path) -> Path:
    return make_key(place / "id")


@pytest.fixture(scope="module")
def host_keys(place: Path) -> list[Path]:
    """ed25519 and RSA."""
    return [make_key(place / "host_ed25519"), make_key(place / "host_rsa", "rsa")]


@pytest.fixture(scope="module")
def server(place: Path, key: Path, host_keys: list[Path]) -> Iterator[Sshd]:
    """An sshd that lets root in with `key`, for all tests that want no other."""
    with run_sshd(place, [key], host_keys) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path, key: Path, host_keys: list[Path]) -> Iterator[Start]:
    """Starts another sshd; options as in sshd_config."""
    with contextlib.ExitStack() as stack:

        def run(keys: list[Path] | None = None, **options: str) -> Sshd:
            return stack.enter_context(
                run_sshd(tmp_path, [key] if keys is None else keys, host_keys, options)
            )

        yield run


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Client(tmp_path)
    yield made
    made.close()


@pytest.fixture
def known(tmp_path: Path) -> Callable[..., str]:
    """A known_hosts file that lists these servers."""

    def write(*servers: Sshd) -> str:
        for each in servers:
            each.known_hosts(tmp_path / "known_hosts")
        return str(tmp_path / "known_hosts")

    return write


@pytest.fixture
def n1(server: Sshd, key: Path, known: Callable[..., str]) -> Node:
    """A node that lets us in."""
    return node(server, identity_file=str(key), known_hosts=known(server))


def test_bytes_go_both_ways(client: Client, n1: Node) -> None:
    session = client.connect(n1)
    assert read_until(session, b"ok\n") == b"ok\n"
    data = os.urandom(3 << 20)
    sender = threading.Thread(target=session.send, args=(data,))
    sender.start()
    got = b""
    while len(got) < len(data):
        got += session.receive()
    sender.join()
    assert got == data


def test_the_end_has_a_status_and_a_reason(client: Client, n1: Node) -> None:
    boot = ";".join((say(1, "out"), say(2, "a\n\x1b[1mb\n\n"), "raise SystemExit(7)"))
    session = client.connect(n1, boot=boot)
    assert read_all(session) == b"out"
    assert session.ending() == (7, "a; b")
    assert session.receive() == b""
    with pytest.raises(NodeError) as caught:
        send_for_ever(session)
    assert caught.value.state == AgentState.LOST


def send_for_ever(session: Session) -> None:
    while True:
        session.send(b"x")


def test_much_on_stderr_does_not_stop_it(client: Client, n1: Node) -> None:
    boot = f"import os;[os.write(2,bytes([120,10])*32768) for i in range(128)];{say(1, 'done')}"
    session = client.connect(n1, boot=boot)
    assert read_all(session) == b"done"
    status, said = session.ending()
    assert status == 0
    assert said.endswith("x; x")


def test_much_on_stderr_at_the_end_does_not_stop_it(client: Client, n1: Node) -> None:
    boot = "import os;os.close(1);[os.write(2,bytes([120,10])*32768) for i in range(128)]"
    session = client.connect(n1, boot=boot)
    assert read_all(session) == b""
    assert session.ending()[1].endswith("x; x")


def test_closing_ends_python_and_wakes_the_reader(client: Client, n1: Node, server: Sshd) -> None:
    session = client.connect(n1)
    read_until(session, b"ok\n")
    assert [pid for pid in children(server.process.pid) if "IBS" in command_line(pid)]
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(session.receive()))
    reader.start()
    session.close()
    session.close()
    reader.join(10)
    assert got == [b""]
    with pytest.raises(NodeError, match="was lost"):
        session.send(b"x")
    assert session.ending() == (None, "")
    assert gone(lambda: [p for p in children(server.process.pid) if "IBS" in command_line(p)])


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def gone(still: Callable[[], object]) -> bool:
    """Whether `still` comes to nothing before long."""
    waiting = threading.Event()
    return any(not still() or waiting.wait(0.05) for _ in range(200))


def test_a_node_that_dies_ends_the_session(client: Client, start: Start, key: Path) -> None:
    server = start()
    n1 = node(server, identity_file=str(key), known_hosts=str(client.directory / "kh"))
    server.known_hosts(client.directory / "kh")
    session = client.connect(n1)
    read_until(session, b"ok\n")
    for pid in children(server.process.pid):
        os.kill(pid, signal.SIGKILL)
    assert session.receive() == b""
    assert session.ending() == (None, "")
    with pytest.raises(NodeError, match=f"127.0.0.1:{server.port} was lost") as caught:
        send_for_ever(session)
    assert caught.value.state == AgentState.LOST


def test_many_logins_side_by_side(client: Client, start: Start, key: Path) -> None:
    server = start(MaxStartups="100")
    file = str(server.known_hosts(client.directory / "kh"))
    nodes = [node(server, f"n{i}", identity_file=str(key), known_hosts=file) for i in range(30)]
    connector = client.connector(*nodes)
    with ThreadPoolExecutor(30) as pool:
        sessions = list(pool.map(lambda each: client.session(connector, each), nodes))
        list(pool.map(lambda s: s.send(b"hello"), sessions))
        assert list(pool.map(lambda s: read_until(s, b"hello"), sessions)) == [b"ok\nhello"] * 30


# Who we are


def test_a_key_with_a_passphrase(client: Client, start: Start, tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", passphrase="open sesame")
    server = start(keys=[locked])
    n1 = node(
        server, identity_file=str(locked), known_hosts=str(server.known_hosts(tmp_path / "k"))
    )
    client.answers = ["open sesame"]
    assert read_until(client.connect(n1), b"ok\n")
    assert client.asked == [f"Passphrase for {locked}: "]


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_kinds_of_keys(client: Client, start: Start, tmp_path: Path, kind: str) -> None:
    mine = make_key(tmp_path / "mine", kind)
    server = start(keys=[mine])
    n1 = node(server, identity_file=str(mine), known_hosts=str(server.known_hosts(tmp_path / "k")))
    assert read_until(client.connect(n1), b"ok\n")


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_certificate(client: Client, start: Start, tmp_path: Path, kind: str) -> None:
    authority, mine = make_key(tmp_path / "ca"), make_key(tmp_path / "mine", kind)
    server = start(keys=[], TrustedUserCAKeys=f"{authority}.pub")
    n1 = node(server, identity_file=str(mine), known_hosts=str(server.known_hosts(tmp_path / "k")))
    assert "refused root (tried ~/mine)" in str(client.refusal(n1))
    sign = f"ssh-keygen -q -s {authority} -I me -n root {mine}.pub"
    subprocess.run(sign.split(), check=True)
    assert read_until(client.connect(n1), b"ok\n")


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_key_in_the_agent(
    client: Client, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mine, other = make_key(tmp_path / "mine", kind), make_key(tmp_path / "other", "ecdsa")
    server = start(keys=[mine])
    nodes = [
        node(server, f"n{i}", known_hosts=str(server.known_hosts(tmp_path / "k"))) for i in range(5)
    ]
    with run_agent(tmp_path, other, mine) as path:
        mine.unlink()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        connector = client.connector(*nodes)
        with ThreadPoolExecutor(5) as pool:
            sessions = list(pool.map(lambda each: client.session(connector, each), nodes))
        assert [read_until(session, b"ok\n") for session in sessions] == [b"ok\n"] * 5
        assert client.asked == []
        connector = client.connector(nodes[0], config="IdentitiesOnly yes")
        with pytest.raises(NodeError, match="there was nothing to try"):
            connector.connect(nodes[0])


def test_a_refused_key(client: Client, server: Sshd, known: Callable[..., str]) -> None:
    mine = make_key(client.directory / "mine")
    n1 = node(server, user="nobody", identity_file=str(mine), known_hosts=known(server))
    error = client.refusal(n1)
    assert error.state == AgentState.AUTH
    assert str(error) == (
        f"127.0.0.1:{server.port} refused nobody (tried ~/mine): check the user, add the key to "
        "its authorized_keys there, name another with identity_file, or use --ask-pass"
    )


def test_nothing_to_offer(client: Client, server: Sshd, known: Callable[..., str]) -> None:
    error = client.refusal(node(server, known_hosts=known(server)))
    assert error.state == AgentState.AUTH
    assert "there was nothing to try; it takes publickey" in str(error)
    assert "name a key with identity_file, load one with ssh-add, or use --ask-pass" in str(error)


def test_an_identity_file_that_is_not_there(client: Client, n1: Node, server: Sshd) -> None:
    lost = node(server, "lost", identity_file="/no/such/key", known_hosts=n1.known_hosts)
    connector = client.connector(lost, n1)
    with pytest.raises(NodeError, match="identity_file /no/such/key: No such file") as caught:
        connector.connect(lost)
    assert caught.value.state == AgentState.AUTH
    assert read_until(client.session(connector, n1), b"ok\n")


def test_too_many_keys(client: Client, start: Start, tmp_path: Path) -> None:
    server = start(keys=[], MaxAuthTries="2")
    files = [make_key(tmp_path / f"key{i}") for i in range(4)]
    config = "\n".join(f"IdentityFile {file}" for file in files)
    n1 = node(server, known_hosts=str(server.known_hosts(tmp_path / "k")))
    error = client.refusal(n1, config=config)
    assert "hung up on root (tried ~/key0, ~/key1" in str(error)
    assert "name the right key with identity_file" in str(error)


def test_a_password(client: Client, start: Start, tmp_path: Path) -> None:
    server = start(keys=[], PasswordAuthentication="yes")
    file = str(server.known_hosts(tmp_path / "k"))
    with temporary_user(tmp_path, "pw") as user:
        n1 = node(server, user=user.name, known_hosts=file)
        session = client.connect(n1, password=user.password, boot=BOOT)
        assert read_until(session, b"ok\n")
        arguments = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True)
        assert user.password not in arguments.stdout
        error = client.refusal(n1, password="wrong")
        assert error.state == AgentState.AUTH
        assert "(tried the password): check the user and the password" in str(error)
        assert "wrong" not in str(error)
        assert "nothing to try; it takes publickey, password)" in str(client.refusal(n1))


def test_a_password_through_pam(client: Client, start: Start, tmp_path: Path) -> None:
    server = start(keys=[], UsePAM="yes", KbdInteractiveAuthentication="yes")
    file = str(server.known_hosts(tmp_path / "k"))
    with temporary_user(tmp_path, "pam") as user:
        n1 = node(server, user=user.name, known_hosts=file)
        assert read_until(client.connect(n1, password=user.password, boot=BOOT), b"ok\n")
        error = client.refusal(n1, password="wrong")
        assert error.state == AgentState.AUTH
        assert "tried the password; it takes publickey, keyboard-interactive" in str(error)


def test_a_key_and_a_password(client: Client, start: Start, tmp_path: Path, key: Path) -> None:
    server = start(PasswordAuthentication="yes", AuthenticationMethods="publickey,password")
    file = str(server.known_hosts(tmp_path / "k"))
    with temporary_user(tmp_path, "two") as user:
        n1 = node(server, user=user.name, known_hosts=file, identity_file=str(key))
        assert read_until(client.connect(n1, password=user.password, boot=BOOT), b"ok\n")
        error = client.refusal(n1)
        assert error.state == AgentState.AUTH
        assert f"asks {user.name} for more than one proof (it also wants password)" in str(error)


def test_a_locked_account(client: Client, server: Sshd, key: Path, tmp_path: Path) -> None:
    file = str(server.known_hosts(tmp_path / "k"))
    with temporary_user(tmp_path, "nolog", shell="/usr/sbin/nologin") as user:
        n1 = node(server, user=user.name, known_hosts=file, identity_file=str(key))
        session = client.connect(n1)
        read_all(session)
        state, reason = explain_exit(*session.ending())
    # nologin speaks on stdout, so there is only its status to tell.
    assert state == AgentState.FAILED
    assert "status 1" in reason


def test_a_forced_command(client: Client, start: Start, key: Path, tmp_path: Path) -> None:
    server = start(ForceCommand="true")
    file = str(server.known_hosts(tmp_path / "k"))
    session = client.connect(node(server, known_hosts=file, identity_file=str(key)))
    assert read_all(session) == b""
    assert "ForceCommand" in explain_exit(*session.ending())[1]


def test_no_python(client: Client, server: Sshd, key: Path, tmp_path: Path) -> None:
    file = str(server.known_hosts(tmp_path / "k"))
    n1 = node(server, known_hosts=file, identity_file=str(key), python="/no/python3")
    session = client.connect(n1)
    assert read_all(session) == b""
    state, reason = explain_exit(*session.ending())
    assert state == AgentState.NO_PYTHON
    assert "/no/python3 cannot be run" in reason


def test_banners_and_noisy_profiles_do_no_harm(
    client: Client, start: Start, tmp_path: Path, key: Path
) -> None:
    (tmp_path / "banner").write_text("No trespassing!\n" * 50)
    server = start(Banner=str(tmp_path / "banner"), PrintMotd="yes", SetEnv="", UsePAM="yes")
    file = str(server.known_hosts(tmp_path / "k"))
    with temporary_user(tmp_path, "noisy") as user:
        for profile in (".bashrc", ".profile", ".bash_profile"):
            (user.home / profile).write_text("echo welcome; echo careful >&2; set -x; : noise\n")
        n1 = node(server, user=user.name, known_hosts=file, identity_file=str(key))
        session = client.connect(n1, boot=BOOT)
        assert read_until(session, b"ok\n") == b"welcome\nok\n"
        session.send(b"x")
        assert read_all(session) == b""
        assert session.ending()[0] == 0
        assert session.ending()[1].startswith("careful; + : noise; + exec /bin/sh -c")


# Who the host is


def test_an_unknown_host_key(client: Client, server: Sshd, key: Path) -> None:
    n1 = node(server, identity_file=str(key), known_hosts=str(client.directory / "kh"))
    error = client.refusal(n1)
    assert error.state == AgentState.HOST_KEY
    shown = subprocess.run(
        ["ssh-keygen", "-lf", server.host_keys[0]], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert f"ED25519 {shown} is not in {client.directory}/kh" in str(error)
    assert not server.logged(f"port {server.port} nobody")
    session = client.connect(n1, accept_new=True)
    assert read_until(session, b"ok\n")
    assert client.notes == [
        f"added host key of 127.0.0.1:{server.port} to {client.directory}/kh: ED25519 {shown}"
    ]
    assert read_until(client.connect(n1), b"ok\n")


def test_a_new_key_of_many_nodes_is_added_once(client: Client, server: Sshd, key: Path) -> None:
    file = client.directory / "kh"
    nodes = [node(server, f"n{i}", identity_file=str(key), known_hosts=str(file)) for i in range(8)]
    connector = client.connector(*nodes, accept_new=True)
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(lambda each: client.session(connector, each), nodes))
    assert [read_until(session, b"ok\n") for session in sessions] == [b"ok\n"] * 8
    assert len(file.read_text().splitlines()) == len(client.notes) == 1


def test_a_changed_host_key(client: Client, server: Sshd, key: Path) -> None:
    server.known_hosts(client.directory / "kh", key=make_key(client.directory / "old"))
    n1 = node(server, identity_file=str(key), known_hosts=str(client.directory / "kh"))
    for accept_new in (False, True):
        error = client.refusal(n1, accept_new=accept_new)
        assert error.state == AgentState.HOST_KEY
        assert "HAS CHANGED" in str(error)
        assert f"{client.directory}/kh:1 lists" in str(error)


def test_a_host_known_by_its_second_key(client: Client, server: Sshd, key: Path) -> None:
    file = server.known_hosts(client.directory / "kh", key=server.host_keys[1])
    assert "ssh-rsa" in file.read_text()
    n1 = node(server, identity_file=str(key), known_hosts=str(file))
    assert read_until(client.connect(n1), b"ok\n")


def test_an_alias_for_the_host_key(client: Client, server: Sshd, key: Path) -> None:
    kind, blob = public(server.host_keys[0]).split()[:2]
    (client.directory / "kh").write_text(f"cp-1 {kind} {blob}\n")
    n1 = node(server, identity_file=str(key), known_hosts=str(client.directory / "kh"))
    session = client.connect(n1, config="HostKeyAlias cp-1")
    assert read_until(session, b"ok\n")


# Where to go


def test_the_ssh_configuration_leads_there(client: Client, server: Sshd, key: Path) -> None:
    file = server.known_hosts(client.directory / "kh")
    config = (
        f"Host cp-1\nHostName 127.0.0.1\nPort {server.port}\nUser root\nIdentityFile {key}\n"
        f"UserKnownHostsFile {file}\n"
    )
    n1 = Node(name="n1", addresses=("192.0.2.1",), host="cp-1")
    assert read_until(client.connect(n1, config=config), b"ok\n")
    error = client.refusal(n1, config=config.replace(f" {server.port}", f" {free_port()}"))
    assert error.state == AgentState.UNREACHABLE


def test_ipv6(client: Client, key: Path, host_keys: list[Path], tmp_path: Path) -> None:
    with run_sshd(tmp_path, [key], host_keys, address="::1") as server:
        file = str(server.known_hosts(tmp_path / "kh", host="::1"))
        n1 = node(server, host="::1", identity_file=str(key), known_hosts=file)
        assert read_until(client.connect(n1), b"ok\n")


def test_a_refused_connection(client: Client, key: Path) -> None:
    port = free_port()
    n1 = Node(name="n1", addresses=("192.0.2.1",), host="127.0.0.1", port=port)
    error = client.refusal(n1)
    assert error.state == AgentState.UNREACHABLE
    assert str(error) == (
        f"127.0.0.1 port {port} refused the connection: check that sshd runs there on that port"
    )


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[int]]]:
    """A server that deals with each connection by `answer`; yields its port and its guests."""
    guests: list[int] = []
    peers: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer = listener.accept()[0]
                guests.append(peer.fileno())
                peers.append(peer)
                answer(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], guests
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for peer in peers:
                peer.close()


def stranger(port: int) -> Node:
    return Node(name="n1", addresses=("192.0.2.1",), host="127.0.0.1", port=port)


def test_a_server_that_says_nothing(client: Client) -> None:
    with listening(lambda _peer: None) as (port, guests):
        error = client.refusal(stranger(port), banner=0.3)
        assert error.state == AgentState.UNREACHABLE
        assert f"no SSH banner from 127.0.0.1:{port} within 0.3 s (banner timeout)" in str(error)
        assert "MTU" not in str(error)  # a banner is a small packet
        assert len(guests) == 1


def test_a_server_that_stops_after_its_banner(client: Client) -> None:
    with listening(lambda peer: peer.sendall(b"SSH-2.0-tired\r\n")) as (port, _):
        error = client.refusal(stranger(port), banner=0.3)
        assert error.state == AgentState.UNREACHABLE
        assert "no key exchange" in str(error)
        assert "(2 banner timeouts)" in str(error)
        assert "`ping -M do -s 1472 NODE` is not answered" in str(error)


def test_a_server_that_turns_us_away_is_asked_twice(client: Client) -> None:
    with listening(lambda peer: peer.close()) as (port, guests):
        error = client.refusal(stranger(port))
        assert error.state == AgentState.UNREACHABLE
        assert "hung up without an SSH banner: check the port" in str(error)
        assert "MaxStartups" in str(error)
        assert len(guests) == 2


def test_a_server_that_turns_us_away_once(client: Client, n1: Node, server: Sshd) -> None:
    inners: list[socket.socket] = []

    def answer(peer: socket.socket) -> None:
        # The second guest is led on to the real server.
        if len(guests) == 1:
            peer.close()
            return
        inner = socket.create_connection(("127.0.0.1", server.port))
        inners.append(inner)
        for a, b in ((peer, inner), (inner, peer)):
            threading.Thread(target=pump, args=(a, b), daemon=True).start()

    with listening(answer) as (port, guests):
        config = (
            f"Host door\nHostName 127.0.0.1\nPort {port}\nHostKeyAlias [127.0.0.1]:{server.port}"
        )
        door = Node(
            name="n1",
            addresses=("192.0.2.1",),
            host="door",
            user="root",
            identity_file=n1.identity_file,
            known_hosts=n1.known_hosts,
        )
        assert read_until(client.connect(door, config=config), b"ok\n")
        assert len(guests) == 2
        client.close()
    for inner in inners:
        inner.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def test_something_else_than_ssh(client: Client) -> None:
    def answer(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        peer.close()

    with listening(answer) as (port, _):
        error = client.refusal(stranger(port))
        assert error.state == AgentState.UNREACHABLE
        assert "check the port" in str(error)


def test_algorithms_that_we_lack(client: Client, start: Start) -> None:
    server = start(Ciphers="chacha20-poly1305@openssh.com")
    error = client.refusal(node(server))
    assert error.state == AgentState.UNREACHABLE
    assert "shares no algorithm with us" in str(error)


def test_ready_connectors_for_all_ways(
    server: Sshd, key: Path, known: Callable[..., str], client: Client
) -> None:
    n1 = node(server, identity_file=str(key), known_hosts=known(server))
    n2 = Node(name="n2", addresses=("192.0.2.2",), host="", connection=Connection.LOCAL)
    n3 = Node(name="n3", addresses=("192.0.2.3",), host="", connection=Connection.NONE)
    ways = connectors(
        [n1, n2, n3],
        Credentials(),
        Timeouts(),
        accept_new_host_keys=False,
        ask=client.ask,
        notify=client.notes.append,
    )
    assert set(ways) == {Connection.SSH, Connection.LOCAL}
    for each in (n1, n2):
        session = ways[each.connection].connect(each)
        session.send(f"import os;{say(1, 'here')};os._exit(3)\n".encode())
        assert read_all(session) == b"here"
        assert session.ending()[0] == 3
        session.close()
        ways[each.connection].close()


def test_paramiko_is_left_alone_where_there_is_no_ssh() -> None:
    code = (
        "import sys; from preflight.transport import *; from preflight.core.model import *;"
        "n = Node(name='n', addresses=('192.0.2.1',), host='', connection=Connection.LOCAL);"
        "connectors([n], Credentials(), Timeouts(), accept_new_host_keys=False, ask=0, notify=0);"
        "assert 'paramiko' not in sys.modules;"
        "import preflight.transport.ssh; assert 'invoke' not in sys.modules; import invoke"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Through others


def jumps(*servers: Sshd) -> str:
    return "".join(
        f"Host b{i}\nHostName 127.0.0.1\nPort {each.port}\nUser root\n"
        for i, each in enumerate(servers, 1)
    )


def test_a_bastion_is_logged_in_to_once(
    client: Client, start: Start, server: Sshd, key: Path, known: Callable[..., str]
) -> None:
    bastion = start()
    file = known(bastion, server)
    nodes = [
        node(server, f"n{i}", identity_file=str(key), known_hosts=file, proxy_jump="b1")
        for i in range(6)
    ]
    connector = client.connector(*nodes, config=jumps(bastion))
    with ThreadPoolExecutor(6) as pool:
        sessions = list(pool.map(lambda each: client.session(connector, each), nodes))
    data = os.urandom(1 << 20)
    for session in sessions:
        assert read_until(session, b"ok\n")
    threading.Thread(target=sessions[0].send, args=(data,)).start()
    assert read_until(sessions[0], data[-20:]) == data
    assert sum("Accepted publickey" in line for line in bastion.log) == 1
    sessions[1].close()
    sessions[2].send(b"still")
    assert read_until(sessions[2], b"still")
    for pid in children(bastion.process.pid):
        os.kill(pid, signal.SIGKILL)
    assert sessions[3].receive() == b""


def test_a_bastion_that_broke_off_is_logged_in_to_again(
    client: Client, start: Start, server: Sshd, key: Path, known: Callable[..., str]
) -> None:
    bastion = start()
    file = known(bastion, server)
    n1 = node(server, identity_file=str(key), known_hosts=file, proxy_jump="b1")
    connector = client.connector(n1, config=jumps(bastion))
    first = client.session(connector, n1)
    assert read_until(first, b"ok\n")
    for pid in children(bastion.process.pid):
        os.kill(pid, signal.SIGKILL)
    assert first.receive() == b""
    assert read_until(client.session(connector, n1), b"ok\n")
    assert sum("Accepted publickey" in line for line in bastion.log) == 2


def test_a_bastion_that_refused_us_is_not_asked_again_at_once(
    client: Client,
    start: Start,
    server: Sshd,
    key: Path,
    known: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The nodes behind it share its answer: it counts logins that fail."""
    bastion = start(keys=[])
    n1 = node(server, identity_file=str(key), known_hosts=known(bastion, server), proxy_jump="b1")
    connector = client.connector(n1, config=jumps(bastion))

    def refused() -> int:
        with pytest.raises(NodeError):
            connector.connect(n1)
        return sum("Connection from" in line for line in bastion.log)

    once = refused()
    assert refused() == once
    monkeypatch.setattr(sshconnector, "_BASTION_AGAIN_S", 0.0)
    assert refused() > once


def test_a_chain_of_bastions(
    client: Client, start: Start, server: Sshd, key: Path, known: Callable[..., str]
) -> None:
    first, second = start(), start()
    file = known(first, second, server)
    n1 = node(server, identity_file=str(key), known_hosts=file, proxy_jump="b1,b2")
    session = client.connect(n1, config=jumps(first, second))
    assert read_until(session, b"ok\n")
    assert first.logged("Accepted publickey")
    assert second.logged("Accepted publickey")
    assert client.directory.joinpath("known_hosts").read_text().count("\n") == 3


def test_a_bastion_that_cannot_be_reached_is_named(client: Client, server: Sshd) -> None:
    port = free_port()
    nodes = [node(server, f"n{i}", proxy_jump=f"127.0.0.1:{port}") for i in range(3)]
    connector = client.connector(*nodes)
    for each in nodes:
        with pytest.raises(NodeError) as caught:
            connector.connect(each)
        assert caught.value.state == AgentState.UNREACHABLE
        assert str(caught.value).startswith(
            f"bastion 127.0.0.1:{port}: 127.0.0.1 port {port} refused the connection"
        )


def test_a_bastion_that_refuses_us_is_named(
    client: Client, start: Start, server: Sshd, key: Path, known: Callable[..., str]
) -> None:
    bastion = start(keys=[])
    n1 = node(server, identity_file=str(key), known_hosts=known(bastion, server), proxy_jump="b1")
    error = client.refusal(n1, config=jumps(bastion))
    assert error.state == AgentState.AUTH
    place = f"b1 (127.0.0.1:{bastion.port})"
    assert str(error).startswith(f"bastion {place}: {place} refused root (tried {key})")


def test_what_a_bastion_cannot_reach(
    client: Client, start: Start, key: Path, known: Callable[..., str]
) -> None:
    bastion, port = start(), free_port()
    n1 = Node(
        name="n1",
        addresses=("192.0.2.1",),
        host="127.0.0.1",
        port=port,
        identity_file=str(key),
        known_hosts=known(bastion),
        proxy_jump="b1",
    )
    error = client.refusal(n1, config=jumps(bastion))
    assert error.state == AgentState.UNREACHABLE
    assert f"to 127.0.0.1 port {port}: Connect failed: check the address" in str(error)


def test_a_bastion_that_forwards_nothing(
    client: Client, start: Start, server: Sshd, key: Path, known: Callable[..., str]
) -> None:
    bastion = start(AllowTcpForwarding="no")
    n1 = node(server, identity_file=str(key), known_hosts=known(bastion, server), proxy_jump="b1")
    error = client.refusal(n1, config=jumps(bastion))
    assert "it forbids that: check AllowTcpForwarding" in str(error)


def test_a_proxy_command(client: Client, n1: Node, server: Sshd) -> None:
    command = f"ProxyCommand /usr/sbin/sshd -i -f {server.config} # %h %p %r"
    session = client.connect(n1, config=command)
    assert read_until(session, b"ok\n")
    session.send(b"hello")
    assert read_until(session, b"hello")


def test_a_proxy_command_that_fails(client: Client, n1: Node) -> None:
    error = client.refusal(n1, config="ProxyCommand sh -c 'echo tunnel is down >&2'")
    assert error.state == AgentState.UNREACHABLE
    assert "hung up without an SSH banner (tunnel is down)" in str(error)
