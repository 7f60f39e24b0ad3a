"""Next hops that are nodes by their MAC address, routes of several, and prefixes that are too wide:
who is named, with what to do, and who is not.
"""

from __future__ import annotations

from typing import Any

import pytest
from test_tables import (
    LOST,
    LOST_BACK,
    MACS,
    NODES,
    NOTHING,
    OPEN,
    STUCK,
    UNANSWERED,
    UNFOUND,
    V4,
    V6,
    WRONG,
    answers,
    dead,
    matrix,
    proof,
    trail,
)

from preflight.agent import links
from preflight.agent.route import Routes
from preflight.core.diagnosis.conclusions import Diagnosis, Path, Router
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.claims import Claims
from preflight.core.findings.detours import detours
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import groups
from preflight.core.model import Evidence, Verdict
from preflight.core.tables import NextHop, Tables, Trail
from preflight.lab import Lab

ROUTER = "10.0.0.254"
PASSIVE = NOTHING._replace(forwards=frozenset())
FIRST, SECOND = (0, 2), (2, 0)


def hop(address: str, mac: str = "", **rest: Any) -> NextHop:
    """That packets may take."""
    plain = NextHop(address, "eth0", mac, False, True, f"ip route replace X via not-{address}")
    return plain._replace(**rest)


def by(address: str, mac: str, **rest: Any) -> Trail:
    """One next hop."""
    return trail(gateway=address, hops=(hop(address, mac),), **rest)


def spread(*hops: NextHop, peer: int = 2, **rest: Any) -> Trail:
    """A route of several."""
    plain = {"gateway": "", "device": "", "own": False, "hops": hops, "words": "10.0.1.0/24"}
    return trail(peer, **{**plain, **rest})


# --- next hops that are nodes by their MAC address -----------------------------------------------


def test_a_next_hop_is_told_by_its_mac_address() -> None:
    way = by("10.0.0.77", MACS[1])
    (one,) = proof(
        matrix(dead(*FIRST)), answers(n1=NOTHING._replace(trails=(way,)), n2=PASSIVE)
    ).findings
    assert one.title.endswith("sends what is for n3 to n2, which forwards nothing")
    shown = f"`ip neigh` on n1: 10.0.0.77 lladdr {MACS[1]}, which is n2's own"
    assert any(shown in line for line in one.evidence)
    assert [c.commands for c in one.changes] == [(way.command,)]


STRANGERS = {
    "nobody's": (by("10.0.0.77", WRONG), {}),
    "not known": (by("10.0.0.77", ""), {}),
    "two have it": (by("10.0.0.77", MACS[1]), {3: frozenset({MACS[1], MACS[3]})}),
    "it forwards": (by("10.0.0.77", MACS[3]), {}),
    "the peer's own": (by("10.0.0.77", MACS[2]), {}),
}  # fmt: skip


@pytest.mark.parametrize("why", STRANGERS)
def test_whose_mac_address_accuses_nobody(why: str) -> None:
    way, more = STRANGERS[why]
    tables = answers(n1=NOTHING._replace(trails=(way,)), n2=PASSIVE, n3=PASSIVE)
    for node, macs in more.items():
        tables[node] = tables[node]._replace(macs=macs)
    assert proof(matrix(dead(*FIRST)), tables).findings == []


def test_one_link_local_address_is_another_node_on_another_link() -> None:
    own = {node: by("fe80::1", MACS[hop], words="default via fe80::1 dev eth0")._replace(
        family=V6, peer=peer) for node, hop, peer in ((0, 1, 2), (2, 3, 0))}  # fmt: skip
    tables = answers(n2=PASSIVE, n4=PASSIVE)
    for node, way in own.items():
        tables[node] = tables[node]._replace(trails=(way,))
    bad = {(0, 2): LOST, (2, 0): LOST}
    found = proof(matrix(bad, families=(V6,)), tables).findings
    assert [one.title.rpartition(" to ")[2] for one in found] == [
        "n2, which forwards nothing", "n4, which forwards nothing",
    ]  # fmt: skip


