"""An agent tells the facts of real nodes: namespaces with real tunnels, sockets, routes, rules."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import test_agent_kit as kit
from facts import PROBES
from test_agent_kit import Agent
from test_agent_pythons import usable

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.parse import parse
from preflight.core.facts.readiness import risks
from preflight.core.facts.request import ALL, CHEAP, Part, request
from preflight.core.facts.risk import Risk, RiskKey
from preflight.core.model import Family, Node, Phase
from preflight.lab import Lab
from preflight.transport import bundle, libraries

pytestmark = pytest.mark.lab
agent = kit.agent
NOBODY = 65534


def nodes(lab: Lab) -> list[Node]:
    return [Node(n.name, tuple(map(str, n.addresses)), n.name) for n in lab.nodes]


def ask(
    one: Agent,
    lab: Lab,
    node: str,
    parts: Sequence[Part] = ALL,
    libraries: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The frame in which an agent tells the facts of its node."""
    me = [n.name for n in lab.nodes].index(node)
    cheap = libraries is None and set(parts) <= set(CHEAP)
    one.say(
        bundle.facts(cheap=cheap, libraries=libraries),
        {**request(nodes(lab), me, PROBES, parts, 5), "libraries": libraries is not None},
    )
    told = one.hear()
    assert (told["t"], told["number"]) == ("facts", 5)
    return told


@pytest.fixture
def facts(lab4: Lab, agent: Callable[..., Agent]) -> Callable[..., NodeFacts]:
    """`facts(node)`: what an agent there says of it."""

    def told(node: str = "n1", *parts: Part) -> NodeFacts:
        one = agent(node)
        return parse(ask(one, lab4, node, parts or ALL), len(lab4.nodes))

    return told


def said(lab: Lab, of_n1: NodeFacts, phase: Phase = Phase.BEFORE) -> dict[RiskKey, Risk]:
    """The risks of n1, but for the module that this machine's kernel may well lack."""
    found = risks(nodes(lab), [of_n1, None, None, None], probes=PROBES, phase=phase)
    return {risk.key: risk for risk in found if risk.key is not RiskKey.NO_MODULE}


@pytest.fixture
def changed(lab4: Lab) -> Iterator[Callable[..., None]]:
    """`changed(node, command, undo)`: for this test alone."""
    with ExitStack() as stack:

        def change(node: str, command: str, undo: str) -> None:
            lab4.run(node, *command.split())
            stack.callback(lab4.run, node, *undo.split())

        yield change


# --- a node in order -----------------------------------------------------------------------------


def test_a_node_in_order(lab4: Lab, facts: Callable[..., NodeFacts]) -> None:
    told = facts()
    n1, n2, n3, _ = lab4.nodes
    assert told.kernel == os.uname().release
    assert [link.name for link in told.links or ()] == ["lo", "eth0"]
    assert told.link("eth0").mtu == lab4.plan.mtu  # type: ignore[union-attr]
    assert {a.address for a in told.addresses or () if a.scope == "global"} == set(
        map(str, n1.addresses)
    )
    ways = {(way.family, way.peers): way for way in told.ways or ()}
    assert set(ways) == {(f, peers) for f in Family for peers in ((1,), (2, 3))}
    assert ways[Family.IPV4, (1,)].gateway is None
    assert ways[Family.IPV4, (1,)].source == str(n1.addresses[0])
    assert ways[Family.IPV6, (2, 3)].gateway == str(n1.gateways[1].ip)
    assert {way.device for way in told.ways or ()} == {"eth0"}
    assert [way.family for way in told.defaults or ()] == [Family.IPV4, Family.IPV6]
    assert told.sockets == ()
    assert told.rules == ()
    assert told.nftables == ()
    assert told.offloads is not None
    assert told.offloads["eth0"].driver == "veth"
    assert told.rp_filter is not None
    assert set(told.rp_filter) == {"all", "default", "eth0"}
    assert told.echo_ignored == {Family.IPV4: False, Family.IPV6: False}
    assert told.conntrack is None or told.conntrack.most > 0
    assert told.timekeeping is not None
    assert told.services is not None
    assert told.cni == ()
    # gc_thresh3 is shown to the first namespace alone: not known, and said so.
    assert told.neighbours is None
    assert set(told.unknown) <= {"neighbours", "conntrack"}
    assert set(told.sources) >= {"links", "ways", "sockets", "offloads", "nftables", "services"}
    assert said(lab4, told) == {}
    assert (n2.name, n3.name) == ("n2", "n3")


