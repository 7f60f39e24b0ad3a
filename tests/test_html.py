"""The HTML report as a file: whole, harmless whatever it is told, and true cell by cell."""

from __future__ import annotations

import base64
import json
import re
import zlib
from array import array
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from io import StringIO
from itertools import combinations, product
from typing import Any

import pytest
from found import EVERYTHING, HEALTH4, HOST_RULE, finding, with_findings
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    ANSWER_DROPPED_ON_PATH,
    ANSWERED,
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

from preflight.core.diff.compare import compare
from preflight.core.diff.turns import Turn
from preflight.core.findings.model import Change
from preflight.core.model import Evidence, Family, Node, Phase, Place
from preflight.core.snapshot import Snapshot
from preflight.report.grouping import groupings
from preflight.report.html import page, palette, render, render_diff
from preflight.report.html.comparison import TURNS, kinds
from preflight.report.html.payload import COLOURS
from preflight.report.html.tales import runs
from preflight.report.layers import layers
from preflight.report.symbols import LEGEND, symbol

ANY = (
    DELIVERED, ANSWERED, DROPPED_ON_PATH, DROPPED_AT_SOURCE, DROPPED_AT_DESTINATION, LOSSY,
    ANSWER_DROPPED_ON_PATH, NOT_LISTENING, NO_AGENT, None,
)  # fmt: skip
BOTH = (Family.IPV4, Family.IPV6)


def made(snapshot: Snapshot) -> str:
    file = StringIO()
    render(snapshot, file)
    return file.getvalue()


def compared(before: Snapshot, after: Snapshot) -> str:
    file = StringIO()
    render_diff(compare(before, after), file)
    return file.getvalue()


