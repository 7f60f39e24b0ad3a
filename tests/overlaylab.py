"""A stand-in for Cilium's overlay in a lab: kernel tunnel devices on UDP 6081, and behind each node
a network namespace with an address of the pod network that answers ping and `GET /hello`.

VXLAN stands in for GENEVE, as in the other tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from helloserver import PORT, Answer, _Server, cilium

from preflight.core.cilium.config import Installation, from_config
from preflight.core.cilium.overlay import Planned, plan
from preflight.core.cluster.model import CiliumNode
from preflight.core.model import Inventory
from preflight.lab import Lab, namespaces

T = TypeVar("T")
FORWARDING = (
    Path("/proc/sys/net/ipv4/ip_forward"),
    Path("/proc/sys/net/ipv6/conf/all/forwarding"),
)
NEAR, FAR = "02:66:00:00:01:01", "02:66:00:00:01:02"
TUNNEL, VETH = "cilium_stand", "lxc_health"
CONFIG = {
    "routing-mode": "tunnel",
    "tunnel-protocol": "geneve",
    "enable-ipv4": "true",
    "enable-ipv6": "true",
}


def endpoint(number: int) -> tuple[str, str]:
    """The addresses of a node's health endpoint."""
    return f"10.66.{number}.2", f"fd66:0:0:{number}::2"


def host(number: int) -> tuple[str, str]:
    """A node's own in the pod network."""
    return f"10.66.{number}.1", f"fd66:0:0:{number}::1"


def mac(number: int) -> str:
    return f"02:66:00:00:00:{number:02x}"


class _Wire:
    """A wire between two tap devices: one end in a node, one in its endpoint.

    What comes out of a tap has its checksum verified, as what comes from a real network card; with
    `spoils` the wire writes a wrong one into each TCP segment that another node sends to the
    endpoint.
    """

    def __init__(self, near: int, far: int, own: tuple[str, str]) -> None:
        self.spoils = False
        self._own = tuple(ip_address(a).packed for a in own)
        self._ends = near, far
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self) -> None:
        near, far = self._ends
        while True:
            ready, _, _ = select.select([near, far, self._woken], [], [])
            if self._woken in ready:
                return
            for end in ready:
                frame = bytearray(os.read(end, 1 << 16))
                if self.spoils and end == near:
                    self._spoil(frame)
                with contextlib.suppress(OSError):  # the other end is not up yet
                    os.write(far if end == near else near, frame)

    def _spoil(self, frame: bytearray) -> None:
        v6 = frame[12:14] == b"\x86\xdd"
        sender = bytes(frame[22:38] if v6 else frame[26:30])
        if frame[20 if v6 else 23] == socket.IPPROTO_TCP and sender not in self._own:
            frame[(54 if v6 else 34) + 16] ^= 0x55

    def close(self) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for end in self._ends:
            os.close(end)
        self._wake.close()
        self._woken.close()


