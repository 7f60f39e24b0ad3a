"""Whole checks in which agents die or hang, the controller is killed, or the user has enough.

The rule that every test here holds the run to: what is not known is `unknown`, never an accusation.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import test_agent_kit as kit
from test_agent_kit import PATIENCE_S, Agents, Controller, Quiet, check, drops, ship, told

from preflight.core.matrix import Cell
from preflight.core.model import AgentState
from preflight.core.snapshot import Snapshot
from preflight.crew import chorus, muster
from preflight.lab import Lab
from preflight.lab.processes import processes_in

agents, controller = kit.agents, kit.controller
Edit = tuple[str, str, str]
Start = Callable[..., Controller]

_READY = '                self._say({"t": "ready", "number": look.number})\n'
_SENT = '            self._say({"t": "sent", "number": look.number})\n'
_DONE = "            self._lost(look, tap)\n"
_TOLD = "        self._say(out)\n"
_BURST = "        bit = 1 << sequence\n"


def dies(nodes: Sequence[int], number: int, line: str, how: signal.Signals, when: str = "") -> Edit:
    """Those nodes' agents send themselves a signal in that look, just before that line."""
    me = "self._setup['me']" if line is not _BURST else "look.run.me"
    indent = line[: len(line) - len(line.lstrip())]
    condition = f"{me} in {tuple(nodes)} and look.number == {number}{when and f' and {when}'}"
    kill = f"posix.kill(posix.getpid(), {how.value})"
    shot = f"{indent}if {condition}:\n{indent}    import posix\n{indent}    {kill}\n"
    return ("agent.main" if line is not _BURST else "agent.send", line, shot + line)


_KILL, _STOP = signal.SIGKILL, signal.SIGSTOP
_N2 = (1,)
_HALF_A_REPORT: Edit = (
    "agent.main",
    _TOLD,
    "        if self._setup['me'] == 1:\n"
    "            data = wire.encode(out)\n"
    "            posix.write(self._outgoing, data[: len(data) // 2])\n"
    "            posix.kill(posix.getpid(), 9)\n" + _TOLD,
)
_IN_THE_FIRST_LOOK = {
    "sending its first SYNs": dies(_N2, 1, _BURST, _KILL, "cell.protocol == 6"),
    "sending GENEVE": dies(_N2, 1, _BURST, _KILL, "cell.protocol == 17 and sequence == 7"),
    "having sent": dies(_N2, 1, _SENT, _KILL),
    "before its report": dies(_N2, 1, _DONE, _KILL),
    "within its report": _HALF_A_REPORT,
}
_IN_THE_SECOND_LOOK = {
    "before it is ready": dies(_N2, 2, _READY, _KILL),
    "sending": dies(_N2, 2, _BURST, _KILL, "sequence == 2"),
    "before its report": dies(_N2, 2, _DONE, _KILL),
}


class Hurried(Quiet):
    """Whoever is waited for alone has used up all its time, and that has cost us none."""

    def __init__(self) -> None:
        super().__init__()
        self._late = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._late

    def waiting(self, nodes: list[str]) -> None:
        if nodes == ["n2"]:
            self._late += 1000


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Hurried:
    progress = Hurried()
    for module in (chorus, muster):
        monkeypatch.setattr(module, "time", progress)
    return progress


def blocked_in_truth(lab: Lab, snapshot: Snapshot, cell: Cell) -> bool:
    """The router drops health between the racks; everything else is open."""
    crosses = lab.nodes[cell.source].rack != lab.nodes[cell.destination].rack
    return crosses and snapshot.matrix.probes[cell.probe].name == "health"


def verify(lab: Lab, snapshot: Snapshot, lost: Sequence[int], *, health: bool = True) -> None:
    """Cells without lost nodes are decided, and right; the others are right or unknown."""
    for cell in snapshot.matrix.cells():
        truth = "blocked" if health and blocked_in_truth(lab, snapshot, cell) else "open"
        told = cell.outcome.verdict
        if {cell.source, cell.destination} & set(lost):
            assert told in (truth, "unknown"), cell
            if told == "unknown":
                assert cell.outcome.cause in ("no-agent", "not-watched"), cell
        else:
            assert told == truth, cell
    for node, info in enumerate(snapshot.agents):
        assert info.state == (AgentState.LOST if node in lost else AgentState.OK), info


# --- agents that die or hang ---------------------------------------------------------------------


