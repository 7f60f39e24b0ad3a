"""What a person reads: every cell as it is, and nothing that a node could inject."""

from __future__ import annotations

import io
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    ANSWER_DROPPED_ON_PATH,
    DELIVERED,
    DROPPED_AT_DESTINATION,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    UNREACHABLE,
    Fault,
    blocked,
    sample,
)

from preflight.core.groups import groups
from preflight.core.model import (
    GENEVE,
    AgentInfo,
    AgentState,
    Cause,
    Family,
    Leg,
    Outcome,
    Phase,
    Place,
    Severity,
    Verdict,
)
from preflight.core.snapshot import Snapshot
from preflight.report.layers import layers
from preflight.report.picture import draw_matrix
from preflight.report.symbols import LEGEND, OPEN, SAME_NODE, symbol
from preflight.report.table import render
from preflight.report.text import clean

BOTH = (Family.IPV4, Family.IPV6)


def shown(
    snapshot: Snapshot, width: int = 80, *, color: bool = False, encoding: str = "utf-8"
) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    render(snapshot, width=width, color=color, file=file)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_the_whole_of_a_small_report() -> None:
    snapshot = sample(
        4,
        2,
        [
            Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
            Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve"),
            Fault(NO_AGENT, "n4", "*"),
            Fault(NO_AGENT, "*", "n4"),
        ],
        agents={"n4": UNREACHABLE},
        notes=["n1 sends GENEVE from 10.0.9.1, which is not its address 10.0.0.1"],
    )
    assert shown(snapshot) == (
        """\
Before Cilium, 4 nodes, 12 ordered pairs, IPv4
geneve: UDP 6081 (required)   health: TCP 4240   echo: ICMP echo

    geneve        health        echo
    n1 n2 n3 n4   n1 n2 n3 n4   n1 n2 n3 n4
n1  \\  ·  D  ?    \\  ·  P  ?    \\  ·  ·  ?
n2  ·  \\  D  ?    ·  \\  P  ?    ·  \\  ·  ?
n3  ·  ·  \\  ?    ·  ·  \\  ?    ·  ·  \\  ?
n4  ?  ?  ?  \\    ?  ?  ?  \\    ?  ?  ?  \\

· open   P blocked on the path   D blocked inside the destination   ? unknown
Rows send, columns receive.

Nodes without an agent
  n4  unreachable  connect to 10.0.0.7 port 22: timed out after 5 s: is it up,
                   is SSH open?

Not open, and why
  geneve: blocked inside the destination, dropped (required)
    rack=a → n3  2 pairs
    It arrives at the destination, which throws it away itself: allow UDP 6081
    into that node, in its own firewall (INPUT).
    For example n1 → n3: sent 20, left 20, arrived 20, accepted 0.

  geneve, health, echo: unknown, no agent (required)
    n4 ↔ all  6 pairs
    Without an agent at both ends this cannot be seen.

  health: blocked on the path, dropped (recommended)
    rack=a → n3  2 pairs
    It leaves the source and never arrives: allow TCP 4240 in what lies between,
    the network's firewalls or security groups.
    For example n1 → n3: sent 20, left 20, arrived 0.

Notes
  -  n1 sends GENEVE from 10.0.9.1, which is not its address 10.0.0.1

4 nodes, 36 cells: 14 open, 4 blocked, 18 unknown; 0.7 s
Recommended: health fails for 2 of 12 pairs, 6 unknown; echo is unknown for 6 of
12 pairs, 6 open.
Cilium's GENEVE does NOT get through for 2 of 12 pairs, 6 unknown.
"""
    )


def test_a_clean_run_of_many_nodes_is_short() -> None:
    assert shown(sample(40, 2), 200) == (
        """\
Before Cilium, 40 nodes, 1,560 ordered pairs, IPv4
geneve: UDP 6081 (required)   health: TCP 4240   echo: ICMP echo

geneve, health, echo: open, all 1,560 pairs

40 nodes, 4,680 cells: 4,680 open; 0.7 s
Recommended: health and echo are open for all 1,560 pairs.
Cilium's GENEVE gets through for all 1,560 pairs.
"""
    )


