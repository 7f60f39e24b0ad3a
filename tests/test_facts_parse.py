"""The controller's reading of what a node says of itself: the truth, and nonsense."""

import json
from typing import Any

import pytest
from facts import frame, recorded
from hypothesis import given
from hypothesis import strategies as st

from preflight.core.facts import request
from preflight.core.facts.model import Fill, Tunnel
from preflight.core.facts.parse import clock, parse
from preflight.core.facts.request import CHEAP, Part
from preflight.core.model import BUILT_IN_PROBES, Family, Node, Probe, ProbeKind, Protocol, Severity


def test_a_recorded_node() -> None:
    facts = parse(recorded("virtio-vm.json"), 3)
    assert facts.kernel == "6.18.44-fc-v669"
    assert [link.name for link in facts.links or ()] == ["lo", "eth0"]
    assert facts.offloads is not None
    assert facts.offloads["eth0"].driver == "virtio_net"
    assert facts.offloads["eth0"].on("tx-checksum-ip-generic")
    assert not facts.offloads["eth0"].on("no-such-offload")
    assert facts.conntrack == Fill(0, 262144)
    assert facts.echo_ignored == {Family.IPV4: False, Family.IPV6: False}
    assert facts.sockets == ()
    assert facts.ways is not None
    assert facts.ways[0].peers == (1, 2)
    assert list(facts.towards()) == ["eth0"]
    assert facts.unknown == {}


def test_what_a_node_does_not_tell_is_not_known() -> None:
    facts = parse({"facts": {}, "sources": {}, "unknown": {"links": "no"}}, 3)
    assert facts.links is facts.kernel is facts.conntrack is facts.sockets is None
    assert facts.unknown == {"links": "no"}
    assert facts.towards() == {}


def test_without_peers_the_default_way_counts() -> None:
    alone = frame(ways=[])
    assert list(parse(alone, 1).towards()) == ["ens192"]


def test_a_way_to_this_very_machine_is_no_device() -> None:
    way = dict(frame()["facts"]["ways"][0], device="lo", peers=[1])
    assert parse(frame(ways=[way]), 3).towards() == {}


def test_a_tunnel_without_a_port() -> None:
    made = frame()["facts"]["links"][1]
    odd = {**made, "name": "b0", "kind": "bareudp", "tunnel": dict.fromkeys(["port", "vni"])}
    odd["tunnel"]["external"] = False
    facts = parse(frame(links=[odd]), 3)
    assert facts.links is not None
    assert facts.links[0].tunnel == Tunnel(None, None, False)


@pytest.mark.parametrize(
    "facts",
    [
        {"links": 7},
        {"links": [{}]},
        {"links": [None]},
        {"ways": [dict(frame()["facts"]["ways"][0], peers=[3])]},
        {"ways": [dict(frame()["facts"]["ways"][0], peers=[-1])]},
        {"ways": [dict(frame()["facts"]["ways"][0], family=5)]},
        {"ways": [dict(frame()["facts"]["ways"][0], source="nowhere")]},
        {"ways": [dict(frame()["facts"]["ways"][0], mtu="1500")]},
        {"ways": [dict(frame()["facts"]["ways"][0], learned=1)]},
        {"addresses": [{"device": "x", "address": "10.0.0.1", "prefix": 300, "scope": "global"}]},
        {"conntrack": {"count": -1, "max": 5}},
        {"conntrack": {"count": True, "max": 5}},
        {"conntrack": {"count": 1e9, "max": 5}},
        {"conntrack": []},
        {"kernel": {"release": ["5.10"]}},
        {"kernel": {"release": "5" * 5000}},
        {"modules": {"geneve": "perhaps"}},
        {"modules": {"geneve": ["absent"]}},
        {"echo_ignored": {"5": True}},
        {"rp_filter": {"all": None}},
        {"sockets": [{"protocol": "sctp"}]},
        {"nameservers": [53]},
        {"nameservers": ["x"] * 5000},
    ],
)
def test_nonsense_is_a_value_error(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its words are for whoever debugs an agent
        parse(frame(**facts), 3)


@pytest.mark.parametrize("missing", ["facts", "sources", "unknown"])
def test_a_frame_without_its_parts(missing: str) -> None:
    broken = frame()
    del broken[missing]
    with pytest.raises(ValueError, match="no sense"):
        parse(broken, 3)


def mutated(draw: Any, value: Any) -> Any:
    """The same with something else somewhere."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: mutated(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], mutated(draw, value[at]), *value[at + 1 :]]
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    return draw(
        leaves | st.lists(leaves, max_size=2) | st.dictionaries(st.text(), leaves, max_size=2)
    )


@given(st.data())
def test_whatever_a_node_says_is_facts_or_a_value_error(data: st.DataObject) -> None:
    said = mutated(data.draw, frame())
    try:
        facts = parse(said, 3) if isinstance(said, dict) else None
    except ValueError:
        return
    if facts is not None:
        facts.towards()
        assert all(list(facts.below(name)) for name in facts.towards())


@pytest.mark.parametrize(
    "said", [None, [], [1], [2, 1], ["a", "b"], [-1, 5], [1, float("inf")], {"begun": 1}, [1, 2, 3]]
)
def test_a_clock_that_makes_no_sense(said: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        clock({"clock": said})


def test_a_clock() -> None:
    assert clock({"clock": [1795351376.25, 1795351376.5]}) == (1795351376.25, 1795351376.5)


# --- the question --------------------------------------------------------------------------------

NODES = [
    Node("n1", ("10.0.1.11", "fd00::11"), "h", cluster="a"),
    Node("n2", ("10.0.1.12",), "h", cluster="a"),
    Node("n3", ("10.0.1.13", "fd00::13"), "h", cluster="b"),
    Node("n4", ("10.0.1.14", "fd00::14"), "h", cluster="a"),
]


def test_a_node_is_asked_about_the_peers_of_its_cluster() -> None:
    asked = request.request(NODES, 0, tuple(BUILT_IN_PROBES.values()), CHEAP, 9)
    assert asked["peers"] == {
        "4": [None, "10.0.1.12", None, "10.0.1.14"],
        "6": [None, None, None, "fd00::14"],
    }
    assert (asked["t"], asked["number"], asked["parts"]) == ("facts", 9, ["network", "ports"])
    json.dumps(asked)


def test_the_usual_ports_are_asked_about_and_those_that_are_probed() -> None:
    own = Probe("mine", ProbeKind.UDP, Protocol.UDP, 4789, Severity.REQUIRED)
    asked = request.request(NODES, 0, (own,), tuple(Part))
    assert (asked["udp"], asked["tcp"]) == ([4789, 6081, 8472], [4240])
