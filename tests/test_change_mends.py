"""The suggested commands, run where they say: what was blocked passes, and nothing else does.

Each case is a real firewall, a packet of ours that it ends, the rule as the node's own trace tells
it, the commands for it, and packets that nobody asked for.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import pytest
from rulebench import FAR, NEAR, PATIENCE_S, Bench, Worker, bench
from scenarios import check

from preflight.core.diagnosis import trial
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.findings.change import Facts, changes
from preflight.core.findings.model import Block, Cause, Change
from preflight.core.findings.owners import Manager, owner
from preflight.core.findings.remedy import Remedy
from preflight.core.groups import FamilyProbe
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Family,
    Node,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.lab import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
STRANGER = ("10.77.0.9", "fd77::9")  # another address at the near end
OTHER = 6082  # a port that nobody asked for
PROBES = (
    GENEVE,
    HEALTH,
    ECHO,
    Probe("other", ProbeKind.UDP, Protocol.UDP, OTHER, Severity.REQUIRED),
)
NODES = (Node("n1", NEAR, "n1"), Node("n2", FAR, "n2"))
PORT_4240, ECHO_4, ECHO_6 = b"\x10\x90", b"\x08", b"\x80"


class Case(NamedTuple):
    """One firewall, at the far end unless `near`, and what it ends."""

    name: str
    ruleset: str  # for nft, or commands for a shell
    probe: Probe = GENEVE
    reply: bool = False  # the answers to the probe
    near: bool = False
    v6: bool = False
    wide: bool = False  # it ends other ports' packets too
    undo: str = ""  # commands that take the ruleset back, where it is one of a program


def chain(family: str, hook: str, *rules: str, policy: str = "accept", more: str = "") -> str:
    """A table called `guard` with a base chain called after its hook."""
    name, _, where = hook.partition(" ")
    lines = "\n".join(rules)
    return (
        f"table {family} guard {{\n{more}\nchain {name} {{\n"
        f"type filter hook {name} {where or 'priority 0'}; policy {policy};\n{lines}\n}}\n}}\n"
    )


def shell(*lines: str) -> str:
    return "#!\n" + "\n".join(lines)


HOME = "ip saddr 10.77.0.200 drop"  # another rule, before the one to blame
CASES = (
    Case("a rule of INPUT", chain("inet", "input", HOME, 'udp dport 6081 drop comment "corp"')),
    Case("over IPv6", chain("inet", "input", "udp dport 6081 drop"), v6=True),
    Case("a table of IPv6", chain("ip6", "input", "udp dport 6081 drop"), v6=True),
    Case("a rejection", chain("ip", "input", "udp dport 6081 reject with icmp admin-prohibited")),
    Case("a range", chain("inet", "input", "udp dport 6000-7000 drop"), wide=True),
    Case("a verdict map", chain("inet", "input", "udp dport vmap { 6081 : drop, 6082 : drop }"),
         wide=True),
    Case("everything that is left", chain("inet", "input", "tcp dport 22 accept", "drop"),
         wide=True),
    Case("a policy", chain("inet", "input", "ct state established accept", "tcp dport 22 accept",
                           policy="drop"), wide=True),
    Case("a policy after a chain that returns",
         chain("inet", "input", "jump services", policy="drop",
               more="chain services {\ntcp dport 22 accept\n}"), wide=True),
    Case("a chain that is jumped to",
         chain("inet", "input", "jump deny", more="chain deny {\nudp dport 6081 drop\n}")),
    Case("a chain that is gone to",
         chain("inet", "input", "goto deny", "accept",
               more="chain deny {\ntcp dport 22 accept\ndrop\n}"), wide=True),
    Case("two jumps deep",
         chain("inet", "input", "jump one",
               more="chain two {\nudp dport 6081 drop\n}\nchain one {\njump two\n}")),
    Case("PREROUTING", chain("inet", "prerouting priority -300", "udp dport 6081 drop")),
    Case("a device on the way in",
         chain("netdev", "ingress device eth0 priority 0", "udp dport { 6081, 6082 } drop"),
         wide=True),
    Case("a device on the way in, IPv6",
         chain("netdev", "ingress device eth0 priority 0", "udp dport 6081 drop"), v6=True),
    Case("a rate",
         chain("inet", "input", "udp dport 6081 limit rate over 1/day burst 1 packets drop")),
    Case("OUTPUT", chain("inet", "output", "udp dport 6081 drop"), near=True),
    Case("the policy of OUTPUT", chain("ip", "output", "tcp dport 22 accept", policy="drop"),
         near=True, wide=True),
    Case("POSTROUTING", chain("inet", "postrouting", "udp dport 6000-6999 drop"), near=True,
         wide=True),
    Case("health", chain("inet", "input", "tcp dport 4240 drop"), HEALTH),
    Case("health, reset", chain("inet", "input", "tcp dport 4240 reject with tcp reset"), HEALTH),
    Case("answers at OUTPUT", chain("inet", "output", "tcp sport 4240 drop"), HEALTH, reply=True),
    Case("answers at INPUT", chain("inet", "input", "tcp flags & ack == ack drop"), HEALTH,
         reply=True, near=True),
    Case("answers, IPv6", chain("ip6", "output", "tcp sport 4240 drop"), HEALTH, reply=True,
         v6=True),
    Case("echo", chain("inet", "input", "icmp type echo-request drop"), ECHO),
    Case("echo, IPv6", chain("inet", "input", "icmpv6 type echo-request drop"), ECHO, v6=True),
    Case("echo answers", chain("inet", "output", "icmp type echo-reply drop"), ECHO, reply=True),
    Case("iptables",
         shell("iptables -A INPUT -s 10.77.0.200 -j DROP",
               "iptables -A INPUT -p udp --dport 6081 -m comment --comment 'corp it' -j DROP")),
    Case("ip6tables", shell("ip6tables -A INPUT -p udp --dport 6081 -j REJECT"), v6=True),
    Case("iptables, a policy",
         shell("iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
               "iptables -P INPUT DROP"), wide=True),
    Case("iptables, a chain",
         shell("iptables -N CORP-IN", "iptables -A INPUT -j CORP-IN",
               "iptables -A CORP-IN -p tcp --dport 22 -j RETURN",
               "iptables -A CORP-IN -p udp -j DROP"), wide=True),
    Case("iptables, raw", shell("iptables -t raw -A PREROUTING -p udp --dport 6081 -j DROP")),
    Case("iptables, mangle",
         shell("iptables -t mangle -A PREROUTING -p udp --dport 6081 -j DROP")),
    Case("iptables, OUTPUT", shell("iptables -A OUTPUT -p udp -j DROP"), near=True, wide=True),
    Case("iptables, answers", shell("iptables -A OUTPUT -p tcp --sport 4240 -j DROP"), HEALTH,
         reply=True),
    Case("iptables, echo", shell("iptables -A INPUT -p icmp -j DROP"), ECHO),
    Case("ip6tables, echo",
         shell("ip6tables -A INPUT -p ipv6-icmp --icmpv6-type 128 -j DROP"), ECHO, v6=True),
)  # fmt: skip


# --- one case, step by step ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with bench("mends") as out:
        ready(out)
        yield out


@pytest.fixture
def cable(shared: Bench) -> Iterator[Bench]:
    """Two namespaces without rules."""
    yield shared
    shared.clean()


def ready(on: Bench) -> None:
    """A stranger at the near end, known at the far one."""
    device = "br0" if on._bridge else "eth0"
    for address, bits in zip(STRANGER, (24, 64), strict=True):
        on.run(on.near, "ip", "addr", "add", f"{address}/{bits}", "dev", "eth0", "nodad")
        near = "02:00:00:00:77:01"
        on.run(on.far, *f"ip neigh replace {address} lladdr {near} dev {device} nud".split(),
               "permanent")  # fmt: skip


def set_up(on: Bench, end: str, ruleset: str) -> None:
    if ruleset.startswith("#!"):
        on.run(end, "sh", "-ec", ruleset)
    else:
        on.nft(end, ruleset)


class Traced:
    """A trace at one end of the packets of one probe, whoever sent them."""

    def __init__(self, on: Bench, case: Case, devices: list[str]) -> None:
        self.worker: Worker = on.worker(on.near if case.near else on.far)
        number = {Protocol.UDP: 17, Protocol.TCP: 6}.get(case.probe.protocol, 58 if case.v6 else 1)
        at = {
            Protocol.UDP: (8, b"MEND"),
            Protocol.TCP: (0 if case.reply else 2, PORT_4240),
            Protocol.ICMP: (0, (b"\x00", b"\x81") if case.reply else (ECHO_4, ECHO_6)),
        }[case.probe.protocol]
        offset, value = at
        wanted = value[case.v6] if isinstance(value, tuple) else value
        mark = (6 if case.v6 else 4, number, [("transport", offset, wanted)])
        assert self.worker.open([mark], devices=devices) == ""
        self._known = 0

    def ended(self) -> list[dict[str, Any]]:
        """At least one more packet ended here, or the test fails; everything that has so far."""
        self._known += 1
        count = self._known
        found: list[dict[str, Any]] = self.worker(f"hits(traces['test'], {count})")
        assert len(found) >= count, "nothing ended here"
        self._known = len(found)
        return found

    def rule(self) -> Rule:
        """Whatever ended the first packet, as the controller learns of it."""
        hit = self.ended()[0]
        told = self.worker.describe()[0]
        return trial._rule({**told, "path": hit["path"]})


def opened(case: Case) -> socket.socket:
    """A socket for the probe, in the namespace of whoever calls."""
    domain = socket.AF_INET6 if case.v6 else socket.AF_INET
    if case.probe.protocol is Protocol.ICMP:
        number = socket.IPPROTO_ICMPV6 if case.v6 else socket.IPPROTO_ICMP
        return socket.socket(domain, socket.SOCK_RAW, number)
    is_tcp = case.probe.protocol is Protocol.TCP
    return socket.socket(domain, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)


def packet(case: Case) -> bytes:
    """What is sent on it. Over IPv6 the kernel adds the checksum."""
    if case.probe.protocol is not Protocol.ICMP:
        return b"MEND"
    return bytes((128, *bytes(7))) if case.v6 else bytes((8, 0, 0xF7, 0xFF, *bytes(4)))


def send(on: Bench, case: Case, source: str, port: int) -> None:
    """One packet of the case's probe to the far end; nobody waits for what becomes of it."""

    def go() -> None:
        with suppress(PermissionError, BlockingIOError, ConnectionError), opened(case) as sock:
            sock.setblocking(False)
            sock.bind((source, 0))
            if sock.type == socket.SOCK_STREAM:
                sock.connect((FAR[case.v6], port))
            else:
                sock.sendto(packet(case), (FAR[case.v6], port if case.probe.port else 0))

    on.call(on.near, go)