OUTCOMES: Sequence[Outcome] = (
    DELIVERED,
    DELIVERED,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    DROPPED_AT_DESTINATION,
    ANSWER_DROPPED_ON_PATH,
    blocked(Place.SOURCE, Leg.REPLY),
    blocked(Place.DESTINATION, Leg.REPLY),
    blocked(None),
    LOSSY,
    NOT_LISTENING,
    NO_AGENT,
)


def test_every_outcome_has_a_sign_of_its_own() -> None:
    signs = [symbol(outcome) for outcome in OUTCOMES[1:]]
    assert len(set(signs)) == len(signs) == len(LEGEND) - 1  # and the blank
    assert SAME_NODE not in LEGEND


def in_rows(lines: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """For each row of a picture its signs, gaps left out, panels and bands joined."""
    rows = dict.fromkeys(names, "")
    for line in lines:
        label = re.match(r"(?:\d+ )?(\S+)  ", line.lstrip())
        signs = line.lstrip()[label.end() :].replace(" ", "") if label else ""
        if label and label[1] in rows and set(signs) <= {*LEGEND, SAME_NODE}:
            rows[label[1]] += signs
    return rows


def randomly(nodes: int, seed: int, *, bad: float) -> Snapshot:
    snapshot, choose = sample(nodes, 2), random.Random(seed)
    matrix = snapshot.matrix
    for probe in range(3):
        for s in range(nodes):
            for d in range(nodes):
                if s != d and choose.random() < bad:
                    matrix.set(matrix.index(0, probe, s, d), choose.choice(OUTCOMES))
    return snapshot


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 45), st.integers(40, 220), st.integers())
def test_every_cell_is_drawn_as_it_is(nodes: int, width: int, seed: int) -> None:
    snapshot = randomly(nodes, seed, bad=0.5)
    matrix = snapshot.matrix
    tests = layers(matrix)
    picture = draw_matrix(matrix, tests, width, color=False)
    assert all(len(line) <= width for line in picture.lines)
    names = [node.name for node in matrix.nodes]
    rows = in_rows(picture.lines, names)
    drawn = [position for position, test in enumerate(tests) if test.uniform is None or nodes <= 16]
    for s, name in enumerate(names):
        expected = [
            SAME_NODE if s == d else symbol(matrix.outcome(matrix.index(0, p, s, d)))
            for p in drawn
            for d in range(nodes)
        ]
        # Panels come one after another, each with its part of every grid.
        assert sorted(rows[name]) == sorted(expected)
        if not any(line.startswith("columns ") for line in picture.lines):
            assert rows[name] == "".join(expected)


@pytest.mark.parametrize("width", [60, 80, 110])
def test_panels_hold_every_column_once(width: int) -> None:
    snapshot = randomly(100, 1, bad=0.02)
    lines = shown(snapshot, width).splitlines()
    bounds = [tuple(map(int, re.findall(r"\d+", x))) for x in lines if x.startswith("columns ")]
    assert bounds[0][0] == 1
    assert bounds[-1][1] == 100
    assert all(a[1] + 1 == b[0] for a, b in pairwise(bounds))


@settings(deadline=None, max_examples=30)
@given(st.integers(17, 120), st.integers(1, 4), st.lists(st.tuples(*[st.sampled_from(
    ["*", "rack=a", "rack=b", "rack=c", "n1", "n2", "n9", "n3,n5,n12"])] * 2), max_size=4),
    st.integers(60, 200))  # fmt: skip
