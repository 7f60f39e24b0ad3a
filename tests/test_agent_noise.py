"""Checks in bad company: busy nodes, captures that overrun, other runs, and forged packets."""

import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import test_agent_kit as kit
from test_agent_kit import Agents, Controller, Quiet, address, check, drops, ship, told, told_of

from preflight.agent.packets import checksum
from preflight.core.model import Family
from preflight.core.snapshot import Snapshot
from preflight.lab import Lab

agents, controller = kit.agents, kit.controller

# argv: packets a second, then pairs of destination and packet (hexadecimal, from its IP header
# on). Raw, so that they meet neither a listener nor a port of ours. Until its input ends; then it
# says how many it sent in how many seconds.
_FLOOD = """
import os, select, socket, sys, time
os.nice(-10)  # this load goes first: a busy node is what is wanted
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
rate = int(sys.argv[1])
shots = [(bytearray.fromhex(p), (d, 0)) for d, p in zip(sys.argv[2::2], sys.argv[3::2])]
print("ready", flush=True)
sent, began = 0, time.monotonic()
while not select.select([0], [], [], 0.001)[0]:
    due = min(int((time.monotonic() - began) * rate) - sent, 256)
    for number in range(sent, sent + due):
        packet, target = shots[number % len(shots)]
        packet[20:22] = (1024 + number * 7919 % 64000).to_bytes(2, "big")
        try:
            raw.sendto(packet, target)
        except OSError:
            pass
    sent += max(due, 0)
print(sent, time.monotonic() - began)
"""


class Flood:
    """How much was really sent."""

    rate = 0.0


