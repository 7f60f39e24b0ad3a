"""Where a finding is, by test: its words name no cell that is fine, whatever the probes' cells."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    ANSWER_DROPPED_ON_PATH,
    DROPPED_AT_DESTINATION,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    LOSSY,
    NOT_LISTENING,
    Fault,
    blocked,
    sample,
)
from test_groups import side
from test_report_table import shown

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.claims import cells_of
from preflight.core.findings.model import Finding
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import FamilyProbe, groups
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Family, Leg, Outcome, Place, Verdict
from preflight.core.naming import members
from preflight.core.terms import traffic

Pairs = set[tuple[int, int]]

POLICY = Rule(
    "nft", "inet", "f", "i", 0, 0, True, "", "", False, "input", (("inet", "f", "i"),), True
)
BAD = (Verdict.BLOCKED, Verdict.LOSSY)


def by_policy(matrix: Matrix, node: int) -> list[Finding]:
    """The findings where a look at each group says that the node's policy ended it."""
    bad = groups(matrix)
    hit = RuleHit(node, "forward", frozenset({1}), POLICY)
    looks = {
        i: [Looked(g.sample.source, g.sample.destination, Diagnosis(hits=(hit,)), test)
            for test in g.tests]
        for i, g in enumerate(bad)
    }  # fmt: skip
    return findings(matrix, bad, looks)


# --- two probes that meet one policy


def test_a_policy_that_spares_unlike_sources_of_two_probes() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "n1", "n5", "geneve"),
        Fault(DROPPED_AT_DESTINATION, "n2,n6", "n5", "health"),
    ]).matrix  # fmt: skip
    (one,) = by_policy(matrix, 4)
    assert one.title == (
        "n5 itself drops UDP 6081 from n1, and TCP 4240 from n2, n6: nftables policy of chain "
        "inet f i"
    )
    assert one.where == "n1 → n5 (UDP 6081); n2, n6 → n5 (TCP 4240)"


def test_what_ends_requests_and_answers_is_not_told_of_answers_alone() -> None:
    """The answers' cell comes first; what is sent to n5 is lost, whatever it is."""
    matrix = sample(6, 3, [
        Fault(ANSWER_DROPPED_ON_PATH, "n5", "n6", "echo"),
        Fault(DROPPED_ON_PATH, "n6", "n5", "echo"),
    ]).matrix  # fmt: skip
    (one,) = findings(matrix, groups(matrix))
    assert one.title == "n5 ↔ n6: the network drops ICMP echo"


def test_a_rule_that_ends_requests_and_answers_is_not_told_of_answers_alone() -> None:
    matrix = sample(6, 3, [
        Fault(blocked(Place.SOURCE, Leg.REPLY), "n1", "n4", "echo"),
        Fault(DROPPED_AT_DESTINATION, "n4", "n1", "echo"),
    ]).matrix  # fmt: skip
    bad = groups(matrix)
    legs = ["reply" if g.kind.leg is Leg.REPLY else "forward" for g in bad]
    assert legs == ["reply", "forward"]
    looks = {
        i: [Looked(g.sample.source, g.sample.destination,
                   Diagnosis(hits=(RuleHit(0, leg, frozenset({1}), POLICY),)), g.tests[0])]
        for i, (g, leg) in enumerate(zip(bad, legs, strict=True))
    }  # fmt: skip
    (one,) = findings(matrix, bad, looks)
    assert one.title.startswith("n1 itself drops ICMP echo: nftables policy")


def test_cells_of_unlike_kinds_that_are_one_block() -> None:
    """Answers that are refused bear another rejecter for each peer."""
    refused = blocked(Place.SOURCE, Leg.REPLY)._replace(cause=Cause.REJECTED)
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "n1,n5", "n4", "geneve"),
        Fault(DROPPED_AT_DESTINATION, "n1,n5", "n4", "health"),
        Fault(refused._replace(rejected_by="10.0.0.1"), "n4", "n1", "health"),
        Fault(refused._replace(rejected_by="10.0.0.9"), "n4", "n5", "health"),
    ]).matrix  # fmt: skip
    (one,) = by_policy(matrix, 3)
    assert one.where == "n1, n5 → n4 (UDP 6081); n4 ↔ n1, n5 (TCP 4240)"
    assert one.title.startswith(
        "n4 itself drops UDP 6081 from n1, n5, and TCP 4240 to and from n1, n5: nftables policy"
    )