def test_nodes_that_share_a_row_are_alike(
    nodes: int, racks: int, blocks: list[tuple[str, str]], width: int
) -> None:
    faults = [Fault(OUTCOMES[2 + i], s, d, "geneve") for i, (s, d) in enumerate(blocks)]
    snapshot = sample(nodes, racks, faults, probes=(GENEVE,))
    matrix = snapshot.matrix
    tests = layers(matrix)
    picture = draw_matrix(matrix, tests, width, color=False)
    if not picture.alike:
        return
    rows: list[tuple[list[int], str]] = []
    names = [node.name for node in matrix.nodes]
    for line in picture.lines:
        found = re.match(r" *(\d+) (.+?)(?: \((\d+)\))?  +(.*)", line)
        if found and not found[2].isdigit():
            members = named(picture.shortened.get(found[1], found[2]), snapshot)
            assert len(members) == int(found[3] or 1)
            rows.append((members, found[4].replace(" ", "")))
    assert sorted(i for members, _ in rows for i in members) == list(range(len(names)))
    for members, signs in rows:
        for (others, _), sign in zip(rows, signs, strict=True):
            for s in members:
                for d in others:
                    if s != d:
                        assert sign == symbol(matrix.outcome(matrix.index(0, 0, s, d)))


def named(words: str, snapshot: Snapshot) -> list[int]:
    nodes = snapshot.matrix.nodes
    words, _, left_out = words.partition(" except ")
    names = [node.name for node in nodes]
    if words == "all":
        found = set(range(len(nodes)))
    elif words.startswith("rack="):
        racks = words.removeprefix("rack=").split(",")
        found = {i for i, node in enumerate(nodes) if node.labels["rack"] in racks}
    else:
        found = set()
        for part in words.split(", "):
            first, _, last = part.partition("…")
            found |= set(range(names.index(first), names.index(last or first) + 1))
    return sorted(found - set(named(left_out, snapshot) if left_out else ()))


def test_what_is_too_large_is_drawn_in_blocks() -> None:
    lines = shown(randomly(160, 1, bad=0.5), 80).splitlines()
    (drawn,) = (line for line in lines if line.startswith("Drawn by "))
    assert drawn == ("Drawn by rack: a cell stands for all pairs between two of 2 groups of nodes.")
    assert "1 rack=a (80)  5 5      5 5      5 5" in lines
    assert len(lines) < 400


@pytest.mark.parametrize("width", [40, 72, 80, 120, 200])
@pytest.mark.parametrize("nodes", [2, 4, 12, 40])
def test_nothing_is_wider_than_asked(nodes: int, width: int) -> None:
    snapshot = replace(
        randomly(nodes, 3, bad=0.1), notes=["a note that goes on and on " * 9], interrupted=True
    )
    for line in shown(snapshot, width).splitlines():
        assert len(line) <= width, line
        assert line == line.rstrip()


def test_rows_and_columns_are_those_that_were_planned() -> None:
    others = ",".join(f"n{i}" for i in range(2, 13))
    lines = shown(sample(12, 2, [Fault(None, others)])).splitlines()
    assert "12 nodes, 33 cells: 33 open; 0.7 s" in lines
    assert [line for line in lines if re.match(r"n\d+ ", line)] == ["n1  " + "   ".join(
        [" ".join(OPEN * 11)] * 3
    )]  # fmt: skip


def test_cells_not_planned_are_blank_and_said_to_be() -> None:
    text = shown(sample(4, 2, [Fault(None, "rack=a", "rack=b")]))
    assert "n1  \\  ·          \\  ·          \\  ·\n" in text
    assert "blank: not tested" in text


def test_a_band_for_each_family() -> None:
    fault = Fault(DROPPED_ON_PATH, "n1", "n2", "echo", Family.IPV6)
    text = shown(sample(3, 1, [fault], families=BOTH))
    v4, v6 = text.index("IPv4\n   "), text.index("IPv6\n   ")
    assert "n1  \\  ·  ·    \\  ·  ·    \\  ·  ·" in text[v4:v6]
    assert "n1  \\  ·  ·    \\  ·  ·    \\  P  ·" in text[v6:]
    assert "echo (ipv6): blocked on the path, dropped (recommended)" in text
    assert "allow ICMPv6 echo in" in text
    assert "echo fails for 1 of 6 pairs" in text


def test_families_that_look_the_same_share_a_band() -> None:
    text = shown(sample(3, 1, [Fault(DROPPED_ON_PATH, "n1", "n2", "echo")], families=BOTH))
    assert text.count("geneve     health     echo\n") == 1
    assert "\nIPv4 and IPv6\n    geneve" in text
    assert "echo (ipv4 + ipv6): blocked on the path" in text


