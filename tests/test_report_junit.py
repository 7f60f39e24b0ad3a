"""A report that CI servers take: well formed, counted right, and red only for what is required."""

from __future__ import annotations

import io
import re
import xml.sax
import xml.sax.handler
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from xml.etree import ElementTree as ET

import pytest
from found import BETWEEN_RACKS, HAZARD, HOST_RULE, with_findings
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    Fault,
    blocked,
    sample,
)

from preflight.core.model import ECHO, GENEVE, HEALTH, Cause, Family, Outcome, Place, Severity
from preflight.core.snapshot import Snapshot
from preflight.core.view import Filter, view
from preflight.report import junit

# What the schemas of Jenkins and of Ant's report task both allow: attributes that must be there,
# those that may, and the children in their order.
SCHEMA: dict[str, tuple[set[str], set[str], str]] = {
    "testsuites": (set(), set(), r"(testsuite )*"),
    "testsuite": (
        {"id", "package", "name", "tests", "failures", "errors", "time", "timestamp", "hostname"},
        {"skipped"},
        r"properties (testcase )*system-out system-err ",
    ),
    "properties": (set(), set(), r"(property )*"),
    "property": ({"name", "value"}, set(), r""),
    "testcase": ({"name", "classname", "time"}, set(), r"((skipped|error|failure) )?"),
    "skipped": ({"message", "type"}, set(), r""),
    "error": ({"message", "type"}, set(), r""),
    "failure": ({"message", "type"}, set(), r""),
    "system-out": (set(), set(), r""),
    "system-err": (set(), set(), r""),
}


