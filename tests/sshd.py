"""Real sshd processes on loopback, the users and keys they know, for the tests of transport."""

import atexit
import contextlib
import fcntl
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from preflight.core.model import Connection, Node
from preflight.errors import NodeError
from preflight.transport.base import Credentials, Session, Timeouts
from preflight.transport.sshconnector import SshConnector

BOOT = "import os;os.write(1,bytes([111,107,10]));os.read(0,1)"
"""Says ok, and stays until its stdin has something or ends."""

ECHO = (
    "import os;os.write(1,bytes([111,107,10]));"
    "[os.write(1,d) for d in iter(lambda:os.read(0,65536),bytes())]"
)
"""Says ok, and repeats what it reads."""


def make_key(
    path: Path, kind: str = "ed25519", passphrase: str = "", bits: str = "", form: str = "RFC4716"
) -> Path:
    """A key pair at `path`. RSA keys are slow to make, so all of them are the same one."""
    if kind == "rsa":
        shutil.copy(_rsa(), path)
        _keygen("-p", "-P", "", "-N", passphrase, "-m", form, "-f", path)
        shutil.copy(f"{_rsa()}.pub", f"{path}.pub")
    else:
        size = ["-b", bits] if bits else []
        _keygen("-t", kind, *size, "-N", passphrase, "-m", form, "-C", path.name, "-f", path)
    return path


@functools.cache
def _rsa() -> Path:
    path = Path(tempfile.mkdtemp(prefix="preflight-test-")) / "rsa"
    atexit.register(shutil.rmtree, path.parent)
    _keygen("-t", "rsa", "-b", "2048", "-N", "", "-C", "rsa", "-f", path)
    return path


def _keygen(*words: str | Path) -> None:
    # One round of key derivation: passphrases need not withstand anybody here.
    subprocess.run(["ssh-keygen", "-q", "-a", "1", *words], check=True, stdout=subprocess.DEVNULL)


def public(key: Path) -> str:
    """The public half: type, key and comment."""
    return Path(f"{key}.pub").read_text().strip()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    """A running sshd."""

    process: "subprocess.Popen[str]"
    port: int
    host_keys: list[Path]
    config: Path
    log: list[str] = field(default_factory=list)

    def known_hosts(self, path: Path, host: str = "127.0.0.1", key: Path | None = None) -> Path:
        """Append a line for `host` at this port to the known_hosts file at `path`."""
        kind, blob = public(key or self.host_keys[0]).split()[:2]
        with path.open("a") as file:
            file.write(f"[{host}]:{self.port} {kind} {blob}\n")
        return path

    def logged(self, text: str) -> bool:
        """Whether its log holds `text`."""
        return any(text in line for line in self.log)