def test_the_offloads_are_those_that_ethtool_tells(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None]
) -> None:
    changed("n1", "ethtool -K eth0 tx-udp_tnl-segmentation off rx-gro on",
            "ethtool -K eth0 tx-udp_tnl-segmentation on rx-gro off")  # fmt: skip
    offloads = (facts("n1", Part.NETWORK).offloads or {})["eth0"]
    printed = lab4.run("n1", "ethtool", "-k", "eth0").stdout
    names = {"rx-checksum": "rx-checksumming", "rx-gro": "generic-receive-offload",
             "rx-lro": "large-receive-offload",
             "tx-generic-segmentation": "generic-segmentation-offload"}  # fmt: skip
    lines = dict(line.strip().split(": ") for line in printed.splitlines()[1:] if ": " in line)
    for name, on in offloads.features.items():
        words = lines[names.get(name, name)].split()
        assert (words[0] == "on") == on, name
        assert ("[fixed]" in words) == (name in offloads.fixed), name
    assert not offloads.on("tx-udp_tnl-segmentation")
    assert offloads.on("rx-gro")


@pytest.mark.parametrize("python", usable())
def test_every_python_tells_the_same(lab4: Lab, agent: Callable[..., Agent], python: str) -> None:
    reference = ask(agent("n1"), lab4, "n1")
    told = ask(agent("n1", [python]), lab4, "n1")
    for frame in (reference, told):
        for key in ("clock", "cpu_us"):
            del frame[key]
        for changing in ("tcp", "conntrack"):
            frame["facts"].pop(changing, None)
    if "timekeeping" in told["unknown"]:  # an interpreter built without ctypes
        del told["unknown"]["timekeeping"], reference["facts"]["timekeeping"]
        del reference["sources"]["timekeeping"]
    assert told == reference


