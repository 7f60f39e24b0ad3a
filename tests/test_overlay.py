"""The overlay's probes: what is planned, how a cell is judged, and what fault the cells name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.core.cilium.config import from_config
from preflight.core.cilium.overlay import Overlay, Planned, plan
from preflight.core.cluster.model import CiliumNode
from preflight.core.evidence import Errno, IcmpError
from preflight.core.findings import overlay as decoder
from preflight.core.findings.build import findings
from preflight.core.findings.model import Cause as Found
from preflight.core.findings.model import Finding
from preflight.core.findings.overlay import Carrier, Seen, Signature, decode
from preflight.core.findings.overlay_words import Context, Fault
from preflight.core.groups import groups
from preflight.core.matrix import Matrix
from preflight.core.meeting import Meeting
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Came,
    Cause,
    Evidence,
    Family,
    Hello,
    Inventory,
    Leg,
    Node,
    Outcome,
    Phase,
    Place,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.core.overlay import DOMAINS, TABLE, Echoes, Got, Heard, Own, Said, decide
from preflight.core.overlay import of_echoes as judge_echoes
from preflight.core.overlay import of_hello as judge_hello
from preflight.core.scope import scope
from preflight.core.verdict import meaning
from preflight.looks.overlay import _echoed

NODES = tuple(
    Node(f"n{i}", (f"10.0.0.{i}", f"fd00::{i}"), f"10.0.0.{i}", labels={"role": "worker"})
    for i in (1, 2, 3, 4)
)
CONFIG = {"routing-mode": "tunnel", "tunnel-protocol": "geneve"}
OVERLAY_ECHO = Probe(
    "overlay-echo", ProbeKind.OVERLAY_ECHO, Protocol.ICMP, None, Severity.RECOMMENDED
)
OVERLAY_HEALTH = Probe(
    "overlay-health", ProbeKind.OVERLAY_HEALTH, Protocol.TCP, 4240, Severity.REQUIRED
)


# --- what is planned


def known(*names: str, **health: tuple[str, ...]) -> tuple[CiliumNode, ...]:
    """CiliumNode objects of n1, n2, ..., with these health addresses or their own."""
    return tuple(
        CiliumNode(
            name,
            (f"10.0.0.{name[1:]}",),
            health.get(name, (f"10.66.{name[1:]}.2", f"fd66::{name[1:]}")),
        )
        for name in names
    )


def planned(objects: tuple[CiliumNode, ...] | None, nodes: Any = NODES, **config: str) -> Planned:
    data = {**CONFIG, **{key.replace("_", "-"): value for key, value in config.items()}}
    return plan(from_config(data, "cluster prod"), data, nodes, objects, "the reason")


def test_each_node_with_an_endpoint_is_planned_to_each_other_one() -> None:
    told = planned(known("n1", "n2", "n4"))
    assert [(p.name, p.port, p.severity, p.families) for p in told.probes] == [
        ("overlay-echo", None, Severity.RECOMMENDED, (Family.IPV4,)),
        ("overlay-health", 4240, Severity.REQUIRED, (Family.IPV4,)),
    ]
    assert [n.endpoints for n in told.nodes] == [
        ("10.66.1.2",), ("10.66.2.2",), (), ("10.66.4.2",)
    ]  # fmt: skip
    assert told.notes == (
        (
            "the overlay is not tested to and from n3: no CiliumNode object gives a health "
            "endpoint's address there"
        ),
    )
    extent = scope(
        Inventory("x", told.nodes, (GENEVE, *told.probes)), CheckOptions(phase=Phase.AFTER)
    )
    assert {c.probe for c in extent.cells()} == {0}
    assert {c.probe: [list(r) for r in c.pairs] for c in extent.overlay() if c.packets} == {
        1: [[1, 3], [0, 3], [], [0, 1]],
        2: [[1, 3], [0, 3], [], [0, 1]],
    }


@pytest.mark.parametrize("key", ["enable-health-checking", "enable-endpoint-health-checking"])
def test_health_checking_that_is_off_is_no_failure(key: str) -> None:
    told = planned(known("n1", "n2"), **{key: "false"})
    assert told.probes == ()
    assert told.overlay is None
    assert told.notes == (
        f"the overlay is not tested: cluster prod has {key}: false, so that there is nobody to ask",
    )


def test_objects_that_cannot_be_read_are_told() -> None:
    assert planned(None).notes == ("the overlay is not tested: the reason",)


def test_one_endpoint_makes_no_pair() -> None:
    (note,) = planned(known("n1"))[3]
    assert note.startswith("the overlay is not tested: fewer than two of these nodes")


def test_policies_that_are_always_enforced_make_it_recommended() -> None:
    told = planned(known("n1", "n2", "n3", "n4"), enable_policy="always")
    assert {probe.severity for probe in told.probes} == {Severity.RECOMMENDED}
    assert told.overlay is not None
    assert told.overlay.policy == "always"
    assert "enable-policy: always" in told.notes[0]


def test_an_inventory_may_call_its_nodes_otherwise() -> None:
    nodes = [replace(node, name=f"host-{i}") for i, node in enumerate(NODES)]
    assert [n.endpoints for n in planned(known("n1", "n2"), nodes).nodes][:3] == [
        ("10.66.1.2",), ("10.66.2.2",), ()
    ]  # fmt: skip


@pytest.mark.parametrize(
    "address", ["", "nonsense", "127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.1.1", "10.0.0.3"]
)
def test_addresses_that_no_endpoint_has_are_left_out(address: str) -> None:
    told = planned(known("n1", "n2", "n3", n3=(address,)))
    assert told.nodes[2].endpoints == ()


def test_an_address_of_two_endpoints_is_nobodys() -> None:
    told = planned(known("n1", "n2", "n3", "n4", n4=("10.66.3.2",)))
    assert [bool(n.endpoints) for n in told.nodes] == [True, True, False, False]
    assert "10.66.3.2: several CiliumNode objects" in told.notes[1]


def test_a_meeting_has_no_overlay() -> None:
    told = planned(known("n1", "n2"))
    options = CheckOptions(phase=Phase.AFTER, meeting=Meeting("12:00", b"x"), local="n1")
    extent = scope(Inventory("x", told.nodes, (GENEVE, *told.probes)), options)
    assert extent.probes == (GENEVE,)


# --- how a cell is judged


def test_the_table_is_total_and_every_row_is_used() -> None:
    used = [decide(Heard(*point)) for point in product(*DOMAINS.values())]  # type: ignore[arg-type]
    assert {id(row) for row in used} == {id(row) for row in TABLE}


def test_what_the_table_may_never_say() -> None:
    """An oracle of its own: what proof each verdict needs."""
    for point in product(*DOMAINS.values()):
        heard = Heard(*point)  # type: ignore[arg-type]
        row = decide(heard)
        if not heard.source:
            assert (row.verdict, row.cause) == (Verdict.UNKNOWN, Cause.NO_AGENT)
        elif heard.got is Got.ALL:
            assert row.verdict is Verdict.OPEN
        elif row.verdict is Verdict.BLOCKED:
            assert heard.own is Own.ANSWERS or heard.said is not Said.NOTHING
        elif row.verdict is Verdict.CLOSED:
            assert heard.own in (Own.SILENT, Own.ANOTHER)
            assert row.place is Place.DESTINATION
        elif row.verdict is Verdict.LOSSY:
            assert heard.got in (Got.SOME, Got.SMALL)


ALL = Echoes(5, 3, 5, 3, 8, size=1450)
ECHOES: list[tuple[Echoes, Own, tuple[object, ...]]] = [
    (ALL, Own.NOT_ASKED, (Verdict.OPEN, None, None, None)),
    (
        ALL._replace(answered_full=0),
        Own.ANSWERS,
        (Verdict.LOSSY, None, None, Cause.SIZE),
    ),
    (ALL._replace(answered_small=2), Own.ANSWERS, (Verdict.LOSSY, None, None, Cause.DROPPED)),
    (
        ALL._replace(answered_small=0, answered_full=0),
        Own.ANSWERS,
        (Verdict.BLOCKED, None, None, Cause.DROPPED),
    ),
    (
        ALL._replace(answered_small=0, answered_full=0),
        Own.SILENT,
        (Verdict.CLOSED, None, Place.DESTINATION, Cause.NOT_ANSWERING),
    ),
    (
        ALL._replace(answered_small=0, answered_full=0),
        Own.NO_AGENT,
        (Verdict.UNKNOWN, None, None, Cause.NO_AGENT),
    ),
    (
        ALL._replace(answered_small=0, answered_full=0),
        Own.NOT_KNOWN,
        (Verdict.UNKNOWN, None, None, Cause.NOT_WATCHED),
    ),
    (
        ALL._replace(answered_small=0, answered_full=0, error=IcmpError("10.9.9.9", 3, 13)),
        Own.NO_AGENT,
        (Verdict.BLOCKED, None, None, Cause.REJECTED),
    ),
    (
        ALL._replace(answered_full=0, error=IcmpError("10.9.9.9", 3, 4)),
        Own.ANSWERS,
        (Verdict.LOSSY, None, None, Cause.SIZE),
    ),
    (
        Echoes(0, 0, wanted=8, errno=Errno.ENETUNREACH),
        Own.ANSWERS,
        (Verdict.BLOCKED, Leg.FORWARD, Place.SOURCE, Cause.NO_ROUTE),
    ),
    (
        Echoes(0, 0, wanted=8, errno=Errno.EPERM),
        Own.ANSWERS,
        (Verdict.BLOCKED, None, None, Cause.REJECTED),
    ),
    (
        Echoes(0, 0, wanted=8, errno=Errno.ENOBUFS),
        Own.ANSWERS,
        (Verdict.UNKNOWN, None, None, Cause.NOT_WATCHED),
    ),
]


@pytest.mark.parametrize(("echoes", "own", "says"), ECHOES)
def test_echoes(echoes: Echoes, own: Own, says: tuple[object, ...]) -> None:
    outcome = judge_echoes(echoes, Family.IPV4, own)
    assert outcome[:4] == says
    assert meaning(outcome, overlay=True)
    assert outcome.evidence == Evidence(echoes.sent, received=echoes.answered)
    if says[3] is Cause.REJECTED and echoes.error:
        assert outcome.rejected_by == "10.9.9.9"


HELLOS: list[tuple[Came, int, Own, tuple[object, ...]]] = [
    (Came.CILIUM, 0, Own.NOT_ASKED, (Verdict.OPEN, None, None, None)),
    (Came.UNANSWERED, 0, Own.ANSWERS, (Verdict.BLOCKED, None, None, Cause.DROPPED)),
    (Came.SILENT, 0, Own.ANSWERS, (Verdict.BLOCKED, None, None, Cause.DROPPED)),
    (Came.REFUSED, 111, Own.ANSWERS, (Verdict.BLOCKED, None, None, Cause.REJECTED)),
    (
        Came.REFUSED,
        111,
        Own.SILENT,
        (Verdict.CLOSED, None, Place.DESTINATION, Cause.NOT_ANSWERING),
    ),
    (Came.HTTP, 0, Own.ANOTHER, (Verdict.CLOSED, None, Place.DESTINATION, Cause.NOT_CILIUM)),
    (Came.HTTP, 0, Own.ANSWERS, (Verdict.BLOCKED, None, None, Cause.INTERCEPTED)),
    (Came.OTHER, 0, Own.NO_AGENT, (Verdict.UNKNOWN, None, None, Cause.NO_AGENT)),
    (Came.UNANSWERED, 0, Own.NO_AGENT, (Verdict.UNKNOWN, None, None, Cause.NO_AGENT)),
    (Came.UNSENT, 101, Own.ANSWERS, (Verdict.BLOCKED, Leg.FORWARD, Place.SOURCE, Cause.NO_ROUTE)),
    (Came.UNSENT, 24, Own.ANSWERS, (Verdict.UNKNOWN, None, None, Cause.NOT_WATCHED)),
]


@pytest.mark.parametrize(("came", "errno", "own", "says"), HELLOS)
def test_hellos(came: Came, errno: int, own: Own, says: tuple[object, ...]) -> None:
    outcome = judge_hello(Hello(came), errno, own)
    assert outcome[:4] == says
    assert outcome.hello == Hello(came)
    assert meaning(outcome, overlay=True)


GOOD = [5, 3, 5, 3, 0, None, 1450, 300]


def test_a_row_of_an_agent() -> None:
    assert _echoed(GOOD, 5, 3).echoes == ALL
    told = _echoed([5, 3, 0, 0, 0, ["10.9.9.9", 3, 13, 0], 1450, None], 5, 3)
    assert told.echoes is not None
    assert told.echoes.error == IcmpError("10.9.9.9", 3, 13)


@given(
    st.lists(
        st.none()
        | st.integers(-9, 1 << 70)
        | st.floats()
        | st.text(max_size=3)
        | st.lists(st.integers() | st.text(max_size=9), max_size=5),
        min_size=6,
        max_size=9,
    )
    | st.integers(0, 7).flatmap(
        lambda i: st.sampled_from([None, -1, 9, 1 << 70, "x", [], ["10.9.9.9"], 2.5]).map(
            lambda odd: [*GOOD[:i], odd, *GOOD[i + 1 :]]
        )
    )
)
def test_a_liar_is_either_refused_or_harmless(row: list[object]) -> None:
    """Only what the controller takes for a liar's answer may be raised."""
    try:
        told = _echoed(row, 5, 3)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return
    assert told.echoes is not None
    assert 0 <= told.echoes.answered <= told.echoes.sent <= 8
    assert judge_echoes(told.echoes, Family.IPV4, Own.ANSWERS).evidence.sent == told.echoes.sent


