"""Routers that find nobody behind an address: told as that, once for each node, no rule asked."""

from __future__ import annotations

import pytest
from samples import DROPPED_ON_PATH, Fault, sample

from preflight.core.findings.build import findings
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import groups
from preflight.core.model import Cause as CellCause
from preflight.core.model import Outcome

HOST = "ICMP host unreachable (3/1)"


def rejected(by: str, says: str = HOST) -> Outcome:
    return DROPPED_ON_PATH._replace(cause=CellCause.REJECTED, rejected_by=by, detail=says)


def made(*faults: Fault) -> list[Finding]:
    matrix = sample(6, 3, list(faults)).matrix
    return findings(matrix, groups(matrix))


def test_two_routers_that_do_not_find_one_node_are_one_finding_without_a_request() -> None:
    (one,) = made(
        Fault(rejected("10.9.1.1"), "rack=b", "n1", "health"),
        Fault(rejected("10.9.1.1"), "rack=b", "n1", "echo"),
        Fault(rejected("10.9.2.1"), "rack=c", "n1"),
    )
    assert one.cause is Cause.NETWORK
    assert one.requests == ()
    assert "say host unreachable: they get no answer to ARP from n1" in one.title
    assert "10.9.1.1" in one.title
    assert "10.9.2.1" in one.title
    assert "`ip neigh`" in one.advice


def test_two_nodes_that_are_not_found_behind_unlike_routers_are_two() -> None:
    found = made(
        Fault(rejected("10.9.1.1"), "rack=b", "n1"), Fault(rejected("10.9.2.1"), "rack=c", "n3")
    )
    assert [f.requests for f in found] == [(), ()]
    assert len(found) == 2


@pytest.mark.parametrize(
    "says", ["ICMP communication administratively prohibited (3/13)", "ICMP port unreachable (3/3)"]
)
def test_a_refusal_is_none(says: str) -> None:
    (one,) = made(Fault(rejected("10.9.1.1", says), "rack=b", "n1"))
    assert "refused by 10.9.1.1" in one.title
    assert one.requests


def test_a_router_that_refuses_one_and_does_not_find_another_says_two_things() -> None:
    found = made(
        Fault(rejected("10.9.1.1"), "n3", "n1"),
        Fault(rejected("10.9.1.1", "ICMP host administratively prohibited (3/10)"), "n4", "n5"),
    )
    assert sorted(bool(f.requests) for f in found) == [False, True]


def test_an_error_in_a_nodes_name_is_a_refusal() -> None:
    """A firewall forged it: no node finds itself."""
    matrix = sample(6, 3, []).matrix
    third = matrix.nodes[4].address
    (one,) = made(Fault(rejected(third), "n3", "n1"))
    assert one.requests
    assert "in the name of n5" in one.title


def test_a_node_that_other_probes_find_is_refused() -> None:
    """One rule rejects GENEVE by that word; echo from the same node gets there."""
    (one,) = made(Fault(rejected("10.9.1.1"), "rack=b", "n1", "geneve"))
    assert "the network rejects UDP 6081, refused by 10.9.1.1" in one.title
    assert one.requests


def test_a_node_that_is_found_by_some_alone_is_sought() -> None:
    """Of one sender all probes are refused so: that router may find nobody."""
    (one,) = made(
        Fault(rejected("10.9.1.1"), "rack=b", "n1", "geneve"),
        Fault(rejected("10.9.1.1"), "n3", "n1"),
    )
    assert "says host unreachable" in one.title
    assert one.requests == ()