def passes(on: Bench, case: Case) -> bool:
    """Whether the probe comes through, and its answer back where it has one. Waits long."""
    with ExitStack() as stack:
        near, far = (
            stack.enter_context(on.call(end, lambda: opened(case))) for end in (on.near, on.far)
        )
        near.settimeout(PATIENCE_S)
        far.settimeout(PATIENCE_S)
        near.bind((NEAR[case.v6], 0))
        target = (FAR[case.v6], case.probe.port or 0)
        try:
            if case.probe.protocol is Protocol.TCP:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                far.bind(target)
                far.listen()
                near.connect(target)
                return True
            if case.probe.protocol is Protocol.UDP:
                far.bind(target)
                near.sendto(packet(case), target)
                return str(far.recvfrom(100)[1][0]) == NEAR[case.v6]
            near.sendto(packet(case), target)
            answer = (0, 129)[case.v6]
            while True:  # until it times out: others' packets come here, too
                data, sender = near.recvfrom(2000)
                if sender[0] == FAR[case.v6] and data[0 if case.v6 else 20] == answer:
                    return True
        except OSError:
            return False


def never(source: int, destination: int, test: FamilyProbe) -> bool:
    """No other pair is shut."""
    return False


def remedy(case: Case, rule: Rule) -> Remedy:
    """What is said for n1 → n2, and nothing known but the rule."""
    test = FamilyProbe(PROBES.index(case.probe), Family.IPV6 if case.v6 else Family.IPV4)
    hit = RuleHit(0 if case.near else 1, "reply" if case.reply else "forward", frozenset(), rule)
    block = Block((0,), (1,), False, "n1 → n2")
    return changes(Facts(NODES, PROBES, (test,), (block,), [Diagnosis(hits=(hit,))], never))


