"""What the agent makes of what a kernel said: recorded answers, and ones that are no answers."""

import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from facts import recorded
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from preflight.agent.facts import (
    addresses,
    clock,
    cni,
    ethtool,
    files,
    iptables,
    links,
    media,
    modules,
    nftables,
    owners,
    routes,
    rules,
    services,
    sockets,
    sysctls,
)
from preflight.agent.facts.answer import addresses_worth_telling, stack, worth_telling
from preflight.agent.netlink import RTM_NEWLINK


def messages(rows: list[list[Any]]) -> list[tuple[int, bytes]]:
    return [(kind, bytes.fromhex(body)) for kind, body in rows]


RTNETLINK = recorded("rtnetlink.json")
DEVICES = links.parse(messages(RTNETLINK["links"]))
BY_NAME = {device["name"]: device for device in DEVICES}
NAMES = {device["index"]: device["name"] for device in DEVICES}


# --- devices -------------------------------------------------------------------------------------


def test_devices_as_the_kernel_told_them() -> None:
    assert list(BY_NAME) == ["lo", "br0", "eth0p", "eth0", "vx0", "flannel.1"]
    assert {name: device["kind"] for name, device in BY_NAME.items()} == {
        "lo": None, "br0": "bridge", "eth0p": "veth", "eth0": "veth", "vx0": "vxlan",
        "flannel.1": "vxlan",
    }  # fmt: skip
    assert BY_NAME["eth0p"]["master"] == "br0"
    assert BY_NAME["eth0"]["lower"] is None  # the other end of a veth is below nothing
    assert BY_NAME["flannel.1"]["mtu"] == 1450
    assert BY_NAME["vx0"]["tunnel"] == {"vni": 0, "port": 6081, "external": True}
    assert BY_NAME["flannel.1"]["tunnel"] == {"vni": 1, "port": 8472, "external": False}


def made(kind: str, data: list[list[Any]], **fields: Any) -> dict[str, Any]:
    """A device of a kind that this kernel has not, as pyroute2 would have the kernel tell it."""
    message = ifinfmsg()
    message["index"], message["flags"] = 7, links.IFF_UP
    info = {"attrs": [["IFLA_INFO_KIND", kind], ["IFLA_INFO_DATA", {"attrs": data}]]}
    message["attrs"] = [["IFLA_IFNAME", "x0"], ["IFLA_LINKINFO", info]]
    message["attrs"] += [[name, value] for name, value in fields.items()]
    message.encode()
    body = bytes(message.data[16:])  # after the header of a netlink message
    (device,) = links.parse([(RTM_NEWLINK, body)])
    return device


def test_a_geneve_device() -> None:
    external = made("geneve", [["IFLA_GENEVE_ID", 0], ["IFLA_GENEVE_PORT", 6081],
                               ["IFLA_GENEVE_COLLECT_METADATA", None]])  # fmt: skip
    assert external["kind"] == "geneve"
    assert external["tunnel"] == {"vni": 0, "port": 6081, "external": True}
    plain = made("geneve", [["IFLA_GENEVE_ID", 77], ["IFLA_GENEVE_PORT", 6082]])
    assert plain["tunnel"] == {"vni": 77, "port": 6082, "external": False}


def test_a_vlan_and_a_bond() -> None:
    vlan = made("vlan", [["IFLA_VLAN_ID", 7]], IFLA_LINK=7)
    assert (vlan["vlan"], vlan["lower"]) == (7, "x0")
    assert made("bond", [["IFLA_BOND_MODE", 4]])["bond"] == {"mode": "802.3ad"}
    assert made("bond", [["IFLA_BOND_MODE", 99]])["bond"] == {"mode": None}


def test_a_lower_device_in_another_namespace_is_not_ours() -> None:
    vlan = made("vlan", [["IFLA_VLAN_ID", 7]], IFLA_LINK=7, IFLA_LINK_NETNSID=3)
    assert vlan["lower"] is None


def device(name: str, kind: str | None = None, **other: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, "lower": None, "master": None, **other}


