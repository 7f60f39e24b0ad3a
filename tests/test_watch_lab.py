"""Watching real nodes: what turns, who goes and comes, and that no round ever meets another."""

import os
import resource
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import test_agent_kit as kit
import test_agent_noise as noise
from scenarios import Agents as FreedAgents
from test_agent_kit import Agents, address, drops, nodes_of

from preflight.core import watch_pace
from preflight.core.model import AgentState, Family, Node, Verdict
from preflight.core.options import CheckOptions
from preflight.core.plan import FLOW_WINDOW_S, FlowBudget
from preflight.core.snapshot import Snapshot
from preflight.core.watch_pace import Pace
from preflight.core.watch_round import Ending, NodesNews, Round
from preflight.errors import NodeError
from preflight.lab import Lab
from preflight.runs.watch import Album, Watched, watch
from preflight.store import load

pytestmark = pytest.mark.lab

agents, agent = kit.agents, kit.agent
capture, injector = noise.capture, noise.injector


_BRISK = Pace(0.05, count=30)


class Diary:
    """A teller that writes all down. `on` is called with each round; `stop` ends the watch."""

    def __init__(self, on: Callable[[Round], object] = lambda done: None) -> None:
        self.rounds: list[Round] = []
        self.news: list[NodesNews] = []
        self.notes: list[str] = []
        self.phases: list[str] = []
        self.ending: tuple[Ending, int] | None = None
        self.on = on
        self.on_phase: Callable[[str], object] = lambda text: None

    def phase(self, text: str, total: int) -> None:
        self.phases.append(text)
        self.on_phase(text)

    def advance(self, node: str) -> None: ...
    def waiting(self, nodes: Sequence[str]) -> None: ...
    def began(self, extent: Any, options: Any, pace: Any) -> None: ...
    def resting(self, left_s: float) -> None: ...
    def gap(self, since: float, until: float) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def nodes(self, news: Sequence[NodesNews]) -> None:
        self.news += news

    def round(self, done: Round) -> None:
        self.rounds.append(done)
        self.on(done)

    def ended(self, why: Ending, rounds: int) -> None:
        self.ending = (why, rounds)

    def stop(self) -> None:
        signal.raise_signal(signal.SIGINT)

    def said(self) -> list[tuple[str, Verdict, Verdict]]:
        """Where, was and is, of all that turned."""
        return [
            (turn.extent.where, turn.was.verdict, turn.now.verdict)
            for done in self.rounds
            for turn in done.turned
        ]


