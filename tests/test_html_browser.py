"""The HTML report in a real headless Chromium, by mouse and by keyboard."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, Page
from found import BETWEEN_RACKS, EVERYTHING, HOST_RULE, RULE, finding, with_findings
from samples import (
    ANSWER_DROPPED_ON_PATH,
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    Fault,
    sample,
)
from test_html import hostile

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.trial import DISCOVERY, RuleHit
from preflight.core.diff.compare import compare
from preflight.core.diff.turns import Turn
from preflight.core.findings.build import findings
from preflight.core.groups import FamilyProbe, groups
from preflight.core.model import Family, Phase
from preflight.core.snapshot import Snapshot
from preflight.core.story import Step, stories
from preflight.report import telling
from preflight.report.html import palette, render, render_diff
from preflight.report.html.comparison import TURNS
from preflight.report.symbols import symbol

BOTH = (Family.IPV4, Family.IPV6)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of this file."""
    if shutil.which("chromium") is None:
        if os.geteuid() == 0 and shutil.which("apt-get"):
            pytest.fail("chromium is not installed: scripts/setup chromium=chromium")
        pytest.skip("no chromium here")
    browser = Browser.start()
    yield browser
    browser.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("html")


def written(folder: Path, name: str, snapshot: Snapshot) -> Path:
    path = folder / f"{name}.html"
    with path.open("w", encoding="ascii") as file:
        render(snapshot, file)
    return path


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    snapshot = sample(
        4,
        racks=2,
        faults=[
            Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
            Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
            Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "health"),
        ],
    )
    return written(folder, "small", with_findings(snapshot, HOST_RULE, BETWEEN_RACKS))


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    """400 nodes in 8 racks."""
    faults = [
        Fault(DROPPED_ON_PATH, "rack=a", "rack=c"),
        Fault(DROPPED_AT_DESTINATION, "*", "n203"),
        *(Fault(LOSSY, f"n{77 + i}", f"n{333 + 5 * i}", "geneve") for i in range(8)),
    ]
    snapshot = sample(400, racks=8, faults=faults)
    told = findings(snapshot.matrix, groups(snapshot.matrix))
    return written(folder, "large", replace(snapshot, findings=told))


