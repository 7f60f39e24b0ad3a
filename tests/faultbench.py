"""Faults put into a lab's namespaces, and what a check must find out about them, as data.

Texts name addresses as `$n1` (of a node), `$gw_a` (of the router, on a rack's side), and with `_6`
at the end those of IPv6; `$lab` is the lab's name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from string import Template
from typing import Any, NamedTuple

import psutil
import pytest
from farlab import FAR, FarLab
from labs import TIMEOUT_S
from scenarios import Agents, check

from preflight.core.diagnosis.conclusions import ContentPattern, FlowPattern
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.findings.model import Cause, Finding
from preflight.core.model import Family, Inventory, Severity
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.crew.muster import Progress
from preflight.lab import Lab
from preflight.lab.topology import ROUTER

_ETH_P_ALL = socket.htons(3)


class Fault(NamedTuple):
    """Something wrong in one namespace: an nftables ruleset or a shell script.

    nftables rules need no undoing.
    """

    where: str
    text: str
    undo: str = ""


class Find(NamedTuple):
    """One finding that must be there. What is empty is not looked at."""

    cause: Cause
    where: str  # all blocks in words
    cells: int
    says: tuple[str, ...] = ()  # each is somewhere in what a person reads of it
    nodes: str = ""  # to blame or to be changed
    rule: str = ""  # tool, family, table and chain
    hop: str = ""  # the last router that answered, and which one it is: `198.18.1.1 1`
    largest: int = 0  # size that arrives
    told_by: str = ""  # who says that larger ones are too big; `nobody` for a black hole
    flows: FlowPattern | None = None
    content: ContentPattern | None = None
    kernel: Reason | None = None
    severity: Severity = Severity.REQUIRED
    mends: bool = False  # there are commands for it
    asks: int = 0  # rules of the firewall team, in one direction each


class Shut(NamedTuple):
    """UDP packets that nobody asked for, and that a change must leave where they are."""

    source: str
    destination: str
    port: int = 6081


class Row(NamedTuple):
    """One scenario: faults at once, and all that must be found."""

    name: str
    faults: tuple[Fault, ...]
    finds: tuple[Find, ...]
    family: Family | None = Family.IPV4
    among: Callable[[Inventory], Inventory] = lambda known: known
    shut: tuple[Shut, ...] = ()
    after: tuple[str, ...] = ()  # where findings are left when all commands were run


def fw(hook: str, *rules: str, policy: str = "accept", more: str = "") -> str:
    """A ruleset with one base chain; `hook` is `input`, `ip6 output`, `inet prerouting raw`, ..."""
    words = hook.split()
    family = words.pop(0) if words[0] in ("inet", "ip", "ip6", "bridge", "netdev") else "inet"
    name, priority = words[0], words[1] if words[1:] else "0"
    device = ' device "eth0"' if family == "netdev" else ""
    kind = "nat" if priority in ("dstnat", "srcnat") else "filter"
    lines = "\n".join(rules)
    return (
        f"table {family} {name}ing {{\n{more}\nchain {name} {{\n"
        f"type {kind} hook {name}{device} priority {priority}; policy {policy};\n{lines}\n}}\n}}\n"
    )


# --- putting faults in, and taking them out ------------------------------------------------------


@contextmanager
def injected(lab: Lab, faults: Sequence[Fault]) -> Iterator[None]:
    """The faults are there meanwhile."""
    places = {ROUTER, *(node.name for node in lab.nodes)}
    places |= {FAR} if isinstance(lab, FarLab) else set()
    with ExitStack() as stack:
        for where in places:
            # Over IPv6 Linux goes round a next hop that it could not find before.
            lab.run(where, "sh", "-ec", "ip -4 neigh flush all; ip -6 neigh flush all")
            stack.callback(lab.drop_firewall, where)
        for fault in faults:
            text = filled(lab, fault.text)
            if fault.undo:
                stack.callback(lab.run, fault.where, "sh", "-c", filled(lab, fault.undo))
            if text.startswith("table"):
                lab.nft(fault.where, text)
            else:
                lab.run(fault.where, "sh", "-ec", text)
        yield


def filled(lab: Lab, text: str) -> str:
    """The text with this lab's addresses."""
    known = {"lab": lab.name}
    for node in lab.nodes:
        for suffix, address, gateway in zip(
            ("", "_6"), node.addresses, node.gateways, strict=False
        ):
            known[node.name + suffix] = address
            known[f"gw_{node.rack}{suffix}"] = str(gateway.ip)
    return Template(text).safe_substitute(known)


# --- looking -------------------------------------------------------------------------------------


def examine(
    lab: Lab,
    row: Row,
    progress: Progress | None = None,
    agents: Agents | None = None,
    **options: Any,
) -> Snapshot:
    """A check, after which nothing of it is on any node.

    A busy machine costs it time, and nothing of what it finds out.
    """
    chosen: dict[str, Any] = {"family": row.family, "timeout_s": 0.3, **options}
    with pytest.MonkeyPatch.context() as patience:
        patience.setattr("preflight.closer.allowance.LIMIT_S", TIMEOUT_S)
        found = check(lab, CheckOptions(**chosen), row.among, progress, agents)
    assert left_behind(lab) == []
    return found


