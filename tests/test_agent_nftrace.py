"""The exact rule: real rules of every sort in real namespaces, and the traces of them."""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import rulebench
from rulebench import FAR, NEAR, PATIENCE_S, UDP, Bench, Worker, base, bench, udp

pytestmark = rulebench.NEEDS_LAB
shared, cable = rulebench.shared, rulebench.cable


@pytest.fixture(scope="module")
def agents(shared: Bench) -> Iterator[dict[str, Worker]]:
    """A process at each end, for tests that change nothing in it."""
    out = {"near": Worker(shared.near), "far": Worker(shared.far)}
    yield out
    for worker in out.values():
        worker.close()


def named(hit: dict[str, Any]) -> tuple[Any, ...]:
    return hit["family"], hit["table"], hit["chain"], hit["policy"], hit["verdict"]


# --- where a packet can end ----------------------------------------------------------------------

DROP = "udp dport 6081 counter drop"
JUMPS = "chain last {\nudp dport 6081 drop\n}\nchain middle {\njump last\n}\n"
PLACES = [
    # where it is sought, the ruleset, IPv6?, (chain, base chain's hook), the text, is it a policy?
    ("far", base("inet t input 0", DROP), False, ("input", "input"), DROP, False),
    ("far", base("inet t input 0", DROP), True, ("input", "input"), DROP, False),
    ("far", base("ip t input 0", DROP), False, ("input", "input"), DROP, False),
    ("far", base("ip6 t input 0", DROP), True, ("input", "input"), DROP, False),
    ("far", base("ip raw prerouting -300", DROP), False, ("prerouting",) * 2, DROP, False),
    ("far", base("inet t prerouting -2000", DROP), True, ("prerouting",) * 2, DROP, False),
    ("far", base("inet mangle input -150", DROP), False, ("input", "input"), DROP, False),
    ("near", base("inet t output 0", DROP), False, ("output", "output"), DROP, False),
    ("near", base("ip6 raw output -300", DROP), True, ("output", "output"), DROP, False),
    ("near", base("inet t postrouting 300", DROP), False, ("postrouting",) * 2, DROP, False),
    ("far", base("netdev t ingress 0 eth0", DROP), False, ("ingress",) * 2, DROP, False),
    ("far", base("netdev t ingress -500 eth0", DROP), True, ("ingress",) * 2, DROP, False),
    ("far", base("inet t ingress 0 eth0", DROP), False, ("ingress",) * 2, DROP, False),
    ("near", base("netdev t egress 0 eth0", DROP), False, ("egress",) * 2, DROP, False),
    ("far", base("inet t input 0", "ct state established accept", policy="drop"), False,
     ("input", "input"), "policy drop", True),
    ("far", base("inet t input 0", "jump middle", more=JUMPS), False,
     ("last", "input"), "udp dport 6081 drop", False),
    ("far", base("inet t input 0", "goto middle", more=JUMPS), True,
     ("last", "input"), "udp dport 6081 drop", False),
    ("far", base("inet t input 0", "goto middle", policy="drop", more="chain middle {\n}\n"),
     False, ("input", "input"), "policy drop", True),
    ("far", base("inet t input 0", 'iifname "eth0" jump {', "counter", DROP, "}"), False,
     ("__chain", "input"), DROP, False),
    ("far", base("inet t input 0", "udp dport @bad drop",
                 more="set bad {\ntype inet_service\nelements = { 6081 }\n}\n"), False,
     ("input", "input"), "udp dport @bad drop", False),
    ("far", base("inet t input 0", "udp dport { 53, 6081 } drop"), False,
     ("input", "input"), "udp dport { 53, 6081 } drop", False),
    ("far", base("inet t input 0", "udp dport vmap { 53 : accept, 6081 : drop }"), False,
     ("input", "input"), "udp dport vmap { 53 : accept, 6081 : drop }", False),
    ("far", base("inet t input 0", "udp dport 6081 reject"), False,
     ("input", "input"), "udp dport 6081 reject", False),
    ("far", base("inet t input 0", "udp dport 6081 reject"), True,
     ("input", "input"), "udp dport 6081 reject", False),
    ("far", base("inet t input 0", "udp dport 6081 accept") + base("inet u input 10", DROP), False,
     ("input", "input"), DROP, False),
]  # fmt: skip


