"""The lab as other tests and the benchmark use it: what it is made of, and what works in it."""

import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from labs import FAMILIES, TIMEOUT_S, connect, listen, ssh

from preflight import inventory
from preflight.core.model import Protocol
from preflight.errors import LabError
from preflight.lab import firewall, lab, machine, topology

if TYPE_CHECKING:
    from preflight.lab import Lab

LabName = Callable[[], str]


# --- what it is made of -----------------------------------------------------------------------


@given(
    slot=st.integers(0, topology.SLOTS - 1),
    racks=st.integers(1, topology.MAX_RACKS),
    extra=st.integers(0, 120),
    ipv6=st.booleans(),
)
def test_a_plan_gives_every_node_its_own_addresses(
    slot: int, racks: int, extra: int, ipv6: bool
) -> None:
    plan = topology.plan("x", slot=slot, racks=racks, nodes=racks + extra, ipv6=ipv6)
    addresses = [ip_address(a) for node in plan.nodes for a in node.addresses]
    gateways = [gateway.ip for rack in plan.racks for gateway in rack.gateways]
    uplink = [i.ip for i in (*plan.uplink.controller, *plan.uplink.router)]
    everything = [*addresses, *gateways, *uplink]
    assert len(set(everything)) == len(everything)
    assert all(any(a in prefix for prefix in plan.prefixes) for a in everything)
    assert len({node.mac for node in plan.nodes}) == len(plan.nodes)
    for node in plan.nodes:
        assert [i.network for i in node.interfaces] == [g.network for g in node.gateways]
    sizes = [sum(n.rack == rack.name for n in plan.nodes) for rack in plan.racks]
    assert max(sizes) - min(sizes) <= 1


def test_slots_do_not_overlap() -> None:
    slots = [topology.prefixes(slot) for slot in range(topology.SLOTS)]
    for family in range(2):
        blocks = [slot[family] for slot in slots]
        assert not any(a.overlaps(b) for a in blocks for b in blocks if a is not b)
    assert all(slot[0].overlaps(ip_network("198.18.0.0/15")) for slot in slots)


def test_nodes_fill_racks_in_order_and_lead_as_control_planes() -> None:
    plan = topology.plan("x", nodes=7, racks=3)
    assert [(n.name, n.rack) for n in plan.nodes] == [
        ("n1", "a"),
        ("n2", "a"),
        ("n3", "a"),
        ("n4", "b"),
        ("n5", "b"),
        ("n6", "c"),
        ("n7", "c"),
    ]
    assert [n.name for n in plan.nodes if n.role == "control-plane"] == ["n1", "n4", "n6"]
    two = topology.plan("x", nodes=4, racks=2)
    assert [n.name for n in two.nodes if n.role == "control-plane"] == ["n1"]
    assert two.nodes[0].addresses == ("198.18.1.11", "fd70:7265:666c:1::11")


def test_a_lab_does_not_take_another_lab_s_namespaces_for_its_own() -> None:
    existing = ["preflight-a-n1", "preflight-a-fw", "preflight-a-n1-n2", "preflight-ab-n1", "a"]
    assert topology.namespaces_of("a", existing) == ["preflight-a-n1", "preflight-a-fw"]
    assert topology.namespaces_of("a-n1", existing) == ["preflight-a-n1-n2"]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"nodes": 1}, "2 racks need at least 2 nodes, not 1"),
        ({"racks": 16, "nodes": 20}, "1 to 15 racks"),
        ({"racks": 0}, "1 to 15 racks"),
        ({"nodes": 402}, "do not fit in 2 racks of 200"),
        ({"mtu": 1279}, "too small for IPv6"),
        ({"mtu": 70000}, "68 to 65535"),
        ({"slot": 32}, "no address slot 32"),
    ],
)
def test_numbers_that_make_no_lab_are_refused(numbers: dict[str, int], words: str) -> None:
    with pytest.raises(LabError, match=words):
        topology.plan("x", **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "Lab", "a_b", "-a", "a-", "a/b", "..", "thirteen-long"])
def test_a_name_that_no_device_could_have_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        topology.check_name(name)


# --- what works in it -------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.parametrize("family", FAMILIES)
def test_nodes_of_two_racks_reach_each_other_through_the_router(lab4: "Lab", family: int) -> None:
    n1, n4 = lab4.node("n1").addresses[family], lab4.node("n4").addresses[family]
    count = "type filter hook forward priority 0; tcp dport 7000 counter;"
    lab4.nft("fw", f"table inet t {{ chain c {{ {count} }}; }}")
    with lab4.call("n4", lambda: listen(n4, 7000)) as server:
        lab4.call("n1", lambda: connect(n1, n4, 7000))
        connection, peer = server.accept()
        connection.close()
    assert peer[0] == n1
    assert "packets 0 " not in lab4.run("fw", "nft", "list", "ruleset").stdout


