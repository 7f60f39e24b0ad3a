"""Findings as JSON: the keys that users script against, read back as they were written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from found import (
    BETWEEN_RACKS,
    DEAD_FLOWS,
    EVERYTHING,
    HAZARD,
    HOST_RULE,
    RULE,
    TOO_SMALL,
    UNTESTED,
    finding,
    with_findings,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DROPPED_ON_PATH, Fault, sample
from test_store import ANYTHING, dumped, places, with_change

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.kernel import KernelReason
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.diagnosis.plain import plain, read_diagnosis
from preflight.core.diagnosis.trial import RuleHit
from preflight.core.findings.model import Cause
from preflight.core.groups import BY_THE_DESTINATION
from preflight.core.model import Family, Severity
from preflight.core.snapshot import Snapshot
from preflight.errors import FileError
from preflight.report.table import render
from preflight.store import load, save

KEYS = [
    "id", "cause", "severity", "title", "where", "kinds", "probes", "families", "tests", "blocks",
    "pairs", "cells", "nodes", "sample", "evidence", "culprit", "changes", "requests", "advice",
    "unknown", "diagnosis",
]  # fmt: skip


def everything(nodes: int = 4) -> Snapshot:
    faults = [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health")]
    return with_findings(sample(nodes, 2, faults), *EVERYTHING)


def told(snapshot: Snapshot) -> list[Any]:
    found: list[Any] = json.loads(dumped(snapshot))["findings"]
    return found


def test_the_keys_of_a_finding() -> None:
    for each in told(everything()):
        assert list(each) == KEYS
    (one,) = told(with_findings(sample(4, 2), HOST_RULE))
    assert [one[key] for key in ("id", "cause", "severity")] == ["F1", "firewall-rule", "required"]
    assert one["kinds"] == [
        {"verdict": "blocked", "leg": "forward", "place": "destination", "cause": "dropped",
         "rejected_by": None}
    ]  # fmt: skip
    assert (one["probes"], one["families"]) == (["geneve"], ["ipv4"])
    assert one["blocks"] == [
        {"sources": ["n1", "n3", "n4"], "destinations": ["n2"], "both_ways": False,
         "where": "all → n2", "tests": [{"probe": "geneve", "family": "ipv4"}]}
    ]  # fmt: skip
    assert (one["pairs"], one["cells"], one["nodes"]) == (3, 3, ["n2"])
    assert one["sample"] == {"source": "n1", "destination": "n2"}
    assert one["changes"][0] == {
        "node": "n2", "tool": "nft", "commands": list(HOST_RULE.changes[0].commands),
        "persist": list(HOST_RULE.changes[0].persist),
    }  # fmt: skip
    (asked, _) = told(with_findings(sample(4, 2), BETWEEN_RACKS))[0]["requests"]
    assert asked == {
        "sources": ["10.0.0.1/32", "10.0.0.2/32"], "destinations": ["10.0.0.3/32", "10.0.0.4/32"],
        "protocol": "tcp", "port": 4240, "source_ports": "any (1-65535)", "family": "ipv4",
        "reason": "cilium-health probes each node's agent",
    }  # fmt: skip


def test_the_culprit_is_the_one_that_the_cause_names() -> None:
    rule, size, flows, untested, hazard, hop = (f["culprit"] for f in told(everything()))
    assert (rule["kind"], rule["node"], rule["leg"]) == ("rule", "n2", "forward")
    for key in ("tool", "family", "table", "chain", "handle", "position", "policy", "text"):
        assert rule[key] == getattr(RULE, key)
    assert rule["comment"] == "corp baseline"
    assert (size["kind"], size["largest"], size["black_hole"]) == ("size", 1400, True)
    assert (flows["kind"], flows["pattern"], len(flows["dead"])) == ("flows", "some-dead", 8)
    assert untested is hazard is None
    assert (hop["kind"], hop["silent"]) == ("hop", 2)
    assert hop["routers"] == [{"ttl": 1, "address": "198.18.1.1"}]


def test_a_rule_that_may_have_done_it_is_no_culprit() -> None:
    maybe = Diagnosis(hits=(RuleHit(1, "forward", frozenset(), RULE._replace(sure=False)),))
    unsure = finding(Cause.NODE_FIREWALL, diagnosis=maybe)
    (one,) = told(with_findings(sample(4), unsure))
    assert one["culprit"] is None
    assert one["diagnosis"]["hits"][0]["rule"]["handle"] == 12
    sure = RuleHit(2, "reply", frozenset(), RULE._replace(handle=13))
    named = finding(diagnosis=maybe._replace(hits=(*maybe.hits, sure)))
    (one,) = told(with_findings(sample(4), named))
    assert (one["culprit"]["handle"], one["culprit"]["node"]) == (13, "n3")


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(Cause.TRANSLATION, "rewrites"), (Cause.INSPECTION, "content"), (Cause.NETWORK, "rejecter")],
)
def test_other_culprits(cause: Cause, kind: str) -> None:
    (one,) = told(with_findings(sample(4), DEAD_FLOWS._replace(cause=cause)))
    assert one["culprit"]["kind"] == kind


def test_a_kernel_is_a_culprit_with_its_reason() -> None:
    reason = next(iter(Reason))
    kernel = KernelReason(reason, "a title", ("seen",), ())
    one = finding(Cause.KERNEL, diagnosis=Diagnosis(kernel=kernel, kernel_node=1))
    assert told(with_findings(sample(4), one))[0]["culprit"] == {
        "kind": "kernel", "node": "n2", "reason": reason, "title": "a title",
        "evidence": ["seen"], "settings": [],
    }  # fmt: skip


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    snapshot, path = everything(), tmp_path / "s"
    save(snapshot, path)
    assert list(load(path).findings) == list(snapshot.findings)
    assert dumped(load(path)) == dumped(snapshot)


def test_a_line_for_each(tmp_path: Path) -> None:
    lines = [line for line in dumped(everything()).splitlines() if line.startswith('  {"id"')]
    assert [json.loads(line.rstrip("],"))["id"] for line in lines] == [
        f"F{n}" for n in range(1, 1 + len(EVERYTHING))
    ]


def test_a_packed_snapshot_has_them_too(tmp_path: Path) -> None:
    snapshot, path = everything(140), tmp_path / "s"
    save(snapshot, path)
    assert "packed" in json.loads(path.read_text())
    assert list(load(path).findings) == list(snapshot.findings)


def test_older_files_have_none(tmp_path: Path) -> None:
    whole = json.loads(dumped(everything()))
    del whole["findings"], whole["digest"]
    path = tmp_path / "s"
    path.write_text(json.dumps(whole))
    assert load(path).findings == ()


NODES = st.integers(0, 3)
DIAGNOSES = st.from_type(Diagnosis).flatmap(
    lambda d: st.builds(
        lambda nodes, node, mute, own: d._replace(
            leaves_as=d.leaves_as
            and d.leaves_as._replace(
                node=own, hit=d.leaves_as.hit and d.leaves_as.hit._replace(node=own)
            ),
            hits=tuple(h._replace(node=n) for h, n in zip(d.hits, nodes, strict=True)),
            kernel_node=node,
            mute_node=mute,
            next_hop=d.next_hop and d.next_hop._replace(node=own),
        ),
        st.lists(NODES, min_size=len(d.hits), max_size=len(d.hits)),
        st.none() | NODES,
        st.none() | NODES,
        NODES,
    )
)


@settings(deadline=None, max_examples=60)
@given(DIAGNOSES)
def test_every_diagnosis_comes_back(diagnosis: Diagnosis) -> None:
    names = [f"n{i}" for i in range(1, 5)]
    text = json.dumps(plain(diagnosis, names))
    again = read_diagnosis(json.loads(text), "d", {name: i for i, name in enumerate(names)})
    assert again == diagnosis


def test_a_diagnosis_of_an_older_file_may_lack_what_has_a_default() -> None:
    assert read_diagnosis({}, "d", {}) == Diagnosis()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("findings", 5, "findings: not a list"),
        ("findings", [5], r"findings\[0\]: not an object"),
        ("findings.0.id", ..., r"findings\[0\].id: missing"),
        ("findings.1.id", "F1", r"findings\[1\]: a second 'F1'"),
        ("findings.0.cause", "bad luck", r"findings\[0\].cause: not one of firewall-rule, "),
        ("findings.0.title", "", r"findings\[0\].title: not a text"),
        ("findings.0.kinds.0.verdict", None, r"findings\[0\].kinds\[0\].verdict: not one of open"),
        ("findings.0.kinds.0.rejected_by", "you", r"kinds\[0\].rejected_by: not an address"),
        ("findings.0.tests.0.probe", "x", r"findings\[0\].tests\[0\].probe: 'x' is not in this fi"),
        ("findings.0.tests.0.family", "ipv6", r"tests\[0\].family: ipv6 is not in this file"),
        ("findings.0.blocks.0.sources", ["n9"], r"blocks\[0\].sources: not a list of this file's"),
        ("findings.0.blocks.0.both_ways", 1, r"blocks\[0\].both_ways: not true or false"),
        ("findings.0.pairs", -1, r"findings\[0\].pairs: not a whole number"),
        ("findings.0.nodes", "n1", r"findings\[0\].nodes: not a list"),
        ("findings.0.sample.source", "n9", r"findings\[0\].sample.source: 'n9' is not in this"),
        ("findings.0.evidence", [1], r"findings\[0\].evidence: not a list of texts"),
        ("findings.0.changes.0.node", "n9", r"changes\[0\].node: 'n9' is not in this file"),
        ("findings.0.changes.0.commands", "rm", r"changes\[0\].commands: not a list"),
        ("findings.5.requests.0.sources", ["all"], r"requests\[0\].sources: not a list of network"),
        ("findings.5.requests.0.port", None, r"requests\[0\].port: not what tcp has"),
        ("findings.5.requests.0.protocol", "icmp", r"requests\[0\].port: not what icmp has"),
        ("findings.0.diagnosis", [], r"findings\[0\].diagnosis: not an object"),
        ("findings.0.diagnosis.hits", {}, r"findings\[0\].diagnosis.hits: not a list"),
        ("findings.0.diagnosis.hits.0.node", 1, r"hits\[0\].node: not a node of this file"),
        ("findings.0.diagnosis.hits.0.leg", 1, r"hits\[0\].leg: not a text"),
        ("findings.0.diagnosis.hits.0.rule.handle", "12", r"rule.handle: not a whole number"),
        ("findings.0.diagnosis.hits.0.rule.handle", True, r"rule.handle: not a whole number"),
        ("findings.0.diagnosis.hits.0.rule.sure", 1, r"rule.sure: not a true or false"),
        ("findings.0.diagnosis.hits.0.rule.path", [["inet"]], r"rule.path\[0\]: not a list of 3"),
        ("findings.2.diagnosis.flows.pattern", "odd", r"flows.pattern: not one of some-dead, "),
        ("findings.1.diagnosis.size.largest", 1400.5, r"size.largest: not a whole number"),
        ("findings.1.diagnosis.size.largest", ..., r"size.largest: missing"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(
    tmp_path: Path, path: str, value: Any, message: str
) -> None:
    file = tmp_path / "s"
    file.write_text(json.dumps(with_change(json.loads(dumped(everything())), path, value)))
    with pytest.raises(FileError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


WHOLE = json.loads(dumped(everything()))
PLACES = [place for place in places(WHOLE) if place[0] == "findings"]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.none() | ANYTHING), min_size=1, max_size=3))
def test_mutated_findings(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[Any, Any]]
) -> None:
    whole = json.loads(json.dumps(WHOLE))
    for (*parents, last), value in changes:
        record = whole
        try:
            for key in parents:
                record = record[key]
            if value is None:
                del record[last]
            else:
                record[last] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    path = tmp_path_factory.getbasetemp() / "findings"
    path.write_text(json.dumps(whole))
    try:
        snapshot = load(path)
    except FileError as error:
        if "\n" in str(error):
            raise AssertionError("more than one line") from error
        return
    render(snapshot, width=80, color=False, file=io.StringIO())
    save(snapshot, path)
    assert list(load(path).findings) == list(snapshot.findings)


def test_what_rejects_may_be_the_pair_itself(tmp_path: Path) -> None:
    own = HOST_RULE.kinds[0]._replace(rejected_by=BY_THE_DESTINATION)
    snapshot = with_findings(sample(4), HOST_RULE._replace(kinds=(own,)))
    save(snapshot, tmp_path / "s")
    assert load(tmp_path / "s").findings[0].kinds == (own,)


def test_what_is_read_keeps_its_types(tmp_path: Path) -> None:
    save(everything(), tmp_path / "s")
    first, *_, last = load(tmp_path / "s").findings
    assert first.severity is Severity.REQUIRED
    assert last.cause is Cause.NETWORK
    assert last.requests[0].family is Family.IPV4
    assert {f.cause for f in (UNTESTED, HAZARD, TOO_SMALL)} <= {
        f.cause for f in load(tmp_path / "s").findings
    }