class Read(HTMLParser):
    """What a browser would see: elements, attributes, text, and what scripts and styles hold."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.raw: list[tuple[str, dict[str, str], str]] = []
        self.text = ""
        self._open: tuple[str, dict[str, str]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self._open = (tag, {name: value or "" for name, value in attrs})
            self.raw.append((*self._open, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is None:
            self.text += data
        else:
            tag, attributes, held = self.raw[-1]
            self.raw[-1] = (tag, attributes, held + data)

    def scripts(self) -> dict[str, str]:
        """Data by id, and the one that runs under the empty name."""
        return {a.get("id", ""): held for tag, a, held in self.raw if tag == "script"}

    def data(self) -> Any:
        return json.loads(self.scripts()["data"])


SMALL = with_findings(
    sample(
        4,
        racks=2,
        faults=[
            Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
            Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
        ],
        notes=["n3: tcpdump runs there"],
    ),
    *EVERYTHING,
)
PAGES = {
    "snapshot": lambda: made(SMALL),
    "nothing": lambda: made(sample(0)),
    "alone": lambda: made(sample(1)),
    "interrupted": lambda: made(sample(3, faults=[Fault(None)], interrupted=True)),
    "diff": lambda: compared(SMALL, sample(5, racks=2, phase=Phase.AFTER)),
    "strangers": lambda: compared(SMALL, sample(["x", "y"])),
}


@pytest.mark.parametrize("which", PAGES)
def test_a_page_needs_nothing_but_itself(which: str) -> None:
    text = PAGES[which]()
    assert text.isascii()
    read = Read(text)
    assert not {"img", "iframe", "link", "object", "embed", "base", "audio", "video"} & {*read.tags}
    links = [v for _, name, v in read.attributes if name in ("src", "href", "action", "srcset")]
    assert all(link.startswith("#") for link in links)
    assert not [name for _, name, _ in read.attributes if name.startswith("on") or name == "style"]
    style = next(held for tag, _, held in read.raw if tag == "style")
    assert not re.search(r"url\(|@import|expression", style)
    for content in (style, read.scripts()[""]):
        assert not re.search(r"https?:|//[a-z0-9.-]+\.[a-z]{2,}/", content)


@pytest.mark.parametrize("which", PAGES)
def test_nothing_runs_but_the_very_script_and_style_of_the_page(which: str) -> None:
    read = Read(PAGES[which]())
    policy = next(v for tag, name, v in read.attributes if tag == "meta" and "default-src" in v)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    style = next(held for tag, _, held in read.raw if tag == "style")
    for name, content in (("style-src", style), ("script-src", read.scripts()[""])):
        digest = base64.b64encode(sha256(content.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    running = [a for tag, a, _ in read.raw if tag == "script" and "type" not in a]
    assert running == [{}]


@pytest.mark.parametrize("which", PAGES)
def test_ids_are_unique_and_links_lead_somewhere(which: str) -> None:
    read = Read(PAGES[which]())
    ids = [v for _, name, v in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    meant = [v[1:] for _, name, v in read.attributes if name == "href"]
    meant += [v for _, name, v in read.attributes if name in ("aria-labelledby", "for", "list")]
    assert {*meant} - {"cell-head"} <= {*ids}  # which the script makes


HOSTILE = (
    "</script><script>hacked=1</script>", "<img src=x onerror=hacked=1>", "a\u2028b\u2029c",
    "]]><!--", '"><svg onload=hacked=1>', "&lt;b&gt;", "\x1b[31mred\x07", "\u202eevil", "\x01\x02",
    "javascript:hacked=1", "${hacked=1}", "~#/%&", "\U0001d4b3 \u00fcn\u00ef", "'" * 3,
)  # fmt: skip


def hostile() -> Snapshot:
    """Everything that a node or a file can say says something evil."""
    base = sample(list(HOSTILE), faults=[Fault(DROPPED_ON_PATH)], notes=HOSTILE)
    matrix = base.matrix
    matrix.nodes = tuple(
        replace(node, labels={evil: evil, "rack": evil}, cluster=evil)
        for node, evil in zip(matrix.nodes, HOSTILE, strict=True)
    )
    for index in range(len(matrix.nodes)):
        evil = HOSTILE[index % len(HOSTILE)]
        seen = blocked(Place.PATH)._replace(detail=evil, rejected_by=evil)
        if index:
            matrix.set(matrix.index(0, 0, 0, index), seen)
    told = [
        finding(
            title=evil,
            where=evil,
            sources=(0,),
            destinations=(1,),
            evidence=(evil,),
            advice=evil,
            unknown=(evil,),
            changes=(Change(HOSTILE[0], "nft", (evil,), (evil,)),),
        )
        for evil in HOSTILE
    ]
    agents = [replace(UNREACHABLE, reason=evil) for evil in HOSTILE]
    return replace(
        with_findings(base, *told), agents=agents, started=HOSTILE[0], finished=HOSTILE[1]
    )


def test_what_nodes_and_files_say_is_text() -> None:
    evil = hostile()
    harmless = with_findings(
        sample(len(HOSTILE), faults=[Fault(DROPPED_ON_PATH)], notes=HOSTILE), HOST_RULE
    )
    for text in (made(evil), compared(evil, evil), compared(harmless, evil)):
        read = Read(text)
        assert text.isascii()
        assert read.tags.count("script") == len(read.scripts())
        assert "img" not in read.tags
        assert not [name for _, name, _ in read.attributes if name.startswith("on")]
        assert {tag for tag in read.tags if tag == "svg"} == {"svg"}  # our own bars
        held = read.scripts()["data"]
        assert not set(held) & set("<>&\u2028\u2029")
    read = Read(made(evil))
    assert "<img src=x onerror=hacked=1>" in read.text
    assert read.data()["nodes"]["names"][1] == "<img src=x onerror=hacked=1>"
    assert all(name.isprintable() for name in read.data()["nodes"]["names"])


def layer(read: Read, side: int, key: str) -> tuple[Any, array[int]]:
    """One test's cells as numbers, as a browser would unpack them."""
    data = read.data()
    test = data["sides"][side]["tests"][key]
    raw = zlib.decompress(base64.b64decode(read.scripts()[test["cells"]]))
    cells = array({1: "B", 2: "H", 4: "I"}[test["width"]])
    cells.frombytes(raw)
    return test, cells


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_cell_is_in_the_page_with_its_evidence(data: st.DataObject) -> None:
    snapshot = sample(data.draw(st.integers(2, 6)), families=BOTH[: data.draw(st.integers(1, 2))])
    matrix = snapshot.matrix
    size = len(matrix.nodes)
    for f, p, s, d in product(range(len(matrix.families)), range(3), range(size), range(size)):
        if s != d:
            matrix.set(matrix.index(f, p, s, d), data.draw(st.sampled_from(ANY)))
    read = Read(made(snapshot))
    page_data = read.data()
    signs = [sign for sign, _, _ in page_data["kinds"]]
    tests = {test["key"] for test in page_data["tests"]}
    for f, p in product(range(len(matrix.families)), range(3)):
        if not matrix.outcomes_of(f, p):
            assert f"{p}/{f}" not in tests
            continue
        test, cells = layer(read, 0, f"{p}/{f}")
        side = page_data["sides"][0]
        for s, d in product(range(size), range(size)):
            outcome = matrix.outcome(matrix.index(f, p, s, d))
            number = cells[s * size + d]
            if outcome is None:
                assert number == 0
                continue
            assert signs[side["kinds"][number]] == symbol(outcome)
            assert side["seen"][number] == list(outcome.evidence)
            assert str(number) in test["tales"]