def test_without_privileges_some_facts_are_known(lab4: Lab, agent: Callable[..., Agent]) -> None:
    """What takes root is unknown, with the reason, and everything else is told."""
    os_python = kit.SYSTEM_PYTHON
    plain = [shutil.which("setpriv") or "setpriv", "--reuid", str(NOBODY), "--regid",
             str(NOBODY), "--clear-groups", os_python]  # fmt: skip
    holder = lab4.popen("n1", os_python, "-c", HOLD.format(port=6081), stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        frame = ask(agent("n1", plain), lab4, "n1")
    finally:
        holder.kill()
        holder.communicate()
    told = parse(frame, 4)
    assert told.links
    assert told.ways
    assert told.offloads
    assert told.nftables is None
    assert "root" in told.unknown["nftables"]
    assert {(s.port, s.process) for s in told.sockets or ()} == {(6081, None), (4240, None)}
    assert "root" in told.unknown["owners"]
    assert said(lab4, told) == {}  # by whom the port is held is not known


# --- who has a port ------------------------------------------------------------------------------

HOLD = (
    "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
    "s.bind(('0.0.0.0', {port})); t = socket.create_server(('', 4240)); "
    "print('up', flush=True); time.sleep(60)"
)


def test_a_process_holds_the_ports(lab4: Lab, facts: Callable[..., NodeFacts]) -> None:
    holder = lab4.popen("n1", kit.SYSTEM_PYTHON, "-c", HOLD.format(port=6081),
                        stdout=subprocess.PIPE)  # fmt: skip
    try:
        holder.stdout.readline()
        told = facts("n1", *CHEAP)
    finally:
        holder.kill()
        holder.communicate()
    held = {(s.protocol, s.port): (s.address, s.pid) for s in told.sockets or ()}
    assert held == {("udp", 6081): ("0.0.0.0", holder.pid), ("tcp", 4240): ("0.0.0.0", holder.pid)}
    names = {s.process for s in told.sockets or ()}
    assert len(names) == 1
    assert next(iter(names)) in ("python3", os.path.basename(os.path.realpath(kit.SYSTEM_PYTHON)))
    assert set(said(lab4, told)) == {RiskKey.TUNNEL_PORT, RiskKey.HEALTH_PORT}


def test_a_forked_child_is_not_taken_for_its_parent(
    lab4: Lab, facts: Callable[..., NodeFacts]
) -> None:
    forking = HOLD.replace("print(", "import os; os.fork(); print(")
    holder = lab4.popen("n1", kit.SYSTEM_PYTHON, "-c", forking.format(port=6081),
                        stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
    try:
        holder.stdout.readline()
        holder.stdout.readline()  # both are there
        told = facts("n1", *CHEAP)
    finally:
        os.killpg(holder.pid, 9)
        holder.communicate()
    assert {socket.pid for socket in told.sockets or ()} == {holder.pid}


def test_a_kernel_tunnel_holds_the_port(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None]
) -> None:
    """A VXLAN device on GENEVE's port stands for GENEVE's own, which this kernel may lack."""
    changed("n1", "ip link add flannel.1 type vxlan external dstport 6081",
            "ip link delete flannel.1")  # fmt: skip
    lab4.run("n1", "ip", "link", "set", "flannel.1", "up")
    told = facts("n1", *CHEAP)
    assert {(s.port, s.pid) for s in told.sockets or ()} == {(6081, None)}
    tunnel = told.link("flannel.1").tunnel  # type: ignore[union-attr]
    assert tunnel is not None
    assert (tunnel.port, tunnel.external) == (6081, True)
    found = said(lab4, told)
    assert set(found) == {RiskKey.TUNNEL_PORT, RiskKey.LEFTOVERS}
    assert "flannel.1" in found[RiskKey.TUNNEL_PORT].title


def test_ciliums_own_tunnel_is_no_stranger(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None]
) -> None:
    changed("n1", "ip link add cilium_geneve type vxlan external dstport 6081",
            "ip link delete cilium_geneve")  # fmt: skip
    lab4.run("n1", "ip", "link", "set", "cilium_geneve", "up")
    told = facts("n1", *CHEAP)
    assert told.sockets
    assert said(lab4, told, Phase.AFTER) == {}
    assert set(said(lab4, told)) == {RiskKey.LEFTOVERS}  # before Cilium it should not be there


# --- what else can be wrong ----------------------------------------------------------------------


def test_routes_as_the_kernel_has_them(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None]
) -> None:
    n2, n3, n4 = (str(node.addresses[0]) for node in lab4.nodes[1:])
    gateway = lab4.nodes[0].gateways[0].ip
    changed("n1", f"ip route add prohibit {n2}/32", f"ip route delete prohibit {n2}/32")
    changed("n1", f"ip route add {n3}/32 via {gateway} mtu 1300", f"ip route delete {n3}/32")
    changed("n1", "ip address add 10.99.0.1/32 dev eth0", "ip address delete 10.99.0.1/32 dev eth0")
    changed("n1", f"ip route add {n4}/32 via {gateway} src 10.99.0.1", f"ip route delete {n4}/32")
    told = facts("n1", Part.NETWORK)
    ways = {way.peers: way for way in told.ways or () if way.family is Family.IPV4}
    assert ways[1,].error == 13
    assert (ways[2,].mtu, ways[2,].learned) == (1300, False)
    assert ways[3,].source == "10.99.0.1"
    found = said(lab4, told)
    assert set(found) == {RiskKey.NO_ROUTE, RiskKey.ROUTE_MTU, RiskKey.SOURCE_ADDRESS}
    assert "n2" in found[RiskKey.NO_ROUTE].title
    assert "n3" in found[RiskKey.ROUTE_MTU].title
    assert "10.99.0.1" in found[RiskKey.SOURCE_ADDRESS].title


