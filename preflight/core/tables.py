"""What nodes' own tables say of the run's addresses: what to ask of them, and reading the answers.

A node may be anything: all that goes into words or commands is looked at first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from itertools import islice
from typing import Any, NamedTuple

from preflight.core.matrix import Matrix
from preflight.core.model import Family, Node, Protocol
from preflight.core.naming import members
from preflight.core.ways import Ways

_MOST = 64  # ways of one node to ask it for: what is wrong with more is wrong with these
_FAMILIES = {4: Family.IPV4, 6: Family.IPV6}
_NUMBERS = {
    Protocol.UDP: {Family.IPV4: 17, Family.IPV6: 17},
    Protocol.TCP: {Family.IPV4: 6, Family.IPV6: 6},
    Protocol.ICMP: {Family.IPV4: 1, Family.IPV6: 58},
}
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,14}")
_WORDS = re.compile(r"[a-z0-9][a-z0-9 .:/-]{0,200}")
_COMMAND = re.compile(r"ip (-6 )?(route|rule) del [a-z0-9 .:/-]{1,200}")
_TRAIL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_@ .:/-]{0,200}")
_DELETES = re.compile(r"ip (-6 )?route (del|replace) [A-Za-z0-9_@ .:/-]{1,800}")
_ANSWER = re.compile(r"[A-Za-z]{0,20}")
_FLAGS = ("dadfailed", "tentative", "missing")


class Held(NamedTuple):
    """Another node's address that this one takes for its own."""

    owner: int
    address: str
    length: int  # of its prefix
    device: str  # empty where its name is unusual; likewise below


class Unused(NamedTuple):
    """An address of its own that the kernel does not use."""

    address: str
    flag: str  # dadfailed, tentative; missing: it has no such address at all
    length: int
    device: str


class Hop(NamedTuple):
    """Where the frames of the way to one peer go."""

    family: Family
    peer: int
    address: str  # of the next hop, the peer itself on a link
    device: str
    mac: str
    permanent: bool
    shared: bool  # another address has this MAC, too


class Gateway(NamedTuple):
    """A next hop that is no node of the run."""

    family: Family
    address: str
    device: str
    mac: str
    permanent: bool
    peers: int  # the set of those that are reached by it


class Forbidden(NamedTuple):
    """A route or routing rule that gave a lookup its error."""

    family: Family
    peer: int
    protocol: int  # 0: whatever the protocol; likewise the port
    port: int
    words: str  # as `ip` prints it
    command: str
    back: str  # what becomes of what that peer sends: `local`, an errno's name, or not known


def refused(back: str) -> bool:
    """Whether a node's own kernel throws away what comes from there; empty is not known."""
    return back not in ("local", "")


class NextHop(NamedTuple):
    """One of a route's."""

    address: str  # empty on a link
    device: str
    mac: str  # empty where not known
    silent: bool  # it was asked for by ARP or neighbour discovery, in vain
    taken: bool  # it is what the node's packets may take to this peer
    command: str  # what takes it out of the route, where others stay; may be empty

    def __str__(self) -> str:
        return " on ".join(filter(None, (self.address, self.device)))


class Trail(NamedTuple):
    """The route that a node takes to a peer to which something is blocked."""

    family: Family
    peer: int
    kind: str  # unicast, local
    gateway: str  # empty on a link, and where it has several next hops; likewise the device
    device: str
    own: bool  # the device has the node's own address of that family
    words: str  # as `ip` prints it, without several next hops; empty where it has unusual names
    command: str  # what deletes it; may be empty
    back: str  # as of `Forbidden`
    beside: int  # the set of peers that are reached by the same: gateway where own, else device
    hops: tuple[NextHop, ...] = ()
    rule: str = ""  # the `ip rule` that leads to its table, where that is not a usual one
    unrule: str = ""  # what deletes that

    @property
    def is_default(self) -> bool:
        """Whether it leads everywhere."""
        return self.words == "default" or self.words.startswith("default ")

    @property
    def mac(self) -> str:
        """The next hop's, empty where not known, or where there are several."""
        return self.hops[0].mac if len(self.hops) == 1 else ""


class Tables(NamedTuple):
    """One node's."""

    held: tuple[Held, ...]
    unused: tuple[Unused, ...]
    macs: frozenset[str] | None  # None: not asked
    hops: tuple[Hop, ...]
    gateways: tuple[Gateway, ...]
    forbidden: tuple[Forbidden, ...]
    trails: tuple[Trail, ...] = ()
    forwards: frozenset[Family] = frozenset(Family)  # families of which it may forward packets
    lengths: tuple[tuple[Family, int], ...] = ()  # of the prefixes that it has its addresses with


def number_of(protocol: Protocol, family: Family) -> int:
    """As IP headers spell it."""
    return _NUMBERS[protocol][family]


