"""What a node says of itself in numbers: parsers of the kernel's tables, and the tables."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelbed import Bed
from labs import PREFIX

from preflight.agent import netlink
from preflight.agent.kernel import counters, fib, hooks, sysctls

TABLES = Path(__file__).parent / "fixtures" / "kernel"


def table(name: str) -> bytes:
    return (TABLES / name).read_bytes()


# --- the kernel's tables --------------------------------------------------------------------------


def test_pairs_of_lines_are_named_as_nstat_names_them() -> None:
    found = counters.pairs_of_lines(table("snmp"))
    assert found["IpInReceives"] == int(table("snmp").split(b"\n")[1].split()[3])
    assert found["TcpMaxConn"] == -1
    found = counters.pairs_of_lines(table("netstat"))
    assert found["IpExtInOctets"] > 0
    assert found["TcpExtIPReversePathFilter"] == 0


def test_lines_of_a_name_and_a_number() -> None:
    assert counters.lines(table("snmp6"))["Ip6InReceives"] > 0
    assert counters.lines(table("xfrm_stat"))["XfrmInError"] == 0


def test_columns_are_hexadecimal_and_summed_over_the_cpus() -> None:
    assert counters.columns(table("arp_cache"))["table_fulls"] == 0x1649 + 0x2A
    assert "drop" in counters.columns(table("nf_conntrack"))


def test_the_backlogs_drops_are_summed() -> None:
    assert counters.backlog(table("softnet_stat")) == {"softnet:dropped": 0x1E4 + 0x1B049}
    assert counters.backlog(b"") == {}


def test_devices_are_told_by_name() -> None:
    found = counters.devices(table("dev"), ["eth0"])
    assert found["eth0 rx_packets"] == 21629
    assert found["eth0 tx_packets"] == 14319
    assert {key.split()[0] for key in found} == {"eth0"}


def queue(index: int, kind: bytes, drops: int) -> tuple[int, bytes]:
    def attribute(number: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)

    stats = attribute(3, struct.pack("=5I", 0, 0, drops, 0, 0))
    body = struct.pack("=BxxxiIII", 0, index, 0, 0, 0)
    return 36, body + attribute(1, kind + b"\0") + attribute(0x8007, stats)


def test_queues_of_a_kind_are_summed_and_filters_told_apart() -> None:
    messages = [queue(2, b"fq_codel", 3), queue(2, b"fq_codel", 4), queue(2, b"mq", 7),
                queue(2, b"clsact", 5), queue(3, b"fq", 9)]  # fmt: skip
    assert counters.queues(messages, {2: "eth0"}) == {
        "eth0 qdisc fq_codel dropped": 7,
        "eth0 qdisc mq dropped": 7,
        "eth0 tc clsact dropped": 5,
    }


def link(index: int, name: bytes, *, master: int = 0, on: int = 0) -> tuple[int, bytes]:
    def attribute(number: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)

    body = struct.pack("=BxHiII", 0, 1, index, 0, 0) + attribute(3, name + b"\0")
    if master:
        body += attribute(10, struct.pack("=i", master))
    if on:
        body += attribute(5, struct.pack("=i", on)) + attribute(18, attribute(1, b"vlan\0"))
    return 16, body


def test_who_takes_in_what_comes_by_a_device() -> None:
    links = [link(1, b"eth0", master=3), link(2, b"eth1"), link(3, b"bond0", master=4),
             link(4, b"br0"), link(5, b"br0.7", on=4), link(6, b"eth1.8", on=2)]  # fmt: skip
    assert hooks.takers(links, "eth0") == ["br0", "br0.7"]
    assert hooks.takers(links, "eth1") == ["eth1", "eth1.8"]
    assert hooks.takers(links, "br0.7") == ["br0.7"]


_PARSERS: list[Callable[[bytes], Any]] = [
    counters.pairs_of_lines,
    counters.lines,
    counters.columns,
    counters.backlog,
    lambda data: counters.devices(data, ["eth0", "lo"]),
    lambda data: counters.queues(netlink.messages(data), {0: "eth0"}),
    lambda data: counters.queues([(36, data)], {0: "eth0"}),
    lambda data: hooks.xdp([(16, data)]),
    lambda data: hooks.takers([(16, data)], "eth0"),
    lambda data: hooks.takers(netlink.messages(data), "eth0"),
    lambda data: hooks.policies([(0x13, data)]),
    lambda data: fib.addressed([(20, data)]),
    fib.kind_of,
    sysctls.value_of,
]


@pytest.mark.parametrize("parse", _PARSERS)
@given(data=st.data())
def test_no_table_is_a_crash(parse: Callable[[bytes], Any], data: st.DataObject) -> None:
    names = sorted(path.name for path in TABLES.iterdir())
    text = table(data.draw(st.sampled_from(names)))[: data.draw(st.integers(0, 5000))]
    at = data.draw(st.integers(0, len(text)))
    noise = data.draw(st.binary(max_size=300))
    for broken in (noise, text[:at] + noise + text[at:]):
        json.dumps(parse(broken))


# --- windows --------------------------------------------------------------------------------------


def test_what_moved() -> None:
    before = {"a": 1, "b": 5, "gone": 1, "fell": 9}
    after = {"a": 1, "b": 25, "new": 3, "fell": 2}
    assert counters.moved(before, after) == {"a": 0, "b": 20}


def test_a_narrow_counter_that_ran_over_still_rose() -> None:
    before = {"nf_conntrack:drop": 2**32 - 5, "eth0 qdisc fq dropped": 2**32 - 1, "IpX": 2**32 - 1}
    after = {"nf_conntrack:drop": 15, "eth0 qdisc fq dropped": 0, "IpX": 0}
    assert counters.moved(before, after) == {"nf_conntrack:drop": 20, "eth0 qdisc fq dropped": 1}


_COUNTS = st.dictionaries(
    st.sampled_from(["IpX", "a:b", "eth0 qdisc fq dropped"]), st.integers(0, 2**64)
)


@given(_COUNTS, _COUNTS)
def test_nothing_ever_moved_backwards(before: dict[str, int], after: dict[str, int]) -> None:
    moved = counters.moved(before, after)
    assert set(moved) <= set(before) & set(after)
    assert all(rise >= 0 for rise in moved.values())
    for name, rise in moved.items():
        assert (after[name] - before[name] - rise) % 2**32 == 0


# --- settings -------------------------------------------------------------------------------------


def test_a_dot_in_a_devices_name_is_a_slash_in_its_sysctls() -> None:
    path = "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"
    assert sysctls.path_of("net.ipv4.conf.eth0/100.rp_filter") == path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1\n", 1), (b"-1\n", -1), (b"0-1,3-127\n", "0-1,3-127"),
        (b"4096\t131072\n", "4096 131072"),
        (b"", None), (b"\n", None),
    ],
)  # fmt: skip
def test_values_of_sysctls(text: bytes, value: object) -> None:
    assert sysctls.value_of(text) == value


# --- a real node ----------------------------------------------------------------------------------


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed(f"preflight-{PREFIX}-c") as built:
        yield built


@pytest.mark.lab
def test_the_nodes_own_word(bed: Bed) -> None:
    """Whatever is asked of a node, in one go: devices with a dot, without addresses, or gone."""
    bed.ip("b", "link set w0 down")
    bed.ip("b", "link set w0 name w0.5")
    bed.tc("b", "qdisc add dev v0 clsact")
    bed.tc("b", "qdisc add dev w0.5 root pfifo limit 7")
    bed.ip("b", "xfrm policy add dir out dst 10.99.0.0/16 action block")
    bed.ip("b", "xfrm policy add dir out dst 10.98.0.0/16 action block")
    bed.ip("b", "xfrm policy add dir in dst 10.98.0.0/16 action block")
    bed.ip("b", "route add blackhole 10.98.0.0/16")
    bed.sysctl("b", "net.ipv4.conf.w0/5.rp_filter", 2)
    pairs = [("10.9.0.2", "10.98.0.1"), ("fd09::2", "fd09::1"), ("10.9.0.2", "10.97.0.1")]
    with bed.account("b", pairs=pairs, devices=["v0", "w0.5", "gone"]) as account:
        end = account.end()
    assert end.settings["net.ipv4.conf.w0/5.rp_filter"] == 2
    assert end.settings["net.ipv6.conf.v0.disable_ipv6"] == 0
    assert end.settings["ip route get 10.98.0.1 from 10.9.0.2"] == "EINVAL"
    assert end.settings["ip route get 10.97.0.1 from 10.9.0.2"] == "ENETUNREACH"
    assert end.settings["ip route get fd09::1 from fd09::2"] == "unicast"
    assert end.settings["ip route get fd09::2 from fd09::1 iif v0"] == "local"
    assert end.settings["ip -4 address show dev v0"] == 1
    assert end.settings["ip -4 address show dev w0.5"] == 0
    assert end.settings["ip xfrm policy list dir out"] == 2
    assert end.settings["ip xfrm policy list dir in"] == 1
    assert end.moved["v0 tc clsact dropped"] == 0
    assert end.moved["w0.5 qdisc pfifo dropped"] == 0
    assert end.moved["w0.5 rx_dropped"] == 0
    assert not any("gone" in name for name in (*end.settings, *end.moved))


@pytest.mark.lab
def test_each_name_is_one_that_nstat_knows(bed: Bed) -> None:
    with bed.account("b") as account:
        moved = set(account.end().moved)
    tables = ("snmp", "netstat", "snmp6", "xfrm_stat")
    here = {}
    for name in tables:
        path = Path("/proc/thread-self/net", name)
        text = bed.inside("b", lambda path=path: path.read_bytes() if path.exists() else b"")
        here |= counters.pairs_of_lines(text) | counters.lines(text)
    plain = {name for name in moved if ":" not in name and " " not in name}
    assert plain <= set(here)
    assert {"TcpExtIPReversePathFilter", "IpInAddrErrors", "Ip6InNoRoutes"} <= plain
