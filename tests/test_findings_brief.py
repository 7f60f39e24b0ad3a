"""Brief looks: at which cells, and what they change in findings."""

from __future__ import annotations

from collections import Counter

import pytest
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    LOSSY,
    Fault,
    blocked,
    sample,
)
from test_findings_split import GENEVE4, HEALTH4, RULE, between, ends, inside, made, told

from preflight.core.diagnosis.conclusions import Diagnosis, FlowPattern, Flows, Router
from preflight.core.diagnosis.kernel import KernelReason
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.again import confirmed, doubtful, lossy, more_paths
from preflight.core.findings.atoms import Looked
from preflight.core.findings.brief import MOST, brief_samples
from preflight.core.findings.build import findings
from preflight.core.findings.model import Cause
from preflight.core.findings.samples import Sample, samples
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import BY_THE_DESTINATION, groups
from preflight.core.matrix import Matrix
from preflight.core.model import Cause as CellCause
from preflight.core.model import Outcome, Place

ONE = RULE._replace(handle=20, text="ip saddr 10.0.0.1 udp dport 6081 drop")


def asked(matrix: Matrix, usable: set[int] | None = None) -> tuple[list[Sample], list[Sample]]:
    """The samples of a check, and its brief ones."""
    everybody = set(range(len(matrix.nodes))) if usable is None else usable
    bad = groups(matrix)
    chosen = samples(matrix, bad, everybody)
    brief = brief_samples(matrix, Shapes(matrix), bad, chosen, everybody)
    return [s for _, s in chosen], [s for _, s in brief]


def brief(look: Looked) -> Looked:
    return look._replace(brief=True)


# --- which cells


@pytest.mark.parametrize("outcome", [DROPPED_AT_DESTINATION, DROPPED_AT_SOURCE])
def test_every_cell_of_a_small_matrix_is_asked_once(outcome: Outcome) -> None:
    chosen, few = asked(sample(6, 2, [Fault(outcome, "*", "n3,n4", "geneve,health")]).matrix)
    cells = Counter(s[:4] for s in chosen + few)
    assert len(cells) == 2 * 2 * 5
    assert set(cells.values()) == {1}
    assert all(s.brief for s in few)
    assert not any(s.brief for s in chosen)


def test_nodes_that_have_no_agent_are_not_asked() -> None:
    matrix = sample(6, 2, [Fault(DROPPED_AT_DESTINATION, "*", "n3,n4", "geneve")]).matrix
    chosen, few = asked(matrix, {0, 2})
    assert {(s.source, s.destination) for s in few} <= {(0, 2)}
    assert {s.source for s in chosen} <= {0, 2}


def test_a_large_matrix_shares_the_room_among_all_nodes() -> None:
    chosen, few = asked(sample(60, 4, [Fault(DROPPED_AT_DESTINATION)]).matrix)
    assert len(few) == MOST
    by_source = Counter(s.source for s in chosen + few)
    assert max(by_source.values()) <= 24
    assert {s.destination for s in few} == set(range(60))
    peers: dict[int, set[int]] = {}
    for one in chosen + few:
        if one.probe == 1:  # TCP
            peers.setdefault(one.source, set()).add(one.destination)
            peers.setdefault(one.destination, set()).add(one.source)
    assert max(map(len, peers.values())) <= 16


def test_routers_are_asked_for_few_errors() -> None:
    chosen, few = asked(sample(60, 4, [Fault(DROPPED_ON_PATH, "rack=a", "rack=b")]).matrix)
    assert 0 < len(few) <= 12
    errors = Counter[int]()
    for one in chosen + few:
        errors[one.source] += 1 if one.brief else 3
    assert max(errors[s.source] for s in few) <= 6


def test_no_router_is_asked_where_one_rejects() -> None:
    rejected = DROPPED_ON_PATH._replace(cause=CellCause.REJECTED, rejected_by="198.18.1.1")
    faults = [Fault(DROPPED_ON_PATH, "rack=a", "rack=b"), Fault(rejected, "rack=b", "rack=a")]
    assert asked(sample(8, 2, faults).matrix)[1] == []
    assert asked(sample(8, 2, faults[:1]).matrix)[1] != []


