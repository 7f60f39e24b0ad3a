"""Merging snapshots: any order gives the same, nothing is made up, contradictions are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import permutations, product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    ANSWERED,
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
from test_findings_brief import brief
from test_findings_split import GENEVE4, RULE, inside, made

from preflight.core.findings.model import Cause as Blame
from preflight.core.findings.model import Change, Finding
from preflight.core.matrix import Matrix
from preflight.core.merge.choice import differ, rank
from preflight.core.merge.merge import merge
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    AgentInfo,
    AgentState,
    Cause,
    Evidence,
    Family,
    Outcome,
    Phase,
    Place,
    Severity,
    Verdict,
)
from preflight.core.snapshot import Snapshot
from preflight.errors import UsageError
from preflight.store import load, save

NOBODY = AgentInfo(AgentState.NONE, "--local n1: no other node has an agent")
LOCAL = Outcome(
    Verdict.UNKNOWN,
    cause=Cause.NO_AGENT,
    evidence=Evidence(3, 3, None, None, None, 3, 3),
    detail="an answer came back, but only an agent there could tell whose it was",
)
OUTCOMES = (
    DELIVERED, ANSWERED, DROPPED_ON_PATH, DROPPED_AT_DESTINATION, LOSSY, NOT_LISTENING, NO_AGENT,
    LOCAL, blocked(None), Outcome(Verdict.UNKNOWN, cause=Cause.INTERRUPTED),
)  # fmt: skip
SLOW = settings(deadline=None, max_examples=30)


def local(node: str, nodes: int = 4, faults: Sequence[Fault] = (), **options: object) -> Snapshot:
    """What `check --local NODE` measures: its own row, and nothing of the rest."""
    names = [f"n{i + 1}" for i in range(nodes)]
    return sample(
        nodes,
        faults=[Fault(NO_AGENT), Fault(LOCAL, node), *faults],
        agents={name: NOBODY for name in names if name != node},
        **options,  # type: ignore[arg-type]
    )


def cells(snapshot: Snapshot) -> dict[tuple[str, ...], tuple[Outcome, float | None]]:
    matrix = snapshot.matrix
    return {
        (
            matrix.nodes[c.source].name, matrix.nodes[c.destination].name,
            matrix.probes[c.probe].name, str(c.family),
        ): (c.outcome, c.rtt_ms and round(c.rtt_ms, 4))
        for c in matrix.cells()
    }  # fmt: skip


def verdict(snapshot: Snapshot, source: str, destination: str, probe: str = "geneve") -> Outcome:
    return cells(snapshot)[source, destination, probe, "ipv4"][0]


# --- an oracle: cell by cell, in dictionaries


def expected(parts: Sequence[Snapshot]) -> dict[tuple[str, ...], Verdict]:
    worst = [Verdict.UNKNOWN, Verdict.OPEN, Verdict.CLOSED, Verdict.LOSSY, Verdict.BLOCKED]
    out: dict[tuple[str, ...], Verdict] = {}
    for part in parts:
        for spot, (outcome, _) in cells(part).items():
            known = out.get(spot, Verdict.UNKNOWN)
            out[spot] = max(known, outcome.verdict, key=worst.index)
    return out


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Some nodes of a fleet, in some order, with any cells."""
    families = draw(st.sampled_from([(Family.IPV4,), (Family.IPV4, Family.IPV6)]))
    probes = draw(st.sampled_from([(GENEVE,), (GENEVE, HEALTH), (HEALTH, ECHO)]))
    whole = sample(4, families=families, probes=probes)
    keep = draw(st.permutations(range(4)))[: draw(st.integers(2, 4))]
    nodes = [whole.matrix.nodes[i] for i in keep]
    matrix = Matrix(nodes, probes, families)
    for f, p, s, d in product(
        range(len(families)), range(len(probes)), range(len(nodes)), range(len(nodes))
    ):
        outcome = draw(st.sampled_from([None, *OUTCOMES])) if s != d else None
        rtt = draw(st.sampled_from([None, 0.25, 0.5])) if outcome is not None else None
        matrix.set(matrix.index(f, p, s, d), outcome, rtt)
    agent = st.sampled_from([AgentInfo(AgentState.OK, None, "3.9.2", "6.1"), NOBODY])
    started = draw(st.sampled_from(["2026-11-22T10:00:00.000Z", "2026-11-22T15:00:00.000Z"]))
    return Snapshot(
        Phase.BEFORE, started, started, matrix, [draw(agent) for _ in nodes],
        {"total_s": draw(st.sampled_from([1.0, 2.0]))}, (), draw(st.booleans()),
    )  # fmt: skip


