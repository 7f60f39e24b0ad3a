"""What a watch shows: every line fits, nothing is left out silently, and no text steers."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_watch import B, L, O, P, U, node_list

from preflight.core.matrix import Matrix
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    AgentInfo,
    AgentState,
    Family,
    Inventory,
    Node,
    Outcome,
    Phase,
)
from preflight.core.options import CheckOptions
from preflight.core.scope import scope
from preflight.core.snapshot import Snapshot
from preflight.core.watch import History
from preflight.core.watch_groups import stands, turned
from preflight.core.watch_pace import Pace
from preflight.core.watch_round import Ending, NodesNews, Round
from preflight.report import watch_words as words
from preflight.report.progress import Progress
from preflight.report.text import Speech, cells
from preflight.report.watch import JsonLines, Lines
from preflight.report.watch_frame import Shown, frame, heading

PROBES = (GENEVE, HEALTH, ECHO)
SPEECH = Speech(io.TextIOWrapper(io.BytesIO(), "utf-8"))
EVIL = "n\x1b[2J\u202e1\n2"


def matrices(nodes: Sequence[Node], *rules: Any) -> list[Matrix]:
    """A matrix for each rule: an outcome for (probe, source, destination)."""
    out = []
    for rule in rules:
        seen = Matrix(nodes, PROBES, (Family.IPV4,))
        for p in range(3):
            for s in range(len(nodes)):
                for d in range(len(nodes)):
                    if s != d:
                        seen.set(seen.index(0, p, s, d), rule(p, s, d))
        out.append(seen)
    return out


def rounds(nodes: Sequence[Node], *rules: Any) -> list[Round]:
    history, out = History(), []
    for number, seen in enumerate(matrices(nodes, *rules), 1):
        at = 1_760_000_000.0 + 10 * number
        changes = history.see(seen, at)
        agents = [AgentInfo(AgentState.OK)] * len(nodes)
        snapshot = Snapshot(
            Phase.BEFORE, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", seen, agents, {}
        )
        out.append(
            Round(
                number, at, 0.5, snapshot, turned(seen, changes), stands(seen, history),
                history.pending, history.odd, None,
            )
        )  # fmt: skip
    return out


def healthy(p: int, s: int, d: int) -> Outcome:
    return O


def firewall(p: int, s: int, d: int) -> Outcome:
    return B if (p, d) == (0, 1) else O


def chaos(p: int, s: int, d: int) -> Outcome:
    return (O, B, P, L, U)[(s * 7919 + d * 104729 + p) * 2654435761 % 4294967291 % 5]


def shown(latest: Round, events: int = 0) -> Shown:
    first = heading(Phase.BEFORE, len(latest.snapshot.matrix.nodes), 12, 10.0)
    out = Shown(first, "Ctrl-C ends it", "next round in 7 s", latest)
    out.events += [(latest.at, f"event {number}", None) for number in range(events)]
    return out


def drawn(what: Shown, width: int, height: int, *, color: bool = False) -> list[str]:
    return frame(
        what, width, height, what.latest.at + 65 if what.latest else 0, SPEECH, color=color
    )


@settings(deadline=None, max_examples=40)
@given(
    st.integers(20, 220),
    st.integers(4, 70),
    st.sampled_from([4, 9, 24]),
    st.integers(0, 40),
    st.sampled_from([healthy, firewall, chaos]),
    st.booleans(),
)
@example(40, 13, 24, 0, healthy, False)
def test_every_frame_fits(
    width: int, height: int, count: int, events: int, rule: Any, color: bool
) -> None:
    *_, latest = rounds(node_list(count), healthy, rule, rule)
    lines = drawn(shown(latest, events), width, height, color=color)
    assert len(lines) == height
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    if width >= 40:  # less cannot hold the matrix of four nodes
        assert max(map(cells, plain)) <= width
    assert plain[-1] == "Ctrl-C ends it"
    assert all(line.isprintable() for line in plain)
    if not color:
        assert plain == lines


def test_four_nodes_in_80_by_24() -> None:
    *_, latest = rounds(node_list(4), healthy, firewall, firewall)
    what = shown(latest)
    change = latest.turned[0]
    text = f"{words.cells_of(change.extent, latest.snapshot.matrix)}: {words.turn(change)}"
    what.events.append((change.at, text, None))
    lines = drawn(what, 80, 24)
    assert "n1  \\  D  ·  ·    \\  ·  ·  ·    \\  ·  ·  ·" in lines
    since = words.clock(latest.at - 10)
    assert (
        f"geneve all → n2  since {since} (1 min 15 s): blocked inside the destination,"
        in "\n".join(lines)
    )
    assert any(line.startswith(f"{since}  geneve all → n2: blocked inside") for line in lines)


def test_many_nodes_are_grouped_and_what_has_no_room_is_counted() -> None:
    many = [replace(n, labels={"rack": "ab"[i % 2]}) for i, n in enumerate(node_list(120))]
    *_, latest = rounds(many, healthy, firewall, firewall)
    lines = drawn(shown(latest, 30), 80, 30)
    assert any("all → n2" in line for line in lines)
    assert any(re.match(r"and \d+ more lines", line) for line in lines)
    *_, latest = rounds(many[:60], healthy, chaos, chaos)
    lines = drawn(shown(latest, 30), 80, 24)
    assert "(the matrix needs more lines)" in lines
    assert any(re.match(r"geneve ipv4: [\d,]+ of 3,540 open", line) for line in lines)
    assert sum(bool(re.match(r"and \d+ more lines", line)) for line in lines) == 2


def test_before_the_first_round_there_is_something_too() -> None:
    lines = drawn(Shown("preflight watch", "Ctrl-C ends it", "connecting 1/4"), 80, 24)
    assert lines[:2] == ["preflight watch", "connecting 1/4"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (65, "1 min 5 s"),
        (601, "10 min"), (3599, "59 min"), (3600, "1 h"), (7500, "2 h 5 min"), (86400, "1 d"),
        (100_000, "1 d 3 h"),
    ],
)  # fmt: skip
def test_spans(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


def tellers() -> tuple[Any, Any, io.StringIO, io.StringIO]:
    text, objects = io.StringIO(), io.StringIO()
    quiet = [Progress(io.StringIO(), quiet=True) for _ in range(2)]
    return Lines(text, quiet[0], color=False), JsonLines(objects, quiet[1]), text, objects


def test_both_forms_tell_the_same_and_nothing_steers_the_terminal() -> None:
    nodes = [replace(n, name=EVIL if i == 1 else n.name) for i, n in enumerate(node_list(4))]
    extent = scope(Inventory("-", tuple(nodes), PROBES), CheckOptions())
    lines, objects, text, stream = tellers()
    for teller in (lines, objects):
        teller.began(extent, CheckOptions(), Pace())
        for done in rounds(nodes, healthy, firewall, firewall, healthy, healthy):
            teller.round(done)
        lost = AgentInfo(AgentState.LOST, f"gone: {EVIL}")
        teller.nodes([NodesNews((1,), EVIL, lost, 1_760_000_100.0, None, True)])
        back = NodesNews(
            (1,), EVIL, AgentInfo(AgentState.OK), 1_760_000_160.0, 1_760_000_100.0, True
        )
        teller.nodes([back])
        teller.note(EVIL)
        teller.gap(1_760_000_200.0, 1_760_000_260.0)
        teller.ended(Ending.COUNT, 5)
    said = text.getvalue().splitlines()
    assert all(line.isprintable() for line in said)
    told = [line[21:] for line in said]
    assert told[1] == "first round: 36 open"
    assert told[2].endswith(": blocked inside the destination, dropped; was open (3 pairs)")
    assert told[4].endswith(
        ": open again after 20 s; was blocked inside the destination, dropped (3 pairs)"
    )
    assert "has no agent (lost): gone:" in told[6]
    assert "is back after 1 min: part of the next round" in told[7]
    assert told[-1] == "ended: as many rounds as were asked for; 5 rounds"
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds == [
        "began", "round", "round", "change", "round", "round", "change", "round", "agents",
        "agents", "note", "gap", "ended",
    ]  # fmt: skip
    change = events[3]
    assert {c["destination"] for c in change["cells"]} == {EVIL}
    assert change["time"] == "2025-10-09T08:53:40.000Z"
    assert change["was"] == {
        "verdict": "open", "leg": None, "place": None, "cause": None, "since": None,
    }  # fmt: skip
    assert events[8]["nodes"] == [EVIL]
    assert events[4]["not_open"][0]["cells"] == 3
