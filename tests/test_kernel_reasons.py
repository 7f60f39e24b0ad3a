"""The kernel's own reasons, each made to happen: named, mended by what is proposed, or left alone.

A wrong accusation is worse than none: the innocent are tried here as well.
"""

import itertools
import json
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from kernelbed import COUNT, Bed, probes
from kernelfaults import ANSWER, ARRIVE, FAULTS, SEND, TAKE_ANSWER_IN, TAKE_IN, Fault
from labs import PREFIX

from preflight.core.diagnosis.kernel import KernelReason, explain
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.diagnosis.trial import End
from preflight.core.model import Family, Protocol

pytestmark = pytest.mark.lab

_numbers = itertools.count()


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed(f"preflight-{PREFIX}-k{next(_numbers)}") as built:
        yield built


# --- one fault ---------------------------------------------------------------------------------


@dataclass
class Loss:
    came: int
    lost: int
    end: End


def measure(
    bed: Bed,
    fault: Fault,
    *,
    send: Callable[[list[bytes]], object] | None = None,
    before: Callable[[], object] = lambda: None,
) -> Loss:
    """Send, watch, and have the node account for it. `before` falls into the idle window."""
    own, peer = fault.ends if fault.node == "a" else fault.ends[::-1]
    send = send or (lambda packets: bed.send("a", packets))
    with (
        bed.account(fault.node, pairs=[(own, peer)], devices=fault.devices, idle=False) as account,
        bed.watch(fault.node, fault.protocol, v6=fault.v6, device=fault.device) as seen,
    ):
        assert account.trouble == ""
        before()
        account.idle()
        packets = fault.packets()
        seen.forget()
        send(packets)
        if fault.stage == SEND:
            seen.wait(lambda _: True)
            came, went = len(packets), seen.left
        elif fault.stage == ARRIVE:
            seen.wait(lambda _: bed.received("b", "v0") >= COUNT)
            came, went = len(packets), seen.arrived
        elif fault.stage == ANSWER:
            seen.wait(lambda s: s.accepted >= COUNT)
            came, went = seen.accepted, seen.left
        else:
            seen.wait(lambda s: s.arrived >= COUNT)
            came, went = seen.arrived, seen.accepted
        end = account.end()
    return Loss(came, came - went, end)