def said(snapshot: Snapshot) -> object:
    """All that must not depend on the order of the files; they may be called otherwise."""
    assert snapshot.merged is not None
    conflicts = {
        (c.source, c.destination, c.probe, c.family): {claim[1:3] for claim in c.claims}
        for c in snapshot.merged.conflicts
    }
    return (
        [n.name for n in snapshot.matrix.nodes],
        [n.addresses for n in snapshot.matrix.nodes],
        [p.name for p in snapshot.matrix.probes],
        snapshot.matrix.families,
        cells(snapshot),
        conflicts.keys(),
        list(snapshot.agents),
        (snapshot.started, snapshot.finished, dict(snapshot.timings), snapshot.interrupted),
        [(f.title, f.where, f.cells, f.nodes) for f in snapshot.findings],
    )


class TestAlgebra:
    """Files may come in any order, and a merged one may be merged again."""

    @SLOW
    @given(st.lists(snapshots(), min_size=1, max_size=3))
    def test_every_order_gives_the_same(self, parts: list[Snapshot]) -> None:
        named = [(f"{i}.json", part) for i, part in enumerate(parts)]
        whole = merge(named)
        for order in permutations(named):
            again = merge(order)
            assert said(again) == said(whole)
            assert again.notes == whole.notes
            assert again.merged == whole.merged

    @SLOW
    @given(st.lists(snapshots(), min_size=3, max_size=3))
    def test_in_steps_or_at_once(self, parts: list[Snapshot]) -> None:
        a, b, c = [(f"{i}.json", part) for i, part in enumerate(parts)]
        left = merge([("ab.json", merge([a, b])), c])
        right = merge([a, ("bc.json", merge([b, c]))])
        assert said(left) == said(right)
        whole = merge([a, b, c])
        assert said(whole) == said(left)
        assert whole.merged is not None
        assert left.merged is not None
        assert whole.merged.origins == left.merged.origins

    @SLOW
    @given(snapshots())
    def test_a_file_twice_adds_nothing(self, part: Snapshot) -> None:
        once = merge([("a.json", part)])
        assert said(merge([("a.json", part), ("a.json", part)])) == said(once)
        assert said(merge([("m.json", once), ("m.json", once)])) == said(once)
        assert cells(once) == cells(part)
        assert merge([("m.json", once)]).notes == once.notes

    @SLOW
    @given(st.lists(snapshots(), min_size=1, max_size=4))
    def test_it_is_what_the_oracle_says_cell_by_cell(self, parts: list[Snapshot]) -> None:
        whole = merge([(f"{i}.json", part) for i, part in enumerate(parts)])
        found = {spot: outcome.verdict for spot, (outcome, _) in cells(whole).items()}
        assert found == expected(parts)
        for spot, (outcome, _) in cells(whole).items():
            of = [cells(part)[spot][0] for part in parts if spot in cells(part)]
            assert outcome in of, "no outcome that nobody measured"

    @SLOW
    @given(st.lists(snapshots(), min_size=2, max_size=3))
    def test_every_contradiction_is_told_and_nothing_else(self, parts: list[Snapshot]) -> None:
        whole = merge([(f"{i}.json", part) for i, part in enumerate(parts)])
        told = {tuple(map(str, conflict[:4])) for conflict in whole.merged.conflicts}  # type: ignore[union-attr]
        for spot in cells(whole):
            of = [cells(part)[spot][0] for part in parts if spot in cells(part)]
            assert (spot in told) == any(differ(a, b) for a in of for b in of)

    def test_rank_is_a_strict_order(self) -> None:
        ranks = [rank(outcome) for outcome in OUTCOMES]
        assert len(set(ranks)) == len(OUTCOMES)


