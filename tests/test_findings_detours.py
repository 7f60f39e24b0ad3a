"""What goes by another node, or by a gateway that one node alone has, and gets no further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from test_tables import LOST, MACS, NODES, NOTHING, V4, answers, dead, matrix, trail

from preflight.core.diagnosis.conclusions import Diagnosis, Path, Router
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.claims import Claims
from preflight.core.findings.detours import detours
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import groups
from preflight.core.model import Verdict
from preflight.core.tables import Gateway, NextHop, Tables, Trail

HOP = "10.9.9.1"
USUAL = Gateway(V4, "10.0.0.254", "eth0", MACS[3], False, 0b1000)
N1 = NOTHING._replace(trails=(trail(gateway=HOP),), gateways=(USUAL,))
BY_N2 = NOTHING._replace(trails=(trail(gateway=NODES[1].address),))


def path(*routers: str) -> Path:
    """Nothing answers behind these."""
    told = tuple(Router(ttl, address) for ttl, address in enumerate(routers, 1))
    return Path(told, len(told) + 1 if told else None, None, False)


def told(tables: dict[int, Tables], paths: Sequence[Path], **bad: Any) -> list[Finding]:
    whole = matrix({**dead(0, 2), **bad.get("more", {})})
    bad_groups = groups(whole)
    looks = {0: [Looked(0, 2, Diagnosis(path=one), bad_groups[0].tests[0]) for one in paths]}
    known = detours(whole, Claims(whole).ways, tables)
    return findings(whole, bad_groups, looks, detours=known)


def test_a_gateway_of_its_own_is_named_with_the_route() -> None:
    (one,) = told(answers(n1=N1), [path(HOP)])
    assert one.cause is Cause.NETWORK
    assert f"n1's own route `{N1.trails[0].words}` sends" in one.title
    assert one.title.endswith(f"to {HOP}, and it gets no further")
    assert "`ip route del" in one.advice
    assert one.requests


def test_a_node_is_named_and_no_rule_is_asked_for() -> None:
    for paths in ([path(NODES[1].address)], [path()], []):
        (one,) = told(answers(n1=BY_N2), paths)
        ends = "it gets no further" if paths and paths[0].routers else "none of it arrives"
        assert one.title.endswith(f"to n2, and {ends}")
        assert (one.nodes, one.requests, one.changes) == ((1,), (), ())


def test_what_arrives_now_and_then_is_not_said_to_be_lost() -> None:
    """A node that is redirected, and then goes another way."""
    whole = matrix({(0, 2): LOST._replace(verdict=Verdict.LOSSY)})
    known = detours(whole, Claims(whole).ways, answers(n1=BY_N2))
    (one,) = findings(whole, groups(whole), detours=known)
    assert one.title.endswith("to n2, and not all of it arrives")


def test_a_router_advertisement_and_a_rule_are_told_with_what_ends_them() -> None:
    words = "default via fe80::2 dev eth0 proto ra metric 9"
    via = (NextHop("fe80::2", "eth0", MACS[1], False, True, ""),)
    way = trail(gateway="fe80::2", words=words, command="ip -6 route del default", hops=via)
    (one,) = told(answers(n1=NOTHING._replace(trails=(way,))), [])
    assert one.nodes == (1,)
    assert "`ip -6 route del default` on n1" in one.advice
    assert "net.ipv6.conf.eth0.accept_ra=0" in one.advice
    way = BY_N2.trails[0]
    way = way._replace(words=f"{way.words} table 100", rule="9: from all lookup 100", unrule="ip")
    (one,) = told(answers(n1=NOTHING._replace(trails=(way,))), [])
    assert "its routing rule `9: from all lookup 100`" in one.advice


UNUSUAL: dict[str, tuple[dict[int, Tables], list[Path]]] = {
    "it gets further": (answers(n1=BY_N2), [path(NODES[1].address, "10.0.0.254")]),
    "another router answers": (answers(n1=N1), [path("10.0.0.254")]),
    "another node has that gateway": (
        answers(n1=N1, n2=NOTHING._replace(gateways=(USUAL._replace(address=HOP),))),
        [path(HOP)],
    ),
    "it has no other gateway": (answers(n1=N1._replace(gateways=())), [path(HOP)]),
    "it is the default route": (
        answers(n1=N1._replace(trails=(trail(gateway=HOP, words="default via 10.9.9.1"),))),
        [path(HOP)],
    ),
    "it is on the link": (answers(n1=N1._replace(trails=(trail(gateway=""),))), [path()]),
}


@pytest.mark.parametrize("why", UNUSUAL)
def test_what_is_the_networks(why: str) -> None:
    tables, paths = UNUSUAL[why]
    (one,) = told(tables, paths)
    assert "the network drops" in one.title
    assert one.requests


def test_cells_that_go_another_way_are_the_networks() -> None:
    (one,) = told(answers(n1=BY_N2), [path(NODES[1].address)], more=dead(0, 3))
    assert "the network drops" in one.title


def test_a_way_is_asked_for_once() -> None:
    own: Trail = BY_N2.trails[0]
    known = detours(matrix(dead(0, 2)), {}, {0: BY_N2})
    assert {key: one.way for key, one in known.items()} == {(0, 2, V4): own}
