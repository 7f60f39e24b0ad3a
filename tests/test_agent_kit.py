"""What the agent's tests share, and a first conversation with one agent, frame by frame."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from netns import NetnsConnector, PipeSession

from preflight import inventory
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Inventory, Node, Probe
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.craft.templates import template
from preflight.lab import Lab
from preflight.runs import check as run
from preflight.transport import bundle
from preflight.wire import marker

RUN, KEY = "0123456789abcdef", bytes(range(32))
PATIENCE_S = 20  # for what must happen; nothing here is measured by it
NUMBERS = {"udp": 17, "tcp": 6, "icmp": 1}
SYSTEM_PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable

# --- the agent's source, changed -----------------------------------------------------------------


def ship(patch: pytest.MonkeyPatch, edits: Sequence[tuple[str, str, str]]) -> None:
    """From now on agents run this source; an edit is (module, what stands there, what shall)."""
    original = bundle._source

    def source(name: str) -> str:
        text = original(name)
        for module, old, new in edits:
            if name == f"preflight.{module}":
                assert text.count(old) == 1, f"{name} has not one {old!r}"
                text = text.replace(old, new)
        return text

    patch.setattr(bundle, "_source", source)
    for name, value in list(vars(bundle).items()):
        if hasattr(value, "cache_clear"):  # both packed forms
            patch.setattr(bundle, name, cache(value.__wrapped__))


# --- one agent, spoken to by hand ----------------------------------------------------------------


class Agent:
    """One agent's process. What it should say is waited for; whoever is silent fails the test."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self._rest = b""
        self._started = False

    def say(self, *frames: Mapping[str, Any]) -> None:
        data = b"".join(bundle.encode(frame) for frame in frames)
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Its next frame."""
        while b"\n" not in self._rest or not self._started:
            if not self._started and marker(RUN) in self._rest:
                self._rest = self._rest.partition(marker(RUN))[2]
                self._started = True
                continue
            piece = self._piece()
            assert piece, (self.process.wait(PATIENCE_S), self.process.stderr.read())
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        frame: dict[str, Any] = json.loads(line)
        return frame

    def _piece(self) -> bytes:
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "the agent is silent"
        return os.read(self.process.stdout.fileno(), 1 << 16)

    def end(self) -> int:
        """Its exit status, once it has ended."""
        return int(self.process.wait(PATIENCE_S))


def pipes() -> dict[str, int]:
    return {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture
def agent(lab4: Lab) -> Iterator[Callable[..., Agent]]:
    """Starts agents by hand: `agent(node, argv of a python)`; they are booted, and not set up."""
    begun: list[Any] = []

    def start(node: str = "n1", python: Sequence[str] = (SYSTEM_PYTHON,), **options: Any) -> Agent:
        argv = (*python, "-IBS", "-u", "-c", bundle.BOOT)
        process: Any = lab4.popen(node, *argv, **{**pipes(), **options})
        begun.append(process)
        started = Agent(process)
        with suppress(BrokenPipeError):  # it would not start: the test asks why
            process.stdin.write(bundle.bootstrap(RUN))
            process.stdin.flush()
        return started

    yield start
    for process in begun:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                stream and stream.close()


def setup(lab: Lab, node: str) -> dict[str, Any]:
    """The first frame: GENEVE, health and echo over IPv4."""
    return {
        "t": "setup",
        "key": KEY.hex(),
        "me": [n.name for n in lab.nodes].index(node),
        "own": {"4": address(lab, node)},
        "udp": {"6081": 22},
        "tcp": [4240],
        "echo": True,
    }


def address(lab: Lab, node: str) -> str:
    return str(next(a for a in lab.node(node).addresses if ":" not in str(a)))


def peers(lab: Lab) -> dict[str, Any]:
    return {"t": "peers", "addresses": {"4": [address(lab, n.name) for n in lab.nodes]}}


def look(out: Sequence[int], come: Sequence[int], **fields: Any) -> dict[str, Any]:
    """A look frame for the three probes; `out` and `come` number the peers."""
    return {
        "t": "look", "number": 1, "rate": 5000, "taps": False, "settle": False,
        "cells": [cell(n, probe, out, come) for n, probe in enumerate((GENEVE, HEALTH, ECHO))],
    } | fields  # fmt: skip


def cell(number: int, probe: Probe, out: Sequence[int], come: Sequence[int]) -> dict[str, Any]:
    return {
        "probe": number, "family": 4, "protocol": NUMBERS[probe.protocol], "port": probe.port or 0,
        "count": 4, "full": 2 if probe is GENEVE else 0, "flows": 2, "gap": 0.001,
        "out": list(out), "in": list(come), "inert": [],
        "template": template(probe, Family.IPV4, harmless=False),
        "harmless": template(probe, Family.IPV4, harmless=True),
    }  # fmt: skip


# --- whole checks, without SSH -------------------------------------------------------------------


class Quiet:
    """Progress that nobody sees. `on` is called with each phase's text before it begins."""

    def __init__(self, on: Callable[[str], None] = lambda text: None) -> None:
        self.texts: list[str] = []
        self._on = on

    def phase(self, text: str, total: int) -> None:
        self.texts.append(text)
        self._on(text)

    def advance(self, node: str) -> None:
        pass

    def waiting(self, nodes: list[str]) -> None:
        pass

    def note(self, text: str) -> None:
        self.texts.append(text)


