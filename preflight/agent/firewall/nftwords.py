"""A rule's expressions in nft's words, as far as they are known here; for nodes without nft.

What is not known stands in brackets by its kernel name, so that nobody takes the rest for all.
"""

import _socket as socket
import struct

from preflight.agent.firewall.nfnetlink import DATA_VALUE, DATA_VERDICT, int_of, name_of
from preflight.agent.firewall.nftrules import xt_name
from preflight.agent.netlink import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DREG, _VERDICT_REGISTER = 1, 0
_OPERATORS = ("", "!= ", "< ", "<= ", "> ", ">= ")  # enum nft_cmp_ops
_VERDICTS = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue",
    0xFFFFFFFF: "continue", 0xFFFFFFFD: "jump", 0xFFFFFFFC: "goto", 0xFFFFFFFB: "return",
}  # fmt: skip
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp", 51: "ah", 58: "ipv6-icmp", 132: "sctp"}
_WITH_PORTS = ("tcp", "udp", "sctp")
_STATES = ((1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked"))
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
_UNNAMED = ("__set", "__map")


def _decimal(value: bytes) -> str:
    return str(int_of(value))


def _native(value: bytes) -> str:
    return str(struct.unpack("=I", value)[0]) if len(value) == 4 else _hex(value)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _protocol(value: bytes) -> str:
    return _PROTOCOLS.get(int_of(value), _decimal(value))


def _version(value: bytes) -> str:
    return {2: "ipv4", 10: "ipv6"}.get(int_of(value), _decimal(value))


def _ethertype(value: bytes) -> str:
    return {0x0800: "ip", 0x86DD: "ip6", 0x0806: "arp"}.get(int_of(value), _hex(value))


def _device_name(value: bytes) -> str:
    # Without the end of the string it is the beginning of a name.
    return '"%s%s"' % (name_of(value), "" if value.endswith(b"\0") else "*")


def _device_index(value: bytes) -> str:
    try:
        return '"%s"' % socket.if_indextoname(struct.unpack("=I", value)[0])
    except (OSError, struct.error):
        return _native(value)


def _state(value: bytes) -> str:
    if len(value) != 4:
        return _hex(value)
    bits = struct.unpack("=I", value)[0]
    return ",".join(name for bit, name in _STATES if bits & bit) or _hex(value)


def _address(value: bytes) -> str:
    """An address, or the first bytes of one as a prefix."""
    whole = 4 if len(value) <= 4 else 16
    padded = value + bytes(whole - len(value))
    shown = socket.inet_ntop(socket.AF_INET if whole == 4 else socket.AF_INET6, padded)
    return shown if len(value) == whole else "%s/%d" % (shown, 8 * len(value))


_META: "dict[int, tuple[str, Callable[[bytes], str]]]" = {
    1: ("meta protocol", _ethertype), 3: ("meta mark", _native), 4: ("iif", _device_index),
    5: ("oif", _device_index), 6: ("iifname", _device_name), 7: ("oifname", _device_name),
    10: ("meta skuid", _native), 11: ("meta skgid", _native),
    15: ("meta nfproto", _version), 16: ("meta l4proto", _protocol),
}  # fmt: skip
_NETWORK: "dict[str, tuple[tuple[int, int, str, Callable[[bytes], str]], ...]]" = {
    "ip": ((12, 4, "ip saddr", _address), (16, 4, "ip daddr", _address),
           (9, 1, "ip protocol", _protocol), (8, 1, "ip ttl", _decimal)),
    "ip6": ((8, 16, "ip6 saddr", _address), (24, 16, "ip6 daddr", _address),
            (6, 1, "ip6 nexthdr", _protocol), (7, 1, "ip6 hoplimit", _decimal)),
}  # fmt: skip


class _Words:
    """The registers of one rule, and what has been said so far."""

    def __init__(self, family: str) -> None:
        self.out: list[str] = []
        self._loaded: dict[int, tuple[str, Callable[[bytes], str]]] = {}
        self._masks: dict[int, bytes] = {}
        self._version = family if family in _NETWORK else ""
        self._protocol = ""
        self._implied: dict[str, str] = {}  # what a later word says as well

    # --- what loads a register

    def meta(self, found: "dict[int, bytes]") -> None:
        key = int_of(found.get(2, b""))
        if _DREG in found:
            self._load(found, *_META.get(key, ("[meta %d]" % key, _hex)))
        else:
            self.out.append("[meta set]")

    def payload(self, found: "dict[int, bytes]") -> None:
        base, offset, size = (int_of(found.get(key, b"")) for key in (2, 3, 4))
        if _DREG not in found:
            self.out.append("[payload set]")
        elif base == 1:
            self._load(found, *self._network(offset, size))
        elif base == 2:
            self._load(found, *self._transport(offset, size))
        else:
            self._load(found, "@ll,%d,%d" % (8 * offset, 8 * size), _hex)

    def _network(self, offset: int, size: int) -> "tuple[str, Callable[[bytes], str]]":
        for start, width, label, words in _NETWORK.get(self._version, ()):
            if start == offset and (size == width or (size < width and words is _address)):
                self._implied.pop("meta nfproto", None)
                self._implied.pop("meta protocol", None)
                return label, words
        return "@nh,%d,%d" % (8 * offset, 8 * size), _hex

    def _transport(self, offset: int, size: int) -> "tuple[str, Callable[[bytes], str]]":
        if self._protocol in ("icmp", "ipv6-icmp") and size == 1 and offset < 2:
            self._implied.pop("meta l4proto", None)
            name = "icmp" if self._protocol == "icmp" else "icmpv6"
            return "%s %s" % (name, ("type", "code")[offset]), _decimal
        if size == 2 and offset in (0, 2):
            known = self._protocol in _WITH_PORTS
            if known:
                self._implied.pop("meta l4proto", None)
            name = self._protocol if known else "th"
            return "%s %s" % (name, "dport" if offset else "sport"), _decimal
        return "@th,%d,%d" % (8 * offset, 8 * size), _hex

    def ct(self, found: "dict[int, bytes]") -> None:
        key = int_of(found.get(2, b""))
        if _DREG in found:
            self._load(found, *(("ct state", _state) if key == 0 else ("[ct %d]" % key, _hex)))
        else:
            self.out.append("[ct set]")

    def bitwise(self, found: "dict[int, bytes]") -> None:
        mask = attributes(found.get(4, b"")).get(DATA_VALUE, b"")
        other = attributes(found.get(5, b"")).get(DATA_VALUE, b"")
        register = int_of(found.get(2, b""))
        label, words = self._loaded.get(int_of(found.get(1, b"")), ("[?]", _hex))
        if not mask or other.strip(b"\0"):
            label, words = "[bitwise] " + label, _hex
        self._loaded[register] = (label, words)
        self._masks[register] = mask

    def byteorder(self, found: "dict[int, bytes]") -> None:
        label, words = self._loaded.get(int_of(found.get(1, b"")), ("[?]", _hex))
        self._loaded[int_of(found.get(2, b""))] = (label, _decimal if words is _native else words)

    def other(self, name: str, found: "dict[int, bytes]") -> None:
        """An expression that is not known here, but may load a register."""
        self._flush()
        if name in _PLAIN:
            self.out.append(name)
        elif name in ("fib", "rt", "socket", "numgen", "hash", "exthdr", "osf", "xfrm", "tunnel"):
            self._load(found, "[%s]" % name, _hex)
        else:
            self.out.append("[%s]" % name)

    def _load(self, found: "dict[int, bytes]", label: str, words: "Callable[[bytes], str]") -> None:
        register = int_of(found.get(_DREG, b""))
        self._loaded[register] = (label, words)
        self._masks.pop(register, None)

    # --- what asks for its value

    def cmp(self, found: "dict[int, bytes]") -> None:
        register, operator = int_of(found.get(1, b"")), int_of(found.get(2, b""))
        value = attributes(found.get(3, b"")).get(DATA_VALUE, b"")
        label, words = self._loaded.get(register, ("[?]", _hex))
        mask = self._masks.get(register, b"")
        said = "%s %s" % (label, _compared(words, value, mask, operator))
        if operator == 0 and not mask and label in ("meta nfproto", "meta l4proto", "ip protocol"):
            self._imply(label, value, said)
        elif operator == 0 and label == "meta protocol" and words(value) in _NETWORK:
            self._version = words(value)
            self._implied[label] = said
        else:
            self._flush()
            low = "%s >= " % label
            if operator == 3 and not mask and self.out[-1:] and self.out[-1].startswith(low):
                said = "%s-%s" % (self.out.pop().replace(" >= ", " "), words(value))
            self.out.append(said)

    def _imply(self, label: str, value: bytes, said: str) -> None:
        if label == "meta nfproto":
            self._version = {"ipv4": "ip", "ipv6": "ip6"}.get(_version(value), "")
        else:
            self._protocol = _protocol(value)
            label = "meta l4proto"
        self._implied[label] = said

    def _flush(self) -> None:
        self.out += self._implied.values()
        self._implied.clear()

    def range(self, found: "dict[int, bytes]") -> None:
        label, words = self._loaded.get(int_of(found.get(1, b"")), ("[?]", _hex))
        low, high = (attributes(found.get(k, b"")).get(DATA_VALUE, b"") for k in (3, 4))
        sign = "!= " if int_of(found.get(2, b"")) else ""
        self._flush()
        self.out.append("%s %s%s-%s" % (label, sign, words(low), words(high)))

    def lookup(self, found: "dict[int, bytes]") -> None:
        label = self._loaded.get(int_of(found.get(2, b"")), ("[?]", _hex))[0]
        name = name_of(found.get(1, b""))
        shown = "{ ... }" if name.startswith(_UNNAMED) else "@" + name
        self._flush()
        if 3 in found and int_of(found[3]) == _VERDICT_REGISTER:
            self.out.append("%s vmap %s" % (label, shown))
        elif 3 in found:
            self._load({_DREG: found[3]}, "%s map %s" % (label, shown), _hex)
        else:
            sign = "!= " if int_of(found.get(5, b"")) else ""
            self.out.append("%s %s%s" % (label, sign, shown))

    # --- what does something

    def immediate(self, found: "dict[int, bytes]") -> None:
        data = attributes(found.get(2, b""))
        if DATA_VERDICT not in data:
            self._load(found, "[immediate]", _hex)
            return
        self._flush()
        verdict = attributes(data[DATA_VERDICT])
        code = int_of(verdict.get(1, b""))
        said = [_VERDICTS.get(code, "[verdict %d]" % code), name_of(verdict.get(2, b""))]
        self.out.append(" ".join(said).strip())

    def reject(self, found: "dict[int, bytes]") -> None:
        self._flush()
        self.out.append("reject with tcp reset" if int_of(found.get(1, b"")) == 1 else "reject")

    def limit(self, found: "dict[int, bytes]") -> None:
        unit = _UNITS.get(int_of(found.get(2, b"")), "[?]")
        over = "over " if int_of(found.get(5, b"")) & 1 else ""
        what = "%s%d%s" % (over, int_of(found.get(1, b"")), "" if not _bytes(found) else " bytes")
        self._flush()
        self.out.append("limit rate %s/%s" % (what, unit))

    def log(self, found: "dict[int, bytes]") -> None:
        self._flush()
        prefix = name_of(found.get(2, b""))
        self.out.append('log prefix "%s"' % prefix if prefix else "log")

    def match(self, found: "dict[int, bytes]") -> None:
        self._flush()
        self.out.append('xt match "%s"' % xt_name(found))

    def target(self, found: "dict[int, bytes]") -> None:
        self._flush()
        self.out.append('xt target "%s"' % xt_name(found))

    def end(self) -> str:
        """All of it."""
        self._flush()
        return " ".join(self.out)


def _bytes(found: "dict[int, bytes]") -> bool:
    return int_of(found.get(4, b"")) == 1


def _compared(words: "Callable[[bytes], str]", value: bytes, mask: bytes, operator: int) -> str:
    if words is _state and operator == 1 and mask and not value.strip(b"\0"):
        return words(mask)  # any bit of them
    sign = _OPERATORS[operator] if operator < len(_OPERATORS) else "[?] "
    if not mask:
        return sign + words(value)
    width, ones = 8 * len(mask), bin(int_of(mask)).count("1")
    if words is _address and int_of(mask) == (1 << width) - (1 << (width - ones)):
        return "%s%s/%d" % (sign, words(value), ones)
    return "& %s %s%s" % (_hex(mask), sign or "== ", words(value))


_KNOWN = (
    "bitwise", "byteorder", "cmp", "ct", "immediate", "limit", "log", "lookup", "match", "meta",
    "payload", "range", "reject", "target",
)  # fmt: skip
_PLAIN = ("counter", "queue", "masquerade", "notrack")  # said by their names


def words(family: str, expressions: "Iterable[tuple[str, dict[int, bytes]]]") -> str:
    """A rule of a table of `family`, "" where it has no expressions."""
    out = _Words(family)
    for name, found in expressions:
        if name in _KNOWN:
            getattr(out, name)(found)
        else:
            out.other(name, found)
    return out.end()
