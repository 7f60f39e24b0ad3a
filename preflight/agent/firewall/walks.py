"""nf_tables' trace messages put together: where packets of ours went, and where they ended."""

import _socket as socket

from preflight.agent.firewall.nfnetlink import (
    ACCEPT,
    DROP,
    FAMILY_NAMES,
    QUEUE,
    STOLEN,
    VERDICT_CODE,
    int_of,
    name_of,
)
from preflight.agent.netlink import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# enum nft_trace_attributes
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = 1, 2, 3, 4, 5, 6
_NETWORK, _TRANSPORT, _IIF, _OIF, _POLICY = 8, 9, 10, 12, 16
_BY_POLICY, _BY_RULE = 1, 3  # enum nft_trace_types; 2 is the return from a chain
_ENDS = {DROP: "drop", STOLEN: "stolen", QUEUE: "queue"}
_VERDICT_BITS = 0xFF  # above them an errno, or the number of a queue
_NEGATIVE = 1 << 31
_GOTO, _RETURN = (1 << 32) - 4, (1 << 32) - 5  # of enum nft_verdicts
_MOST_PACKETS, _MOST_HITS, _LONGEST = 4096, 4096, 256


class _Packet:
    """One packet of ours on its way through the chains."""

    __slots__ = ("base", "device", "identity", "network", "path", "seen", "transport", "turn")

    def __init__(self, network: bytes, transport: bytes) -> None:
        self.network = network
        self.transport = transport
        self.identity = _identity(network)
        self.seen: set[tuple[str, str]] = set()  # chains of ours that it met
        self.path: list[list[str]] = []
        self.base = ""  # the chain at the hook where it is now
        self.turn = 0  # the rule there by which it left for good, past what comes after
        self.device = 0


def _identity(network: bytes) -> bytes:
    """What stays the same of a packet when its addresses are rewritten."""
    if len(network) >= 20 and network[0] >> 4 == 4:
        return b"4" + network[4:6] + network[9:10]
    if len(network) >= 40 and network[0] >> 4 == 6:
        return b"6" + network[4:7]
    return b""


class Walks:
    """`take` every message; `hits` are what became of our packets."""

    def __init__(self, table: str) -> None:
        self._own = table
        # The kernel tells packets apart by a hash of where they lie in memory and of their flow,
        # so a later packet may well have the number of an earlier one.
        self._packets: dict[bytes, _Packet] = {}
        self.hits: list[dict[str, Any]] = []

    def take(self, family: int, message: bytes) -> None:
        """One trace message: its family's number and its attributes."""
        found = attributes(message)
        number = found.get(_ID, b"")
        table = name_of(found.get(_TABLE, b""))
        chain = name_of(found.get(_CHAIN, b""))
        kind = int_of(found.get(_TYPE, b""))
        family_name = FAMILY_NAMES.get(family, str(family))
        network = found.get(_NETWORK, b"")
        if table == self._own:
            # A rule of ours that matched, and so accepted: the kernel's own word that all of a
            # mark's tests held. The end of our chain is told as well, of packets others trace.
            if kind == _BY_RULE and network and _code(found) == ACCEPT:
                self._ours(number, (family_name, chain), network, found.get(_TRANSPORT, b""))
            return
        packet = self._packets.get(number)
        if packet is None:
            return  # a stranger's
        if network:  # told once for each base chain: one begins
            if _identity(network) != packet.identity:
                del self._packets[number]
                return
            packet.base, packet.turn = chain, 0
            packet.device = int_of(found.get(_IIF, b"")) or int_of(found.get(_OIF, b""))
        step = [family_name, table, chain]
        if packet.path[-1:] != [step] and len(packet.path) < _LONGEST:
            packet.path.append(step)
        handle = int_of(found.get(_HANDLE, b""))
        if chain == packet.base and kind == _BY_RULE and _code(found) in (_GOTO, _RETURN):
            packet.turn = handle
        verdict = _verdict(kind, found)
        if verdict:
            self._end(packet, step, 0 if kind == _BY_POLICY else handle, verdict)
            if verdict != "queue":  # else it may come back
                del self._packets[number]

    def _ours(
        self, number: bytes, chain: "tuple[str, str]", network: bytes, transport: bytes
    ) -> None:
        packet = self._packets.get(number)
        known = packet is not None and packet.identity == _identity(network)
        if packet is None or not known or chain in packet.seen:
            while len(self._packets) >= _MOST_PACKETS:
                del self._packets[next(iter(self._packets))]
            self._packets.pop(number, None)  # so that the new one is the youngest
            packet = self._packets[number] = _Packet(network, transport)
        packet.seen.add(chain)

    def _end(self, packet: _Packet, step: "list[str]", handle: int, verdict: str) -> None:
        if len(self.hits) >= _MOST_HITS:
            return
        source, destination = addresses(packet.network)
        v4 = packet.network[0] >> 4 == 4
        self.hits.append(
            {
                "ident": int_of(packet.network[4:6]) if v4 else 0,
                "protocol": int_of(packet.network[9:10] if v4 else packet.network[6:7]),
                "transport": packet.transport.hex(),
                "source": source,
                "destination": destination,
                "family": step[0],
                "table": step[1],
                "chain": step[2],
                "base": packet.base,
                "handle": handle,
                "policy": not handle,
                "turn": 0 if handle else packet.turn,
                "verdict": verdict,
                "path": list(packet.path),
                "device": _device(packet.device),
            }
        )


def _verdict(kind: int, found: "dict[int, bytes]") -> str:
    """How the packet ended with this message, "" where it goes on."""
    if kind == _BY_POLICY:
        return "drop" if int_of(found.get(_POLICY, b"\x01")) == DROP else ""
    code = _code(found)
    if kind != _BY_RULE or code & _NEGATIVE:
        return ""
    return _ENDS.get(code & _VERDICT_BITS, "")


def _code(found: "dict[int, bytes]") -> int:
    return int_of(attributes(found.get(_VERDICT, b"")).get(VERDICT_CODE, b"\xff\xff\xff\xff"))


def addresses(network: bytes) -> "tuple[str, str]":
    """Source and destination of a packet, from its IP header."""
    v4 = network[0] >> 4 == 4
    domain, start, size = (socket.AF_INET, 12, 4) if v4 else (socket.AF_INET6, 8, 16)
    middle = start + size
    if len(network) < middle + size:
        return "", ""
    return (
        socket.inet_ntop(domain, network[start:middle]),
        socket.inet_ntop(domain, network[middle : middle + size]),
    )


def _device(index: int) -> str:
    if not index:
        return ""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