class Agents(NetnsConnector):
    """Agents in a lab's namespaces, which may hang: closing one waits for nobody."""

    class _Session(PipeSession):
        process: Any

        def close(self) -> None:
            with suppress(OSError):
                self.process.stdin.close()

    def __init__(self, popen: Callable[..., Any], python: Sequence[str]) -> None:
        super().__init__(popen, python)
        self._begun: list[Any] = []  # of all runs

    def connect(self, node: Node) -> PipeSession:
        process = super().connect(node).process
        self._begun.append(process)
        return self._Session(process)

    def ended(self) -> dict[str, int]:
        """Each agent's exit status; fails the test where one stays although nobody is there."""
        return {name: process.wait(PATIENCE_S) for name, process in self.processes.items()}

    def free(self) -> None:
        for process in self._begun:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                with suppress(OSError):
                    stream.close()


@pytest.fixture
def agents(lab4: Lab) -> Iterator[Agents]:
    """The connector for a check of `lab4`; what it started is gone after the test."""
    connector = Agents(lab4.popen, [SYSTEM_PYTHON])
    yield connector
    connector.free()


def nodes_of(lab: Lab) -> Inventory:
    return inventory.load(lab.inventory_path)


def check(
    lab: Lab, agents: NetnsConnector, progress: Quiet | None = None, **options: Any
) -> Snapshot:
    """One check of the whole lab; missing probes are waited for half a second."""
    wanted = CheckOptions(**{"timeout_s": 0.5, **options})
    return run.check(nodes_of(lab), wanted, lambda node: agents, progress or Quiet())


def told(snapshot: Snapshot, *, without: Sequence[str] = ()) -> set[str]:
    """All verdicts of a run, of cells that none of the nodes `without` is in."""
    names = [node.name for node in snapshot.matrix.nodes]
    away = {names.index(name) for name in without}
    return {
        str(cell.outcome.verdict)
        for cell in snapshot.matrix.cells()
        if not away & {cell.source, cell.destination}
    }


def told_of(snapshot: Snapshot, *nodes: str) -> dict[str, set[str]]:
    """Verdict -> causes, of all cells that one of these nodes is in."""
    names = [node.name for node in snapshot.matrix.nodes]
    chosen = {names.index(name) for name in nodes}
    out: dict[str, set[str]] = {}
    for cell in snapshot.matrix.cells():
        if chosen & {cell.source, cell.destination}:
            out.setdefault(str(cell.outcome.verdict), set()).add(str(cell.outcome.cause))
    return out


def drops(lab: Lab, where: str, hook: str, *matches: str) -> None:
    """Drop what matches, at `hook` of a node or of the router."""
    rules = "".join(f"{match} drop; " for match in matches)
    chain = f"type filter hook {hook} priority 0;"
    lab.nft(where, f"table inet broken {{ chain c {{ {chain} {rules}}}; }}")


# --- controllers in processes of their own -------------------------------------------------------

# argv: lab, python, options as JSON, source edits as JSON, nodes that never answer as JSON.
_CONTROLLER = """
import json, os, sys
from preflight.looks import lookout
from preflight.runs import check as run
from preflight.core.options import CheckOptions
from preflight.lab import Lab
from test_agent_kit import Agents, Quiet, nodes_of, pytest, ship
lab, python = Lab.find(sys.argv[1]), sys.argv[2]
options, edits, mute = map(json.loads, sys.argv[3:6])
def tell(text):
    os.write(1, (text + "\\n").encode())
ship(pytest.MonkeyPatch(), edits)
words = lookout.Lookout._last_words
def last_words(self, *arguments):
    tell("last words")
    words(self, *arguments)
lookout.Lookout._last_words = last_words
class Popen:
    def __call__(self, node, *argv, **pipes):
        return lab.popen(node, *(("sh", "-c", "cat >/dev/null") if node in mute else argv), **pipes)
class Telling(Quiet):
    def waiting(self, nodes):
        tell("waiting for " + " ".join(nodes))
agents = Agents(Popen(), [python])
snapshot = run.check(nodes_of(lab), CheckOptions(**options), lambda node: agents, Telling(tell))
names = [node.name for node in snapshot.matrix.nodes]
tell(json.dumps({
    "interrupted": snapshot.interrupted,
    "agents": {name: agent.state for name, agent in zip(names, snapshot.agents)},
    "cells": [[names[c.source], names[c.destination], c.outcome.verdict, c.outcome.cause]
              for c in snapshot.matrix.cells()]}))
"""


