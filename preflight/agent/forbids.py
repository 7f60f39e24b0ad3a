"""Routes and routing rules that forbid what this node sends: blackhole, unreachable, prohibit.

A lookup tells of them by its errno alone, so the table is searched for the one that gave it. Where
several might have, none is named.
"""

import _socket as socket
import errno
import struct

from preflight.agent.inet import domain, packed, text
from preflight.agent.kernel.fib import way_in
from preflight.agent.netlink import (
    NETLINK_GET_STRICT_CHK,
    RTA_DST,
    RTA_OIF,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    SOL_NETLINK,
    Netlink,
    attributes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Found = tuple[str, str]  # as `ip` prints it, and the command that deletes it

_TYPES = {6: "blackhole", 7: "unreachable", 8: "prohibit"}  # of routes, and of rules' actions
# A rule that is unreachable says what no route at all says.
_ROUTE_ERRORS = {errno.EINVAL: 6, errno.EHOSTUNREACH: 7, errno.EACCES: 8}
_RULE_ERRORS = {errno.EINVAL: 6, errno.ENETUNREACH: 7, errno.EACCES: 8}
_RTA_PRIORITY, _RTA_TABLE = 6, 15
_NO_ROUTE = 0xFFFFFFFF  # the metric of the kernel's own entry for IPv6 without a route
_MAIN, _BOOT = 254, 3
PROTOCOLS = {2: "kernel", 4: "static", 9: "ra", 11: "zebra", 12: "bird", 16: "dhcp", 186: "bgp",
              188: "ospf"}  # fmt: skip
# linux/fib_rules.h
FRA_DST, _FRA_SRC, _FRA_IIF, _FRA_PRIORITY, _FRA_SUPPRESS_GROUP = 1, 2, 3, 6, 13
_FRA_SUPPRESS, FRA_TABLE = 14, 15
_FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_DPORT, _FRA_DPORT_MASK = 21, 22, 24, 29
_UNDERSTOOD = {
    FRA_DST, _FRA_SRC, _FRA_IIF, _FRA_PRIORITY, _FRA_SUPPRESS_GROUP, _FRA_SUPPRESS, FRA_TABLE,
    _FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_DPORT, _FRA_DPORT_MASK,
}  # fmt: skip
_INVERT = 0x02
_HERE = b"lo\0"  # in place of the device by which it comes in: what this node sends
_WHOLE = b"\xff\xff"
_ANY_PORT = (0, 0xFFFF)
_NUMBERS = {6: "tcp", 17: "udp", 1: "icmp", 58: "ipv6-icmp"}
_MOST = 4096  # routes that forbid; more of them are somebody's block list


def told(
    netlink: Netlink, frame: "dict[str, Any]", peers: "dict[int, list[str]]", own: "dict[int, str]"
) -> "list[list[Any]]":
    """[family, peer, protocol, port, words, command, way in] of each that is sent nothing.

    Protocol and port are 0 where all is forbidden; the way in is what becomes of a packet from that
    peer, see `kernel.fib.way_in`.
    """
    out: list[list[Any]] = []
    for version, wanted in frame["forbidden"].items():
        family = int(version)
        tables = _Tables(netlink, family) if wanted else None
        for peer in wanted:
            address = peers[family][peer]
            if tables is None or not address or family not in own:
                continue
            for protocol, port, found in tables.of(address, frame["probes"][version], own[family]):
                back = tables.back(address, own[family], protocol)
                out.append([family, peer, protocol, port, *found, back])
    return out


class _Tables:
    """The forbidding routes and rules of one family."""

    def __init__(self, netlink: Netlink, family: int) -> None:
        self._netlink = netlink
        self._family = family
        self._ip = "ip" if family == 4 else "ip -6"
        self._routes: list[tuple[int, bytes, dict[int, bytes]]] | None = None
        answers = netlink.ask(RTM_GETRULE, bytes([domain(self._family)]) + bytes(11), dump=True)
        self._rules = [body for kind, body in answers if kind == RTM_NEWRULE]
        self._here = netlink.addresses()

    def of(
        self, address: str, probes: "list[list[int]]", own: str
    ) -> "list[tuple[int, int, Found]]":
        """(protocol, port, what forbids it), 0 for both where one thing forbids all of them.

        First without a source address, as the kernel asks who has none yet; then with this node's
        `own`: answers have it from the beginning, and so have connections once they are routed.
        """
        target, here = packed(self._family, address), packed(self._family, own)
        found = {}
        for protocol, port in probes:
            # Never without a protocol: the kernel then takes it for UDP.
            able: list[Found] = []
            for source in (b"", here):
                code = self._errno(target, protocol, port, source)
                if code:
                    able = self._by_rules(code, target, protocol, port, source)
                    able += self._by_routes(code, target)
                    break
            found[protocol, port] = able[0] if len(able) == 1 else None
        same = set(found.values())
        if len(same) == 1 and None not in same:
            return [(0, 0, same.pop())]  # type: ignore[list-item]
        return [(*probe, one) for probe, one in found.items() if one is not None]

    def back(self, address: str, own: str, protocol: int) -> str:
        """What becomes of a packet from there that comes in by the device of `own`; with a
        protocol, of one of that.
        """
        device = self._here.get(packed(self._family, own), 0)
        try:
            name = socket.if_indextoname(device)
            return way_in(self._netlink, address, own, name, protocol)[1]
        except OSError:
            return ""

    def _errno(self, target: bytes, protocol: int, port: int, source: bytes) -> int:
        try:
            self._netlink.route(target, protocol, port, source)
        except OSError as error:
            return error.errno or 0
        return 0

    # --- routes

    def _by_routes(self, code: int, target: bytes) -> "list[Found]":
        """The route of each table that gave that error, if that did."""
        wanted = _ROUTE_ERRORS.get(code)
        best: dict[int, tuple[int, int, bytes, dict[int, bytes]]] = {}
        tables = {table_of(body[4], attributes(body[12:]), FRA_TABLE) for body in self._rules}
        for kind, body, fields in self._forbidding() if wanted else ():
            table = table_of(body[4], fields, _RTA_TABLE)
            if kind != wanted or table not in tables or not holds(fields, RTA_DST, body[1], target):
                continue
            rank = body[1], -_number(fields, _RTA_PRIORITY)
            if table not in best or rank > best[table][:2]:
                best[table] = (*rank, body, fields)
        return [self._route(kind[2], kind[3]) for kind in best.values()]

    def _forbidding(self) -> "list[tuple[int, bytes, dict[int, bytes]]]":
        if self._routes is None:
            self._routes = []
            strict = Netlink()
            try:
                # Without it the kernel would tell all its routes, perhaps a million.
                strict.option(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
                for kind in _TYPES:
                    header = struct.pack(
                        "=BBBBBBBBI", domain(self._family), 0, 0, 0, 0, 0, 0, kind, 0
                    )
                    for got, body in strict.ask(RTM_GETROUTE, header, dump=True):
                        if got == RTM_NEWROUTE and body[7] == kind and len(self._routes) < _MOST:
                            self._routes.append((kind, body, attributes(body[12:])))
            except OSError:
                pass  # before Linux 4.20
            finally:
                strict.close()
        return [r for r in self._routes if _number(r[2], _RTA_PRIORITY) != _NO_ROUTE]

    def _route(self, body: bytes, fields: "dict[int, bytes]") -> "Found":
        table, metric = table_of(body[4], fields, _RTA_TABLE), _number(fields, _RTA_PRIORITY)
        target = fields.get(RTA_DST, b"")
        kind, prefix = _TYPES[body[7]], prefix_of(target, body[1])
        shown = _shown(target, body[1])
        where = " table %d" % table if table != _MAIN else ""
        device = " dev lo" if RTA_OIF in fields else ""
        by = " proto " + PROTOCOLS.get(body[5], str(body[5])) if body[5] != _BOOT else ""
        rank = " metric %d" % metric if metric else ""
        words = "%s %s%s%s%s%s" % (kind, shown, device, where, by, rank)
        return words, "%s route del %s %s%s%s" % (self._ip, kind, prefix, where, rank)

    # --- rules

    def _by_rules(
        self, code: int, target: bytes, protocol: int, port: int, source: bytes
    ) -> "list[Found]":
        """The rules that gave that error, if they did. Those that go by anything but these match
        no lookup without it.
        """
        wanted = _RULE_ERRORS.get(code)
        out = []
        for body in self._rules:
            fields = attributes(body[12:])
            if body[7] != wanted or not understood(body, fields):
                continue
            low, high = _ports(fields)
            same = fields.get(_FRA_IP_PROTO, bytes([protocol])) == bytes([protocol])
            same = same and ((low, high) == _ANY_PORT or low <= port <= high)
            if body[2] and not (source and holds(fields, _FRA_SRC, body[2], source)):
                continue
            if same and holds(fields, FRA_DST, body[1], target):
                out.append(rule_in_words(self._family, body, fields, _TYPES[body[7]]))
        return out


def rule_in_words(family: int, body: bytes, fields: "dict[int, bytes]", does: str) -> "Found":
    """A rule that is understood, as `ip` prints it, and what deletes it; `does` is its action."""
    to = " to " + prefix_of(fields[FRA_DST], body[1]) if body[1] else ""
    shown = " to " + _shown(fields[FRA_DST], body[1]) if body[1] else ""
    from_, only = "all", ""
    if body[2]:
        from_ = _shown(fields[_FRA_SRC], body[2])
        only = " from " + prefix_of(fields[_FRA_SRC], body[2])
    selectors = " iif lo" if _FRA_IIF in fields else ""
    if _FRA_IP_PROTO in fields:
        number = fields[_FRA_IP_PROTO][0]
        selectors += " ipproto " + _NUMBERS.get(number, str(number))
    low, high = _ports(fields)
    if (low, high) != _ANY_PORT:
        selectors += " dport %d" % low if low == high else " dport %d-%d" % (low, high)
    priority = _number(fields, _FRA_PRIORITY)
    words = "%d: from %s%s%s %s" % (priority, from_, shown, selectors, does)
    command = "ip" if family == 4 else "ip -6", priority, only, to, selectors, does
    return words, "%s rule del pref %d%s%s%s %s" % command


def goes_by_address(body: bytes, fields: "dict[int, bytes]") -> bool:
    """Whether it goes by nothing but the destination."""
    return understood(body, fields) and not (
        body[2] or _FRA_IP_PROTO in fields or _ports(fields) != _ANY_PORT
    )


def prefix_of(target: bytes, length: int) -> str:
    """As commands take it."""
    return "%s/%d" % (text(target), length) if length else "default"


def _shown(target: bytes, length: int) -> str:
    prefix = prefix_of(target, length)
    return prefix.partition("/")[0] if length == len(target) * 8 else prefix


def understood(body: bytes, fields: "dict[int, bytes]") -> bool:
    """Whether the rule goes by nothing but the addresses, a protocol and a port."""
    flags = struct.unpack_from("=I", body, 8)[0]
    usual = not body[3] and not flags & _INVERT and fields.get(_FRA_IIF, _HERE) == _HERE
    return usual and not set(fields) - _UNDERSTOOD and fields.get(_FRA_DPORT_MASK, _WHOLE) == _WHOLE


def _ports(fields: "dict[int, bytes]") -> "tuple[int, int]":
    low, high = struct.unpack("=HH", fields.get(_FRA_DPORT, b"\0\0\xff\xff"))
    return int(low), int(high)


def holds(fields: "dict[int, bytes]", key: int, length: int, target: bytes) -> bool:
    """Whether the prefix has that address; none has all."""
    if not length:
        return True
    prefix = fields.get(key, b"")
    shift = len(target) * 8 - length
    values = [int.from_bytes(one, "big") >> shift for one in (prefix, target)]
    return len(prefix) == len(target) and values[0] == values[1]


def table_of(short: int, fields: "dict[int, bytes]", key: int) -> int:
    return _number(fields, key) or short


def _number(fields: "dict[int, bytes]", key: int) -> int:
    return int(struct.unpack("=I", fields[key])[0]) if len(fields.get(key, b"")) == 4 else 0