@pytest.mark.parametrize("by_ra", [True, False])
def test_a_default_route_that_a_router_advertisement_made(by_ra: bool) -> None:
    words = f"default via fe80::2 dev eth0{' proto ra' if by_ra else ''} metric 1024"
    command = "ip -6 route del default via fe80::2 dev eth0 metric 1024"
    way = by("fe80::2", MACS[1], words=words, command=command)._replace(family=V6)
    tables = answers(n1=NOTHING._replace(trails=(way,)), n2=PASSIVE)
    (one,) = proof(matrix(dead(*FIRST), families=(V6,)), tables).findings
    assert [c.commands for c in one.changes] == [(command,)]
    assert ("net.ipv6.conf.eth0.accept_ra=0" in one.advice) is by_ra
    assert bool(one.changes[0].persist) is not by_ra
    assert "if there is no other" in one.advice


def test_a_default_route_is_not_to_be_removed_where_its_next_hop_is_silent() -> None:
    words = "default via 10.9.9.1 dev eth0"
    way = trail(words=words, command=f"ip route del {words}", beside=0b0100)
    bad = {FIRST: UNFOUND, SECOND: (OPEN, UNANSWERED, UNANSWERED)}
    (one,) = proof(matrix(bad), answers(n1=NOTHING._replace(trails=(way,)))).findings
    assert one.changes == ()


def test_a_rule_that_leads_to_the_table_is_named() -> None:
    way = by(
        NODES[1].address, "", words="default via 10.0.0.2 dev eth0 table 100",
        command="ip route del default via 10.0.0.2 dev eth0 table 100",
        rule="9: from all to 10.0.1.0/24 lookup 100",
        unrule="ip rule del pref 9 to 10.0.1.0/24 lookup 100",
    )  # fmt: skip
    for told in (way, way._replace(rule="", unrule="")):
        tables = answers(n1=NOTHING._replace(trails=(told,)), n2=PASSIVE)
        (one,) = proof(matrix(dead(*FIRST)), tables).findings
        assert "table 100" in one.title
        assert "Give n1 the default route" not in one.advice
        assert (way.unrule in one.advice) is bool(told.rule)
        assert "`ip rule` on n1" in f"{one.evidence}{one.advice}"


# --- routes of several next hops -----------------------------------------------------------------

THINNED = LOST._replace(verdict=Verdict.LOSSY, evidence=Evidence(sent=4, left=4, arrived=2))
THINNED_BACK = LOST_BACK._replace(
    verdict=Verdict.LOSSY,
    evidence=Evidence(sent=4, left=4, arrived=4, accepted=4, answered=4, returned=1),
)
SOME = {FIRST: (LOST, THINNED, OPEN), SECOND: (OPEN, THINNED_BACK, LOST_BACK)}
GOOD = hop(ROUTER, WRONG)
PAIR = (GOOD, hop(NODES[1].address, MACS[1]))


def test_one_of_several_next_hops_that_does_not_forward() -> None:
    tables = answers(n1=NOTHING._replace(trails=(spread(*PAIR),)), n2=PASSIVE)
    found, rest, *_ = proof(matrix(SOME), tables)
    (one,) = found
    assert (one.cause, one.cells, one.nodes) == (Cause.ROUTE, 4, (0,))
    assert one.where == "n1 → n3 (UDP 6081); n1 ↔ n3 (TCP 4240); n3 → n1 (ICMP echo)"
    assert one.title == (
        "n1: its own route `10.0.1.0/24` has several next hops, and n2 (10.0.0.2), one of them, "
        "forwards nothing"
    )
    assert [c.commands for c in one.changes] == [(PAIR[1].command,)]
    assert "10.0.0.254 on eth0 and 10.0.0.2 on eth0" in " ".join(one.evidence)
    assert rest == []


def test_one_of_several_next_hops_that_does_not_answer() -> None:
    """Two routes by it, and what left nobody was lost by another next hop."""
    mute = hop("10.0.0.250", silent=True)
    ways = spread(GOOD, mute), spread(GOOD, mute, peer=3, words="10.0.1.4")
    bad = {FIRST: (UNFOUND, STUCK._replace(place=LOST_BACK.place), OPEN), (0, 3): UNFOUND}
    made = matrix({**bad, SECOND: (OPEN, UNANSWERED, OPEN)})
    found, rest, *_ = proof(made, answers(n1=NOTHING._replace(trails=ways)))
    (one,) = found
    assert "`10.0.1.0/24` and `10.0.1.4` have several next hops, and one of them" in one.title
    assert one.title.endswith("10.0.0.250 on eth0, does not answer ARP")
    assert (one.cells, sum(group.cells for group in rest)) == (5, 1)