# --- what fault the cells name

OPEN = Outcome(Verdict.OPEN, evidence=Evidence(3, 3, 3, 3, 3, 3, 3))
NOTHING = Outcome(Verdict.BLOCKED, cause=Cause.DROPPED, evidence=Evidence(8, received=0))
SMALL = Outcome(Verdict.LOSSY, cause=Cause.SIZE, evidence=Evidence(8, received=5))
GONE = Outcome(Verdict.CLOSED, None, Place.DESTINATION, Cause.NOT_ANSWERING)
SHUT = Outcome(
    Verdict.BLOCKED, Leg.FORWARD, Place.PATH, Cause.DROPPED, evidence=Evidence(40, 40, 0, 0)
)
NO_AGENT = Outcome(Verdict.UNKNOWN, cause=Cause.NO_AGENT)
PROBES = (GENEVE, HEALTH, ECHO, OVERLAY_ECHO, OVERLAY_HEALTH)

Cells = Mapping[tuple[str, str, str], Outcome]  # source, destination, probe


def matrix(cells: Cells, probes: tuple[Probe, ...] = PROBES, nodes: Any = NODES) -> Matrix:
    """All open but these; `*` stands for every node."""
    made = Matrix(nodes, probes, (Family.IPV4,))
    for p, probe in enumerate(probes):
        for s, d in product(range(len(nodes)), repeat=2):
            if s != d:
                names = nodes[s].name, nodes[d].name
                outcome = next(
                    (
                        o
                        for (a, b, name), o in cells.items()
                        if a in (names[0], "*") and b in (names[1], "*") and name == probe.name
                    ),
                    OPEN,
                )
                made.set(made.index(0, p, s, d), outcome)
    return made


