"""What nodes say of their tables, read with suspicion, and what it proves: innocents above all."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import permutations
from typing import Any

import pytest
from cells import CALM
from hypothesis import given
from hypothesis import strategies as st

from preflight.core.findings.claims import Claims
from preflight.core.findings.model import Cause
from preflight.core.findings.proven import Proof, prove
from preflight.core.matrix import Matrix
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Connection,
    Evidence,
    Family,
    Leg,
    Node,
    Outcome,
    Place,
    Verdict,
)
from preflight.core.model import Cause as CellCause
from preflight.core.tables import (
    Forbidden,
    Gateway,
    Held,
    Hop,
    NextHop,
    Tables,
    Trail,
    Unused,
    questions,
    read,
)

V4, V6 = Family.IPV4, Family.IPV6
NODES = tuple(
    Node(f"n{i}", (f"10.0.{i // 3}.{i}", f"fd00::{i}"), f"10.0.{i // 3}.{i}") for i in range(1, 5)
)
MACS = {i: f"02:00:00:00:00:0{i + 1}" for i in range(4)}
WRONG = "02:00:00:00:aa:aa"
FORWARD = (Verdict.BLOCKED, Leg.FORWARD, Place.PATH, CellCause.DROPPED)
LOST = Outcome(*FORWARD, evidence=Evidence(sent=4, left=4, arrived=0))
STUCK = Outcome(*FORWARD, evidence=Evidence(sent=4, left=0, arrived=0))
REJECTED = LOST._replace(cause=CellCause.REJECTED, rejected_by="10.0.0.254")
LOST_BACK = Outcome(
    Verdict.BLOCKED, Leg.REPLY, Place.PATH, CellCause.DROPPED,
    evidence=Evidence(sent=4, left=4, arrived=4, accepted=4, answered=4, returned=0),
)  # fmt: skip
UNANSWERED = LOST_BACK._replace(
    place=Place.DESTINATION,
    evidence=Evidence(sent=4, left=4, arrived=4, accepted=4, answered=0),
)
TAKEN = Outcome(
    Verdict.BLOCKED, Leg.FORWARD, Place.DESTINATION, CellCause.DROPPED,
    evidence=Evidence(sent=4, left=4, arrived=4, accepted=0),
)  # fmt: skip
NO_ROUTE = Outcome(
    Verdict.BLOCKED, Leg.FORWARD, Place.SOURCE, CellCause.NO_ROUTE, evidence=Evidence(sent=0)
)
REFUSED = Outcome(Verdict.BLOCKED, Leg.FORWARD, Place.SOURCE, CellCause.REJECTED)
UNFOUND = STUCK._replace(cause=CellCause.NO_NEIGHBOUR)
NO_AGENT = Outcome(Verdict.UNKNOWN, cause=CellCause.NO_AGENT, evidence=Evidence(sent=4, left=4))
OPEN = Outcome(Verdict.OPEN)
EVERY = (
    LOST,
    STUCK,
    REJECTED,
    LOST_BACK,
    UNANSWERED,
    TAKEN,
    NO_ROUTE,
    REFUSED,
    UNFOUND,
    NO_AGENT,
    OPEN,
)
NOTHING = Tables((), (), None, (), (), ())


def matrix(
    bad: dict[tuple[int, int], Outcome | tuple[Outcome, ...]],
    nodes: tuple[Node, ...] = NODES,
    families: tuple[Family, ...] = (V4,),
) -> Matrix:
    """Open but for those pairs: one outcome for each probe, or the same for all."""
    made = Matrix(nodes, (GENEVE, HEALTH, ECHO), families)
    for f in range(len(families)):
        for pair in permutations(range(len(nodes)), 2):
            told = bad.get(pair, OPEN)
            for p in range(3):
                made.set(made.index(f, p, *pair), told[p] if type(told) is tuple else told)
    return made


def dead(source: int, destination: int) -> dict[tuple[int, int], Any]:
    """Nothing comes from one to the other, answers included."""
    back = (OPEN, LOST_BACK, LOST_BACK)
    return {(source, destination): LOST, (destination, source): back}


def hop(peer: int = 1, *, mac: str = WRONG, permanent: bool = True, **rest: Any) -> Hop:
    """To a node on the link."""
    plain = Hop(V4, peer, NODES[peer].address, "eth0", mac, permanent, False)
    return plain._replace(**rest)


def trail(peer: int = 2, **rest: Any) -> Trail:
    """By a gateway that is no node."""
    prefix = NODES[peer].address
    words = f"{prefix} via 10.9.9.1 dev {rest.get('device', 'eth0')}"
    command = "ip route del " + words.replace(prefix, prefix + "/32")
    plain = Trail(V4, peer, "unicast", "10.9.9.1", "eth0", True, words, command, "", 1 << peer)
    return plain._replace(**rest)


def answers(**own: Tables) -> dict[int, Tables]:
    """Those of all nodes with their MAC addresses; `n1=Tables` is another one's."""
    plain = {i: NOTHING._replace(macs=frozenset({MACS[i]})) for i in range(4)}
    for name, told in own.items():
        position = int(name[1:]) - 1
        plain[position] = told._replace(macs=plain[position].macs)
    return plain


