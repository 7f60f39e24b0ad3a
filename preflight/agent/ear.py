"""What the node's devices see of connections to some TCP ports: how far a request and its answer
came. Opened only where one of them was not answered as it should be.
"""

import _socket as socket

from preflight.agent.bpf import LD_H_IND, RET, Filters
from preflight.agent.packets import TCP
from preflight.agent.taps import Devices, PacketSocket
from preflight.agent.watch import MAX_READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from preflight.agent.bpf import Program

    Flow = tuple[str, int, int]  # the other end's address, the client's port, the server's

_BUFFER = 4 << 20
_SNAP = 128
_MOST_FLOWS = 4096
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_LISTEN = "0A"  # in /proc/net/tcp
SYN, DATA, SYN_ACK, ACKED, ANSWER, END = 1, 2, 4, 8, 16, 32  # as in `core.hello.Passed`


class _Connections(Filters):
    """Everything to and from some TCP ports."""

    def __init__(self, ports: "list[int]") -> None:
        super().__init__({}, ports, False, b"", 0)
        self._ports = ports

    def _tcp_body(self, p: "Program") -> None:
        for at in (2, 0):
            p.add(LD_H_IND, at)
            for port in sorted(self._ports):
                p.jump(0x15, port, "pass")  # JEQ
        p.add(RET, 0)
        p.ends()


class Ear(PacketSocket):
    """Listens from its making on; what was heard is read at the end."""

    def __init__(self, ports: "list[int]") -> None:
        super().__init__(_Connections(ports).tap(), _BUFFER)
        self._ports = set(ports)
        self._devices = Devices.here()
        self._flows: dict[Flow, int] = {}
        self._first: dict[Flow, int] = {}  # the sequence number after the SYN's
        self._overflows = _overflows()

    def heard(self) -> "list[list[object]]":
        """[other end, the client's port, the server's, what passed] of every connection."""
        for _ in range(MAX_READ):
            try:
                data, address = self._socket.recvfrom(_SNAP)
            except BlockingIOError:
                break
            if self._devices.counts(address[0], address[2]):
                self._match(data, address[2] == socket.PACKET_OUTGOING)
        return [[*flow, passed] for flow, passed in self._flows.items()]

    def full(self) -> "list[int]":
        """The ports at which connections wait to be taken, where there was no room for more."""
        waiting = _waiting() if _overflows() > self._overflows else set()
        return sorted(waiting & self._ports)

    def _match(self, data: bytes, outgoing: bool) -> None:
        if len(data) < 40:
            return
        v6 = data[0] >> 4 == 6
        header = 40 if v6 else (data[0] & 15) * 4
        total = 40 + (data[4] << 8 | data[5]) if v6 else data[2] << 8 | data[3]
        body = data[header:]
        if (data[6] if v6 else data[9]) != TCP or len(body) < 20:
            return
        ends = (data[8:24], data[24:40]) if v6 else (data[12:16], data[16:20])
        far = socket.inet_ntop(socket.AF_INET6 if v6 else socket.AF_INET, ends[outgoing])
        source, target = body[0] << 8 | body[1], body[2] << 8 | body[3]
        length = total - header - (body[12] >> 4) * 4
        if target in self._ports:
            self._request((far, source, target), body, length)
        elif source in self._ports:
            self._answer((far, target, source), body, length)

    def _request(self, flow: "Flow", body: bytes, length: int) -> None:
        if body[13] & _SYN:
            self._first[flow] = int.from_bytes(body[4:8], "big") + 1
            self._saw(flow, SYN)
        if length > 0:
            self._saw(flow, DATA)

    def _answer(self, flow: "Flow", body: bytes, length: int) -> None:
        flags = body[13]
        if flags & (_RST | _FIN):
            self._saw(flow, END)
        if flags & _SYN and flags & _ACK:
            self._saw(flow, SYN_ACK)
        elif flags & _ACK and not flags & _RST and flow in self._first:
            ahead = int.from_bytes(body[8:12], "big") - self._first[flow] & 0xFFFFFFFF
            if 0 < ahead < 1 << 31:
                self._saw(flow, ACKED)
        if length > 0 and not flags & _RST:
            self._saw(flow, ANSWER)

    def _saw(self, flow: "Flow", what: int) -> None:
        if flow in self._flows or len(self._flows) < _MOST_FLOWS:
            self._flows[flow] = self._flows.get(flow, 0) | what


def _overflows() -> int:
    """How many connections this node has turned away because a program's queue was full."""
    try:
        with open("/proc/net/netstat", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("TcpExt:")]
        return int(dict(zip(*lines))["ListenOverflows"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _waiting() -> "set[int]":
    """The TCP ports that are listened on and whose queue is not empty."""
    ports = set()
    for name in ("tcp", "tcp6"):
        try:
            with open("/proc/net/" + name, encoding="ascii") as file:
                for line in file:
                    words = line.split()
                    if words[3] == _LISTEN and int(words[4].split(":")[1], 16):
                        ports.add(int(words[1].rsplit(":", 1)[1], 16))
        except OSError:
            continue
    return ports