def apply(on: Bench, done: Remedy, run: Callable[[str], None] | None = None) -> list[Change]:
    """Run the commands as root would, in the node's own namespace."""
    assert done.changes, done.advice
    for change in done.changes:
        end = on.near if change.node == "n1" else on.far
        for command in change.commands:
            if run is not None:
                run(command)
            else:
                on.run(end, "sh", "-ec", command)
    return list(done.changes)


def nothing_else(on: Bench, case: Case, traced: Traced) -> None:
    """A stranger, and another port where the rule ended that too, still come to their end."""
    port = case.probe.port or 0
    if not (case.near or case.reply):
        send(on, case, STRANGER[case.v6], port)
        traced.ended()
    if case.wide:
        send(on, case, NEAR[case.v6], OTHER)
        traced.ended()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_command_mends_it_and_nothing_more(cable: Bench, case: Case) -> None:
    set_up(cable, cable.near if case.near else cable.far, case.ruleset)
    mends(cable, case)


def mends(on: Bench, case: Case, devices: tuple[str, ...] = ("eth0",)) -> list[Change]:
    traced = Traced(on, case, list(devices))
    if case.name == "a rate":
        send(on, case, NEAR[case.v6], 6081)  # this one is still within it
    send(on, case, NEAR[case.v6], case.probe.port or 0)
    rule = traced.rule()
    done = apply(on, remedy(case, rule))
    assert passes(on, case), (rule, done)
    nothing_else(on, case, traced)
    return done