def test_a_path_mtu_that_the_kernel_has_learned(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None]
) -> None:
    n3 = str(lab4.nodes[2].addresses[0])
    bridge = next(rack.bridge for rack in lab4.plan.racks if rack.name == lab4.nodes[2].rack)
    changed("fw", f"ip link set {bridge} mtu 1400", f"ip link set {bridge} mtu {lab4.plan.mtu}")
    changed("n1", "true", "ip route flush cache")
    lab4.call("n1", lambda: learn(n3))
    told = facts("n1", Part.NETWORK)
    (way,) = [w for w in told.ways or () if w.family is Family.IPV4 and 2 in w.peers]
    assert (way.mtu, way.learned, way.peers) == (1400, True, (2,))
    found = said(lab4, told)
    assert set(found) == {RiskKey.ROUTE_MTU}
    assert "ICMP" in found[RiskKey.ROUTE_MTU].evidence[0]


def learn(address: str) -> None:
    """Send full-size packets there until the kernel has been told that they are too large."""
    mtu_discover, do, mtu = 10, 2, 14  # IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, mtu_discover, do)
        sender.connect((address, 9))
        end = time.monotonic() + kit.PATIENCE_S
        while sender.getsockopt(socket.IPPROTO_IP, mtu) > 1400:
            assert time.monotonic() < end, "no router says that it is too large"
            try:
                sender.send(bytes(1472))
            except OSError:  # port unreachable of one before
                continue


def test_a_smaller_mtu_a_silent_kernel_and_policy_rules(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None]
) -> None:
    changed("n1", "ip link set eth0 mtu 1400", f"ip link set eth0 mtu {lab4.plan.mtu}")
    setting = "net.ipv4.icmp_echo_ignore_all"
    changed("n1", f"sysctl -qw {setting}=1", f"sysctl -qw {setting}=0")
    changed("n1", "ip rule add fwmark 0x200/0xf00 lookup 2004 prio 9", "ip rule del prio 9")
    told = facts("n1", Part.NETWORK)
    assert told.link("eth0").mtu == 1400  # type: ignore[union-attr]
    (rule,) = told.rules or ()
    assert (rule.table, rule.priority, rule.mark) == (2004, 9, 0x200)
    assert set(said(lab4, told)) == {RiskKey.ECHO_IGNORED}
    everybody = [told, *(facts(name, Part.NETWORK) for name in ("n2", "n3"))]
    found = risks(nodes(lab4)[:3], everybody, probes=(), phase=Phase.BEFORE)
    (risk,) = [r for r in found if r.key is RiskKey.MTU_DIFFERS]
    assert risk.nodes == (0,)
    assert "MTU=1400" in risk.advice
    assert "1,350 over IPv4 or 1,330 over IPv6" in risk.advice