def judge(fault: Fault, loss: Loss, *, device: str | None = None) -> KernelReason | None:
    """The accusation, from what a node told over a wire."""
    leg, place = fault.stage
    source, destination = fault.ends
    told = json.loads(json.dumps([loss.end.settings, loss.end.idle, loss.end.moved]))
    end = End("", *told, loss.end.drops, loss.end.idle_drops)
    incoming = fault.device if fault.stage in (TAKE_IN, TAKE_ANSWER_IN, ARRIVE) else ""
    return explain(
        leg=leg,
        place=place,
        protocol=Protocol(fault.protocol),
        family=Family.IPV6 if fault.v6 else Family.IPV4,
        lost=loss.lost,
        came=loss.came,
        device=incoming if device is None else device,
        end=end,
        source=source,
        destination=destination,
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_kernels_reason_is_named_and_the_proposed_setting_mends_it(
    bed: Bed, fault: Fault
) -> None:
    fault.broken(bed)
    loss = measure(bed, fault)
    assert loss.came == COUNT
    assert loss.lost >= fault.at_least
    found = judge(fault, loss)
    assert found is not None, loss
    assert found.reason is fault.reason
    assert {change.name: change.better for change in found.settings} == fault.mended
    for words in fault.says:
        assert any(words in sentence for sentence in found.evidence), found.evidence
    if fault.mended:
        for change in found.settings:
            bed.sysctl(fault.node, change.name, change.better)
        again = measure_open(bed, fault)
        assert again == COUNT


def measure_open(bed: Bed, fault: Fault) -> int:
    """How many pass now where they were lost."""
    with bed.watch(fault.node, fault.protocol, v6=fault.v6, device=fault.device) as seen:
        bed.send("a", fault.packets())
        seen.wait(lambda s: (s.left if fault.stage == ANSWER else s.accepted) >= COUNT)
        return COUNT


def test_a_wrong_ip_checksum_is_named(bed: Bed) -> None:
    fault = Fault("wrong IP checksum", None, lambda _: None, TAKE_IN)

    def spoilt(packets: list[bytes]) -> None:
        bed.inject("a", [p[:10] + bytes([p[10] ^ 0x55]) + p[11:] for p in packets])

    loss = measure(bed, fault, send=spoilt)
    found = judge(fault, loss)
    assert found is not None
    assert found.reason is Reason.CHECKSUM
    assert "IpExtInCsumErrors rose by 20" in found.evidence[0]
    assert "IP_CSUM" in found.evidence[1]


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_a_queue_that_is_full_is_named(bed: Bed, v6: bool) -> None:
    bed.tc("a", "qdisc add dev v0 root tbf rate 1mbit burst 1600 limit 200")
    fault = Fault("queue", None, lambda _: None, SEND, v6=v6)
    packets = probes("udp", *fault.ends, count=400)

    def dropped() -> int:
        told = json.loads(bed.run("a", "tc", "-j", "-s", "qdisc", "show", "dev", "v0"))
        return sum(queue["drops"] for queue in told)

    with bed.account("a") as account, bed.watch("a", "udp", v6=v6) as seen:
        bed.send("a", packets)
        lost = dropped()
        seen.wait(lambda s: s.left == len(packets) - lost)  # what still was in the queue
        loss = Loss(len(packets), lost, account.end())
    assert lost > 100
    found = judge(fault, loss)
    assert found is not None
    assert found.reason is Reason.QUEUE
    assert f"v0 qdisc tbf dropped rose by {lost}" in found.evidence[0]
    assert any("QDISC_" in sentence for sentence in found.evidence)


@pytest.mark.alone
@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_a_full_neighbour_table_is_named(bed: Bed, v6: bool) -> None:
    """The table is the machine's: for the moment of this burst its limit is below what it holds."""
    bed.ip("a", "-6 route add fd66::/64 dev v0" if v6 else "route add 10.64.0.0/16 dev v0")
    limit = Path(f"/proc/sys/net/ipv{6 if v6 else 4}/neigh/default/gc_thresh3")
    table = "ndisc_cache" if v6 else "arp_cache"
    fresh = (f"fd66::{i:x}" if v6 else f"10.64.{i >> 8}.{i & 255}" for i in range(1, 60000))
    fault = Fault("", None, lambda _: None, SEND, v6=v6, destination="fd66::ffff" if v6
                  else "10.64.255.255")  # fmt: skip

    def send(packets: list[bytes]) -> None:
        bed.send("a", [probes("udp", fault.ends[0], next(fresh), count=1)[0] for _ in range(64)])
        full = _overflows(table)
        former = limit.read_text("ascii")
        try:
            limit.write_text("8", "ascii")
            for address in fresh:  # until nothing old is left to make room
                bed.send("a", probes("udp", fault.ends[0], address, count=1))
                if _overflows(table) > full:
                    break
            bed.send("a", packets)
        finally:
            limit.write_text(former, "ascii")

    loss = measure(bed, fault, send=send)
    assert loss.lost == COUNT
    found = judge(fault, loss)
    assert found is not None, loss
    assert found.reason is Reason.NEIGHBOUR_TABLE_FULL
    assert "NEIGH_CREATEFAIL" in found.evidence[0]


def _overflows(table: str) -> int:
    rows = [line.split() for line in Path("/proc/1/net/stat", table).read_text().splitlines()]
    return sum(int(row[rows[0].index("table_fulls")], 16) for row in rows[1:])


# --- the connection tracking table ----------------------------------------------------------------

_NFNL_CONNTRACK, _NEW, _CREATE = 12, 0x100, 0x601
_TRACKED = "table ip t {{ chain c {{ type filter hook {} priority 0; ct state new accept; }}; }}"


def fill_conntrack(count: int) -> None:
    """So many assured entries, which do not make room for others; of this namespace."""

    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    def flow(kind: int, source: bytes, destination: bytes, ports: tuple[bytes, bytes]) -> bytes:
        addresses = attribute(1, source) + attribute(2, destination)
        udp = attribute(1, b"\x11") + attribute(2, ports[0]) + attribute(3, ports[1])
        return attribute(0x8000 | kind, attribute(0x8001, addresses) + attribute(0x8002, udp))

    far, port, here, service = b"AAAA", b"PP", b"\x0a\x09\0\x02", b"\0\x09"
    body = struct.pack("=BBH", socket.AF_INET, 0, 0)
    body += flow(1, far, here, (port, service)) + flow(2, here, far, (service, port))
    body += attribute(3, struct.pack("!I", 0x0E)) + attribute(7, struct.pack("!I", 600))
    entry = struct.pack("=IHHII", 16 + len(body), _NEW, _CREATE, 0, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NFNL_CONNTRACK) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)  # SO_SNDBUFFORCE
        for block in range(0, count, 1000):
            of_block = entry.replace(far, struct.pack("!I", 0x0B000000 + block))
            before, between, after = of_block.split(port)
            netlink.send(
                b"".join(
                    before + number + between + number + after
                    for number in (struct.pack("!H", 1024 + i) for i in range(1000))
                )
            )