@pytest.mark.parametrize(("end", "ruleset", "v6", "chains", "words", "policy"), PLACES)
def test_the_very_rule_is_named(
    cable: Bench,
    agents: dict[str, Worker],
    end: str,
    ruleset: str,
    v6: bool,
    chains: tuple[str, str],
    words: str,
    policy: bool,
) -> None:
    where, worker = getattr(cable, end), agents[end]
    assert worker.open(UDP) == ""
    cable.nft(where, ruleset)
    udp(cable, 2, v6=v6)
    hits = worker.hits(2)
    for hit in hits:
        assert hit["chain"].startswith(chains[0])
        assert (hit["base"], hit["verdict"], hit["policy"]) == (chains[1], "drop", policy)
        assert (hit["source"], hit["destination"]) == (NEAR[v6], FAR[v6])
        ports = "100017c1"  # 4096 to 6081
        assert hit["transport"].startswith(ports)
        assert hit["path"][-1] == [hit["family"], hit["table"], hit["chain"]]
        assert not any("preflight" in step[1] for step in hit["path"])
        assert hit["device"] == "eth0"
        assert (hit["handle"] == 0) == policy
    assert [hit["ident"] for hit in hits] == ([0, 0] if v6 else [1, 2])
    (rule,) = worker.describe()
    assert rule["text"] == words
    assert (rule["tool"], rule["policy"], rule["rejects"]) == ("nft", policy, "reject" in words)
    assert rule["base"]["hook"] == chains[1]
    assert rule["base"]["type"] == "filter"
    assert rule["handle"] == hits[0]["handle"]
    assert not worker("traces['test'].lost")
    worker("traces['test'].close()")


