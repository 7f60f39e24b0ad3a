"""A trial: shots from one node to another, each unlike the others, and what both ends saw of them.

Where a look asks many pairs the same, a trial asks one pair many things at once: rising TTL, other
source ports, other sizes, other bytes. Who judges gets the shots back with what became of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, NamedTuple

from preflight.core.model import Family

VANTAGES = ("sent", "left", "arrived", "accepted", "answered", "returned", "received")
_AT_SOURCE = ("sent", "left", "returned", "received")
_AT_DESTINATION = ("arrived", "accepted", "answered")
_MOST = 1 << 20  # for numbers that a node tells
_PORTS = 1 << 32  # of netlink
# In place of a leg: who brings packets asks for the node in vain, somebody does who may bring them,
# or the node asks for its own next hop.
SOUGHT, ASKED, SEEKS = DISCOVERY = ("sought", "asked", "seeks")
SOURCE, DESTINATION = TRANSLATED = ("source", "destination")  # of a packet
_LEGS = ("forward", "reply", *DISCOVERY)


class Purpose(StrEnum):
    """What a shot is to find out."""

    PLAIN = "plain"  # the probe as the looks send it
    HOP = "hop"  # how far it comes: its TTL runs out on the way
    FLOW = "flow"  # another source port
    SIZE = "size"
    CONTENT = "content"  # other bytes in the same flow
    CONTROL = "control"  # the same bytes to another port


class Form(StrEnum):
    """The bytes of a shot; UDP only, all else is `plain`."""

    PLAIN = "plain"  # what middleboxes will see of Cilium's own traffic
    HARMLESS = "harmless"  # what the destination's kernel throws away
    RANDOM = "random"  # no tunnel's header


class Shot(NamedTuple):
    """One packet."""

    purpose: Purpose
    form: Form = Form.PLAIN
    source_port: int = 0  # ICMP: sequence number
    port: int = 0  # destination; 0 for ICMP
    ttl: int = 64
    size: int = 0  # bytes of the IP packet; 0: as small as its form is
    dont_fragment: bool = False
    tos: int = 0  # DSCP and ECN, IPv6's traffic class


@dataclass(frozen=True, slots=True)
class Trial:
    """Shots of one probe's kind from `source` to `destination`; all are positions."""

    number: int  # 0 to 255, among those that run at once
    source: int
    destination: int
    probe: int
    family: Family
    shots: tuple[Shot, ...]  # at most 1,024
    again: int | None = None  # the one to send again all the while, that neighbours are asked for
    back: int = 0  # the largest TTL with which an answer is sent again, to see how far it gets
    witness: int | None = None  # another node on its way, of which only the rules are asked
    ask: int = 0  # source port of a real connection with `GET /hello` in place of shots; 0: none


class Passage(NamedTuple):
    """One shot, or its answer, as a tap saw it."""

    device: str
    source: str
    source_port: int
    destination: str
    port: int
    ttl: int
    tos: int  # DSCP and ECN
    size: int  # bytes of the IP packet
    dont_fragment: bool


class ShotError(NamedTuple):
    """An ICMP error that quotes a shot, as the source received it; ICMPv6 numbers on IPv6."""

    shot: int
    sender: str
    type: int
    code: int
    mtu: int  # what "fragmentation needed" or "packet too big" says, else 0


class BackError(NamedTuple):
    """An ICMP error that quotes an answer, sent again with this TTL, as the destination got it."""

    ttl: int
    sender: str
    type: int
    code: int


class RuleHit(NamedTuple):
    """A firewall rule, or a chain's policy, that ended one of our packets or made another of it; or
    IPv6 neighbour discovery, without which none of them gets there.
    """

    node: int
    leg: str  # forward, reply, or one of DISCOVERY
    shots: frozenset[int]  # empty where it is not known which
    rule: Rule

    @property
    def of_discovery(self) -> bool:
        """Whether it is neighbour discovery that it ended."""
        return self.leg in DISCOVERY