def test_what_a_way_goes_through() -> None:
    devices = [
        device("eth0", master="bond0"), device("eth1", master="bond0"), device("bond0", "bond"),
        device("bond0.7", "vlan", lower="bond0"), device("br0", "bridge"),
        device("vnet0", "tun", master="br0"), device("veth1", "veth", master="br0"),
        device("eth2", master="br0"), device("lo"),
    ]  # fmt: skip
    assert stack(devices, {"bond0.7"}) == ["bond0.7", "bond0", "eth0", "eth1"]
    assert stack(devices, {"br0", None, "gone", "lo"}) == ["br0", "eth2"]
    assert stack([device("a", lower="b"), device("b", lower="a")], {"a"}) == ["a", "b"]
    told = [d["name"] for d in worth_telling(devices, {"veth1"})]
    assert "vnet0" not in told
    assert "veth1" in told


def test_addresses_for_each_service_do_not_push_out_the_nodes_own() -> None:
    many = [{"device": "kube-ipvs0", "address": f"10.96.{n // 250}.{n % 250}", "scope": "global"}
            for n in range(3000)]  # fmt: skip
    pods = [{"device": f"lxc{n}", "address": f"fe80::{n}", "scope": "link"} for n in range(300)]
    own = {"device": "eth0", "address": "10.0.0.1", "scope": "global"}
    told = addresses_worth_telling([*many, *pods, own], ["eth0"])
    assert told[0] == own
    assert len(told) == 256
    assert not any(row["scope"] == "link" for row in told)


# --- addresses, ways, rules ----------------------------------------------------------------------


def test_addresses_as_the_kernel_told_them() -> None:
    told = addresses.parse(messages(RTNETLINK["addresses"]), NAMES)
    scopes = {row["address"]: (row["device"], row["prefix"], row["scope"]) for row in told}
    assert scopes["10.0.0.1"] == ("eth0", 24, "global")
    assert scopes["fd00::1"] == ("eth0", 64, "global")
    assert scopes["127.0.0.1"] == ("lo", 8, "host")
    assert [row["scope"] for row in told if row["address"].startswith("fe80")] == ["link"] * 4


def way(address: str) -> dict[str, Any]:
    family = 6 if ":" in address else 4
    return routes.parse(family, messages(RTNETLINK["routes"][address]), NAMES)


@pytest.mark.parametrize(
    ("address", "gateway", "source", "mtu"),
    [
        ("10.0.0.7", None, "10.0.0.1", None),
        ("10.1.2.3", "10.0.0.9", "10.0.0.1", None),
        ("10.2.0.5", "10.0.0.9", "10.0.0.1", 1300),
        ("10.4.0.1", "fd00::9", "10.0.0.1", None),
        ("fd00::7", None, "fd00::1", None),
        ("fd01::5", "fd00::9", "fd00::1", None),
    ],
)
def test_a_way_as_the_kernel_told_it(
    address: str, gateway: str | None, source: str, mtu: int | None
) -> None:
    told = way(address)
    assert (told["device"], told["gateway"], told["source"]) == ("eth0", gateway, source)
    assert (told["mtu"], told["learned"], told["error"]) == (mtu, False, None)


def test_peers_that_share_a_way_are_told_together() -> None:
    peers = {4: ["10.0.0.7", None, "10.1.2.3", "10.0.0.7"], 6: [None, "fd00::7", None, None]}
    told = routes.gather(lambda family, address: way(address), peers)
    assert [(row["family"], row["gateway"], row["peers"]) for row in told] == [
        (4, None, [0, 3]), (4, "10.0.0.9", [2]), (6, None, [1]),
    ]  # fmt: skip


def test_a_default_way_has_a_gateway() -> None:
    def ask(family: int, address: str) -> dict[str, Any]:
        via = {"198.51.100.1": "10.0.0.9"}.get(address)
        return routes.way(family, device="eth0", gateway=via, error=None)

    assert [row["gateway"] for row in routes.defaults(ask)] == ["10.0.0.9"]


