"""`preflight watch` as a user runs it: a process, real SSH, a terminal."""

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from test_agent_kit import drops

from preflight.lab import Lab
from preflight.lab.processes import processes_in
from preflight.store import load

pytestmark = pytest.mark.lab

PATIENCE_S = 60.0
LEAVE = b"\x1b[?25h\x1b[?1049l"


def command(lab: Lab, *arguments: object) -> list[str]:
    watch = ["watch", "-i", lab.inventory_path, "--interval", "1", "--timeout", "0.2"]
    watch += ["--family", "ipv4"]
    return [sys.executable, "-m", "preflight", *map(str, (*watch, *arguments))]


class Watch:
    """A watch whose JSON lines are read as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.heard: list[dict[str, Any]] = []

    def until(self, wanted: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
        """The next event that is `wanted`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            assert {"event", "time"} <= event.keys()
            self.heard.append(event)
            if wanted(event):
                return event
        raise AssertionError(f"it ended: {self.heard}")

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Its exit code; what it still says is heard."""
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=PATIENCE_S)
        self.heard += map(json.loads, out.splitlines())
        assert "Traceback" not in err
        return self.process.returncode


@contextmanager
def watching(lab: Lab, *arguments: object) -> Iterator[Watch]:
    argv = command(lab, "--format", "json", "--quiet", *arguments)
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, **pipes) as process:
        try:
            yield Watch(process)
        finally:
            process.kill()


def a_round(number: int) -> Callable[[Mapping[str, Any]], bool]:
    return lambda event: event["event"] == "round" and event["round"] >= number


def left_behind(lab: Lab) -> dict[str, list[str]]:
    """What stays of agents and tables; agents have seconds to notice that nobody is there."""
    end = time.monotonic() + PATIENCE_S
    while (found := _left(lab)) and time.monotonic() < end:
        pass
    return found


def _left(lab: Lab) -> dict[str, list[str]]:
    """Agents and tables in the nodes' namespaces."""
    out = {}
    for node in lab.nodes:
        commands = (command_line(pid) for pid in processes_in([Path("/run/netns", node.namespace)]))
        agents = [c for c in commands if "posix" in c]
        tables = lab.run(node.name, "nft", "list", "tables").stdout.split("\n")
        out[node.name] = [*agents, *(t for t in tables if "preflight" in t)]
    return {name: found for name, found in out.items() if found}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:  # it has just ended
        return ""


def test_it_ends_when_nobody_reads_it_any_more(lab4: Lab) -> None:
    """As if it had been interrupted: nothing is left on the nodes."""
    with watching(lab4, "--interval", "1", "--probe", "echo") as watch:
        watch.until(a_round(1))
        assert watch.process.stdout is not None
        watch.process.stdout.close()
        assert watch.process.wait(PATIENCE_S) == 130
    assert left_behind(lab4) == {}


def test_a_change_window(lab4: Lab, tmp_path: Path) -> None:
    """A firewall comes, is told, goes, is told; Ctrl-C ends it all, and nothing is left."""
    with watching(lab4, "--output", tmp_path) as one:
        began = one.until(lambda event: event["event"] == "began")
        assert began["schema"] == "preflight/watch/1"
        assert one.until(a_round(2))["verdicts"]["open"] == 36
        drops(lab4, "n2", "input", "udp dport 6081")
        blocked = one.until(lambda event: event["event"] == "change")
        assert (blocked["verdict"], blocked["place"]) == ("blocked", "destination")
        assert blocked["was"]["verdict"] == "open"
        assert blocked["where"] == "all → n2"
        assert {(c["source"], c["probe"]) for c in blocked["cells"]} == {
            (n, "geneve") for n in ("n1", "n3", "n4")
        }
        seen_in = one.until(a_round(1))
        assert seen_in["not_open"][0]["since"] == blocked["time"]
        lab4.drop_firewall("n2")
        opened = one.until(lambda event: event["event"] == "change")
        assert (opened["verdict"], opened["was"]["since"]) == ("open", blocked["time"])
        one.until(a_round(1))
        assert one.end() == 130
    assert one.heard[-1]["event"] == "ended"
    assert one.heard[-1]["why"] == "interrupted"
    rounds = {e["round"]: e for e in one.heard if e["event"] == "round"}
    assert rounds[blocked["round"] - 1]["time"] == blocked["time"]
    assert rounds[blocked["round"] - 1]["unconfirmed"] == 3
    assert sorted(rounds) == list(range(1, len(rounds) + 1))
    saved = sorted(map(str, tmp_path.iterdir()))
    assert [e["snapshot"] for e in rounds.values() if e["snapshot"]] == saved[:3]
    titles = [[f.title for f in load(path).findings] for path in saved]
    assert "n2 itself drops UDP 6081: nftables rule" in titles[1][0]
    assert titles[0] == titles[-1] == []
    assert left_behind(lab4) == {}


