"""One agent's privileges, and its end: whatever happens to the controller, it is gone."""

import fcntl
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest
import test_agent_kit as kit
from test_agent_kit import (
    PATIENCE_S,
    SYSTEM_PYTHON,
    Agent,
    Agents,
    check,
    drops,
    look,
    peers,
    setup,
    ship,
    told,
    told_of,
)

from preflight.core.model import AgentState
from preflight.core.options import CheckOptions
from preflight.lab import Lab
from preflight.runs import check as run
from preflight.transport import bundle

agent, agents = kit.agent, kit.agents
_NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
_RAW_ALONE = (*_NOBODY, "--inh-caps", "+net_raw", "--ambient-caps", "+net_raw")
_BRIEF = ("wire", "SILENCE_S = 10", "SILENCE_S = 1")
Start = Callable[..., Agent]


def gone(one: Agent) -> bool:
    """True where nothing of the process is left but the status that we have reaped."""
    one.end()
    return not os.path.exists(f"/proc/{one.process.pid}")


# --- privilege -----------------------------------------------------------------------------------


def test_an_unprivileged_agent_says_so(agent: Start, lab4: Lab) -> None:
    one = agent("n1", (*_NOBODY, SYSTEM_PYTHON))
    one.say(setup(lab4, "n1"))
    assert one.hear()["state"] == "no-privilege"
    one.process.stdin.close()
    assert one.end() == 0


def test_a_node_without_privilege_is_a_row_with_its_reason(lab4: Lab, agents: Agents) -> None:
    plain = Agents(lab4.popen, [*_NOBODY, SYSTEM_PYTHON])
    try:
        snapshot = run.check(
            kit.nodes_of(lab4),
            CheckOptions(timeout_s=0.3),
            lambda n: plain if n.name == "n2" else agents,
            kit.Quiet(),
        )
    finally:
        plain.free()
    info = snapshot.agents[1]
    assert info.state is AgentState.NO_PRIVILEGE
    assert "CAP_NET_RAW" in str(info.reason)
    assert told(snapshot, without=["n2"]) == {"open"}
    assert told_of(snapshot, "n2") == {"unknown": {"no-agent"}}


def test_cap_net_raw_alone_is_enough(lab4: Lab, agents: Agents) -> None:
    """Two looks, the second with taps; no buffer can be forced, and nobody is accused."""
    drops(lab4, "n4", "input", "udp dport 6081")
    agents._python = [*_RAW_ALONE, SYSTEM_PYTHON]
    snapshot = check(lab4, agents)
    assert {info.state for info in snapshot.agents} == {AgentState.OK}
    assert told(snapshot, without=["n4"]) == {"open"}
    accused = [c for c in snapshot.matrix.cells() if c.outcome.verdict != "open"]
    assert {(c.destination, c.outcome.verdict, c.outcome.place) for c in accused} == {
        (3, "blocked", "destination")
    }
    assert {snapshot.matrix.probes[c.probe].name for c in accused} == {"geneve"}


