"""Groups, names and classes: every cell told once, nothing told that is not so."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import combinations, permutations, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import (
    ANSWER_DROPPED_ON_PATH,
    DELIVERED,
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    Fault,
    blocked,
    sample,
)

from preflight.core.classes import classes
from preflight.core.groups import Group, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import (
    GENEVE,
    HEALTH,
    Cause,
    Family,
    Node,
    Outcome,
    Place,
    Severity,
    Verdict,
)
from preflight.core.naming import Naming

BOTH = (Family.IPV4, Family.IPV6)

Cells = set[tuple[int, int, int, int]]  # family, probe, source, destination


def bad_cells(matrix: Matrix) -> Cells:
    return {
        (matrix.families.index(c.family), c.probe, c.source, c.destination)
        for c in matrix.cells()
        if c.outcome.verdict is not Verdict.OPEN
    }


def planned(matrix: Matrix, family: int, probe: int, pairs: Iterable[tuple[int, int]]) -> Cells:
    return {
        (family, probe, s, d)
        for s, d in pairs
        if matrix.outcome(matrix.index(family, probe, s, d)) is not None
    }


def cells_of(group: Group, matrix: Matrix) -> Cells:
    pairs = set(product(group.sources, group.destinations))
    if group.both_ways:
        pairs |= {(d, s) for s, d in pairs}
    found: Cells = set()
    for test in group.tests:
        found |= planned(matrix, matrix.families.index(test.family), test.probe, pairs)
    return found


def side(words: str, matrix: Matrix, tested: set[int]) -> set[int]:
    """The nodes that one side of a group's words names."""
    words, _, left_out = words.partition(" except ")
    if words in ("all", "all tested"):
        nodes = tested if words == "all tested" else set(range(len(matrix.nodes)))
    elif "=" in words:
        key, _, values = words.partition("=")
        nodes = {i for i, n in enumerate(matrix.nodes) if n.labels.get(key) in values.split(",")}
    else:
        nodes = set()
        names = [n.name for n in matrix.nodes]
        for part in words.split(", "):
            first, _, last = part.partition("…")
            nodes |= set(range(names.index(first), names.index(last or first) + 1))
    return nodes - side(left_out, matrix, tested) if left_out else nodes


def said_by(group: Group, matrix: Matrix) -> Cells:
    """The planned cells that a group's words stand for."""
    found: Cells = set()
    for test in group.tests:
        family = matrix.families.index(test.family)
        everything = planned(matrix, family, test.probe, permutations(range(len(matrix.nodes)), 2))
        senders, receivers = {c[2] for c in everything}, {c[3] for c in everything}
        words = group.where
        if words.startswith(("within ", "among ")):
            name = words.partition(" ")[2].removesuffix(" nodes")
            left = right = name
        elif " ↔ " in words:
            left, right = words.split(" ↔ ")
            senders = receivers = senders | receivers
        else:
            left, right = words.split(" → ")
        pairs = set(product(side(left, matrix, senders), side(right, matrix, receivers)))
        if group.both_ways:
            pairs |= {(d, s) for s, d in pairs}
        found |= planned(matrix, family, test.probe, pairs)
    return found