def test_rules_but_the_kernels_own() -> None:
    told = rules.parse(messages(RTNETLINK["rules"]))
    assert [(r["family"], r["priority"], r["table"], r["protocol"]) for r in told] == [
        (4, 9, 2004, 0), (4, 50, 100, 0), (6, 10, 2005, 2),
    ]  # fmt: skip
    assert [(r["mark"], r["source"]) for r in told] == [
        (0x200, None), (None, "10.0.0.1"), (0xA00, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "parse",
    [links.parse, lambda m: addresses.parse(m, {}), lambda m: routes.parse(4, m, {}), rules.parse],
    ids=["links", "addresses", "routes", "rules"],
)
def test_strangers_messages_are_left_out(parse: Any) -> None:
    assert parse([(3, b""), (0xFFFF, bytes(64))]) in ([], routes.way(4, error=101))


# --- network cards -------------------------------------------------------------------------------


def test_what_a_virtio_card_said() -> None:
    said = {key: bytes.fromhex(text) for key, text in recorded("ethtool-virtio.json").items()}
    assert ethtool.parse_driver(said["driver"]) == "virtio_net"
    names = ethtool.parse_names(said["names"])
    assert "tx-udp_tnl-csum-segmentation" in names
    on, fixed = ethtool.parse_features(said["features"], names)
    assert set(on) == set(ethtool.TOLD)
    # As `ethtool -k` of the same card printed it.
    assert {name for name, value in on.items() if value} == {
        "rx-checksum", "tx-checksum-ip-generic", "tx-tcp-segmentation",
        "tx-generic-segmentation", "rx-gro", "rx-gro-hw",
    }  # fmt: skip
    assert "tx-udp_tnl-segmentation" in fixed
    assert "tx-checksum-ip-generic" not in fixed


@pytest.mark.parametrize(
    ("text", "speed"),
    [("10000\n", 10_000), ("-1\n", None), ("4294967295\n", None), ("", None), ("fast", None)],
)
def test_speed(text: str, speed: int | None) -> None:
    assert media.parse_speed(text) == speed


def test_duplex() -> None:
    assert [media.parse_duplex(t) for t in ("full\n", "half\n", "unknown\n", "")] == [
        "full", "half", None, None,
    ]  # fmt: skip


# --- ports ---------------------------------------------------------------------------------------


def test_sockets_by_proc_and_by_sock_diag() -> None:
    said = recorded("sockets.json")
    assert sockets.parse(4, said["udp"].encode(), None) == [
        (4, "0.0.0.0", 6081, 3547422), (4, "127.0.0.1", 8472, 3547423),
    ]  # fmt: skip
    assert sockets.parse(6, said["udp6"].encode(), None) == [(6, "::", 6081, 3547421)]
    by_proc = sockets.parse(4, said["tcp"].encode(), b"0A")
    by_diag = sockets.parse_diag([bytes.fromhex(body) for body in said["diag4"]])
    assert by_proc == by_diag == [(4, "0.0.0.0", 4240, 3547424)]
    (v6,) = sockets.parse_diag([bytes.fromhex(body) for body in said["diag6"]])
    assert v6[:3] == (6, "::1", 4240)


@pytest.mark.parametrize("line", [b"", b"x y z", b"0: 00:1 00:0 07 0 0 0 0 0 zz", b"1: :::: 2 3"])
def test_a_line_of_proc_that_is_none(line: bytes) -> None:
    assert sockets.parse(4, b"head\n" + line, None) == []


@pytest.mark.parametrize(
    ("comm", "cmdline", "name"),
    [
        ("nginx", b"nginx: master process\0", "nginx"),
        ("cilium-operator", b"/usr/bin/cilium-operator-generic\0--x\0", "cilium-operator-generic"),
        ("fifteen-letters", b"another\0", "fifteen-letters"),
        ("fifteen-letters", b"", "fifteen-letters"),
    ],
)
def test_a_processs_name(comm: str, cmdline: bytes, name: str) -> None:
    assert owners.parse_name(comm, cmdline) == name


# --- kernel settings -----------------------------------------------------------------------------


def test_entries_of_a_neighbour_table() -> None:
    assert sysctls.parse_entries("entries  allocs\n0000001f 00\n0000001f 01\n") == 31
    for text in ("", "entries\n", "entries\n\n"):
        with pytest.raises(ValueError, match="no line"):
            sysctls.parse_entries(text)


def test_wrong_checksums() -> None:
    text = (
        "Tcp: RtoAlgorithm InSegs OutSegs InErrs InCsumErrors\nTcp: 1 900 800 3 2\n"
        "Udp: InCsumErrors\nUdp: 77\n"
    )
    assert sysctls.parse_snmp(text) == {"segments": 900, "checksum_errors": 2}
    with pytest.raises(ValueError, match="no two"):
        sysctls.parse_snmp("Udp: 1\n")


def test_name_servers() -> None:
    text = "# none\nsearch a b\nnameserver 10.0.0.53\nnameserver  fd00::53 # x\nnameserver\n"
    assert sysctls.parse_resolver(text) == ["10.0.0.53", "fd00::53"]


_DEP = b"kernel/drivers/net/geneve.ko.zst: kernel/net/ipv4/udp_tunnel.ko.zst\n"
_CONFIG_OFF = b"CONFIG_VXLAN=y\n# CONFIG_GENEVE is not set\n"


@pytest.mark.parametrize(
    ("loaded", "shown", "builtin", "there", "config", "state"),
    [
        (b"x 1\ngeneve 1 0 - Live\n", True, b"", b"", None, "loaded"),
        (b"geneve 1 0 - Live\n", False, None, None, None, "loaded"),
        (b"geneve_x 1 0\n", False, b"", _DEP, None, "available"),
        (b"", True, b"", b"x", None, "built-in"),
        (b"", False, b"kernel/drivers/net/geneve.ko\n", b"x", None, "built-in"),
        (b"", False, b"", b"kernel/x.ko:\n", None, "absent"),
        (b"", False, b"", b"", None, None),  # an empty modules.dep says nothing
        (b"", False, None, None, None, None),
        (None, False, None, None, _CONFIG_OFF, "absent"),
        (None, False, None, None, b"A=1\nCONFIG_GENEVE=y\n", "built-in"),
        (b"", False, None, None, b"A=1\nCONFIG_GENEVE=m\n", None),  # but is the file there?
    ],
)
def test_a_module(
    loaded: bytes | None,
    shown: bool,
    builtin: bytes | None,
    there: bytes | None,
    config: bytes | None,
    state: str | None,
) -> None:
    assert modules.parse("geneve", loaded, shown, builtin, there, config) == state


def test_a_packed_kernel_configuration() -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(_CONFIG_OFF) + packer.flush()
    assert modules._unpacked(packed) == _CONFIG_OFF
    assert modules._unpacked(packed[:-9] + b"123456789") is None


def test_the_kernels_clock() -> None:
    # modes, offset, freq, maxerror, esterror, status of a struct timex on a 64-bit machine
    def timex(status: int) -> bytes:
        numbers = [(0, 8), (5, 8), (7, 8), (3500, 8), (9, 8), (status, 4)]
        return b"".join(n.to_bytes(size, "little") for n, size in numbers) + bytes(164)

    assert clock.parse(0, timex(0x2001)) == {"synchronised": True, "max_error_us": 3500}
    assert not clock.parse(0, timex(0x2041))["synchronised"]  # STA_UNSYNC
    assert not clock.parse(5, timex(0x2001))["synchronised"]  # TIME_ERROR


# --- firewalls and services ----------------------------------------------------------------------


def test_nftables_in_outline() -> None:
    said = recorded("nftables.json")
    told = nftables.parse(messages(said["tables"]), messages(said["chains"]))
    tables = {(table["family"], table["name"]): table for table in told}
    assert list(tables) == [
        ("inet", "firewalld"), ("netdev", "guard"), ("ip", "filter"), ("ip", "nat"),
    ]  # fmt: skip
    (base,) = tables["inet", "firewalld"]["base"]
    assert base == {"name": "filter_INPUT", "hook": "input", "priority": 10, "policy": "drop",
                    "rules": 1}  # fmt: skip
    (early,) = tables["netdev", "guard"]["base"]
    assert (early["hook"], early["priority"]) == ("ingress", -5)
    policies = {b["name"]: b["policy"] for b in tables["ip", "filter"]["base"]}
    assert policies == {"INPUT": "accept", "FORWARD": "drop"}
    assert tables["ip", "filter"]["chains"] == {"KUBE": 1, "INPUT": 1, "FORWARD": 1}
    assert tables["ip", "nat"]["chains"] == {"KUBE": 1, "CILIUM": 1}


def test_iptables_legacy_in_outline() -> None:
    said = recorded("iptables.json")
    v4, v6 = (
        iptables.parse(bytes.fromhex(said[f]["entries"]), int(f), said[f]["base"]) for f in "46"
    )
    assert v4 == (4, {"DOCKER": 2})
    assert v6 == (1, {"cali": 1})


@pytest.mark.parametrize(
    ("name", "word"),
    [("KUBE-SVC-X", "KUBE"), ("cali-fw", "cali"), ("ufw-user-input", "ufw"), ("INPUT", "INPUT"),
     ("f2b_sshd", "f"), ("-x", "-x"), ("", "")],
)  # fmt: skip
def test_the_first_word_of_a_chain(name: str, word: str) -> None:
    assert nftables.first_word(name) == word


def test_units_that_are_active() -> None:
    names = ["invocation:firewalld.service", "invocation:cron.service", "log-level-max:ufw.service"]
    assert services.parse_units(names) == ["firewalld"]


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (["libsystemd-core-252.so", "libsystemd-shared-252.so"], 252),
        (["libsystemd-shared-249.11-0ubuntu3.so"], 249),
        (["libsystemd-shared-239.so"], 239),
        (["libsystemd-shared-.so"], None),
        ([], None),
    ],
)
def test_systemds_version(names: list[str], version: int | None) -> None:
    assert services.parse_version(names) == version


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("#!/usr/sbin/nft -f\nflush ruleset\n", True),
        ("  flush   ruleset;\n".replace(";", " "), True),
        ("# flush ruleset\n", False),
        ("flush table inet filter\n", False),
        ("", False),
    ],
)
def test_a_script_that_flushes(script: str, told: bool) -> None:
    assert services.flushes(script) == told