def watched(
    lab: Lab,
    agents: Any,
    diary: Diary,
    *,
    output: Path | None = None,
    pace: Pace = _BRISK,
    **options: Any,
) -> Watched:
    wanted = {"timeout_s": 0.2, "diagnose": False, "family": Family.IPV4, **options}
    known = nodes_of(lab)
    album = Album(output, diary.note)
    return watch(known, CheckOptions(**wanted), pace, lambda node: agents, diary, album)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are tried again at once."""
    monkeypatch.setattr(watch_pace, "_FIRST_S", 0.01)
    monkeypatch.setattr(watch_pace, "_SELDOM_S", 0.01)


class Script:
    """Steps, each taken once the round before it says what it should."""

    def __init__(self, diary: Diary, *steps: tuple[Callable[[Round], object], Callable[[], None]]):
        self._steps = list(steps)
        diary.on = self

    def __call__(self, done: Round) -> None:
        if self._steps and self._steps[0][0](done):
            self._steps.pop(0)[1]()


def turned(done: Round) -> bool:
    return bool(done.turned)


def calm(done: Round) -> bool:
    return not done.turned and not done.pending


def test_a_firewall_comes_and_goes(lab4: Lab, agents: Agents, tmp_path: Path) -> None:
    """Both are told once, with the time of the round that saw them first, and saved."""
    logins: list[str] = []
    connect = agents.connect
    agents.connect = lambda node: (logins.append(node.name), connect(node))[1]  # type: ignore[method-assign, func-returns-value]
    diary = Diary()
    Script(
        diary,
        (calm, lambda: drops(lab4, "n2", "input", "udp dport 6081")),
        (turned, lambda: lab4.drop_firewall("n2")),
        (turned, lambda: None),
        (calm, diary.stop),
    )
    result = watched(lab4, agents, diary, output=tmp_path)
    assert diary.said() == [
        ("all → n2", Verdict.OPEN, Verdict.BLOCKED),
        ("all → n2", Verdict.BLOCKED, Verdict.OPEN),
    ]
    told = [done for done in diary.rounds if done.turned]
    for done in told:
        first = diary.rounds[done.number - 2]
        assert (first.pending, done.pending) == (3, 0)
        assert done.turned[0].at == first.at < done.at
        assert first.saved is None
    blocked, opened = (done.turned[0] for done in told)
    assert (blocked.was_since, opened.was_since) == (None, blocked.at)
    assert told[0].stands[0].standing.since == blocked.at
    assert told[1].stands == []
    # Snapshots: the first round, each change, the last.
    saved = sorted(tmp_path.iterdir())
    assert [str(path) for path in saved[:3]] == [done.saved for done in diary.rounds if done.saved]
    snapshots = [load(path) for path in saved]
    assert [verdicts(s).get(Verdict.BLOCKED, 0) for s in snapshots] == [0, 3, 0, 0]
    assert snapshots[-1].started == diary.rounds[-1].snapshot.started
    assert [s.started for s in snapshots] == sorted(s.started for s in snapshots)
    assert [bool(s.findings) for s in snapshots] == [False, True, False, False]
    # No login but the first ones, and nothing left.
    assert sorted(logins) == ["n1", "n2", "n3", "n4"]
    assert set(agents.ended().values()) == {0}
    assert result.ending is Ending.INTERRUPTED
    assert not result.last.interrupted  # the round was complete


def verdicts(snapshot: Snapshot) -> dict[Verdict, int]:
    out: dict[Verdict, int] = {}
    for outcome, number in snapshot.matrix.outcomes().items():
        out[outcome.verdict] = out.get(outcome.verdict, 0) + number
    return out


def test_an_odd_round_is_no_change(lab4: Lab, agents: Agents, tmp_path: Path) -> None:
    """A firewall that is there for one round alone."""
    diary = Diary()
    Script(
        diary,
        (calm, lambda: drops(lab4, "n2", "input", "udp dport 6081")),
        (lambda done: done.pending == 3, lambda: lab4.drop_firewall("n2")),
        (calm, lambda: None),
        (calm, diary.stop),
    )
    watched(lab4, agents, diary, output=tmp_path)
    assert diary.said() == []
    assert diary.rounds[-1].odd == 3
    assert len(list(tmp_path.iterdir())) == 2  # the first and the last


def test_the_closer_look_is_made_when_something_has_changed_and_kept(
    lab4: Lab, agents: Agents
) -> None:
    diary = Diary()
    drops(lab4, "n2", "input", "udp dport 6081")
    watched(lab4, agents, diary, diagnose=True, pace=Pace(0.05, count=4))
    assert sum(text.startswith("a closer look") for text in diary.phases) == 1
    told = {done.snapshot.findings[0].title for done in diary.rounds}
    assert len(told) == 1
    assert "n2 itself drops UDP 6081: nftables rule" in told.pop()


def test_an_agent_that_dies_comes_back(lab4: Lab, agents: Agents, tmp_path: Path) -> None:
    """Its cells are unknown meanwhile, which is no change; what was blocked is so since before."""
    drops(lab4, "n2", "input", "udp dport 6081")
    diary = Diary()
    Script(
        diary,
        (calm, agents_kill(agents, "n3")),
        (lambda done: verdicts(done.snapshot).get(Verdict.UNKNOWN) == 18, lambda: None),
        (lambda done: verdicts(done.snapshot).get(Verdict.UNKNOWN) is None, diary.stop),
    )
    watched(lab4, agents, diary, output=tmp_path)
    assert [(one.names, one.info.state) for one in diary.news] == [
        ("n3", AgentState.LOST),
        ("n3", AgentState.OK),
    ]
    assert diary.news[1].gone_since == pytest.approx(diary.news[0].at, abs=5)
    assert diary.said() == []
    unknown = [d for d in diary.rounds if verdicts(d.snapshot).get(Verdict.UNKNOWN)]
    assert {s.standing.kind.verdict for d in unknown for s in d.stands} == {
        Verdict.BLOCKED, Verdict.UNKNOWN,
    }  # fmt: skip
    assert unknown[0].saved
    assert unknown[0].snapshot.agents[2].state is AgentState.LOST
    last = diary.rounds[-1]
    assert verdicts(last.snapshot) == {Verdict.BLOCKED: 3, Verdict.OPEN: 33}
    assert [s.standing.since for s in last.stands] == [None]
    assert {info.state for info in last.snapshot.agents} == {AgentState.OK}


def agents_kill(agents: Agents, name: str) -> Callable[[], None]:
    def kill() -> None:
        agents.processes[name].kill()
        agents.processes[name].wait()

    return kill


@contextmanager
def unreachable(agents: Agents, name: str, error: NodeError) -> Iterator[list[str]]:
    """A node refuses its first two logins; all logins are counted."""
    logins: list[str] = []
    connect = agents.connect

    def refuse(node: Node) -> Any:
        logins.append(node.name)
        if node.name == name and logins.count(name) <= 2:
            raise error
        return connect(node)

    agents.connect = refuse  # type: ignore[method-assign]
    yield logins


def test_a_node_that_cannot_be_reached_joins_later(lab4: Lab, agents: Agents) -> None:
    diary = Diary()
    Script(
        diary,
        (lambda done: Verdict.UNKNOWN in verdicts(done.snapshot), lambda: None),
        (lambda done: {*verdicts(done.snapshot)} == {Verdict.OPEN} and done.turned, diary.stop),
    )
    error = NodeError(AgentState.UNREACHABLE, "n4: connection refused")
    with unreachable(agents, "n4", error) as logins:
        watched(lab4, agents, diary)
    assert logins.count("n4") == 3
    assert len(logins) == 6
    assert diary.notes == ["n4: n4: connection refused"]  # once, not each time
    (news,) = diary.news
    assert (news.names, news.info.state, news.gone_since) == ("n4", AgentState.OK, None)
    assert {(was, now) for _, was, now in diary.said()} == {(Verdict.UNKNOWN, Verdict.OPEN)}


def test_a_refused_login_is_not_repeated(lab4: Lab, agents: Agents) -> None:
    error = NodeError(AgentState.AUTH, "n4: permission denied")
    diary = Diary()
    with unreachable(agents, "n4", error) as logins:
        watched(lab4, agents, diary, pace=Pace(0.05, count=4))
    assert logins.count("n4") == 1
    (news,) = diary.news
    assert (news.names, news.info.state, news.again) == ("n4", AgentState.AUTH, False)


def test_without_any_node_that_could_come_it_ends(lab4: Lab) -> None:
    def refuse(node: Node) -> Any:
        raise NodeError(AgentState.AUTH, "permission denied")

    refusing: Any = type("Refusing", (), {"connect": staticmethod(refuse)})()
    diary = Diary()
    assert watched(lab4, refusing, diary).ending is Ending.NO_NODE
    assert diary.ending == (Ending.NO_NODE, 1)


# --- rounds apart ---------------------------------------------------------------------------------


def test_packets_of_an_earlier_round_never_count(
    lab4: Lab, agents: Agents, capture: Any, injector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router drops what goes to n3, keeps copies, and lets them go in every later round."""
    # Keys by which no SYN of one round is in the flow of another's, as may be by chance.
    keys = (bytes([n]) * 32 for n in range(2, 10))
    drawn = SimpleNamespace(token_bytes=lambda _: next(keys), token_hex=secrets.token_hex)
    monkeypatch.setattr("preflight.crew.crew.secrets", drawn)
    noise.dead_node(lab4)
    kept: list[bytes] = []
    diary = Diary()

    def keep(done: Round) -> None:
        if done.number == 1:
            kept.extend(noise.ours(capture.take(), address(lab4, "n3")))
            injector.start(kept)

    diary.on = keep
    watched(lab4, agents, diary, pace=Pace(0.05, count=4))
    assert {packet[9] for packet in kept} == {17, 6, 1}
    assert injector.sent > len(kept)
    assert len(diary.rounds) == 4
    for done in diary.rounds:
        noise.verify_dead(done.snapshot)
    assert diary.notes == []  # nor do they look like strays


