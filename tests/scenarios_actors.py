"""Who lives in a lab besides firewalls: servers, middleboxes that lie, witnesses.

Each is a context manager that works in one namespace from a thread, and is gone afterwards.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from helloserver import cilium, serving

from preflight.agent.packets import checksum
from preflight.core.model import HEALTH
from preflight.lab import Lab

_ANY_PROTOCOL = socket.htons(0x0003)  # ETH_P_ALL
_TCP = socket.IPPROTO_TCP
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
RST_ACK, SYN_ACK = _RST | _ACK, _SYN | _ACK

Packet = tuple[bytes, int]  # from the network header on; PACKET_HOST, PACKET_OUTGOING, ...


@contextmanager
def listening(lab: Lab, *where: str, port: int = HEALTH.port or 0) -> Iterator[None]:
    """Whoever serves Cilium's health port, on every address of these nodes."""
    with serving(lab, dict.fromkeys(where, cilium), port):
        yield


@contextmanager
def _tapping(lab: Lab, where: str, hear: Callable[[bytes, int], None]) -> Iterator[None]:
    """Call `hear` with each IP packet that passes a namespace's devices, until the end."""

    def tap() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, _ANY_PROTOCOL)

    stop, stopped = socket.socketpair()

    def work(sock: socket.socket) -> None:
        while True:
            ready = select.select([sock, stopped], [], [])[0]
            if sock in ready:
                data, address = sock.recvfrom(1 << 16)
                if data[:1] and data[0] >> 4 in (4, 6):
                    hear(data, address[2])
            elif stopped in ready:
                return  # and nothing is left to hear

    with stop, stopped, lab.call(where, tap) as sock:
        thread = threading.Thread(target=work, args=(sock,))
        thread.start()
        try:
            yield
        finally:
            stop.send(b"x")
            thread.join()


@contextmanager
def witness(lab: Lab, where: str) -> Iterator[list[Packet]]:
    """All IP packets that pass a namespace's devices; complete once the block has ended."""
    seen: list[Packet] = []
    with _tapping(lab, where, lambda data, kind: seen.append((data, kind))):
        yield seen


def udp_payloads(packets: list[Packet], port: int, kind: int = socket.PACKET_HOST) -> list[bytes]:
    """What came in (or as `kind` says) in UDP datagrams to `port`."""
    out = []
    for data, direction in packets:
        header, protocol = _network(data)
        body = data[header:]
        if (direction, protocol) != (kind, socket.IPPROTO_UDP):
            continue
        if struct.unpack_from("!H", body, 2)[0] == port:
            out.append(body[8:])
    return out


@contextmanager
def answering_syns(lab: Lab, where: str, lies: dict[tuple[str, str], int]) -> Iterator[None]:
    """A middlebox at `where` that lets SYNs pass and answers them itself, in the target's name.

    `lies` gives for a (source, destination) address the flags of the answer.
    """

    def speak() -> tuple[socket.socket, socket.socket]:
        kind, protocol = socket.SOCK_RAW, socket.IPPROTO_RAW
        four = socket.socket(socket.AF_INET, kind, protocol)
        return four, socket.socket(socket.AF_INET6, kind, protocol)

    def hear(data: bytes, kind: int) -> None:
        header, protocol = _network(data)
        if protocol != _TCP or kind != socket.PACKET_HOST or data[header + 13] & 0x17 != _SYN:
            return
        v6 = header == 40
        domain = socket.AF_INET6 if v6 else socket.AF_INET
        source, destination = (data[8:24], data[24:40]) if v6 else (data[12:16], data[16:20])
        client = socket.inet_ntop(domain, source)
        flags = lies.get((client, socket.inet_ntop(domain, destination)))
        if flags is not None:
            answer = _answer(data[header:], destination, source, flags)
            (six if v6 else four).sendto(answer, (client, 0))

    four, six = lab.call(where, speak)
    with four, six, _tapping(lab, where, hear):
        yield


def _network(data: bytes) -> tuple[int, int]:
    """The length of a packet's network header, and the protocol above it."""
    return (40, data[6]) if data[0] >> 4 == 6 else ((data[0] & 15) * 4, data[9])


def _answer(syn: bytes, source: bytes, destination: bytes, flags: int) -> bytes:
    """The whole packet that answers a SYN as a stack at `source` would."""
    client_port, port, sequence = struct.unpack_from("!HHI", syn)
    own = 0x1EADBEEF if flags & _SYN else 0
    numbers = own, (sequence + 1) & 0xFFFFFFFF
    tcp = bytearray(struct.pack("!HHIIBBHHH", port, client_port, *numbers, 0x50, flags, 0, 0, 0))
    ends = source + destination
    if len(source) == 16:
        pseudo = ends + struct.pack("!II", len(tcp), _TCP)
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), _TCP, 64) + ends
    else:
        pseudo = ends + struct.pack("!HH", _TCP, len(tcp))
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, _TCP, 0) + ends
    struct.pack_into("!H", tcp, 16, checksum(pseudo + bytes(tcp)))
    return ip + bytes(tcp)


# --- XDP ---------------------------------------------------------------------------------------

_SYS_BPF = {"x86_64": 321, "aarch64": 280}  # asm/unistd.h
_BPF_PROG_LOAD, _BPF_LINK_CREATE = 5, 28  # linux/bpf.h, as all below
_PROG_TYPE_XDP, _ATTACH_XDP = 6, 37
_XDP_DROP, _XDP_PASS = 1, 2


@contextmanager
def xdp_drop(lab: Lab, where: str, ethertype: int) -> Iterator[None]:
    """An XDP program on a node's eth0 that drops what comes in of one EtherType."""

    def attach() -> int:
        program = _load_xdp(_dropping(ethertype))
        try:
            device = socket.if_nametoindex("eth0")
            return _bpf(_BPF_LINK_CREATE, struct.pack("=IIII", program, device, _ATTACH_XDP, 0))
        finally:
            os.close(program)

    link = lab.call(where, attach)
    try:
        yield
    finally:
        os.close(link)


def _dropping(ethertype: int) -> bytes:
    def instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, k: int = 0) -> bytes:
        return struct.pack("=BBhi", code, source << 4 | to, offset, k)

    return b"".join(
        (
            instruction(0x61, 2, 1),  # r2 = the frame's begin
            instruction(0x61, 3, 1, 4),  # r3 = its end
            instruction(0xBF, 4, 2),
            instruction(0x07, 4, k=14),  # r4 = r2 + an Ethernet header
            instruction(0xB7, 0, k=_XDP_PASS),
            instruction(0x2D, 4, 3, 3),  # too short: return r0
            instruction(0x69, 5, 2, 12),  # r5 = EtherType
            instruction(0x55, 5, offset=1, k=socket.htons(ethertype)),  # another: return r0
            instruction(0xB7, 0, k=_XDP_DROP),
            instruction(0x95),
        )
    )


def _load_xdp(code: bytes) -> int:
    program = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    pointers = ctypes.addressof(program), ctypes.addressof(licence)
    return _bpf(_BPF_PROG_LOAD, struct.pack("=IIQQ", _PROG_TYPE_XDP, len(code) // 8, *pointers))


def _bpf(command: int, attributes: bytes) -> int:
    """bpf(2): a file descriptor. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    padded = ctypes.create_string_buffer(attributes, 128)
    fd = int(libc.syscall(_SYS_BPF[platform.machine()], command, padded, 128))
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}")
    return fd