SPARED: dict[str, tuple[Any, Trail, Any]] = {
    "its packets do not take it": (SOME, spread(GOOD, PAIR[1]._replace(taken=False)), PASSIVE),
    "it forwards": (SOME, spread(*PAIR), NOTHING),
    "none answers": (
        {FIRST: UNFOUND},
        spread(hop(ROUTER, silent=True), hop("10.0.0.250", silent=True)),
        PASSIVE,
    ),
    "it answers": ({FIRST: UNFOUND}, spread(GOOD, hop("10.0.0.250", WRONG)), PASSIVE),
    "it is the peer": (
        {FIRST: (LOST, OPEN, OPEN)}, spread(GOOD, hop(NODES[2].address, MACS[2])), PASSIVE
    ),
    "all arrived": ({FIRST: UNANSWERED, SECOND: UNANSWERED}, spread(*PAIR), PASSIVE),
}  # fmt: skip


@pytest.mark.parametrize("why", SPARED)
def test_which_of_several_next_hops_is_innocent(why: str) -> None:
    bad, way, other = SPARED[why]
    tables = answers(n1=NOTHING._replace(trails=(way,)), n2=other, n3=PASSIVE)
    assert proof(matrix(bad), tables).findings == []


def test_two_wrong_ones_of_three_have_no_command() -> None:
    """Each would put the other one back."""
    ways = spread(*PAIR, hop("10.0.0.250", silent=True))
    bad = {FIRST: (LOST, UNFOUND, OPEN)}
    tables = answers(n1=NOTHING._replace(trails=(ways,)), n2=PASSIVE)
    found = proof(matrix(bad), tables).findings
    assert [one.changes for one in found] == [(), ()]
    assert "Take 10.0.0.2 out of the route's next hops" in found[0].advice


def test_a_group_of_nexthop_objects_is_named() -> None:
    mine = PAIR[1]._replace(command="")
    way = spread(GOOD, mine, words="10.0.1.0/24 nhid 9")
    (one,) = proof(matrix(SOME), answers(n1=NOTHING._replace(trails=(way,)), n2=PASSIVE)).findings
    assert "`ip nexthop show id 9` on n1" in one.advice


def told(bad: Any, tables: dict[int, Tables]) -> list[Finding]:
    whole = matrix(bad)
    return findings(whole, groups(whole), {}, detours=detours(whole, Claims(whole).ways, tables))


def test_where_none_is_proven_wrong_the_route_is_told_beside_what_is_lost() -> None:
    tables = answers(n1=NOTHING._replace(trails=(spread(*PAIR),)))
    for bad in (dead(*FIRST), {FIRST: (OPEN, OPEN, THINNED)}):
        (one,) = told(bad, tables)
        assert "route `10.0.1.0/24` has 2 next hops" in one.evidence[0]
        assert "of which 10.0.0.2 is n2" in one.evidence[0]
        assert one.advice.startswith("First see each next hop")
        assert all(r.reason.startswith("only if all next hops") for r in one.requests)


def test_where_a_router_answers_behind_the_next_hops_the_rule_is_asked_for() -> None:
    whole = matrix(dead(*FIRST))
    tables = answers(n1=NOTHING._replace(trails=(spread(*PAIR),)))
    path = Path((Router(1, ROUTER),), 2, None, False)
    looks = {0: [Looked(0, 2, Diagnosis(path=path), groups(whole)[0].tests[0])]}
    known = detours(whole, Claims(whole).ways, tables)
    (one,) = findings(whole, groups(whole), looks, detours=known)
    assert "has 2 next hops" in one.evidence[0]
    assert "First see" not in one.advice
    assert not any("next hops" in r.reason for r in one.requests)


def test_cells_that_go_by_another_route_are_not_its() -> None:
    tables = answers(n1=NOTHING._replace(trails=(spread(*PAIR),)))
    (one,) = told({**dead(*FIRST), **dead(0, 3)}, tables)
    assert "next hops" not in f"{one.evidence}{one.advice}"


# --- prefixes that are too wide ------------------------------------------------------------------