def test_cap_net_raw_alone_under_load_accuses_nobody(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All probes at once, into buffers of the default size."""
    agents._python = [*_RAW_ALONE, SYSTEM_PYTHON]
    ship(monkeypatch, [("agent.main", "_BUFFER = 4 << 20", "_BUFFER = 1 << 12")])
    assert told(check(lab4, agents, rate=1_000_000)) <= {"open", "unknown"}


# --- the end -------------------------------------------------------------------------------------


def test_it_goes_when_its_input_ends(agent: Start, lab4: Lab) -> None:
    one = agent("n1")
    one.say(setup(lab4, "n1"))
    one.hear()
    one.process.stdin.close()
    assert one.end() == 0
    assert gone(one)


def test_it_goes_when_its_input_ends_before_it_is_there(lab4: Lab) -> None:
    """Cut off in the middle of its own source."""
    source = bundle.bootstrap(kit.RUN)
    for length in (0, 1, 700, len(source) // 2, len(source) - 1):
        process = lab4.popen("n1", SYSTEM_PYTHON, "-IBS", "-u", "-c", bundle.BOOT, **kit.pipes())
        _, said = process.communicate(source[:length], timeout=PATIENCE_S)
        assert process.returncode == bundle.NO_INPUT_STATUS
        assert said == b""


def test_it_goes_when_nobody_says_a_word(
    agent: Start, lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is lost sends no end of file: the input stays open, and silent."""
    ship(monkeypatch, [_BRIEF])
    booted, greeted, sending, ready, draining = [agent("n1") for _ in range(5)]
    for one in (greeted, sending, ready, draining):
        one.say(setup(lab4, "n1"))
        assert one.hear()["state"] == "ok"
    sending.say(peers(lab4), look([1, 2], [1, 2], rate=0.01))  # would take an hour
    ready.say(peers(lab4), bundle.taps(), look([1, 2], [1, 2], taps=True))
    assert ready.hear()["t"] == "ready"
    draining.say(peers(lab4), look([1, 2], [1, 2]), {"t": "drain", "wait": 3600})
    for one in (booted, greeted, sending, ready, draining):
        assert one.end() == -signal.SIGALRM
        assert gone(one)


def test_a_sign_of_life_keeps_it(agent: Start, lab4: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats alone, for longer than it would stay in silence."""
    ship(monkeypatch, [_BRIEF])
    one = agent("n1")
    one.say(setup(lab4, "n1"))
    assert one.hear()["state"] == "ok"
    one.say(peers(lab4), look([1], [], settle=True))
    assert one.hear()["t"] == "sent"
    one.say({"t": "drain", "wait": 1.6})
    beats = 0
    while not select.select([one.process.stdout], [], [], 0.4)[0]:
        one.say({"t": "beat"})
        beats += 1
    assert one.hear()["t"] == "report"
    assert beats >= 3


def test_it_goes_when_nobody_reads_what_it_says(
    agent: Start, lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stuck in a write it cannot hear a beat either: the alarm ends it."""
    ship(monkeypatch, [_BRIEF])
    read, write = os.pipe()
    try:
        stuck = agent("n1", stdout=write)
        stuck.process.stdout = os.fdopen(os.dup(read), "rb")
        stuck.say(setup(lab4, "n1"))
        assert stuck.hear()["state"] == "ok"
        fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK)
        for size in (4096, 1):
            with suppress(BlockingIOError):
                while True:
                    os.write(write, bytes(size))
        fcntl.fcntl(write, fcntl.F_SETFL, 0)
        stuck.say(peers(lab4), look([1], []), *[{"t": "beat"}] * 100)
        silenced = agent("n1", stdout=write)  # it cannot even say that it is there
        for one in (stuck, silenced):
            assert one.end() == -signal.SIGALRM
            assert gone(one)
    finally:
        os.close(read)
        os.close(write)


def test_the_alarm_works_whatever_its_parent_did_to_the_signal(
    agent: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(monkeypatch, [_BRIEF])
    wrapper = (
        "import signal, os, sys; signal.signal(signal.SIGALRM, signal.SIG_IGN);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    one = agent("n1", (SYSTEM_PYTHON, "-c", wrapper, SYSTEM_PYTHON))
    assert one.end() == -signal.SIGALRM


def test_ctrl_c_on_a_shared_terminal_is_not_for_the_agent(agent: Start, lab4: Lab) -> None:
    """A local agent is in the controller's process group; the controller wants its last words."""
    one = agent("n1")
    one.say(setup(lab4, "n1"))
    assert one.hear()["state"] == "ok"
    one.process.send_signal(signal.SIGINT)
    one.say(peers(lab4), look([1], []))
    assert one.hear()["t"] == "sent"


def test_a_frame_that_makes_no_sense_ends_it_with_one_line(agent: Start, lab4: Lab) -> None:
    one = agent("n1")
    one.say(setup(lab4, "n1"))
    one.hear()
    one.say({"t": "look", "number": 1})
    assert one.end() == 99
    said = one.process.stderr.read().decode()
    assert said.startswith("agent: ")
    assert len(said.splitlines()) == 1


def test_a_stray_print_does_not_corrupt_what_it_says(
    agent: Start, lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = "        while True:\n            frame = self._next()"
    ship(monkeypatch, [("agent.main", loop, "        print('stray')\n" + loop)])
    one = agent("n1")
    one.say(setup(lab4, "n1"))
    assert one.hear()["state"] == "ok"
    one.process.stdin.close()
    one.end()
    assert one.process.stderr.read() == b"stray\n"


def test_a_node_without_ipv6_tells_that_its_address_is_absent(
    agent: Start, lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ipv6.disable=1, when the kernel knows the family as little as family 63."""
    line = "self.socket = socket.socket(domain, kind, protocol)"
    ship(monkeypatch, [("agent.sockets", line, line.replace("domain", "63"))])
    one = agent("n1")
    one.say(setup(lab4, "n1") | {"own": {"6": "fd00:dead::1"}})
    hello = one.hear()
    assert hello["state"] == "ok"
    assert hello["absent"] == ["fd00:dead::1"]


def test_it_listens_on_no_port_and_leaves_no_file(agent: Start, lab4: Lab) -> None:
    one = agent("n1")
    one.say(setup(lab4, "n1"))
    one.hear()
    open_files = {os.readlink(f"/proc/{one.process.pid}/fd/{n}")
                  for n in os.listdir(f"/proc/{one.process.pid}/fd")}  # fmt: skip
    assert all(name.startswith(("pipe:", "socket:", "anon_inode:")) for name in open_files)
    for table in ("tcp", "tcp6", "udp", "udp6"):
        rows = lab4.run("n1", "cat", f"/proc/net/{table}").stdout.splitlines()[1:]
        inodes = {row.split()[9] for row in rows if row.split()[3] in ("0A", "07")}
        assert not {f"socket:[{inode}]" for inode in inodes} & open_files