class Controller:
    """A process that runs one check; `heard` waits for a line that begins so."""

    def __init__(
        self,
        lab: Lab,
        options: Mapping[str, Any],
        edits: Sequence[tuple[str, str, str]] = (),
        mute: Sequence[str] = (),
    ) -> None:
        script = [sys.executable, "-c", _CONTROLLER, lab.name, SYSTEM_PYTHON]
        arguments = [json.dumps(what) for what in (options, edits, mute)]
        here = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here}"}
        self.process: Any = subprocess.Popen(
            [*script, *arguments], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def heard(self, beginning: str) -> str:
        for line in self.process.stdout:
            if line.startswith(beginning):
                return str(line)
        pytest.fail(f"the controller ended without {beginning!r}: {self.process.stderr.read()}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def result(self) -> dict[str, Any]:
        """What it measured, once it has ended."""
        out: dict[str, Any] = json.loads(self.heard("{"))
        assert self.process.wait(PATIENCE_S) == 0, self.process.stderr.read()
        return out

    def free(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def controller(lab4: Lab) -> Iterator[Callable[..., Controller]]:
    """Starts controllers of checks of `lab4`."""
    begun: list[Controller] = []

    def start(*arguments: Any, **keywords: Any) -> Controller:
        begun.append(Controller(lab4, *arguments, **keywords))
        return begun[-1]

    yield start
    for controller in begun:
        controller.free()


# --- the conversation ----------------------------------------------------------------------------


def test_one_agent_says_hello_and_reports_a_look_that_nobody_answers(
    agent: Callable[..., Agent], lab4: Lab
) -> None:
    one = agent("n1")
    one.say(setup(lab4, "n1"))
    hello = one.hear()
    assert (hello["t"], hello["state"]) == ("hello", "ok")
    assert hello["absent"] == []
    assert hello["udp"] == []
    assert hello["tcp"] == []
    assert hello["echo_ignored"] == []
    one.say(peers(lab4), look([1, 2, 3], [1, 2, 3]))
    assert one.hear() == {"t": "sent", "number": 1}
    one.say({"t": "drain", "wait": 0.1})
    report = one.hear()
    seen = report["seen"]
    assert seen["sent"] == []  # nothing differs from the plan
    everybody = [[c, p, 0] for c in (0, 1, 2) for p in (1, 2, 3)]
    assert seen["accepted"] == everybody  # their agents do not run
    assert seen["received"] == []  # but their kernels answer
    assert report["kinds"]["received"] == []
    assert report["lost"] == []
    assert report["send_errors"] == []
    assert all(us > 0 for us in report["rtt"]["2"])
    one.process.stdin.close()
    assert one.end() == 0


def test_two_agents_prove_all_seven_vantage_points(agent: Callable[..., Agent], lab4: Lab) -> None:
    both = [agent("n1"), agent("n3")]
    for one, name in zip(both, ("n1", "n3"), strict=True):
        one.say(setup(lab4, name))
        assert one.hear()["state"] == "ok"
        other = [2] if name == "n1" else [0]
        one.say(peers(lab4), bundle.taps(), look(other, other, taps=True))
    for one in both:
        assert one.hear() == {"t": "ready", "number": 1}
    for one in both:
        one.say({"t": "go"})
    for one in both:
        assert one.hear() == {"t": "sent", "number": 1}
    for one in both:
        one.say({"t": "drain", "wait": PATIENCE_S})  # both end sooner: everything arrives
    for one in both:
        report = one.hear()
        assert set(report["seen"]) == {
            "sent", "left", "arrived", "accepted", "answered", "returned", "received",
        }  # fmt: skip
        assert not any(report["seen"].values())
        assert not any(report["kinds"].values())
        assert report["neighbours"] == []
        assert report["sources"] == []


def test_an_address_of_another_node_is_told_to_be_absent(
    agent: Callable[..., Agent], lab4: Lab
) -> None:
    one = agent("n1")
    one.say(setup(lab4, "n1") | {"own": {"4": address(lab4, "n2")}})
    assert one.hear()["absent"] == [address(lab4, "n2")]


def test_noise_before_the_marker_does_no_harm(lab4: Lab, agents: Agents) -> None:
    agents._python = [
        "/bin/sh", "-c", 'echo motd; printf "\\0\\0PREFLIGHT-1 other\\n{}"; exec "$0" "$@"',
        SYSTEM_PYTHON,
    ]  # fmt: skip
    assert told(check(lab4, agents)) == {"open"}
