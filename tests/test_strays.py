"""Packets that came to a node which was never to get them: meant for another, or damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_agent_packets import crafted

from preflight.agent.packets import TAG, TOKEN, Patcher, run_ident, run_tag, tokens
from preflight.core.model import ECHO, GENEVE, Family, Inventory, Node, Probe, Protocol
from preflight.core.offsets import tag_offset
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope, scope
from preflight.looks.strays import Sent, Sorted, of_this_run, sort_out

KEY = b"k" * 32
NODES = tuple(Node(f"n{n}", (f"192.0.2.{n}", f"2001:db8::{n}"), "") for n in (1, 2, 3))
PROBES = (GENEVE, ECHO)
COUNT = 20
NUMBERS = {Protocol.UDP: 17, Protocol.ICMP: 1}


def known() -> Scope:
    return scope(Inventory("", NODES, PROBES), CheckOptions())


def looks(*numbers: int) -> list[Sent]:
    cells = tuple((p, family, COUNT) for p in range(len(PROBES)) for family in Family)
    return [Sent(number, cells) for number in numbers]


def packet(
    probe: Probe, family: Family, look: int, pair: tuple[int, int], which: int = 0
) -> tuple[int, str, bytes]:
    """One that `pair[0]` sent, as an agent shows it: from its own header on."""
    number = PROBES.index(probe)
    token = tokens(KEY, look, int(family[-1]), number, pair, COUNT)[which]
    form = crafted(probe, family, harmless=False)
    made = Patcher(form, run_tag(KEY), run_ident(KEY), bytes(4 if family is Family.IPV4 else 16))
    data = bytes(made.patch(made.aim(bytes(4 if family is Family.IPV4 else 16)), 40000, token))
    icmp = {Family.IPV4: 1, Family.IPV6: 58}[family]
    protocol = 17 if probe.protocol is Protocol.UDP else icmp
    return protocol, NODES[pair[0]].address_in(family) or "", data[form.header :]


@pytest.mark.parametrize("probe", PROBES, ids=str)
@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("look", [1, 2])
def test_a_packet_for_another_node_is_known_by_its_token(
    probe: Probe, family: Family, look: int
) -> None:
    """From whomever it seems to come: its source may be translated, too."""
    protocol, sender, data = packet(probe, family, look, (0, 2), which=COUNT - 1)
    elsewhere = {Family.IPV4: "198.51.100.9", Family.IPV6: "2001:db8:9::9"}[family]
    for address in (sender, elsewhere):
        assert of_this_run((protocol, address, data), looks(1, 2), known(), KEY)
        assert not of_this_run((protocol, address, data), looks(3), known(), KEY)
        assert not of_this_run((protocol, address, data), looks(1, 2), known(), b"other" * 6)


@given(st.integers(0, TOKEN * 8 - 1))
def test_one_flipped_bit_makes_a_token_nobodys(bit: int) -> None:
    protocol, sender, data = packet(GENEVE, Family.IPV4, 1, (0, 2))
    at = 8 + tag_offset(GENEVE) + TAG
    torn = bytearray(data)
    torn[at + bit // 8] ^= 1 << bit % 8
    assert of_this_run((protocol, sender, bytes(torn)), looks(1), known(), KEY) is False


@given(st.sampled_from([1, 17, 58]), st.sampled_from(["192.0.2.1", "::1"]), st.binary(max_size=99))
def test_anything_is_taken(protocol: int, sender: str, data: bytes) -> None:
    assert of_this_run((protocol, sender, data), looks(1), known(), KEY) is False


def test_too_many_pairs_are_not_tried() -> None:
    """Then it is not said to be damaged either."""
    nodes = tuple(Node(f"n{n}", (f"10.0.{n >> 8}.{n & 255}",), "") for n in range(200))
    many = scope(Inventory("", nodes, PROBES), CheckOptions())
    stray = (17, "198.51.100.9", bytes(64))
    assert of_this_run(stray, looks(1), many, KEY) is None
    assert of_this_run((17, "10.0.0.7", bytes(64)), looks(1), many, KEY) is False
    assert sort_out({3: (1, (stray,))}, looks(1), many, KEY).astray == {3: (1, (stray,))}


def test_strays_are_told_apart() -> None:
    meant, torn = packet(GENEVE, Family.IPV4, 1, (0, 2)), (17, "192.0.2.1", bytes(64))
    strays = {0: (5, (torn, meant)), 1: (2, (torn,))}
    assert sort_out(strays, looks(1), known(), KEY) == Sorted({0: (5, (meant,))}, {1: 2})