def explain(cells: Cells, context: Context | None = None, **rest: Any) -> list[Finding]:
    made = matrix(cells, **rest)
    found = findings(made, groups(made), context=context)
    bad = {
        (c.source, c.destination, c.probe)
        for c in made.cells()
        if c.outcome.verdict is not Verdict.OPEN
    }
    told = [
        (s, d, test.probe)
        for finding in found
        for block in finding.blocks
        for test in block.tests
        for a, b in ((block.sources, block.destinations), (block.destinations, block.sources))[
            : 1 + block.both_ways
        ]
        for s, d in product(a, b)
        if s != d and (s, d, test.probe) in bad
    ]
    assert sorted(told) == sorted(bad), "every bad cell is in exactly one finding"
    assert sum(f.cells for f in found) == len(bad)
    return found


def test_the_signatures_of_the_facts() -> None:
    """host ICMP, host HTTP, endpoint ICMP, endpoint HTTP, as cilium-health shows them."""
    dead, tcp, icmp = (
        {("*", "n2", "overlay-echo"): NOTHING, ("*", "n2", "overlay-health"): NOTHING},
        {("*", "n2", "overlay-health"): NOTHING},
        {("*", "n2", "overlay-echo"): NOTHING},
    )
    (found,) = explain(dead)
    assert (found.cause, found.where, found.severity) == (
        Found.OVERLAY, "all → n2", Severity.REQUIRED
    )  # fmt: skip
    assert found.title == (
        "all → n2: the tunnel's port is open both ways, and ICMP echo and TCP 4240 in the overlay "
        "are lost"
    )
    assert found.requests == ()
    (found,) = explain(tcp)
    assert found.cause is Found.OVERLAY
    assert found.title.endswith("TCP does not: wrong checksums or a policy")
    (found,) = explain(tcp, Context(checksums={1: 4}, drivers={1: ("vmxnet3",)}))
    assert found.cause is Found.CHECKSUM
    assert found.evidence[:2] == (
        (
            "n2 threw 4 TCP segments away for a wrong checksum while it was asked "
            "(TcpInCsumErrors, all network namespaces)"
        ),
        "n2: network devices of driver vmxnet3",
    )
    assert "tx-udp_tnl-segmentation off" in found.advice
    (found,) = explain(icmp)
    assert (found.cause, found.severity) == (Found.POLICY, Severity.RECOMMENDED)


