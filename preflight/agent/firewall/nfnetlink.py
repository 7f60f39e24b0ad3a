"""The little of nf_tables' netlink that we need (linux/netfilter/nf_tables.h), with no nft.

Unlike rtnetlink's, numbers in attributes are in network byte order, and what changes the rules goes
in batches: all of one or nothing.
"""

import _socket as socket
import struct

from preflight.agent.netlink import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NETLINK_NETFILTER, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 12, 270, 1
GROUP_TRACE = 9
FAMILIES = {"inet": 1, "ip": 2, "netdev": 5, "bridge": 7, "ip6": 10}
FAMILY_NAMES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN = range(5)
NEWRULE, GETRULE, GETGEN, TRACE = 6, 7, 16, 17
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x4, 0x300, 0x10
CREATE, EXCLUSIVE, APPEND = 0x400, 0x200, 0x800
_NESTED, _ID = 0x8000, 0x3FFF

TABLE_OWNED = 2  # a flag, Linux 5.12: the table ends with the socket that made it
EXPRESSION_NAME, EXPRESSION_DATA, LIST_ELEMENT = 1, 2, 1
DATA_VALUE, DATA_VERDICT, VERDICT_CODE = 1, 2, 1
PAYLOAD_BASES = {"network": 1, "transport": 2}
META_PROTOCOL, META_NFTRACE, META_NFPROTO, META_L4PROTO = 1, 12, 15, 16
DROP, ACCEPT, STOLEN, QUEUE = range(4)  # verdicts of linux/netfilter.h; those of nf_tables are < 0
_REGISTER_1 = 1

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT_S = 2
_DUMP_TRIES = 3


# --- attributes ----------------------------------------------------------------------------------


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A string; what was read as one with `name_of` is written back as it was."""
    return attribute(kind, value.encode("utf-8", "surrogateescape") + b"\0")


def number(kind: int, value: int) -> bytes:
    """A number of 32 bits; a negative one as its two's complement."""
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def int_of(value: bytes) -> int:
    """A number of any width."""
    return int.from_bytes(value, "big")


def name_of(value: bytes) -> str:
    """A string of the kernel's."""
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")


def listed(data: bytes) -> "Iterator[tuple[int, bytes]]":
    """(kind, value) of each attribute, also of those that come more than once."""
    at = 0
    while at + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < 4 or at + size > len(data):
            return
        yield kind & _ID, data[at + 4 : at + size]
        at += (size + 3) & ~3


# --- what a rule is made of ----------------------------------------------------------------------


def expression(name: str, *parts: bytes) -> bytes:
    """One expression of a rule."""
    data = nested(EXPRESSION_DATA, *parts)
    return nested(LIST_ELEMENT, text(EXPRESSION_NAME, name), data)


def payload(base: str, offset: int, size: int) -> bytes:
    """Load bytes of the packet; `base` is "network" or "transport", the header they count from."""
    where = (number(2, PAYLOAD_BASES[base]), number(3, offset), number(4, size))
    return expression("payload", number(1, _REGISTER_1), *where)


def meta(key: int) -> bytes:
    """Load something that the kernel knows of the packet."""
    return expression("meta", number(2, key), number(1, _REGISTER_1))


def equals(value: bytes) -> bytes:
    """Go on only where what was loaded is `value`."""
    data = nested(3, attribute(DATA_VALUE, value))
    return expression("cmp", number(1, _REGISTER_1), number(2, 0), data)


def set_trace() -> bytes:
    """From here on the kernel tells what happens to the packet."""
    one = expression("immediate", number(1, _REGISTER_1), nested(2, attribute(DATA_VALUE, b"\x01")))
    return one + expression("meta", number(2, META_NFTRACE), number(3, _REGISTER_1))


def accept() -> bytes:
    """Enough of this base chain; those of others are asked as well."""
    verdict = nested(DATA_VERDICT, number(VERDICT_CODE, ACCEPT))
    return expression("immediate", number(1, 0), nested(2, verdict))


class Change:
    """One message of a batch."""

    __slots__ = ("family", "flags", "kind", "parts")

    def __init__(self, kind: int, flags: int, family: str, *parts: bytes) -> None:
        self.kind = kind
        self.flags = flags
        self.family = FAMILIES[family]
        self.parts = parts


def new_table(family: str, table: str, flags: int) -> Change:
    """A table that must not exist yet."""
    return Change(NEWTABLE, CREATE | EXCLUSIVE, family, text(1, table), number(2, flags))


def delete_table(family: str, table: str) -> Change:
    """A table with all that is in it."""
    return Change(DELTABLE, 0, family, text(1, table))


