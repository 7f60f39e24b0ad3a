"""Which pairs, how many packets and flows, in which waves, and how fast."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preflight.agent.look import Look, Run
from preflight.agent.send import timetable
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Family,
    Node,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
)
from preflight.core.plan import (
    CellPlan,
    FlowBudget,
    LookPlan,
    Volley,
    in_family,
    inert_destinations,
    select,
    udp_ports,
    volley,
    waves,
)
from preflight.craft.templates import template
from preflight.errors import UsageError

BUILT_IN = (GENEVE, HEALTH, ECHO)
VXLAN = Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED)
PLAIN = Probe("wireguard", ProbeKind.UDP, Protocol.UDP, 51871, Severity.RECOMMENDED)
KUBELET = Probe("kubelet", ProbeKind.TCP, Protocol.TCP, 10250, Severity.REQUIRED)


def node(name: str, cluster: str | None = None, **labels: str) -> Node:
    return Node(name, ("192.0.2.1",), name, labels=labels, cluster=cluster)


NODES = [
    node("n1", rack="a", role="cp"),
    node("n2", rack="a"),
    node("n3", rack="b", role="cp"),
    node("n4", rack="b"),
]

# --- which pairs ---------------------------------------------------------------------------------


def test_every_ordered_pair_by_default() -> None:
    assert select(NODES) == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


@pytest.mark.parametrize(
    ("sources", "destinations", "labels", "pairs"),
    [
        (["n1"], [], [], [[1, 2, 3], [], [], []]),
        ([], ["n1"], [], [[], [0], [0], [0]]),
        (["n1", "n2"], ["n2", "n3"], [], [[1, 2], [2], [], []]),
        ([], [], ["rack=b"], [[2, 3], [2, 3], [0, 1, 3], [0, 1, 2]]),
        ([], [], ["rack=b", "role=cp"], [[2], [2], [0, 1, 3], [2]]),
        (["n1"], [], ["rack=b"], [[2, 3], [], [], []]),
        (["n4"], ["n3"], ["rack=a"], None),
        (["n1"], ["n1"], [], None),
    ],
)
def test_selections(
    sources: list[str], destinations: list[str], labels: list[str], pairs: list[list[int]] | None
) -> None:
    if pairs is None:
        with pytest.raises(UsageError, match="no pair of nodes is left"):
            select(NODES, sources, destinations, labels)
    else:
        assert select(NODES, sources, destinations, labels) == pairs


def test_clusters_do_not_meet() -> None:
    nodes = [node("a1", "a"), node("b1", "b"), node("a2", "a"), node("x"), node("y")]
    assert select(nodes) == [[2], [], [0], [4], [3]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sources": ["n9"]}, r"--source n9: no such node; there are n1, n2, n3, n4"),
        ({"destinations": ["n1", "N1"]}, r"--destination N1: no such node"),
        ({"labels": ["rack"]}, r"--label rack: write it as key=value"),
        ({"labels": ["=a"]}, r"write it as key=value"),
        ({"labels": ["row=a"]}, r"no node has a label 'row'; there are rack, role"),
        ({"labels": ["rack=c"]}, r"no node has it; rack is a, b"),
    ],
)
def test_selections_of_what_is_not_there(options: dict[str, list[str]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        select(NODES, **options)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([], "at least two"),
        ([node("n1")], "at least two"),
        ([node("n1", "a"), node("n2", "b")], "no two nodes are in one cluster"),
    ],
)
def test_inventories_without_a_pair(nodes: list[Node], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        select(nodes)


def test_a_list_of_many_names_is_cut() -> None:
    with pytest.raises(UsageError, match="and 12 more"):
        select([node(f"n{i:02}") for i in range(20)], sources=["x"])


def test_a_label_on_an_inventory_without_labels() -> None:
    with pytest.raises(UsageError, match="the inventory has no labels"):
        select([node("n1"), node("n2")], labels=["rack=a"])


def test_only_nodes_with_an_address_of_the_family() -> None:
    nodes = [
        Node("a", ("192.0.2.1", "fd00::1"), "a"),
        Node("b", ("fd00::2",), "b"),
        Node("c", ("192.0.2.3",), "c"),
    ]
    pairs = select(nodes)
    assert in_family(nodes, pairs, Family.IPV4) == [[2], [], [0]]
    assert in_family(nodes, pairs, Family.IPV6) == [[1], [0], []]


# --- how many ------------------------------------------------------------------------------------


def test_the_first_look_is_the_designs() -> None:
    """About 20 GENEVE probes, two of them full-size; a few SYNs and pings."""
    first = {probe.name: volley(probe, ports=8, first=True) for probe in (*BUILT_IN, VXLAN, PLAIN)}
    assert (first["geneve"].count, first["geneve"].full, first["geneve"].flows) == (20, 2, 8)
    assert (first["vxlan"].count, first["vxlan"].full) == (20, 2)
    assert (first["wireguard"].count, first["wireguard"].full) == (20, 0)
    assert first["health"].count == first["health"].flows <= 5
    assert first["echo"].count <= 5
    assert first["echo"].flows == 1


@pytest.mark.parametrize("probe", [*BUILT_IN, VXLAN, PLAIN, KUBELET], ids=lambda probe: probe.name)
def test_a_later_look_asks_more(probe: Probe) -> None:
    first, later = (volley(probe, ports=8, first=which) for which in (True, False))
    assert later.count > first.count
    assert later.count <= 64  # what a place in a bit set has room for
    assert later.gap_s >= first.gap_s
    assert (later.full > 0) == (first.full > 0)


@given(
    st.integers(0, 400_000),
    st.lists(st.sampled_from([GENEVE, VXLAN, PLAIN, HEALTH, KUBELET, ECHO]), max_size=6),
    st.integers(100, 1_000_000),
)
def test_source_ports_fit_the_budget(pairs: int, probes: list[Probe], most: int) -> None:
    """From 8 to 20 the most that leaves a fifth of it; 6 or 7 where just they spare a wave."""
    ports = udp_ports([(probe, pairs) for probe in probes], most)
    assert 6 <= ports <= 20
    udp = sum(probe.protocol is Protocol.UDP for probe in probes)

    def flows(with_ports: int) -> int:
        return pairs * sum(volley(p, ports=with_ports, first=True).flows for p in probes)

    if not udp or not pairs:
        assert ports == 8
    elif ports > 8:
        assert flows(ports) <= 0.8 * most
        assert ports == 20 or flows(ports + 1) > 0.8 * most
    elif ports < 8:
        assert flows(ports) <= most < flows(ports + 1)
    else:
        assert flows(9) > 0.8 * most
        assert flows(8) <= most or flows(6) > most


# --- waves ---------------------------------------------------------------------------------------


@st.composite
def cells(draw: st.DrawFn) -> tuple[list[CellPlan], int]:
    """Some cells over up to 8 nodes, and how many nodes there are."""
    nodes = draw(st.integers(2, 8))
    out = []
    for number in range(draw(st.integers(1, 4))):
        rows = [
            sorted(draw(st.sets(st.integers(0, nodes - 1), max_size=nodes)) - {source})
            for source in range(nodes)
        ]
        shape = Volley(count=4, full=0, flows=draw(st.integers(1, 20)), gap_s=0.0)
        out.append(CellPlan(number, Family.IPV4, draw(st.booleans()), shape, rows))
    return out, nodes


def pairs_of(plan: Sequence[CellPlan]) -> Counter[tuple[int, int, int]]:
    return Counter(
        (cell.probe, s, d) for cell in plan for s, row in enumerate(cell.pairs) for d in row
    )


@settings(max_examples=300)
@given(cells(), st.integers(1, 300))
def test_waves_cover_each_pair_once_and_keep_to_the_budget(
    drawn: tuple[list[CellPlan], int], most: int
) -> None:
    plan, nodes = drawn
    total: Counter[tuple[int, int, int]] = Counter()
    where: dict[tuple[int, int], int] = {}
    for number, wave in enumerate(waves(plan, nodes, most)):
        assert [cell.probe for cell in wave] == [cell.probe for cell in plan]
        found = pairs_of(wave)
        total += found
        flows = sum(cell.flows for cell in wave)
        assert flows <= most or len({(s, d) for _, s, d in found}) == 1
        for _, s, d in found:
            assert where.setdefault((s, d), number) == number  # a pair is never cut
    assert total == pairs_of(plan)


def test_waves_give_every_node_its_share() -> None:
    rows = [[d for d in range(10) if d != s] for s in range(10)]
    shape = Volley(count=1, full=0, flows=1, gap_s=0.0)
    plan = [CellPlan(0, Family.IPV4, True, shape, rows)]
    for wave in waves(plan, 10, 30):
        sent = [len(row) for row in wave[0].pairs]
        come = Counter(d for row in wave[0].pairs for d in row)
        assert set(sent) == {3}
        assert set(come.values()) == {3}


# --- the flow budget -----------------------------------------------------------------------------

SPENDS = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 40)), max_size=12)


@settings(max_examples=500)
@given(SPENDS, st.integers(1, 100))
@example([(60, 0), (10, 0), (120, 0)], 100)
@example([(60, 0), (120, 0), (1, 0)], 100)
def test_no_window_sees_more_flows_than_it_may(spends: list[tuple[int, int]], most: int) -> None:
    """Whatever is asked for, and whenever; what alone is more than the budget goes alone."""
    budget, now = FlowBudget(most, window_s=30), 0.0
    opened: list[tuple[float, int]] = []
    for flows, pause in spends:
        now += pause
        delay = budget.delay_s(flows, now)
        assert 0 <= delay <= 30
        if delay:  # not a moment longer than it must be
            earlier = sum(n for at, n in opened if now + delay - 1 - at < 30)
            assert earlier + flows > most or delay < 1
        now += delay
        budget.spend(flows, now)
        opened.append((now, flows))
        in_window = [n for at, n in opened if now - at < 30 and n]
        assert sum(in_window) <= most or len(in_window) == 1


def test_whoever_has_spent_nothing_waits_for_nothing() -> None:
    budget = FlowBudget(100)
    assert budget.delay_s(100, 1000.0) == 0
    assert budget.delay_s(1000, 1000.0) == 0
    budget.spend(60, 1000.0)
    assert budget.delay_s(40, 1000.0) == 0
    assert budget.delay_s(41, 1010.0) == 20
    assert budget.delay_s(41, 1030.0) == 0


# --- how long ------------------------------------------------------------------------------------

KINDS = {Protocol.UDP: (GENEVE, 17), Protocol.TCP: (HEALTH, 6), Protocol.ICMP: (ECHO, 1)}


@cache
def crafted(protocol: Protocol) -> dict[str, object]:
    return template(KINDS[protocol][0], Family.IPV4, harmless=False)


@st.composite
def looks(draw: st.DrawFn) -> LookPlan:
    """Any volleys of the three protocols among up to 6 nodes."""
    nodes = draw(st.integers(2, 6))
    out = []
    for protocol in draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4)):
        rows = [
            sorted(draw(st.sets(st.integers(0, nodes - 1))) - {source}) for source in range(nodes)
        ]
        count = draw(st.integers(1, 20))
        gap = draw(st.sampled_from([0.0, 0.002, 0.01, 0.05]))
        shape = Volley(count=count, full=0, flows=1, gap_s=gap)
        number = list(KINDS).index(protocol)
        out.append(CellPlan(number, Family.IPV4, protocol is Protocol.UDP, shape, rows))
    return LookPlan(1, out, draw(st.sampled_from([10.0, 5000.0, 100_000.0])), False, 0.2)


@settings(max_examples=200, deadline=None)
@given(looks())
def test_the_sending_takes_what_the_plan_says(plan: LookPlan) -> None:
    """The agents' timetables and the plan agree on how long the busiest node sends."""
    nodes = len(plan.cells[0].pairs)
    longest = 0.0
    for me in range(nodes):
        fields = [
            {
                "probe": cell.probe, "family": 4,
                "protocol": KINDS[list(KINDS)[cell.probe]][1], "port": 1,
                "count": cell.volley.count, "full": 0, "flows": 1, "gap": cell.volley.gap_s,
                "out": list(cell.pairs[me]), "in": [], "inert": [],
                "template": crafted(list(KINDS)[cell.probe]),
                "harmless": crafted(list(KINDS)[cell.probe]),
            }
            for cell in plan.cells
        ]  # fmt: skip
        run = Run(b"k" * 32, me, {4: [f"192.0.2.{n + 1}" for n in range(nodes)]})
        frame = {"number": 1, "rate": plan.rate, "taps": False, "settle": False, "cells": fields}
        table = timetable(Look(run, frame))
        assert [at for at, _, _ in table] == sorted(at for at, _, _ in table)
        sent = Counter((cell.number, sequence) for _, cell, sequence in table)
        assert sent == Counter(
            (n, i) for n, cell in enumerate(plan.cells) if cell.pairs[me]
            for i in range(cell.volley.count)
        )  # fmt: skip
        one_way = [cell.two_way for _, cell, _ in table]
        assert one_way == sorted(one_way, reverse=True)  # what is answered goes first
        longest = max(longest, *(duration(table, plan)), 0.0)
    assert plan.sending_s() == pytest.approx(longest)