@pytest.mark.parametrize("moment", _IN_THE_FIRST_LOOK)
def test_an_agent_is_killed_in_the_first_look(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    ship(monkeypatch, [_IN_THE_FIRST_LOOK[moment]])
    snapshot = check(lab4, agents)
    verify(lab4, snapshot, _N2, health=False)
    assert agents.ended() == {"n1": 0, "n2": -signal.SIGKILL, "n3": 0, "n4": 0}
    if moment in ("having sent", "before its report", "within its report"):
        # Its GENEVE had arrived by then, and those who saw it prove it.
        sent = [c for c in snapshot.matrix.cells() if c.source == 1 and c.probe == 0]
        assert {c.outcome.verdict for c in sent} == {"open"}


@pytest.mark.parametrize("moment", _IN_THE_FIRST_LOOK)
def test_what_a_killed_agent_never_sent_has_not_arrived(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The second look is made without it: nobody is told to expect it, nor misses anything."""
    drops(lab4, "n2", "output", "udp dport 6081")
    ship(monkeypatch, [_IN_THE_FIRST_LOOK[moment]])
    snapshot = check(lab4, agents)
    sent = [c for c in snapshot.matrix.cells() if c.source == 1 and c.probe == 0]
    assert {c.outcome.verdict for c in sent} <= {"blocked", "unknown"}
    for cell in sent:
        assert not cell.outcome.evidence.arrived
        assert not cell.outcome.evidence.accepted


@pytest.mark.parametrize("moment", _IN_THE_SECOND_LOOK)
def test_an_agent_is_killed_in_the_second_look(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    drops(lab4, "fw", "forward", "tcp dport 4240")
    ship(monkeypatch, [_IN_THE_SECOND_LOOK[moment]])
    snapshot = check(lab4, agents)
    verify(lab4, snapshot, _N2)
    assert agents.ended()["n2"] == -signal.SIGKILL
    assert (snapshot.agents[1].reason or "").endswith("what it had told by then counts")
    for cell in snapshot.matrix.cells():  # what was proved before stays
        if not blocked_in_truth(lab4, snapshot, cell):
            assert cell.outcome.verdict == "open"


def test_half_of_the_agents_die_midway(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n1 in the first look, n3 in the second: n2 and n4 have their results, blocked ones too."""
    drops(lab4, "fw", "forward", "tcp dport 4240")
    ship(
        monkeypatch,
        [
            dies((0,), 1, _BURST, _KILL, "cell.protocol == 17 and sequence == 3"),
            dies((2,), 2, _DONE, _KILL),
        ],
    )
    verify(lab4, check(lab4, agents), (0, 2))


@pytest.mark.parametrize(
    "edit",
    [
        dies(_N2, 1, _BURST, _STOP, "cell.protocol == 17 and sequence == 7"),
        dies(_N2, 1, _DONE, _STOP),
        dies(_N2, 2, _READY, _STOP),
        dies(_N2, 2, _BURST, _STOP, "sequence == 2"),
    ],
    ids=["sending", "before its report", "before it is ready", "sending again"],
)
def test_an_agent_hangs(
    lab4: Lab, agents: Agents, hurried: Hurried, monkeypatch: pytest.MonkeyPatch, edit: Edit
) -> None:
    drops(lab4, "fw", "forward", "tcp dport 4240")
    ship(monkeypatch, [edit])
    snapshot = check(lab4, agents, hurried)
    verify(lab4, snapshot, _N2)
    assert "not done" in str(snapshot.agents[1].reason)


def test_an_agent_hangs_before_its_first_word(
    lab4: Lab, agents: Agents, hurried: Hurried, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = "        hello.update(host.identity())\n"
    hang = "        if setup['me'] == 1:\n            posix.kill(posix.getpid(), 19)\n"
    ship(monkeypatch, [("agent.main", old, hang + old)])
    snapshot = check(lab4, agents, hurried)
    assert snapshot.agents[1].state is AgentState.FAILED
    reason = str(snapshot.agents[1].reason)
    assert "has said nothing" in reason
    assert "`ping -M do -s 1472 NODE` is not answered" in reason
    assert told(snapshot, without=["n2"]) == {"open"}
    causes = kit.told_of(snapshot, "n2")
    assert causes == {"unknown": {"no-agent"}}


def test_all_agents_die(lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(monkeypatch, [dies((0, 1, 2, 3), 1, _SENT, _KILL)])
    snapshot = check(lab4, agents)
    verify(lab4, snapshot, (0, 1, 2, 3), health=False)
    assert told(snapshot) == {"unknown"}


def test_an_agent_that_is_slow_to_start_is_waited_for(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others send to it before it has been told of a look: its sockets keep that for it."""
    old = '            elif kind == "look":\n'
    slow = old + "                __import__('time').sleep(0.3 * (self._setup['me'] == 1))\n"
    ship(monkeypatch, [("agent.main", old, slow)])
    assert told(check(lab4, agents)) == {"open"}


# --- a controller that is killed -----------------------------------------------------------------


@pytest.fixture
def bystanders(lab4: Lab) -> Iterator[Callable[[], set[int]]]:
    """The processes in the nodes' namespaces that were not there before the test."""
    places = [Path("/run/netns") / node.namespace for node in lab4.nodes]
    before = set(processes_in(places))
    yield lambda: set(processes_in(places)) - before
    assert set(processes_in(places)) <= before


def ends(pids: set[int]) -> None:
    """Wait until none of these processes, which are not our children, is left."""
    poll = select.poll()
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
        poll.register(handles[-1], select.POLLIN)
    left = set(handles)
    while left:
        ready = poll.poll(PATIENCE_S * 1000)
        assert ready, f"{len(left)} agents are still there"
        for handle, _ in ready:
            poll.unregister(handle)
            left.discard(handle)
    for handle in handles:
        os.close(handle)


def test_a_controller_that_is_killed_leaves_no_agent(
    controller: Start, bystanders: Callable[[], set[int]]
) -> None:
    one = controller({"rate": 20})
    one.heard("first look")
    there = bystanders()
    assert len(there) == 4
    one.process.kill()
    one.process.wait()
    ends(there)


# --- Ctrl-C --------------------------------------------------------------------------------------


def verdicts(result: dict[str, list[list[str]]]) -> dict[tuple[str, str | None], int]:
    counts: dict[tuple[str, str | None], int] = {}
    for _, _, verdict, cause in result["cells"]:
        counts[verdict, cause] = counts.get((verdict, cause), 0) + 1
    return counts


def test_ctrl_c_while_connecting(controller: Start, bystanders: Callable[[], set[int]]) -> None:
    """n3 never answers: what is told is that nothing is known."""
    one = controller({}, mute=["n3"])
    one.heard("connecting")
    one.interrupt()
    result = one.result()
    assert result["interrupted"]
    assert {verdict for verdict, _ in verdicts(result)} == {"unknown"}
    assert result["agents"]["n3"] == "failed"
    ends(bystanders())


def test_ctrl_c_in_the_first_look(controller: Start, bystanders: Callable[[], set[int]]) -> None:
    """It would take minutes; the agents stop sending and say what they have seen so far."""
    one = controller({"rate": 20})
    one.heard("first look")
    one.heard("waiting")
    one.interrupt()
    result = one.result()
    assert result["interrupted"]
    assert set(verdicts(result)) <= {("open", None), ("unknown", "interrupted")}
    assert ("unknown", "interrupted") in verdicts(result)
    assert set(result["agents"].values()) == {"ok"}
    ends(bystanders())


def test_ctrl_c_in_the_second_look(
    lab4: Lab, controller: Start, bystanders: Callable[[], set[int]]
) -> None:
    """What the first look proved is told; what the second would have told is not guessed."""
    drops(lab4, "fw", "forward", "tcp dport 4240")
    one = controller({"timeout_s": 60})
    one.heard("second look")
    one.heard("waiting")
    one.interrupt()
    result = one.result()
    assert result["interrupted"]
    assert verdicts(result) == {("open", None): 56, ("unknown", "interrupted"): 16}
    ends(bystanders())


def test_a_second_ctrl_c_ends_it_at_once(
    controller: Start, bystanders: Callable[[], set[int]]
) -> None:
    """n2 hangs, so that its last words are waited for; nobody has to."""
    hang = dies(_N2, 1, _BURST, _STOP)
    one = controller({"rate": 20}, edits=[hang])
    one.heard("first look")
    one.heard("waiting")
    one.interrupt()
    one.heard("last words")
    there = bystanders()
    one.interrupt()
    out, err = one.process.communicate(timeout=PATIENCE_S)
    assert "KeyboardInterrupt" in err
    assert "{" not in out  # no snapshot
    for pid in there:
        if is_stopped(pid):
            os.kill(pid, signal.SIGKILL)
    ends(there)


def is_stopped(pid: int) -> bool:
    try:
        return "State:\tT" in Path(f"/proc/{pid}/status").read_text("ascii")
    except FileNotFoundError:
        return False


# --- a malicious node ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        "out['rtt'] = {'99': [1, 2, 3]}",
        "out['errors'] = [[0, 0, '\\x1b[2J', 3, 3]]",
        "out['number'] = [1]",
        "posix.write(self._outgoing, b'[' * 100_000 + b'\\n')",
    ],
)
def test_a_report_that_makes_no_sense_costs_its_own_node(
    lab4: Lab, agents: Agents, hurried: Hurried, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """More lies are in test_collect."""
    lies = f"        if self._setup['me'] == 1:\n            {lie}\n"
    ship(monkeypatch, [("agent.main", _TOLD, lies + _TOLD)])
    snapshot = check(lab4, agents, hurried, timeout_s=0.1)
    assert snapshot.agents[1].state in (AgentState.FAILED, AgentState.LOST)
    assert told(snapshot, without=["n2"]) == {"open"}
    assert told(snapshot) <= {"open", "unknown"}


@pytest.mark.parametrize(
    "lie",
    [
        "del hello['udp']",
        "hello['tcp'] = 4240",
        "hello['served'] = {'4': 1}",
        "hello['t'] = 'report'",
        "hello['kernel'] = '\\x1b[2J'",
    ],
)
def test_first_words_that_make_no_sense_cost_their_own_node(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    line = "        return hello\n\n    def _open"
    lies = f"        if setup['me'] == 1:\n            {lie}\n"
    ship(monkeypatch, [("agent.main", line, lies + line)])
    snapshot = check(lab4, agents, timeout_s=0.1)
    assert snapshot.agents[1].state is AgentState.FAILED
    assert "\x1b" not in str(snapshot.agents[1])
    assert told(snapshot, without=["n2"]) == {"open"}
    assert told(snapshot) <= {"open", "unknown"}