def test_what_takes_many_packets_to_tell_is_not_asked_in_brief() -> None:
    size = LOSSY._replace(cause=LOSSY.cause)
    _, few = asked(sample(6, 2, [Fault(size, "*", "n3", "geneve")]).matrix)
    assert few == []


# --- what they change


def test_a_traced_rule_does_not_stand_for_cells_that_no_rule_ended() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix
    looks = [inside(ONE, GENEVE4), brief(inside(None, GENEVE4, source=1))]
    found = {f.cause: f.cells for f in made(matrix, looks)}
    # n4 was not looked at, and of its two neighbours one says this and one says that.
    assert found == {Cause.RULE: 1, Cause.NODE_FIREWALL: 2}


def test_a_rule_that_merely_counts_or_a_kernel_setting_stands_for_all() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix
    in_vain = brief(inside(None, GENEVE4, source=1))
    legacy = RULE._replace(tool="iptables-legacy", family="ip")
    (one,) = made(matrix, [inside(legacy, GENEVE4), in_vain])
    assert (one.cause, one.cells) == (Cause.RULE, 3)
    reason = KernelReason(Reason.RP_FILTER, "rp_filter", ("counted",), ())
    kernel = Looked(0, 2, Diagnosis(kernel=reason, kernel_node=2), GENEVE4)
    (one,) = made(matrix, [kernel, in_vain])
    assert (one.cause, one.cells) == (Cause.KERNEL, 3)


def test_each_sender_has_the_rule_that_ended_its_own() -> None:
    matrix = sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix
    looks = [inside(ONE, GENEVE4), brief(inside(RULE, GENEVE4, source=1)),
             brief(inside(RULE, GENEVE4, source=3))]  # fmt: skip
    first, second = made(matrix, looks)
    assert (first.cells, second.cells) == (2, 1)
    assert "from n2, n4" in first.title
    assert "from n1" in second.title
    assert "ip saddr 10.0.0.1" in second.title


def test_cells_that_nobody_looked_at_go_with_their_own_subnet_where_that_agrees() -> None:
    matrix = sample(8, 2, [Fault(DROPPED_AT_DESTINATION, "*", "n1", "geneve")]).matrix
    of_a = [inside(ONE, GENEVE4, 0, n) for n in (1, 2)]  # n4 is of rack a, too
    of_b = [brief(inside(RULE, GENEVE4, 0, n)) for n in (4, 5)]
    found = made(matrix, [*of_a, *of_b])
    assert told(found) == {("rack=a → n1", 3), ("rack=b → n1", 4)}
    other = brief(inside(ONE, GENEVE4, 0, 6))
    assert told(made(matrix, [*of_a, *of_b, other])) >= {("n8 → n1", 1)}  # nobody knows of it


