"""Nodes that cannot log in to one another meet at a time agreed on; their reports are joined."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from samples import NO_AGENT, Fault, sample
from scenarios import Spot, Told, blocked, spots, told

from preflight.core.meeting import Part, Record, identity, join, plan, tag
from preflight.core.merge.merge import merge
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Cause,
    Family,
    Inventory,
    Leg,
    Outcome,
    Phase,
    Place,
    Probe,
    Verdict,
)
from preflight.core.options import CheckOptions, Meeting
from preflight.core.scope import Scope, scope
from preflight.core.snapshot import Snapshot
from preflight.errors import UsageError
from preflight.lab import Lab
from preflight.store import load, save

NAMES = ("n1", "n2", "n3")
COUNTS = {"geneve": 40, "health": 5, "echo": 5}
KINDS = ("answered", "received")


def record(
    me: int,
    *,
    nodes: Sequence[str] = NAMES,
    unseen: Sequence[tuple[str, str, int]] = (),
    heard: Sequence[tuple[int, float]] | None = None,
    meeting: str = "m1",
    served: Sequence[int] = (),
) -> Record:
    """What a node brings back that saw all but `unseen`: vantage point, probe, peer."""
    others = tuple(n for n in range(len(nodes)) if n != me)
    probes = [GENEVE, HEALTH, ECHO]
    numbers = {probe.name: i for i, probe in enumerate(probes)}
    vantages = ("sent", "accepted", "received", "left", "arrived", "answered", "returned")
    report: dict[str, Any] = {
        "seen": {v: [[numbers[p], peer, 0] for w, p, peer in unseen if w == v] for v in vantages},
        "kinds": {k: [[numbers[p], peer, 0, 0] for w, p, peer in unseen if w == k and p == "health"]
                  for k in KINDS},
        "rtt": {}, "lost": [], "errors": [], "send_errors": [], "neighbours": [], "sources": [],
        "heard": [list(h) for h in (heard if heard is not None else [(o, 0.1) for o in others])],
    }  # fmt: skip
    parts = tuple(
        Part(p.name, Family.IPV4, COUNTS[p.name], 0, others, others) for p in probes
    )  # fmt: skip
    ports = {"4": {"udp": [], "tcp": list(served), "unsure": []}}
    return Record(meeting, nodes[me], tuple(nodes), parts, report, ports, ())


def brought(one: Record) -> Snapshot:
    """That node's file."""
    bare = sample(list(one.nodes), faults=[Fault(NO_AGENT)])
    own = join(bare.matrix, Phase.BEFORE, [one])
    for cell in own.cells():
        bare.matrix.set(bare.matrix.index(0, cell.probe, cell.source, cell.destination),
                        cell.outcome)  # fmt: skip
    return replace(bare, records=(one,))


def joined(*records: Record) -> dict[tuple[str, str, str], Outcome]:
    whole = merge([(f"{one.node}.json", brought(one)) for one in records])
    names = [node.name for node in whole.matrix.nodes]
    return {
        (names[c.source], names[c.destination], whole.matrix.probes[c.probe].name): c.outcome
        for c in whole.matrix.cells()
    }