# --- bridges, and tables that iptables-legacy made ------------------------------------------------


@pytest.mark.parametrize("hook", ["input", "prerouting priority -300"])
@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_a_rule_of_a_bridge(bridged: Bench, hook: str, v6: bool) -> None:
    case = Case("bridge", chain("bridge", hook, "udp dport 6000-7000 drop"), v6=v6, wide=True)
    bridged.nft(bridged.far, case.ruleset)
    mends(bridged, case, ("eth0", "br0"))


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bench]:
    with bench("mends-br", bridge=True) as out:
        ready(out)
        yield out


@pytest.fixture
def bridged(bridge: Bench) -> Iterator[Bench]:
    yield bridge
    bridge.clean()


LEGACY = (
    Case("a rule", "iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT\n"
         "iptables-legacy -A INPUT -p udp --dport 6081 -j DROP"),
    Case("a policy", "iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT\n"
         "iptables-legacy -P INPUT DROP", wide=True),
    Case("a chain of raw", "iptables-legacy -t raw -N HARD\n"
         "iptables-legacy -t raw -A PREROUTING -j HARD\n"
         "iptables-legacy -t raw -A HARD -p udp -j DROP", wide=True),
    Case("IPv6", "ip6tables-legacy -A INPUT -p udp -j REJECT", v6=True, wide=True),
)  # fmt: skip
RESET = "\n".join(
    f"{tool}-legacy -t {table} -{flag}"
    for tool in ("iptables", "ip6tables")
    for table in ("filter", "raw")
    for flag in ("F", "X")
)


@pytest.fixture(scope="module")
def old() -> Iterator[Bench]:
    with bench("mends-old") as out:
        ready(out)
        yield out


