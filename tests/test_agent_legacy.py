"""iptables-legacy: the rule whose counter moves with our packets, in real namespaces."""

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from rulebench import FAR, NEAR, NEEDS_LAB, Bench, Worker, bench, udp

pytestmark = NEEDS_LAB
COUNT = 5
_NETFILTER, _QUEUE_CONFIG = 12, 3 << 8 | 2  # linux/netfilter/nfnetlink_queue.h
_CFG_CMD, _BIND = 1, 1
Found = list[list[dict[str, Any]]]


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with bench("legacy") as out:
        yield out


@pytest.fixture
def cable(shared: Bench) -> Iterator[Bench]:
    """Two namespaces whose legacy tables, where they have any, hold no rules."""
    yield shared
    for end in (shared.near, shared.far):
        for tool, names in (("iptables-legacy", "ip"), ("ip6tables-legacy", "ip6")):
            for table in shared.run(end, "cat", f"/proc/net/{names}_tables_names").split():
                for command in ("-F", "-X", "-P INPUT ACCEPT", "-P OUTPUT ACCEPT"):
                    if not command.startswith("-P") or table in ("filter", "mangle"):
                        shared.run(end, tool, "-t", table, *command.split())
    shared.clean()


class Watched:
    """Counters of the node at one end, read as an agent would."""

    def __init__(self, cable: Bench, end: str) -> None:
        self.worker: Worker = cable.worker(end)
        self.worker("traces.__setitem__('counters', legacy.LegacyCounters())")

    def at(self, moment: str) -> None:
        self.worker(f"traces['counters'].{moment}()")

    def suspects(self, *lost: str) -> Found:
        wanted = ", ".join(f"xtmatch.Lost({one})" for one in lost)
        found: Found = self.worker(f"traces['counters'].suspects([{wanted}])")
        return found

    @property
    def reasons(self) -> dict[str, str]:
        told: dict[str, str] = self.worker("traces['counters'].reasons")
        return told


def ours(v6: bool = False, incoming: bool = True, packets: int = COUNT) -> str:
    return (
        f"17, {NEAR[v6]!r}, {FAR[v6]!r}, {packets}, incoming={incoming}, "
        "ports=[4096], port=6081, device='eth0'"
    )


RULES = [
    # where, rules (without the tool), IPv6?, what is told of the one that ends our packets
    ("far", ["-A INPUT -p tcp -j DROP", "-A INPUT -p udp -m udp --dport 6081 -j DROP"], False,
     {"chain": "INPUT", "position": 3, "table": "filter", "rejects": False,
      "text": "-A INPUT -p udp -m udp --dport 6081 -j DROP"}),
    ("far", ["-A INPUT -s 10.0.0.0/8 -m comment --comment corp -j REJECT"], False,
     {"chain": "INPUT", "position": 2, "rejects": True, "comment": "corp"}),
    ("far", ["-A INPUT -s fd77::/64 -p udp -m multiport --dports 53,6081 -j DROP"], True,
     {"chain": "INPUT", "position": 2, "family": "ip6", "tool": "ip6tables-legacy"}),
    ("far", ["-N CORP", "-N LAST", "-A INPUT -p udp -j CORP", "-A CORP -g LAST", "-A LAST -j LOG",
             "-A LAST -j DROP"], False, {"chain": "LAST", "position": 2, "chain_rules": 2}),
    ("far", ["-P INPUT DROP", "-A INPUT -p tcp -j ACCEPT"], False,
     {"chain": "INPUT", "position": 0, "policy": True, "text": "-P INPUT DROP"}),
    ("far", ["-t raw -A PREROUTING -i eth+ -p udp --sport 4096 --dport :6090 -j DROP"], False,
     {"chain": "PREROUTING", "table": "raw"}),
    ("far", ["-t mangle -A INPUT -p udp --dport 6000:6999 -m length --length 38 -j DROP"], False,
     {"chain": "INPUT", "table": "mangle"}),
    ("near", ["-A OUTPUT -o eth0 -d 10.77.0.0/24 -p udp -j DROP"], False,
     {"chain": "OUTPUT", "table": "filter"}),
    ("near", ["-P OUTPUT DROP"], True, {"chain": "OUTPUT", "policy": True}),
]  # fmt: skip


