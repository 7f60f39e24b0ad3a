"""A ticket: short, complete where asked, and whatever a node says in it is only text."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from found import BETWEEN_RACKS, HAZARD, HOST_RULE, with_findings
from hypothesis import example, given
from hypothesis import strategies as st
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    NO_AGENT,
    UNREACHABLE,
    Fault,
    blocked,
    sample,
)

from preflight.core.findings.model import Change
from preflight.core.model import Cause, Place
from preflight.core.snapshot import Snapshot
from preflight.core.view import Filter, view
from preflight.report.markdown import render
from preflight.report.ticket import Ticket, code, fenced, inline

FAULTS = [
    Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
    Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
    Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "health"),
]


def two() -> Snapshot:
    return with_findings(sample(4, 2, FAULTS), HOST_RULE, BETWEEN_RACKS, HAZARD)


def shown(snapshot: Snapshot, wanted: Filter | None = None, *, full: bool = False) -> str:
    file = io.StringIO()
    render(view(snapshot, wanted), file, full=full)
    return file.getvalue()


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, as a reader of Markdown splits them."""
    found: list[list[list[str]]] = []
    inside = fence = False
    for line in text.splitlines():
        fence ^= line.startswith("```")
        if fence or not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not inside:
            found.append([])
        inside = True
        found[-1].append(cells)
    return found


def test_the_verdict_comes_first_and_changes_can_be_copied() -> None:
    text = shown(two())
    assert text.startswith("**Cilium's GENEVE does NOT get through for 3 of 12 pairs.**\n\n")
    (findings,) = tables(text)
    assert [row[0] for row in findings] == ["", "---", "F1", "F2", "F3"]
    assert findings[2][1:] == [
        "required",
        HOST_RULE.title,
        "all → n2",
        "3",
    ]
    command = HOST_RULE.changes[0].commands[0]
    assert f"\nOn n2, as root:\n\n```sh\n{command}\n```\n" in text
    assert "\n```text\n    geneve " in text
    assert len(text.splitlines()) < 80


def test_every_table_has_one_width() -> None:
    for text in (shown(two()), shown(two(), full=True)):
        for rows in tables(text):
            assert len({len(row) for row in rows}) == 1


def test_full_leaves_nothing_out() -> None:
    many = [
        HOST_RULE._replace(
            title=f"title {i}",
            changes=tuple(Change(f"n{n}", "nft", (f"command {i} {n}",), ()) for n in range(1, 5)),
            evidence=tuple(f"evidence {i} {n}" for n in range(7)),
        )
        for i in range(30)
    ]
    snapshot = with_findings(sample(4, 2, FAULTS), *many)
    short, full = shown(snapshot), shown(snapshot, full=True)
    assert "and 20 findings more, 60 cells: `--full` has all." in short
    assert "command 29" not in short
    for i in range(30):
        assert f"title {i}" in full
        for n in range(1, 5):
            assert f"\ncommand {i} {n}\n" in full
        assert all(f"- evidence {i} {n}\n" in full for n in range(7))
    assert "| n4 | 10.0.0.4 | rack=b | ok |" in full


def test_without_findings_the_causes_are_told() -> None:
    snapshot = sample(4, 2, [*FAULTS, Fault(NO_AGENT, "n4")], agents={"n4": UNREACHABLE})
    rows = [row for table in tables(shown(snapshot)) for row in table]
    assert [
        "geneve",
        "required",
        "blocked inside the destination, dropped",
        "n1, n3 → n2",
        "2",
    ] in (rows)
    assert ["n4", "unreachable", UNREACHABLE.reason] in rows
    assert "allow UDP 6081" in shown(snapshot, full=True)


def test_a_clean_run_is_a_few_lines() -> None:
    lines = shown(sample(40)).splitlines()
    assert lines[0] == "**Cilium's GENEVE gets through for all 1,560 pairs.**"
    assert len(lines) == 5