def duration(table, plan: LookPlan) -> list[float]:  # type: ignore[no-untyped-def]
    """When the last round is over: its probes sent, and its gap kept."""
    if not table:
        return [0.0]
    _, last_cell, last = table[-1]
    same = [row for row in table if row[1].two_way == last_cell.two_way and row[2] == last]
    begin = same[0][0]
    gap = max(row[1].gap for row in table if row[1].two_way == last_cell.two_way)
    return [begin + max(sum(len(row[1].out) for row in same) / plan.rate, gap)]


def test_a_plan_counts_its_packets_and_flows() -> None:
    rows = [[1, 2], [0], []]
    plan = LookPlan(
        1,
        [
            CellPlan(0, Family.IPV4, True, Volley(20, 2, 8, 0.002), rows),
            CellPlan(1, Family.IPV4, False, Volley(3, 0, 3, 0.01), rows),
            CellPlan(2, Family.IPV4, False, Volley(3, 0, 1, 0.01), rows),
        ],
        rate=5000,
        taps=False,
        wait_s=0.2,
    )
    assert plan.packets == 3 * 26
    assert plan.flows == 3 * 12
    assert plan.sending_s() == pytest.approx(3 * 0.01 + 20 * 0.002)
    assert LookPlan(1, [], 5000, False, 0.2).sending_s() == 0