class Rule(NamedTuple):
    """What one node's firewall says of itself."""

    tool: str  # nft, or iptables, ip6tables, perhaps with -nft or -legacy: the program's name
    family: str  # inet, ip, ip6, bridge, netdev
    table: str
    chain: str
    handle: int  # nft's, of a policy the goto's or return's that led to it; 0 where there is none
    position: int  # iptables', of the same rule: 1 is the chain's first; 0 where it has none
    policy: bool  # the chain's policy, not a rule
    text: str  # as its admin would see it; empty where it could not be read
    comment: str
    rejects: bool
    hook: str  # of the base chain it was reached from: input, output, prerouting, ...
    path: tuple[tuple[str, str, str], ...]  # family, table, chain: as the packet walked them
    sure: bool  # False: one of several that may have done it
    rewrites: str = ""  # SOURCE or DESTINATION, where it does not end packets but translates them
    becomes: str = ""  # what that then is: `port 6082`, an address, both; empty: not known
    queue: str = ""  # where it hands packets to a program (NFQUEUE): which queue, `9` or `0-3`
    reader: int | None = None  # netlink port of that program; 0: none reads it; None: not known


@dataclass(slots=True)
class End:
    """What one node said of its own part, beyond the trials."""

    trace: str = ""  # why rules could not be traced; empty: they were
    settings: Mapping[str, Any] = field(default_factory=dict)
    idle: Mapping[str, Any] = field(default_factory=dict)  # counters that moved before the shots
    moved: Mapping[str, Any] = field(default_factory=dict)  # and while they were on their way
    drops: Sequence[Sequence[Any]] = ()  # reason, location, protocol, count
    idle_drops: Sequence[Sequence[Any]] = ()


@dataclass(slots=True)
class Observed:
    """A trial and what became of it. Masks are sets of positions in `trial.shots`.

    A mask is None where the vantage point was not watched. What is said of `seen` in
    `core.evidence` holds here too: None is never evidence of a drop.
    """

    trial: Trial
    seen: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(VANTAGES))
    resets: dict[str, int] = field(default_factory=dict)  # answered, received: the RSTs among them
    send_errors: dict[int, int] = field(default_factory=dict)  # shot -> errno
    errors: list[ShotError] = field(default_factory=list)
    back: int = 0  # an answer was sent again, with every TTL up to this
    back_errors: list[BackError] = field(default_factory=list)
    passages: dict[str, dict[int, Passage]] = field(default_factory=dict)  # left, arrived, returned
    hits: list[RuleHit] = field(default_factory=list)
    neighbour_failed: bool = False  # the source's next hop
    neighbour_failed_back: bool = False  # the destination's, towards the source
    mute: set[int] = field(default_factory=set)  # nodes that sent no answer to who asked for them
    gateway: str = ""  # the source's next hop, the destination itself on a link; empty: not known
    gateway_back: str = ""  # the destination's
    devices: dict[str, str] = field(default_factory=dict)  # by end: the one that leads to its hop
    mtu: int = 0  # of the source's device towards it
    picked: str = ""  # the source address that its routes pick for it; empty: not known
    ends: dict[str, End] = field(default_factory=dict)  # source, destination: who reported
    source_address: str = ""  # as the shots were to have them
    destination_address: str = ""

    def mask(self, purpose: Purpose) -> int:
        """The shots of one purpose."""
        return sum(1 << i for i, shot in enumerate(self.trial.shots) if shot.purpose is purpose)


def observe(
    trials: Sequence[Trial], reports: Mapping[int, Mapping[str, Any]]
) -> dict[int, Observed]:
    """What was seen of each trial, by its number. `reports` are frames, by their node.

    Raises ValueError, TypeError or KeyError for a frame that makes no sense.
    """
    known = {trial.number: Observed(trial) for trial in trials}
    for node, frame in reports.items():
        end = _end(frame["node"])
        rules = [_rule(fields) for fields in frame["node"].get("rules", ())]
        for part in frame["trials"]:
            seen = known[int(part["id"])]
            if node == seen.trial.witness:
                _hits(seen, node, part, rules)
                continue
            roles = {seen.trial.source: "source", seen.trial.destination: "destination"}
            role = roles[node]
            seen.ends[role] = end
            seen.devices[role] = _text(part.get("device", ""))
            _sights(seen, part, role)
            if role == "source":
                _at_source(seen, part)
            else:
                gateway, _ = part.get("route") or ("", 0)
                seen.gateway_back = _address(gateway) if gateway else ""
                seen.neighbour_failed_back = bool(part.get("neighbour_failed", False))
                back, errors = part.get("back") or (0, ())
                seen.back = min(_number(back), seen.trial.back)
                seen.back_errors = [
                    BackError(_number(ttl), _address(a), _number(kind), _number(code))
                    for ttl, a, kind, code in errors
                ]
            if part.get("mute", False):
                seen.mute.add(node)
            _hits(seen, node, part, rules)
    return known


