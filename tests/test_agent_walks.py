"""Trace messages, one by one: whose packet it is, where it walked, and where it ended."""

import socket
import struct
from typing import Any

import pytest

from preflight.agent.firewall.nfnetlink import attribute, nested, number, text
from preflight.agent.firewall.walks import Walks


def message(table: str, chain: str, kind: int, verdict: int | None = None, **more: Any) -> bytes:
    """A trace message; `network` is given for the first of a base chain."""
    parts = [text(1, table), text(2, chain), number(4, kind), number(6, more.get("id", 7))]
    if verdict is not None and kind == 1:
        parts.append(number(16, verdict))
    elif verdict is not None:
        parts.append(nested(5, number(1, verdict)))
    parts.append(attribute(3, struct.pack("!Q", more.get("handle", 1))))
    if "network" in more:
        ports = more.get("ports", b"\x10\x00\x17\xc1")
        parts += [attribute(8, more["network"]), attribute(9, ports)]
    return b"".join(parts)


def header(ident: int, protocol: int = 17) -> bytes:
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, ident, 0, 64, protocol, 0) + bytes(8)


OURS = ("preflight_x", "prerouting", 3, 1)
INET, ACCEPT, CONTINUE = 1, 1, -1


@pytest.mark.parametrize(
    ("verdict", "told"),
    [(0, "drop"), (2, "stolen"), (3, "queue"), (5 << 16 | 3, "queue"), (1 << 16, "drop")],
)
def test_every_end(verdict: int, told: str) -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, verdict, network=header(5), handle=12))
    assert [(h["verdict"], h["handle"], h["policy"]) for h in walks.hits] == [(told, 12, False)]


def test_the_end_by_a_policy() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 1, 0, network=header(5), handle=9))
    assert [(h["verdict"], h["handle"], h["policy"]) for h in walks.hits] == [("drop", 0, True)]


@pytest.mark.parametrize(("verdict", "turn"), [(-4, 7), (-5, 7), (-3, 0), (-1, 0)])
def test_what_led_to_a_policy_past_the_rest_of_the_chain(verdict: int, turn: int) -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, verdict, network=header(5), handle=7))
    walks.take(INET, message("t", "sub", 3, -4, handle=8))
    walks.take(INET, message("t", "input", 1, 0))
    assert [(h["handle"], h["turn"]) for h in walks.hits] == [(0, turn)]


@pytest.mark.parametrize("verdict", [ACCEPT, CONTINUE, -2, -3, -4, -5])
def test_what_is_no_end(verdict: int) -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, verdict, network=header(5)))
    walks.take(INET, message("t", "input", 1, ACCEPT))
    walks.take(INET, message("t", "sub", 2, 0))  # the return from a chain is none, whatever it says
    assert walks.hits == []


def test_what_comes_back_from_a_queue_may_end_later() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, 3, network=header(5)))
    walks.take(INET, message("u", "input", 1, 0, network=header(5)))
    assert [h["verdict"] for h in walks.hits] == ["drop"]
    assert walks.hits[0]["path"] == [["inet", "t", "input"], ["inet", "u", "input"]]


def test_what_comes_back_from_a_queue_and_passes_has_not_ended() -> None:
    """A chain of our own behind all others shows it again."""
    walks = Walks("preflight_x")
    for ident in (5, 6):
        walks.take(INET, message(*OURS, network=header(ident), id=ident))
        walks.take(INET, message("t", "input", 3, 9 << 16 | 3, network=header(ident), id=ident))
    walks.take(INET, message("preflight_x", "input", 1, ACCEPT, network=header(6), id=6))
    assert [(h["ident"], h["queue"], h["bypass"]) for h in walks.hits] == [(5, 9, False)]
    walks.take(INET, message(*OURS, network=header(7), id=5))  # another has its number now
    walks.take(INET, message("preflight_x", "input", 1, ACCEPT, network=header(7), id=5))
    assert [h["ident"] for h in walks.hits] == [5]


def test_a_queue_that_may_be_passed_by() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, 2 << 16 | 0x8000 | 3, network=header(5)))
    assert [(h["verdict"], h["queue"], h["bypass"]) for h in walks.hits] == [("queue", 2, True)]


