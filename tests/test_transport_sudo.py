"""Sudo on a node and on this machine, with and without a password."""

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import (
    ECHO,
    Client,
    Sshd,
    User,
    children,
    make_key,
    node,
    read_all,
    read_until,
    run_sshd,
    temporary_user,
)

from preflight.core.model import AgentState, Connection, Node
from preflight.errors import NodeError
from preflight.transport.base import Credentials, Session, Timeouts
from preflight.transport.command import explain_exit
from preflight.transport.local import LocalConnector

ROOT = "import os;os.write(1,bytes([48+(os.geteuid()>0)]));os.read(0,1)"
"""Says 0 as root, 1 as anybody else."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sudo")


@pytest.fixture(scope="module")
def key(place: Path) -> Path:
    return make_key(place / "id")


@pytest.fixture(scope="module")
def server(place: Path, key: Path) -> Iterator[Sshd]:
    with run_sshd(place, [key], [make_key(place / "host")], {"SetEnv": ""}) as running:
        yield running


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Client(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def asked(place: Path) -> Iterator[User]:
    """A user whom sudo asks for a password, once for each try, and lectures."""
    rules = (
        "{0} ALL=(ALL) ALL\nDefaults:{0} lecture=always,!authenticate\nDefaults:{0} authenticate"
    )
    with temporary_user(place, "asked", sudoers=rules) as user:
        yield user


@pytest.fixture(scope="module")
def trusted(place: Path) -> Iterator[User]:
    """A user whom sudo does not ask."""
    rules = "{0} ALL=(ALL) NOPASSWD: ALL\nDefaults:{0} use_pty"
    with temporary_user(place, "trusted", sudoers=rules) as user:
        yield user


Login = Callable[..., Node]


@pytest.fixture
def login(server: Sshd, key: Path, tmp_path: Path) -> Login:
    """The node for a user who becomes root."""

    def make(user: User | str) -> Node:
        return node(
            server,
            user=user if isinstance(user, str) else user.name,
            identity_file=str(key),
            known_hosts=str(server.known_hosts(tmp_path / "kh")),
            become="sudo",
        )

    return make


def why(session: Session) -> tuple[AgentState, str]:
    assert read_all(session) == b""
    return explain_exit(*session.ending())


def test_without_a_password(client: Client, login: Login, trusted: User) -> None:
    assert read_until(client.connect(login(trusted), boot=ROOT), b"0") == b"0"


def test_a_password_that_nobody_asks_for_goes_nowhere(
    client: Client, login: Login, trusted: User
) -> None:
    session = client.connect(login(trusted), become_password="Geheim")
    session.send(b"x")
    assert read_until(session, b"x") == b"ok\nx"


def test_with_a_password(client: Client, login: Login, asked: User) -> None:
    session = client.connect(login(asked), boot=ROOT, become_password=asked.password)
    assert read_until(session, b"0") == b"0"
    arguments = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
    assert "sudo -S -p preflight%" in arguments
    assert asked.password not in arguments
    session.send(b"x")
    assert read_all(session) == b""
    assert session.ending()[0] == 0


def test_with_a_password_stdin_is_clean(client: Client, login: Login, asked: User) -> None:
    session = client.connect(login(asked), boot=ECHO, become_password=asked.password)
    session.send(b"hello")
    assert read_until(session, b"hello") == b"ok\nhello"


def test_a_wrong_password(client: Client, login: Login, asked: User) -> None:
    error = client.refusal(login(asked), become_password="Geheim")
    assert error.state == AgentState.BECOME
    assert "sudo refused the password" in str(error)
    assert "Geheim" not in str(error)
    assert "Geheim" not in repr(error.__cause__)


def test_a_password_that_was_not_given(client: Client, login: Login, asked: User) -> None:
    state, reason = why(client.connect(login(asked)))
    assert state == AgentState.BECOME
    assert "--ask-become-pass" in reason


def test_noise_before_sudo_asks(client: Client, login: Login, asked: User) -> None:
    (asked.home / ".bashrc").write_text("echo welcome; echo careful >&2; set -vx\n")
    try:
        session = client.connect(login(asked), become_password=asked.password)
    finally:
        (asked.home / ".bashrc").unlink()
    session.send(b"x")
    assert read_until(session, b"x") == b"ok\nx"
    session.close()
    assert "great power" in session.ending()[1]
    assert asked.password not in session.ending()[1]


def test_root_needs_no_sudo(client: Client, login: Login) -> None:
    n1 = login("root")
    name = list(b"SUDO_UID")
    boot = f"import os;os.write(1,bytes([48+(bytes({name}).decode() in os.environ)]))"
    assert read_all(client.connect(n1, boot=boot, become_password="x")) == b"0"


def test_who_is_not_in_sudoers(client: Client, login: Login, place: Path) -> None:
    with temporary_user(place, "none") as user:
        state, reason = why(client.connect(login(user)))
        assert state == AgentState.BECOME
        assert "--ask-become-pass" in reason  # sudo asks before it tells
        error = client.refusal(login(user), become_password=user.password)
        assert error.state == AgentState.BECOME
        assert "does not let this user run /bin/sh as root" in str(error)


def test_who_may_run_other_commands_alone(client: Client, login: Login, place: Path) -> None:
    with temporary_user(place, "some", sudoers="{0} ALL=(ALL) NOPASSWD: /bin/true") as user:
        error = client.refusal(login(user), become_password=user.password)
        assert error.state == AgentState.BECOME
        assert "does not let this user run /bin/sh as root" in str(error)


def test_sudo_that_wants_a_terminal(client: Client, login: Login, place: Path) -> None:
    rules = "{0} ALL=(ALL) NOPASSWD: ALL\nDefaults:{0} requiretty"
    with temporary_user(place, "tty", sudoers=rules) as user:
        state, reason = why(client.connect(login(user)))
        assert state == AgentState.BECOME
        assert "requiretty" in reason


@pytest.fixture
def bare(tmp_path: Path, key: Path) -> Iterator[tuple[Sshd, Path]]:
    """An sshd whose sessions find their programs in an own directory, with env in it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "env").symlink_to(shutil.which("env") or "/usr/bin/env")
    options = {"SetEnv": f"PATH={programs}"}
    with run_sshd(tmp_path, [key], [make_key(tmp_path / "host")], options) as running:
        yield running, programs