def test_colour_only_repeats_what_the_text_says() -> None:
    snapshot = sample(
        12,
        2,
        [Fault(o, f"n{i + 1}", "n12", "geneve,health") for i, o in enumerate(OUTCOMES[2:])],
        agents={"n2": UNREACHABLE},
        notes=["a note"],
        interrupted=True,
    )
    plain, colour = shown(snapshot), shown(snapshot, color=True)
    assert "\x1b" not in plain
    assert "\x1b[1;31mP\x1b[0m" in colour
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", colour)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def test_ascii_where_the_stream_has_no_more() -> None:
    snapshot = sample(
        ["wörker-1", "wörker-2", "n3"], 1, [Fault(DROPPED_ON_PATH, "n3")], notes=["10 µs"]
    )
    text = shown(snapshot, encoding="ascii")
    assert text.isascii()
    assert "w\\xf6rker-1  \\ . .    \\ . .    \\ . .\n" in text
    assert "n3 -> all" in text
    assert "wörker-1  \\ . .    \\ . .    \\ . .\n" in shown(snapshot, encoding="latin-1")


HOSTILE = "[red]\x1b[31m\x1b]0;title\x07\x9b31m\u202e\r\nX\t\x00[/red]"


def test_nothing_from_a_node_reaches_the_terminal() -> None:
    detail = Outcome(
        Verdict.BLOCKED, Leg.FORWARD, Place.PATH, Cause.REJECTED, HOSTILE, detail=HOSTILE
    )
    snapshot = sample(
        [f"a{HOSTILE}", "[bold]b[/bold]", "\ud800"],
        1,
        [Fault(detail, "[bold]b[/bold]", "*", "geneve")],
        agents={"[bold]b[/bold]": AgentInfo(AgentState.FAILED, HOSTILE)},
        notes=[HOSTILE],
    )
    text = shown(snapshot, 200)
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "[bold]b[/bold]" in text
    assert "[red]" in text
    colour = shown(snapshot, 200, color=True)
    assert all(c == "\n" or c.isprintable() for c in re.sub(r"\x1b\[[0-9;]*m", "", colour))


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable()


def test_long_names_are_whole_somewhere() -> None:
    names = [f"{'x' * 60}-{i}" for i in range(20)]
    text = shown(sample(names, 1, [Fault(LOSSY, names[3], names[7])]), 80)
    assert "lossy" in text
    for name in (names[3], names[7]):
        assert name in text.replace("\n", "").replace(" ", "")


def test_a_domain_that_all_share_is_told_once() -> None:
    names = [f"ip-10-0-1-{i}.eu-west-1.compute.internal" for i in range(1, 5)]
    text = shown(sample(names, 2, [Fault(DROPPED_ON_PATH, names[0], names[2])]), 120)
    assert "ip-10-0-1-1  \\ · P ·   \\ · P ·   \\ · P ·\n" in text
    assert "All names end in .eu-west-1.compute.internal" in text
    assert f"{names[0]} → {names[2]}" in text


def test_nodes_with_one_reason_share_a_row_and_idle_ones_have_none() -> None:
    agents = {
        **{f"n{i}": AgentInfo(AgentState.AUTH, "the node refused the key") for i in (1, 2, 3)},
        "n5": AgentInfo(AgentState.NO_PYTHON, "there is no python3"),
        "n6": AgentInfo(AgentState.NONE),
    }
    text = shown(sample(6, 1, [Fault(None, "n6"), Fault(None, "*", "n6")], agents=agents))
    assert "  n1…n3  login refused  the node refused the key\n" in text
    assert "  n5     no python3     there is no python3\n" in text
    assert "n6" not in text


def test_no_node_could_be_used() -> None:
    agents = {f"n{i}": AgentInfo(AgentState.AUTH, "refused") for i in range(1, 5)}
    text = shown(sample(4, 1, [Fault(NO_AGENT)], agents=agents))
    assert "geneve, health, echo: unknown, all 12 pairs\n" in text
    assert "No node could be used: nothing was tested.\n" in text
    assert text.endswith("Cilium's GENEVE is unknown for all 12 pairs.\n")