def test_a_policy_that_lets_out_one_probe_to_few_and_another_to_one() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_SOURCE, "n2", "n4,n5,n6", "geneve"),
        Fault(DROPPED_AT_SOURCE, "n2", "n1,n3,n5,n6", "health"),
    ]).matrix  # fmt: skip
    (one,) = by_policy(matrix, 1)
    assert one.title.startswith(
        "n2 itself drops UDP 6081 to n4…n6, and TCP 4240 to all except n4: nftables policy"
    )


def test_all_sources_are_named_where_another_probe_lacks_some() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "*", "n5", "geneve"),
        Fault(DROPPED_AT_DESTINATION, "n6", "n5", "health,echo"),
    ]).matrix  # fmt: skip
    (one,) = by_policy(matrix, 4)
    assert one.title.startswith(
        "n5 itself drops UDP 6081 from all, and TCP 4240 and ICMP echo from n6: nftables policy"
    )


def test_families_are_told_apart_where_their_pairs_differ() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "n1", "n5", "geneve", Family.IPV4),
        Fault(DROPPED_AT_DESTINATION, "n3", "n5", "geneve", Family.IPV6),
    ], families=(Family.IPV4, Family.IPV6)).matrix  # fmt: skip
    (one,) = by_policy(matrix, 4)
    assert "drops UDP 6081 over IPv4 from n1, and UDP 6081 over IPv6 from n3: " in one.title


def test_one_set_of_pairs_is_told_once() -> None:
    matrix = sample(6, 3, [Fault(DROPPED_AT_DESTINATION, "n1,n2", "n5", "geneve,health")]).matrix
    (one,) = by_policy(matrix, 4)
    assert one.title.startswith("n5 itself drops UDP 6081 and TCP 4240 from rack=a: nftables")
    assert one.where == "rack=a → n5"


def test_a_node_without_an_address_of_a_family_tells_nothing_apart() -> None:
    """What was never tested there is claimed of nobody."""
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "*", "n5", "geneve"),
        Fault(None, "n1", "*", "*", Family.IPV6),
        Fault(None, "*", "n1", "*", Family.IPV6),
    ], families=(Family.IPV4, Family.IPV6)).matrix  # fmt: skip
    (one,) = by_policy(matrix, 4)
    assert one.title.startswith("n5 itself drops UDP 6081: nftables policy")


def test_the_count_goes_by_probe_where_the_pairs_do() -> None:
    snapshot = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "n1", "n5", "geneve"),
        Fault(DROPPED_AT_DESTINATION, "n2,n6", "n5", "health"),
    ])  # fmt: skip
    text = shown(replace(snapshot, findings=by_policy(snapshot.matrix, 4)), width=120)
    where = "n1 → n5 (UDP 6081); n2, n6 → n5 (TCP 4240)  1 pair: geneve; 2 pairs: health"
    assert where in text


# --- whatever the matrix


@st.composite
def matrices(draw: st.DrawFn, outcomes: tuple[Outcome, ...], families: int = 2) -> Matrix:
    """Six nodes in three racks: for some tests some sources to some destinations, or all."""
    known = (Family.IPV4, Family.IPV6)[: draw(st.integers(1, families))]
    matrix = sample(6, 3, families=known).matrix
    nodes = st.sampled_from(
        [{0}, {1}, {4}, {0, 1}, {2, 3}, {4, 5}, {0, 3, 5}, {0, 1, 2, 3}, set(range(6))]
    )
    for _ in range(draw(st.integers(1, 6))):
        outcome, here, there = draw(st.sampled_from(outcomes)), draw(nodes), draw(nodes)
        family, probe = draw(st.integers(0, len(known) - 1)), draw(st.integers(0, 2))
        for s, d in product(here, there):
            if s != d and (probe or outcome.leg != "reply"):
                matrix.set(matrix.index(family, probe, s, d), outcome)
    return matrix