def test_no_sudo_there(
    client: Client, bare: tuple[Sshd, Path], key: Path, trusted: User, tmp_path: Path
) -> None:
    server, _ = bare
    file = str(server.known_hosts(tmp_path / "kh"))
    n1 = node(server, user=trusted.name, identity_file=str(key), known_hosts=file, become="sudo")
    state, reason = why(client.connect(n1))
    assert state == AgentState.BECOME
    assert "sudo is not installed" in reason


def test_sudo_that_asks_for_something_else(
    client: Client, bare: tuple[Sshd, Path], key: Path, trusted: User, tmp_path: Path
) -> None:
    server, programs = bare
    (programs / "sudo").write_text('#!/bin/sh\necho "One-time code:" >&2; read code\n')
    (programs / "sudo").chmod(0o755)
    file = str(server.known_hosts(tmp_path / "kh"))
    n1 = node(server, user=trusted.name, identity_file=str(key), known_hosts=file, become="sudo")
    error = client.refusal(n1, become_password="Geheim", start=2)
    assert error.state == AgentState.BECOME
    assert "within 2 s (start timeout): One-time code:" in str(error)


def test_root_python_ends_with_its_session(
    client: Client, login: Login, asked: User, server: Sshd
) -> None:
    session = client.connect(login(asked), boot=ROOT, become_password=asked.password)
    read_until(session, b"0")
    pids = children(server.process.pid)
    pythons = [pid for pid in pids if b"-IBS" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    watched = [os.pidfd_open(pid) for pid in pythons]
    assert watched
    session.close()
    for pidfd in watched:
        with open(pidfd, "rb", buffering=0):
            assert readable(pidfd, 10)


def readable(file: int, seconds: float) -> bool:
    import select

    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


# This machine


@contextlib.contextmanager
def being(user: User) -> Iterator[None]:
    """Be that user, and root again afterwards."""
    entry = pwd.getpwnam(user.name)
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, 0)
    os.setresuid(entry.pw_uid, entry.pw_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


HERE = Node(
    name="n1", addresses=("192.0.2.1",), host="", connection=Connection.LOCAL, become="sudo"
)


def test_this_machine_without_a_password(trusted: User) -> None:
    with being(trusted):
        session = LocalConnector(Credentials(), Timeouts(), boot=ROOT).connect(HERE)
        with contextlib.closing(session):
            assert read_until(session, b"0") == b"0"


def test_this_machine_with_a_password(asked: User, trusted: User) -> None:
    credentials = Credentials(become_password=asked.password)
    for user in (asked, trusted):
        with being(user):
            session = LocalConnector(credentials, Timeouts(), boot=ECHO).connect(HERE)
            with contextlib.closing(session):
                session.send(b"hello")
                assert read_until(session, b"hello") == b"ok\nhello"


def test_this_machine_with_a_wrong_password(asked: User) -> None:
    connector = LocalConnector(Credentials(become_password="Geheim"), Timeouts(), boot=ECHO)
    with being(asked), pytest.raises(NodeError, match="refused the password") as caught:
        connector.connect(HERE)
    assert caught.value.state == AgentState.BECOME


def test_this_machine_without_the_password(asked: User) -> None:
    with being(asked):
        session = LocalConnector(Credentials(), Timeouts(), boot=ECHO).connect(HERE)
        with contextlib.closing(session):
            state, reason = why(session)
    assert state == AgentState.BECOME
    assert "--ask-become-pass" in reason