# --- the inert form ------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", [GENEVE, VXLAN], ids=lambda probe: probe.name)
@pytest.mark.parametrize(
    ("after", "owned", "agents", "inert"),
    [
        (False, {0: [], 1: []}, [True, True], []),
        (False, {0: [1234], 1: []}, [True, True], []),
        (False, {0: [], 1: "port"}, [True, True], [1]),
        (False, {0: []}, [True, False], [1]),  # without an agent nobody can tell
        (False, {0: []}, [True, True], []),
        (True, {0: [], 1: []}, [True, True], [0, 1]),
    ],
)
def test_who_gets_the_inert_form(
    probe: Probe, after: bool, owned: dict[int, Any], agents: list[bool], inert: list[int]
) -> None:
    known: Any = {n: [probe.port] if ports == "port" else ports for n, ports in owned.items()}
    assert inert_destinations(probe, after=after, owned=known, agents=agents) == inert


@pytest.mark.parametrize("probe", [HEALTH, ECHO, PLAIN, KUBELET], ids=lambda probe: probe.name)
def test_what_is_no_tunnel_has_one_form(probe: Probe) -> None:
    owned: Any = {0: [probe.port], 1: [probe.port]}
    assert inert_destinations(probe, after=True, owned=owned, agents=[True, False]) == []