def test_more_outcomes_than_a_byte_can_number() -> None:
    snapshot = sample(20)
    matrix = snapshot.matrix
    for s, d in product(range(20), range(20)):
        if s != d:
            seen = Evidence(400, 400, s * 20 + d, s * 20 + d)
            matrix.set(matrix.index(0, 0, s, d), LOSSY._replace(evidence=seen))
    read = Read(made(snapshot))
    test, cells = layer(read, 0, "0/0")
    assert test["width"] == 2
    assert read.data()["sides"][0]["seen"][cells[7 * 20 + 9]][3] == 149


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_difference_is_the_diffs(data: st.DataObject) -> None:
    names = [f"n{i}" for i in range(1, 8)]
    sides = []
    for phase in Phase:
        own = data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=5, unique=True))
        snapshot = sample(own, phase=phase)
        matrix = snapshot.matrix
        matrix.nodes = tuple(  # addresses go with names
            replace(node, addresses=(f"10.0.0.{names.index(node.name) + 1}",))
            for node in matrix.nodes
        )
        for p, s, d in product(range(3), range(len(own)), range(len(own))):
            if s != d:
                matrix.set(matrix.index(0, p, s, d), data.draw(st.sampled_from(ANY)))
        sides.append(snapshot)
    diff = compare(*sides)
    read = Read(compared(*sides))
    found = read.data()
    size = len(found["nodes"]["names"])
    known = {node.node.name for node in diff.nodes}
    assert {*found["nodes"]["names"]} == known
    by_code = [None, *Turn]
    for tally in diff.tallies:
        key = f"{tally.test.probe}/0"
        raw = zlib.decompress(base64.b64decode(read.scripts()[found["turns"]["tests"][key]]))
        for s in range(size):
            told = [by_code[code] for code in raw[s * size : (s + 1) * size]]
            assert told == diff.row(tally.test, s)
        for side, snapshot in enumerate(sides):
            matrix = snapshot.matrix
            own = [pairing.after if side else pairing.before for pairing in diff.nodes]
            assert found["sides"][side]["nodes"] in (
                [-1 if i is None else i for i in own],
                None if own == list(range(len(matrix.nodes))) else (),
            )


def test_every_turn_has_a_sign_of_its_own_and_every_sign_a_colour() -> None:
    assert {*TURNS} == {*Turn}
    assert [turn for turn, kind in zip([None, *Turn], kinds(), strict=True) if turn] == [*Turn]
    assert len({sign for sign, _, _ in kinds()}) == len(kinds())
    assert {colour for _, _, colour in kinds()} <= {*palette.CELLS}
    assert {*COLOURS} == {*LEGEND}
    assert {*COLOURS.values()} <= {*palette.CELLS}
    script = files(page.__package__).joinpath("assets", "tally.js").read_text("utf-8")
    ranked = re.search(r"RANK = \[(.*?)\]", script, re.DOTALL)
    assert ranked is not None
    assert {*re.findall(r"'(\w+)'", ranked[1])} == {*palette.CELLS}