def test_pairs_that_end_behind_other_routers_are_findings_of_their_own() -> None:
    matrix = sample(4, 2, [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve")]).matrix
    near, far = ends(1), ends(2)
    looks = [between(0, 2, path=near), brief(between(0, 3, path=far)),
             between(1, 2, path=far), brief(between(1, 3, path=far))]  # fmt: skip
    first, second = made(matrix, looks)
    assert ("(hop 2)" in first.title, first.cells) == (True, 3)
    assert ("(hop 1)" in second.title, second.where) == (True, "n1 → n3")


# --- what is looked at again


def test_a_brief_look_that_contradicts_must_say_so_twice() -> None:
    matrix = sample(4, 2, [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve")]).matrix
    shapes = Shapes(matrix)
    whole, odd = between(0, 2, path=ends(2)), brief(between(0, 3, path=ends(1)))
    assert doubtful(shapes, [whole, odd]) == [odd]
    assert doubtful(shapes, [whole, brief(between(0, 3, path=ends(2)))]) == []
    assert confirmed(odd, brief(between(0, 3, path=ends(1))))
    assert not confirmed(odd, brief(between(0, 3, path=ends(2))))
    assert not confirmed(odd, None)


def test_routers_that_had_no_error_left_are_asked_again() -> None:
    faults = [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve,health")]
    matrix = sample(4, 2, faults).matrix
    shapes, bad, everybody = Shapes(matrix), groups(matrix), {0, 1, 2, 3}

    def asked(*looks: Looked) -> list[tuple[int, ...]]:
        found = more_paths(shapes, bad, {0: list(looks)}, everybody)
        assert all(s.brief for _, s in found)
        return [(s.source, s.destination, s.probe) for _, s in found]

    whole, silent = between(0, 2, path=ends(2)), between(1, 3, HEALTH4)
    assert asked(whole, silent) == [(1, 3, 1)]
    assert asked(silent) == []  # these routers never answer
    assert asked(whole, between(1, 3, HEALTH4, rejecters=("198.18.1.1",))) == []
    # Unlike routers: nobody's cells can be told by their like, so one more of each source.
    assert asked(whole, between(1, 3, path=ends(1))) == [(0, 3, 0), (1, 2, 0)]


def test_a_look_that_is_not_borne_out_makes_its_cell_not_known() -> None:
    matrix = sample(4, 2, [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve")]).matrix
    void = Looked(0, 3, Diagnosis(), GENEVE4, brief=True)
    found = made(matrix, [between(0, 2, path=ends(2)), between(1, 2, path=ends(2)), void])
    assert {("(hop 2)" in f.title, f.where) for f in found} >= {(False, "n1 → n4")}


def test_cells_that_no_look_speaks_for_are_told_as_one() -> None:
    matrix = sample(6, 2, [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve")]).matrix
    voids = [Looked(s, d, Diagnosis(), GENEVE4, brief=True) for s, d in ((0, 4), (1, 3), (2, 5))]
    found = made(matrix, [between(s, d, path=ends(2)) for s, d in ((0, 3), (1, 4))] + voids)
    assert len(found) == 2
    assert sum(finding.cells for finding in found) == 9


def test_routers_of_either_direction_are_told() -> None:
    faults = [Fault(DROPPED_ON_PATH, a, b, "geneve") for a, b in (("n1", "n3"), ("n3", "n1"))]
    matrix = sample(4, 2, faults).matrix
    there, back = ends(1), ends(1)._replace(routers=(Router(1, "198.18.8.1"),))
    (one,) = made(matrix, [between(0, 2, path=there), between(2, 0, path=back)])
    assert one.title.endswith(", after 198.18.9.1 (hop 1) and 198.18.8.1 (hop 1)")
    known = back._replace(distance=1)  # then there is but one, with an address on either side
    (one,) = made(matrix, [between(0, 2, path=there), between(2, 0, path=known)])
    assert one.title.endswith(", after 198.18.9.1 (hop 1)")


def test_loss_is_looked_at_between_other_nodes_too() -> None:
    matrix = sample(4, 2, [Fault(LOSSY, "rack=a", "rack=b", "geneve")]).matrix
    shapes, bad = Shapes(matrix), groups(matrix)
    first = between(0, 2, flows=Flows(FlowPattern.RANDOM, 36, (), 100, 144))
    more = lossy(shapes, bad, {0: [first]}, {0, 1, 2, 3})
    assert (more[0][1].source, more[0][1].destination) == (1, 3)  # neither end is known
    assert len(more) == 3
    assert lossy(shapes, bad, {0: [first]}, {0, 2}) == []
    assert lossy(shapes, bad, {}, {0, 1, 2, 3}) == []


def test_a_shape_does_not_join_what_unlike_rules_ended() -> None:
    rejected = blocked(Place.DESTINATION, cause=CellCause.REJECTED, rejected_by=BY_THE_DESTINATION)
    matrix = sample(6, 3, [
        Fault(DROPPED_AT_DESTINATION, "rack=b", "rack=c", "geneve"),
        Fault(rejected, "rack=c", "rack=b", "geneve"),
    ]).matrix  # fmt: skip
    bad = groups(matrix)

    def found(of_b: Rule, of_c: Rule) -> list[int]:
        """Cells of each finding, where the nodes of each rack have that rule."""
        looks = {
            i: [inside(of_b if d < 4 else of_c, GENEVE4, d, g.sources[0]) for d in g.destinations]
            for i, g in enumerate(bad)
        }
        return sorted(f.cells for f in findings(matrix, bad, looks))

    assert found(RULE, ONE) == [4, 4]
    assert found(RULE, RULE) == [8]
