"""The agent under every Python of this machine, 3.6 and newer; older ones end with one line."""

import functools
import glob
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable

import pytest
import test_agent_kit as kit
from test_agent_kit import Agent, Agents, Quiet, check, drops, nodes_of, told, told_of

from preflight.core.model import AgentState
from preflight.core.options import CheckOptions
from preflight.lab import Lab
from preflight.runs import check as run
from preflight.transport import bundle
from preflight.transport.command import OLD_PYTHON, explain_exit

agent, agents = kit.agent, kit.agents
_PLACES = (
    "/usr/bin", "/usr/local/bin", "/usr/libexec",
    os.path.expanduser("~/.pyenv/versions/*/bin"),
)  # fmt: skip
_NAMES = (
    *bundle._FIRST, *bundle._TAPS, *bundle._OVERLAY, *bundle._EAR, *bundle._LINKS, *bundle._DEEP,
)  # fmt: skip
_MODULES = [name for name, _ in bundle.modules(_NAMES)]


@functools.cache
def found() -> dict[tuple[int, ...], str]:
    """An interpreter for each version that this machine has, whatever it is."""
    names = ("python", "python2", "python3", "python3.[0-9]", "python3.[0-9][0-9]",
             "platform-python", "pypy3")  # fmt: skip
    paths = [p for place in _PLACES for name in names for p in glob.glob(f"{place}/{name}")]
    paths += [p for name in names if (p := shutil.which(name))]
    out: dict[tuple[int, ...], str] = {}
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        with open(path, "rb") as file:
            if file.read(2) == b"#!":  # pyenv's shims and the like
                continue
        asked = subprocess.run(
            [path, "-c", "import sys; print(list(sys.version_info[:3]))"],
            capture_output=True, check=False,
        )  # fmt: skip
        if asked.returncode == 0:
            out.setdefault(tuple(json.loads(asked.stdout)), path)
    return out


def usable() -> list[str]:
    """The interpreters that the agent promises to run under, a version each."""
    minors = {version[:2]: path for version, path in sorted(found().items())}
    return [path for version, path in minors.items() if version >= (3, 6)]


def test_there_is_a_python_to_test() -> None:
    assert usable()


@pytest.mark.parametrize("python", usable())
def test_its_source_is_of_python_3_6(python: str) -> None:
    """Each of them compiles every module, with warnings as errors."""
    modules = bundle.modules(tuple(_MODULES))
    code = f"for name, source in {modules!r}: compile(source, name, 'exec', 0, True)"
    done = subprocess.run([python, "-IBSW", "error", "-"], input=code.encode(), check=False,
                          capture_output=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def test_its_source_compiles_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, source in bundle.modules(tuple(_MODULES)):
            compile(source, name, "exec", dont_inherit=True)


def teams() -> list[list[str]]:
    """Four Pythons at a time, each of them at least once."""
    pythons = usable()
    return [(pythons[at:] + pythons * 4)[:4] for at in range(0, len(pythons), 4)]


@pytest.mark.parametrize("team", teams(), ids=lambda team: "-".join(team[0].split("/")[-3:]))
def test_it_looks_twice(lab4: Lab, team: list[str]) -> None:
    """All nodes run another Python; a first look, and a second one with every vantage point."""
    drops(lab4, "fw", "forward", "tcp dport 4240")
    names = [node.name for node in lab4.nodes]
    connectors = {name: Agents(lab4.popen, [p]) for name, p in zip(names, team, strict=True)}
    progress = Quiet()
    try:
        options = CheckOptions(timeout_s=0.3)
        snapshot = run.check(nodes_of(lab4), options, lambda n: connectors[n.name], progress)
        assert all(c.ended() == {name: 0} for name, c in connectors.items())
    finally:
        for connector in connectors.values():
            connector.free()
    assert any(text.startswith("second look") for text in progress.texts)
    versions = {path: ".".join(map(str, version)) for version, path in found().items()}
    assert [a.state for a in snapshot.agents] == [AgentState.OK] * 4
    assert [a.python for a in snapshot.agents] == [versions[python] for python in team]
    for cell in snapshot.matrix.cells():
        crosses = lab4.nodes[cell.source].rack != lab4.nodes[cell.destination].rack
        blocked = crosses and snapshot.matrix.probes[cell.probe].name == "health"
        assert cell.outcome.verdict == ("blocked" if blocked else "open"), cell
        if blocked:
            assert cell.outcome.place == "path"
            assert cell.outcome.evidence[:4] == (5, 5, 0, 0)


def test_bytecode_is_not_run_by_a_python_of_another_kind(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled form says that it is for somebody else: everybody compiles the source."""
    monkeypatch.setattr(bundle, "MAGIC_NUMBER", b"\0\0\r\n")
    monkeypatch.setattr(bundle, "_compiled", lambda: b"no bytecode at all")
    assert told(check(lab4, agents)) == {"open"}


def test_a_python_that_is_too_old_says_so_in_one_line(
    agent: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_LOADER", bundle._LOADER.replace("(3, 6)", "(9, 6)"))
    one = agent("n1")
    status, said = one.end(), one.process.stderr.read().decode()
    assert status == OLD_PYTHON
    assert len(said.splitlines()) == 1
    assert "the agent needs 3.6" in said
    assert explain_exit(status, said)[0] is AgentState.NO_PYTHON


@pytest.mark.parametrize("python", [p for version, p in found().items() if version < (3, 6)])
def test_an_old_python_is_told_from_a_failure(agent: Callable[..., Agent], python: str) -> None:
    """Python 2 knows no -I, and never reads what says the rest."""
    one = agent("n1", [python])
    state, reason = explain_exit(one.end(), one.process.stderr.read().decode())
    assert state is AgentState.NO_PYTHON
    assert "older than 3.6" in reason


def test_a_node_with_an_old_python_costs_its_own_cells_only(lab4: Lab, agents: Agents) -> None:
    says = "echo preflight: /usr/bin/python3 is Python 3.4, the agent needs 3.6 >&2; exit 98"
    old = Agents(lab4.popen, ["/bin/sh", "-c", says])
    try:
        snapshot = run.check(
            nodes_of(lab4),
            CheckOptions(timeout_s=0.3),
            lambda n: old if n.name == "n2" else agents,
            Quiet(),
        )
    finally:
        old.free()
    states = {n.name: a.state for n, a in zip(snapshot.matrix.nodes, snapshot.agents, strict=True)}
    assert states == {"n1": "ok", "n2": "no-python", "n3": "ok", "n4": "ok"}
    assert told(snapshot, without=["n2"]) == {"open"}
    assert told_of(snapshot, "n2") == {"unknown": {"no-agent"}}