class TestJoining:
    """Reports by hand."""

    def test_what_both_ends_saw_decides_every_cell_between_them(self) -> None:
        found = joined(record(0), record(1), record(2))
        assert {o.verdict for o in found.values()} == {Verdict.OPEN}
        seen = found["n1", "n2", "health"].evidence
        assert seen == (5, 5, 5, 5, 5, 5, 5), "all seven vantage points, of two machines"

    def test_each_vantage_point_comes_from_its_own_end(self) -> None:
        gone = [("accepted", "geneve", 0)]
        found = joined(record(0), record(1, unseen=gone), record(2))
        one = found["n1", "n2", "geneve"]
        assert one[:4] == ("blocked", "forward", "destination", "dropped")
        assert one.evidence[:4] == (40, 40, 40, 0)
        assert found["n2", "n1", "geneve"].verdict is Verdict.OPEN
        lost = [("arrived", "geneve", 0), *gone]
        found = joined(record(0), record(1, unseen=lost), record(2))
        assert found["n1", "n2", "geneve"][:3] == ("blocked", "forward", "path")

    def test_one_alone_knows_what_it_got_and_nothing_of_what_it_sent(self) -> None:
        found = joined(record(0))
        assert found["n2", "n1", "geneve"].verdict is Verdict.OPEN, "it arrived here"
        assert found["n1", "n2", "geneve"].cause is Cause.NO_AGENT
        assert found["n2", "n3", "geneve"].cause is Cause.NO_AGENT

    def test_a_third_who_did_not_come_stays_unknown(self) -> None:
        found = joined(record(0), record(1))
        assert found["n1", "n2", "echo"].verdict is Verdict.OPEN
        assert found["n1", "n3", "echo"].cause is Cause.NO_AGENT
        assert found["n3", "n2", "geneve"].verdict is Verdict.OPEN

    def test_silence_between_two_who_may_not_have_met_accuses_nobody(self) -> None:
        silent = [(v, p, 1) for v in ("arrived", "accepted", "returned", "received")
                  for p in COUNTS]  # fmt: skip
        back = [(v, p, 0) for v, p, _ in silent]
        pair = record(0, unseen=silent, heard=[]), record(1, unseen=back, heard=[])
        assert {o.verdict for o in joined(*pair).values() if o.evidence.sent} == {Verdict.UNKNOWN}
        third = record(2)
        with_third = (
            record(0, unseen=silent, heard=[(2, 0.2)]), record(1, unseen=back, heard=[(2, 0.3)]),
        )  # fmt: skip
        found = joined(*with_third, third)
        assert found["n1", "n2", "geneve"][:3] == ("blocked", "forward", "path")
        late = record(1, unseen=back, heard=[(2, 60.0)])
        apart = record(2, heard=[(0, 0.2), (1, -60.0)])
        found = joined(with_third[0], late, apart)
        assert found["n1", "n2", "geneve"].verdict is Verdict.UNKNOWN, "a clock is a minute off"

    def test_another_meetings_records_are_not_joined(self) -> None:
        found = joined(record(0), record(1, meeting="m2"))
        assert found["n1", "n2", "geneve"].verdict is Verdict.OPEN  # n2 got all of n1's, it says
        assert found["n1", "n2", "health"].verdict is not Verdict.OPEN
        gone = [("arrived", "geneve", 0), ("accepted", "geneve", 0)]
        found = joined(record(0), record(1, meeting="m2", unseen=gone))
        assert found["n1", "n2", "geneve"].verdict is Verdict.UNKNOWN, "it waited for others"

    def test_in_steps_or_at_once_and_saved_between(self, tmp_path: Path) -> None:
        files = []
        for one in (record(0), record(1, unseen=[("accepted", "geneve", 0)]), record(2)):
            save(brought(one), tmp_path / f"{one.node}.json")
            files.append((f"{one.node}.json", load(tmp_path / f"{one.node}.json")))
        at_once = merge(files)
        save(merge(files[:2]), tmp_path / "two.json")
        steps = merge([files[2], ("two.json", load(tmp_path / "two.json"))])
        assert list(steps.matrix.cells()) == list(at_once.matrix.cells())
        assert len(steps.records) == 3
        assert {o.verdict for o in steps.matrix.outcomes()} == {Verdict.OPEN, Verdict.BLOCKED}

    @pytest.mark.parametrize(
        "spoil",
        [
            {"seen": {}}, {"seen": None}, {"heard": [["x", "y"]]}, {"lost": [1]}, {"rtt": 7},
            {"kinds": {"received": [[0, 1]]}},
        ],
    )  # fmt: skip
    def test_a_record_that_makes_no_sense_is_refused_in_one_line(
        self, spoil: dict[str, Any]
    ) -> None:
        good = brought(record(0))
        bad = record(1)
        spoiled = bad._replace(report={**bad.report, **spoil})
        with pytest.raises(UsageError, match=r"n2\.json.*makes no sense"):
            merge([("n1.json", good), ("n2.json", replace(brought(bad), records=(spoiled,)))])