def test_strict_rp_filter_on_a_node_with_two_devices(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None]
) -> None:
    """What n2 sends to n1's address comes in by eth0, and the way back is by eth1."""
    n2 = str(lab4.nodes[1].addresses[0])
    changed("n1", "ip link add eth1 type veth peer name eth1p", "ip link delete eth1")
    for command in ("ip address add 10.98.0.1/24 dev eth1", "ip link set eth1 up",
                    "ip link set eth1p up", f"ip route add {n2}/32 dev eth1",
                    "sysctl -qw net.ipv4.conf.eth0.rp_filter=0"):  # fmt: skip
        lab4.run("n1", *command.split())
    assert RiskKey.RP_FILTER not in said(lab4, facts("n1", Part.NETWORK))
    changed("n1", "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
            "sysctl -qw net.ipv4.conf.eth0.rp_filter=0")  # fmt: skip
    found = said(lab4, facts("n1", Part.NETWORK))
    assert set(found) == {RiskKey.RP_FILTER, RiskKey.SOURCE_ADDRESS}
    (command,) = found[RiskKey.RP_FILTER].commands
    lab4.run("n1", *command.split())  # the change mends it
    assert RiskKey.RP_FILTER not in said(lab4, facts("n1", Part.NETWORK))


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
def test_rules_of_iptables(
    lab4: Lab, facts: Callable[..., NodeFacts], changed: Callable[..., None], tool: str
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")
    changed("n1", f"{tool} -N KUBE-SERVICES", f"{tool} -X KUBE-SERVICES")
    changed("n1", f"{tool} -A INPUT -p tcp --dport 1 -j KUBE-SERVICES", f"{tool} -F INPUT")
    changed("n1", f"{tool} -A KUBE-SERVICES -p tcp --dport 2 -j DROP", f"{tool} -F KUBE-SERVICES")
    told = facts("n1", Part.FIREWALL)
    if tool == "iptables-legacy":
        filters = [t for t in told.iptables or () if t.name == "filter" and t.rules]
        assert [(t.family, t.rules, dict(t.chains)) for t in filters] == [
            (Family.IPV4, 2, {"KUBE": 1})
        ]
        assert told.nftables == ()
    else:
        (table,) = [t for t in told.nftables or () if t.name == "filter"]
        assert table.family == "ip"
        assert table.chains["KUBE"] == 1
        assert [(c.name, c.hook, c.rules) for c in table.base] == [("INPUT", "input", 1)]


def test_to_ask_changes_nothing_in_the_kernel(lab4: Lab, facts: Callable[..., NodeFacts]) -> None:
    """No table is made, no module loaded, no route cached by asking."""

    def state() -> Mapping[str, str]:
        commands = ("nft list ruleset", "ip route show cache", "ip rule", "ip -d link", "ip neigh",
                    "cat /proc/net/ip_tables_names", "cat /proc/net/packet")  # fmt: skip
        out = {c: lab4.run("n1", *c.split(), check=False).stdout for c in commands}
        return {**out, "modules": subprocess.run(["sh", "-c", "cat /proc/modules"],
                                                 capture_output=True, text=True,
                                                 check=False).stdout}  # fmt: skip

    before = state()
    facts()
    assert state() == before


# --- where it cannot be read ---------------------------------------------------------------------


def test_a_source_that_cannot_be_read_costs_its_own_fact_alone(
    lab4: Lab, agent: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [
        ("agent.facts.links", "    return parse(netlink.ask(", "    return parse(netlink.nask("),
        ("agent.facts.sysctls", 'folder + "count")', 'folder + "no-such-file")'),
        ("agent.facts.nftables", "    if not _there():", "    if 1 // 0:"),
    ]
    kit.ship(monkeypatch, broken)
    told = parse(ask(agent("n1"), lab4, "n1"), 4)
    assert told.links is told.conntrack is told.nftables is None
    assert "nask" in told.unknown["links"]
    assert told.unknown["conntrack"].endswith("No such file or directory")
    assert "zero" in told.unknown["nftables"]
    assert told.addresses
    assert told.ways
    assert told.kernel
    assert told.services
    assert said(lab4, told) == {}


def test_an_agent_looks_after_it_has_told_facts(lab4: Lab, agent: Callable[..., Agent]) -> None:
    one = agent("n1")
    one.say(kit.setup(lab4, "n1"))
    assert one.hear()["state"] == "ok"
    assert ask(one, lab4, "n1", CHEAP)["facts"]["links"]
    one.say({"t": "beat"})
    assert ask(one, lab4, "n1", ())["facts"] == {}


# --- libraries -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parcels() -> Mapping[str, Any]:
    return libraries.parcels()


# The oldest of all, the oldest that can run each of them, and the newest.
@pytest.mark.parametrize("python", sorted({usable()[i] for i in (0, -1)} | set(usable()[2:4])))
def test_libraries_tell_what_we_read_ourselves(
    lab4: Lab,
    agent: Callable[..., Agent],
    changed: Callable[..., None],
    parcels: Mapping[str, Any],
    python: str,
) -> None:
    """Equal in every fact that they have, with all that this kernel can make of devices."""
    n3 = str(lab4.nodes[2].addresses[0])
    changed("n1", "ip link add br1 type bridge", "ip link delete br1")
    changed("n1", "ip link add v0 type veth peer name v1", "ip link delete v0")
    changed("n1", "ip link set v1 master br1", "true")
    changed("n1", "ip link add vx0 type vxlan external dstport 6081", "ip link delete vx0")
    changed("n1", "ip link add vx1 type vxlan id 7 dstport 8472", "ip link delete vx1")
    changed("n1", "ip link set vx0 up", "true")
    changed("n1", f"ip route add {n3}/32 dev eth0 mtu 1300", f"ip route delete {n3}/32")
    changed("n1", "ip rule add fwmark 0x200/0xf00 lookup 2004 prio 9", "ip rule del prio 9")
    changed("n1", "ip -6 rule add from fd00::7 lookup 7 prio 8", "ip -6 rule del prio 8")
    holder = lab4.popen("n1", kit.SYSTEM_PYTHON, "-c", HOLD.format(port=8472),
                        stdout=subprocess.PIPE)  # fmt: skip
    try:
        holder.stdout.readline()
        own = ask(agent("n1", [python]), lab4, "n1")
        with_them = ask(agent("n1", [python]), lab4, "n1", libraries=parcels)
    finally:
        holder.kill()
        holder.communicate()
    version = tuple(map(int, subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, check=True).stdout.split(".")))  # fmt: skip
    for fact in ("links", "addresses", "ways", "defaults", "rules"):
        used = with_them["sources"][fact]
        assert used.startswith("pyroute2") if version >= (3, 9) else used == "rtnetlink"
        assert own["sources"][fact] == "rtnetlink"
    assert with_them["sources"]["sockets"].startswith("psutil" if version >= (3, 8) else "/proc")
    for fact in ("links", "addresses", "ways", "defaults", "rules"):
        assert with_them["facts"][fact] == own["facts"][fact], fact
    key = json.dumps
    assert sorted(with_them["facts"]["sockets"], key=key) == sorted(
        own["facts"]["sockets"], key=key
    )
    assert len(own["facts"]["sockets"]) == 4  # two of the tunnel's, two of the process's
    if version < (3, 9):
        assert "3.9" in with_them["unknown"]["pyroute2"]


def test_a_library_that_fails_leaves_the_fact_to_us(
    lab4: Lab, agent: Callable[..., Agent], parcels: Mapping[str, Any]
) -> None:
    broken = {name: dict(parcel) for name, parcel in parcels.items()}
    empty = libraries._packed(b"{'pyroute2': (True, '')}")
    broken["pyroute2"]["sources"] = empty
    broken["psutil"]["sources"] = libraries._packed(b"{'psutil': (True, 'net_connections = 7')}")
    told = ask(agent("n1"), lab4, "n1", libraries=broken)
    assert told["sources"]["links"] == "rtnetlink"
    assert told["sources"]["sockets"].startswith("/proc")
    assert "No module named" in told["unknown"]["pyroute2"]
    assert "sockets" not in told["unknown"]


def test_a_machine_of_another_kind_refuses_the_extension(
    lab4: Lab, agent: Callable[..., Agent], parcels: Mapping[str, Any]
) -> None:
    for key, other, says in (
        ("machine", "s390x", "s390x"),
        ("libc", "musl", "musl"),
        ("libc_version", [99, 0], "newer glibc"),
    ):
        foreign = {"psutil": {**parcels["psutil"]}}
        foreign["psutil"]["extensions"] = [{**parcels["psutil"]["extensions"][0], key: other}]
        told = ask(agent("n1"), lab4, "n1", libraries=foreign)
        assert says in told["unknown"]["psutil"]
        assert told["sources"]["sockets"].startswith("/proc")