BEFORE = sample(
    4, racks=2, faults=[Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"), Fault(NO_AGENT, "n4")]
)
AFTER = sample(
    5,
    racks=2,
    phase=Phase.AFTER,
    faults=[Fault(DROPPED_ON_PATH, "n1", "n3"), Fault(NOT_LISTENING, "*", "n2", "health")],
)


@pytest.fixture(scope="module")
def both(folder: Path) -> Path:
    path = folder / "both.html"
    with path.open("w", encoding="ascii") as file:
        render_diff(
            compare(
                *(
                    replace(s, findings=findings(s.matrix, groups(s.matrix)))
                    for s in (BEFORE, AFTER)
                )
            ),
            file,
        )
    return path


def cell(source: str, destination: str) -> str:
    return f'td[aria-label^="{source} \\u2192 {destination}:"]'.replace("\\u2192", "→")


def signs(page: Page) -> list[list[str]]:
    """The cells that are drawn, those of a node and itself left empty."""
    code = (
        "[...document.querySelectorAll('.grid tbody tr')].map((row) => "
        "[...row.querySelectorAll('td')].map((cell) => cell.textContent))"
    )
    return list(page.do(code))


def expected(snapshot: Snapshot, probe: int) -> list[list[str]]:
    grid = snapshot.matrix.grid(0, probe)
    return [["" if s == d else symbol(o).strip() for d, o in enumerate(row)]
            for s, row in enumerate(grid)]  # fmt: skip


def test_a_small_page_opens_and_is_what_was_measured(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.open(small)
        assert page.text("h1") == "Cilium's GENEVE does NOT get through for 3 of 12 pairs."
        assert signs(page) == [["", "D", "·", "·"], ["·", "", "·", "·"],
                               ["·", "D", "", "·"], ["·", "D", "·", ""]]  # fmt: skip
        assert page.texts(".grid .names th") == ["n1", "n2", "n3", "n4"]
        assert page.texts(".grid .groups th") == ["rack=a", "rack=b"]
        page.changing(lambda: page.click("[name=probe][value=health]"))
        assert signs(page)[0] == ["", "·", "P", "P"]
        assert "probe=health" in page.do("location.hash")
        assert page.complaints() == []


def test_a_cell_opens_by_mouse_and_tells_its_story(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.open(small)
        page.changing(lambda: page.click(cell("n3", "n2")))
        assert page.text("#cell h3") == "n3 → n2"
        first = page.text("#cell .story")
        assert first.startswith("geneve: UDP 6081 over IPv4, required D blocked inside the")
        assert 'nftables rule "udp dport 6081 drop' in first
        assert "20 came to n2's device, none got past its INPUT: therefore it is lost" in first
        assert "It has no answer: n2 → n3 is a cell of its own." in first
        assert "F1 n2 itself drops UDP 6081" in first
        page.until("document.activeElement.id === 'cell'")
        page.changing(lambda: page.click("#close"))
        assert page.do("document.getElementById('cell').hidden") is True
        assert page.complaints() == []


def test_everything_can_be_done_by_keyboard(browser: Browser, small: Path) -> None:
    label = "document.activeElement.getAttribute('aria-label')"
    with browser.page() as page:
        page.open(small)
        page.do("document.getElementById('to').focus()")
        for _ in range(9):  # the filters of verdicts are on the way
            page.key("Tab")
            if page.do("document.activeElement.getAttribute('role')") == "gridcell":
                break
        assert page.do(label) == "n1: the same node"
        page.key("ArrowRight")
        assert page.do(label) == "n1 → n2: blocked inside the destination"
        page.key("ArrowDown", "ArrowDown", "ArrowLeft")
        assert page.do(label) == "n3 → n1: open"
        page.key("End")
        assert page.do(label) == "n3 → n4: open"
        page.key("Home", modifiers=2)
        assert page.do(label) == "n1: the same node"
        page.key("End", modifiers=2)
        page.key("ArrowRight", "ArrowDown", "ArrowUp")
        assert page.do(label) == "n3 → n4: open"
        assert page.do("document.querySelectorAll('.grid td[tabindex=\"0\"]').length") == 1
        page.changing(lambda: page.key("Enter"))
        assert page.text("#cell h3") == "n3 → n4"
        page.until("document.activeElement.id === 'cell'")
        page.changing(lambda: page.key("Escape"))
        page.until(f"{label} === 'n3 \u2192 n4: open'")
        assert page.complaints() == []


def steps_of(page: Page) -> list[tuple[str, ...]]:
    code = """[...document.querySelectorAll('#cell .story')].map((story) => [
      story.querySelector('h4').textContent,
      story.querySelector('.headline strong').textContent,
      [...story.querySelectorAll('.step, .where .dot')].map((step) => [
        (step.closest('.step') || step).className.replace(/step |dot /g, ''),
        step.querySelector('.vantage')?.textContent ?? '',
        step.querySelector('.seen')?.textContent ?? '',
        step.querySelector('.says')?.textContent ?? '']),
      [...story.querySelectorAll(':scope > div > .run > p:not(.headline)')]
        .map((p) => p.textContent)])"""
    return list(page.do(code))


def _count(step: Step) -> str:
    if not step.vantage:
        return ""
    return "\u2013" if step.seen is None else str(step.seen)


def told_of(snapshot: Snapshot, source: int, destination: int) -> dict[str, Any]:
    """The same from Python's own stories."""
    matrix = snapshot.matrix
    tests = [FamilyProbe(p, f) for f in matrix.families for p in range(len(matrix.probes))]
    found = {}
    for story in stories(snapshot, source, destination, tests):
        probe = matrix.probes[story.test.probe]
        names = [matrix.nodes[node].name for node in (source, destination)]
        headline, advice = telling.verdict(story.outcome, story.test, matrix)
        steps = [
            [step.mark, step.vantage, _count(step), step.text]
            for step in story.steps
            if step.vantage or step.text or step.mark != "nothing"
        ]  # fmt: skip
        said = list(story.therefore)
        if probe.one_way:
            said.append(telling.no_answer(*names))
        said += [f"{f.identifier} {f.title}" for f in story.findings]
        if not story.findings and advice:
            said.append(advice)
        seen = any(count is not None for count in story.outcome.evidence)
        found[telling.heading(probe, story.test.family)] = (headline, steps if seen else [], said)
    return found


def test_every_story_is_pythons(browser: Browser, folder: Path) -> None:
    """Findings, rules on either side, discovery, routers: whatever explain tells, the page does."""
    snapshot = sample(
        4,
        racks=2,
        families=BOTH,
        faults=[
            Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
            Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
            Fault(ANSWER_DROPPED_ON_PATH, "rack=b", "rack=a", "health"),
            Fault(DROPPED_ON_PATH, "*", "n4", "echo", Family.IPV6),
            Fault(ANSWER_DROPPED_ON_PATH, "n4", "*", "echo", Family.IPV6),
            Fault(NOT_LISTENING, "n4", "n1", "health"),
            Fault(LOSSY, "n4", "n3", "geneve"),
            Fault(NO_AGENT, "n1", "n4", "geneve"),
        ],
    )
    echo6 = (FamilyProbe(2, Family.IPV6),)
    sought = Diagnosis(hits=(RuleHit(3, min(DISCOVERY), frozenset({1}), RULE),))
    elsewhere = Diagnosis(hits=(RuleHit(1, "reply", frozenset({0}), RULE._replace(text="never")),))
    snapshot = with_findings(
        snapshot,
        *EVERYTHING,
        finding(title="n4 is not found", tests=echo6, sources=(0, 1, 2), destinations=(3,),
                both_ways=True, diagnosis=sought),
        finding(title="of the other leg", diagnosis=elsewhere),
    )  # fmt: skip
    path = written(folder, "stories", snapshot)
    seen = 0
    texts = str([told_of(snapshot, s, d) for s, d in product(range(4), range(4)) if s != d])
    for end in ("source", "destination"):
        assert f"the {end} itself drops neighbour discovery" in texts
    with browser.page() as page:
        page.open(path)
        for source, destination in product(range(4), range(4)):
            if source == destination:
                continue
            told = told_of(snapshot, source, destination)
            for heading, (headline, steps, said) in told.items():
                probe, _, rest = heading.partition(":")
                over = "ipv6" if "IPv6" in rest else "ipv4"
                hash_ = f"#probe={probe}&over={over}&cell=n{source + 1}~n{destination + 1}"
                page.changing(lambda hash_=hash_: page.do(f"void (location.hash = '{hash_}')"))
                first = steps_of(page)[0]
                assert first[0] == heading
                assert first[1] == headline
                assert first[2] == steps, (heading, source, destination)
                own = [text for text in first[3] if not text.startswith("Its answers took")]
                assert own == said
                seen += 1
        assert page.complaints() == []
    assert seen == 72


def test_filters(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.open(small)
        page.do("document.getElementById('from').focus()")
        page.changing(lambda: page.type("rack=b"))
        assert page.texts(".grid th.name") == ["n3", "n4"]
        page.do("document.getElementById('to').focus()")
        page.changing(lambda: page.type("n1, 10.0.0.2"))
        assert page.texts(".grid .names th") == ["n1", "n2"]
        assert page.text("#told") == (
            "geneve, 2 sources to 2 destinations: 2 blocked inside the destination, 2 open."
        )
        page.changing(lambda: page.click("#legend input[value='·']"))
        assert page.texts(".grid .names th") == ["n2"]
        page.changing(lambda: page.click("#clear"))
        assert len(signs(page)) == 4
        page.changing(lambda: page.type("nobody"))
        assert page.text("#view") == "No cell is left by these filters."
        assert page.complaints() == []


def test_a_finding_shows_its_cells_alone(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.open(small)
        page.changing(lambda: page.click("#F2 .act button"))
        assert page.do("document.querySelector('[name=probe]:checked').value") == "health"
        assert page.text("#trail").startswith("Only F2: rack=a ↔ rack=b")
        page.changing(lambda: page.click("#F1 .act button"))
        assert page.texts(".grid .names th") == ["n2"]
        assert page.texts(".grid th.name") == ["n1", "n3", "n4"]
        page.changing(lambda: page.click("#trail button"))
        assert len(signs(page)) == 4
        assert page.complaints() == []


def test_a_link_leads_to_the_cell_and_back_leads_back(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.open(small, "#probe=health&from=rack%3Da&cell=n1~n3")
        assert page.text("#cell h3") == "n1 → n3"
        assert page.do("document.getElementById('from').value") == "rack=a"
        assert page.texts(".grid th.name") == ["n1", "n2"]
        page.changing(lambda: page.click(cell("n2", "n4")))
        assert "cell=n2%7En4" in page.do("location.hash")
        page.changing(lambda: page.do("history.back()"))
        assert page.text("#cell h3") == "n1 → n3"
        for nonsense in ("#cell=n1~n9", "#probe=x&over=y&by=z&zoom=9-9&without=%00",
                         "#zoom=0-900-0-9", "#cell=n1~n1", "#=&=", "#run=later"):  # fmt: skip
            page.changing(lambda n=nonsense: page.do(f"void (location.hash = {n!r})"))
            assert len(signs(page)) == 4
        assert page.complaints() == []


def test_four_hundred_nodes_are_a_picture_of_blocks(browser: Browser, large: Path) -> None:
    with browser.page() as page:
        page.open(large)
        assert page.texts(".over [role=columnheader]") == [f"rack={r}" for r in "abcdefgh"]
        blocks = page.do("[...document.querySelectorAll('.block')].map((b) => b.ariaLabel)")
        assert len(blocks) == 64
        assert blocks[2] == "rack=a → rack=c: 2,500 blocked on the path"
        assert blocks[4] == "rack=a → rack=e: 50 blocked inside the destination, 2,450 open"
        # What is drawn: the very colours, where the cells are.
        dots = page.do(
            "(() => { const c = document.querySelector('canvas'); const g = c.getContext('2d');"
            "const d = g.getImageData(0, 0, c.width, c.height).data;"
            "const at = (x, y) => [...d.slice(4 * (y * c.width + x), 4 * (y * c.width + x) + 3)];"
            "return [c.width, c.height, at(120, 20), at(20, 120), at(202, 300), at(332, 76)]; })()"
        )
        width, height, *colours = dots
        assert (width, height) == (400, 400)
        wanted = ("path", "open", "destination", "lossy")
        assert ["#" + bytes(c).hex() for c in colours] == [
            palette.LIGHT.cells[name].fill for name in wanted
        ]
        # The cell under the mouse is the one that is focused after the zoom.
        page.do("document.querySelector('.plane').scrollIntoView({behavior: 'instant'})")
        box = page.do("(() => { const b = document.querySelector('.plane').getBoundingClientRect();"
                      "return [b.x, b.y, b.width, b.height]; })()")  # fmt: skip
        x, y = (box[i] + box[i + 2] * (n - 0.5) / 400 for i, n in ((0, 333), (1, 77)))
        page.changing(lambda: page.click_at(x, y))
        page.until("document.activeElement.getAttribute('role') === 'gridcell'")
        assert page.do("document.activeElement.ariaLabel") == "n77 → n333: lossy"
        assert page.text("#trail") == "Whole matrix \u203a rack=b → rack=g"
        assert page.texts(".grid th.name") == [f"n{i}" for i in range(51, 101)]
        page.changing(lambda: page.key("Escape"))
        assert len(page.texts(".block")) == 64
        page.key("ArrowRight")
        page.changing(lambda: page.key("Enter"))
        assert page.text("#trail") == "Whole matrix \u203a rack=a → rack=b"
        page.changing(lambda: page.do("history.back()"))
        assert len(page.texts(".block")) == 64
        assert page.complaints() == []


def test_a_large_page_by_other_groups_and_by_finding(browser: Browser, large: Path) -> None:
    with browser.page(dark=True) as page:
        page.open(large)
        choose = (
            "(() => {{ const s = document.getElementById('group'); s.value = '{}';"
            "s.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
        )
        options = page.do("[...document.getElementById('group').options].map((o) => o.value)")
        for value in options:
            page.changing(lambda v=value: page.do(choose.format(v)))
            total = page.do(
                "[...document.querySelectorAll('.block')].reduce((sum, b) => sum + "
                "[...b.ariaLabel.matchAll(/([\\d,]+) (?=open|blocked|lossy)/g)].reduce("
                "(s, m) => s + Number(m[1].replace(',', '')), 0), 0)"
            )
            assert total == 400 * 399, value
        page.changing(lambda: page.click("#F1 .act button"))
        assert (
            page.text("#told")
            == "geneve, 50 sources to 50 destinations: 2,500 blocked on the path."
        )
        assert page.complaints() == []


def test_a_few_rows_of_very_many_columns_have_their_names(browser: Browser, large: Path) -> None:
    with browser.page() as page:
        page.open(large, "#from=n77")
        assert page.texts(".over [role=rowheader]") == ["n77"]
        assert page.do("document.querySelector('.plane').offsetHeight") >= 16
        page.changing(lambda: page.click(".block:nth-of-type(4)"))
        assert page.texts(".grid th.name") == ["n77"]
        page.changing(lambda: page.do("void (location.hash = '#to=n77')"))
        assert page.texts(".over [role=columnheader]") == ["n77"]
        assert page.complaints() == []


def test_before_after_and_difference(browser: Browser, both: Path) -> None:
    diff = compare(BEFORE, AFTER)
    with browser.page() as page:
        page.open(both)
        assert page.do("document.querySelector('[name=run]:checked').value") == "2"
        for probe, name in enumerate(("geneve", "health", "echo")):
            if page.do("document.querySelector('[name=probe]:checked').value") != name:
                page.changing(lambda n=name: page.click(f"[name=probe][value={n}]"))
            turns = [diff.row(FamilyProbe(probe, Family.IPV4), s) for s in range(5)]
            assert signs(page) == [
                ["" if s == d else TURNS[t or Turn.SAME][0] for d, t in enumerate(row)]
                for s, row in enumerate(turns)
            ]
            page.changing(lambda: page.click("[name=run][value='0']"))
            assert signs(page) == expected(BEFORE, probe)
            page.changing(lambda: page.click("[name=run][value='1']"))
            assert signs(page) == expected(AFTER, probe)
            page.changing(lambda: page.click("[name=run][value='2']"))
        page.changing(lambda: page.click("[name=probe][value=geneve]"))
        page.changing(lambda: page.click(cell("n1", "n2")))
        runs = page.texts("#cell .story:first-of-type .run")
        assert runs[0].startswith("Before D blocked inside the destination, dropped")
        assert runs[1].startswith("After · open")
        page.changing(lambda: page.click(cell("n1", "n5")))
        assert page.texts("#cell .story:first-of-type .run")[0] == "Before not tested"
        for button in range(len(page.texts(".act button"))):
            page.changing(
                lambda b=button: page.do(f"document.querySelectorAll('.act button')[{b}].click()")
            )
            assert page.text("#told") != ""
        assert page.complaints() == []


def test_light_and_dark(browser: Browser, small: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = (
        f"rgb({', '.join(str(b) for b in bytes.fromhex(theme.page['paper'][1:]))})"
        for theme in (palette.LIGHT, palette.DARK)
    )
    with browser.page(dark=True) as page:
        page.open(small)
        assert page.do(paper) == dark
        page.click("#theme")
        assert (page.do(paper), page.text("#theme")) == (light, "Theme: light")
        page.click("#theme")
        assert (page.do(paper), page.text("#theme")) == (dark, "Theme: dark")
        page.open(small, "#from=n1")
        assert page.text("#theme") == "Theme: dark"
        page.click("#theme")
        assert page.text("#theme") == "Theme: system"
        assert page.complaints() == []


def test_print(browser: Browser, large: Path) -> None:
    with browser.page(dark=True) as page:
        page.open(large)
        page.do("window.seen = []; addEventListener('beforeprint', () => seen.push("
                "document.querySelectorAll('details:not([open]):not(.long)').length,"
                "[...document.querySelector('canvas').getContext('2d').getImageData(20, 120, 1, 1)"
                ".data].slice(0, 3)))")  # fmt: skip
        pdf = page.pdf()
        assert pdf.startswith(b"%PDF")
        folded, dot = page.do("seen")
        assert folded == 0
        assert "#" + bytes(dot).hex() == palette.LIGHT.cells["open"].fill
        assert page.do("document.querySelectorAll('details[open]').length") == 0  # as it was
        page.media("print")
        hidden = ("nav", "#controls", ".act", "#theme", ".help")
        for selector in hidden:
            shown = f"getComputedStyle(document.querySelector('{selector}')).display"
            assert page.do(shown) == "none", selector
        assert page.do("document.getElementById('told').offsetHeight > 0")
        assert page.complaints() == []


@pytest.mark.parametrize("which", ["small", "large", "both"])
def test_a_narrow_window_needs_no_sideways_scrolling(
    browser: Browser, which: str, request: pytest.FixtureRequest
) -> None:
    with browser.page(400, 800) as page:
        page.open(request.getfixturevalue(which), "#cell=n1~n3")
        assert page.do("document.documentElement.scrollWidth") <= 400
        if which == "large":  # fewer dots than cells: each lossy cell is seen all the same
            dots = page.do(
                "(() => { const c = document.querySelector('canvas'); return [c.width, c.height, "
                "...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; })()"
            )
            width, height, *values = dots
            assert (width < 400, height < 400) == (True, True)
            lossy = bytes.fromhex(palette.LIGHT.cells["lossy"].fill[1:])
            data = bytes(values)
            assert sum(data[i : i + 3] == lossy for i in range(0, len(data), 4)) == 8
        assert page.complaints() == []


@pytest.mark.parametrize("which", ["small", "large", "both"])
def test_what_a_screen_reader_is_told(
    browser: Browser, which: str, request: pytest.FixtureRequest
) -> None:
    with browser.page() as page:
        page.open(request.getfixturevalue(which), "#cell=n1~n3")
        told = page.accessibility()
        roles = {node["role"] for node in told}
        assert {"banner", "main", "navigation", "contentinfo", "grid", "gridcell", "columnheader",
                "rowheader", "radio", "checkbox", "textbox", "status"} & {*roles} >= {
            "main", "navigation", "grid", "gridcell", "columnheader", "rowheader", "radio",
            "checkbox", "status"}  # fmt: skip
        nameless = [
            node["role"]
            for node in told
            if node["role"] in ("button", "link", "radio", "checkbox", "combobox", "grid",
                                "gridcell", "rowheader", "columnheader", "heading", "region",
                                "textbox", "complementary")
            and not node["name"].strip()
        ]  # fmt: skip
        assert nameless == []
        heads = page.do("[...document.querySelectorAll('h1,h2,h3,h4,h5')].filter((h) => "
                        "h.offsetParent).map((h) => Number(h.tagName[1]))")  # fmt: skip
        assert heads[0] == 1
        assert heads.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(heads))
        assert page.do("document.documentElement.lang") == "en"
        small_targets = page.do(
            "[...document.querySelectorAll('button, select, input')].filter((e) => e.offsetParent"
            " && (e.offsetHeight < 12 || e.offsetWidth < 12)).map((e) => e.outerHTML)"
        )
        assert small_targets == []


def test_without_a_script_the_answer_and_findings_are_there(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.load(small)
        nodes = page.call("DOMSnapshot.captureSnapshot", computedStyles=["display"])
        words = " ".join(nodes["strings"])
        assert "Cilium's GENEVE does NOT get through for 3 of 12 pairs." in words
        assert "nft insert rule inet filter input" in words
        shown = {node["name"] for node in page.accessibility()}
        assert any("runs no script here" in name for name in shown)
        assert not any(node["role"] == "textbox" for node in page.accessibility())


def test_nothing_that_a_node_says_runs(browser: Browser, folder: Path) -> None:
    evil = hostile()
    path = written(folder, "hostile", evil)
    with browser.page() as page:
        page.open(path)
        assert page.do("typeof hacked") == "undefined"
        for selector in ("#F1 .act button", "#F2 .act button"):
            page.changing(lambda s=selector: page.click(s))
        page.changing(lambda: page.do("document.querySelector('#clear').click()"))
        for number in (0, 7, 12):
            page.changing(lambda n=number: page.do(f"void (location.hash = 'cell=%23{n}~%231')"))
            assert page.text("#cell h3") != ""
        page.do("document.getElementById('from').focus()")
        page.changing(lambda: page.type("<img src=x onerror=hacked=1>"))
        assert page.do("document.images.length") == 0
        assert page.do("typeof hacked") == "undefined"
        assert page.complaints() == []


def test_commands_are_copied_whole(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.open(small)
        page.do(
            "document.execCommand = () => { window.copied = "
            "document.querySelector('textarea').value; return true; };"
            "navigator.clipboard.writeText = async () => { throw new Error('refused'); };"
        )
        page.click("#F1 .command button")
        page.until("window.copied")
        assert page.do("copied") == HOST_RULE.changes[0].commands[0]
        assert page.do("document.querySelectorAll('textarea').length") == 0


@pytest.mark.parametrize("snapshot", [sample(0), sample(1), sample(2, faults=[Fault(None)])])
def test_where_nothing_was_tested_there_is_no_matrix(
    browser: Browser, folder: Path, snapshot: Snapshot
) -> None:
    with browser.page() as page:
        page.open(written(folder, "nothing", snapshot), "#cell=n1~n2")
        assert page.text("h1") != ""
        assert page.do("document.getElementById('matrix')") is None
        page.click("#theme")
        assert page.text("#theme") == "Theme: light"
        page.do("localStorage.clear()")
        assert page.complaints() == []


def test_an_old_browser_is_told_so(browser: Browser, small: Path) -> None:
    with browser.page() as page:
        page.call(
            "Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream"
        )
        page.load(small)
        page.until("!document.getElementById('broken').hidden")
        assert "Findings and lists are whole" in page.text("#broken")
        assert "nft insert rule" in page.text("#F1")
