"""Tunnel packets whose source the path rewrites: one finding for one translator."""

from __future__ import annotations

from samples import sample

from preflight.core.diagnosis.conclusions import Diagnosis, Rewrite, RewrittenField
from preflight.core.findings.hazards import Sources, translated
from preflight.core.findings.model import Finding

OWN = ("n1", "n2", "n3", "n4", "n5", "n6")  # n1 and n4 in rack a, n2 and n5 in b, n3 and n6 in c


def made(sources: Sources, *unseen: int) -> list[Finding]:
    """The path does it, as a look has found, but for the nodes that nobody has looked at."""
    looks = {
        (node, address): Diagnosis(rewrites=(Rewrite(RewrittenField.SOURCE, "10.0.0.1", address),))
        for node, address in sources
        if node not in unseen
    }
    return list(translated(sample(6, 3, []).matrix, sources, looks))


def test_a_router_that_masquerades_by_each_of_its_devices_is_one() -> None:
    (one,) = made({(2, "10.9.1.1"): {0, 3}, (2, "10.9.2.1"): {1, 4}})
    assert "on the path, 10.9.1.1 or 10.9.2.1 instead of" in one.title
    assert one.nodes == (2,)
    assert one.sample == (2, 0)
    assert one.evidence[-1] == "seen so by all except n3, n6"


def test_all_that_a_router_masquerades_is_one() -> None:
    by = [f"10.9.{rack}.1" for rack in range(3)]
    sources = {
        (node, by[rack]): {rack, rack + 3}
        for rack in range(3)
        for node in range(6)
        if node % 3 != rack
    }
    (one,) = made(sources)
    assert one.nodes == tuple(range(6))
    assert (
        ": tunnel packets are translated on the path, 10.9.1.1, 10.9.2.1 or 10.9.0.1" in one.title
    )


def test_many_addresses_are_counted() -> None:
    (one,) = made({(0, f"10.9.{n}.1"): {n} for n in range(1, 6)})
    assert "10.9.1.1, 10.9.2.1, 10.9.3.1 or 2 more instead of" in one.title


def test_nodes_that_share_nothing_and_what_nobody_saw_stay_apart() -> None:
    assert len(made({(0, "10.9.1.1"): {1}, (3, "10.9.2.1"): {1}})) == 2
    assert len(made({(0, "10.9.1.1"): {1}, (0, "10.9.2.1"): {2}}, 0)) == 2
    assert len(made({(0, "10.9.1.1"): {1}, (0, "fd00:9::1"): {1}})) == 2