@pytest.mark.parametrize("way", [("n1", "n3"), ("n3", "n1")])
def test_a_tunnel_that_is_shut_either_way_is_the_one_cause(way: tuple[str, str]) -> None:
    cells = {(*way, "geneve"): SHUT}
    for a, b in (("n1", "n3"), ("n3", "n1")):
        cells |= {(a, b, "overlay-echo"): NOTHING, (a, b, "overlay-health"): NOTHING}
    (found,) = explain(cells)
    assert found.cause is Found.NETWORK
    assert {(r.sources, r.destinations, r.port) for r in found.requests} == {
        ((f"10.0.0.{way[0][1:]}/32",), (f"10.0.0.{way[1][1:]}/32",), 6081)
    }
    assert "pods' packets travel in it" in " ".join(found.evidence)


def test_what_the_shut_tunnel_does_not_explain_is_told_apart() -> None:
    both = ("overlay-echo", "overlay-health")
    cells = {("n1", "n3", "geneve"): SHUT}
    for name in both:
        cells |= {("n1", "n3", name): NOTHING, ("n3", "n1", name): NOTHING}
        cells[("n2", "n4", name)] = NOTHING
    first, second = explain(cells)
    assert {first.cause, second.cause} == {Found.NETWORK, Found.OVERLAY}
    own = first if first.cause is Found.OVERLAY else second
    assert own.where == "n2 → n4"