def test_a_matrix_that_is_left_out_is_said_to_be() -> None:
    snapshot = sample(60, 1)
    for i in range(40):
        snapshot.matrix.set(snapshot.matrix.index(0, 0, i, (i * 7 + 1) % 60), DROPPED_ON_PATH)
    text = shown(snapshot)
    assert re.search(r"### Matrix\n\n\d+ lines, left out here: `--full` has all\.\n", text)
    assert "```text" not in text
    assert "```text" in shown(snapshot, full=True)


def test_what_a_filter_leaves_out_is_said_and_the_verdict_stays_the_runs() -> None:
    text = shown(two(), Filter(sources=[2]))
    assert text.startswith("**Cilium's GENEVE does NOT get through for 3 of 12 pairs.**")
    assert "**Showing 9 of 36 cells: source n3.** What is above is of the whole run." in text


def test_an_interruption_is_said_first() -> None:
    assert shown(replace(two(), interrupted=True)).startswith("**INTERRUPTED")


HOSTILE = (
    "a|b `c` **d** <img src=x onerror=alert(1)> [e](http://x) @team #12 ~~f~~ &amp; \\ _g_ \x1b[31m"
)


def test_nothing_that_a_node_says_is_markup() -> None:
    rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="2001:db8:a:b::1")
    snapshot = sample([HOSTILE, "- n2", "# n3", "fd00:a:b::1"], 2, [Fault(rejected, "- n2")],
                      notes=[HOSTILE, "1. one"])  # fmt: skip
    made = HOST_RULE._replace(
        title=HOSTILE, evidence=(HOSTILE,), advice=HOSTILE, unknown=(HOSTILE,), where=HOSTILE,
        changes=(Change(HOSTILE, "nft", ("echo `x` ```` | & <b>",), (HOSTILE,)),),
    )  # fmt: skip
    for full in (False, True):
        text = shown(with_findings(snapshot, made), full=full)
        bare = outside(text)
        for mark in ("<img", "[e](", "@team", "#12", "~~f", "&amp; ", "\x1b", "_g_", "2001:db8:a"):
            assert mark not in bare, mark
        assert "`````sh\necho `x` ```` | & <b>\n`````" in text
        for rows in tables(text):
            assert len({len(row) for row in rows}) == 1


def outside(text: str) -> str:
    """What is not code, and without what a backslash makes plain."""
    text = re.sub(r"^(`{3,})[a-z]*\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\\.", "", text)
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", " ", text)


@given(st.text())
@example("``")
@example("`")
@example("-")
@example("12. x")
@example("a@b #1 x:y:z")
@example("0#&0")
def test_inline_text_is_one_line_and_code_is_closed(text: str) -> None:
    for made in (inline(text), code(text)):
        assert "\n" not in made
        assert made.isprintable()
    bare = outside(inline(text))
    assert not re.search(r"[*_\[\]|~<>`]", bare)
    assert not re.search(r"[@#]\w", bare)
    assert not re.match(r"(?:#|[-+](?:\s|$)|\d+[.)](?:\s|$))", inline(text))


@given(st.lists(st.text(max_size=12), min_size=1))
def test_a_fence_is_longer_than_what_is_in_it(lines: list[str]) -> None:
    first, *inside, last = fenced(lines)
    assert first == last
    assert len(inside) == len(lines)
    assert all(last not in line for line in inside)


@pytest.mark.parametrize("word", ["fd00:a:b::1", "(fd00::1)", "02:00:00", "a:b:c,"])
def test_colons_make_no_picture(word: str) -> None:
    assert not re.search(r":\w+:", outside(inline(word)))


def test_the_writer_makes_paragraphs_lists_and_blocks() -> None:
    ticket = Ticket()
    ticket.item("F1", "required", "a | b")
    ticket.sentence(("where", "head"), "  3 pairs")
    ticket.bullet("one")
    ticket.bullet("two")
    ticket.sentence("On n1:")
    ticket.command("a")
    ticket.command("b")
    ticket.gap()
    ticket.sentence("after")
    assert ticket.lines == [
        "**F1**, required, a \\| b", "", "**where** 3 pairs", "", "- one", "- two", "", "On n1:",
        "", "```sh", "a", "b", "```", "", "after",
    ]  # fmt: skip