def left_behind(lab: Lab) -> list[str]:
    """What a check may leave on nodes: its processes, its tables of rules.

    A guardian that has to clean up after a killed agent is given the time.
    """
    pids = [
        int(pid)
        for node in lab.nodes
        for pid in lab.run("fw", "ip", "netns", "pids", node.namespace).stdout.split()
    ]
    known = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs([p for p in known if _is_agent(p)], TIMEOUT_S)
    found = [str(process) for process in alive]
    for node in lab.nodes:
        tables = lab.run(node.name, "nft", "list", "tables").stdout
        found += [f"{node.name}: {line}" for line in tables.splitlines() if "preflight" in line]
    return found


def _is_agent(process: psutil.Process) -> bool:
    try:
        return "-IBS" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def assert_found(lab: Lab, snapshot: Snapshot, finds: Sequence[Find]) -> None:
    """Just these findings."""
    told = "\n".join(["", *(_told(snapshot, f) for f in snapshot.findings), *snapshot.notes])
    left = list(snapshot.findings)
    for find in finds:
        wanted = filled(lab, find.where)
        same = [f for f in left if (f.cause, f.where) == (find.cause, wanted)]
        same = [f for f in same if _reads(f, lab, find)] if len(same) > 1 else same
        assert len(same) == 1, f"{find.cause} {wanted}{told}"
        left.remove(same[0])
        differs = _differs(lab, snapshot, same[0], find)
        assert not differs, f"{same[0].where}: {differs}{told}"
    assert not left, told


def _told(snapshot: Snapshot, finding: Finding) -> str:
    return f"{finding.cause} | {finding.where} | {finding.title}\n    " + "\n    ".join(
        (*finding.evidence, *(c for change in finding.changes for c in change.commands))
    )


def _reads(finding: Finding, lab: Lab, find: Find) -> bool:
    lasting = [words for change in finding.changes for words in change.persist]
    text = " ".join((finding.title, *finding.evidence, finding.advice, *finding.unknown, *lasting))
    return all(filled(lab, part) in text for part in find.says)


def _differs(lab: Lab, snapshot: Snapshot, finding: Finding, find: Find) -> str:
    """What of a finding is not as it must be."""
    names = [snapshot.matrix.nodes[n].name for n in finding.nodes]
    seen = finding.diagnosis
    commands = [c for change in finding.changes for c in change.commands]
    facts: dict[str, tuple[object, object]] = {
        "severity": (finding.severity, find.severity),
        "cells": (finding.cells, find.cells),
        "says": (_reads(finding, lab, find), True),
        "mends": (bool(commands), find.mends),
        "asks": (len(finding.requests), find.asks),
    }
    if find.nodes:
        facts["nodes"] = " ".join(names), find.nodes
    if find.rule:
        rules = {hit.rule for hit in seen.hits} if seen else set()
        words = {f"{r.tool} {r.family} {r.table} {r.chain}" for r in rules}
        facts["rule"] = words, {find.rule}
    if find.hop:
        last = seen.path.routers[-1] if seen and seen.path and seen.path.routers else None
        facts["hop"] = last and f"{last.address} {last.ttl}", filled(lab, find.hop)
    if find.largest:
        size = seen.size if seen else None
        facts["largest"] = size and size.largest, find.largest
        by = "nobody" if size and size.black_hole else size and size.reported_by
        facts["told by"] = by, filled(lab, find.told_by)
    if find.flows:
        facts["flows"] = seen and seen.flows and seen.flows.pattern, find.flows
    if find.content:
        facts["content"] = seen and seen.content and seen.content.pattern, find.content
    if find.kernel:
        facts["kernel"] = seen and seen.kernel and seen.kernel.reason, find.kernel
    return "; ".join(
        f"{name}: {is_}, not {must}" for name, (is_, must) in facts.items() if is_ != must
    )


# --- mending -------------------------------------------------------------------------------------


def mend(lab: Lab, snapshot: Snapshot) -> None:
    """Run every command where it says, as an admin would."""
    for finding in snapshot.findings:
        for change in finding.changes:
            for command in change.commands:
                done = lab.run(change.node, "sh", "-c", command, check=False)
                assert done.returncode == 0, (command, done.stderr)


def gets_through(lab: Lab, packet: Shut) -> bool:
    """Whether a UDP packet between two namespaces comes to a socket bound to its port.

    Two are sent: once a device of the receiver has shown the second, the first has met its fate.
    """
    family = socket.AF_INET
    address = filled(lab, "$gw_a" if packet.destination == ROUTER else f"${packet.destination}")

    def bound() -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind(("", packet.port))
        sock.setblocking(False)
        return sock

    def tap() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, _ETH_P_ALL)
        sock.settimeout(TIMEOUT_S)
        return sock

    def send() -> int:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            return sum(sock.sendto(b"canary%d" % i, (address, packet.port)) for i in range(2))

    with lab.call(packet.destination, bound) as sock, lab.call(packet.destination, tap) as device:
        try:
            lab.call(packet.source, send)
        except PermissionError:
            return False
        while b"canary1" not in device.recv(1 << 16):
            pass
        try:
            return sock.recv(1 << 16).startswith(b"canary")
        except BlockingIOError:
            return False