@pytest.mark.parametrize("case", LEGACY, ids=lambda case: case.name)
def test_a_rule_of_iptables_legacy(old: Bench, case: Case) -> None:
    old.run(old.far, "sh", "-ec", case.ruleset)
    try:
        rules = counted(old, case, NEAR[case.v6], 6081)
        assert [rule.sure for rule in rules] == [True]
        apply(old, remedy(case, rules[0]))
        assert passes(old, case)
        assert counted(old, case, STRANGER[case.v6], 6081)
        if case.wide:
            assert counted(old, case, NEAR[case.v6], OTHER)
    finally:
        old.run(old.far, "sh", "-ec", f"iptables-legacy -P INPUT ACCEPT\n{RESET}")


def counted(on: Bench, case: Case, source: str, port: int) -> list[Rule]:
    """The rules whose counters say that they ended a packet from `source` to `port`."""
    worker = on.worker(on.far)
    worker("traces.__setitem__('c', legacy.LegacyCounters())")
    worker("(traces['c'].before(), traces['c'].settle())")
    send(on, case, source, port)
    lost = f"xtmatch.Lost(17, {source!r}, {FAR[case.v6]!r}, 1, port={port})"
    found = worker(f"(traces['c'].after(), traces['c'].suspects([{lost}]))[1][0]")
    worker.close()
    return [trial._rule(fields) for fields in found]


# --- ufw and firewalld, as their packages are ----------------------------------------------------

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""
_PRIVATE = """
mount -t tmpfs none /run
for place in {places}; do
    mkdir -p /run/copy; cp -a "$place/." /run/copy/
    mount -t tmpfs none "$place"; cp -a /run/copy/. "$place/"; rm -rf /run/copy
done
{start}
echo ready
cat >/dev/null
{end}
"""
_FIREWALLD = """
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
mount -t tmpfs none /var/log
sed -i 's/^FirewallBackend=.*/FirewallBackend={backend}/' /etc/firewalld/firewalld.conf
cat >/run/bus.conf <<END
{bus}END
mkfifo /run/bus.up
dbus-daemon --config-file=/run/bus.conf --nofork --print-address=3 3>/run/bus.up 2>/dev/null &
BUS=$!
read address </run/bus.up
firewalld --nofork --nopid &
DAEMON=$!
until firewall-cmd --state >/dev/null 2>&1; do kill -0 $DAEMON; done
"""


class House:
    """One end of a bench whose firewall program has its own /etc and /run."""

    def __init__(self, on: Bench, end: str, script: str) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", end, "unshare", "-m", "--propagation", "private", "sh", "-ec",
             script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._ready = self._process.stdout.readline()

    def __call__(self, command: str) -> str:
        """What a command printed there. It must succeed."""
        argv = ["nsenter", "-m", "-n", "-t", str(self._process.pid), "sh", "-ec", command]
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/run/bus"}
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def close(self) -> None:
        pipes = (self._process.stdin, self._process.stdout)
        for pipe in pipes:
            with suppress(OSError):
                pipe and pipe.close()
        self._process.wait(PATIENCE_S)

    def check(self) -> None:
        """Raises where it did not come up."""
        assert self._ready == "ready\n"


@contextmanager
def house(on: Bench, end: str, places: str, start: str = "", end_with: str = "") -> Iterator[House]:
    out = House(on, end, _PRIVATE.format(places=places, start=start, end=end_with))
    try:
        out.check()
        yield out
    finally:
        out.close()


needs_ufw = pytest.mark.skipif(shutil.which("ufw") is None, reason="ufw is not installed")
needs_firewalld = pytest.mark.skipif(
    shutil.which("firewalld") is None or shutil.which("dbus-daemon") is None,
    reason="firewalld is not installed",
)
UFW = (
    Case("what it denies by default", "", wide=True),
    Case("what it denies by default, IPv6", "", v6=True, wide=True),
    Case("health", "", HEALTH),
    Case("its own rule", "ufw deny 6081/udp comment 'corp'", undo="ufw delete deny 6081/udp"),
    Case("an address that it rejects", "ufw reject from 10.77.0.0/24", wide=True,
         undo="ufw delete reject from 10.77.0.0/24"),
    Case("on the way out", "ufw deny out 6000:7000/udp", near=True, wide=True,
         undo="ufw delete deny out 6000:7000/udp"),
    Case("what it rejects by default", "ufw default reject", wide=True, undo="ufw default deny"),
    Case("its first rules", "sed -i 's/echo-request -j ACCEPT/echo-request -j DROP/' "
         "/etc/ufw/before.rules; ufw reload", ECHO),
)  # fmt: skip


