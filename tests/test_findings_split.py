"""Groups that looks cut, and groups that one cause made: with matrices made to order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from samples import (
    ANSWER_DROPPED_ON_PATH,
    ANSWERED,
    DROPPED_AT_DESTINATION,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    LOSSY,
    NOT_LISTENING,
    Fault,
    blocked,
    sample,
)

from preflight.core.diagnosis.conclusions import (
    Content,
    ContentPattern,
    Diagnosis,
    FlowPattern,
    Flows,
    Path,
    Router,
    Size,
)
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.concerns import concerns, may_be_from
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import FamilyProbe, groups
from preflight.core.matrix import Matrix
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Outcome, Place, Probe, Severity
from preflight.core.model import Cause as CellCause

GENEVE4, HEALTH4, ECHO4 = (FamilyProbe(probe, Family.IPV4) for probe in range(3))
RULE = Rule(
    "nft", "inet", "filter", "input", 12, 0, False, "udp dport 6081 drop", "", False, "input", (),
    True,
)  # fmt: skip
OTHER = RULE._replace(handle=13, text="tcp dport 4240 drop")
WHOLE = RULE._replace(handle=0, policy=True, text="policy drop")


def inside(rule: Rule | None, test: FamilyProbe, node: int = 2, source: int = 0) -> Looked:
    """A look at what dies inside a node, and by which rule."""
    hits = () if rule is None else (RuleHit(node, "forward", frozenset({1}), rule),)
    return Looked(source, node, Diagnosis(hits=hits), test)


def between(source: int, destination: int, test: FamilyProbe = GENEVE4, **found: object) -> Looked:
    return Looked(source, destination, Diagnosis(**found), test)  # type: ignore[arg-type]


def ends(last: int, distance: int | None = None) -> Path:
    """A path that ends behind the router with that number."""
    routers = tuple(Router(ttl, f"198.18.9.{ttl}") for ttl in range(1, last + 1))
    return Path(routers, last + 1, distance, False)


def made(matrix: Matrix, looks: Sequence[Looked]) -> list[Finding]:
    return findings(matrix, groups(matrix), {0: list(looks)})


def told(found: Sequence[Finding]) -> set[tuple[str, int]]:
    return {(finding.where, finding.cells) for finding in found}


# --- inside nodes


def test_two_rules_of_one_node_are_two_findings_with_their_own_probes() -> None:
    fault = Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve,health")
    first, second = made(
        sample(4, 1, [fault]).matrix, [inside(RULE, GENEVE4), inside(OTHER, HEALTH4)]
    )
    assert (first.tests, first.severity) == ((GENEVE4,), Severity.REQUIRED)
    assert (second.tests, second.severity) == ((HEALTH4,), Severity.RECOMMENDED)
    assert first.cells == second.cells == 3
    assert "4240" not in first.title
    assert "6081" not in second.title


def test_a_rule_is_not_laid_to_packets_of_which_it_does_not_speak() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve,health")]).matrix
    causes = {f.tests[0]: f.cause for f in made(matrix, [inside(RULE, GENEVE4)])}
    assert causes == {GENEVE4: Cause.RULE, HEALTH4: Cause.NODE_FIREWALL}
    (one,) = made(matrix, [inside(WHOLE, GENEVE4)])
    assert (one.cause, one.cells) == (Cause.RULE, 6)


def test_a_rule_is_not_laid_to_addresses_of_which_it_does_not_speak() -> None:
    """Where nobody looked: an agent that was lost, or one look too many."""
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix
    first, _, third, fourth = (node.addresses[0] for node in matrix.nodes)

    def cells(text: str) -> dict[Cause, int]:
        found = made(matrix, [inside(RULE._replace(text=text), GENEVE4)])
        return {finding.cause: finding.cells for finding in found}

    apart = {Cause.RULE: 1, Cause.NODE_FIREWALL: 2}
    assert cells(f"ip saddr {first} udp dport 6081 drop") == apart
    assert cells(f"-A INPUT -s {first}/32 -p udp -j DROP") == apart
    two = f"ip saddr {{ {first}, {fourth} }} udp dport 6081 drop"
    assert cells(two) == {Cause.RULE: 2, Cause.NODE_FIREWALL: 1}
    for text in (
        f"ip daddr {third} udp dport 6081 drop",
        f"ip saddr != {fourth} udp dport 6081 drop",  # too much to read out of it
        "ip saddr @nodes drop",
        "ip saddr 203.0.113.9 drop",  # it met another address than the node's own
    ):
        assert cells(text) == {Cause.RULE: 3}


def test_a_node_that_was_searched_in_vain_does_not_share_anothers_rule() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3,n4", "geneve")]).matrix
    first, second = made(matrix, [inside(RULE, GENEVE4), inside(None, GENEVE4, node=3)])
    assert {first.cause, second.cause} == {Cause.RULE, Cause.NODE_FIREWALL}
    (one,) = made(matrix, [inside(RULE, GENEVE4)])
    assert one.cells == 6  # nobody looked at n4


def test_a_rule_of_each_family_is_one_cause_where_they_say_the_same() -> None:
    four = RULE._replace(tool="iptables", family="ip", text="-p icmp -j REJECT")
    six = RULE._replace(tool="ip6tables", family="ip6", text="-p icmpv6 -j REJECT")
    geneve6 = GENEVE4._replace(family=Family.IPV6)
    matrix = sample(
        4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")], families=tuple(Family)
    ).matrix
    (one,) = made(matrix, [inside(four, GENEVE4), inside(six, geneve6)])
    assert one.cells == 6
    assert "and 1 rule more" in one.title


def test_what_a_rule_says_it_does_is_not_what_it_matches() -> None:
    def speaks(text: str, probe: Probe, leg: str = "forward") -> bool:
        return concerns(RULE._replace(text=text), probe, leg)

    everything = (
        "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
        "counter reject with icmpx admin-prohibited",
        'log prefix "udp 53 dport 1" drop',
        "policy drop",
        'drop comment "no tcp dport 80"',
    )
    for text in everything:
        assert all(speaks(text, probe) for probe in (GENEVE, HEALTH, ECHO)), text
    assert [speaks("udp dport 6081 drop", p) for p in (GENEVE, HEALTH, ECHO)] == [
        True,
        False,
        False,
    ]
    assert [speaks("icmp type echo-request reject with icmp host-prohibited", p)
            for p in (GENEVE, HEALTH, ECHO)] == [False, False, True]  # fmt: skip
    assert speaks("tcp sport 4240 drop", HEALTH, "reply")
    assert not speaks("tcp dport 4241 drop", HEALTH)


def test_rules_that_differ_in_addresses_alone_are_one_cause() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix

    def looks(*texts: str) -> list[Looked]:
        rules = [RULE._replace(handle=n, text=text) for n, text in enumerate(texts, 20)]
        return [inside(rule, GENEVE4, source=s) for rule, s in zip(rules, (0, 1, 3), strict=True)]

    alike = (
        [f"ip saddr 10.0.0.{n} udp dport 6081 drop" for n in range(3)],
        ["ip saddr { 10.0.0.1, 10.0.0.9 } drop", "ip saddr 10.0.0.2 drop", "ip saddr fd00::1 drop"],
        [f"-A INPUT -s 10.0.0.{n}/32 -p udp -j DROP" for n in range(3)],
    )
    for texts in alike:
        (one,) = made(matrix, looks(*texts))
        assert "and 2 rules more" in one.title
    unlike = (
        ["ip saddr 10.0.0.1 drop", "ip saddr != 10.0.0.2 drop", "ip saddr @bad drop"],
        ["ip saddr 10.0.0.1 drop", "ip daddr 10.0.0.1 drop", "drop"],
        [
            "-A INPUT -s 10.0.0.1/32 -j DROP",
            "-A INPUT ! -s 10.0.0.2/32 -j DROP",
            "-A INPUT -j DROP",
        ],
    )
    for texts in unlike:
        assert len(made(matrix, looks(*texts))) == 3


def test_whose_packets_a_rule_is_about() -> None:
    def may(text: str, source: str = "10.0.0.1", destination: str = "10.0.0.2") -> bool:
        return may_be_from(RULE._replace(text=text), source, destination)

    for text in ("drop", "ip saddr 10.0.0.1 drop", "ip saddr 10.0.0.0/24 ip daddr 10.0.0.2 drop",
                 "ip saddr { 10.9.0.1, 10.0.0.1 } drop", "ip saddr != 10.9.0.1 drop",
                 "ip saddr != 10.0.0.1 drop", "ip saddr @bad drop",
                 "ip saddr 10.9.0.1-10.9.0.2 drop", "-A INPUT -s 10.0.0.1/32 -j DROP",
                 "-A INPUT ! -s 10.9.0.1/32 -j DROP",
                 'drop comment "ip saddr 10.9.0.1"'):  # fmt: skip
        assert may(text), text
    for text in ("ip saddr 10.0.0.2 drop", "ip daddr 10.0.0.1 drop", "ip6 saddr fd00::1 drop",
                 "ip saddr { 10.9.0.1, 10.9.0.2 } drop", "-A INPUT -s 10.9.0.0/16 -j DROP",
                 "-A INPUT -s 10.0.0.1/32 -d 10.0.0.1/32 -j DROP"):  # fmt: skip
        assert not may(text), text


# --- between nodes


def test_unlike_routers_are_unlike_causes_on_the_same_way() -> None:
    matrix = sample(4, 2, [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve,health")]).matrix
    far, near = made(matrix, [between(0, 2, path=ends(2)), between(1, 2, HEALTH4, path=ends(1))])
    assert (far.tests, near.tests) == ((GENEVE4,), (HEALTH4,))
    assert "(hop 2)" in far.title
    assert "(hop 1)" in near.title


def test_the_way_back_tells_the_same_router_where_the_distance_is_known() -> None:
    matrix = sample(4, 2, [
        Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve"),
        Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "geneve"),
    ]).matrix  # fmt: skip
    one = [between(0, 2, path=ends(1, 2)), between(2, 0, path=ends(2, 2))]
    two = [between(0, 2, path=ends(1, 2)), between(2, 0, path=ends(1, 2))]
    unknown = [between(0, 2, path=ends(1)), between(2, 0, path=ends(1))]
    assert told(made(matrix, one)) == told(made(matrix, unknown)) == {("rack=a ↔ rack=b", 8)}
    assert told(made(matrix, two)) == {("rack=a → rack=b", 4), ("rack=b → rack=a", 4)}


def test_sizes_flows_and_contents_that_contradict_each_other_are_two_causes() -> None:
    size = LOSSY._replace(cause=CellCause.SIZE)
    lossy, sizes, dropped = (
        sample(6, 3, [Fault(o, "rack=a", f"rack={rack}", "geneve") for rack in "bc"]).matrix
        for o in (LOSSY, size, DROPPED_ON_PATH)
    )
    apart = {("rack=a → rack=b", 4), ("rack=a → rack=c", 4)}

    def flows(pattern: FlowPattern) -> Flows:
        return Flows(pattern, 36, (), 100, 144)

    def ranged(first: int, last: int, spared: int = 0) -> Flows:
        ports = range(0, 36_000, 1000)
        dead = tuple(p for p in ports if first <= p <= last and p != spared)
        alive = tuple(p for p in ports if p not in dead)
        return Flows(FlowPattern.RANGE, 36, dead, 100, 144, alive)

    def of_size(largest: int) -> Size:
        return Size(largest, largest + 1, None, 1500, True, None, None)

    def content(pattern: ContentPattern) -> Content:
        return Content(pattern, (), ())

    cases = (
        (lossy, "flows", flows(FlowPattern.RANDOM), flows(FlowPattern.SOME_DEAD), apart),
        (lossy, "flows", flows(FlowPattern.RANDOM), flows(FlowPattern.LIMITED), None),
        (lossy, "flows", flows(FlowPattern.HIGH_ONLY), flows(FlowPattern.ALL), apart),
        (lossy, "flows", flows(FlowPattern.SOME_DEAD), flows(FlowPattern.ALL), None),
        (lossy, "flows", ranged(2000, 9000), ranged(5000, 9000), apart),
        (lossy, "flows", ranged(2000, 9000), ranged(20_000, 30_000), apart),
        (lossy, "flows", ranged(2000, 9000), ranged(3000, 9000, 5000), None),  # loss, too
        (sizes, "size", of_size(1400), of_size(1450), apart),
        (sizes, "size", of_size(1400), of_size(1400), None),
        (dropped, "content", content(ContentPattern.PORT), content(ContentPattern.TUNNEL), apart),
        (dropped, "content", content(ContentPattern.PORT), None, None),
        (dropped, "flows", flows(FlowPattern.NONE), flows(FlowPattern.REPLIES_ONLY), None),
    )
    for matrix, what, first, second, expected in cases:
        looks = [between(0, 2, **{what: first}), between(0, 4, **{what: second})]
        assert told(made(matrix, looks)) == (expected or {("rack=a → rack=b,c", 8)}), what


@pytest.mark.parametrize(("outcome", "unknown"), [(LOSSY, True), (NOT_LISTENING, False)])
def test_what_passes_later_may_come_and_go_but_nobody_serves_it_the_less(
    outcome: Outcome, unknown: bool
) -> None:
    matrix = sample(4, 1, [Fault(outcome, "n1", "n3", "geneve")]).matrix
    (one,) = made(matrix, [between(0, 2, flows=Flows(FlowPattern.ALL, 36, (), 144, 144))])
    assert any("comes and goes" in note for note in one.unknown) is unknown


def test_loss_between_two_racks_is_one_where_as_much_is_lost() -> None:
    """A few percent hit some cells and spare others, so their shape says nothing."""
    faults = [Fault(LOSSY, a, b, "geneve") for a, b in (("n1", "n3"), ("n2", "n4"), ("n6", "n1"))]
    matrix = sample(6, 3, faults).matrix
    bad = groups(matrix)

    def found(**lost: int) -> set[str]:
        looks = {
            i: [between(g.sources[0], g.destinations[0],
                        flows=Flows(FlowPattern.RANDOM, 36, (), 100 - lost[f"n{g.sources[0] + 1}"],
                                    100))]
            for i, g in enumerate(bad)
        }  # fmt: skip
        return {f.where for f in findings(matrix, bad, looks)}

    assert found(n1=4, n2=7, n6=4) == {"n1 → n3; n2 → n4", "n6 → n1"}
    assert found(n1=4, n2=40, n6=4) == {"n1 → n3", "n2 → n4", "n6 → n1"}


# --- one firewall that rejects


def rejected(by: str) -> Outcome:
    return blocked(Place.PATH, cause=CellCause.REJECTED, rejected_by=by)


def test_what_a_rejecting_router_had_no_errors_left_for_is_its_own_too() -> None:
    matrix = sample(4, 2, [
        Fault(rejected("198.18.1.1"), "rack=a", "rack=b", "health"),
        Fault(rejected("198.18.2.1"), "rack=b", "rack=a", "health"),
        Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve"),
        Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "geneve"),
    ]).matrix  # fmt: skip
    (one,) = findings(matrix, groups(matrix))
    assert (one.where, one.cells) == ("rack=a ↔ rack=b", 16)
    assert "rejects UDP 6081 and TCP 4240" in one.title


@pytest.mark.parametrize(
    ("dropped", "rejected_", "found"),
    [
        # All of one sender's are dropped, all of the other's rejected: errors do not run out so.
        ("n3 > rack=a", "n4 > rack=a", {("n3 → rack=a", "drops"), ("n4 → rack=a", "rejects")}),
        ("n3 > n1", "n4 > n1", {("rack=b → n1", "rejects")}),  # a cell each: by chance
        ("n3 > n1", "n3 > n2", {("n3 → rack=a", "rejects")}),
        ("n3 > rack=a", "n4 > n1", {("n3 → rack=a; n4 → n1", "rejects")}),
    ],
)
def test_one_sender_dropped_and_another_rejected(
    dropped: str, rejected_: str, found: set[tuple[str, str]]
) -> None:
    here, there = dropped.split(" > "), rejected_.split(" > ")
    matrix = sample(4, 2, [
        Fault(DROPPED_ON_PATH, here[0], here[1], "geneve"),
        Fault(rejected("198.18.2.1"), there[0], there[1], "geneve"),
    ]).matrix  # fmt: skip
    bad = groups(matrix)
    path = Path((Router(1, "198.18.2.1"),), 2, 1, False)
    looks = {
        i: [between(g.sources[0], g.destinations[0], path=path)]
        for i, g in enumerate(bad)
        if g.kind.cause is CellCause.DROPPED
    }
    told_of = findings(matrix, bad, looks)
    assert {(f.where, "rejects" if "rejects" in f.title else "drops") for f in told_of} == found
    for one in told_of:
        silent = len(found) == 1
        assert any("without a word" in words for words in one.unknown) is silent


def test_what_is_sent_first_and_dropped_was_not_rejected_later() -> None:
    matrix = sample(4, 2, [
        Fault(rejected("198.18.1.1"), "rack=a", "rack=b", "geneve"),
        Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
    ]).matrix  # fmt: skip
    assert len(findings(matrix, groups(matrix))) == 2


def test_what_passes_the_rejecting_router_dies_elsewhere() -> None:
    matrix = sample(4, 2, [
        Fault(rejected("198.18.9.1"), "rack=a", "rack=b", "health"),
        Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve"),
    ]).matrix  # fmt: skip
    bad = groups(matrix)
    position = next(i for i, group in enumerate(bad) if group.tests == (GENEVE4,))
    assert len(findings(matrix, bad, {position: [between(0, 2, path=ends(1))]})) == 1
    assert len(findings(matrix, bad, {position: [between(0, 2, path=ends(2))]})) == 2


# --- shapes


def test_some_sources_to_all_other_racks_are_one_shape() -> None:
    own = {"n2": "a", "n6": "b", "n10": "c"}
    matrix = sample(12, 3, [
        Fault(DROPPED_ON_PATH, node, f"rack={rack}", "geneve")
        for node, home in own.items() for rack in "abc" if rack != home
    ]).matrix  # fmt: skip
    (one,) = findings(matrix, groups(matrix))
    assert (one.where, one.cells) == ("n2, n6, n10 → all, between nodes of unlike rack", 24)


def test_a_block_there_and_back_of_which_a_node_hides_a_part_is_one() -> None:
    matrix = sample(4, 2, [
        Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "geneve"),
        Fault(DROPPED_ON_PATH, "n2", "rack=b", "geneve"),
        Fault(blocked(Place.SOURCE), "n1", "*", "geneve"),
    ]).matrix  # fmt: skip
    found = findings(matrix, groups(matrix))
    assert sorted((f.cause.value, f.cells) for f in found) == [("network", 6), ("node-firewall", 3)]


def test_a_cell_with_another_fault_does_not_break_a_shape_but_an_open_one_does() -> None:
    between_racks = [Fault(DROPPED_ON_PATH, f"rack={a}", f"rack={b}", "echo")
                     for a in "abcd" for b in "abcd" if a != b]  # fmt: skip
    own = Fault(blocked(Place.SOURCE), "n8", "n2", "echo")
    found = findings(m := sample(8, 4, [*between_racks, own]).matrix, groups(m))
    assert [f.where for f in found] == ["between nodes of unlike rack", "n8 → n2"]
    assert [f.cells for f in found] == [47, 1]
    opened = Fault(ANSWERED, "n8", "n2", "echo")
    found = findings(m := sample(8, 4, [*between_racks, opened]).matrix, groups(m))
    assert "between nodes of unlike rack" not in {f.where for f in found}


@pytest.mark.parametrize("outcome", [DROPPED_ON_PATH, LOSSY])
def test_both_families_are_one_where_another_fault_hides_a_cell_of_one(outcome: Outcome) -> None:
    def found(hidden: Outcome) -> list[int]:
        faults = [
            Fault(outcome, "n3,n4,n5,n6", "n1,n2", "geneve"),
            Fault(hidden, "n4", "n2", "geneve", Family.IPV4),
        ]
        matrix = sample(6, 3, faults, families=tuple(Family)).matrix
        return sorted(finding.cells for finding in findings(matrix, groups(matrix)))

    assert found(DROPPED_AT_DESTINATION) == [1, 15]
    small = [Fault(outcome, "rack=a", "rack=b", "geneve")]
    small += [Fault(DROPPED_AT_DESTINATION, "n1", "n4", "geneve", Family.IPV4)]
    matrix = sample(4, 2, small, families=tuple(Family)).matrix
    assert sorted(f.cells for f in findings(matrix, groups(matrix))) == [1, 7]
    if outcome is DROPPED_ON_PATH:  # of random loss a cell may be spared
        assert 15 not in found(ANSWERED)


def test_two_faults_that_both_lose_a_cell_of_one_family_to_others_stay_two() -> None:
    faults = [
        Fault(DROPPED_ON_PATH, "n1", "n2,n3", "geneve"),
        Fault(DROPPED_ON_PATH, "n6", "n3,n4,n5", "geneve"),
        Fault(DROPPED_AT_DESTINATION, "n1", "n3", "geneve", Family.IPV4),
        Fault(DROPPED_AT_SOURCE, "n6", "n4", "geneve", Family.IPV4),
    ]
    matrix = sample(6, 3, faults, families=tuple(Family)).matrix
    assert sorted(f.cells for f in findings(matrix, groups(matrix))) == [1, 1, 3, 5]


def test_answers_go_with_what_is_partly_rejected_and_partly_dropped_on_their_way() -> None:
    """A router has few errors: it rejects the SYNs alone aloud, and no answer."""
    refused = blocked(Place.PATH, cause=CellCause.REJECTED, rejected_by="10.9.1.1")
    faults = [
        Fault(DROPPED_ON_PATH, "n3", "n1"),
        Fault(refused, "n3", "n1", "health"),
        Fault(ANSWER_DROPPED_ON_PATH, "n1", "n3", "health,echo"),
    ]

    def found(*more: Fault) -> list[int]:
        matrix = sample(4, 2, [*faults, *more]).matrix
        return [finding.cells for finding in findings(matrix, groups(matrix))]

    assert found() == [5]
    assert found(Fault(DROPPED_AT_DESTINATION, "n2", "n1", "echo")) == [5, 1]
    # The sender's own rule hides that its SYNs would be lost there.
    assert found(Fault(DROPPED_AT_SOURCE, "n3", "n1", "geneve,health")) == [2, 3]
    # Answers to echo are lost, and echo the same way is not.
    assert sorted(found(Fault(ANSWERED, "n3", "n1", "echo"))) == [2, 2]
