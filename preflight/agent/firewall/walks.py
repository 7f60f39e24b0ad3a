"""nf_tables' trace messages put together: where packets of ours went, what they became on the way,
and where they ended.
"""

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
_BYPASS, _QUEUE_SHIFT = 0x8000, 16  # of a queue's verdict: goes on where nobody reads it
_NEGATIVE = 1 << 31
_GOTO, _RETURN = (1 << 32) - 4, (1 << 32) - 5  # of enum nft_verdicts
_WITH_PORTS = (6, 17)
_MOST_PACKETS, _MOST_HITS, _LONGEST = 4096, 4096, 256


class _Packet:
    """One packet of ours on its way through the chains."""

    __slots__ = (
        "base", "device", "ends", "identity", "matched", "network", "path", "queued", "seen",
        "transport", "turn",
    )  # fmt: skip

    def __init__(self, network: bytes, transport: bytes) -> None:
        self.network = network
        self.transport = transport
        self.identity = _identity(network)
        self.seen: set[tuple[str, str]] = set()  # chains of ours that it met
        self.path: list[list[str]] = []
        self.base = ""  # the chain at the hook where it is now
        self.turn = 0  # the rule there by which it left for good, past what comes after
        self.device = 0
        self.ends = _ends(network, transport)  # as last shown
        self.queued: dict[str, Any] | None = None  # its end, unless it comes back
        self.matched: list[list[Any]] = []  # family, table, chain, handle, base: rules since then

    def came_back(self) -> None:
        """It was seen behind the queue: that was not its end."""
        if self.queued is not None:
            self.queued["verdict"] = ""
            self.queued = None


def _identity(network: bytes) -> bytes:
    """What stays the same of a packet when its addresses are rewritten."""
    if len(network) >= 20 and network[0] >> 4 == 4:
        return b"4" + network[4:6] + network[9:10]
    if len(network) >= 40 and network[0] >> 4 == 6:
        return b"6" + network[4:7]
    return b""


class Walks:
    """`take` every message."""

    def __init__(self, table: str) -> None:
        self._own = table
        # The kernel tells packets apart by a hash of where they lie in memory and of their flow,
        # so a later packet may well have the number of an earlier one.
        self._packets: dict[bytes, _Packet] = {}
        self._hits: list[dict[str, Any]] = []
        self._rewrites: list[dict[str, Any]] = []

    @property
    def hits(self) -> "list[dict[str, Any]]":
        """The ends of our packets, in the order in which they were told."""
        return [hit for hit in self._hits if hit["verdict"]]

    @property
    def rewrites(self) -> "list[dict[str, Any]]":
        """Packets of ours that became something else, or that were not seen again."""
        vanished = [
            one
            for packet in self._packets.values()
            for one in (rewriting(packet, None) if packet.matched else ())
        ]
        return [*self._rewrites, *vanished]

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
            if network:
                self._in_ours(number, (family_name, chain), found)
            return
        packet = self._packets.get(number)
        if packet is None:
            return  # a stranger's
        handle = int_of(found.get(_HANDLE, b""))
        if network:  # told once for each base chain: one begins
            if _identity(network) != packet.identity:
                del self._packets[number]
                return
            packet.base, packet.turn = chain, 0
            if kind == _BY_RULE:  # it is told of once it has done what it does
                packet.matched.append([family_name, table, chain, handle, chain])
            self._shown(packet, network, found.get(_TRANSPORT, b""))
            packet.device = int_of(found.get(_IIF, b"")) or int_of(found.get(_OIF, b""))
        step = [family_name, table, chain]
        if packet.path[-1:] != [step] and len(packet.path) < _LONGEST:
            packet.path.append(step)
        if chain == packet.base and kind == _BY_RULE and _code(found) in (_GOTO, _RETURN):
            packet.turn = handle
        if kind == _BY_RULE and len(packet.matched) < _LONGEST:
            packet.matched.append([*step, handle, packet.base])
        verdict = _verdict(kind, found)
        if verdict:
            code = _code(found) if verdict == "queue" else 0
            self._end(packet, step, 0 if kind == _BY_POLICY else handle, verdict, code)
            if verdict != "queue":  # else it may come back
                del self._packets[number]

    def _in_ours(self, number: bytes, chain: "tuple[str, str]", found: "dict[int, bytes]") -> None:
        """A rule of ours that matched, and so accepted: the kernel's own word that all of a mark's
        tests held. The end of our chain is told as well, of packets others trace, too.
        """
        network, transport = found[_NETWORK], found.get(_TRANSPORT, b"")
        if int_of(found.get(_TYPE, b"")) == _BY_RULE and _code(found) == ACCEPT:
            self._ours(number, chain, network, transport)
        elif number in self._packets:
            self._shown(self._packets[number], network, transport)

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
        else:
            packet.came_back()
        packet.seen.add(chain)

    def _shown(self, packet: _Packet, network: bytes, transport: bytes) -> None:
        """Its headers once more: what has changed, the rules since then have changed."""
        ends = _ends(network, transport)
        if _identity(network) != packet.identity:
            return
        packet.came_back()
        if ends != packet.ends and packet.matched and len(self._rewrites) < _MOST_HITS:
            self._rewrites += rewriting(packet, ends)
        packet.ends, packet.matched = ends, []

    def _end(
        self, packet: _Packet, step: "list[str]", handle: int, verdict: str, code: int
    ) -> None:
        if len(self._hits) >= _MOST_HITS:
            return
        source, destination = addresses(packet.network)
        v4 = packet.network[0] >> 4 == 4
        self._hits.append(
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
        if verdict == "queue":
            packet.queued = self._hits[-1]
            packet.queued["queue"] = code >> _QUEUE_SHIFT
            packet.queued["bypass"] = bool(code & _BYPASS)


def rewriting(packet: _Packet, ends: "tuple[str, str, int, int] | None") -> "list[dict[str, Any]]":
    """What is known of a packet whose addresses or ports are others now; `ends` None: it was not
    seen again.

    rules: [family, table, chain, handle, base] of those that may have done it, the last first;
    side: source or destination, "" where not known; becomes: address and port, where they are new.
    """
    source, destination = addresses(packet.network)
    v4 = packet.network[0] >> 4 == 4
    common = {
        "ident": int_of(packet.network[4:6]) if v4 else 0,
        "protocol": int_of(packet.network[9:10] if v4 else packet.network[6:7]),
        "transport": packet.transport.hex(),
        "source": source,
        "destination": destination,
        "rules": packet.matched[::-1],
        "path": list(packet.path),
    }
    if ends is None:
        return [{**common, "side": "", "becomes": ["", 0]}]
    out = []
    for side, at in (("source", 0), ("destination", 1)):
        old, new = ((one[at], one[at + 2]) for one in (packet.ends, ends))
        if old != new:
            becomes = [new[0] if new[0] != old[0] else "", new[1] if new[1] != old[1] else 0]
            out.append({**common, "side": side, "becomes": becomes})
    return out


def _ends(network: bytes, transport: bytes) -> "tuple[str, str, int, int]":
    """Source and destination address, and their ports where the protocol has some."""
    protocol = network[9:10] if network[0] >> 4 == 4 else network[6:7]
    ports = (0, 0)
    if int_of(protocol) in _WITH_PORTS and len(transport) >= 4:
        ports = (int_of(transport[:2]), int_of(transport[2:4]))
    return (*addresses(network), *ports)


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