def test_each_round_has_its_own_tokens_and_flows(lab4: Lab, agents: Agents, capture: Any) -> None:
    """What crosses the router: no payload and no UDP source port pattern comes twice."""
    diary = Diary()
    payloads: list[set[bytes]] = []
    ports: list[set[bytes]] = []

    def take(done: Round) -> None:
        packets = noise.ours(capture.take(), address(lab4, "n3"))
        tunnel = [p for p in packets if p[9] == 17]
        payloads.append({p[28:] for p in tunnel} | {p[24:28] for p in packets if p[9] == 6})
        ports.append({p[12:16] + p[20:22] for p in tunnel})

    diary.on = take
    watched(lab4, agents, diary, pace=Pace(0.05, count=3))
    assert [len(found) > 40 for found in payloads] == [True] * 3
    assert not payloads[0] & payloads[1]
    assert not payloads[1] & payloads[2]
    assert all(len(a & b) < len(a) / 4 for a, b in pairwise(ports))


def test_who_owns_the_port_is_asked_before_each_round(lab4: Lab, agents: Agents) -> None:
    """A tunnel device comes up on n2: from then on only the inert form goes there."""
    real = "udp dport 6081 @th,80,16 0x6558 counter"
    rules = f"table inet real {{ chain c {{ type filter hook input priority -300;\n{real}\n}}\n}}"
    up = (
        "n2",
        f"link add tunnel0 type vxlan id 7 dstport 6081 local {address(lab4, 'n2')} dev lo",
        "link del tunnel0",
    )
    counted: list[int] = []
    diary = Diary()
    with ip_commands_later(lab4) as later:

        def step(done: Round) -> None:
            if done.number == 1:
                later(*up)
                later("n2", "link set tunnel0 up", "")
                lab4.nft("n2", rules)
            if done.number == 3:
                listing = lab4.run("n2", "nft", "list", "table", "inet", "real").stdout
                counted.append(int(listing.split("packets ")[1].split()[0]))
                diary.stop()

        diary.on = step
        watched(lab4, agents, diary)
    assert counted == [0]
    for done in diary.rounds:
        assert set(verdicts(done.snapshot)) == {Verdict.OPEN}
    assert [s for s in diary.notes if "UDP 6081 is in use now on n2" in s]
    assert [s for s in diary.notes if "in its inert form" in s]
    assert diary.said() == []