def _tap(name: str) -> int:
    """A new tap device of the namespace that we are in."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF
    return fd


class OverlayLab:
    """The overlay of one lab. `mtu` is the tunnel devices'."""

    def __init__(self, lab: Lab, mtu: int) -> None:
        self.wires: dict[str, _Wire] = {}
        self.lab = lab
        self._mtu = mtu
        self._numbers = {node.name: i for i, node in enumerate(lab.nodes, 1)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def space(self, name: str) -> str:
        return f"preflight-{self.lab.name}-o{self._numbers[name]}"

    def inside(self, name: str, function: Callable[[], T]) -> T:
        """Run it in a node's endpoint."""
        return namespaces.inside(self.space(name), function)

    def nft(self, name: str, ruleset: str) -> None:
        """Load rules in a node's endpoint."""
        argv = ("nft", "-f", "-")
        self.inside(
            name,
            lambda: subprocess.run(argv, input=ruleset, text=True, check=True, timeout=20),
        )

    def drop_firewall(self, name: str) -> None:
        self.nft(name, "flush ruleset")

    def up(self) -> None:
        for name in self._numbers:
            namespaces.create([self.space(name)], lambda _: {})
            self._build(name)

    def down(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for name in self._numbers:
            self._ip(name, f"link del {TUNNEL}")
            self._forward(name, "0")
            if name in self.wires:
                self.wires.pop(name).close()
            namespaces.remove(self.space(name))

    def _forward(self, name: str, value: str) -> None:
        for path in FORWARDING:
            self.lab.call(name, lambda path=path: path.write_text(value))

    def _ip(self, name: str, *commands: str) -> None:
        self.lab.run(name, "ip", "-force", "-batch", "-", input="\n".join(commands), check=False)

    def _build(self, name: str) -> None:
        own = self._numbers[name]
        near = self.lab.call(name, lambda: _tap(VETH))
        self.wires[name] = _Wire(near, self.inside(name, lambda: _tap("eth0")), host(own))
        self._forward(name, "1")
        commands = [
            (
                f"link add {TUNNEL} address {mac(own)} mtu {self._mtu} "
                "type vxlan external dstport 6081"
            ),
            f"link set {TUNNEL} up",
            f"link set {VETH} address {NEAR} up",
            f"address add {host(own)[0]}/32 dev {TUNNEL}",
            f"address add {host(own)[1]}/128 dev {TUNNEL} nodad",
            f"route add {endpoint(own)[0]} dev {VETH} src {host(own)[0]}",
            f"-6 route add {endpoint(own)[1]} dev {VETH} src {host(own)[1]}",
            f"-6 neigh replace {endpoint(own)[1]} lladdr {FAR} dev {VETH} nud permanent",
        ]
        for other, number in self._numbers.items():
            if other != name:
                outer = self.lab.node(other).addresses[0]
                v4, v6 = host(number)
                encap = f"encap ip id 7 dst {outer}"
                commands += [
                    f"neigh replace {v4} lladdr {mac(number)} dev {TUNNEL} nud permanent",
                    f"neigh replace {v6} lladdr {mac(number)} dev {TUNNEL} nud permanent",
                    (
                        f"route add 10.66.{number}.0/24 {encap} via {v4} dev {TUNNEL} onlink "
                        f"src {host(own)[0]}"
                    ),
                    (
                        f"-6 route add fd66:0:0:{number}::/64 {encap} via {v6} dev {TUNNEL} onlink "
                        f"src {host(own)[1]}"
                    ),
                ]
        self._batch(lambda argv, text: self.lab.run(name, *argv, input=text), commands)
        self.restore(name)
        # Counters of a namespace are read by a process that is in it.
        argv = ("sleep", "600")
        self._processes.append(self.inside(name, lambda: subprocess.Popen(argv)))

    def restore(self, name: str) -> None:
        """An endpoint's own device, addresses and routes."""
        own = self._numbers[name]
        inner = [
            "link set lo up",
            f"link set eth0 address {FAR} up",
            f"address replace {endpoint(own)[0]}/32 dev eth0",
            f"address replace {endpoint(own)[1]}/128 dev eth0 nodad",
            f"route replace {host(own)[0]} dev eth0",
            f"-6 route replace {host(own)[1]} dev eth0",
            f"route replace default via {host(own)[0]} dev eth0",
            f"-6 route replace default via {host(own)[1]} dev eth0",
            f"-6 neigh replace {host(own)[1]} lladdr {NEAR} dev eth0 nud permanent",
        ]

        def run(argv: tuple[str, ...], text: str) -> None:
            self.inside(name, lambda: subprocess.run(argv, input=text, text=True, check=True))

        self._batch(run, inner)

    def _batch(self, run: Callable[[tuple[str, ...], str], object], commands: list[str]) -> None:
        six = [c.removeprefix("-6 ") for c in commands if c.startswith("-6 ")]
        four = [c for c in commands if not c.startswith("-6 ")]
        run(("ip", "-batch", "-"), "\n".join(four) + "\n")
        if six:
            run(("ip", "-6", "-batch", "-"), "\n".join(six) + "\n")

    @contextmanager
    def serving(self, **others: Answer) -> Iterator[Mapping[str, _Server]]:
        """A health server in each endpoint."""

        def listen() -> socket.socket:
            return socket.create_server(
                ("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
            )

        with ExitStack() as stack:
            servers = {}
            for name in self._numbers:
                server = _Server(self.inside(name, listen), others.get(name, cilium))
                stack.enter_context(contextlib.closing(server))
                servers[name] = server
            yield servers

    def objects(self) -> tuple[CiliumNode, ...]:
        """As the agents would tell of their nodes."""
        return tuple(
            CiliumNode(name, self.lab.node(name).addresses, endpoint(number))
            for name, number in self._numbers.items()
        )

    def planned(self, known: Inventory, **config: str) -> Planned:
        """What a check plans."""
        data = {**CONFIG, **{key.replace("_", "-"): value for key, value in config.items()}}
        return plan(self.installation(data), data, known.nodes, self.objects(), "")

    def installation(self, data: Mapping[str, str]) -> Installation:
        return from_config(data, "cluster lab")

    def among(self, known: Inventory) -> Inventory:
        """The lab's inventory with the overlay's probes."""
        planned = self.planned(known)
        probes = (*known.probes, *planned.probes)
        return replace(known, nodes=planned.nodes, probes=probes)


@contextmanager
def overlay(lab: Lab, mtu: int = 1450) -> Iterator[OverlayLab]:
    """The stand-in, up."""
    running = OverlayLab(lab, mtu)
    try:
        running.up()
        yield running
    finally:
        running.down()
