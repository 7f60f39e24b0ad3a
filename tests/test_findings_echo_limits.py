"""ICMP echo that is limited to a rate: what proves it, what does not, and what is said then."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    Fault,
    blocked,
    sample,
)

from preflight.core.diagnosis.conclude import passing
from preflight.core.diagnosis.conclusions import Diagnosis, Passing, Path, Router
from preflight.core.diagnosis.trial import Observed, Purpose, Rule, RuleHit, Shot, Trial
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.echo_limits import quiet
from preflight.core.findings.model import Cause, Finding
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import FamilyProbe, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import ECHO, HEALTH, Evidence, Family, Leg, Place, Probe, Verdict

ECHOES = FamilyProbe(2, Family.IPV4)
LOST = blocked(Place.PATH, evidence=Evidence(5, 5, 0, 0, 0, 0, 0))
SOME = LOSSY._replace(evidence=Evidence(6, 6, 2, 2, 2, 1, 1))
POLICY = Rule(
    "nft", "inet", "f", "i", 0, 0, True, "", "", False, "input", (("inet", "f", "i"),), True
)
HERE = Path((Router(1, "198.18.1.1"),), 2, None, False)


def between(*lossy: tuple[str, str]) -> list[Fault]:
    """Echo between three racks: nothing gets through, but for some pairs of which a little does."""
    ways = [(a, b) for a in "abc" for b in "abc" if a != b]
    lost = [Fault(LOST, f"rack={a}", f"rack={b}", "echo") for a, b in ways]
    return lost + [Fault(SOME, a, b, "echo") for a, b in lossy]


def at(look: tuple[int, int], passed: int, sent: int = 2, *, is_quiet: bool = True) -> Looked:
    diagnosis = Diagnosis(passing=Passing(passed, sent), path=None if is_quiet else HERE)
    return Looked(*look, diagnosis, ECHOES, brief=is_quiet, quiet=is_quiet)


def found(matrix: Matrix, *looks: Looked) -> list[Finding]:
    bad = groups(matrix)
    shapes = Shapes(matrix)
    own: Mapping[int, list[Looked]] = {
        i: [look for look in looks
            if look.test in g.tests and shapes.rows(g).get(look.source, 0) >> look.destination & 1]
        for i, g in enumerate(bad)
    }  # fmt: skip
    return findings(matrix, bad, own)


def test_what_passes_when_few_are_sent_is_limited_and_nothing_is_to_be_allowed() -> None:
    matrix = sample(6, 3, between(("n1", "n3"), ("n4", "n6"))).matrix
    looks = at((0, 4), 0, 5, is_quiet=False), at((0, 4), 2), at((2, 0), 0, 5, is_quiet=False)
    (one,) = found(matrix, *looks)
    assert one.cause is Cause.RATE_LIMIT
    assert one.title == (
        "between nodes of unlike rack: something on the path limits ICMP echo: of 122 packets 2 "
        "were answered"
    )
    assert (one.pairs, one.cells, one.requests, one.changes) == (24, 24, (), ())
    assert "raise it, or to exempt echo" in one.advice
    assert any("2 of 2 a moment later" in sentence for sentence in one.evidence)


def test_a_busy_closer_look_that_some_pass_proves_it_too() -> None:
    matrix = sample(6, 3, between(("n1", "n3"))).matrix
    (one,) = found(matrix, at((3, 1), 1, 5, is_quiet=False))
    assert one.cause is Cause.RATE_LIMIT


@pytest.mark.parametrize("passed", [None, 0])
def test_what_nothing_ever_passed_is_a_block(passed: int | None) -> None:
    matrix = sample(6, 3, between()).matrix
    made = found(matrix, *([] if passed is None else [at((0, 4), passed)]))
    assert {one.cause for one in made} == {Cause.NETWORK}
    assert all(one.requests for one in made)


def test_where_other_probes_are_lost_too_it_is_not_icmp_that_is_limited() -> None:
    matrix = sample(6, 3, [
        Fault(LOST, "rack=a", "rack=b", "echo"), Fault(LOSSY, "rack=a", "rack=b", "geneve"),
    ]).matrix  # fmt: skip
    assert Cause.RATE_LIMIT not in {one.cause for one in found(matrix, at((0, 2), 2))}


def test_a_block_beside_a_limit_stays_one() -> None:
    """Where half of all packets pass elsewhere, forty that are lost in a row are no accident."""
    half = LOSSY._replace(evidence=Evidence(6, 6, 4, 4, 4, 4, 4))
    matrix = sample(8, 2, [
        Fault(half, "rack=b", "rack=a", "echo"), Fault(LOST, "n5", "n1", "echo"),
        Fault(LOST, "rack=a", "rack=b", "echo"),
    ]).matrix  # fmt: skip
    made = {one.where: one for one in found(matrix, at((4, 0), 2))}
    assert made["rack=b → rack=a"].cause is Cause.RATE_LIMIT
    assert made["rack=a → rack=b"].cause is Cause.NETWORK


def test_one_router_that_was_last_on_every_way_is_named() -> None:
    matrix = sample(6, 3, [Fault(LOST, "rack=a", "rack=b", "echo")]).matrix
    (one,) = found(matrix, at((0, 2), 1, 5, is_quiet=False))
    assert "limits ICMP echo, at 198.18.1.1 (hop 1) or after it: of 20 packets" in one.title
    assert one.unknown == ()


def test_a_node_that_limits_echo_is_told_apart_from_what_its_last_rule_is_for() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "n2", "n5", "geneve"),
        Fault(DROPPED_AT_DESTINATION, "n2,n4,n6", "n5", "echo"),
    ]).matrix  # fmt: skip
    hit = RuleHit(4, "forward", frozenset({1}), POLICY)
    first = Looked(1, 4, Diagnosis(hits=(hit,)), FamilyProbe(0, Family.IPV4))
    second = Looked(3, 4, Diagnosis(hits=(hit,), passing=Passing(0, 5)), ECHOES)
    rule, limit = found(matrix, first, second, at((5, 4), 1))
    assert rule.title.startswith("n5 itself drops UDP 6081 from n2: nftables policy")
    assert limit.title == (
        "n5 itself limits ICMP echo: what is too much is dropped by nftables policy of chain inet "
        "f i"
    )
    assert limit.where == "n2, n4, n6 → n5"
    (change,) = limit.changes
    assert "{ 10.0.0.1, 10.0.0.2/31, 10.0.0.4, 10.0.0.6 }" in change.commands[0]


def test_a_rule_that_ends_echo_in_the_quiet_too_is_no_limit() -> None:
    matrix = sample(6, 3, [Fault(DROPPED_AT_DESTINATION, "n2,n4,n6", "n5", "echo")]).matrix
    hit = RuleHit(4, "forward", frozenset({1}), POLICY)
    look = Looked(1, 4, Diagnosis(hits=(hit,), passing=Passing(0, 5)), ECHOES)
    (one,) = found(matrix, look, at((5, 4), 0))
    assert one.cause is Cause.RULE
    assert len(one.evidence) == len(set(one.evidence))


def test_what_passes_of_another_probe_proves_nothing_of_echo() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "n1", "n5", "health"),
        Fault(DROPPED_AT_DESTINATION, "n2,n6", "n5", "echo"),
    ]).matrix  # fmt: skip
    passing = Diagnosis(passing=Passing(2, 5))
    made = found(matrix, Looked(0, 4, passing, FamilyProbe(1, Family.IPV4)))
    assert Cause.RATE_LIMIT not in {one.cause for one in made}


def test_both_families_of_one_node_are_one_limit() -> None:
    families = (Family.IPV4, Family.IPV6)
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "n2,n6", "n5", "echo"),
        Fault(DROPPED_AT_DESTINATION, "n1", "n5", "echo", Family.IPV6),
    ], families=families).matrix  # fmt: skip
    six = at((0, 4), 1)._replace(test=FamilyProbe(2, Family.IPV6))
    (one,) = found(matrix, at((1, 4), 2), six)
    assert one.title.startswith("n5 itself limits ICMP echo and ICMPv6 echo")
    assert one.cells == 5


# --- which cells are asked


def asked(matrix: Matrix, *looks: Looked) -> list[tuple[int, int]]:
    bad = groups(matrix)
    made = quiet(matrix, Shapes(matrix), bad, {0: list(looks)}, set(range(len(matrix.nodes))))
    assert all(s.quiet and s.brief for _, s in made)
    return [(s.source, s.destination) for _, s in made]


def test_few_cells_are_asked_in_the_quiet_and_none_of_a_plain_block() -> None:
    assert len(asked(sample(6, 3, between(("n1", "n3"))).matrix)) == 1
    plain = [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "echo")]
    assert asked(sample(6, 3, plain).matrix) == []
    every = [Fault(DROPPED_AT_DESTINATION, "*", "n5", "echo")]
    assert asked(sample(6, 3, every).matrix) == []
    geneve = [Fault(DROPPED_AT_DESTINATION, "n1", "n5", "geneve,echo")]
    assert asked(sample(6, 3, geneve).matrix) == []


def test_each_node_that_lets_others_in_is_asked_once_from_unlike_sources() -> None:
    faults = [Fault(DROPPED_AT_DESTINATION, "n1,n2,n6", "n4,n5", "echo")]
    made = asked(sample(6, 3, faults).matrix)
    assert sorted(d for _, d in made) == [3, 4]
    assert len({s for s, _ in made}) == 2


# --- what a trial says


def seen(arrived: int, probe: Probe = ECHO, kind: Kind | None = None) -> Passing | None:
    shots = tuple(Shot(p, source_port=i) for i, p in enumerate((Purpose.HOP, *[Purpose.PLAIN] * 2)))
    observed = Observed(Trial(0, 0, 1, 2, Family.IPV4, shots))
    observed.seen["arrived"] = arrived
    return passing(observed, probe, kind or Kind(*LOST[:5]))


def test_what_of_a_trial_counts_as_passing() -> None:
    assert seen(0) == Passing(0, 2)
    assert seen(0b010) == Passing(1, 2)
    assert seen(0b001) == Passing(1, 3)
    assert seen(0b011, HEALTH) == Passing(1, 2)  # a rising TTL goes to another port, too
    assert seen(0b010, kind=Kind(*SOME[:5])) is None
    assert seen(0b010, kind=Kind(Verdict.BLOCKED, Leg.FORWARD, None, None, None)) is None