def test_a_node_that_is_down_is_one_finding() -> None:
    nothing = {("*", "n4", p.name): SHUT for p in (GENEVE, HEALTH, ECHO)}
    back = {("n4", "*", p.name): SHUT for p in (GENEVE, HEALTH, ECHO)}
    over = {
        (a, b, name): NOTHING
        for a, b in (("*", "n4"), ("n4", "*"))
        for name in ("overlay-echo", "overlay-health")
    }
    found = explain({**nothing, **back, **over})
    assert [f.cause for f in found] == [Found.NETWORK]


def test_an_endpoint_that_is_gone_blames_nobodys_network() -> None:
    (found,) = explain(
        {("*", "n3", "overlay-echo"): GONE, ("*", "n3", "overlay-health"): GONE},
    )
    assert found.cause is Found.ENDPOINT
    assert found.nodes == (2,)
    assert found.title == (
        "n3: Cilium's health endpoint does not answer ICMP echo and TCP 4240 in the overlay, not "
        "even to its own node"
    )


def test_sizes_take_the_tcp_with_them() -> None:
    (found,) = explain({("*", "n3", "overlay-echo"): SMALL, ("*", "n3", "overlay-health"): NOTHING})
    assert found.cause is Found.SIZE


def test_a_tunnel_that_nobody_saw_accuses_nobody() -> None:
    over = {("n1", "n2", "overlay-echo"): NOTHING, ("n1", "n2", "overlay-health"): NOTHING}
    unsure = {("n2", "n1", "geneve"): NO_AGENT, **over}
    found = explain(unsure)
    (own,) = [f for f in found if f.cause is Found.OVERLAY]
    assert own.title.endswith("; whether the tunnel's port is open is not known")
    (alone,) = explain(over, probes=(OVERLAY_ECHO, OVERLAY_HEALTH))
    assert alone.title.endswith("; whether the tunnel's port is open is not known")