def test_its_exit_code_is_the_last_rounds(lab4: Lab) -> None:
    drops(lab4, "n2", "input", "udp dport 6081")
    done = subprocess.run(
        command(lab4, "--count", 2, "--no-diagnose"),
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout
    first, second, third, *_, last = done.stdout.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  watching 4 nodes, 12 ordered pairs", first)
    assert second.endswith("first round: 33 open, 3 blocked")
    assert third.endswith("geneve all → n2: blocked inside the destination, dropped (3 pairs)")
    assert last.endswith("ended: as many rounds as were asked for; 2 rounds")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--interval", "0.2"], "at least 1 s"),
        (["--interval", "soon"], "write it as seconds, or like 30s, 10m or 2h"),
        (["--for", "1e9"], "write it as seconds"),
        (["--output", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_a_wrong_argument_is_told_and_nobody_is_logged_in_to(
    lab4: Lab, arguments: list[str], says: str
) -> None:
    argv = command(lab4, *arguments)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr


# --- a terminal -----------------------------------------------------------------------------------


class Terminal:
    """A watch on a terminal of 80 by 24."""

    def __init__(self, argv: list[str]) -> None:
        self.shown = b""
        self._seen = 0
        child, self._terminal = pty.fork()
        if child == 0:  # pragma: no cover
            os.environ |= {"TERM": "xterm", "NO_COLOR": "1"}
            os.execv(argv[0], argv)
        self.child = child
        ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def until(self, text: bytes) -> None:
        """Read on until `text` is shown, after what was waited for before."""
        while (at := self.shown.find(text, self._seen)) < 0:
            assert self.read(), self.shown[-3000:]
        self._seen = at + len(text)

    def read(self) -> bytes:
        """What comes next; empty at the end."""
        ready, _, _ = select.select([self._terminal], [], [], PATIENCE_S)
        try:
            piece = os.read(self._terminal, 65536) if ready else b""
        except OSError:
            piece = b""
        self.shown += piece
        return piece

    def key(self, key: bytes) -> None:
        """Press it."""
        os.write(self._terminal, key)

    def end(self) -> int:
        """Its exit code, once all is read."""
        while self.read():
            pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_the_terminal_is_given_back(lab4: Lab, how: signal.Signals) -> None:
    drops(lab4, "n2", "input", "udp dport 6081")
    one = Terminal(command(lab4, "--no-diagnose"))
    one.until(b"round 1 at")
    one.until(b"Not open")
    if how is signal.SIGINT:
        one.key(b"\x03")
    else:
        os.kill(one.child, how)
    assert one.end() == 130
    live, _, after = one.shown.rpartition(LEAVE)
    assert live.count(b"\x1b[?1049h") == live.count(LEAVE) + 1
    assert b"\x1b" not in after
    text = after.decode()
    assert "Before Cilium, 4 nodes, 12 ordered pairs, IPv4" in text  # the whole report
    assert "ended: interrupted" in text
    assert left_behind(lab4) == {}


def test_ctrl_z_gives_the_terminal_back_for_as_long_as_it_takes(lab4: Lab) -> None:
    """In a shell, since a process without one is not stopped."""
    bash = shutil.which("bash")
    assert bash is not None, "bash is not installed: it has the job control that this needs"
    one = Terminal([bash, "--norc", "--noprofile", "-i"])
    one.key(shlex.join(command(lab4, "--no-diagnose")).encode() + b"\n")
    one.until(b"round 1 at")
    one.key(b"\x1a")
    one.until(LEAVE)
    one.until(b"Stopped")
    one.key(b"fg\n")
    one.until(b"\x1b[?1049h")
    one.until(b"round ")
    one.key(b"\x03")
    one.until(LEAVE)
    one.until(b"ended: interrupted")
    one.key(b"exit\n")
    assert one.end() == 130