def test_the_answer_comes_first_and_nothing_is_left_out() -> None:
    many = [
        finding(
            title=f"cause number {i}",
            evidence=[f"proof {i}.{j}" for j in range(9)],
            changes=[Change("n1", "nft", (f"command {i}.{j}",), ()) for j in range(9)],
        )
        for i in range(40)
    ]
    read = Read(made(with_findings(SMALL, *many)))
    text = read.text
    heads = [tag for tag in read.tags if tag in ("h1", "h2", "h3")]
    assert heads[:4] == ["h1", "h2", "h2", "h3"]  # the answer, notes, findings
    answer = text.index("Cilium's GENEVE does NOT get through for 3 of 12 pairs")
    assert answer < text.index("cause number 0")
    for i, j in product(range(40), range(9)):
        assert f"cause number {i}" in text
        assert f"proof {i}.{j}" in text
        assert f"command {i}.{j}" in text
    assert "more: --format json" not in text


def test_commands_are_as_they_were() -> None:
    read = Read(made(SMALL))
    for told in EVERYTHING:
        for change in told.changes:
            for command in change.commands:
                assert command in read.text


def test_a_file_without_findings_says_what_is_not_open() -> None:
    text = Read(made(replace(SMALL, findings=()))).text
    assert "Not open, and why" in text
    assert "geneve: blocked inside the destination, dropped (required)" in text
    assert "all → n2" in text


@pytest.mark.parametrize(
    ("snapshot", "says"),
    [
        (sample(3), "Cilium's GENEVE gets through for all 6 pairs"),
        (sample(3, faults=[Fault(NO_AGENT, "n1")]), "Cilium's GENEVE is unknown for 2 of 6 pairs"),
        (sample(2, agents={"n1": UNREACHABLE, "n2": UNREACHABLE}), "No node could be used"),
        (sample(3, interrupted=True), "INTERRUPTED"),
        (sample(0), "nothing was tested"),
        (sample(1), "Nothing was tested"),
    ],
)
def test_what_the_page_begins_with(snapshot: Snapshot, says: str) -> None:
    text = Read(made(snapshot)).text
    assert says in text


def test_one_answer_for_the_table_and_the_page() -> None:
    from preflight.report.summary import answers

    told = answers(SMALL, layers(SMALL.matrix))
    text = " ".join(Read(made(SMALL)).text.split())
    assert told
    assert all(words in text for words, _ in told)