_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@functools.cache
def _knows(option: str) -> bool:
    command = [_SSHD, "-T", "-f", "/dev/null", "-h", str(_rsa()), "-o", option]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def run_sshd(
    directory: Path,
    keys: list[Path],
    host_keys: list[Path],
    options: Mapping[str, str] | None = None,
    address: str = "127.0.0.1",
) -> Iterator[Sshd]:
    """An sshd that lets in any user with one of `keys`, until the end of the block."""
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    place = directory / f"sshd-{port}"
    place.mkdir()
    let_others_in(place)
    (place / "authorized_keys").write_text("".join(f"{public(key)}\n" for key in keys))
    settings = {
        "AuthorizedKeysFile": str(place / "authorized_keys"),
        "KbdInteractiveAuthentication": "no",
        "ListenAddress": address,
        "LogLevel": "VERBOSE",
        "PasswordAuthentication": "no",
        "PerSourcePenalties": "no" if _knows("PerSourcePenalties=no") else "",
        "PermitRootLogin": "yes",
        "PidFile": "none",
        "Port": str(port),
        "PrintMotd": "no",
        "SetEnv": "SHLVL=2",  # keeps bash from reading root's .bashrc
        "StrictModes": "no",
        "UsePAM": "no",
        **(options or {}),
    }
    lines = [f"{name} {value}" for name, value in settings.items() if value]
    lines += [f"HostKey {key}" for key in host_keys]
    (place / "config").write_text("\n".join(lines) + "\n")
    command = [_SSHD, "-D", "-e", "-f", str(place / "config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        server = Sshd(process, port, host_keys, place / "config")
        assert process.stderr is not None
        for line in process.stderr:
            server.log.append(line)
            if "Server listening" in line:
                break
        else:
            raise AssertionError(f"sshd does not start: {server.log}")
        reader = threading.Thread(target=server.log.extend, args=(process.stderr,), daemon=True)
        reader.start()
        try:
            yield server
        finally:
            for pid in (*children(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            process.wait()
            reader.join()


def let_others_in(directory: Path) -> None:
    """pytest's own directories are closed to other users, whom sshd becomes to read keys."""
    top = Path(tempfile.gettempdir())
    for each in (directory, *directory.parents):
        if top in each.parents:
            each.chmod(each.stat().st_mode | 0o011)


def children(pid: int) -> list[int]:
    """All processes below `pid`."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    return found


@dataclass(frozen=True)
class User:
    """A user of this machine who exists for a test."""

    name: str
    home: Path
    password: str = field(repr=False)


@contextlib.contextmanager
def accounts() -> Iterator[None]:
    """Only one test at a time changes the machine's accounts: the tools lock unlike files."""
    with Path(tempfile.gettempdir(), "preflight-test-accounts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def temporary_user(
    directory: Path, label: str, shell: str = "/bin/bash", sudoers: str | None = None
) -> Iterator[User]:
    """A user with a password, and with `sudoers` as the end of a line for it."""
    name = f"pf{os.getpid()}{label}"
    home = directory / name
    home.mkdir()
    password = f"Pw-{os.urandom(6).hex()}"
    rule = Path(f"/etc/sudoers.d/preflight-{name}")
    with accounts():
        subprocess.run(["useradd", "-M", "-d", home, "-s", shell, name], check=True)
        subprocess.run(["chpasswd"], input=f"{name}:{password}", text=True, check=True)
    try:
        shutil.chown(home, name)
        let_others_in(home.parent)
        if sudoers is not None:
            rule.touch(mode=0o440)
            rule.write_text("".join(f"{line}\n" for line in sudoers.format(name).split("\n")))
        yield User(name, home, password)
    finally:
        rule.unlink(missing_ok=True)
        with accounts():
            subprocess.run(["userdel", "-f", name], check=True, capture_output=True)


class Client:
    """Makes connectors for tests, and takes care that nothing of them stays."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.notes: list[str] = []
        self.asked: list[str] = []
        self.answers: list[str] = []
        self._open: list[Session | SshConnector] = []

    def ask(self, prompt: str) -> str:
        """Answer a prompt with the next of `answers`."""
        self.asked.append(prompt)
        return self.answers.pop(0)

    def connector(
        self,
        *nodes: Node,
        config: str = "",
        boot: str = ECHO,
        password: str | None = None,
        become_password: str | None = None,
        accept_new: bool = False,
        **timeouts: float,
    ) -> SshConnector:
        """A connector, prepared."""
        file = self.directory / "ssh_config"
        file.write_text(config)
        connector = SshConnector(
            nodes,
            Credentials(password, become_password),
            Timeouts(**timeouts),
            boot=boot,
            accept_new_host_keys=accept_new,
            ask=self.ask,
            notify=self.notes.append,
            config_files=[file],
        )
        self._open.append(connector)
        connector.prepare()
        return connector

    def session(self, connector: SshConnector, node: Node) -> Session:
        """A session that is closed after the test."""
        session = connector.connect(node)
        self._open.append(session)
        return session

    def connect(self, node: Node, **how: Any) -> Session:
        """A session from a connector of its own."""
        return self.session(self.connector(node, **how), node)

    def refusal(self, node: Node, **how: Any) -> NodeError:
        """The error for a node that cannot be used."""
        connector = self.connector(node, **how)
        with pytest.raises(NodeError) as caught:
            connector.connect(node)
        assert "\n" not in str(caught.value)
        return caught.value

    def close(self) -> None:
        """Close all sessions, then all connectors."""
        for each in reversed(self._open):
            each.close()


def read_all(session: Session) -> bytes:
    """Everything to the end."""
    return b"".join(iter(session.receive, b""))


def read_until(session: Session, end: bytes) -> bytes:
    """Everything up to and with `end`, which must be the last that comes."""
    data = b""
    while not data.endswith(end):
        piece = session.receive()
        assert piece, f"it ended after {data!r}: {session.ending()}"
        data += piece
    return data


def say(stream: int, text: str) -> str:
    """Code without quotes that writes `text`, for boot code."""
    return f"__import__(bytes({list(b'os')}).decode()).write({stream},bytes({list(text.encode())}))"


def node(server: Sshd, name: str = "n1", **more: Any) -> Node:
    """An inventory's node on `server`."""
    values: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "user": "root", **more}
    return Node(name=name, addresses=("192.0.2.1",), connection=Connection.SSH, **values)


@contextlib.contextmanager
def run_agent(directory: Path, *keys: Path) -> Iterator[Path]:
    """An ssh-agent that holds `keys`, whose files have no passphrase; yields its socket's path."""
    path = directory / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        try:
            if keys:
                subprocess.run(
                    ["ssh-add", "-q", *keys], env={"SSH_AUTH_SOCK": str(path)}, check=True
                )
            yield path
        finally:
            process.kill()
            path.unlink(missing_ok=True)
