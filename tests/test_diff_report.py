"""What is printed of a diff, in every form: all of it, and nothing that a file could inject."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    UNREACHABLE,
    Fault,
    sample,
)

from preflight.core.diff.compare import compare
from preflight.core.diff.model import Course, Diff
from preflight.core.diff.turns import Turn
from preflight.core.findings.build import findings
from preflight.core.groups import groups
from preflight.core.model import GENEVE, HEALTH, Family, Phase
from preflight.core.snapshot import Snapshot
from preflight.report.diff import junit, words
from preflight.report.diff import table as table_report
from preflight.report.diff.json import dump
from preflight.report.diff.markdown import write as write_markdown
from preflight.report.diff.table import render
from preflight.report.schema import diff_schema
from preflight.report.text import cells as width_of

FILES = ("before.json", "after.json")
SCHEMA = json.loads(diff_schema())


def found(of: Snapshot) -> Snapshot:
    return replace(of, findings=tuple(findings(of.matrix, groups(of.matrix))))


def later(of: Snapshot) -> Snapshot:
    return replace(of, started="2026-03-01T04:10:00Z", finished="2026-03-01T04:10:09Z")


def everything() -> Diff:
    """One of each: worse, mended, still bad, lost, cleared, gone, came, another probe."""
    before = sample(
        6,
        2,
        [
            Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve"),
            Fault(LOSSY, "n1", "n2", "health"),
            Fault(NO_AGENT, "*", "n6"),
            Fault(NO_AGENT, "n6", "*"),
        ],
        agents={"n6": UNREACHABLE},
        families=(Family.IPV4, Family.IPV6),
    )
    after = sample(
        ["n1", "n2", "n3", "n4", "n5", "n7", "n6"],
        2,
        [
            Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve"),
            Fault(DROPPED_ON_PATH, "n1", "n2", "health"),
            Fault(NOT_LISTENING, "*", "n4", "health"),
            Fault(NO_AGENT, "n2", "n5", "geneve"),
        ],
        phase=Phase.AFTER,
        probes=(GENEVE, HEALTH),
    )
    return compare(found(before), later(found(after)))


def table(diff: Diff, width: int = 80, *, color: bool = False, cells: bool = False) -> str:
    return encoded(diff, width, "utf-8", color=color, cells=cells)


def encoded(diff: Diff, width: int, encoding: str, *, color: bool, cells: bool) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    render(diff, FILES, cells=cells, width=width, color=color, file=file)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_the_whole_of_a_small_comparison() -> None:
    before = sample(3, 1, [Fault(DROPPED_ON_PATH, "n1", "n2", "geneve")])
    after = sample(3, 1, [Fault(NOT_LISTENING, "*", "n3", "health")], phase=Phase.AFTER)
    assert table(compare(found(before), later(found(after)))) == (
        """\
BEFORE  before.json: before Cilium, 2026-03-01T02:00:00Z, 3 nodes
AFTER   after.json: with Cilium, 2026-03-01T04:10:00Z, 3 nodes, 2 h 10 min later

                   open   closed  blocked
geneve (required)  5 → 6          1 → 0
health             6 → 4  0 → 2
echo               6

    geneve before   geneve after   health before   health after
    n1 n2 n3        n1 n2 n3       n1 n2 n3        n1 n2 n3
n1  \\  P  ·         \\  ·  ·        \\  ·  ·         \\  ·  c
n2  ·  \\  ·         ·  \\  ·        ·  \\  ·         ·  \\  c
n3  ·  ·  \\         ·  ·  \\        ·  ·  \\         ·  ·  \\

· open   P blocked on the path   c closed: Cilium does not serve the port
Rows send, columns receive.
As before: echo.

Worse

F1 new  recommended  all → n3: nobody serves TCP 4240 there
    2 pairs: health
    - health n1 → n3: sent 3, left 3, arrived 3, accepted 3, answered 3,
      returned 3, received 3
    Is Cilium's agent running there (kubectl -n kube-system get pods -o wide),
    and does another process or another address have the port?

  all → n3  2 pairs: health  open → closed, nobody serves the port

Mended

BEFORE's F1 mended  required  n1 → n2: the network drops UDP 6081

  n1 → n2  1 pair: geneve  blocked on the path, dropped → open

