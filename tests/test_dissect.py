"""Odd packets in words, whatever they are."""

from hypothesis import given
from hypothesis import strategies as st

from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe
from preflight.craft.dissect import in_words
from preflight.craft.templates import template


def words(probe: Probe, family: Family) -> str:
    made = template(probe, family, harmless=False)
    packet = bytes.fromhex(str(made["packet"]))[20 if family is Family.IPV4 else 40 :]
    return in_words(int(str(made["protocol"])), "10.0.0.1", packet)


def test_a_tunnel_probe_shows_its_ports_and_what_it_carries() -> None:
    for family in Family:
        said = words(GENEVE, family)
        assert said.startswith("1 > 6081, UDP / GENEVE / ")
        assert said.endswith(" from 10.0.0.1")


def test_the_others_are_named() -> None:
    assert "4240 S" in words(HEALTH, Family.IPV4)
    assert "echo-request" in words(ECHO, Family.IPV4)
    assert "Echo Request" in words(ECHO, Family.IPV6)


@given(st.integers(0, 255), st.text(max_size=50), st.binary(max_size=200))
def test_any_bytes_are_one_printable_line(protocol: int, sender: str, data: bytes) -> None:
    said = in_words(protocol, sender, data)
    assert said.isprintable()
    assert "\n" not in said
