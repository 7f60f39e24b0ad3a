"""Real sshd processes on loopback, the users and keys they know, for the tests of transport."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from preflight.core.model import Connection, Node

BOOT = "import os;os.write(1,bytes([111,107,10]));os.read(0,1)"
"""Says ok, and stays until its stdin has something or ends."""

ECHO = (
    "import os;os.write(1,bytes([111,107,10]));"
    "[os.write(1,d) for d in iter(lambda:os.read(0,65536),bytes())]"
)
"""Says ok, and repeats what it reads."""


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "", **more: str) -> Path:
    """A new key pair at `path`."""
    options = [word for name, value in more.items() for word in (f"-{name}", value)]
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", path, *options],
        check=True,
    )
    return path


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
    (place / "authorized_keys").write_text("".join(f"{public(key)}\n" for key in keys))
    settings = {
        "AuthorizedKeysFile": str(place / "authorized_keys"),
        "KbdInteractiveAuthentication": "no",
        "ListenAddress": address,
        "LogLevel": "VERBOSE",
        "PasswordAuthentication": "no",
        "PerSourcePenalties": "",
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
    command = [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(place / "config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        server = Sshd(process, port, host_keys)
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
def temporary_user(
    directory: Path, label: str, shell: str = "/bin/bash", sudoers: str | None = None
) -> Iterator[User]:
    """A user with a password, and with `sudoers` as the end of a line for it."""
    name = f"pf{os.getpid()}{label}"
    home = directory / name
    home.mkdir()
    password = f"Pw-{os.urandom(6).hex()}"
    rule = Path(f"/etc/sudoers.d/preflight-{name}")
    subprocess.run(["useradd", "-M", "-d", home, "-s", shell, name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{password}", text=True, check=True)
        shutil.chown(home, name)
        for parent in home.parents:
            # pytest's own directories are closed to others.
            if str(parent).startswith("/tmp/"):
                parent.chmod(parent.stat().st_mode | 0o011)
        if sudoers is not None:
            rule.touch(mode=0o440)
            rule.write_text("".join(f"{line}\n" for line in sudoers.format(name).split("\n")))
        yield User(name, home, password)
    finally:
        rule.unlink(missing_ok=True)
        subprocess.run(["userdel", name], check=True, capture_output=True)


def node(server: Sshd, name: str = "n1", **more: object) -> Node:
    """An inventory's node on `server`."""
    values = {"host": "127.0.0.1", "port": server.port, "user": "root", **more}
    return Node(name=name, addresses=("192.0.2.1",), connection=Connection.SSH, **values)  # type: ignore[arg-type]