def test_a_file_that_is_too_large_is_not_read_in_part(tmp_path: Path) -> None:
    """What is missing in a table that was cut short would be taken to be free."""
    path = tmp_path / "udp"
    with path.open("wb") as file:
        file.truncate(files._MOST)
    with pytest.raises(OSError, match="too large"):
        files.read(str(path))
    assert files.read(str(path), 10) == bytes(10)


def test_settings() -> None:
    text = '[Network]\n# A=1\n;B=2\nManageForeignRoutes=no\n ENABLED = "yes" \nnothing\n'
    assert files.settings(text) == {"ManageForeignRoutes": "no", "ENABLED": "yes"}


def test_files_of_a_container_network() -> None:
    names = ["10-flannel.conflist", ".kubernetes-cni-keep", "net.d", "05-cilium.conflist"]
    assert cni.parse(names) == ["10-flannel.conflist", "05-cilium.conflist"]


# --- whatever they are given ---------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([16, 20, 24, 32]), st.binary(max_size=200)), max_size=4))
def test_a_netlink_message_that_is_cut_short_raises_nothing_unforeseen(
    found: list[tuple[int, bytes]],
) -> None:
    """Whatever is raised is a reason why the fact is not known; nothing may loop."""
    for parse in (links.parse, rules.parse, lambda m: routes.parse(4, m, {})):
        with suppress(struct.error, IndexError, ValueError):
            parse(found)  # type: ignore[operator]


@given(st.binary(max_size=600), st.sampled_from([4, 6]))
def test_a_blob_of_rules_that_is_none_ends(entries: bytes, family: int) -> None:
    iptables.parse(entries, family, 0)