@pytest.fixture(scope="module")
def ufw() -> Iterator[tuple[Bench, dict[str, House]]]:
    """A bench with ufw at both ends; the near one's lets in whatever comes."""
    with bench("mends-ufw") as on, ExitStack() as stack:
        ready(on)
        houses = {
            end: stack.enter_context(house(on, end, "/etc/ufw /etc/default"))
            for end in (on.near, on.far)
        }
        houses[on.near]("ufw default allow; ufw --force enable")
        houses[on.far]("ufw --force enable")
        yield on, houses


@needs_ufw
@pytest.mark.parametrize("case", UFW, ids=lambda case: case.name)
def test_ufw(ufw: tuple[Bench, dict[str, House]], case: Case) -> None:
    on, houses = ufw
    inside = houses[on.near if case.near else on.far]
    if case.near:
        houses[on.far](f"ufw prepend allow from {NEAR[0]}")
    inside(case.ruleset)
    done, rule = housed(on, case, inside)
    assert owner(rule).manager is Manager.UFW
    assert {change.tool for change in done} == {"ufw"}
    if case.probe is ECHO:
        inside("\n".join(lines_of_files(done)))
        inside("ufw reload")
        assert passes(on, case)
    for change in done:
        inside("\n".join(re.sub("^ufw (prepend )?allow", "ufw delete allow", c)
                         for c in change.commands if c.startswith("ufw")))  # fmt: skip
    if case.near:
        houses[on.far](f"ufw delete allow from {NEAR[0]}")
    inside(case.undo)


def housed(on: Bench, case: Case, inside: House) -> tuple[list[Change], Rule]:
    traced = Traced(on, case, ["eth0"])
    try:
        send(on, case, NEAR[case.v6], case.probe.port or 0)
        rule = traced.rule()
        done = apply(on, remedy(case, rule), inside)
        assert passes(on, case), (rule, done)
        if "mistake" not in case.name:  # to undo that lets in everybody's
            nothing_else(on, case, traced)
        return done, rule
    finally:
        traced.worker.close()


def lines_of_files(done: list[Change]) -> Iterator[str]:
    """Commands that write what has to be written into ufw's file, as its admin is told."""
    for change in done:
        for text in change.persist:
            found = re.search(r"write `(.+?)` into (\S+?),", text)
            if found:
                yield f"sed -i '0,/echo-request/{{/echo-request/i {found[1]}\n}}' {found[2]}"


FIREWALLD = (
    Case("what no zone allows", "", wide=True),
    Case("what no zone allows, IPv6", "", v6=True, wide=True),
    Case("a zone that drops", "firewall-cmd --zone=k8s-nodes --add-source=10.77.0.0/24", wide=True),
    Case("a rich rule", "firewall-cmd --zone=public --add-rich-rule="
         "'rule port port=\"6000-7000\" protocol=\"udp\" drop'", wide=True),
    Case("a rich rule before all others", "firewall-cmd --zone=public --add-rich-rule="
         "'rule priority=\"-5\" port port=\"4240\" protocol=\"tcp\" drop'", HEALTH),
    Case("the well-known mistake", "firewall-cmd --zone=public --add-icmp-block=echo-request",
         ECHO),
    Case("a direct rule",
         "firewall-cmd --direct --add-rule ipv4 filter INPUT 0 -p udp --dport 6000:7000 -j DROP\n"
         "firewall-cmd --zone=trusted --add-source=10.77.0.0/24", wide=True),
    Case("a policy for what the node sends",
         "firewall-cmd --policy=out --add-ingress-zone=HOST\n"
         "firewall-cmd --policy=out --add-egress-zone=ANY", near=True, wide=True),
)  # fmt: skip
# A zone and a policy that wait to be used, as firewall-cmd --permanent writes them.
_SETTINGS = """
echo '<zone target="DROP"/>' >/etc/firewalld/zones/k8s-nodes.xml
mkdir -p /etc/firewalld/policies
echo '<policy target="DROP"/>' >/etc/firewalld/policies/out.xml
"""
WITH_IPTABLES = ("what no zone allows", "a rich rule", "a direct rule",
                 "a policy for what the node sends")  # fmt: skip