@pytest.mark.parametrize("node", ["a", "b"])
def test_a_full_connection_tracking_table_is_named(bed: Bed, node: str) -> None:
    most = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text("ascii"))
    if most > 300_000:
        pytest.skip(f"this machine tracks {most} connections in each namespace")
    # The limit is the machine's, the count each namespace's own.
    hook = "output" if node == "a" else "input"
    bed.run(node, "nft", "-f", "-", input=_TRACKED.format(hook))
    stage = SEND if node == "a" else TAKE_IN
    fault = Fault("full", None, lambda _: None, stage)
    bed.inside(node, lambda: fill_conntrack(most))
    loss = measure(bed, fault)
    assert loss.lost == COUNT
    found = judge(fault, loss)
    assert found is not None, loss
    assert found.reason is Reason.CONNTRACK_FULL
    assert "nf_conntrack:drop rose by 20" in found.evidence[0]
    (change,) = found.settings
    assert change.name == "net.netfilter.nf_conntrack_max"
    assert change.better == str(2 * most)


# --- the innocent ---------------------------------------------------------------------------------

_DROP = "table inet t {{ chain c {{ type filter hook {} priority 0; {} drop; }}; }}"


def strict_but_innocent(bed: Bed) -> None:
    """Strict everywhere, and a firewall that drops: the counter does not move."""
    bed.sysctl("b", "net.ipv4.conf.all.rp_filter", 1)
    bed.run("b", "nft", "-f", "-", input=_DROP.format("input", "udp dport 6081"))


def no_answer_for_a_rule(bed: Bed) -> None:
    bed.run("b", "nft", "-f", "-", input=_DROP.format("output", "meta l4proto icmp"))


_INNOCENT = [
    Fault("strict, but a rule drops", None, strict_but_innocent, TAKE_IN),
    Fault("a rule drops echo replies", None, no_answer_for_a_rule, ANSWER, "icmp"),
    Fault("nothing is wrong but a rule, IPv6", None,
          lambda bed: bed.run("b", "nft", "-f", "-",
                              input=_DROP.format("prerouting", "udp dport 6081")),
          TAKE_IN, v6=True),
]  # fmt: skip


@pytest.mark.parametrize("fault", _INNOCENT, ids=lambda fault: fault.name)
def test_nobody_is_accused_for_what_a_firewall_drops(bed: Bed, fault: Fault) -> None:
    fault.broken(bed)
    loss = measure(bed, fault)
    assert loss.lost == COUNT
    assert judge(fault, loss) is None


def test_what_moves_anyway_is_no_evidence(bed: Bed) -> None:
    fault = replace(FAULTS[0])
    fault.broken(bed)
    loss = measure(bed, fault, before=lambda: bed.send("a", fault.packets()))
    assert loss.lost == COUNT
    assert judge(fault, loss) is None


def test_others_losses_are_not_taken_for_ours(bed: Bed) -> None:
    """Reverse path filtering drops a stranger's packets while a firewall drops ours."""
    stranger = FAULTS[0]
    stranger.broken(bed)
    fault = Fault("ours", None, lambda _: None, TAKE_IN)
    rule = "ip saddr 10.9.0.1 udp dport 6081"
    bed.run("b", "nft", "-f", "-", input=_DROP.format("input", rule))

    def send(packets: Sequence[bytes]) -> None:
        bed.send("a", packets)
        bed.send("a", probes("tcp", *stranger.ends))

    loss = measure(bed, fault, send=send)
    loss.came, loss.lost = COUNT, COUNT
    assert loss.end.moved["TcpExtIPReversePathFilter"] == COUNT
    assert judge(fault, loss) is None
    assert judge(stranger, loss) is not None