def test_interrupted_is_said_first_and_last() -> None:
    lines = shown(sample(4, interrupted=True)).splitlines()
    assert lines[0] == lines[-1] == "INTERRUPTED: what was not measured by then is unknown."


@pytest.mark.parametrize(
    ("faults", "phase", "last"),
    [
        ([], Phase.BEFORE, "Cilium's GENEVE gets through for all 12 pairs."),
        ([], Phase.AFTER, "Cilium's GENEVE gets through for all 12 pairs."),
        ([Fault(DROPPED_ON_PATH, "n1")], Phase.AFTER, "does NOT work for 3 of 12 pairs."),
        ([Fault(LOSSY, "n1")], Phase.BEFORE, "loses packets for 3 of 12 pairs."),
        ([Fault(LOSSY, "n1"), Fault(NO_AGENT, "n2")], Phase.BEFORE,
         "loses packets for 3 of 12 pairs, 3 unknown."),
        ([Fault(LOSSY), Fault(NOT_LISTENING, "n1", "n2")], Phase.BEFORE,
         "does NOT get through for 1 of 12 pairs, 11 lossy."),
        ([Fault(NO_AGENT, "n1")], Phase.BEFORE, "is unknown for 3 of 12 pairs, 9 open."),
        ([Fault(DROPPED_ON_PATH)], Phase.BEFORE, "does NOT get through for all 12 pairs."),
    ],
)  # fmt: skip
def test_the_last_line(faults: list[Fault], phase: Phase, last: str) -> None:
    assert shown(sample(4, 2, faults, phase=phase)).splitlines()[-1].endswith(last)


def test_a_pair_is_as_bad_as_its_worst_family() -> None:
    faults = [
        Fault(DROPPED_ON_PATH, "n1", "n2", "geneve", Family.IPV4),
        Fault(LOSSY, "n1", "n2,n3", "geneve", Family.IPV6),
    ]
    last = shown(sample(4, 1, faults, families=BOTH)).splitlines()[-1]
    assert last == "Cilium's GENEVE does NOT get through for 1 of 12 pairs, 1 lossy."


def test_hundreds_of_causes_are_cut_aloud() -> None:
    snapshot = sample(20)
    index = snapshot.matrix.index
    for d in range(1, 20):
        for p in range(3):
            rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by=f"192.0.2.{3 * d + p}")
            snapshot.matrix.set(index(0, p, 0, d), rejected)
    found = groups(snapshot.matrix)
    text = shown(snapshot)
    assert len(found) == 57
    assert text.count("rejected by") == 24
    assert "and 33 causes more, 33 cells: --format json has every cell" in text


@pytest.mark.parametrize("leg", [None, *Leg])
@pytest.mark.parametrize("place", [None, *Place])
def test_every_kind_of_outcome_has_words(leg: Leg | None, place: Place | None) -> None:
    for verdict in set(Verdict) - {Verdict.OPEN}:
        for cause in (None, *Cause):
            outcome = Outcome(verdict, leg, place, cause, "192.0.2.1")
            text = shown(sample(2, 1, [Fault(outcome, "n1", "n2", "echo")]))
            assert f"echo: {'answer ' if text.count('echo: answer') else ''}{verdict}" in text
            assert "{" not in text
            assert "None" not in text


def test_required_probes_are_red_and_others_yellow() -> None:
    text = shown(sample(2, 1, [Fault(DROPPED_ON_PATH, "n1", "n2")]), color=True)
    assert text.count("\x1b[1;31mP\x1b[0m") == 1
    assert text.count("\x1b[1;33mP\x1b[0m") == 2
    strict = sample(2, 1, [Fault(LOSSY)], probes=(replace(GENEVE, severity=Severity.RECOMMENDED),))
    assert "\x1b[1;31m" not in shown(strict, color=True)


def test_rich_is_not_imported_for_a_clean_run() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from samples import sample\n"
        "from preflight.report.table import render\n"
        "render(sample(4), width=80, color=True, file=sys.stdout)\n"
        "assert 'rich' not in sys.modules\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": root, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