class TestRows:
    """`check --local` on each node."""

    def test_rows_of_all_nodes_make_one_matrix(self) -> None:
        nodes = [f"n{i + 1}" for i in range(4)]
        whole = merge([(f"{name}.json", local(name)) for name in nodes])
        assert {agent.state for agent in whole.agents} == {AgentState.OK}
        assert {o for o, _ in cells(whole).values()} == {LOCAL}, "each cell as its source saw it"
        assert whole.merged is not None
        assert [o.agents for o in whole.merged.origins] == [(name,) for name in nodes]
        assert whole.merged.conflicts == ()
        assert whole.notes[0].startswith("merged from 4 files: n1.json (n1, ")

    def test_what_one_node_proved_stands_beside_what_others_do_not_know(self) -> None:
        fault = Fault(blocked(Place.SOURCE), "n2", "n3", "geneve")
        whole = merge([("a", local("n1")), ("b", local("n2", faults=[fault]))])
        assert verdict(whole, "n2", "n3").verdict is Verdict.BLOCKED
        assert verdict(whole, "n3", "n2").cause is Cause.NO_AGENT
        titles = [finding.title for finding in whole.findings]
        assert any(title.startswith("n2 → n3") for title in titles)

    def test_counts_of_two_runs_are_never_added_up(self) -> None:
        one = sample(2, faults=[Fault(NO_AGENT._replace(evidence=Evidence(sent=3, left=3)))])
        other = sample(2, faults=[Fault(NO_AGENT._replace(evidence=Evidence(accepted=3)))])
        whole = merge([("a", one), ("b", other)])
        assert {o.verdict for o, _ in cells(whole).values()} == {Verdict.UNKNOWN}
        assert {o.evidence for o, _ in cells(whole).values()} == {Evidence(sent=3, left=3)}

    def test_parts_of_a_fleet_with_other_nodes(self) -> None:
        few = sample(["n2", "n10"])
        few.matrix.nodes = tuple(
            replace(node, addresses=(f"10.9.9.{i}",)) if node.name == "n10" else node
            for i, node in enumerate(few.matrix.nodes)
        )
        few.matrix.nodes = (
            replace(few.matrix.nodes[0], addresses=("10.0.0.2",)), few.matrix.nodes[1]
        )  # fmt: skip
        whole = merge([("a", sample(3)), ("b", few)])
        assert [node.name for node in whole.matrix.nodes] == ["n1", "n2", "n3", "n10"]
        assert ("n10", "n2", "geneve", "ipv4") in cells(whole)
        assert ("n10", "n1", "geneve", "ipv4") not in cells(whole), "nobody measured it"


def moved() -> Snapshot:
    """n1 has another address."""
    part = sample(2)
    first, second = part.matrix.nodes
    part.matrix.nodes = (replace(first, addresses=("10.9.9.9",)), second)
    return part


class TestContradictions:
    """Two files, one cell, two stories."""

    def test_the_worse_stands_and_both_are_told(self) -> None:
        bad = sample(3, faults=[Fault(DROPPED_ON_PATH, "n1", "n2", "geneve")])
        whole = merge([("good.json", sample(3)), ("bad.json", bad)])
        assert verdict(whole, "n1", "n2") == DROPPED_ON_PATH
        assert whole.merged is not None
        (conflict,) = whole.merged.conflicts
        assert [(c.file, c.verdict) for c in conflict.claims] == [
            ("bad.json", "blocked"), ("good.json", "open"),
        ]  # fmt: skip
        (note,) = [note for note in whole.notes if "contradiction" in note]
        assert note == (
            "contradiction: geneve over IPv4 n1 → n2: blocked on the path in bad.json; open in "
            "good.json; the worse stands"
        )

    def test_a_place_that_is_not_known_contradicts_none(self) -> None:
        known = sample(2, faults=[Fault(DROPPED_ON_PATH)])
        vague = sample(2, faults=[Fault(blocked(None))])
        whole = merge([("a", vague), ("b", known)])
        assert {o for o, _ in cells(whole).values()} == {DROPPED_ON_PATH}
        assert whole.merged is not None
        assert whole.merged.conflicts == ()

    def test_many_alike_are_one_note(self) -> None:
        bad = sample(30, faults=[Fault(DROPPED_ON_PATH, "n1")])
        whole = merge([("a", sample(30)), ("b", bad)])
        assert whole.merged is not None
        assert len(whole.merged.conflicts) == 29 * 3
        notes = [note for note in whole.notes if "contradiction" in note]
        assert len(notes) == 3
        assert all("23 pairs more" in note for note in notes)

    def test_runs_far_apart_are_told(self) -> None:
        late = replace(sample(2), started="2030-01-01T00:00:00.000Z")
        whole = merge([("a", sample(2)), ("b", late)])
        assert any("h apart" in note for note in whole.notes)
        assert whole.finished == max(sample(2).finished, late.finished)

    @pytest.mark.parametrize(
        ("other", "says"),
        [
            (replace(sample(2), phase=Phase.AFTER), "a is of phase before, b of phase after"),
            (sample(["n1", "x"]), "10.0.0.2 is node n2 in a and node x in b"),
            (sample(["x", "n1"]), "10.0.0.1 is node n1 in a and node x in b"),
            (moved(), "node n1 has the address 10.0.0.1 in a and 10.9.9.9 in b"),
            (
                sample(2, probes=(replace(GENEVE, port=6082), HEALTH, ECHO)),
                "probe geneve is UDP 6081 in a and UDP 6082 in b",
            ),
        ],
    )
    def test_what_is_of_unlike_fleets_is_refused_with_both_files_named(
        self, other: Snapshot, says: str
    ) -> None:
        with pytest.raises(UsageError, match=says):
            merge([("a", sample(2)), ("b", other)])

    def test_a_probe_is_required_where_any_file_says_so(self) -> None:
        strict = sample(2, probes=(GENEVE, replace(HEALTH, severity=Severity.REQUIRED), ECHO))
        whole = merge([("a", sample(2)), ("b", strict)])
        assert whole.matrix.probes[1].severity is Severity.REQUIRED
        assert any("health is required in some" in note for note in whole.notes)