@pytest.mark.parametrize(("end", "rules", "v6", "expected"), RULES)
def test_the_rule_that_moved_with_our_packets(
    cable: Bench, end: str, rules: list[str], v6: bool, expected: dict[str, Any]
) -> None:
    where = getattr(cable, end)
    tool = "ip6tables-legacy" if v6 else "iptables-legacy"
    for rule in ["-A INPUT -p udp --dport 7777 -j DROP", "-A OUTPUT -p udp --dport 7777 -j DROP"]:
        cable.run(where, tool, *rule.split())
    for rule in rules:
        cable.run(where, tool, *rule.split())
    watched = Watched(cable, where)
    watched.at("before")
    udp(cable, 40, port=7777, v6=v6)  # others' traffic, dropped by a rule of its own
    watched.at("settle")
    udp(cable, 40, port=7777, v6=v6)
    watched.at("begin")
    udp(cable, 60, port=7777, v6=v6)
    udp(cable, COUNT, v6=v6)
    watched.at("after")
    ((found,),) = watched.suspects(ours(v6, incoming=end == "far"))
    assert {key: found[key] for key in expected} == expected
    assert found["packets"] >= COUNT
    assert (found["sure"], found["handle"], found["set_by"]) == (True, 0, [])
    assert found["base"]["hook"] == {"LAST": "input"}.get(found["chain"], found["chain"].lower())
    assert watched.reasons == {}


@pytest.mark.parametrize("read", [None, 3, 4])
def test_whoever_reads_a_queue_decides(cable: Bench, read: int | None) -> None:
    rule = "-A INPUT -p udp --dport 6081 -j NFQUEUE --queue-num 3"
    cable.run(cable.far, "iptables-legacy", *rule.split())
    with cable.call(cable.far, lambda: reader(read)) as program:
        watched = Watched(cable, cable.far)
        watched.at("before")
        watched.at("settle")
        udp(cable, COUNT)
        watched.at("after")
        ((found,),) = watched.suspects(ours())
        port = program.getsockname()[0]
    expected = ("3", port, False) if read == 3 else ("3", 0, True)
    assert (found["queue"], found["reader"], found["sure"]) == expected


def reader(queue: int | None) -> socket.socket:
    """Something that reads a queue of its network namespace, and never says what is to become."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    netlink.bind((0, 0))
    if queue is not None:
        command = struct.pack("=BB", 0, 0) + struct.pack("!H", queue)
        command += struct.pack("=HH", 8, _CFG_CMD) + struct.pack("!BxH", _BIND, 0)
        netlink.send(struct.pack("=IHHII", 16 + len(command), _QUEUE_CONFIG, 5, 1, 0) + command)
        assert struct.unpack_from("=i", netlink.recv(4096), 16) == (0,)
    return netlink


def test_two_that_moved_alike(cable: Bench) -> None:
    """Somebody else's packets, dropped by a rule that may be for ours, come at the same time."""
    for rule in (
        "-A INPUT -p udp -m length --length 0:37 -j DROP",  # what that means we do not know
        "-A INPUT -p udp --dport 6081 -j DROP",
    ):
        cable.run(cable.far, "iptables-legacy", *rule.split())
    watched = Watched(cable, cable.far)
    watched.at("before")
    watched.at("settle")
    udp(cable, COUNT)

    def short() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            for _ in range(COUNT):
                sock.sendto(b"x", (FAR[0], 9))

    cable.call(cable.near, short)
    watched.at("after")
    (found,) = watched.suspects(ours())
    assert [(rule["position"], rule["sure"]) for rule in found] == [(1, False), (2, False)]


def test_each_kind_of_packet_has_its_own(cable: Bench) -> None:
    for rule in ("-A INPUT -p tcp --dport 4240 -j DROP", "-A INPUT -p udp --dport 6081 -j DROP"):
        cable.run(cable.far, "iptables-legacy", *rule.split())
    watched = Watched(cable, cable.far)
    watched.at("before")
    watched.at("settle")
    udp(cable, 3 * COUNT)  # before our time
    watched.at("begin")
    udp(cable, COUNT)
    watched.at("after")
    syn = f"6, {NEAR[0]!r}, {FAR[0]!r}, 3, port=4240, flags=2"
    of_tcp, of_udp, of_v6 = watched.suspects(syn, ours(), ours(v6=True))
    assert (of_tcp, of_v6) == ([], [])  # its SYNs were lost elsewhere
    assert [(rule["position"], rule["sure"]) for rule in of_udp] == [(2, True)]


