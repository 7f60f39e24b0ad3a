"""Two nodes, `a` and `b`, on two cables, and what `b` or `a` says of itself while probes are lost.

bed = Bed(name)                       # a: 10.9.0.1, fd09::1; b: 10.9.0.2, fd09::2; v0, w0
with bed.account("b") as account:     # the agent's own modules, in a process inside b
    with bed.watch("b", "udp") as seen:
        bed.send("a", probes("udp"))
    end = account.end()
"""

import contextlib
import json
import os
import select
import shlex
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from preflight.core.diagnosis.trial import End
from preflight.lab import namespaces

ROOT = Path(__file__).parent.parent
COUNT = 20
PORT = 41000  # our first source port, or ICMP id; the second is one up
PATIENCE_S = 10.0
ADDRESSES = {"a": ("10.9.0.1", "fd09::1"), "b": ("10.9.0.2", "fd09::2")}
PROTOCOLS = {"udp": (17, 17), "tcp": (6, 6), "icmp": (1, 58)}
_PORTS = {"udp": 6081, "tcp": 4240}
_ETH_P_ALL, _OUTGOING = 3, 4
_SO_RCVBUFFORCE = 33
# Nothing is to leave the nodes but what a test sends: their multicast reports wait till doomsday.
_DOOMSDAY_MS = "100000000"
_QUIET = {
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/router_solicitations": "0",
    "net/ipv6/conf/default/mldv1_unsolicited_report_interval": _DOOMSDAY_MS,
    "net/ipv6/conf/default/mldv2_unsolicited_report_interval": _DOOMSDAY_MS,
    "net/ipv4/conf/default/igmpv3_unsolicited_report_interval": _DOOMSDAY_MS,
}

# The agent's modules, under whatever Python; a line in, a line out.
_ACCOUNT = """
import sys
sys.path.insert(0, {root!r})
import json
from preflight.agent.kernel import counters, fib, hooks, sysctls
from preflight.agent.kernel.drops import Drops
def say(value):
    sys.stdout.write(json.dumps(value) + "\\n")
    sys.stdout.flush()
devices, pairs = json.loads(sys.stdin.readline())
drops = Drops()
say(drops.open())
before = counters.read(devices)
drops.counts()
sys.stdin.readline()
settled = counters.read(devices)
idle_drops = drops.counts()
say("idle")
sys.stdin.readline()
after = counters.read(devices)
settings = dict(sysctls.read(devices))
settings.update(hooks.read(devices))
settings.update(fib.ask(pairs, devices))
say({{
    "idle": counters.moved(before, settled), "moved": counters.moved(settled, after),
    "settings": settings, "drops": drops.counts(), "idle_drops": idle_drops,
}})
drops.close()
sys.stdin.readline()
"""


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def probes(
    protocol: str,
    source: str = "10.9.0.1",
    destination: str = "10.9.0.2",
    *,
    count: int = COUNT,
    spoil: bool = False,
) -> list[bytes]:
    """IP packets, each of another flow; with `spoil` their transport checksums are wrong."""
    return [_packet(protocol, source, destination, PORT + i, spoil) for i in range(count)]


def _packet(protocol: str, source: str, destination: str, port: int, spoil: bool) -> bytes:
    v6 = ":" in source
    domain = socket.AF_INET6 if v6 else socket.AF_INET
    ends = socket.inet_pton(domain, source) + socket.inet_pton(domain, destination)
    number = PROTOCOLS[protocol][v6]
    if protocol == "udp":
        body, at = struct.pack("!HHHH8s", port, _PORTS[protocol], 16, 0, b"kernel"), 6
    elif protocol == "tcp":
        body = struct.pack("!HHIIBBHHH", port, _PORTS[protocol], 7, 0, 0x50, 2, 1000, 0, 0)
        at = 16
    else:
        body, at = struct.pack("!BBHHH8s", 128 if v6 else 8, 0, 0, port, 1, b"kernel"), 2
    pseudo = ends + struct.pack("!II", len(body), number)
    total = checksum(body if number == 1 else pseudo + body) ^ (0x55 if spoil else 0)
    body = body[:at] + struct.pack("!H", total) + body[at + 2 :]
    if v6:
        return struct.pack("!IHBB", 6 << 28, len(body), number, 64) + ends + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, number, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def _is_ours(packet: bytes) -> bool:
    """A probe of `probes` or an answer to it."""
    v6 = packet[0] >> 4 == 6
    number, body = (packet[6], packet[40:]) if v6 else (packet[9], packet[20:])
    if number in (1, 58):
        kinds = (128, 129) if v6 else (0, 8)
        ports: tuple[int, ...] = struct.unpack("!H", body[4:6]) if body[0] in kinds else ()
    else:
        ports = struct.unpack("!HH", body[:4])
    return any(PORT <= port < PORT + 1000 for port in ports)