@contextmanager
def ip_commands_later(lab: Lab) -> Iterator[Callable[[str, str, str], None]]:
    undo: list[tuple[str, str]] = []

    def run(where: str, command: str, back: str) -> None:
        lab.run(where, "ip", *command.split())
        if back:
            undo.append((where, back))

    try:
        yield run
    finally:
        for where, command in reversed(undo):
            lab.run(where, "ip", *command.split())


def test_the_flow_budget_holds_over_rounds(lab4: Lab, agents: Agents) -> None:
    """The second round would exceed it, so it waits; and the wait is as long as it must be."""
    per_round = 12 * (20 + 3 + 1)
    waits: list[float] = []
    diary = Diary(lambda done: None)
    diary.resting = lambda left_s: (waits.append(left_s), diary.stop())  # type: ignore[method-assign]
    watched(lab4, agents, diary, max_flows=per_round + 40)
    assert FLOW_WINDOW_S - 5 < waits[0] <= FLOW_WINDOW_S
    budget = FlowBudget(100)
    budget.spend(80, 10.0)
    assert budget.delay_s(30, 20.0) == FLOW_WINDOW_S - 10


def test_an_agent_does_not_grow_over_many_rounds(
    agent: Callable[..., kit.Agent], lab4: Lab
) -> None:
    """200 rounds, each with something missing, which is what an agent would remember."""
    one = agent("n1")
    pid = one.process.pid

    def round_(number: int) -> None:
        key = number.to_bytes(32, "big").hex()
        first = {**kit.setup(lab4, "n1"), "key": key, "number": number}
        one.say({"t": "rest"}, first, kit.peers(lab4))
        assert one.hear()["number"] == number
        one.say(kit.look([1], [1], number=1))
        assert one.hear()["t"] == "sent"
        one.say({"t": "drain", "wait": 0})
        assert one.hear()["t"] == "report"

    def held() -> tuple[int, int]:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))

    for number in range(1, 61):
        round_(number)
    room, descriptors = held()
    for number in range(61, 201):
        round_(number)
    later, now = held()
    assert now == descriptors
    assert later - room < 512 << 10


def test_at_rest_an_agent_holds_no_raw_socket(agent: Callable[..., kit.Agent], lab4: Lab) -> None:
    one = agent("n1")

    def raw() -> int:
        tables = [Path(f"/proc/{one.process.pid}/net/raw{v}").read_text("ascii") for v in ("", "6")]
        return sum(len(table.splitlines()) - 1 for table in tables)

    one.say({**kit.setup(lab4, "n1"), "number": 1})
    one.hear()
    assert raw() == 3
    one.say({"t": "rest"}, {**kit.setup(lab4, "n1"), "number": 2})
    one.hear()
    assert raw() == 3
    one.say({"t": "rest"})
    while raw():  # it says nothing to that
        assert one.process.poll() is None