def test_native_routing_has_no_tunnel_to_look_at() -> None:
    context = Context(Overlay("cluster prod", "native routing", native=True))
    over = {("*", "n2", "overlay-echo"): NOTHING, ("*", "n2", "overlay-health"): NOTHING}
    (found,) = explain(over, context, probes=(HEALTH, ECHO, OVERLAY_ECHO, OVERLAY_HEALTH))
    assert "the network between them carries no pod addresses" in found.title
    assert "auto-direct-node-routes" in found.advice


def test_always_enforced_policies_are_told_first() -> None:
    context = Context(Overlay("cluster prod", "GENEVE on UDP 6081", native=False, policy="always"))
    over = {("*", "*", "overlay-echo"): NOTHING, ("*", "*", "overlay-health"): NOTHING}
    (found,) = explain(over, context)
    assert found.evidence[0] == "cluster prod has enable-policy: always"
    assert found.advice.startswith("With enable-policy: always the health endpoints need")


def expected(it: Signature) -> set[Fault]:
    """An oracle of its own: which faults such a cell may be laid to."""
    if it.own is Seen.GONE:
        return {Fault.ENDPOINT}
    if it.own is Seen.ANOTHER:
        return {Fault.ANOTHER}
    if it.own is Seen.NO_ROUTE:
        return {Fault.ROUTE}
    if it.carrier is Carrier.BAD:
        return {Fault.UNDERLAY}
    if it.own is Seen.SMALL:
        return {Fault.SIZE}
    if it.own is Seen.SOME:
        return {Fault.LOSS}
    if it.carrier is Carrier.NOT_KNOWN and it.other not in (Seen.OPEN, Seen.SMALL, Seen.SOME):
        return {Fault.UNCLEAR}  # what came through of the other probe went by the tunnel, too
    if it.other is Seen.OPEN:
        other = Fault.REFUSED if it.own is Seen.REFUSED else Fault.DATA
        return {Fault.ECHO} if it.is_echo else {other}
    return {Fault.NOTHING, Fault.NATIVE, Fault.REFUSED, Fault.SIZE, Fault.LOSS}


def test_the_decoder_is_total_and_agrees_with_its_oracle() -> None:
    faults = set()
    for point in product(*decoder.DOMAINS.values()):
        signature = Signature(*point)  # type: ignore[arg-type]
        fault = decode(signature)
        assert fault in expected(signature), signature
        faults.add(fault)
    assert faults == set(Fault) - {Fault.CHECKSUM}


def test_five_hundred_nodes_are_explained_at_once() -> None:
    nodes = tuple(Node(f"w{i}", (f"10.1.{i // 250}.{i % 250 + 1}",), "x") for i in range(500))
    made = Matrix(nodes, PROBES, (Family.IPV4,))
    bad = made.number(NOTHING)
    fine = made.number(OPEN)
    for p, probe in enumerate(PROBES):
        for s in range(500):
            row = [0 if d == s else bad if probe.overlay else fine for d in range(500)]
            made.set_row(0, p, s, row)
    (found,) = findings(made, groups(made))
    assert (found.where, found.cells) == ("among all nodes", 2 * 500 * 499)