def named(words: str, matrix: Matrix) -> Pairs:
    """The pairs that some words name, as a reader takes them."""
    every = set(range(len(matrix.nodes)))
    found: Pairs = set()
    if " and " in words and "nodes of" not in words:
        return set().union(*(named(part, matrix) for part in words.split(" and ")))
    if "; " in words:
        return set().union(*(named(part, matrix) for part in words.split("; ")))
    way, division, between = words.rpartition("between nodes of ")
    if division:
        alike, _, key = between.partition(" ")
        if alike == "the":
            alike, _, key = key.partition(" ")
        classes = [node.labels["rack"] if key == "rack" else None for node in matrix.nodes]
        assert key == "rack", words
        found = {(s, d) for s, d in permutations(every, 2)
                 if (classes[s] == classes[d]) is (alike == "same")}  # fmt: skip
        return found & named(way.removesuffix(", "), matrix) if way else found
    if words.startswith(("within ", "among ")):
        inside = side(words.partition(" ")[2].removesuffix(" nodes"), matrix, every)
        return set(permutations(inside, 2))
    there, arrow, back = words.partition(" → ")
    if not arrow:
        there, arrow, back = words.partition(" ↔ ")
    sides = side(there, matrix, every), side(back, matrix, every)
    found = {(s, d) for s, d in product(*sides) if s != d}
    return found | {(d, s) for s, d in found} if arrow == " ↔ " else found


def by_test(finding: Finding, matrix: Matrix) -> dict[FamilyProbe, Pairs]:
    """What the finding's `where` names of each test."""
    out: dict[FamilyProbe, Pairs] = {}
    for test in finding.tests:
        name = traffic(matrix.probes[test.probe], test.family)
        over = f"{name} over {test.family.replace('ipv', 'IPv')}"
        parts = finding.where.split("; ") if "(" in finding.where else [finding.where]
        for part in parts:
            where, _, what = part.removesuffix(")").partition(" (")
            of = [word for some in what.split(", ") for word in some.split(" and ")]
            if not what or name in of or over in of:
                where = where if what else finding.where
                out.setdefault(test, set()).update(named(where, matrix))
    return out


def check(made: list[Finding], matrix: Matrix) -> None:
    shapes = Shapes(matrix)
    for finding in made:
        if " more" in finding.where or "subnet" in finding.where:
            continue
        told = by_test(finding, matrix)
        for test, rows in cells_of(shapes, finding).items():
            own = {(s, d) for s, row in rows.items() for d in members(row)}
            assert own <= told[test], finding.where
            for s, d in told[test] - own:
                index = matrix.index(matrix.families.index(test.family), test.probe, s, d)
                outcome = matrix.outcome(index)
                assert outcome is None or outcome.verdict in BAD, (finding.where, test, s, d)


@settings(deadline=None, max_examples=200)
@given(matrices((
    DROPPED_ON_PATH, DROPPED_AT_DESTINATION, DROPPED_AT_SOURCE, ANSWER_DROPPED_ON_PATH, LOSSY,
    NOT_LISTENING,
)))  # fmt: skip
def test_the_words_cover_no_cell_that_is_fine(matrix: Matrix) -> None:
    check(findings(matrix, groups(matrix)), matrix)


@settings(deadline=None, max_examples=100)
@given(matrices((DROPPED_AT_DESTINATION,), families=1), st.integers(0, 5))
def test_what_one_policy_ends_is_named_exactly(matrix: Matrix, node: int) -> None:
    for cell in list(matrix.cells()):
        if cell.destination != node:
            probe, there = cell.probe, (cell.source, cell.destination)
            matrix.set(matrix.index(0, probe, *there), sample(2).matrix.outcome(1))
    made = by_policy(matrix, node)
    if not made:
        return
    (one,) = made
    check([one], matrix)
    name = matrix.nodes[node].name
    what, _, _ = one.title.removeprefix(f"{name} itself drops ").partition(": nftables")
    told: dict[str, set[int]] = {}
    for part in what.split(", and "):
        packets, _, peers = part.partition(" from ")
        for packet in packets.replace(" and ", ", ").split(", "):
            told[packet] = side(peers or "all", matrix, set(range(6))) - {node}
    own: dict[str, set[int]] = {}
    for test, rows in cells_of(Shapes(matrix), one).items():
        own[traffic(matrix.probes[test.probe], test.family)] = {s for s, row in rows.items() if row}
    assert told == own, one.title


@pytest.mark.parametrize("words", ["n1 → n5 and n2 ↔ n3", "n1 → n5; n2 ↔ n3"])
def test_the_oracle_reads_what_is_written(words: str) -> None:
    assert named(words, sample(6, 3).matrix) == {(0, 4), (1, 2), (2, 1)}