# --- snapshots ------------------------------------------------------------------------------------


def test_no_snapshot_is_replaced(tmp_path: Path, lab4: Lab, agents: Agents) -> None:
    diary = Diary()
    watched(lab4, agents, diary, pace=Pace(0.05, count=1))
    snapshot = diary.rounds[0].snapshot
    album = Album(tmp_path, diary.note)
    names = [album.keep(snapshot) for _ in range(3)]
    assert len(set(names)) == 3
    assert sorted(names) == sorted(str(path) for path in tmp_path.iterdir())
    assert {load(name).started for name in names if name} == {snapshot.started}
    later = replace(snapshot, started="2099-01-01T00:00:00.000Z")
    assert album.keep(later) == str(tmp_path / "20990101T000000.000Z.json")
    assert max(tmp_path.iterdir()).name == "20990101T000000.000Z.json"


def test_a_full_disk_is_told_once_and_watching_goes_on(
    tmp_path: Path, lab4: Lab, agents: Agents
) -> None:
    diary = Diary()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        Script(
            diary,
            (calm, lambda: drops(lab4, "n2", "input", "udp dport 6081")),
            (turned, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))),
            (calm, lambda: lab4.drop_firewall("n2")),
            (turned, diary.stop),
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        watched(lab4, agents, diary, output=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert len(diary.notes) == 2
    assert diary.notes[0].endswith(
        "not saved: File too large: make room, or choose another place with --output; "
        "watching goes on"
    )
    assert diary.notes[1] == f"snapshots are saved to {tmp_path} again"
    assert len(diary.said()) == 2
    (only,) = tmp_path.iterdir()
    assert verdicts(load(only)) == {Verdict.OPEN: 36}


# --- interruptions --------------------------------------------------------------------------------


def test_interrupted_in_the_first_round_what_was_measured_is_saved(
    tmp_path: Path, lab4: Lab, agents: Agents
) -> None:
    drops(lab4, "n2", "input", "udp dport 6081")
    diary = Diary()
    diary.on_phase = lambda text: diary.stop() if text.startswith("second look") else None
    result = watched(lab4, agents, diary, output=tmp_path)
    assert result.ending is Ending.INTERRUPTED
    assert diary.rounds == []
    (path,) = tmp_path.iterdir()
    assert load(path).interrupted
    assert verdicts(load(path)) == {Verdict.OPEN: 33, Verdict.UNKNOWN: 3}
    assert set(agents.ended().values()) == {0}


def test_interrupted_in_a_later_round_the_one_before_it_is_the_last(
    tmp_path: Path, lab4: Lab, agents: Agents
) -> None:
    diary = Diary()
    Script(
        diary, (calm, lambda: None), (calm, lambda: drops(lab4, "n2", "input", "udp dport 6081"))
    )
    diary.on_phase = lambda text: diary.stop() if text.startswith("second look") else None
    result = watched(lab4, agents, diary, output=tmp_path)
    assert [done.number for done in diary.rounds] == [1, 2]
    assert result.last is diary.rounds[1].snapshot
    assert len(list(tmp_path.iterdir())) == 2
    assert diary.said() == []


def test_interrupted_before_anything_was_measured_earlier_snapshots_are_left_alone(
    lab4: Lab, tmp_path: Path
) -> None:
    earlier = tmp_path / "20200101T000000.000Z.json"
    earlier.write_text("earlier")
    diary = Diary()
    diary.on_phase = lambda text: diary.stop()
    free = FreedAgents(lab4)
    result = watched(lab4, free, diary, output=tmp_path)
    assert result.ending is Ending.INTERRUPTED
    assert list(tmp_path.iterdir()) == [earlier]
    assert f"{tmp_path}: left as it is: nothing was measured in this run" in diary.notes
    for session in free.sessions:
        session.process.wait(30)


def test_interrupted_while_it_logs_in(lab4: Lab, tmp_path: Path) -> None:
    diary = Diary()
    diary.on_phase = lambda text: diary.stop()
    free = FreedAgents(lab4)
    result = watched(lab4, free, diary, output=tmp_path)
    assert result.ending is Ending.INTERRUPTED
    assert verdicts(load(next(tmp_path.iterdir()))) == {Verdict.UNKNOWN: 36}
    for session in free.sessions:
        session.process.wait(30)  # one that was too late has no reader that hears its end