def _sights(seen: Observed, part: Mapping[str, Any], role: str) -> None:
    every = (1 << len(seen.trial.shots)) - 1
    lost = {str(v) for v in part.get("lost", ())}
    for vantage in _AT_SOURCE if role == "source" else _AT_DESTINATION:
        mask = part["masks"].get(vantage)
        if mask is not None and vantage not in lost:
            seen.seen[vantage] = int(mask) & every
    for vantage, mask in part.get("resets", {}).items():
        seen.resets[str(vantage)] = int(mask) & every
    for vantage, rows in part.get("passages", {}).items():
        seen.passages[str(vantage)] = {_shot(row[0], seen): _passage(row[1:]) for row in rows}


def _at_source(seen: Observed, part: Mapping[str, Any]) -> None:
    seen.send_errors = {_shot(s, seen): _number(code) for s, code in part.get("send_errors", ())}
    seen.errors = [
        ShotError(_shot(s, seen), _address(a), _number(t), _number(c), _number(mtu))
        for s, a, t, c, mtu in part.get("errors", ())
    ]
    gateway, mtu = part.get("route") or ("", 0)
    seen.gateway, seen.mtu = _address(gateway) if gateway else "", _number(mtu)
    picked = part.get("picked")
    seen.picked = _address(picked) if picked else ""
    seen.neighbour_failed = bool(part.get("neighbour_failed", False))


def _hits(seen: Observed, node: int, part: Mapping[str, Any], rules: Sequence[Rule]) -> None:
    by_rule: dict[tuple[str, int], set[int]] = {}
    for leg, rule, shot in part.get("hits", ()):
        if leg not in _LEGS:
            raise ValueError("a leg that does not exist")
        shots = by_rule.setdefault((leg, int(rule)), set())
        if shot is not None:
            shots.add(_shot(shot, seen))
    for (leg, rule), shots in by_rule.items():
        if not 0 <= rule < len(rules):
            raise ValueError("a rule that does not exist")
        seen.hits.append(RuleHit(node, leg, frozenset(shots), rules[rule]))


def _shot(value: Any, seen: Observed) -> int:
    shot = int(value)
    if not 0 <= shot < len(seen.trial.shots):
        raise ValueError("a shot that does not exist")
    return shot


def _number(value: Any, below: int = _MOST) -> int:
    number = int(value)
    if not 0 <= number < below:
        raise ValueError("a number that cannot be")
    return number


def _address(value: Any) -> str:
    text = str(value)
    ip_address(text)
    if not text.isprintable():
        raise ValueError("an address that cannot be")
    return text


def _text(value: Any) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(value)[:2000])


def _passage(row: Sequence[Any]) -> Passage:
    device, source, source_port, destination, port, ttl, tos, size, df = row
    return Passage(
        _text(device), _address(source), _number(source_port), _address(destination),
        _number(port), _number(ttl), _number(tos), _number(size), bool(df),
    )  # fmt: skip


def _rule(fields: Mapping[str, Any]) -> Rule:
    base = fields.get("base") or {}
    rewrites = _text(fields.get("rewrites", ""))
    return Rule(
        tool=_text(fields["tool"]),
        family=_text(fields["family"]),
        table=_text(fields["table"]),
        chain=_text(fields["chain"]),
        handle=_number(fields.get("handle", 0) or fields.get("turn", 0)),
        position=_number(fields.get("position", 0)),
        policy=bool(fields["policy"]),
        text=_text(fields.get("text", "")),
        comment=_text(fields.get("comment", "")),
        rejects=bool(fields.get("rejects", False)),
        hook=_text(base.get("hook", "")),
        path=tuple((_text(f), _text(t), _text(c)) for f, t, c in fields.get("path", ())),
        sure=bool(fields.get("sure", True)),
        rewrites=rewrites if rewrites in TRANSLATED else "",
        becomes=_text(fields.get("becomes", "")),
        queue=_text(fields.get("queue", "")),
        reader=None if fields.get("reader") is None else _number(fields["reader"], _PORTS),
    )


def _end(fields: Mapping[str, Any]) -> End:
    counters = fields.get("counters") or {}
    return End(
        trace=_text(fields.get("trace", "")),
        settings=dict(counters.get("settings") or {}),
        idle=dict(counters.get("idle") or {}),
        moved=dict(counters.get("moved") or {}),
        drops=list(fields.get("drops") or ()),
        idle_drops=list(fields.get("idle_drops") or ()),
    )
