"""Findings: few, true, and every bad cell in exactly one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    ANSWER_DROPPED_ON_PATH,
    DROPPED_AT_DESTINATION,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    Fault,
    blocked,
    sample,
)

from preflight.core.diagnosis.conclusions import Diagnosis, FlowPattern, Flows, Path
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import explained, findings
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import groups
from preflight.core.matrix import Matrix
from preflight.core.model import Cause as CellCause
from preflight.core.model import Evidence, Leg, Outcome, Place, Severity, Verdict
from preflight.report.telling import verdict

RULE = Rule(
    "nft", "inet", "filter", "input", 12, 0, False, "udp dport 6081 drop", "corp baseline", False,
    "input", (("inet", "filter", "input"),), True,
)  # fmt: skip


def found(matrix: Matrix, looks: dict[int, Looked] | None = None) -> list[Finding]:
    return findings(matrix, groups(matrix), {i: [look] for i, look in (looks or {}).items()})


def told(matrix: Matrix) -> list[tuple[str, str]]:
    return [(finding.cause.value, finding.where) for finding in found(matrix)]


def cells_of(finding: Finding, matrix: Matrix) -> Counter[tuple[int, str, int, int]]:
    cells: Counter[tuple[int, str, int, int]] = Counter()
    for block in finding.blocks:
        pairs = set(product(block.sources, block.destinations))
        if block.both_ways:
            pairs |= {(d, s) for s, d in pairs}
        for test in block.tests:
            family = matrix.families.index(test.family)
            for s, d in pairs:
                if matrix.outcome(matrix.index(family, test.probe, s, d)) is not None:
                    cells[test.probe, test.family, s, d] += 1
    return cells


def rejected(by: str, place: Place = Place.PATH) -> Outcome:
    return blocked(place, cause=CellCause.REJECTED, rejected_by=by)


# --- the fewest statements


@pytest.mark.parametrize(
    ("faults", "racks", "says"),
    [
        pytest.param([], 2, [], id="clean"),
        pytest.param(
            [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")], 2,
            [("node-firewall", "all → n3")], id="column",
        ),
        pytest.param(
            [Fault(DROPPED_AT_SOURCE, "n2", "*", "geneve")], 2,
            [("node-firewall", "n2 → all")], id="row",
        ),
        pytest.param(
            [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve")], 2,
            [("network", "rack=a → rack=b")], id="one way",
        ),
        pytest.param(
            [Fault(DROPPED_ON_PATH, "rack=a", "rack=b"),
             Fault(DROPPED_ON_PATH, "rack=b", "rack=a")], 2,
            [("network", "rack=a ↔ rack=b")], id="both ways",
        ),
        pytest.param(
            [Fault(DROPPED_ON_PATH, f"rack={a}", f"rack={b}", "geneve")
             for a, b in product("abc", repeat=2) if a != b], 3,
            [("network", "between nodes of unlike rack")], id="between all racks",
        ),
        pytest.param(
            [Fault(DROPPED_ON_PATH, f"rack={a}", f"rack={a}", "geneve") for a in "abc"], 3,
            [("network", "between nodes of the same rack")], id="inside racks",
        ),
        pytest.param(
            [Fault(DROPPED_ON_PATH, "rack=a", "rack=b"),
             Fault(ANSWER_DROPPED_ON_PATH, "rack=b", "rack=a", "health,echo")], 2,
            [("network", "rack=a → rack=b (UDP 6081); rack=a ↔ rack=b (TCP 4240 and ICMP echo)")],
            id="all packets of one way",
        ),
        pytest.param(
            [Fault(rejected("198.18.1.1"), "rack=a", "rack=b", "geneve"),
             Fault(rejected("198.18.2.1"), "rack=b", "rack=a", "geneve")], 2,
            [("network", "rack=a ↔ rack=b")], id="one router's two addresses",
        ),
        pytest.param(
            [Fault(DROPPED_AT_DESTINATION, "*", "n3"),
             Fault(blocked(Place.SOURCE, Leg.REPLY), "n3", "*", "health,echo")], 2,
            [("node-firewall", "all → n3 (UDP 6081); all ↔ n3 (TCP 4240 and ICMP echo)")],
            id="INPUT drops probes and answers",
        ),
        pytest.param(
            [Fault(DROPPED_AT_SOURCE, "n3", "*"),
             Fault(blocked(Place.DESTINATION, Leg.REPLY), "*", "n3", "health,echo")], 2,
            [("node-firewall", "n3 → all (UDP 6081); n3 ↔ all (TCP 4240 and ICMP echo)")],
            id="OUTPUT drops probes and answers",
        ),
        pytest.param(
            [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve"),
             Fault(DROPPED_AT_SOURCE, "n1", "*", "geneve")], 2,
            [("node-firewall", "n1 → all"), ("node-firewall", "all except n1 → n3")],
            id="two faults are two",
        ),
        pytest.param(
            [Fault(NO_AGENT, "n4", "*"), Fault(NO_AGENT, "*", "n4")], 2,
            [("no-agent", "n4 ↔ all")], id="a node without an agent",
        ),
        pytest.param(
            [Fault(NOT_LISTENING, "*", "n2", "health")], 2,
            [("not-listening", "all → n2")], id="nobody listens",
        ),
        pytest.param(
            [Fault(LOSSY, "rack=a", "rack=b"), Fault(LOSSY, "n6", "n1", "echo")], 2,
            [("loss", "rack=a → rack=b"), ("loss", "n6 → n1")], id="loss here and loss there",
        ),
        pytest.param(
            [Fault(LOSSY, "rack=a", "rack=b", "geneve"), Fault(LOSSY, "n1", "n5", "echo")], 2,
            [("loss", "rack=a → rack=b (UDP 6081); n1 → n5 (ICMP echo)")],
            id="one loss hits what it hits",
        ),
    ],
)  # fmt: skip
def test_one_statement_for_one_cause(
    faults: list[Fault], racks: int, says: list[tuple[str, str]]
) -> None:
    assert told(sample(6, racks, faults).matrix) == says


def test_subnets_stand_in_for_labels_that_are_not_there() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_ON_PATH, f"rack={a}", f"rack={b}", "geneve")
        for a, b in product("abc", repeat=2) if a != b
    ]).matrix  # fmt: skip
    matrix.nodes = tuple(
        replace(node, labels={}, addresses=(f"10.9.{i // 2}.{i + 1}",))
        for i, node in enumerate(matrix.nodes)
    )
    assert told(matrix) == [("network", "between nodes of unlike /24 subnet")]


# --- what a closer look changes


def looked(hits: tuple[RuleHit, ...] = (), *, there: int = 2, **rest: object) -> Looked:
    """A closer look at n1 → n3, or at another pair from n1."""
    return Looked(0, there, Diagnosis(hits=hits, **rest))  # type: ignore[arg-type]


def test_groups_that_one_rule_made_are_one_finding() -> None:
    matrix = sample(4, 1, [
        Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve"),
        Fault(rejected("10.0.0.3", Place.DESTINATION), "*", "n3", "health"),
    ]).matrix  # fmt: skip
    assert len(found(matrix)) == 2
    hit = RuleHit(2, "forward", frozenset({1}), RULE)
    one, *others = found(matrix, {0: looked((hit,)), 1: looked((hit,))})
    assert not others
    assert (one.cause, one.nodes, one.cells) == (Cause.RULE, (2,), 6)
    assert one.title.startswith("n3 itself drops UDP 6081 and TCP 4240: nftables rule")
    assert "udp dport 6081 drop" in one.title
    assert any("corp baseline" in sentence for sentence in one.evidence)


def test_two_rules_are_two_findings_whatever_their_shape() -> None:
    matrix = sample(4, 2, [
        Fault(rejected("198.18.1.1"), "rack=a", "rack=b", "geneve"),
        Fault(rejected("198.18.2.1"), "rack=b", "rack=a", "geneve"),
    ]).matrix  # fmt: skip
    assert len(found(matrix)) == 1
    other = RULE._replace(handle=13)
    looks = {
        0: looked((RuleHit(2, "forward", frozenset(), RULE),)),
        1: Looked(2, 0, Diagnosis(hits=(RuleHit(3, "forward", frozenset(), other),))),
    }
    assert len(found(matrix, looks)) == 2


def test_a_rule_that_is_one_of_several_candidates_is_not_named() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix
    hit = RuleHit(2, "forward", frozenset(), RULE._replace(sure=False))
    (one,) = found(matrix, {0: looked((hit,))})
    assert one.cause is Cause.NODE_FIREWALL
    assert "udp dport" not in one.title


def test_dead_flows_are_no_random_loss() -> None:
    matrix = sample(4, 2, [Fault(LOSSY, "rack=a", "rack=b", "geneve")]).matrix
    flows = Flows(FlowPattern.SOME_DEAD, 64, tuple(range(1, 9)), 224, 256)
    (one,) = found(matrix, {0: looked(flows=flows)})
    assert one.cause is Cause.FLOWS
    assert "8 of 64 flows" in one.title


def test_one_baseline_on_every_node_is_one_finding_and_unlike_rules_are_two() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3,n4", "geneve")]).matrix
    bad = groups(matrix)
    assert len(bad) == 1
    alike = [
        looked((RuleHit(2, "forward", frozenset(), RULE),), there=2),
        looked((RuleHit(3, "forward", frozenset(), RULE._replace(handle=99)),), there=3),
    ]
    (one,) = findings(matrix, bad, {0: alike})
    assert one.nodes == (2, 3)
    assert one.title.startswith("n3, n4: each node itself drops UDP 6081")
    other = RULE._replace(chain="fleet", text="udp dport 6000-7000 drop")
    unlike = [alike[0], looked((RuleHit(3, "forward", frozenset(), other),), there=3)]
    first, second = findings(matrix, bad, {0: unlike})
    assert {first.nodes, second.nodes} == {(2,), (3,)}
    assert first.cells == second.cells == 3


# --- whatever the matrix


OUTCOMES = (
    DROPPED_ON_PATH, DROPPED_AT_DESTINATION, DROPPED_AT_SOURCE, ANSWER_DROPPED_ON_PATH, LOSSY,
    NO_AGENT, NOT_LISTENING, rejected("10.0.0.1"), rejected("198.18.1.1"), None,
    LOSSY._replace(leg=Leg.REPLY, evidence=Evidence(3, 3, 3, 3, 3, 1, 1)),
)  # fmt: skip
PLACES = st.sampled_from(("*", "n1", "n2", "n5", "rack=a", "rack=b", "rack=c"))
FAULTS = st.lists(
    st.builds(
        Fault, st.sampled_from(OUTCOMES), PLACES, PLACES,
        st.sampled_from(("*", "geneve", "health", "echo", "health,echo")),
    ),
    max_size=6,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(FAULTS)
def test_every_bad_cell_is_in_one_finding_and_no_open_one_in_any(faults: list[Fault]) -> None:
    matrix = sample(6, 3, faults).matrix
    made = found(matrix)
    covered: Counter[tuple[int, str, int, int]] = Counter()
    for finding in made:
        own = cells_of(finding, matrix)
        assert finding.cells == own.total()
        assert finding.title
        assert finding.identifier
        covered += own
    bad = {
        (cell.probe, cell.family, cell.source, cell.destination)
        for cell in matrix.cells()
        if cell.outcome.verdict is not Verdict.OPEN
    }
    assert covered == Counter(bad)
    required = [finding.severity is Severity.REQUIRED for finding in made]
    assert required == sorted(required, reverse=True)
    for _, _, source, destination in bad:
        assert explained(made, source, destination)


def test_a_router_that_answers_in_the_destinations_name_translates() -> None:
    way = Path((), None, 1, False, as_destination=(1,))
    matrix = sample(4, 1, [Fault(rejected("destination"), "n1", "n3", "health")]).matrix
    (finding,) = found(matrix, {0: looked(path=way)})
    assert finding.cause is Cause.TRANSLATION
    assert "rewrites the destination address of TCP 4240" in finding.title
    assert not finding.requests


def test_one_translated_destination_is_one_finding_however_it_ends() -> None:
    """The node that it leads to gets its own packets back, and drops them without a word."""
    way = Path((), None, 1, False, as_destination=(1,))
    faults = [
        Fault(rejected("destination"), "rack=a", "n3", "health"),
        Fault(DROPPED_ON_PATH, "n4", "n3", "health"),
    ]
    matrix = sample(4, 2, faults).matrix
    looks = {0: looked(path=way), 1: Looked(3, 2, Diagnosis(path=way))}
    (finding,) = found(matrix, looks)
    assert (finding.cause, finding.cells) == (Cause.TRANSLATION, 3)
    other = {0: looked(path=way), 1: Looked(3, 2, Diagnosis())}
    assert [one.cause for one in found(matrix, other)] == [Cause.TRANSLATION, Cause.NETWORK]


@pytest.mark.parametrize(
    ("place", "leg", "who", "asks"),
    [
        (Place.PATH, Leg.FORWARD, "something on the way answers", True),
        (Place.SOURCE, Leg.FORWARD, "something inside n3 answers", False),
        (Place.DESTINATION, Leg.FORWARD, "something inside n1 answers", False),
        (Place.DESTINATION, Leg.REPLY, "something answers", False),  # its own tap saw no answer
        (None, Leg.FORWARD, "something answers", True),
    ],
)
def test_what_answers_in_the_destinations_place_is_where_it_can_be(
    place: Place | None, leg: Leg, who: str, asks: bool
) -> None:
    """No network is asked for what does not leave its node, or has come to the other."""
    answered = Outcome(
        Verdict.BLOCKED, leg, place, CellCause.INTERCEPTED, None, Evidence(sent=5, left=0)
    )
    (one,) = found(sample(4, 2, [Fault(answered, "n3", "n1", "echo")]).matrix)
    assert one.title == f"n3 → n1: {who} ICMP echo in the destination's place"
    assert bool(one.requests) is asks
    assert ("local route" in one.advice) is (place is Place.SOURCE)


@pytest.mark.parametrize("says", ["time to live exceeded (11/0)", "host prohibited (3/10)"])
def test_a_ttl_that_runs_out_is_no_refusal(says: str) -> None:
    """Before any closer look, and in whatever words it is told."""
    router = "198.18.1.1"
    ran_out = rejected(router)._replace(detail=f"ICMP {says}")
    refused = rejected(router)._replace(detail="ICMP communication prohibited (3/13)")
    matrix = sample(4, 2, [
        Fault(ran_out, "n1", "n3", "geneve"),
        Fault(refused, "n2", "n3", "geneve"),
        Fault(refused, "n1", "n3", "health"),
    ]).matrix  # fmt: skip
    expired = "exceeded" in says
    cells = (1, 2) if expired else (3,)
    assert sorted(finding.cells for finding in found(matrix)) == [*cells]
    one = next(finding for finding in found(matrix) if finding.cells == cells[0])
    assert (f"the TTL of UDP 6081 runs out at {router}" in one.title) is expired
    assert ("rejects" in one.title) is not expired
    assert ("routes" in one.advice, bool(one.requests)) == (expired, not expired)
    headline, advice = verdict(ran_out, one.tests[0], matrix)
    how = f"its TTL ran out at {router}" if expired else f"rejected by {router}"
    assert headline == f"blocked on the path, {how}"
    assert ("loop" in advice) is expired