def test_the_number_of_an_earlier_packet() -> None:
    """The kernel gives a stranger's packet the number that one of ours had."""
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 1, ACCEPT, network=header(5)))
    walks.take(INET, message("t", "input", 3, 0, network=header(6)))
    walks.take(INET, message("t", "input", 3, 0))
    assert walks.hits == []
    # And one of ours that of another of ours, which had gone further.
    walks.take(INET, message(*OURS, network=header(7)))
    walks.take(INET, message("t", "input", 1, ACCEPT, network=header(7)))
    walks.take(INET, message(*OURS, network=header(8)))
    walks.take(INET, message("raw", "prerouting", 3, 0, network=header(8)))
    assert [(h["ident"], h["path"]) for h in walks.hits] == [(8, [["inet", "raw", "prerouting"]])]
    # And where nothing tells them apart, as with IPv6: the chain of ours that it meets again does.
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(0)))
    walks.take(INET, message("t", "input", 1, ACCEPT, network=header(0)))
    walks.take(INET, message(*OURS, network=header(0)))
    walks.take(INET, message("raw", "prerouting", 3, 0, network=header(0)))
    assert [h["path"] for h in walks.hits] == [[["inet", "raw", "prerouting"]]]


def test_a_rewritten_packet_is_told_as_it_was_first_seen() -> None:
    walks = Walks("preflight_x")
    first = header(5)[:12] + socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
    second = header(5)[:12] + socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.9")
    walks.take(INET, message(*OURS, network=first))
    walks.take(INET, message("t", "input", 3, 0, network=second))
    assert [(h["source"], h["destination"]) for h in walks.hits] == [("192.0.2.1", "192.0.2.2")]


def test_memory_is_bounded() -> None:
    walks = Walks("preflight_x")
    for i in range(20_000):
        walks.take(INET, message(*OURS, network=header(i), id=i))
        walks.take(INET, message("t", "input", 3, 3, network=header(i), id=i))
    assert len(walks.hits) <= 4096
    assert len(walks._packets) <= 4096


@pytest.mark.parametrize("data", [b"", b"\x04", bytes(64), message(*OURS), message("", "", 9, 0)])
def test_odd_messages_do_no_harm(data: bytes) -> None:
    walks = Walks("preflight_x")
    walks.take(INET, data)
    walks.take(77, message("t", "c", 3, 0, network=b"\x45"))
    assert walks.hits == []


# --- what packets become -------------------------------------------------------------------------


def udp_to(destination: str, ident: int = 5) -> bytes:
    return header(ident)[:16] + socket.inet_aton(destination)


def shown(walks: Walks, network: bytes, ports: bytes = b"\x10\x00\x17\xc1") -> None:
    """The end of our own last chain."""
    walks.take(INET, message("preflight_x", "input", 1, ACCEPT, network=network, ports=ports))


def test_the_rule_that_had_matched_when_the_ports_are_others() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "early", 3, CONTINUE, network=header(5), handle=4))
    walks.take(INET, message("t", "early", 1, ACCEPT))
    walks.take(INET, message("t", "nat", 3, CONTINUE, network=header(5), handle=5))
    walks.take(INET, message("t", "nat", 3, ACCEPT, handle=6))
    shown(walks, header(5), b"\x10\x00\x17\xc2")
    (one,) = walks.rewrites
    assert (one["side"], one["becomes"]) == ("destination", ["", 6082])
    assert [rule[2:] for rule in one["rules"]] == [["nat", 6, "nat"], ["nat", 5, "nat"]]
    assert (one["ident"], one["protocol"], one["transport"]) == (5, 17, "100017c1")
    shown(walks, header(5), b"\x10\x00\x17\xc2")
    assert walks.rewrites == [one]
    assert walks.hits == []


def test_both_ends_of_a_packet_one_after_the_other() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message("preflight_x", "output", 3, 1, network=header(5)))
    walks.take(INET, message("t", "dnat", 3, ACCEPT, network=header(5), handle=6))
    walks.take(INET, message("t", "snat", 3, ACCEPT, network=udp_to("10.0.0.9"), handle=7))
    snatted = header(5)[:12] + socket.inet_aton("10.0.0.8") + socket.inet_aton("10.0.0.9")
    shown(walks, snatted)
    assert [
        (r["side"], r["becomes"], [rule[3] for rule in r["rules"]]) for r in walks.rewrites
    ] == [
        ("destination", ["10.0.0.9", 0], [7, 6]),  # the later one may have been told once it had
        ("source", ["10.0.0.8", 0], [7]),
    ]


def test_what_stays_as_it_is_nobody_rewrote() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "nat", 3, ACCEPT, network=header(5), handle=6))
    shown(walks, header(5))
    assert walks.rewrites == []


def test_what_matched_a_rule_and_was_not_seen_again() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "nat", 3, ACCEPT, network=header(5), handle=6))
    (one,) = walks.rewrites
    assert (one["side"], one["rules"][0][3]) == ("", 6)
    walks.take(INET, message("t", "input", 1, 0, network=header(5)))  # a policy drops it
    assert walks.rewrites == []


def test_another_packet_of_the_same_number_is_not_what_it_became() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "nat", 3, ACCEPT, network=header(5), handle=6))
    shown(walks, udp_to("10.0.0.9", ident=6))
    assert [one["side"] for one in walks.rewrites] == [""]