@pytest.mark.lab
@pytest.mark.parametrize("family", FAMILIES)
def test_frames_inside_a_rack_do_not_meet_the_router_s_forward_rules(
    lab4: "Lab", family: int
) -> None:
    n1, n2, n3 = (lab4.node(n).addresses[family] for n in ("n1", "n2", "n3"))
    lab4.nft("fw", "table inet t { chain c { type filter hook forward priority 0; reject; }; }")
    with lab4.call("n2", lambda: listen(n2, 7000)), lab4.call("n3", lambda: listen(n3, 7000)):
        lab4.call("n1", lambda: connect(n1, n2, 7000))
        with pytest.raises(ConnectionRefusedError):
            lab4.call("n1", lambda: connect(n1, n3, 7000))


@pytest.mark.lab
@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_firewall_drops_one_port_and_no_other(lab4: "Lab", family: int) -> None:
    n1, n2 = lab4.node("n1").addresses[family], lab4.node("n2").addresses[family]
    kind = socket.AF_INET6 if family else socket.AF_INET
    lab4.nft("n2", firewall.host_input_drop(Protocol.UDP, 6081, "no overlay"))

    def receiver(port: int) -> socket.socket:
        sock = socket.socket(kind, socket.SOCK_DGRAM)
        sock.bind((n2, port))
        sock.settimeout(TIMEOUT_S)
        return sock

    def send() -> None:
        with socket.socket(kind, socket.SOCK_DGRAM) as sock:
            sock.bind((n1, 0))
            sock.sendto(b"dropped", (n2, 6081))
            sock.sendto(b"passed", (n2, 6082))

    with (
        lab4.call("n2", lambda: receiver(6081)) as dropped,
        lab4.call("n2", lambda: receiver(6082)) as passed,
    ):
        lab4.call("n1", send)
        assert passed.recv(100) == b"passed"
        dropped.setblocking(False)
        with pytest.raises(BlockingIOError):
            dropped.recv(100)
    rules = lab4.run("n2", "nft", "list", "ruleset").stdout
    assert "counter packets 1 " in rules
    assert "no overlay" in rules


@pytest.mark.lab
@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_firewall_drops_one_port_between_racks(lab4: "Lab", family: int) -> None:
    rack_a, rack_b = lab4.plan.racks
    lab4.nft("fw", firewall.forward_drop(Protocol.TCP, 4240, (rack_a, rack_b), "no health"))
    for source, destination in (("n1", "n3"), ("n3", "n1")):
        here, there = (lab4.node(n).addresses[family] for n in (source, destination))

        def knock(here: str = here, there: str = there) -> None:
            with socket.socket(socket.AF_INET6 if family else socket.AF_INET) as sock:
                sock.setblocking(False)
                sock.bind((here, 0))
                sock.connect_ex((there, 4240))
            connect(here, there, 4241)

        with lab4.call(destination, lambda there=there: listen(there, 4241)):  # type: ignore[misc]
            lab4.call(source, knock)
    rules = lab4.run("fw", "nft", "list", "ruleset").stdout
    assert rules.count("counter packets 1 ") == 2
    with lab4.call("n2", lambda: listen(lab4.node("n2").addresses[family], 4240)):
        lab4.call(
            "n1",
            lambda: connect(
                lab4.node("n1").addresses[family], lab4.node("n2").addresses[family], 4240
            ),
        )


@pytest.mark.lab
@pytest.mark.parametrize("family", FAMILIES)
def test_a_translation_goes_with_its_firewall(lab4: "Lab", family: int) -> None:
    """The answers that a translated connection awaits are those of a new one by its ports."""
    n1, n2, n4 = (lab4.node(n).addresses[family] for n in ("n1", "n2", "n4"))
    ip, kind = ("ip6", socket.AF_INET6) if family else ("ip", socket.AF_INET)
    translates = f"{ip} daddr {n1} dnat {ip} to {n2}"
    lab4.nft("fw", "table inet t { chain c { type nat hook prerouting priority -100; "
             f"{translates}; }}; }}")  # fmt: skip

    def receiver() -> socket.socket:
        sock = socket.socket(kind, socket.SOCK_DGRAM)
        sock.bind((n2, 7000))
        sock.settimeout(TIMEOUT_S)
        return sock

    def send(destination: str) -> None:
        with socket.socket(kind, socket.SOCK_DGRAM) as sock:
            sock.bind((n4, 7001))
            sock.sendto(destination.encode("ascii"), (destination, 7000))

    with lab4.call("n2", receiver) as arrived:
        lab4.call("n4", lambda: send(n1))
        assert arrived.recv(100) == n1.encode("ascii")
        lab4.drop_firewall("fw")
        lab4.nft("fw", "table inet t { chain c { type filter hook forward priority 0; "
                 "ct state untracked accept; }; }")  # fmt: skip
        lab4.call("n4", lambda: send(n2))
        assert arrived.recv(100) == n2.encode("ascii")


