"""This machine as a node."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import BOOT, ECHO, children, read_all, read_until, say

from preflight.core.model import AgentState, Connection, Node
from preflight.errors import NodeError
from preflight.transport.base import Credentials, Session, Timeouts
from preflight.transport.command import explain_exit
from preflight.transport.local import LocalConnector

HERE = Node(name="n1", addresses=("192.0.2.1",), host="", connection=Connection.LOCAL)


@contextlib.contextmanager
def session(boot: str, node: Node = HERE, **timeouts: float) -> Iterator[Session]:
    connector = LocalConnector(Credentials(), Timeouts(**timeouts), boot=boot)
    connector.prepare()
    with contextlib.closing(connector), contextlib.closing(connector.connect(node)) as made:
        yield made


def test_bytes_go_both_ways() -> None:
    with session(ECHO) as here:
        assert read_until(here, b"ok\n") == b"ok\n"
        data = os.urandom(3 << 20)
        sender = threading.Thread(target=here.send, args=(data,))
        sender.start()
        assert read_until(here, data[-30:]) == data
        sender.join()


def test_the_end_has_a_status_and_a_reason() -> None:
    boot = ";".join((say(1, "out"), say(2, "a\n\x1b[1mb\n\n"), "raise SystemExit(7)"))
    with session(boot) as here:
        assert read_all(here) == b"out"
        assert here.ending() == (7, "a; b")
        with pytest.raises(NodeError, match="python on this machine was lost") as caught:
            here.send(b"x")
        assert caught.value.state == AgentState.LOST


def test_a_killed_python_has_no_status() -> None:
    with session("import os;os.kill(os.getpid(),9)") as here:
        assert read_all(here) == b""
        assert here.ending() == (None, "")


def test_much_on_stderr_does_not_stop_it() -> None:
    boot = f"import os;[os.write(2,bytes([120,10])*32768) for i in range(128)];{say(1, 'done')}"
    with session(boot) as here:
        assert read_all(here) == b"done"
        assert here.ending()[1].endswith("x; x")


def test_no_python() -> None:
    node = Node(
        name="n1", addresses=("192.0.2.1",), host="", connection=Connection.LOCAL, python="/no/py"
    )
    with session(BOOT, node) as here:
        assert read_all(here) == b""
        state, reason = explain_exit(*here.ending())
    assert state == AgentState.NO_PYTHON
    assert "/no/py cannot be run" in reason


def test_a_python_that_reads_nothing_is_given_up() -> None:
    boot = f"import time;{say(1, 'ok')};time.sleep(1000)"
    with session(boot, send=0.3) as here:
        assert here.receive() == b"ok"
        with pytest.raises(NodeError, match=r"took no data for 0.3 s \(send timeout\)") as caught:
            here.send(bytes(1 << 20))
        assert caught.value.state == AgentState.LOST


@pytest.mark.parametrize(
    "boot",
    [
        ECHO,
        f"import signal,time;{say(1, 'ok')};signal.signal(15,signal.SIG_IGN);time.sleep(1000)",
        f"import os,time;{say(1, 'ok')};os.fork();os.close(1);time.sleep(1000)",
    ],
)
def test_closing_leaves_nothing_behind(boot: str) -> None:
    before = set(children(os.getpid()))
    with session(boot) as here:
        here.receive()
        ours = [pid for pid in children(os.getpid()) if pid not in before]
        assert ours
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(read_all(here)))
        reader.start()
        here.close()
        here.close()
        reader.join(10)
        assert not reader.is_alive()
        assert not [pid for pid in ours if alive(pid)]
        with pytest.raises(NodeError, match="it was ended"):
            here.send(b"x")
        assert here.receive() == b""


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