def extent(names: Sequence[str] = NAMES, probes: tuple[Probe, ...] = (GENEVE, ECHO)) -> Scope:
    nodes = sample(list(names)).matrix.nodes
    return scope(Inventory("x", tuple(nodes), probes), CheckOptions())


class TestAgreement:
    """What all have to have in common."""

    def test_everything_agreed_on_makes_the_key(self) -> None:
        at = Meeting(1e9, b"a secret")
        same = identity(at, extent(), Phase.BEFORE)
        assert identity(at, extent(), Phase.BEFORE) == same
        others = [
            identity(at._replace(at=1e9 + 60), extent(), Phase.BEFORE),
            identity(at._replace(secret=b"another"), extent(), Phase.BEFORE),
            identity(at, extent(), Phase.AFTER),
            identity(at, extent(("n1", "n2")), Phase.BEFORE),
            identity(at, extent(("n2", "n1", "n3")), Phase.BEFORE),
            identity(at, extent(probes=(GENEVE, HEALTH)), Phase.BEFORE),
        ]
        names, keys = zip(same, *others, strict=True)
        assert tag(at) == tag(at._replace(secret=b"another")) != tag(at._replace(at=1e9 + 60))
        assert len(set(names)) == len(set(keys)) == 1 + len(others)
        assert all(len(key) == 32 for key in keys)

    def test_all_together_keep_to_the_flows_that_are_allowed(self) -> None:
        free = plan(extent(), 5000, 50_000, 30.0)
        assert free.rate == 5000
        tight = plan(extent(), 5000, 100, 30.0)
        assert tight.sending_s() * 100 / 30 >= tight.flows - 100 - 40

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--meet", "15:30"], "--meet needs --local NODE, --meet-key FILE with a secret"),
            (["--meet", "15:30", "--local", "n1", "--meet-key", "{key}"], "and --output FILE"),
            (["--meet-key", "{key}"], "--meet-key goes with --meet"),
            (
                ["-o", "{out}", "--local", "n1", "--meet-key", "{key}", "--meet", "soon"],
                "write it as 15:30",
            ),
            (
                ["-o", "{out}", "--local", "n1", "--meet-key", "/nowhere", "--meet", "15:30"],
                "cannot be read",
            ),
            (
                ["-o", "{out}", "--local", "n1", "--meet-key", "{short}", "--meet", "15:30"],
                "at least 8 bytes",
            ),
            (
                [
                    "-o",
                    "{out}",
                    "--local",
                    "n1",
                    "--meet-key",
                    "{key}",
                    "--meet",
                    "2020-01-01T00:00",
                ],
                "later time",
            ),
        ],
    )
    def test_a_wrong_argument_is_one_line(
        self, tmp_path: Path, arguments: list[str], says: str
    ) -> None:
        nodes = tmp_path / "nodes.yaml"
        nodes.write_text("nodes:\n- {name: n1, address: 10.0.0.1}\n- {name: n2, address: 10.0.0.2}")
        (tmp_path / "key").write_text("long enough\n")
        (tmp_path / "short").write_text("x\n")
        files = {"key": tmp_path / "key", "short": tmp_path / "short", "out": tmp_path / "x"}
        done = subprocess.run(
            [sys.executable, "-m", "preflight", "check", "-i", nodes,
             *(a.format(**files) for a in arguments)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


# The waits for clocks that are off are most of a meeting; here there is one clock.
QUICK = """
import sys
import preflight.core.meeting as core
core.EARLY_S = core.NEAR_S = 0.5
core.LATE_S = 1.0
from preflight.cli.app import run
sys.argv[0] = "preflight"
sys.exit(run())
"""


def meeting(lab: Lab, folder: Path, **keys: str) -> list[subprocess.Popen[bytes]]:
    """One command for each node, at one time; `keys` are the files of those with another secret."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", QUICK, "--version"], check=True, capture_output=True)
    start_s = time.monotonic() - begun  # on a busy machine it takes its time, four at once more
    at = datetime.fromtimestamp(time.time() + 8 + 8 * start_s, UTC).isoformat(timespec="seconds")
    return [
        lab.popen(
            node.name, sys.executable, "-c", QUICK, "check", "-i", lab.inventory_path, "--local",
            node.name, "--family", "ipv4", "--meet", at,
            "--meet-key", folder / keys.get(node.name, "key"), "-q",
            "-o", folder / f"{node.name}.json",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for node in lab.nodes
    ]  # fmt: skip


def strangers(of: Snapshot) -> list[str]:
    """Whom a node says that it met with another secret."""
    return [note for note in of.notes if "with another secret in --meet-key" in note]


@pytest.mark.lab
def test_one_with_another_secret_is_told_and_never_counts(lab4: Lab, tmp_path: Path) -> None:
    """Packets of n1 for n4 go astray to n3 besides: those are of this meeting."""
    first = {node.name: node.addresses[0] for node in lab4.nodes}
    astray = f"ip saddr {first['n1']} ip daddr {first['n4']} udp dport 6081 dnat to {first['n3']}"
    hook = "type nat hook prerouting priority -100;"
    lab4.nft("fw", f"table ip t {{ chain c {{ {hook}\n{astray}\n}}\n}}")
    (tmp_path / "key").write_text("known to three\n", "utf-8")
    (tmp_path / "wrong").write_text("known to one alone\n", "utf-8")
    runs = meeting(lab4, tmp_path, n4="wrong")
    for run in runs:
        _, said = run.communicate(timeout=60)
        assert run.returncode == 3, said.decode()
    found = {node.name: load(tmp_path / f"{node.name}.json") for node in lab4.nodes}
    for name, others in {"n1": "n4", "n2": "n4", "n3": "n4", "n4": "n1, n2 and n3"}.items():
        (told_,) = strangers(found[name])
        assert told_.startswith(f"{name}: {others} met at the same time with another secret")
    whole = merge([(f"{name}.json", one) for name, one in found.items()])
    assert len(strangers(whole)) == 4
    for spot, (one, _) in told(whole).items():
        if "n4" in (spot.source, spot.destination):
            assert one.verdict is Verdict.UNKNOWN, spot


@pytest.mark.lab
def test_four_nodes_without_ssh_between_them(lab4: Lab, tmp_path: Path) -> None:
    """Each is started by hand; together they know what a check over SSH would."""
    first = {node.name: node.addresses[0] for node in lab4.nodes}
    chain = "table inet t {{ chain c {{ type filter hook {} priority 0;\n{}\n}}\n}}".format
    lab4.nft("fw", chain("forward", f"ip saddr {first['n1']} tcp dport 4240 drop"))
    lab4.nft("n2", chain("input", "meta nfproto ipv4 udp dport 6081 drop"))
    (tmp_path / "key").write_text("known to all four\n", "utf-8")
    runs = meeting(lab4, tmp_path)
    for run in runs:
        _, said = run.communicate(timeout=60)
        assert run.returncode == 3, said.decode()
    files = sorted(tmp_path.glob("n*.json"))
    assert not any(strangers(load(file)) for file in files)
    assert "known to all four" not in "".join(file.read_text("utf-8") for file in files)
    whole = merge([(file.name, load(file)) for file in files])
    path, inside = (
        blocked(Leg.FORWARD, place, Cause.DROPPED) for place in (Place.PATH, Place.DESTINATION)
    )
    v4 = (Family.IPV4,)
    expected: dict[Spot, Told] = dict.fromkeys(spots(lab4, "n1", "n3 n4", (HEALTH,), v4), path)
    expected |= dict.fromkeys(spots(lab4, "", "n2", (GENEVE,), v4), inside)
    for spot, (one, _) in told(whole).items():
        assert one == expected.get(spot, Told(Verdict.OPEN)), spot
    assert len(told(whole)) == 36
    written = json.loads(files[0].read_text("utf-8"))
    assert written["records"][0]["node"] == "n1"
