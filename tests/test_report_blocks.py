"""What stands for a block of cells is true of all of them."""

from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    Fault,
    sample,
)

from preflight.core.model import GENEVE, Verdict
from preflight.core.snapshot import Snapshot
from preflight.report.blocks import draw_blocks, grouping, sizes, words
from preflight.report.grouping import Grouping
from preflight.report.layers import layers
from preflight.report.picture import draw_matrix, legend
from preflight.report.symbols import LEGEND, symbol

OUTCOMES = (None, DROPPED_ON_PATH, DROPPED_AT_DESTINATION, LOSSY, NO_AGENT)


def noisy(nodes: int, seed: int, share: float) -> Snapshot:
    snapshot, choose = sample(nodes, 3, probes=(GENEVE,)), random.Random(seed)
    for s in range(nodes):
        for d in range(nodes):
            if s != d and choose.random() < share:
                snapshot.matrix.set(s * nodes + d, choose.choice(OUTCOMES))
    return snapshot


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 24),
    st.integers(1, 5),
    st.sampled_from([0, 0.01, 0.2, 0.9]),
    st.integers(0, 99),
)
def test_each_block_against_its_cells(nodes: int, groups: int, share: float, seed: int) -> None:
    snapshot, choose = noisy(nodes, seed, share), random.Random(seed)
    of = [choose.randrange(groups) for _ in range(nodes)]
    known = sorted(set(of))
    of = [known.index(group) for group in of]
    by = Grouping("x", tuple(f"g{i}" for i in range(len(known))), tuple(of))
    assert sizes(by) == [of.count(i) for i in range(len(known))]
    found = layers(snapshot.matrix)
    if not found:
        return
    lines = draw_blocks(found[0], by)
    assert [len(line) for line in lines] == [len(known)] * len(known)
    for a, line in enumerate(lines):
        for b, sign in enumerate(line):
            cells = [
                outcome
                for s in range(nodes)
                for d in range(nodes)
                if of[s] == a and of[d] == b
                if (outcome := snapshot.matrix.outcome(s * nodes + d)) is not None
            ]
            signs = {symbol(outcome) for outcome in cells}
            shut = sum(outcome.verdict is not Verdict.OPEN for outcome in cells)
            if len(signs) < 2:
                assert sign == (signs.pop() if signs else " ")
            elif signs == {"·", "?"}:
                assert sign == "u"
            elif sign == ",":
                assert 0 < shut <= len(cells) / 100
            else:
                tenths = int(sign)
                assert (tenths - 1) * len(cells) < 10 * shut
                assert 10 * shut <= tenths * len(cells) or tenths == 9
                assert shut > len(cells) / 100


def test_racks_come_first_then_subnets_then_neighbours() -> None:
    nodes = sample(300, 12).matrix.nodes
    by = grouping(nodes, ())
    assert (by.title, len(by.names)) == ("rack", 12)
    unnamed = sample(700).matrix.nodes  # one rack; three subnets of 250
    assert grouping(unnamed, ()).title == "subnet"
    flat = sample(120).matrix.nodes
    by = grouping(flat, ())
    assert by.title == "neighbours"
    assert by.names[0] == "n1…n3"
    assert len(by.names) == 40
    assert set(by.of) == set(range(40))
    assert words(by).startswith("Drawn by neighbours in the inventory: ")


def test_no_node_is_left_out_and_every_sign_is_explained() -> None:
    snapshot = noisy(200, 4, 0.02)
    picture = draw_matrix(snapshot.matrix, layers(snapshot.matrix), 80, color=False)
    rows = [re.match(r"\d+ rack=\w \((\d+)\)  (.*)", line) for line in picture.lines]
    found = [row for row in rows if row]
    assert sum(int(row[1]) for row in found) == 200
    told = " ".join(legend(picture, 80))
    for row in found:
        for sign in row[2].replace(" ", ""):
            assert f"{sign} " in told or (sign.isdecimal() and "1…9 " in told)
    assert not any(sign in "123456789,u" for sign in LEGEND)


def test_what_a_filter_hides_is_no_row() -> None:
    faults = [Fault(None, "rack=a"), Fault(None, "*", "rack=c")]
    snapshot = sample(240, 4, faults)
    for i in range(60, 240):
        snapshot.matrix.set(i * 240 + (i * 7) % 120, LOSSY)
    picture = draw_matrix(snapshot.matrix, layers(snapshot.matrix), 80, color=False)
    assert any("rack=b (60)" in line for line in picture.lines)
    assert not any("rack=a (60)" in line for line in picture.lines)