def explained(*faults: Fault, findings: Sequence[Finding]) -> Snapshot:
    made = sample(4, 2, list(faults))
    return replace(made, findings=tuple(findings))


def test_what_looks_found_out_stands_for_the_cells_of_its_finding() -> None:
    """Two rules of n3, each for some senders: what each run says of them is said of the whole."""
    matrix = sample(4, 2, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix
    one = RULE._replace(handle=20, text="ip saddr 10.0.0.1 udp dport 6081 drop")
    looks = [inside(one, GENEVE4), brief(inside(RULE, GENEVE4, source=1)),
             brief(inside(RULE, GENEVE4, source=3))]  # fmt: skip
    fault = Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")
    part = explained(fault, findings=made(matrix, looks))
    whole = merge([("a.json", part), ("b.json", local("n1"))])
    assert [(f.cause, f.cells, f.title) for f in whole.findings if f.cause is Blame.RULE] == [
        (f.cause, f.cells, f.title) for f in part.findings
    ]


def test_what_tables_proved_stands_where_its_cells_do() -> None:
    fault = Fault(DROPPED_ON_PATH, "n1", "n2", "geneve")
    (found,) = made(sample(4, 2, [fault]).matrix, [])
    proved = found._replace(
        cause=Blame.NEIGHBOUR, title="n1's neighbour entry for n2 is permanent and wrong",
        nodes=(0,), evidence=("`ip neigh` on n1",), requests=(),
        changes=(Change("n1", "ip", ("ip neigh del 10.0.0.2 dev eth0",), ()),),
    )  # fmt: skip
    part = explained(fault, findings=[proved])
    (told,) = merge([("a.json", part), ("b.json", sample(4, 2, [fault]))]).findings
    assert (told.cause, told.title, told.changes) == (proved.cause, proved.title, proved.changes)
    assert (told.cells, told.nodes) == (1, (0,))
    assert told.evidence[0] == "`ip neigh` on n1"
    worse = Fault(blocked(Place.SOURCE), "n1", "n2", "geneve")
    whole = merge([("a.json", part), ("b.json", sample(4, 2, [worse]))])
    stands = {finding.kinds[0].place: finding.cause for finding in whole.findings}
    assert stands in ({Place.PATH: Blame.NEIGHBOUR}, {Place.SOURCE: Blame.NODE_FIREWALL})


def test_it_is_saved_and_read_back_whole(tmp_path: Path) -> None:
    bad = sample(3, faults=[Fault(DROPPED_ON_PATH, "n1", "n2", "geneve")])
    whole = merge([("good.json", sample(3)), ("bad.json", bad)])
    save(whole, tmp_path / "whole.json")
    again = load(tmp_path / "whole.json")
    assert again.merged == whole.merged
    assert said(again) == said(whole)
    assert said(merge([("whole.json", again)])) == said(whole)


def test_the_command(tmp_path: Path) -> None:
    paths = []
    for name in ("n1", "n2"):
        fault = Fault(blocked(Place.SOURCE), "n2", "n3", "geneve")
        path = tmp_path / f"{name}.json"
        save(local(name, faults=[fault] if name == "n2" else ()), path)
        paths.append(path)
    out = tmp_path / "all.json"
    command = [sys.executable, "-m", "preflight", "merge"]

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, check=False
        )

    done = run(*paths, "-o", out)
    assert done.returncode == 1, "something required is blocked"
    assert "n2 → n3" in done.stdout
    assert "merged from 2 files" in " ".join(done.stdout.split())
    shown = json.loads(run(*reversed(paths), "--format", "json").stdout)
    assert shown == json.loads(out.read_text("utf-8"))
    save(sample(2, phase=Phase.AFTER), tmp_path / "after.json")
    refused = run(*paths, tmp_path / "after.json")
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert run(tmp_path / "nothing.json").returncode == 2
    assert reduce(lambda a, b: a and b, [p.exists() for p in paths])
