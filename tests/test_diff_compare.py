"""Cells of two runs, all of them, against an oracle that looks at one at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from cells import CALM
from diff_oracle import Spot, expected, sends
from hypothesis import given
from hypothesis import strategies as st
from samples import (
    ANSWERED,
    DROPPED_AT_DESTINATION,
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
from preflight.core.diff.exitcode import exit_code
from preflight.core.diff.model import Diff
from preflight.core.diff.turns import Turn
from preflight.core.matrix import Matrix
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Cause,
    Evidence,
    Family,
    Leg,
    Node,
    Outcome,
    Phase,
    Place,
    Severity,
    Verdict,
)
from preflight.core.snapshot import Snapshot
from preflight.errors import ExitCode

OTHER_GENEVE = replace(GENEVE, port=6082)
NAMES = ("n1", "n2", "n3", "n3.example.org", "N1.example.org", "w9")
ADDRESSES = {
    "n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "10.0.0.3", "n3.example.org": "10.0.0.3",
    "N1.example.org": "10.0.0.1", "w9": "10.0.0.2",
}  # fmt: skip
REJECTED = [
    blocked(Place.PATH, cause=Cause.REJECTED, rejected_by=address)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.9.9")
]
OUTCOMES = [
    None, None, ANSWERED, ANSWERED, ANSWERED._replace(evidence=Evidence(5, 5, 5, 5, 5, 5, 5)),
    LOSSY, LOSSY._replace(evidence=Evidence(40, 40, 3, 3)), NOT_LISTENING, DROPPED_ON_PATH,
    DROPPED_AT_DESTINATION, blocked(None), blocked(Place.PATH, Leg.REPLY), NO_AGENT,
    Outcome(Verdict.UNKNOWN, cause=Cause.INTERRUPTED), *REJECTED,
]  # fmt: skip


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=2, max_size=5))
    taken: set[str] = set()
    nodes = []
    for i, name in enumerate(names):
        address = ADDRESSES[name] if draw(st.booleans()) else f"10.0.1.{i}"
        if address not in taken:
            taken.add(address)
            nodes.append(Node(name, (address,), name, labels={"rack": draw(st.sampled_from("ab"))}))
    probes = draw(st.permutations([draw(st.sampled_from([GENEVE, OTHER_GENEVE])), HEALTH, ECHO]))
    probes = probes[: draw(st.integers(1, 3))]
    families = draw(st.permutations(list(Family)))[: draw(st.integers(1, 2))]
    matrix = Matrix(nodes, probes, families)
    choose = draw(st.randoms(use_true_random=False))
    for f in range(len(families)):
        for p in range(len(probes)):
            for s in range(len(nodes)):
                for d in range(len(nodes)):
                    if s != d:
                        matrix.set(matrix.index(f, p, s, d), choose.choice(OUTCOMES))
    return matrix


def snapshot(matrix: Matrix, phase: Phase = Phase.BEFORE) -> Snapshot:
    return replace(sample(2), matrix=matrix, phase=phase, agents=())


def said(diff: Diff) -> dict[Spot, str]:
    """What the diff says of every cell, row by row."""
    out = {}
    names = [pairing.node.name for pairing in diff.nodes]
    for tally in diff.tallies:
        probe = sends(diff.probes[tally.test.probe].probe)
        for source, name in enumerate(names):
            for destination, found in enumerate(diff.row(tally.test, source)):
                if found is not None:
                    out[Spot(name, names[destination], probe, tally.test.family)] = str(found)
    return out


@CALM
@given(before=matrices(), after=matrices())
def test_every_cell_is_as_the_oracle_says(before: Matrix, after: Matrix) -> None:
    diff = compare(snapshot(before), snapshot(after))
    oracle = expected(before, after)
    assert said(diff) == oracle
    assert Counter(oracle.values()) == {str(t): n for t, n in diff.turns().items()}
    names = [pairing.node.name for pairing in diff.nodes]
    cells = {
        Spot(names[c.source], names[c.destination], sends(diff.probes[c.probe].probe), c.family): c
        for c in diff.cells()
    }
    assert {s: str(c.turn) for s, c in cells.items()} == {
        s: t for s, t in oracle.items() if t != "same"
    }
    # The blocks hold each of their cells once, and no other.
    told: Counter[Spot] = Counter()
    for change in diff.changes:
        pairs = [(s, d) for s in change.sources for d in change.destinations]
        pairs += [(d, s) for s, d in pairs if change.both_ways]
        own: Counter[Spot] = Counter()
        for test in change.tests:
            probe = sends(diff.probes[test.probe].probe)
            for s, d in pairs:
                spot = Spot(names[s], names[d], probe, test.family)
                if spot in oracle:
                    own[spot] += 1
                    assert oracle[spot] == change.turn
        assert sum(own.values()) == change.cells
        told += own
    assert set(told.values()) <= {1}
    untold = {s for s, t in oracle.items() if s not in told}
    for spot in untold:
        cell = cells.get(spot)
        assert cell is None or cell.turn is Turn.WENT or cell.turn is Turn.CAME
        if cell is not None and cell.turn is Turn.CAME:
            assert cell.after is not None
            assert cell.after.verdict is Verdict.OPEN


@CALM
@given(before=matrices(), after=matrices())
def test_the_exit_code_is_the_oracles(before: Matrix, after: Matrix) -> None:
    diff = compare(snapshot(before), snapshot(after))
    required = {
        sends(p) for m in (before, after) for p in m.probes if p.severity is Severity.REQUIRED
    }
    oracle = expected(before, after)
    for strict in (False, True):
        turns = {t for spot, t in oracle.items() if strict or spot.probe in required}
        compared = set(oracle.values()) & {
            "same", "broken", "worse", "eased", "mended", "still", "otherwise"
        }  # fmt: skip
        wanted = ExitCode.OK
        if turns & {"lost", "only-before"} or not compared:
            wanted = ExitCode.INCOMPLETE
        if turns & {"broken", "worse"}:
            wanted = ExitCode.BAD
        assert exit_code(diff, strict=strict) is wanted


@CALM
@given(before=matrices(), after=matrices())
def test_the_way_back_is_the_mirror_image(before: Matrix, after: Matrix) -> None:
    mirror = {
        "broken": "mended", "mended": "broken", "worse": "eased", "eased": "worse",
        "only-before": "only-after", "only-after": "only-before", "went": "came", "came": "went",
    }  # fmt: skip
    there = compare(snapshot(before), snapshot(after)).turns()
    back = compare(snapshot(after), snapshot(before)).turns()
    for turn, number in there.items():
        if str(turn) in mirror:
            assert back[Turn(mirror[str(turn)])] == number
    known = (Turn.LOST, Turn.REVEALED, Turn.CLEARED)
    assert (Turn.LOST in back) == bool(there.keys() & {Turn.REVEALED, Turn.CLEARED})
    assert (Turn.LOST in there) == bool(back.keys() & set(known[1:]))


def test_many_kinds_of_outcomes_are_told_apart() -> None:
    """More kinds than a byte can number."""

    def made(shift: int) -> Matrix:
        nodes = [Node(f"n{i}", (f"10.0.{i}.1",), f"n{i}") for i in range(20)]
        matrix = Matrix(nodes, (HEALTH,), (Family.IPV4,))
        for s in range(20):
            for d in range(20):
                if s != d:
                    who = f"192.0.2.{(s * 20 + d + shift) % 250}" if d % 3 else f"10.9.{s}.{d}"
                    matrix.set(
                        matrix.index(0, 0, s, d),
                        blocked(Place.PATH, cause=Cause.REJECTED, rejected_by=who),
                    )
        return matrix

    diff = compare(snapshot(made(0)), snapshot(made(1)))
    assert said(diff) == expected(made(0), made(1))
    assert diff.turns()[Turn.STILL] == sum(1 for s in range(20) for d in range(20)
                                           if s != d and d % 3 == 0)  # fmt: skip


def test_who_rejects_for_itself_is_one_block() -> None:
    before, after = sample(5), later(sample(5))
    matrix = after.matrix
    for s in range(5):
        for d in range(5):
            if s != d:
                who = matrix.nodes[d].address
                outcome = blocked(Place.DESTINATION, cause=Cause.REJECTED, rejected_by=who)
                matrix.set(matrix.index(0, 1, s, d), outcome)
    (change,) = compare(before, after).changes
    assert (change.turn, change.where, change.pairs) == (Turn.BROKEN, "among all nodes", 20)
    assert change.after is not None
    assert change.after.rejected_by == "destination"


def test_order_of_nodes_and_probes_does_not_matter() -> None:
    faults = [Fault(DROPPED_ON_PATH, "n1", "n3", "geneve"), Fault(LOSSY, "n4", "*", "echo")]
    before = sample(["n1", "n2", "n3", "n4"], faults=faults)
    # Addresses go by position in a sample, so that the order alone differs.
    after = sample(["n4", "n2", "n1", "n3"], faults=faults, probes=(ECHO, GENEVE, HEALTH))
    own = {n.name: n.addresses for n in before.matrix.nodes}
    after.matrix.nodes = tuple(replace(n, addresses=own[n.name]) for n in after.matrix.nodes)
    diff = compare(before, after)
    assert diff.turns() == {Turn.SAME: 32, Turn.STILL: 4}
    assert diff.notes == ()


# --- what is said of nodes, probes and runs --------------------------------------------------


def renamed(of: Snapshot, names: dict[str, str]) -> Snapshot:
    matrix = of.matrix
    matrix.nodes = tuple(replace(n, name=names.get(n.name, n.name)) for n in matrix.nodes)
    return of


def readdressed(of: Snapshot, addresses: dict[str, str]) -> Snapshot:
    matrix = of.matrix
    matrix.nodes = tuple(
        replace(n, addresses=(addresses[n.name],)) if n.name in addresses else n
        for n in matrix.nodes
    )
    return of


def later(of: Snapshot) -> Snapshot:
    return replace(of, started="2026-03-01T03:00:00Z", finished="2026-03-01T03:00:09Z")


def test_a_domain_more_is_the_same_node() -> None:
    full = {f"n{i}": f"n{i}.example.org" for i in (1, 2)}
    diff = compare(sample(3), later(renamed(sample(3), full)))
    assert diff.turns() == {Turn.SAME: 18}
    assert sum("is now called" in note for note in diff.notes) == 2


def test_other_names_throughout_are_other_names_for_the_same_addresses() -> None:
    diff = compare(sample(3), later(renamed(sample(3), {"n1": "a", "n2": "b", "n3": "c"})))
    assert diff.turns() == {Turn.SAME: 18}
    assert [p.by_address for p in diff.nodes] == [True] * 3


def test_who_takes_over_an_address_is_not_blamed_for_it() -> None:
    after = renamed(sample(3, faults=[Fault(DROPPED_ON_PATH, "n3", "*")]), {"n3": "new"})
    diff = compare(sample(3), later(after))
    assert diff.turns() == {Turn.SAME: 6, Turn.CAME: 12, Turn.WENT: 12}
    assert any("new has the address that n3 had" in note for note in diff.notes)
    assert exit_code(diff, strict=True) is ExitCode.OK


def test_another_address_under_an_old_name_is_told() -> None:
    diff = compare(sample(3), later(readdressed(sample(3), {"n2": "10.9.9.9"})))
    assert diff.notes == (
        "n2 has another address: 10.0.0.2 before, 10.9.9.9 now. It is compared by its name.",
    )
    swapped = readdressed(sample(3), {"n1": "10.0.0.2", "n2": "10.0.0.1"})
    notes = compare(sample(3), later(swapped)).notes
    assert "n1 has the address that n2 had before." in notes
    assert "n2 has the address that n1 had before." in notes


def test_same_names_and_no_address_in_common_may_be_another_cluster() -> None:
    other = readdressed(sample(3), {f"n{i}": f"10.9.0.{i}" for i in (1, 2, 3)})
    assert "two clusters" in compare(sample(3), later(other)).notes[0]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {}, "same run"),
        ({"started": "2026-03-01T05:00:00Z"}, {}, "is older than BEFORE"),
        ({"phase": Phase.AFTER}, {"phase": Phase.BEFORE}, "with Cilium (phase after)"),
        ({"interrupted": True}, {}, "BEFORE was interrupted"),
        ({}, {"interrupted": True, "finished": "2026-03-01T02:00:09Z"}, "AFTER was interrupted"),
    ],
)
def test_what_is_odd_of_the_two_runs_is_told(
    before: dict[str, object], after: dict[str, object], words: str
) -> None:
    notes = compare(replace(sample(2), **before), replace(sample(2), **after)).notes  # type: ignore[arg-type]
    assert any(words in note for note in notes), notes


def test_a_node_that_lost_its_agent_is_named_with_the_reason() -> None:
    gone = sample(3, agents={"n2": UNREACHABLE})
    (note,) = compare(sample(3), later(gone)).notes
    assert note == (
        "n2 had an agent before, and has none now: unreachable, connect to 10.0.0.7 port 22: "
        "timed out after 5 s: is it up, is SSH open."
    )
    (note,) = compare(gone, later(sample(3))).notes
    assert note.startswith("n2 has an agent now, and had none before: unreachable")


def test_times_that_are_none_are_not_compared() -> None:
    odd = replace(sample(2), started="yesterday")
    assert compare(odd, sample(2)).notes == ()
    assert compare(sample(2), replace(sample(2), started="2026-03-01T02:00:00")).notes == ()


def test_another_port_is_another_probe() -> None:
    other = sample(3, probes=(OTHER_GENEVE, HEALTH))
    diff = compare(sample(3, probes=(GENEVE, HEALTH)), later(other))
    assert diff.turns() == {Turn.SAME: 6, Turn.ONLY_BEFORE: 6, Turn.ONLY_AFTER: 6}
    assert diff.probe_names == ("geneve (UDP 6082)", "health", "geneve (UDP 6081)")
    assert exit_code(diff, strict=False) is ExitCode.INCOMPLETE


def test_another_severity_is_compared_and_told_and_counts() -> None:
    needed = replace(HEALTH, severity=Severity.REQUIRED)
    faults = [Fault(DROPPED_ON_PATH, "n1", "n2", "health")]
    for before, after in (((HEALTH,), (needed,)), ((needed,), (HEALTH,))):
        diff = compare(sample(2, probes=before), later(sample(2, faults=faults, probes=after)))
        assert diff.turns() == {Turn.SAME: 1, Turn.BROKEN: 1}
        assert exit_code(diff, strict=False) is ExitCode.BAD
        assert any("now." in note and "health was" in note for note in diff.notes)


def test_another_name_for_the_same_probe() -> None:
    mine = replace(GENEVE, name="tunnel")
    diff = compare(sample(2, probes=(GENEVE,)), later(sample(2, probes=(mine,))))
    assert diff.turns() == {Turn.SAME: 2}
    assert diff.notes == ("geneve is now called tunnel: it sends the same.",)


def test_a_family_that_one_run_lacks() -> None:
    both = (Family.IPV4, Family.IPV6)
    diff = compare(sample(2, families=both), later(sample(2)))
    assert diff.turns() == {Turn.SAME: 6, Turn.ONLY_BEFORE: 6}
    assert diff.notes == ("ipv6 was not tested in AFTER.",)


def test_nothing_in_common_is_said_and_is_not_well() -> None:
    diff = compare(sample(["a", "b"], probes=(GENEVE,)), later(sample(["a", "b"], probes=(ECHO,))))
    assert diff.notes[0] == "No cell is known in both runs: nothing could be compared."
    assert exit_code(diff, strict=False) is ExitCode.INCOMPLETE
    nobody = compare(sample(["a"]), later(sample(["a"])))
    assert exit_code(nobody, strict=False) is ExitCode.INCOMPLETE


def test_a_run_that_was_cut_short_mends_and_breaks_nothing() -> None:
    cut = Fault(Outcome(Verdict.UNKNOWN, cause=Cause.INTERRUPTED), "n2,n3", "*")
    bad = Fault(DROPPED_ON_PATH, "n2", "*")
    diff = compare(sample(3, faults=[bad]), later(sample(3, faults=[cut])))
    assert diff.turns() == {Turn.SAME: 6, Turn.LOST: 12}
    assert exit_code(diff, strict=False) is ExitCode.INCOMPLETE
    diff = compare(sample(3, faults=[cut]), later(sample(3, faults=[bad])))
    assert diff.turns() == {Turn.SAME: 6, Turn.REVEALED: 6, Turn.CLEARED: 6}
    assert exit_code(diff, strict=False) is ExitCode.OK