def test_rules_that_change_meanwhile_tell_nothing(cable: Bench) -> None:
    rule = "-A INPUT -p udp --dport 6081 -j DROP"
    for change in ("-A INPUT -p icmp -j ACCEPT", "-Z", "-F INPUT"):
        cable.run(cable.far, "iptables-legacy", "-F")
        cable.run(cable.far, "iptables-legacy", *rule.split())
        udp(cable, 2 * COUNT)
        watched = Watched(cable, cable.far)
        watched.at("before")
        watched.at("settle")
        cable.run(cable.far, "iptables-legacy", *change.split())
        udp(cable, COUNT)
        watched.at("after")
        assert watched.suspects(ours()) == [[]]
        watched.worker.close()


def test_a_node_without_such_tables_is_left_alone() -> None:
    with bench("none") as cable:
        worker = cable.worker(cable.far)
        assert not worker("legacy.LegacyCounters().present")
        watched = Watched(cable, cable.far)
        for moment in ("before", "settle", "after"):
            watched.at(moment)
        assert watched.suspects(ours()) == [[]]
        names = cable.run(cable.far, "cat", "/proc/net/ip_tables_names")
        assert (names, watched.reasons) == ("", {})


def test_a_node_without_the_tool(cable: Bench) -> None:
    cable.run(cable.far, "iptables-legacy", "-P", "INPUT", "DROP")
    watched = Watched(cable, cable.far)
    watched.worker("setattr(commands, 'find', lambda *names: '')")
    for moment in ("before", "settle", "after"):
        watched.at(moment)
    assert watched.suspects(ours()) == [[]]
    assert watched.reasons["4"] == "no iptables-legacy-save on the node"


# --- rules that translate ------------------------------------------------------------------------

TRANSLATORS = [
    # where, the rule, what it rewrites, what that becomes
    ("far", "-A PREROUTING -p udp --dport 6081 -j REDIRECT --to-ports 6082", "destination",
     "port 6082"),
    ("far", "-A PREROUTING -i eth+ -p udp -j DNAT --to-destination 10.77.0.9:7", "destination",
     "10.77.0.9 port 7"),
    ("near", "-A OUTPUT -d 10.77.0.2 -p udp -j DNAT --to-destination 10.77.0.9", "destination",
     "10.77.0.9"),
    ("near", "-A POSTROUTING -o eth0 -j MASQUERADE", "source", ""),
    ("near", "-A POSTROUTING -p udp -j SNAT --to-source 10.77.0.5-10.77.0.9", "source", ""),
]  # fmt: skip


@pytest.mark.parametrize(("end", "rule", "side", "becomes"), TRANSLATORS)
def test_the_rule_that_translates_new_flows(
    cable: Bench, end: str, rule: str, side: str, becomes: str
) -> None:
    where = getattr(cable, end)
    first = 30000 + 100 * TRANSLATORS.index((end, rule, side, becomes))
    cable.run(where, "iptables-legacy", "-t", "nat", *rule.split())
    cable.run(where, "iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "REDIRECT")
    udp(cable, 3, source=first)  # a flow that is known already
    watched = Watched(cable, where)
    watched.at("before")
    watched.at("settle")
    for source in range(first, first + 5):
        udp(cable, 3, source=source)
    watched.at("after")
    ports = list(range(first, first + 5))
    lost = (
        f"17, {NEAR[0]!r}, {FAR[0]!r}, 15, incoming={end == 'far'}, ports={ports}, port=6081, "
        f"device='eth0'"
    )
    (found,), none = watched.suspects(f"{lost}, rewrites={side!r}", lost)
    assert (found["rewrites"], found["becomes"], found["sure"]) == (side, becomes, True)
    assert (found["table"], found["text"].split()[1]) == ("nat", rule.split()[1])
    assert found["packets"] in (4, 15)  # each one, where the node throws away what it becomes
    assert none == []  # it ended nothing


def test_a_translator_that_did_not_move_did_nothing(cable: Bench) -> None:
    for rule in ("PREROUTING -s 10.77.0.1 -p udp --dport 7 -j REDIRECT --to-ports 8",
                 "PREROUTING -p udp --dport 6081 -j ACCEPT"):  # fmt: skip
        cable.run(cable.far, "iptables-legacy", "-t", "nat", "-A", *rule.split())
    watched = Watched(cable, cable.far)
    watched.at("before")
    watched.at("settle")
    udp(cable, COUNT, source=31000)
    watched.at("after")
    lost = f"17, {NEAR[0]!r}, {FAR[0]!r}, 5, ports=[31000], port=6081, rewrites='destination'"
    assert watched.suspects(lost) == [[]]