class Seen:
    """What the tap and the raw socket of one node saw of our probes, and of their answers."""

    def __init__(self, tap: socket.socket, raw: socket.socket, v6: bool) -> None:
        self._tap, self._raw, self._v6 = tap, raw, v6
        self.arrived = self.left = self.accepted = 0

    def forget(self) -> None:
        """What was seen so far."""
        self.read()
        self.arrived = self.left = self.accepted = 0

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, address = self._tap.recvfrom(2048)
                if _is_ours(packet):
                    outgoing = address[2] == _OUTGOING
                    self.left += outgoing
                    self.arrived += not outgoing
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = self._raw.recv(2048)
                kind = packet[0] if self._v6 else packet[20]
                self.accepted += kind in (0, 8, 128, 129) or self._raw.proto not in (1, 58)

    def wait(self, done: Callable[["Seen"], bool]) -> None:
        """Until it has seen what it must, and the kernel has done with that.

        To close a packet socket waits for whatever a CPU is still receiving (synchronize_net).
        """
        end = time.monotonic() + PATIENCE_S
        while not done(self):
            assert time.monotonic() < end, vars(self)
            select.select([self._tap, self._raw], [], [], 0.01)
            self.read()
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
        self.read()


class Account:
    """What one node says of itself, in two windows: before `idle` returns, and after it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.trouble = ""

    def say(self, *values: Any) -> None:
        self.process.stdin.write(json.dumps(values) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "it is silent"
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def idle(self) -> None:
        self.say()
        assert self.hear() == "idle"

    def end(self) -> End:
        self.say()
        told = self.hear()
        drops = [told[name] or [] for name in ("drops", "idle_drops")]
        return End("", told["settings"], told["idle"], told["moved"], *drops)


class Bed:
    """The two nodes, as long as it is used as a context manager."""

    def __init__(self, name: str) -> None:
        self._names = {node: f"{name}-{node}" for node in "ab"}

    def __enter__(self) -> "Bed":
        if os.geteuid() != 0:
            pytest.skip("the lab needs root")
        try:
            namespaces.prepare()
            namespaces.create(self._names.values(), lambda _: _QUIET)
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names.values():
            namespaces.remove(name)
        namespaces.unprepare()

    def _build(self) -> None:
        for device in ("v0", "w0"):
            ends = [f"name {device} netns {name}" for name in self._names.values()]
            self.run("a", "ip", "link", "add", *f"{ends[0]} type veth peer {ends[1]}".split())
        for number, (node, own) in enumerate(ADDRESSES.items()):
            other = ADDRESSES["b" if node == "a" else "a"]
            lines = ["link set lo up"]
            for device in ("v0", "w0"):
                lines += [
                    f"link set {device} addrgenmode none address {self.mac(node, device)}",
                    f"link set {device} up",
                ]
            lines += [f"address add {own[0]}/24 dev v0", f"address add {own[1]}/64 dev v0 nodad"]
            lines += [
                f"neighbour add {address} lladdr {self.mac('ba'[number], device)} dev {device}"
                for address in other
                for device in ("v0", "w0")
            ]
            self.run(node, "ip", "-batch", "-", input="\n".join(lines) + "\n")

    @staticmethod
    def mac(node: str, device: str) -> str:
        return f"02:00:00:00:{device.encode().hex()[:2]}:{node.encode().hex()}"

    def inside(self, node: str, function: Callable[[], Any]) -> Any:
        return namespaces.inside(self._names[node], function)

    def run(self, node: str, *argv: str, input: str | None = None) -> str:  # noqa: A002
        done = self.inside(
            node,
            lambda: subprocess.run(
                argv, input=input, capture_output=True, text=True, timeout=30, check=False
            ),
        )
        assert done.returncode == 0, (argv, done.stderr)
        return str(done.stdout)

    def ip(self, node: str, command: str) -> str:
        return self.run(node, "ip", *command.split())

    def tc(self, node: str, command: str) -> str:
        return self.run(node, "tc", *shlex.split(command))

    def received(self, node: str, device: str) -> int:
        """Packets that came in by a device, whatever became of them."""
        table = self.inside(node, lambda: Path("/proc/thread-self/net/dev").read_text("ascii"))
        return int(next(line for line in table.splitlines() if f" {device}:" in line).split()[2])

    def sysctl(self, node: str, name: str, value: object) -> None:
        path = Path("/proc/sys", name.translate(str.maketrans("./", "/.")))
        self.inside(node, lambda: path.write_text(str(value), "ascii"))

    @contextlib.contextmanager
    def account(
        self,
        node: str,
        *,
        pairs: Iterable[tuple[str, str]] | None = None,
        devices: Sequence[str] = ("v0",),
        python: str = sys.executable,
        idle: bool = True,
    ) -> Iterator[Account]:
        """What `node` says of itself; with `idle` the idle window is over when this begins."""
        other = "b" if node == "a" else "a"
        if pairs is None:
            pairs = zip(ADDRESSES[node], ADDRESSES[other], strict=True)
        argv = [python, "-IBS", "-u", "-c", _ACCOUNT.format(root=str(ROOT))]
        pipe = subprocess.PIPE
        process = self.inside(
            node, lambda: subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        )
        with process:
            try:
                account = Account(process)
                account.say(list(devices), [list(pair) for pair in pairs])
                account.trouble = account.hear()
                if idle:
                    account.idle()
                yield account
            finally:
                process.kill()

    @contextlib.contextmanager
    def watch(
        self, node: str, protocol: str, *, v6: bool = False, device: str = "v0"
    ) -> Iterator[Seen]:
        """The tap at a device and the raw socket, as an agent has them."""
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        tap = self.inside(
            node, lambda: socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ALL))
        )
        domain = socket.AF_INET6 if v6 else socket.AF_INET
        number = PROTOCOLS[protocol][v6]
        raw_kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        raw = self.inside(node, lambda: socket.socket(domain, raw_kind, number))
        with tap, raw:
            for each in (tap, raw):
                each.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)
            self.inside(node, lambda: tap.bind((device, _ETH_P_ALL)))
            yield Seen(tap, raw, v6)

    def send(self, node: str, packets: Sequence[bytes]) -> dict[int, int]:
        """Send them as an agent does; how often each errno came back."""
        v6 = packets[0][0] >> 4 == 6
        domain = socket.AF_INET6 if v6 else socket.AF_INET
        errors: dict[int, int] = {}
        with self.inside(
            node, lambda: socket.socket(domain, socket.SOCK_RAW, socket.IPPROTO_RAW)
        ) as sender:
            for packet in packets:
                to = socket.inet_ntop(domain, packet[24:40] if v6 else packet[16:20])
                try:
                    sender.sendto(packet, (to, 0))
                except OSError as error:
                    errors[error.errno or 0] = errors.get(error.errno or 0, 0) + 1
        return errors

    def inject(self, node: str, packets: Sequence[bytes]) -> None:
        """Put them on v0's cable as they are, past the node's own IP layer."""
        other = "b" if node == "a" else "a"
        macs = [bytes.fromhex(self.mac(n, "v0").replace(":", "")) for n in (other, node)]
        with self.inside(node, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
            self.inside(node, lambda: wire.bind(("v0", 0)))
            for packet in packets:
                kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
                wire.send(b"".join(macs) + kind + packet)