class Checker(xml.sax.handler.ContentHandler):
    """Holds what another parser reports to the schema."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, list[str]]] = []
        self.count = 0

    def startElement(self, name: str, attrs: xml.sax.xmlreader.AttributesImpl) -> None:  # noqa: N802
        must, may, _ = SCHEMA[name]
        found = set(attrs.getNames())
        assert must <= found <= must | may, (name, found)
        assert all(attrs[key] for key in must), (name, dict(attrs))
        for key in {"tests", "failures", "errors", "skipped", "id"} & found:
            assert attrs[key].isdecimal()
        if "time" in found:
            assert float(attrs["time"]) >= 0
        if "timestamp" in found:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", attrs["timestamp"])
        if self.open:
            self.open[-1][1].append(name)
        self.open.append((name, []))
        self.count += name == "testcase"

    def endElement(self, name: str) -> None:  # noqa: N802
        opened, children = self.open.pop()
        assert opened == name
        told = "".join(f"{child} " for child in children)
        assert re.fullmatch(SCHEMA[name][2], told), (name, told[:200])


def report(snapshot: Snapshot, *, strict: bool = False, wanted: Filter | None = None) -> ET.Element:
    file = io.StringIO()
    junit.render(view(snapshot, wanted), file, strict=strict)
    text = file.getvalue()
    assert text.isascii()
    checker = Checker()
    xml.sax.parseString(text.encode(), checker)
    root = ET.fromstring(text)
    for suite in root:
        results = Counter(child.tag for case in suite.iter("testcase") for child in case)
        told = [int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")]
        cases = suite.findall("testcase")
        assert told == [len(cases), *(results[t] for t in ("failure", "error", "skipped"))]
        names = [(case.get("classname"), case.get("name")) for case in cases]
        assert len(set(names)) == len(names)
    assert checker.count == len(list(root.iter("testcase")))
    return root


def results(root: ET.Element) -> dict[tuple[str, str], str]:
    return {
        (case.get("classname", ""), case.get("name", "")): case[0].tag if len(case) else "passed"
        for case in root.iter("testcase")
    }


OUTCOMES: Sequence[Outcome] = (DROPPED_ON_PATH, LOSSY, NOT_LISTENING, NO_AGENT)


@pytest.mark.parametrize("strict", [False, True])
def test_a_case_for_each_pair_and_probe_and_what_becomes_of_it(strict: bool) -> None:
    faults = [Fault(o, "n1", f"n{i}") for i, o in enumerate(OUTCOMES, 2)]
    snapshot = sample(6, 1, faults, families=(Family.IPV4, Family.IPV6))
    found = results(report(snapshot, strict=strict))
    assert len(found) == 2 * 3 * 30
    for probe, family in product((GENEVE, HEALTH, ECHO), Family):
        own = f"preflight.{probe.severity}.{probe.name}-{family}"
        required = strict or probe.severity is Severity.REQUIRED
        bad, unknown = ("failure", "error") if required else ("skipped", "skipped")
        assert [found[own, f"n1 -> n{i}"] for i in range(2, 7)] == [bad, bad, bad, unknown,
                                                                    "passed"]  # fmt: skip
        assert found[own, "n6 -> n1"] == "passed"


def test_a_bad_case_says_what_why_and_which_finding() -> None:
    faults = [Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve")]
    snapshot = with_findings(sample(4, 2, faults), HOST_RULE, HAZARD)
    root = report(snapshot)
    (case,) = (c for c in root.iter("testcase") if c.get("name") == "n1 -> n2" and len(c))
    failure = case[0]
    assert failure.get("message") == "blocked inside the destination, dropped"
    assert failure.get("type") == "blocked"
    assert failure.text is not None
    assert failure.text.splitlines()[:2] == [
        "UDP 6081, required", "sent 20, left 20, arrived 20, accepted 0"
    ]  # fmt: skip
    assert "F1: n2 itself drops UDP 6081" in failure.text
    out = root[0].find("system-out")
    assert out is not None
    assert out.text is not None
    assert "F1 required: n2 itself drops UDP 6081" in out.text
    assert "  n2: nft insert rule inet filter" in out.text
    assert HAZARD.title in out.text  # which no test shows


def test_properties_tell_of_the_run() -> None:
    root = report(replace(sample(2), interrupted=True), wanted=Filter(sources=[0]))
    told = {p.get("name"): p.get("value") for p in root[0].iter("property")}
    assert told["phase"] == "before"
    assert told["interrupted"] == "true"
    assert told["traffic"] == "UDP 6081"
    assert told["shown"] == "Showing 3 of 6 cells: source n1."
    assert [len(suite.findall("testcase")) for suite in root] == [1, 1, 1]


def test_answered_cells_have_their_time() -> None:
    root = report(sample(2))
    times = [float(case.get("time", "")) for case in root.iter("testcase")]
    assert times[:2] == [0, 0]
    assert all(0.0001 <= time <= 0.0005 for time in times[2:])


HOSTILE = "]]><&\"'\x00\x1b[31m\ud800\ufffe\n\U0001f600 -->"


def test_no_name_breaks_it() -> None:
    probe = replace(GENEVE, name=f"g.{HOSTILE}")
    outcome = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1")
    snapshot = sample([f"a{HOSTILE}", f"b{HOSTILE}"], 1, probes=(probe,), notes=[HOSTILE])
    snapshot.matrix.set(1, outcome._replace(detail=HOSTILE))
    root = report(snapshot)
    assert len(results(root)) == 2
    assert any("\U0001f600" in name for _, name in results(root))


def test_no_cell_is_no_suite() -> None:
    assert len(report(sample(1))) == 0
    assert len(report(sample(4), wanted=Filter(sources=[0], destinations=[0]))) == 0


def test_above_fifty_thousand_cells_nothing_is_left_out() -> None:
    faults = [
        Fault(DROPPED_ON_PATH, "n1", "n2,n3", "geneve"),
        Fault(NO_AGENT, "n4", "*", "health"),
    ]
    snapshot = sample(140, 2, faults)
    found = results(report(snapshot))
    required, health = "preflight.required.geneve-ipv4", "preflight.recommended.health-ipv4"
    assert found[required, "n1 -> n2"] == found[required, "n1 -> n3"] == "failure"
    assert found[health, "n4 -> n140"] == "skipped"
    assert Counter(result for _, result in found.items()) == {
        "passed": 3 * 140 - 1, "failure": 2, "skipped": 139
    }  # fmt: skip
    assert found[health, "n5 -> all that are open"] == "passed"
    assert (health, "n4 -> all that are open") not in found


def test_above_fifty_thousand_bad_cells_blocks_stand_for_them() -> None:
    faults = [Fault(DROPPED_ON_PATH), Fault(NO_AGENT, "n4", "*", "geneve")]
    found = results(report(with_findings(sample(140, 2, faults), BETWEEN_RACKS)))
    assert len(found) < 20
    own = {name: result for (suite, name), result in found.items() if "geneve" in suite}
    assert own == {
        "n4 -> all: unknown, no agent": "error",
        "all except n4 -> all: blocked on the path, dropped": "failure",
    }