def proof(made: Matrix, tables: dict[int, Tables], astray: Any = None) -> Proof:
    return prove(Claims(made), tables, astray or {})


# --- neighbours ----------------------------------------------------------------------------------


def test_a_permanent_entry_with_a_mac_that_the_destination_does_not_have() -> None:
    made = matrix(dead(0, 1))
    found, rest, *_ = proof(made, answers(n1=NOTHING._replace(hops=(hop(),))))
    (one,) = found
    assert (one.cause, one.cells, one.nodes) == (Cause.NEIGHBOUR, 5, (0,))
    assert one.where == "n1 → n2 (UDP 6081); n1 ↔ n2 (TCP 4240 and ICMP echo)"
    assert [c.commands for c in one.changes] == [("ip neigh del 10.0.0.2 dev eth0",)]
    assert rest == []


INNOCENT = {
    "it arrives by another probe": (
        matrix({(0, 1): (LOST, LOST, OPEN)}), NOTHING._replace(hops=(hop(),))
    ),
    "an answer comes back": (
        matrix({(0, 1): LOST, (1, 0): OPEN._replace(evidence=Evidence(returned=4))}),
        NOTHING._replace(hops=(hop(),)),
    ),
    "nobody watched where it was to arrive": (
        matrix({(0, 1): LOST._replace(evidence=Evidence(sent=4, left=4))}),
        NOTHING._replace(hops=(hop(),)),
    ),
    "it never left": (matrix({(0, 1): STUCK}), NOTHING._replace(hops=(hop(),))),
    "it is the destination's": (
        matrix(dead(0, 1)), NOTHING._replace(hops=(hop(mac=MACS[1]),))
    ),
    "a router in between": (
        matrix(dead(0, 1)), NOTHING._replace(hops=(hop(address="10.0.0.254"),))
    ),
    "it was learnt, and other addresses have it": (
        matrix(dead(0, 1)), NOTHING._replace(hops=(hop(permanent=False, shared=True),))
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", INNOCENT)
def test_whose_entry_is_innocent(why: str) -> None:
    made, own = INNOCENT[why]
    assert proof(made, answers(n1=own)).findings == []


def test_a_destination_that_did_not_tell_its_devices_accuses_nobody() -> None:
    tables = answers(n1=NOTHING._replace(hops=(hop(),)))
    for lacking in ({0: tables[0]}, {**tables, 1: NOTHING}):
        assert proof(matrix(dead(0, 1)), lacking).findings == []


def test_a_learnt_entry_is_told_as_it_is_seen() -> None:
    made = matrix(dead(0, 1))
    (one,) = proof(made, answers(n1=NOTHING._replace(hops=(hop(permanent=False),)))).findings
    assert one.title == "n1 → n2: another machine answers for the address 10.0.0.2"
    assert (one.nodes, one.changes) == ((), ())
    assert "proxy ARP" in one.advice


def test_one_machine_replaced_is_one_finding() -> None:
    """Two nodes have the same wrong entry, and a third one of its own."""
    made = matrix({**dead(0, 2), **dead(1, 2), **dead(3, 0)})
    found = proof(
        made,
        answers(
            n1=NOTHING._replace(hops=(hop(2),)),
            n2=NOTHING._replace(hops=(hop(2),)),
            n4=NOTHING._replace(hops=(hop(0, mac=MACS[1]),)),
        ),
    ).findings
    assert [f.nodes for f in found] == [(0, 1), (3,)]
    assert f"{MACS[1]} is n2's own" in found[1].evidence


def gateway(mac: str, permanent: bool, peers: int = 0b1100) -> Gateway:
    return Gateway(V4, "10.0.0.254", "eth0", mac, permanent, peers)


AWAY = {**dead(0, 2), **dead(0, 3)}


def test_a_gateways_permanent_entry_and_a_witness() -> None:
    tables = answers(
        n1=NOTHING._replace(gateways=(gateway(WRONG, permanent=True),)),
        n2=NOTHING._replace(gateways=(gateway(MACS[3], permanent=False),)),
    )
    (one,) = proof(matrix(AWAY), tables).findings
    assert (one.cause, one.cells, one.nodes) == (Cause.NEIGHBOUR, 10, (0,))
    assert "VRRP" in one.advice


GATEWAYS = {
    "learnt": (AWAY, gateway(WRONG, permanent=False), gateway(MACS[3], permanent=False)),
    "the same": (AWAY, gateway(WRONG, permanent=True), gateway(WRONG, permanent=False)),
    "no witness": (AWAY, gateway(WRONG, permanent=True), None),
    "a witness that gets nothing through": (
        {**AWAY, **dead(1, 2), **dead(1, 3)}, gateway(WRONG, permanent=True),
        gateway(MACS[3], permanent=False),
    ),
    "something gets through": (
        dead(0, 2), gateway(WRONG, permanent=True), gateway(MACS[3], permanent=False)
    ),
    "a router speaks": (
        {**AWAY, (0, 3): REJECTED}, gateway(WRONG, permanent=True),
        gateway(MACS[3], permanent=False),
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", GATEWAYS)
def test_a_gateway_whose_entry_is_innocent(why: str) -> None:
    bad, own, other = GATEWAYS[why]
    tables = answers(
        n1=NOTHING._replace(gateways=(own,)),
        n2=NOTHING._replace(gateways=(other,) if other else ()),
    )
    assert proof(matrix(bad), tables).findings == []


# --- addresses -----------------------------------------------------------------------------------

HELD = NOTHING._replace(held=(Held(0, NODES[0].address, 32, "lo"),))
BETWEEN = {(0, 2): TAKEN, (2, 0): REFUSED}


def test_a_duplicate_explains_what_is_lost_between_the_two_and_no_more() -> None:
    made = matrix({**BETWEEN, (1, 0): LOST, (1, 2): LOST})
    found, rest, *_ = proof(made, answers(n3=HELD))
    (one,) = found
    assert (one.title, one.cells) == ("n1's address 10.0.0.1 is also configured on n3", 6)
    assert [c.commands for c in one.changes] == [("ip addr del 10.0.0.1/32 dev lo",)]
    assert sum(group.cells for group in rest) == 6


@pytest.mark.parametrize(("family", "cells"), [(V4, 6), (V6, 3)])
def test_what_never_arrives_dies_of_a_duplicate_over_ipv4_alone(family: Family, cells: int) -> None:
    """Over IPv6 a node takes in what bears an address of its own."""
    address = NODES[0].address_in(family)
    assert address is not None
    held = NOTHING._replace(held=(Held(0, address, 64, "lo"),))
    made = matrix({(0, 2): LOST, (2, 0): REFUSED}, families=(family,))
    found, rest, *_ = proof(made, answers(n3=held))
    assert (found[0].cells, sum(group.cells for group in rest)) == (cells, 6 - cells)


def test_what_came_to_a_holder_was_not_translated() -> None:
    told = proof(matrix(BETWEEN), answers(n3=HELD))
    astray = {2: {(17, NODES[0].address)}, 3: {(17, NODES[1].address)}}
    assert told.astray(astray) == {3: astray[3]}
    here, there = (2, NODES[0].address), (3, NODES[0].address)
    assert told.sources({here: {1}, there: {1}}) == {there: {1}}


@pytest.mark.parametrize(("sender", "cells"), [(NODES[1].address, 9), (NODES[2].address, 6)])
def test_what_others_lose_is_explained_where_it_came_to_the_other_holder(
    sender: str, cells: int
) -> None:
    """What the holder sends to itself proves nothing of others."""
    made = matrix({**BETWEEN, (1, 0): LOST, (3, 0): REFUSED})
    (one,) = proof(made, answers(n3=HELD), {2: {(17, sender)}}).findings
    assert one.cells == cells


def test_an_owner_that_cannot_be_reached_is_not_said_to_have_it() -> None:
    bad = {pair: NO_AGENT for pair in permutations(range(4), 2) if 0 in pair}
    tables = answers(n3=HELD)
    del tables[0]
    (one,) = proof(matrix({**bad, (2, 0): REFUSED}), tables, {2: {(17, "10.0.0.2")}}).findings
    assert one.title == "n1's address 10.0.0.1 is configured on n3"
    assert "correct the inventory" in one.advice
    assert one.cells == 18
    elsewhere = tuple(
        Node(n.name, n.addresses, "mgmt.example", connection=Connection.SSH) for n in NODES
    )
    made = matrix({**bad, (2, 0): REFUSED}, elsewhere)
    (one,) = proof(made, tables, {2: {(17, "10.0.0.2")}}).findings
    assert one.cells == 9  # why there is no agent is another story


def test_two_that_have_each_others_addresses_may_be_one_machine() -> None:
    there = NOTHING._replace(held=(Held(2, NODES[2].address, 24, "eth0"),))
    (one,) = proof(matrix(BETWEEN), answers(n1=there, n3=HELD)).findings
    assert (one.nodes, one.changes) == ((0, 2), ())


def test_what_kube_proxy_holds_is_not_for_a_command() -> None:
    held = NOTHING._replace(held=(Held(0, NODES[0].address, 32, "kube-ipvs0"),))
    (one,) = proof(matrix(BETWEEN), answers(n3=held)).findings
    assert one.changes == ()
    assert "find the service" in one.advice


def test_a_duplicate_that_costs_nothing_is_not_told() -> None:
    assert proof(matrix({(1, 3): LOST}), answers(n3=HELD)).findings == []


def test_an_address_that_is_not_used_yet() -> None:
    own = NOTHING._replace(unused=(Unused(NODES[0].addresses[1], "tentative", 64, ""),))
    made = matrix({(1, 0): LOST, (0, 1): LOST, (0, 2): TAKEN}, families=(V6,))
    (one,) = proof(made, answers(n1=own)).findings
    assert one.title == "n1 does not use its own address fd00::1: it is still tentative"
    assert (one.cells, one.changes) == (6, ())


def test_an_address_that_a_node_does_not_have() -> None:
    """Nothing is known of it over that family, and what others send there may find nobody."""
    own = NOTHING._replace(unused=(Unused(NODES[0].addresses[1], "missing", 0, ""),))
    made = matrix({(1, 0): UNFOUND, (0, 1): NO_AGENT, (3, 0): NO_AGENT}, families=(V6,))
    found, rest, *_ = proof(made, answers(n1=own))
    assert [(f.title, f.cells) for f in found] == [("n1 does not have its own address fd00::1", 9)]
    assert "disable_ipv6" in found[0].advice
    assert rest == []


# --- routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("back", "cells"), [("local", 5), ("", 5), ("EXDEV", 8)])
def test_what_comes_in_dies_of_a_route_only_where_the_kernel_says_so(back: str, cells: int) -> None:
    way = Forbidden(V4, 1, 0, 0, "blackhole 10.0.0.2", "ip route del blackhole 10.0.0.2/32", back)
    answered = (TAKEN, UNANSWERED, UNANSWERED) if cells == 5 else TAKEN
    made = matrix({(0, 1): NO_ROUTE, (1, 0): answered, (2, 0): UNANSWERED})
    (one,) = proof(made, answers(n1=NOTHING._replace(forbidden=(way,)))).findings
    assert one.cells == (cells if cells == 5 else 6)


def test_a_rule_for_one_port_explains_that_alone() -> None:
    way = Forbidden(V4, 1, 17, 6081, "9: from all blackhole", "ip rule del pref 9 blackhole", "")
    made = matrix({(0, 1): NO_ROUTE, (1, 0): (OPEN, UNANSWERED, OPEN)})
    found, rest, *_ = proof(made, answers(n1=NOTHING._replace(forbidden=(way,))))
    assert [(f.cells, f.title) for f in found] == [
        (1, "n1: its own routing rule `9: from all blackhole` throws away UDP 6081 to n2")
    ]
    assert sum(group.cells for group in rest) == 3


# --- trails --------------------------------------------------------------------------------------


def test_a_next_hop_that_is_a_node_which_does_not_forward() -> None:
    way = trail(gateway=NODES[1].address)
    own = answers(n1=NOTHING._replace(trails=(way,)), n2=NOTHING._replace(forwards=frozenset({V6})))
    made = matrix({**dead(0, 2), (0, 3): LOST})
    found, rest, *_ = proof(made, own)
    assert [(f.cause, f.cells, f.nodes) for f in found] == [(Cause.ROUTE, 5, (0,))]
    assert sum(group.cells for group in rest) == 3


SILENT = {(0, 2): UNFOUND, (2, 0): (OPEN, UNANSWERED, UNANSWERED)}
ELSEWHERE = trail(gateway="", device="br-1", own=False, beside=0b1100)


@pytest.mark.parametrize(
    ("back", "cells", "where"),
    [
        ("local", 5, "n1 → n3 (UDP 6081); n1 ↔ n3 (TCP 4240 and ICMP echo)"),
        ("EXDEV", 6, "n1 ↔ n3"),
    ],
)
def test_a_silent_device(back: str, cells: int, where: str) -> None:
    bad = {**SILENT, (2, 0): UNANSWERED} if cells == 6 else SILENT
    own = answers(n1=NOTHING._replace(trails=(ELSEWHERE._replace(back=back),)))
    (one,) = proof(matrix({**bad, (0, 3): UNFOUND}), own).findings
    assert (one.cause, one.cells, one.where) == (Cause.ROUTE, cells, where)


ASTRAY: dict[str, tuple[Any, Trail]] = {
    "the next hop forwards": (dead(0, 2), trail(gateway=NODES[3].address)),
    "the next hop told nothing": (dead(0, 2), trail(gateway="10.0.0.9")),
    "something arrived": ({(0, 2): (LOST, LOST, OPEN)}, trail(gateway=NODES[1].address)),
    "it is the next hop itself": (dead(0, 1), trail(1, gateway=NODES[1].address)),
    "on its own link": (SILENT, trail(gateway="")),
    "another one answers there": (SILENT, ELSEWHERE),
    "nobody else is reached": (
        {(0, n): UNFOUND for n in (1, 2, 3)} | {(n, 0): UNANSWERED for n in (1, 2, 3)},
        ELSEWHERE._replace(beside=0b0100),
    ),
    "its frames left": (dead(0, 2), ELSEWHERE._replace(beside=0b0100)),
    "its own firewall": ({(0, 2): REFUSED}, ELSEWHERE._replace(beside=0b0100)),
    "a forbidding one": (SILENT, ELSEWHERE._replace(kind="blackhole", beside=0b0100)),
}


@pytest.mark.parametrize("why", ASTRAY)
def test_whose_route_is_innocent(why: str) -> None:
    bad, way = ASTRAY[why]
    own = answers(n1=NOTHING._replace(trails=(way,)), n2=NOTHING._replace(forwards=frozenset({V6})))
    assert proof(matrix(bad), own).findings == []


def test_a_gateway_that_serves_another_node_is_no_wrong_one() -> None:
    way = trail(gateway="10.9.9.1", beside=0b0100)
    serves = Gateway(V4, "10.9.9.1", "eth0", MACS[3], False, 0b0100)
    own = answers(n1=NOTHING._replace(trails=(way,)))
    assert proof(matrix(SILENT), own).findings
    own[1] = own[1]._replace(gateways=(serves,))
    assert not proof(matrix(SILENT), own).findings
    assert proof(matrix({**SILENT, **dead(1, 2), (2, 1): LOST}), own).findings


def test_a_local_route_is_an_address_of_its_own() -> None:
    way = trail(0, kind="local", gateway="", device="lo", own=False)
    told = proof(matrix(BETWEEN), answers(n3=NOTHING._replace(trails=(way,))))
    (one,) = told.findings
    assert (one.cause, one.cells, one.nodes) == (Cause.ADDRESS, 6, (2,))
    astray = {2: {(17, NODES[0].address)}}
    assert told.astray(astray) == {}
    twice = answers(n3=HELD._replace(trails=(way,)))
    (one,) = proof(matrix(BETWEEN), twice).findings
    assert one.title == "n1's address 10.0.0.1 is also configured on n3"


# --- all of it -----------------------------------------------------------------------------------

peer = st.integers(0, 3)
wild_hops = st.lists(
    st.builds(
        NextHop, st.sampled_from(("", "10.9.9.1", NODES[1].address)), st.just("eth0"),
        st.sampled_from(("", MACS[1], WRONG)), st.booleans(), st.booleans(), st.just(""),
    ),
    max_size=3,
).map(tuple)  # fmt: skip
wild_tables = st.builds(
    Tables,
    held=st.lists(peer.map(lambda p: Held(p, NODES[p].address, 32, "lo")), max_size=2).map(tuple),
    unused=st.just(()),
    macs=st.sampled_from((None, frozenset({MACS[1]}), frozenset({WRONG}))),
    hops=st.lists(
        st.builds(hop, peer, permanent=st.booleans(), shared=st.booleans()), max_size=3
    ).map(tuple),
    gateways=st.lists(
        st.builds(gateway, st.sampled_from((WRONG, MACS[3])), st.booleans(), st.integers(0, 15)),
        max_size=1,
    ).map(tuple),
    forbidden=st.lists(
        st.builds(
            Forbidden, st.just(V4), peer, st.sampled_from((0, 17)), st.sampled_from((0, 6081)),
            st.sampled_from(("blackhole 1", "prohibit 2")), st.just("ip route del x"),
            st.sampled_from(("", "local", "EXDEV")),
        ),
        max_size=2,
    ).map(tuple),
    trails=st.lists(
        st.builds(
            trail, peer, kind=st.sampled_from(("unicast", "local")), own=st.booleans(),
            gateway=st.sampled_from(("", "10.9.9.1", NODES[1].address)),
            device=st.sampled_from(("eth0", "lo")), beside=st.integers(0, 15),
            back=st.sampled_from(("local", "EXDEV")), hops=wild_hops,
        ),
        max_size=3,
    ).map(tuple),
    forwards=st.sampled_from((frozenset(), frozenset({V4}))),
    lengths=st.sampled_from(((), ((V4, 24),), ((V4, 16),), ((V4, 24), (V4, 32)))),
)  # fmt: skip


@CALM
@given(
    bad=st.dictionaries(
        st.tuples(peer, peer).filter(lambda pair: pair[0] != pair[1]),
        st.tuples(*[st.sampled_from(EVERY)] * 3),
        max_size=8,
    ),
    tables=st.dictionaries(peer, wild_tables),
    astray=st.dictionaries(peer, st.sets(st.sampled_from([(17, n.address) for n in NODES]))),
)
def test_every_bad_cell_is_in_one_place_and_no_open_one(
    bad: Any, tables: dict[int, Tables], astray: Any
) -> None:
    made = matrix(bad)
    found, rest, *_ = proof(made, tables, astray)
    told: Counter[tuple[int, int, int]] = Counter()
    for block in [block for one in (*[f.blocks for f in found], rest) for block in one]:
        ways = [(block.sources, block.destinations)]
        ways += [ways[0][::-1]] if block.both_ways else []
        pairs = {(s, d) for here, there in ways for s in here for d in there if s != d}
        told.update((test.probe, *pair) for test in block.tests for pair in pairs)
    wanted = {
        (p, *pair) for pair, outcomes in bad.items() for p, o in enumerate(outcomes) if o != OPEN
    }
    assert told == dict.fromkeys(wanted, 1)
    assert sum(f.cells for f in found) + sum(g.cells for g in rest) == len(wanted)


def test_nodes_are_asked_of_what_is_dead_alone() -> None:
    claims = Claims(matrix({**dead(0, 1), (2, 3): NO_ROUTE, (3, 0): (LOST, OPEN, OPEN)}))
    asked = questions(claims.matrix, list(claims.ways.values()), {0, 2, 3})
    assert {n: frame["to"] for n, frame in asked.items()} == {
        0: {"4": [1]}, 2: {"4": []}, 3: {"4": []}
    }  # fmt: skip
    assert asked[2]["forbidden"] == {"4": [3]}
    assert asked[0]["probes"] == {"4": [[17, 6081], [6, 4240], [1, 0]]}


# --- reading -------------------------------------------------------------------------------------

FRAME: dict[str, Any] = {
    "held": [[1, "10.0.0.2", 32, "lo"]],
    "unused": [["fd00::1", "dadfailed", 64, "eth0"]],
    "macs": [WRONG],
    "hops": [[4, 1, "10.0.0.2", "eth0", WRONG, True, False]],
    "gateways": [[4, "10.0.0.254", "eth0", WRONG, False, "c"]],
    "forbidden": [[4, 1, 0, 0, "blackhole 10.0.0.2", "ip route del blackhole 10.0.0.2/32", ""]],
    "trails": [
        [4, 1, "unicast", "10.9.9.1", "br-1", False, "10.0.0.2 via 10.9.9.1 dev br-1",
         "ip route del 10.0.0.2/32 via 10.9.9.1 dev br-1", "local", "a",
         [["10.9.9.1", "br-1", WRONG, False, True, ""]],
         ["9: from all lookup 100", "ip rule del pref 9 lookup 100"]]
    ],
    "forwards": [6],
    "lengths": [[4, 24]],
}  # fmt: skip


def test_an_answer_is_read() -> None:
    told = read(FRAME, NODES)
    assert told.gateways[0].peers == 0b1100
    assert told.hops == (hop(),)
    by = {"rule": "9: from all lookup 100", "unrule": "ip rule del pref 9 lookup 100"}
    via = NextHop("10.9.9.1", "br-1", WRONG, False, True, "")
    way = trail(1, device="br-1", own=False, back="local", beside=0b1010, hops=(via,), **by)
    assert told.trails == (way,)
    assert told.lengths == ((V4, 24),)
    assert told.forwards == {V6}


@pytest.mark.parametrize(
    ("member", "row"),
    [
        ("held", [[1, "10.0.0.9", 32, "lo"]]),
        ("held", [[4, "10.0.0.2", 32, "lo"]]),
        ("hops", [[4, -1, "10.0.0.2", "eth0", WRONG, True, False]]),
        ("hops", [[4, 1, "10.0.0.2", "eth0", "x; reboot", True, False]]),
        ("hops", [[4, 1, "fe80::1%eth0;x", "eth0", WRONG, True, False]]),
        ("unused", [["fd00::1", "\033[2J", 64, "eth0"]]),
        ("trails", [[4, 9, "unicast", "", "br-1", False, "x dev br-1", "", "", "0", [], []]]),
        ("trails", [[4, 1, "a\033b", "", "br-1", False, "x dev br-1", "", "", "0", [], []]]),
        ("trails", [[4, 1, "unicast", "$(reboot)", "br-1", False, "x", "", "", "0", [], []]]),
        ("trails", [[4, 1, "unicast", "", "b", False, "x", "", "", "0", [], ["9: a", "ip a; b"]]]),
        ("trails", [[4, 1, "unicast", "", "b", False, "x", "", "", "0", [], ["$(reboot)", "x"]]]),
        (
            "trails",
            [
                [
                    4,
                    1,
                    "unicast",
                    "",
                    "b",
                    False,
                    "x",
                    "",
                    "",
                    "0",
                    [["$(x)", "b", "", 0, 1, ""]],
                    [],
                ]
            ],
        ),
        (
            "trails",
            [
                [
                    4,
                    1,
                    "unicast",
                    "",
                    "b",
                    False,
                    "x",
                    "",
                    "",
                    "0",
                    [["", "b", "$(x)", 0, 1, ""]],
                    [],
                ]
            ],
        ),
        ("lengths", [[4, 33]]),
        ("lengths", [[6, 129]]),
        ("lengths", [[4, "24; reboot"]]),
        ("forbidden", [[4, 1, 0, 0, "blackhole 1", "ip route del 1; reboot", ""]]),
        ("forbidden", [[4, 1, 0, 0, "blackhole 1", "ip route del $(reboot)", ""]]),
        ("forbidden", [[4, 1, 0, 0, "black\nhole", "ip route del 1", ""]]),
        ("forbidden", [[4, 1, 0, 0, "blackhole 1", "ip route del 1", "a\033b"]]),
    ],
)
def test_what_makes_no_sense_is_refused(member: str, row: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        read({**FRAME, member: row}, NODES)


def test_a_next_hop_with_an_unusual_name_is_in_no_command() -> None:
    row = list(FRAME["trails"][0])
    for hop in (["10.9.9.1", "e;reboot", "", 0, 1, "ip route del x dev e;reboot"],
                ["10.9.9.1", "eth0", "", 0, 1, "ip route replace x; reboot"]):  # fmt: skip
        row[3], row[4], row[10] = "", "", [hop, hop]
        assert "reboot" not in repr(read({**FRAME, "trails": [row]}, NODES))


@pytest.mark.parametrize("at", [4, 6, 7])
def test_a_route_with_an_unusual_name_is_in_no_words_and_no_command(at: int) -> None:
    row = list(FRAME["trails"][0])
    row[at] += "; reboot"
    assert "reboot" not in repr(read({**FRAME, "trails": [row]}, NODES))


def test_a_device_with_an_unusual_name_is_in_no_command() -> None:
    told = read({**FRAME, "hops": [[4, 1, "10.0.0.2", "e;reboot", WRONG, True, False]]}, NODES)
    (one,) = proof(matrix(dead(0, 1)), answers(n1=told._replace(held=(), unused=()))).findings[-1:]
    assert "reboot" not in repr(one)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@CALM
@given(member=st.sampled_from(sorted(FRAME)), value=json)
def test_nothing_that_a_node_says_is_a_bug_of_ours(member: str, value: Any) -> None:
    """These are what `Chorus.ask` takes for an answer that makes no sense."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError):
        read({**FRAME, member: value}, NODES)