WIDE = NOTHING._replace(lengths=((V4, 16),))
RIGHT = NOTHING._replace(lengths=((V4, 24),))
ON_LINK = trail(gateway="", words="10.0.0.0/16 dev eth0 proto kernel", command="")
ASKED = {FIRST: UNFOUND, SECOND: (OPEN, UNANSWERED, UNANSWERED)}
N1 = WIDE._replace(trails=(ON_LINK,))


def test_a_prefix_that_is_too_wide() -> None:
    (one,) = proof(matrix(ASKED), answers(n1=N1, n2=RIGHT, n3=RIGHT)).findings
    assert one.title == (
        "n1: its own address 10.0.0.1/16 makes it take n3 for neighbours on its own link, where "
        "nobody answers ARP"
    )
    assert (one.cause, one.cells, one.nodes) == (Cause.ADDRESS, 5, (0,))
    assert [c.commands for c in one.changes] == [
        ("ip addr add 10.0.0.1/24 dev eth0", "ip addr del 10.0.0.1/16 dev eth0")
    ]
    assert "beside it, on the same link, n2 has 10.0.0.2/24: without n3" in one.evidence


@pytest.mark.parametrize("known", ["n2", "n3"])
def test_either_its_neighbour_or_the_peer_shows_it(known: str) -> None:
    (one,) = proof(matrix(ASKED), answers(n1=N1, **{known: RIGHT})).findings
    assert bool(one.changes) is (known == "n2")


def test_one_wrong_prefix_at_two_nodes_is_one_finding() -> None:
    bad = {**ASKED, (1, 2): UNFOUND, (2, 1): (OPEN, UNANSWERED, UNANSWERED)}
    (one,) = proof(matrix(bad), answers(n1=N1, n2=N1, n3=RIGHT)).findings
    assert one.title.startswith("n1, n2: their own addresses in 10.0.0.0/16 make them take n3")
    assert (one.cells, one.nodes, one.changes) == (10, (0, 1), ())
    assert "as beside it" not in one.advice