OUTCOMES: Sequence[Outcome | None] = (
    DELIVERED,
    DELIVERED,
    None,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    blocked(Place.DESTINATION, cause=Cause.REJECTED, rejected_by="10.0.0.1"),
    blocked(Place.DESTINATION, cause=Cause.REJECTED, rejected_by="10.0.0.2"),
    blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1"),
)


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Up to 8 nodes in up to 3 racks, blocks of outcomes over one another, and some noise."""
    nodes = draw(st.integers(2, 8))
    families = draw(st.sampled_from([BOTH[:1], BOTH]))
    probes = draw(st.sampled_from([(GENEVE,), (GENEVE, HEALTH)]))
    matrix = sample(nodes, draw(st.integers(1, 3)), families=families, probes=probes).matrix
    some = st.sets(st.integers(0, nodes - 1))
    tests = st.sets(st.tuples(st.integers(0, len(families) - 1), st.integers(0, len(probes) - 1)))
    for _ in range(draw(st.integers(0, 5))):
        outcome = draw(st.sampled_from(OUTCOMES))
        for (f, p), s, d in product(draw(tests), draw(some), draw(some)):
            if s != d:
                matrix.set(matrix.index(f, p, s, d), outcome)
    return matrix


@settings(deadline=None)
@given(matrices())
def test_every_bad_cell_is_in_one_group_and_no_other_cell_is_in_any(matrix: Matrix) -> None:
    seen: Cells = set()
    for group in groups(matrix):
        cells = cells_of(group, matrix)
        assert not cells & seen
        assert len(cells) == group.cells == group.pairs * len(group.tests)
        seen |= cells
    assert seen == bad_cells(matrix)


@settings(deadline=None)
@given(matrices())
def test_the_words_say_what_the_group_holds(matrix: Matrix) -> None:
    for group in groups(matrix):
        if " more" not in group.where:
            assert said_by(group, matrix) == cells_of(group, matrix), group.where


@settings(deadline=None)
@given(matrices())
def test_cells_of_a_group_are_of_one_kind(matrix: Matrix) -> None:
    for group in groups(matrix):
        for family, probe, s, d in cells_of(group, matrix):
            outcome = matrix.outcome(matrix.index(family, probe, s, d))
            assert outcome is not None
            kind = Kind(*outcome[:5])
            owner = {"source": matrix.nodes[s], "destination": matrix.nodes[d]}
            if group.kind.rejected_by in owner:
                assert kind.rejected_by in owner[group.kind.rejected_by].addresses
                kind = kind._replace(rejected_by=group.kind.rejected_by)
            assert kind == group.kind
        assert group.sample.outcome.verdict is group.kind.verdict


def told(faults: Sequence[Fault], **more: object) -> list[str]:
    snapshot = sample(12, 3, faults, **more)  # type: ignore[arg-type]
    names = [p.name for p in snapshot.matrix.probes]
    return [
        f"{'+'.join(dict.fromkeys(names[t.probe] for t in g.tests))} {g.where} {g.pairs}"
        for g in groups(snapshot.matrix)
    ]


P, D = DROPPED_ON_PATH, DROPPED_AT_DESTINATION


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([], []),
        ([Fault(D, "*", "n3", "geneve")], ["geneve all → n3 11"]),
        ([Fault(P, "n3", "*", "geneve")], ["geneve n3 → all 11"]),
        ([Fault(P, "n1", "n2", "geneve")], ["geneve n1 → n2 1"]),
        ([Fault(P, "rack=a", "rack=b", "health")], ["health rack=a → rack=b 16"]),
        ([Fault(P, "rack=a", "rack=a", "health")], ["health within rack=a 12"]),
        ([Fault(P, "*", "*", "health")], ["health among all nodes 132"]),
        (
            [Fault(P, "rack=b", "rack=a", "echo"), Fault(P, "rack=a", "rack=b", "echo")],
            ["echo rack=a ↔ rack=b 32"],
        ),
        ([Fault(P, "rack=a", "rack=b")], ["geneve+health+echo rack=a → rack=b 16"]),
        ([Fault(P, "n5,n6,n7,n8,n9", "rack=a", "echo")], ["echo n5…n9 → rack=a 20"]),
        ([Fault(P, "rack=a", "n5,n6,n7", "echo")], ["echo rack=a → rack=b except n8 12"]),
        (
            [Fault(P, "rack=a", "rack=b", "echo"), Fault(P, "rack=c", "rack=b", "echo")],
            ["echo rack=a,c → rack=b 32"],
        ),
        ([Fault(NO_AGENT, "n3"), Fault(NO_AGENT, "*", "n3")], ["geneve+health+echo n3 ↔ all 22"]),
        (
            [Fault(NO_AGENT, "n3,n7"), Fault(NO_AGENT, "*", "n3,n7")],
            ["geneve+health+echo n3, n7 ↔ all 42"],
        ),
        (
            [Fault(P, "rack=a", "rack=b", "geneve"), Fault(D, "*", "n5", "geneve")],
            ["geneve rack=a → rack=b except n5 12", "geneve all → n5 11"],
        ),
    ],
)  # fmt: skip
def test_few_words(faults: list[Fault], expected: list[str]) -> None:
    assert told(faults) == expected


def test_families_with_the_same_pairs_share_a_group() -> None:
    snapshot = sample(4, 2, [Fault(P, "rack=a", "rack=b", "geneve,health")], families=BOTH)
    (group,) = groups(snapshot.matrix)
    assert [(t.probe, t.family) for t in group.tests] == [
        (0, Family.IPV4),
        (1, Family.IPV4),
        (0, Family.IPV6),
        (1, Family.IPV6),
    ]
    assert (group.pairs, group.cells, group.severity) == (4, 16, Severity.REQUIRED)


def test_what_was_not_planned_is_not_missed() -> None:
    only_n1 = [Fault(None, ",".join(f"n{i}" for i in range(2, 13))), Fault(P, "n1", "*", "echo")]
    assert told(only_n1) == ["echo n1 → all 11"]
    rack_a_only = [Fault(None, "rack=b"), Fault(None, "rack=c"), Fault(D, "*", "n3", "echo")]
    snapshot = sample(12, 3, [*rack_a_only[:2], Fault(D, "rack=a", "n3", "echo")])
    assert [g.where for g in groups(snapshot.matrix)] == ["all → n3"]


def test_each_node_that_rejects_for_itself_is_one_group() -> None:
    snapshot = sample(4)
    for s, d in product(range(4), range(4)):
        if s != d:
            rejected = blocked(
                Place.DESTINATION, cause=Cause.REJECTED, rejected_by=f"10.0.0.{d + 1}"
            )
            snapshot.matrix.set(snapshot.matrix.index(0, 1, s, d), rejected)
    (group,) = groups(snapshot.matrix)
    assert (group.where, group.kind.rejected_by) == ("among all nodes", "destination")
    for s in range(4):
        own = blocked(Place.SOURCE, cause=Cause.REJECTED, rejected_by=f"10.0.0.{s + 1}")
        for d in {0, 1, 2, 3} - {s}:
            snapshot.matrix.set(snapshot.matrix.index(0, 1, s, d), own)
    (group,) = groups(snapshot.matrix)
    assert (group.where, group.kind.rejected_by) == ("among all nodes", "source")


def test_what_matters_most_comes_first() -> None:
    faults = [
        Fault(ANSWER_DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
        Fault(NO_AGENT, "n1", "*", "geneve"),
        Fault(LOSSY, "n2", "n3", "geneve"),
        Fault(NOT_LISTENING, "*", "n9", "echo"),
        Fault(D, "n4", "n5", "geneve"),
        Fault(P, "n6", "rack=a", "geneve"),
    ]
    found = groups(sample(12, 3, faults).matrix)
    assert [(g.severity, g.kind.verdict, g.pairs) for g in found] == [
        ("required", "blocked", 4),
        ("required", "blocked", 1),
        ("required", "lossy", 1),
        ("required", "unknown", 11),
        ("recommended", "blocked", 16),
        ("recommended", "closed", 11),
    ]


def test_a_block_in_noise_is_still_a_block() -> None:
    snapshot = sample(40, 2, [Fault(P, "rack=a", "rack=b", "geneve")])
    for d in range(20, 40):  # a cell more in every column of the block
        snapshot.matrix.set(snapshot.matrix.index(0, 0, 20 + (d - 19) % 20, d), P)
    found = groups(snapshot.matrix)
    assert found[0].where == "rack=a → rack=b"
    assert len(found) == 21


def test_500_nodes_of_random_cells_come_to_an_end() -> None:
    snapshot = sample(500, 4, probes=(GENEVE,))
    matrix, choose = snapshot.matrix, random.Random(2)
    for s, d in product(range(500), repeat=2):
        if s != d and choose.random() < 0.3:
            matrix.set(matrix.index(0, 0, s, d), P)
    found = groups(matrix)
    assert sum(g.cells for g in found) == matrix.outcomes()[P]
    assert len(found) <= 1000  # no more than rows and columns


@pytest.mark.parametrize(
    ("names", "chosen", "expected"),
    [
        (["n1", "n2", "n3"], [0, 1], "n1, n2"),
        (["n8", "n9", "n10", "n11", "x"], [0, 1, 2, 3], "all except x"),
        (["w08", "w09", "w10", "a", "b", "c", "d"], [0, 1, 2], "w08…w10"),
        (["w8", "w09", "w10", "a", "b", "c", "d"], [0, 1, 2], "w8, w09, w10"),
        (["w1.x.org", "w2.x.org", "w3.x.org", "a", "b", "c", "d"], [0, 1, 2], "w1.x.org…w3.x.org"),
        (["w1.x.org", "w2.y.org", "w3.x.org", "a", "b", "c", "d"], [0, 1, 2],
         "w1.x.org, w2.y.org, w3.x.org"),
        (["a", "b", "c", "d", "e", "f", "g", "h", "i"], [0, 2, 4, 6], "a, c and 2 more"),
    ],
)  # fmt: skip
def test_names(names: list[str], chosen: list[int], expected: str) -> None:
    naming = Naming([Node(n, ("10.0.0.1",), n) for n in names])
    assert naming.name(sum(1 << i for i in chosen), most=2 if "more" in expected else 8) == expected


def alike(grids: Sequence[Sequence[str]], a: int, b: int) -> bool:
    """By the definition: exchanging the two changes no cell."""
    swap = {a: b, b: a}
    nodes = range(len(grids[0]))
    return all(
        grid[i][j] == grid[swap.get(i, i)][swap.get(j, j)]
        for grid in grids
        for i, j in product(nodes, nodes)
        if i != j
    )


@st.composite
def grids(draw: st.DrawFn) -> list[list[str]]:
    size = draw(st.integers(1, 7))
    kinds = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        blocks = draw(st.lists(st.sampled_from("·P?"), min_size=9, max_size=9))
        grid = [[blocks[3 * kinds[i] + kinds[j]] for j in range(size)] for i in range(size)]
        for i, j in draw(st.lists(st.tuples(*[st.integers(0, size - 1)] * 2), max_size=3)):
            grid[i][j] = "~"
        for i in range(size):
            grid[i][i] = "\\"
        made.append(["".join(row) for row in grid])
    return made


@settings(deadline=None)
@given(grids())
@example([["\\·PP", "·\\PP", "P·\\·", "·P·\\"]])  # equal rows, columns alike but for their order
def test_classes_are_the_nodes_that_are_alike(grids: list[list[str]]) -> None:
    found = classes(grids)
    assert sorted(node for kind in found for node in kind) == list(range(len(grids[0])))
    where = {node: number for number, kind in enumerate(found) for node in kind}
    for a, b in combinations(range(len(grids[0])), 2):
        assert (where[a] == where[b]) == alike(grids, a, b), (a, b)


def test_classes_of_500_nodes() -> None:
    rows = [
        "".join("\\" if i == j else "P" if i < 250 <= j else "·" for j in range(500))
        for i in range(500)
    ]
    assert [len(kind) for kind in classes([rows, rows])] == [250, 250]