Notes
  -  Before the installation a tunnel's probe looks like Cilium's own packets,
     after it like packets that the kernel throws away: a firewall that inspects
     tunnels may tell them apart.

Recommended: 2 cells got worse.
Required: nothing got worse; 1 cell mended.
"""
    )


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_and_comes_out_in_any_encoding(width: int, encoding: str) -> None:
    text = encoded(everything(), width, encoding, color=False, cells=True)
    # Commands and pictures of long names may be wider; this diff has neither.
    assert [line for line in text.splitlines() if width_of(line) > width] == []
    assert "\x1b" not in text
    colour = encoded(everything(), width, encoding, color=True, cells=True)
    plain = re.sub(r"\x1b\[[\d;]*m", "", colour)
    assert [line.rstrip() for line in plain.splitlines()] == text.splitlines()


def test_rows_that_stand_for_many_are_spelled_out_below_their_own_picture() -> None:
    """Pictures of two probes number their rows each for itself."""
    odd = ",".join(f"n{i}" for i in range(1, 60, 3))
    faults = [Fault(DROPPED_ON_PATH, odd, "n60", "health"), Fault(LOSSY, "n2", "*", "echo")]
    text = table(compare(sample(60), later(sample(60, 1, faults))), 60)
    health = text.index("health after")
    echo = text.index("echo after")
    rows = [found.start() for found in re.finditer(r"^Row \d+: ", text, re.MULTILINE)]
    assert any(health < row < echo for row in rows)
    whole = " ".join(text[health:echo].split())
    for name in odd.split(","):
        assert re.search(rf"\b{name}\b", whole)


def test_every_section_and_turn_has_words() -> None:
    assert sorted(c for s in words.SECTIONS for c in s.courses) == sorted(Course)
    told = {t for s in words.SECTIONS for t in s.turns}
    assert told == set(Turn) - {Turn.SAME, Turn.WENT}
    assert words.COURSES.keys() == set(Course)


def test_with_cells_each_one_has_its_line() -> None:
    diff = everything()
    text = table(diff, 200, cells=True)
    lines = text.split("\nCells\n", 1)[1].split("\nNotes", 1)[0].strip().splitlines()
    assert len(lines) == sum(1 for _ in diff.cells())
    # Two spaces between columns.
    row = next(line for line in lines if line.strip().startswith("n1 → n2"))
    assert re.fullmatch(
        r"  n1 → n2\s+health ipv4\s+worse\s+lossy on the path, dropped → "
        r"blocked on the path, dropped",
        row,
    )


def test_what_is_left_of_very_many_cells_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    diff = everything()
    number = sum(1 for _ in diff.cells())
    monkeypatch.setattr(table_report, "_CELLS", 5)
    assert f"and {number - 5} cells more: --format json has all, with --cells" in table(
        diff, 120, cells=True
    )


HOSTILE = "n1\x1b[31m\u202e|`<b>\n# x"


def hostile() -> Diff:
    def odd(of: Snapshot) -> Snapshot:
        matrix = of.matrix
        first, *rest = matrix.nodes
        matrix.nodes = (replace(first, name=HOSTILE, labels={"rack": "\x07a|b"}), *rest)
        return replace(found(of), started="2026\x1b]0;x\x07")

    return compare(
        odd(sample(3)), odd(sample(3, 1, [Fault(DROPPED_ON_PATH, "n1", "*")], notes=["\x1b[2J"]))
    )


def test_nothing_steers_a_terminal() -> None:
    text = table(hostile(), cells=True)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    file = io.StringIO()
    write_markdown(hostile(), ("a`b", "c\x1b"), file)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", file.getvalue())


def markdown(diff: Diff) -> str:
    file = io.StringIO()
    write_markdown(diff, FILES, file)
    return file.getvalue()


def test_markdown_shows_names_as_they_are() -> None:
    text = markdown(hostile())
    assert r"n1?\|\`\<b\> \# x" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, len(words_columns(text)))


def words_columns(text: str) -> list[str]:
    head = next(line for line in text.splitlines() if line.startswith("| cells"))
    return head.split("|")[1:]


def test_markdown_is_short_and_says_what_it_leaves_out() -> None:
    faults = [
        Fault(DROPPED_ON_PATH, f"n{i}", f"n{(i * 7) % 40 + 1}", "geneve") for i in range(1, 40)
    ]
    faults = [f for f in faults if f.sources != f.destinations]
    text = markdown(compare(found(sample(40)), later(found(sample(40, 1, faults)))))
    assert "more, " in text
    assert "has all." in text
    assert text.count("\n") < 120
    assert "\n\n\n" not in text
    assert text.startswith("## Preflight: before and after\n\n- **Required: 3")


# --- for machines -----------------------------------------------------------------------------


def value(diff: Diff, *, cells: bool = True) -> dict[str, object]:
    file = io.StringIO()
    dump(diff, FILES, cells=cells, file=file)
    return json.loads(file.getvalue())  # type: ignore[no-any-return]


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.parametrize("make", [everything, hostile])
def test_json_is_what_its_schema_says(make: object, cells: bool) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    told = value(make(), cells=cells)  # type: ignore[operator]
    jsonschema.validate(told, SCHEMA)
    assert ("cells" in told) == cells


def test_the_schema_refuses_what_is_not_one() -> None:
    told = value(compare(sample(2), later(sample(2))), cells=False)
    for key in SCHEMA["required"]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in told.items() if k != key}, SCHEMA)
    told["counts"][0]["turns"] = {"vanished": 1}  # type: ignore[index]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, SCHEMA)


def test_json_has_every_cell_and_the_same_sums() -> None:
    diff = everything()
    told = value(diff)
    turns: Counter[tuple[str, str, str]] = Counter()
    for cell in told["cells"]:  # type: ignore[attr-defined]
        turns[cell["probe"], cell["family"], cell["turn"]] += 1
    for count in told["counts"]:  # type: ignore[attr-defined]
        for turn, number in count["turns"].items():
            if turn != "same":
                assert turns[count["probe"], count["family"], turn] == number
        for side in ("before", "after"):
            verdicts = sum(number[side] for number in count["verdicts"].values())
            assert verdicts == sum(count["turns"].values())
    assert told["exit_code"] == {"normal": 1, "strict": 1}


def cases(diff: Diff, *, strict: bool = False) -> list[ET.Element]:
    file = io.StringIO()
    junit.write(diff, strict=strict, file=file)
    root = ET.fromstring(file.getvalue())
    for suite in root.iter("testsuite"):
        own = list(suite.iter("testcase"))
        assert int(suite.attrib["tests"]) == len(own)
        for kind, name in (("failures", "failure"), ("skipped", "skipped")):
            assert int(suite.attrib[kind]) == sum(case.find(name) is not None for case in own)
    return list(root.iter("testcase"))


def test_junit_has_a_case_for_each_cell() -> None:
    diff = everything()
    own = cases(diff)
    assert len(own) == sum(diff.turns().values())
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in own}) == len(own)
    failed = [case for case in own if case.find("failure") is not None]
    required = sum(
        tally.turns.get(turn, 0)
        for tally in diff.tallies
        if tally.severity == "required"
        for turn in (Turn.BROKEN, Turn.WORSE)
    )
    assert len(failed) == required > 0
    assert all(case.attrib["classname"].startswith("preflight.diff.required.") for case in failed)
    turns = diff.turns()
    strictly = [case for case in cases(diff, strict=True) if case.find("failure") is not None]
    assert len(strictly) == turns[Turn.BROKEN] + turns[Turn.WORSE] > required


def test_junit_says_what_is_still_bad_and_lets_it_pass() -> None:
    still = [Fault(DROPPED_ON_PATH, "n1", "n2", "geneve")]
    diff = compare(sample(2, 1, still), later(sample(2, 1, still)))
    (case,) = [case for case in cases(diff) if case.find("system-out") is not None]
    assert case.findtext("system-out", "").startswith("still: blocked on the path")
    assert not [case for case in cases(diff) if case.find("failure") is not None]


def test_junit_of_many_cells_has_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    diff = everything()
    monkeypatch.setattr(junit, "_MOST", 10)
    own = cases(diff)
    assert len(own) < sum(diff.turns().values())
    counted = sum(
        int(re.search(r"\(([\d,]+) pairs?\)$", case.attrib["name"])[1].replace(",", ""))  # type: ignore[index]
        for case in own
    )
    assert counted == sum(diff.turns().values())


def test_junit_is_xml_whatever_the_names() -> None:
    assert cases(hostile())
