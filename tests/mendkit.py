"""One firewall, one packet that it ends, and the suggested commands: the steps of such a test.

traced = Traced(bench, case, ["eth0"])
send(bench, case, NEAR[0], 6081)
done = apply(bench, remedy(case, traced.rule()))
assert passes(bench, case)
nothing_else(bench, case, traced)
"""

import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from rulebench import FAR, NEAR, PATIENCE_S, Bench, Worker

from preflight.core.diagnosis import trial
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.findings.change import Facts, changes
from preflight.core.findings.model import Block, Change
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
)

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