WITH_BACKEND = [
    *(pytest.param("nftables", case, id=case.name) for case in FIREWALLD),
    *(
        pytest.param("iptables", case, id=f"{case.name}, by iptables")
        for case in FIREWALLD
        if case.name in WITH_IPTABLES
    ),
]


@pytest.fixture(scope="module")
def firewalld(request: pytest.FixtureRequest) -> Iterator[Callable[[bool], tuple[Bench, House]]]:
    """A bench, and firewalld at its near or its far end, once that is asked for."""
    start = _FIREWALLD.format(backend=request.param, bus=_BUS)
    houses: dict[str, House] = {}
    with bench("mends-fd") as on, ExitStack() as stack:
        ready(on)

        def at(near: bool) -> tuple[Bench, House]:
            end = on.near if near else on.far
            if end not in houses:
                own = house(on, end, "/etc/firewalld", _SETTINGS + start, "kill $DAEMON $BUS; wait")
                houses[end] = stack.enter_context(own)
            return on, houses[end]

        yield at


@needs_firewalld
@pytest.mark.parametrize(("firewalld", "case"), WITH_BACKEND, indirect=["firewalld"])
def test_firewalld(firewalld: Callable[[bool], tuple[Bench, House]], case: Case) -> None:
    on, inside = firewalld(case.near)
    if case.near:
        _, beyond = firewalld(False)
        beyond(f"firewall-cmd --zone=trusted --add-source={NEAR[0]}")
    inside(case.ruleset)
    done, rule = housed(on, case, inside)
    if case.name != "a direct rule":  # which the nftables backend gives to iptables
        assert owner(rule).manager is Manager.FIREWALLD
        assert {change.tool for change in done} == {"firewalld"}
    for command in (*(c for change in done for c in change.commands), *case.ruleset.splitlines()):
        if " --add-" in command and "mistake" not in case.name:
            inside(command.replace(" --add-", " --remove-"))
    if case.near:
        beyond(f"firewall-cmd --zone=trusted --remove-source={NEAR[0]}")


@needs_firewalld
@pytest.mark.parametrize("firewalld", ["nftables"], indirect=True)
def test_what_firewalld_is_told_lasts(firewalld: Callable[[bool], tuple[Bench, House]]) -> None:
    case = Case("health", "", HEALTH)
    on, inside = firewalld(False)
    done, _ = housed(on, case, inside)
    for change in done:
        for command in change.persist:
            inside(command)
    inside("firewall-cmd --reload")
    assert passes(on, case)


# --- the whole way -------------------------------------------------------------------------------


def test_the_matrix_turns_green(lab4: Lab) -> None:
    """Faults in three nodes, one of which hides another's; every suggested command; open."""
    lab4.nft(
        "n3",
        "table inet filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n"
        "ct state established accept\niif lo accept\nmeta l4proto icmpv6 accept\n}\n}\n",
    )
    lab4.nft("n1", chain("inet", "output", 'tcp dport 4240 drop comment "corp baseline"'))
    lab4.run("n4", "sh", "-ec", "iptables -N CORP; iptables -A INPUT -j CORP\n"
             "iptables -A CORP -p udp --dport 6081 -j REJECT")  # fmt: skip
    before = check(lab4, CheckOptions())
    assert {f.cause for f in before.findings} == {Cause.RULE}
    for finding in before.findings:
        for change in finding.changes:
            for command in change.commands:
                lab4.run(change.node, "sh", "-ec", command)
    after = check(lab4, CheckOptions())
    assert {cell.outcome.verdict for cell in after.matrix.cells()} == {Verdict.OPEN}
    assert list(after.findings) == []