@contextmanager
def flood(lab: Lab, where: str, rate: int, shots: list[tuple[str, bytes]]) -> Iterator[Flood]:
    """`where` sends so many packets a second."""
    words = [word for target, packet in shots for word in (target, packet.hex())]
    argv = (sys.executable, "-IBS", "-c", _FLOOD, str(rate), *words)
    process: Any = lab.popen(where, *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    result = Flood()
    try:
        assert process.stdout.readline() == "ready\n"
        yield result
        out, _ = process.communicate("", timeout=kit.PATIENCE_S)
        count, seconds = out.split()
        result.rate = int(count) / float(seconds)
    finally:
        process.kill()
        process.communicate()


def ip(protocol: int, target: str, body: bytes) -> bytes:
    """An IPv4 packet whose source, checksum and identification the kernel fills in."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0,
                         bytes(4), socket.inet_aton(target))  # fmt: skip
    return header + body


def udp(target: str, port: int, payload: bytes) -> bytes:
    return ip(17, target, struct.pack("!HHHH", 1024, port, 8 + len(payload), 0) + payload)


def tcp(target: str, source: int, port: int, sequence: bytes, flags: int = 2) -> bytes:
    body = struct.pack("!HH4s4sBBHHH", source, port, sequence, sequence, 0x50, flags, 1024, 0, 0)
    return ip(6, target, body)


def echo(target: str, payload: bytes, kind: int = 8) -> bytes:
    body = struct.pack("!BBHHH", kind, 0, 0, 7, 7) + payload
    return ip(1, target, body[:2] + checksum(body).to_bytes(2, "big") + body[4:])


def geneve(target: str, size: int = 100) -> bytes:
    """What Cilium sends: a version 0 header, an inner Ethernet frame, and whatever is in it."""
    return udp(target, 6081, bytes.fromhex("0000655800002a00") + bytes(size))


def backlog_drops() -> int:
    """Packets that this machine's kernel threw away for being too busy to take them."""
    lines = Path("/proc/net/softnet_stat").read_text("ascii").splitlines()
    return sum(int(line.split()[1], 16) for line in lines)


def verify_open(snapshot: Snapshot, drops_before: int) -> None:
    """Nothing is accused; a lossy cell only where the kernel itself says that it lost packets."""
    allowed = {"open", "lossy"} if backlog_drops() != drops_before else {"open"}
    assert told(snapshot) <= allowed


# --- noise ---------------------------------------------------------------------------------------


def test_a_node_busy_with_geneve(lab4: Lab, agents: Agents) -> None:
    """50,000 packets a second from n4 to 6081 of n1, or what the machine can do of it (-rP)."""
    before = backlog_drops()
    target = address(lab4, "n1")
    with flood(lab4, "n4", 50_000, [(target, geneve(target))]) as noise:
        verify_open(check(lab4, agents), before)
    sys.stderr.write(f"{noise.rate:,.0f} packets/s\n")


def test_bursts_that_pass_the_filters(lab4: Lab, agents: Agents) -> None:
    """SYNs to 4240, which nobody can tell from ours before their sequence number; and pings."""
    before = backlog_drops()
    target = address(lab4, "n2")
    shots = [(target, tcp(target, 1, 4240, n.to_bytes(4, "big"))) for n in range(64)]
    shots += [(target, echo(target, bytes(56)))] * 16
    with flood(lab4, "n3", 20_000, shots):
        verify_open(check(lab4, agents), before)


class Reviving(Quiet):
    """Lets n1 go on once everybody else has sent."""

    def __init__(self, agents: Agents) -> None:
        super().__init__()
        self._agents = agents

    def waiting(self, nodes: list[str]) -> None:
        if nodes == ["n1"]:
            self._agents.processes["n1"].send_signal(signal.SIGCONT)


def test_a_capture_that_overruns(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n1 stands still while all others probe it, with buffers that hold few of their probes."""
    line = "            self._sender.run(look, self._idle)\n"
    still = "            if self._setup['me'] == 0 and look.number == 1:\n"
    still += "                posix.kill(posix.getpid(), 19)\n"
    small = ("agent.main", "_BUFFER = 4 << 20", "_BUFFER = 4 << 10")
    ship(monkeypatch, [small, ("agent.main", line, still + line)])
    progress = Reviving(agents)
    snapshot = check(lab4, agents, progress)
    assert told(snapshot) <= {"open", "unknown"}
    assert set(told_of(snapshot, "n1", "n2", "n3", "n4").get("unknown", ())) <= {"not-watched"}
    assert any(text.startswith("second look") for text in progress.texts), "nothing overran"


def test_captures_that_overrun_all_the_time(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody sends as fast as it can, and reads only when it has sent, in every look."""
    line = "                if not idle(max(-late, 0.0)):\n"
    blind = line.replace("not idle(max(-late, 0.0))", "False")
    small = ("agent.main", "_BUFFER = 4 << 20", "_BUFFER = 4 << 10")
    ship(monkeypatch, [small, ("agent.send", line, blind)])
    snapshot = check(lab4, agents, rate=1_000_000)
    assert told(snapshot) <= {"open", "unknown"}


def test_captures_that_overrun_hide_no_fault(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not turn what is blocked into open either; at the default pace they get there."""
    drops(lab4, "n3", "input", "udp dport 6081")
    ship(monkeypatch, [("agent.main", "_BUFFER = 4 << 20", "_BUFFER = 4 << 10")])
    snapshot = check(lab4, agents)
    for cell in snapshot.matrix.cells():
        bad = cell.destination == 2 and cell.probe == 0
        assert cell.outcome.verdict in (("blocked", "unknown") if bad else ("open", "unknown"))


def test_a_flood_that_overruns_everything(
    lab4: Lab, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers' SYNs fill n2's buffers all the time, and nothing of n2 is accused."""
    before = backlog_drops()
    ship(monkeypatch, [("agent.main", "_BUFFER = 4 << 20", "_BUFFER = 4 << 10")])
    target = address(lab4, "n2")
    shots = [(target, tcp(target, 1, 4240, n.to_bytes(4, "big"))) for n in range(64)]
    with flood(lab4, "n3", 50_000, shots):
        snapshot = check(lab4, agents)
    lost = backlog_drops() != before
    assert told(snapshot) <= ({"open", "unknown", "lossy"} if lost else {"open", "unknown"})
    assert told(snapshot, without=["n2", "n3"]) == {"open"} or lost


# --- two runs ------------------------------------------------------------------------------------


def test_two_runs_side_by_side(controller: Callable[..., Controller]) -> None:
    """Both at a pace that takes a second, so that they do meet."""
    both = [controller({"rate": 150}) for _ in range(2)]
    for one in both:
        one.heard("first look")
    for one in both:
        result = one.result()
        assert {verdict for _, _, verdict, _ in result["cells"]} == {"open"}
        assert set(result["agents"].values()) == {"ok"}


# --- forged and old packets ----------------------------------------------------------------------


class Capture:
    """All IPv4 packets that come in somewhere, from their IP header on."""

    def __init__(self, lab: Lab, where: str) -> None:
        kind = (socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self._tap = lab.call(where, lambda: socket.socket(*kind))
        self._tap.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
        self._tap.setblocking(False)

    def take(self) -> list[bytes]:
        """Those that came since the last time."""
        out = []
        with suppress(BlockingIOError):
            while True:
                data, (_, _, kind, *_) = self._tap.recvfrom(4096)
                if kind != socket.PACKET_OUTGOING:
                    out.append(data)
        return out

    def close(self) -> None:
        self._tap.close()


@pytest.fixture
def capture(lab4: Lab) -> Iterator[Capture]:
    """What comes by the router, before its firewall."""
    one = Capture(lab4, "fw")
    yield one
    one.close()


class Injector:
    """Sends packets as they are, from a place between the nodes, while a check goes on."""

    def __init__(self, lab: Lab) -> None:
        self._socket = lab.call(
            "fw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.sent = 0

    def start(self, packets: list[bytes]) -> None:
        """Send them over and over, from now on."""
        self._thread = threading.Thread(target=self._send, args=(packets,))
        self._thread.start()

    def _send(self, packets: list[bytes]) -> None:
        while not self._stop.is_set():
            for packet in packets:
                self._socket.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
                self.sent += 1
            self._stop.wait(0.1)  # few enough for a busy machine's taps to keep up with

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()


@pytest.fixture
def injector(lab4: Lab) -> Iterator[Injector]:
    one = Injector(lab4)
    yield one
    one.stop()


def dead_node(lab: Lab) -> None:
    """The router drops everything of ours to n3: whatever n3 counts has been forged."""
    target = address(lab, "n3")
    drops(lab, "fw", "forward", *(f"ip daddr {target} {match}" for match in (
        "udp dport 6081", "tcp dport 4240", "icmp type echo-request")))  # fmt: skip


def verify_dead(snapshot: Snapshot) -> None:
    """From the other rack to n3 over IPv4 nothing got through, and nobody was fooled."""
    for cell in snapshot.matrix.cells():
        if cell.destination == 2 and cell.source in (0, 1):
            assert cell.outcome.verdict == "blocked", cell
            assert cell.outcome.place == "path", cell
            assert cell.outcome.evidence[2:4] == (0, 0), cell
        else:
            assert cell.outcome.verdict == "open", cell


def ours(packets: list[bytes], target: str) -> list[bytes]:
    """The probes among them that are for `target`: GENEVE, SYNs, echo requests."""
    goal = socket.inet_aton(target)
    out = []
    for packet in packets:
        kind = (packet[9], packet[22:24]) if packet[9] != 1 else (1, packet[20:21])
        wanted = ((17, b"\x17\xc1"), (6, b"\x10\x90"), (1, b"\x08"))
        if packet[16:20] == goal and kind in wanted:
            out.append(packet)
    return out


def test_packets_of_an_earlier_look_count_for_nothing(
    lab4: Lab, agents: Agents, capture: Capture, injector: Injector
) -> None:
    """The router drops the first look's probes, keeps copies, and lets them go in the second."""
    dead_node(lab4)
    kept: list[bytes] = []

    def replay(text: str) -> None:
        if text.startswith("second look"):
            kept.extend(ours(capture.take(), address(lab4, "n3")))
            injector.start(kept)

    verify_dead(check(lab4, agents, Quiet(replay), family=Family.IPV4, timeout_s=0.2))
    assert {packet[9] for packet in kept} == {17, 6, 1}
    assert injector.sent > len(kept)


def test_packets_of_an_earlier_run_count_for_nothing(
    lab4: Lab,
    agents: Agents,
    capture: Capture,
    injector: Injector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Keys by which no SYN of the second run is in the flow of one of the first: a firewall may
    # rewrite sequence numbers, so such a SYN, of one pair in 500, counts.
    keys = iter(bytes([n]) * 32 for n in (1, 2))
    drawn = SimpleNamespace(token_bytes=lambda _: next(keys), token_hex=secrets.token_hex)
    monkeypatch.setattr("preflight.crew.crew.secrets", drawn)
    dead_node(lab4)
    verify_dead(check(lab4, agents, family=Family.IPV4))
    kept = ours(capture.take(), address(lab4, "n3"))
    assert {packet[9] for packet in kept} == {17, 6, 1}
    injector.start(kept)
    verify_dead(check(lab4, agents, family=Family.IPV4))


def test_forged_packets_count_for_nothing_and_crash_nobody(
    lab4: Lab, agents: Agents, capture: Capture, injector: Injector
) -> None:
    """Made from this run's own probes, so that the kernel's filters let them up."""
    dead_node(lab4)
    random = Random(6081)
    near, far = address(lab4, "n1"), address(lab4, "n3")

    def forge(text: str) -> None:
        if not text.startswith("second look"):
            return
        real = ours(capture.take(), far)
        one_of_each = list({packet[9]: packet for packet in real}.values())
        assert len(one_of_each) == 3
        forged = [mutilated(random, packet) for packet in one_of_each for _ in range(150)]
        forged += [packet[:size] for packet in one_of_each for size in range(20, len(packet))]
        forged += [
            ip(protocol, target, random.randbytes(random.randrange(64)))
            for protocol in (17, 6, 1) for target in (near, far) for _ in range(50)
        ]  # fmt: skip
        forged += [answer(random, near, far, flags) for flags in (0x04, 0x12, 0x14) * 20]
        forged += [echo(near, packet[28:], kind=0) for packet in one_of_each]
        forged += [error(random, near, packet) for packet in one_of_each for _ in range(50)]
        injector.start(forged)

    snapshot = check(lab4, agents, Quiet(forge), family=Family.IPV4, timeout_s=0.2)
    assert {info.state for info in snapshot.agents} == {"ok"}
    verify_dead(snapshot)
    assert injector.sent > 1000


def mutilated(random: Random, packet: bytes) -> bytes:
    """The same tag, ports and addresses; another token, or another sequence number."""
    body = bytearray(packet)
    at = {17: slice(54, 62), 6: slice(24, 28), 1: slice(32, 40)}[packet[9]]
    body[at] = random.randbytes(at.stop - at.start)
    if packet[9] == 6:  # from its own port it would be a SYN with a rewritten sequence number
        body[20:22] = random.randrange(1024, 61000).to_bytes(2, "big")
    return bytes(body)


def answer(random: Random, target: str, source: str, flags: int) -> bytes:
    """An RST or SYN-ACK in the name of `source` that answers nothing."""
    packet = bytearray(
        tcp(target, 4240, random.randrange(61000, 65000), random.randbytes(4), flags)
    )
    packet[12:16] = socket.inet_aton(source)
    return bytes(packet)


def error(random: Random, target: str, quoted: bytes) -> bytes:
    """A message that quotes some of a packet, or of a broken one, and rejects nothing."""
    broken = bytearray(quoted)
    broken[random.randrange(20)] = random.randrange(256)
    body = bytes((4, random.randrange(3), 0, 0, 0, 0, 0, 0)) + bytes(broken)[: random.randrange(60)]
    return ip(1, target, body[:2] + checksum(body).to_bytes(2, "big") + body[4:])