def questions(matrix: Matrix, ways: Sequence[Ways], asked: set[int]) -> dict[int, dict[str, Any]]:
    """For each node that is asked the members of its `links` frame; see `preflight.wire`."""
    dead = {w.family: {n: w.dead(n) for n in asked} for w in ways}
    hurt = any(row for w in ways for row in w.failing.values())
    probes = {
        w.family[-1]: [
            [number_of(probe.protocol, w.family), probe.port or 0]
            for probe in matrix.probes
            if not probe.overlay
        ]
        for w in ways
    }
    return {
        node: {
            "to": {f[-1]: list(islice(members(rows[node]), _MOST)) for f, rows in dead.items()},
            "forbidden": {
                w.family[-1]: list(islice(members(w.unsent.get(node, 0)), _MOST)) for w in ways
            },
            "trails": {
                w.family[-1]: list(islice(members(w.failing.get(node, 0)), _MOST)) for w in ways
            },
            "probes": probes,
            "macs": hurt,
        }
        for node in asked
    }


def read(frame: Mapping[str, Any], nodes: Sequence[Node]) -> Tables:
    """An agent's answer. Raises ValueError, TypeError or KeyError where it makes no sense."""

    def peer(value: Any) -> int:
        if not 0 <= int(value) < len(nodes):
            raise ValueError("no such node")
        return int(value)

    return Tables(
        held=tuple(
            Held(peer(p), _of(nodes[peer(p)], a), _length(bits), _device(d))
            for p, a, bits, d in frame["held"]
        ),
        unused=tuple(
            Unused(_address(a), _one_of(flag), _length(bits), _device(d))
            for a, flag, bits, d in frame["unused"]
        ),
        macs=None if frame["macs"] is None else frozenset(map(_mac, frame["macs"])),
        hops=tuple(
            Hop(_FAMILIES[f], peer(p), _address(a), _device(d), _mac(mac), bool(fixed), bool(more))
            for f, p, a, d, mac, fixed, more in frame["hops"]
        ),
        gateways=tuple(
            Gateway(_FAMILIES[f], _address(a), _device(d), _mac(mac), bool(fixed), int(peers, 16))
            for f, a, d, mac, fixed, peers in frame["gateways"]
        ),
        forbidden=tuple(
            Forbidden(
                _FAMILIES[f], peer(p), int(protocol), int(port), _text(words, _WORDS),
                _text(command, _COMMAND), _text(back, _ANSWER),
            )
            for f, p, protocol, port, words, command, back in frame["forbidden"]
        ),
        trails=tuple(_trail(peer, *one) for one in frame["trails"]),
        forwards=frozenset(_FAMILIES[f] for f in frame["forwards"]),
        lengths=tuple((_FAMILIES[f], _length(bits, f)) for f, bits in frame["lengths"]),
    )  # fmt: skip


def _trail(peer: Callable[[Any], int], *told: Any) -> Trail:
    family, position, kind, gateway, device, own, words, command, back, beside, hops, rule = told
    every = tuple(sorted(_hop(*one) for one in hops))  # the kernel's order is not always the same
    named = bool(_device(device)) or (len(every) > 1 and not device)
    named = named and _TRAIL.fullmatch(str(words)) is not None
    deletes = named and _DELETES.fullmatch(str(command)) is not None
    by = [_text(one, pattern) for one, pattern in zip(rule, (_WORDS, _COMMAND), strict=False)]
    return Trail(
        _FAMILIES[family], peer(position), _text(kind, _ANSWER),
        _address(gateway) if gateway else "", _device(device), bool(own),
        str(words) if named else "", str(command) if deletes else "",
        _text(back, _ANSWER), int(beside, 16), every, *by,
    )  # fmt: skip


def _hop(*told: Any) -> NextHop:
    address, device, mac, silent, taken, command = told
    deletes = _device(device) and _DELETES.fullmatch(str(command))
    return NextHop(
        _address(address) if address else "", _device(device), _mac(mac) if mac else "",
        bool(silent), bool(taken), str(command) if deletes else "",
    )  # fmt: skip


def _of(node: Node, address: Any) -> str:
    if address not in node.addresses:
        raise ValueError("not that node's address")
    return str(address)


def _address(value: Any) -> str:
    text = str(value)
    if "%" in text:
        raise ValueError("an address that cannot be")
    return str(ip_address(text))


def _length(value: Any, version: Any = 6) -> int:
    if not 0 <= int(value) <= (32 if version == 4 else 128):
        raise ValueError("a prefix that cannot be")
    return int(value)


def _one_of(flag: Any) -> str:
    if flag not in _FLAGS:
        raise ValueError("a flag that is not asked for")
    return str(flag)


def _device(name: Any) -> str:
    return str(name) if _DEVICE.fullmatch(str(name)) else ""


def _mac(text: Any) -> str:
    return _text(text, _MAC)


def _text(value: Any, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(str(value)):
        raise ValueError("words that cannot be")
    return str(value)