@pytest.mark.lab
def test_ssh_gets_into_the_right_namespace_with_strict_host_keys(lab4: "Lab") -> None:
    for node in lab4.nodes:
        done = ssh(lab4, node.name, "stat -Lc %i /proc/self/ns/net; echo $SSH_CONNECTION")
        inode, connection = done.stdout.splitlines()
        assert (done.returncode, done.stderr) == (0, "")
        assert int(inode) == Path("/run/netns", node.namespace).stat().st_ino
        assert connection.split()[2] == node.addresses[0]


@pytest.mark.lab
def test_ssh_works_over_ipv6_and_refuses_a_changed_host_key(lab4: "Lab", tmp_path: Path) -> None:
    ipv6 = lab4.node("n3").addresses[1]
    argv = ["ssh", "-F", str(lab4.run_dir.ssh_config), "-o", "BatchMode=yes"]
    subprocess.run([*argv, ipv6, "true"], check=True, timeout=60)
    other = tmp_path / "known_hosts"
    client_key = lab4.run_dir.client_key.with_suffix(".pub").read_text("ascii")
    other.write_text(f"{ipv6} {client_key}", encoding="ascii")
    refused = subprocess.run(
        [*argv, "-o", f"UserKnownHostsFile={other}", ipv6, "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 255
    assert "verification failed" in refused.stderr


@pytest.mark.lab
def test_a_login_shell_reads_no_bashrc(lab4: "Lab") -> None:
    assert int(ssh(lab4, "n1", "echo $SHLVL").stdout) >= 2


@pytest.mark.lab
def test_the_inventory_is_one_that_check_takes(lab4: "Lab") -> None:
    loaded = inventory.load(lab4.inventory_path)
    assert [(n.name, n.addresses) for n in loaded.nodes] == [
        (n.name, n.addresses) for n in lab4.nodes
    ]
    assert [dict(n.labels) for n in loaded.nodes][::2] == [
        {"rack": "a", "role": "control-plane"},
        {"rack": "b", "role": "worker"},
    ]
    assert {n.user for n in loaded.nodes} == {"root"}
    assert {n.identity_file for n in loaded.nodes} == {str(lab4.run_dir.client_key)}
    assert {n.known_hosts for n in loaded.nodes} == {str(lab4.run_dir.known_hosts)}


@pytest.mark.lab
def test_neighbour_tables_are_large_enough_while_a_lab_is_up(lab4: "Lab") -> None:
    for setting, wanted in machine.SYSCTLS.items():
        assert int(Path("/proc/sys", setting).read_text("ascii")) >= wanted


@pytest.mark.lab
def test_sixty_nodes_reach_each_other_in_one_rack(lab4: "Lab", lab_name: LabName) -> None:
    """Which takes more neighbour entries than a machine allows by default."""
    with lab.Lab.up(lab_name(), nodes=60, racks=1) as up:
        for position in range(2):
            addresses = [node.addresses[position] for node in up.nodes]
            kind = socket.AF_INET6 if position else socket.AF_INET

            def bound(address: str, kind: int = kind) -> socket.socket:
                sock = socket.socket(kind, socket.SOCK_DGRAM)
                sock.bind((address, 7000))
                sock.settimeout(TIMEOUT_S)
                return sock

            with ExitStack() as stack:
                sockets = [
                    stack.enter_context(up.call(node.name, partial(bound, address)))
                    for node, address in zip(up.nodes, addresses, strict=True)
                ]
                for sock in sockets:
                    for address in addresses:
                        sock.sendto(b"", (address, 7000))
                for sock in sockets:
                    assert {sock.recvfrom(1)[1][0] for _ in addresses} == set(addresses)


@pytest.mark.lab
def test_no_address_waits_for_duplicate_detection(lab4: "Lab") -> None:
    for where in ("fw", "n1"):
        addresses = lab4.run(where, "cat", "/proc/net/if_inet6").stdout.splitlines()
        tentative = 0x40
        assert len(addresses) >= 3
        assert not [a for a in addresses if int(a.split()[4], 16) & tentative]


@pytest.mark.lab
def test_programs_that_fail_in_a_namespace_say_so_in_one_line(lab4: "Lab") -> None:
    with pytest.raises(LabError, match=r"^n1: sh: no good$"):
        lab4.run("n1", "sh", "-c", "echo no good >&2; exit 3")
    assert lab4.run("n1", "sh", "-c", "exit 3", check=False).returncode == 3
    assert lab4.run("n1", "cat", input="in").stdout == "in"
    with pytest.raises(LabError, match=r"longer than 0\.1 s"):
        lab4.run("n1", "sleep", "60", timeout_s=0.1)
    with pytest.raises(LabError, match="has no node 'n9'"):
        lab4.run("n9", "true")
    with pytest.raises(LabError, match=r"^n1: .*nft"):
        lab4.nft("n1", "add nonsense")