UNSUSPECTED: dict[str, tuple[Any, dict[str, Tables]]] = {
    "all have it": (ASKED, {"n1": N1, "n2": WIDE, "n3": WIDE}),
    "nobody else told": (ASKED, {"n1": N1}),
    "a gateway": (ASKED, {"n1": WIDE._replace(trails=(trail(),)), "n2": RIGHT, "n3": RIGHT}),
    "another device": (
        ASKED, {"n1": WIDE._replace(trails=(ON_LINK._replace(own=False),)), "n2": RIGHT}
    ),
    "its own prefix has it not": (
        ASKED, {"n1": RIGHT._replace(trails=(ON_LINK,)), "n2": RIGHT, "n3": RIGHT}
    ),
    "two prefixes": (
        ASKED, {"n1": N1._replace(lengths=((V4, 16), (V4, 24))), "n2": RIGHT, "n3": RIGHT}
    ),
    "somebody answered": (dead(*FIRST), {"n1": N1, "n2": RIGHT, "n3": RIGHT}),
    "another one like the peer is reached": (
        ASKED, {"n1": N1, "n2": RIGHT, "n3": RIGHT, "n4": RIGHT}
    ),
    "its neighbour is not reached": (
        {**ASKED, (0, 1): LOST, (1, 0): LOST}, {"n1": N1, "n2": RIGHT}
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", UNSUSPECTED)
def test_whose_prefix_is_innocent(why: str) -> None:
    bad, tables = UNSUSPECTED[why]
    found = proof(matrix(bad), answers(**tables)).findings
    assert not any(one.cause is Cause.ADDRESS for one in found)


# --- the agent's own word ------------------------------------------------------------------------

_SETUP = """
ip neigh replace $gw lladdr 02:00:00:00:aa:aa dev eth0 nud reachable
ip route add 203.0.113.0/25 proto static metric 5 nexthop via $gw weight 2 nexthop via $mute
ip route add 203.0.113.128/26 nexthop via $gw nexthop via $mute nexthop via $other
ip nexthop add id 71 via $gw dev eth0
ip nexthop add id 72 via $mute dev eth0
ip nexthop add id 70 group 71/72
ip route add 203.0.113.192/26 nhid 70
ip route add 198.51.100.0/25 nhid 71
ip route add default via $gw dev eth0 table 100 metric 7
ip rule add pref 77 to 198.51.100.128/25 lookup 100
ip -6 route add 2001:db8::/64 metric 9 nexthop via $gw6 dev eth0 nexthop via $mute6 dev eth0
ip neigh replace $mute dev eth0 nud failed
"""
_UNDO = """
ip route flush root 203.0.113.0/24
ip route flush table 100
ip route flush root 198.51.100.0/24
ip rule del pref 77
ip nexthop flush id 70
ip nexthop del id 70
ip nexthop del id 71
ip nexthop del id 72
ip -6 route flush root 2001:db8::/64
ip neigh flush dev eth0
true
"""


def _asked(lab: Lab, address: str, family: int) -> list[Any]:
    """What n1 tells of its way to an address."""
    node = lab.node("n1")
    own = {4: node.addresses[0], 6: node.addresses[1]}
    peers = {4: ["", ""], 6: ["", ""]}
    peers[family] = [own[family], address]
    frame = {
        "number": 1, "to": {}, "forbidden": {}, "trails": {str(family): [1]}, "probes": {},
        "macs": True,
    }  # fmt: skip

    def ask() -> list[Any]:
        routes = Routes()
        try:
            (row,) = links.answer(frame, peers, own, routes)["trails"]
        finally:
            routes.close()
        return list(row)

    return lab.call("n1", ask)


@pytest.mark.lab
def test_an_agent_tells_next_hops_tables_and_commands_that_the_kernel_takes(lab4: Lab) -> None:
    gateway, gateway6 = (str(g.ip) for g in lab4.node("n1").gateways)
    base, base6 = gateway.rpartition(".")[0], gateway6.rpartition(":")[0]
    names = {
        "$gw6": gateway6, "$mute6": f"{base6}:fa", "$gw": gateway, "$mute": f"{base}.250",
        "$other": f"{base}.251",
    }  # fmt: skip

    def filled(script: str) -> str:
        for name, value in names.items():
            script = script.replace(name, value)
        return script

    def replace(address: str, family: int, at: int) -> list[Any]:
        """The route when the command of its next hop has been run."""
        lab4.run("n1", *_asked(lab4, address, family)[10][at][5].split())
        return _asked(lab4, address, family)

    try:
        lab4.run("n1", "sh", "-ec", filled(_SETUP))
        row = _asked(lab4, "203.0.113.9", 4)
        assert row[2:7] == ["unicast", "", "", False, "203.0.113.0/25 proto static metric 5"]
        assert [one[:4] for one in row[10]] == [
            [gateway, "eth0", "02:00:00:00:aa:aa", False], [names["$mute"], "eth0", "", True]
        ]  # fmt: skip
        assert any(one[4] for one in row[10])
        row = replace("203.0.113.9", 4, 1)
        assert row[6] == f"203.0.113.0/25 via {gateway} dev eth0 proto static metric 5"
        row = replace("203.0.113.129", 4, 1)
        assert [one[0] for one in row[10]] == [gateway, names["$other"]]
        row = _asked(lab4, "203.0.113.200", 4)
        assert (row[6], [one[5] for one in row[10]]) == ("203.0.113.192/26 nhid 70", ["", ""])
        row = _asked(lab4, "198.51.100.1", 4)
        assert row[6] == f"198.51.100.0/25 nhid 71 via {gateway} dev eth0"
        lab4.run("n1", *row[7].split())
        assert _asked(lab4, "198.51.100.1", 4)[6].startswith("default via")
        row = _asked(lab4, "198.51.100.129", 4)
        assert row[6] == f"default via {gateway} dev eth0 table 100 metric 7"
        assert row[11] == [
            "77: from all to 198.51.100.128/25 lookup 100",
            "ip rule del pref 77 to 198.51.100.128/25 lookup 100",
        ]
        lab4.run("n1", *row[11][1].split())
        assert " table " not in _asked(lab4, "198.51.100.129", 4)[6]
        row = _asked(lab4, "2001:db8::1", 6)
        assert row[10][1][5].startswith("ip -6 route del 2001:db8::/64 via ")
        row = replace("2001:db8::1", 6, 1)
        assert [one[0] for one in row[10]] == [gateway6]
        row = _asked(lab4, lab4.node("n2").addresses[0], 4)
        assert (row[3], [one[0] for one in row[10]]) == ("", [""])
    finally:
        lab4.run("n1", "sh", "-c", filled(_UNDO))