def test_where_it_walked_and_what_the_base_chain_is(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    cable.nft(
        cable.far,
        base("ip early prerouting -150", "ip ttl 0 drop")
        + base("inet t input -7", "jump middle", policy="drop", more=JUMPS),
    )
    udp(cable, 1)
    (hit,) = worker.hits(1)
    assert hit["path"] == [
        ["ip", "early", "prerouting"],
        ["inet", "t", "input"],
        ["inet", "t", "middle"],
        ["inet", "t", "last"],
    ]
    (rule,) = worker.describe()
    assert rule["base"] == {"type": "filter", "hook": "input", "priority": -7, "policy": "drop"}
    assert (rule["position"], rule["chain_rules"], rule["set_by"]) == (1, 1, [])


def test_a_comment_and_a_position(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    rules = ["tcp dport 22 accept", 'udp dport 6081 drop comment "corp baseline"', "accept"]
    cable.nft(cable.far, base("inet filter input 0", *rules))
    udp(cable, 3)
    worker.hits(3)
    (rule,) = worker.describe()  # three packets, one rule
    assert rule["text"] == rules[1]
    assert (rule["comment"], rule["position"], rule["chain_rules"]) == ("corp baseline", 2, 3)


def test_tcp_with_a_reset_and_echo(cable: Bench) -> None:
    marks = [
        (4, 6, [("network", 16, socket.inet_aton(FAR[0])), ("transport", 2, b"\x10\x90")]),
        (4, 1, [("transport", 0, b"\x08\x00")]),
        (6, 58, [("network", 24, socket.inet_pton(socket.AF_INET6, FAR[1]))]),
    ]
    worker = cable.worker(cable.far)
    assert worker.open(marks) == ""
    rules = [
        "tcp dport 4240 reject with tcp reset",
        "icmp type echo-request drop",
        "icmpv6 type echo-request drop",
    ]
    cable.nft(cable.far, base("inet filter input 0", *rules))

    def connect() -> None:
        with socket.socket() as sock, suppress(ConnectionRefusedError):
            sock.connect((FAR[0], 4240))

    cable.call(cable.near, connect)

    def echo() -> None:
        v4 = (socket.AF_INET, socket.IPPROTO_ICMP, bytes((8, 0, 0xF7, 0xFF)) + bytes(4), FAR[0])
        v6 = (socket.AF_INET6, socket.IPPROTO_ICMPV6, bytes((128,)) + bytes(7), FAR[1])
        for family, protocol, packet, address in (v4, v6):
            with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
                sock.sendto(packet, (address, 0))

    cable.call(cable.near, echo)
    worker.hits(3)
    told = worker.describe()
    assert [rule["text"] for rule in told] == rules
    assert [rule["rejects"] for rule in told] == [True, False, False]


def test_a_mark_longer_than_a_register(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open([(4, 17, [("network", 12, bytes((10, 77, 0, 1)) + bytes((10, 77, 0, 2))),
                                 ("transport", 0, struct.pack("!HHHH", 4096, 6081, 18, 0)[:6]),
                                 ("transport", 8, b"PREFLIGHT0")])]) == ""  # fmt: skip
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    udp(cable, 3)  # payloads PREFLIGHT0, 1 and 2: of the first alone we asked to be told
    udp(cable, 1, ident=9)
    assert [hit["ident"] for hit in worker.hits(2)] == [1, 9]
    long = struct.pack("!BBH", 0x45, 0, 38)
    assert worker.open([(4, 17, [("network", 0, long), ("network", 8, b"\x40\x11"),
                                 ("network", 12, socket.inet_aton(NEAR[0])
                                  + socket.inet_aton(FAR[0])
                                  + struct.pack("!HH", 4096, 6081) + b"\0\x12")])],
                       name="long") == ""  # fmt: skip
    udp(cable, 1)
    worker.hits(1, name="long")


def test_through_a_bridge() -> None:
    drop = "udp dport 6081 drop"
    with bench("bridge", bridge=True) as cable:
        for family_hook, v6 in (("prerouting -300", False), ("input 0", True)):
            worker = cable.worker(cable.far)
            assert worker.open(UDP, devices=[]) == ""
            assert worker("traces['test'].families") == ["inet", "bridge"]
            cable.nft(cable.far, base(f"bridge t {family_hook}", drop))
            udp(cable, 2, v6=v6)
            hook = family_hook.split()[0]
            assert {named(h) for h in worker.hits(2)} == {("bridge", "t", hook, False, "drop")}
            (rule,) = worker.describe()
            assert (rule["text"], rule["base"]["hook"]) == (drop, hook)
            cable.clean()
        # On its way out through a bridge, and in at its port.
        worker = cable.worker(cable.far)
        marks = [(4, 17, [("transport", 8, b"ANSWER")])]
        assert worker.open(marks, devices=["eth0", "br0"]) == ""
        cable.nft(cable.far, base("bridge t output 0", drop))

        def answer() -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.sendto(b"ANSWER", (NEAR[0], 6081))

        cable.call(cable.far, answer)
        (hit,) = worker.hits(1)
        assert named(hit) == ("bridge", "t", "output", False, "drop")


# --- ours and others' ----------------------------------------------------------------------------


def test_two_runs_at_once(cable: Bench) -> None:
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    one, other = cable.worker(cable.far), cable.worker(cable.far)
    assert one.open([(4, 17, [("transport", 8, b"PREFLIGHT0")])], name="one") == ""
    assert other.open(UDP, name="other") == ""
    owned = {"inet preflight_one", "inet preflight_other"}
    assert cable.worker(cable.far).open(UDP, name="one") == "a table of that name exists"
    assert owned < set(cable.tables(cable.far))
    udp(cable, 2)
    assert [hit["chain"] for hit in other.hits(2, name="other")] == ["input"] * 2
    assert [hit["transport"][-2:] for hit in one.hits(1, name="one")] == [b"0".hex()]
    assert one("traces['one'].close()") is None
    assert not any("_one" in table for table in cable.tables(cable.far))
    udp(cable, 1)
    other.hits(3, name="other")
    other.close()
    assert cable.tables(cable.far) == ["inet t"]


def test_strangers_traces_are_not_ours(cable: Bench) -> None:
    """Somebody traces everything: what bears no mark of ours is theirs."""
    cable.nft(
        cable.far,
        base("inet spy prerouting -400", "meta nftrace set 1")
        + base("inet t input 0", "udp dport { 6081, 9999 } drop"),
    )
    worker = cable.worker(cable.far)
    assert worker.open([(4, 17, [("transport", 2, struct.pack("!H", 6081))])]) == ""
    udp(cable, 5, port=9999)
    udp(cable, 1)
    udp(cable, 5, port=9999)
    udp(cable, 1)
    assert {hit["transport"][:8] for hit in worker.hits(2)} == {"100017c1"}
    for i, mark in enumerate(
        [(4, 6, UDP[0][2]), (6, 17, UDP[0][2])]
    ):  # neither protocol nor family
        assert worker.open([mark, (4, 17, [("transport", 0, b"\xaf\xc8")])], name=str(i)) == ""
        udp(cable, 3)
        udp(cable, 1, source=45000)
        assert worker.hits(1, name=str(i))[0]["transport"][:4] == "afc8"


def test_the_packets_pass_as_ever(cable: Bench) -> None:
    """With tracing on all arrive that did, and none of them is told to have ended."""
    worker, sender = cable.worker(cable.far), cable.worker(cable.near)
    assert (worker.open(UDP), sender.open(UDP, name="near")) == ("", "")
    cable.nft(cable.far, base("inet t input 0", "udp dport 7777 drop"))

    def receiver() -> socket.socket:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind((FAR[0], 6081))
        sock.settimeout(PATIENCE_S)
        return sock

    with cable.call(cable.far, receiver) as sock:
        udp(cable, 8)
        assert [sock.recv(100) for _ in range(8)] == [b"PREFLIGHT%d" % i for i in range(8)]
    udp(cable, 1, port=7777)
    assert [hit["transport"][4:8] for hit in worker.hits(1)] == ["1e61"]
    assert sender("hits(traces['near'], 1, 0)") == []


def test_more_than_could_be_read_is_told(cable: Bench) -> None:
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    worker("traces['test']._socket.setsockopt(1, 8, 2048)")  # SO_RCVBUF
    udp(cable, 200)
    worker("hits(traces['test'], 200, 0)")
    assert worker("traces['test'].lost")


# --- the oldest python ---------------------------------------------------------------------------


def test_under_every_python(cable: Bench) -> None:
    from test_agent_pythons import usable

    cable.nft(cable.far, base("inet t input 0", 'udp dport 6081 drop comment "old"'))
    for i, python in enumerate(usable()):
        worker: Worker = cable.worker(cable.far, python=python)
        assert worker.open(UDP, owned=bool(i % 2)) == ""
        udp(cable, 1, v6=bool(i % 2))
        worker.hits(1)
        assert [rule["comment"] for rule in worker.describe()] == ["old"]
        worker.close()
