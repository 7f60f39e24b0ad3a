"""A path that is slow but works is not blocked."""

import heapq
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from netns import NetnsConnector
from scenarios import Silent

from preflight.core.model import Family
from preflight.core.options import CheckOptions
from preflight.inventory import load
from preflight.lab import Lab
from preflight.runs import check as run

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("clean_firewalls")]

ETH_P_ALL = 0x0003


def tap(lab: Lab, device: str) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.bind((device, ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        return sock

    return lab.call("fw", make)


def carry(one: socket.socket, other: socket.socket, delay_s: float, stop: int) -> None:
    """Carry every frame from each socket's device to the other's, late."""
    due: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = max(due[0][0] - time.monotonic(), 0) if due else None
        ready, _, _ = select.select([one, other, stop], [], [], wait)
        if stop in ready:
            return
        for number, sock in enumerate((one, other)):
            if sock in ready:
                frame, address = sock.recvfrom(65536)
                if address[2] != socket.PACKET_OUTGOING:
                    count += 1
                    heapq.heappush(due, (time.monotonic() + delay_s, count, 1 - number, frame))
        while due and due[0][0] <= time.monotonic():
            _, _, number, frame = heapq.heappop(due)
            (one, other)[number].send(frame)


@contextmanager
def delayed(lab: Lab, node: str, delay_s: float) -> Iterator[None]:
    """A cable to `node` that takes so long, each way."""
    index = lab.run(node, "ip", "-o", "link", "show", "eth0").stdout.split("@if")[1].split(":")[0]
    links = lab.run("fw", "ip", "-o", "link", "show").stdout.splitlines()
    (port_line,) = [line for line in links if line.startswith(f"{index}:")]
    port = port_line.split(":")[1].split("@")[0].strip()
    bridge = port_line.split(" master ")[1].split()[0]
    for command in (
        "link add slow0 type veth peer name slow1",
        "link set slow0 up",
        f"link set slow1 master {bridge} up",
        f"link set {port} nomaster",
        f"link set {port} promisc on",
    ):
        lab.run("fw", "ip", *command.split())
    one, other = tap(lab, port), tap(lab, "slow0")
    reader, writer = os.pipe()
    thread = threading.Thread(target=carry, args=(one, other, delay_s, reader))
    thread.start()
    try:
        yield
    finally:
        os.write(writer, b"x")
        thread.join()
        for fd in (reader, writer):
            os.close(fd)
        one.close()
        other.close()
        lab.run("fw", "ip", "link", "set", port, "promisc", "off", "master", bridge)
        lab.run("fw", "ip", "link", "del", "slow0")


@pytest.mark.parametrize("delay_s", [0.3, 0.7])
def test_a_slow_path_is_open_and_where_it_was_too_slow_that_is_noted(
    lab4: Lab, delay_s: float
) -> None:
    connector = NetnsConnector(lab4.popen)
    options = CheckOptions(
        family=Family.IPV4, sources=("n3", "n4"), destinations=("n3", "n4"), timeout_s=1.0
    )
    with delayed(lab4, "n4", delay_s):
        found = run.check(load(lab4.inventory_path), options, lambda _node: connector, Silent())
    assert {cell.outcome.verdict for cell in found.matrix.cells()} == {"open"}
    late = [note for note in found.notes if "after they had been given up" in note]
    assert bool(late) == (2 * delay_s > options.timeout_s)