def new_chain(
    family: str, table: str, chain: str, hook: int, priority: int, device: str = ""
) -> Change:
    """A base chain of type filter that accepts what it does not decide."""
    where = [number(1, hook), number(2, priority)]
    if device:
        where.append(text(3, device))
    parts = (nested(4, *where), number(5, ACCEPT), text(7, "filter"))
    return Change(NEWCHAIN, CREATE | EXCLUSIVE, family, text(1, table), text(3, chain), *parts)


def new_rule(family: str, table: str, chain: str, *expressions: bytes) -> Change:
    """A rule at the end of a chain."""
    parts = (text(1, table), text(2, chain), nested(4, *expressions))
    return Change(NEWRULE, CREATE | APPEND, family, *parts)


# --- messages ------------------------------------------------------------------------------------


def _message(kind: int, flags: int, sequence: int, family: int, data: bytes) -> bytes:
    size = _HEADER.size + 4 + len(data)
    return _HEADER.pack(size, kind, flags, sequence, 0) + struct.pack("BBH", family, 0, 0) + data


def batch(changes: "Iterable[Change]", first: int) -> bytes:
    """One transaction. `first` is its begin's sequence number, the changes have those after it."""
    resource = struct.pack("!BBH", 0, 0, _SUBSYSTEM >> 8)
    out = [_HEADER.pack(20, _BATCH_BEGIN, _REQUEST, first, 0) + resource]
    for change in changes:
        flags = _REQUEST | _ACK | change.flags
        sequence = first + len(out)
        data = b"".join(change.parts)
        out.append(_message(_SUBSYSTEM | change.kind, flags, sequence, change.family, data))
    out.append(_HEADER.pack(20, _BATCH_END, _REQUEST, first + len(out), 0) + resource)
    return b"".join(out)


def _parsed(data: bytes) -> "Iterator[tuple[int, int, bytes]]":
    """(type, flags, payload) of each message in a datagram."""
    at = 0
    while at + 16 <= len(data):
        size, kind, flags = _HEADER.unpack_from(data, at)[:3]
        if size < 16 or at + size > len(data):
            return
        yield kind, flags, data[at + 16 : at + size]
        at += (size + 3) & ~3


def traces(data: bytes) -> "Iterator[tuple[int, bytes]]":
    """(family, attributes) of each trace message in a datagram."""
    for kind, _, body in _parsed(data):
        if kind == _SUBSYSTEM | TRACE and len(body) >= 4:
            yield body[0], body[4:]


class Nfnetlink:
    """One socket to nf_tables. Raises OSError where the kernel says no."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back, and with it the tables that it owns."""
        self._socket.close()

    def commit(self, *changes: Change) -> None:
        """Make all of these changes or none. Raises OSError with the first reason against it."""
        first = self._sequence + 1
        last = first + len(changes)
        self._sequence = last + 1
        self._socket.send(batch(changes, first))
        answers: dict[int, int] = {}
        while len(answers) < len(changes) and first not in answers:
            for kind, _, body in _parsed(self._socket.recv(1 << 18)):
                if kind == _ERROR and len(body) >= 20:
                    code, _, _, _, sequence = struct.unpack_from("=iIHHI", body)
                    if first <= sequence <= last:
                        answers.setdefault(sequence, -code)
        for _, code in sorted(answers.items()):
            if code:
                raise OSError(code, "nf_tables")

    def ask(self, kind: int, family: str, *parts: bytes) -> "list[tuple[int, dict[int, bytes]]]":
        """The (family, attributes) that one request is answered with."""
        return self._request(kind, _ACK, family, parts)

    def dump(self, kind: int, family: str, *parts: bytes) -> "list[tuple[int, dict[int, bytes]]]":
        """As `ask`, for a list; whole even where the rules change meanwhile, else OSError."""
        for _ in range(_DUMP_TRIES):
            try:
                return self._request(kind, _DUMP, family, parts)
            except InterruptedError:
                continue
        raise OSError(4, "the rules change all the time")

    def _request(
        self, kind: int, flags: int, family: str, parts: "tuple[bytes, ...]"
    ) -> "list[tuple[int, dict[int, bytes]]]":
        self._sequence += 1
        wanted = self._sequence
        data = b"".join(parts)
        self._socket.send(
            _message(_SUBSYSTEM | kind, _REQUEST | flags, wanted, FAMILIES.get(family, 0), data)
        )
        out: list[tuple[int, dict[int, bytes]]] = []
        torn = False
        while True:
            data = self._socket.recv(1 << 18)
            if _HEADER.unpack_from(data)[3] != wanted:  # what an earlier request left behind
                continue
            for got, got_flags, body in _parsed(data):
                torn = torn or bool(got_flags & _DUMP_INTERRUPTED)
                if got in (_ERROR, _DONE):
                    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
                    if code:
                        raise OSError(code, "nf_tables")
                    if torn:
                        raise InterruptedError
                    return out
                out.append((body[0], attributes(body[4:])))