def test_a_script_may_be_any_size_but_names_every_asset_once() -> None:
    folder = files(page.__package__).joinpath("assets")
    assets = {asset.name: asset.read_text("utf-8") for asset in folder.iterdir()}
    assert {*assets} == {*page.STYLES, *page.SCRIPTS, "page.html", "matrix.html"}
    assert all(text.isascii() for text in assets.values())
    code = "".join(text for name, text in assets.items() if name.endswith(".js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", code)


# --- groups


def nodes_of(labels: list[dict[str, str]], addresses: list[str] | None = None) -> list[Node]:
    return [
        Node(f"n{i}", ((addresses or [])[i] if addresses else f"10.0.0.{i + 1}",), "h", labels=own)
        for i, own in enumerate(labels)
    ]


def test_groups_stand_in_the_order_that_people_count_in() -> None:
    found = groupings(nodes_of([{"rack": r} for r in ("r10", "r2", "r2", "r1", "r10")]), ())
    assert found[0].title == "rack"
    assert found[0].names == ("rack=r1", "rack=r2", "rack=r10")
    assert found[0].of == (2, 1, 1, 0, 2)


def test_a_label_that_not_all_have_and_one_that_is_only_a_name() -> None:
    labels = [{"host": "a"}, {"host": "b", "zone": "x"}, {"host": "c", "zone": "x"}]
    found = groupings(nodes_of(labels), ())
    assert [(g.title, g.names) for g in found] == [("zone", ("zone=x", "no zone"))]


def test_subnets_where_there_are_several() -> None:
    addresses = ["10.0.1.1", "10.0.1.2", "10.0.2.1", "10.0.2.2"]
    (found,) = groupings(nodes_of([{}] * 4, addresses), ())
    assert (found.title, found.names) == ("subnet", ("10.0.1.0/24", "10.0.2.0/24"))
    assert groupings(nodes_of([{}] * 4), ()) == []


def test_thousands_of_subnets_become_wider_ones() -> None:
    addresses = [f"10.{i // 256}.{i % 256}.1" for i in range(2000)]
    (found,) = groupings(nodes_of([{}] * 2000, addresses), ())
    assert 2 <= len(found.names) <= 64


def test_nodes_that_fare_alike() -> None:
    snapshot = sample(12, faults=[Fault(DROPPED_ON_PATH, "n3,n5", "*")])
    found = groupings(snapshot.matrix.nodes, layers(snapshot.matrix))
    assert [(g.title, g.names) for g in found] == [
        ("how they fare", ("n1, n2 and 8 more", "n3, n5"))
    ] or found[0].of.count(1) == 2


@given(st.sets(st.integers(0, 60)))
def test_runs_hold_what_they_were_made_of(positions: set[int]) -> None:
    told = runs(sorted(positions))
    again = {i for a, b in zip(told[::2], told[1::2], strict=True) for i in range(a, b + 1)}
    assert again == positions


# --- colours


def linear(colour: str) -> tuple[float, float, float]:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio."""
    lights = [
        sum(f * c for f, c in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))
        for colour in (one, other)
    ]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


# Machado, Oliveira and Fernandes 2009: what people without one kind of cone see, in linear RGB.
EYES = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216),
               (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
                 (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602),
                (0.004733, 0.691367, 0.303900)),
}  # fmt: skip


def lab(colour: str, eye: str) -> tuple[float, float, float]:
    """CIE L*a*b* of what an eye sees, D65."""
    rgb = linear(colour)
    seen = [min(1.0, max(0.0, sum(m * c for m, c in zip(row, rgb, strict=True))))
            for row in EYES[eye]]  # fmt: skip
    xyz = [
        sum(m * c for m, c in zip(row, seen, strict=True)) / white
        for row, white in (
            ((0.4124, 0.3576, 0.1805), 0.9505),
            ((0.2126, 0.7152, 0.0722), 1.0),
            ((0.0193, 0.1192, 0.9505), 1.089),
        )
    ]
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def apart(one: str, other: str, eye: str) -> float:
    pairs = zip(lab(one, eye), lab(other, eye), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) ** 0.5


THEMES = [pytest.param(palette.LIGHT, id="light"), pytest.param(palette.DARK, id="dark")]


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read(theme: palette.Theme) -> None:
    own = theme.page
    for name, ground in product(palette.TEXT, ("paper", "panel")):
        assert contrast(own[name], own[ground]) >= 4.5, (name, ground)
    for name in ("good", "bad", "warn", "unknown"):
        assert contrast(own[name], own[f"{name}fill"]) >= 4.5, name
    for name, ink in theme.cells.items():
        assert contrast(ink.sign, ink.fill) >= 4.5, name
    assert contrast(own["edge"], own["paper"]) >= 3
    assert contrast(own["focus"], own["paper"]) >= 3


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("theme", THEMES)
def test_what_is_bad_is_seen_by_every_eye(theme: palette.Theme, eye: str) -> None:
    assert {*theme.cells} == {*palette.CELLS}
    fills = {name: ink.fill for name, ink in theme.cells.items()}
    bad = ("source", "path", "destination", "place", "lossy", "closed", "broken", "worse",
           "otherwise")  # fmt: skip
    for name in bad:
        assert apart(fills["open"], fills[name], eye) >= 40, name
        light = abs(lab(fills["open"], eye)[0] - lab(fills[name], eye)[0])
        assert light >= 15, f"{name} differs from open by hue alone"
    for name in ("unknown", "none", "mended", "eased", "still", "lost", "once"):
        assert apart(fills["open"], fills[name], eye) >= 5, name
    run = ("open", *bad[:6], "unknown")
    turned = ("open", *bad[6:], "lossy", "still", "eased", "mended", "lost", "once")
    for own in (run, turned):
        for one, other in combinations(own, 2):
            assert apart(fills[one], fills[other], eye) >= 10, (one, other)


def test_findings_of_one_run_do_not_meet_those_of_the_other() -> None:
    after = with_findings(
        sample(4, faults=[Fault(DROPPED_ON_PATH, "n1", "n3", "health")]),
        finding(title="later", tests=(HEALTH4,), sources=(0,), destinations=(2,)),
    )
    read = Read(compared(SMALL, after))
    ids = [v for _, name, v in read.attributes if name == "id"]
    for side in read.data()["sides"]:
        for told in side["findings"]:
            assert told["anchor"] in ids
