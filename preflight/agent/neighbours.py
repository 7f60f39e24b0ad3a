"""Neighbour discovery as this node takes part in it: IPv6's, and ARP as far as taps tell of it.

IPv6's is ICMPv6, and so subject to the very rules that probes meet: a node that drops solicitations
(type 135) or advertisements (136) is found by nobody on its link, or finds nobody.
"""

from preflight.agent.losses import Loss
from preflight.agent.packets import ICMPV6
from preflight.agent.shots import packed, text
from preflight.agent.xtmatch import Lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from preflight.agent.marks import Mark
    from preflight.agent.route import Routes
    from preflight.agent.shots import Trial

    Seen = tuple[bytes, bytes, bytes]  # target, source, destination
    Hit = tuple[int, str, int, int | None]  # position of the trial, leg, of the rule, shot
    Silent = set[tuple[int, bytes]]  # `taps.silent_neighbours`

SOUGHT, SEEKS = "sought", "seeks"
SOLICITATION, ADVERTISEMENT = _KINDS = (135, 136)
_TARGET = slice(48, 64)  # of an IPv6 packet
_TRACED = 12  # bytes of the target that a trace still shows
_SUFFIX = 3  # bytes that an address and its solicited-node multicast address have in common
_MOST = 1024  # neighbours that are remembered
_LINK_LOCAL, _MULTICAST = b"\xfe\x80", b"\xff"
_ARP = b"\0\1\x08\0\6\4\0"  # of IPv4 on Ethernet; then the operation
_REQUEST, _REPLY = 1, 2


class _Way:
    """One trial's next hop; addresses are packed."""

    def __init__(self, position: int, trial: "Trial", routes: "Routes") -> None:
        self.position = position
        self.own, self.far = (packed(trial.family, one) for one in (trial.own, trial.far))
        route = routes.to(trial.family, trial.far)
        self.device, self.gateway = route.device, route.gateway

    def brings(self, asker: bytes) -> bool:
        """Whether what the far end sends may come from that neighbour: itself, or a router.

        Routers of IPv6 ask from a link-local address, hosts from the one that their packets have.
        """
        if asker == self.far:
            return True
        routed = self.gateway != self.far
        return routed and (asker == self.gateway or asker[:2] == _LINK_LOCAL)


class Discovery:
    """What the tap and the traces of a deep look tell of it."""

    def __init__(self, trials: "list[Trial]", routes: "Routes") -> None:
        self._ways = [_Way(position, trial, routes) for position, trial in enumerate(trials)]
        self._own = {way.own for way in self._ways}
        self._hops = {way.gateway for way in self._ways if way.device}
        self._asked: dict[Seen, int] = {}
        self._told: dict[Seen, int] = {}
        self._idle: dict[Seen, int] = {}  # of both, before any shot left
        self._answered: set[tuple[bytes, bytes]] = set()  # own, whom
        self._vain: dict[tuple[bytes, bytes], list[int]] | None = None
        self.here: set[bytes] = set()  # this node's addresses
        self.blind = False  # the tap was not there, or lost packets

    @property
    def addresses(self) -> "set[bytes]":
        """All that it is about."""
        return self._own | self._hops

    def marks(self) -> "list[Mark]":
        """What it is known by to a trace: the type and the address that is asked for."""
        return [
            (6, ICMPV6, (("transport", 0, bytes((kind,))), ("transport", 8, target)))
            for target in sorted(self.addresses)
            if len(target) == 16
            for kind in _KINDS
        ]

    def at_tap(self, data: bytes, outgoing: bool) -> bool:
        """Take a packet from its network header on; False where it is nothing of this."""
        if data[:7] == _ARP and len(data) >= 28:
            self._arp(data[7], data[14:18], data[24:28], outgoing)
            return True
        if len(data) < 64 or data[0] >> 4 != 6 or data[6] != ICMPV6:
            return False
        kind, source, destination, target = data[40], data[8:24], data[24:40], data[_TARGET]
        seen = (target, source, destination)
        if kind == ADVERTISEMENT and outgoing:
            self._answered.add((target, destination))
        elif kind == SOLICITATION and not outgoing and target in self._own:
            _count(self._asked, seen)
        elif kind == ADVERTISEMENT and target in self._hops:
            _count(self._told, seen)
        return kind in _KINDS

    def _arp(self, operation: int, sender: bytes, target: bytes, outgoing: bool) -> None:
        if operation == _REQUEST and not outgoing and target in self._own:
            _count(self._asked, (target, sender, target))
        elif operation == _REPLY and outgoing:
            self._answered.add((sender, target))

    def settle(self) -> None:
        """The idle window is over: counters are compared with what comes from now on."""
        self._idle = {**self._asked, **self._told}
        self._asked = dict.fromkeys(self._asked, 0)
        self._told = dict.fromkeys(self._told, 0)

    # --- whom it keeps from us, and us from whom

    def _unanswered(self, way: _Way) -> "set[bytes]":
        """Who asked for our address on behalf of the far end; none where any of them was told."""
        told = {whom for own, whom in self._answered if own == way.own}
        if self.blind or any(whom[:1] == _MULTICAST for whom in told):
            return set()
        askers = {asker for own, asker, _ in self._asked if own == way.own and way.brings(asker)}
        return set() if askers & told else askers

    def mute(self, position: int) -> bool:
        """Whether somebody asked for this node, for a trial's packets, and nobody got an answer."""
        return bool(self._unanswered(self._ways[position]))

    def _sought_in_vain(self, own: bytes, asker: bytes) -> "list[int]":
        """The trials whose packets wait for that answer; once all has been read."""
        if self._vain is None:
            self._vain = {}
            for way in self._ways:
                for one in self._unanswered(way):
                    self._vain.setdefault((way.own, one), []).append(way.position)
        return self._vain.get((own, asker), [])

    def _seeks_in_vain(self, hop: bytes, silent: "Silent") -> "list[int]":
        """The trials whose next hop that is, where the kernel has not found it."""
        ways = [way for way in self._ways if way.gateway == hop]
        return [way.position for way in ways if (way.device, hop) in silent]

    def of_hit(self, hit: "dict[str, Any]", silent: "Silent") -> "list[tuple[int, str]] | None":
        """(position of the trial, leg) of all that a packet's end, as `nftrace` tells it, is the
        cause of; None where it is nothing of this.
        """
        header = bytes.fromhex(hit["transport"])
        if hit["protocol"] != ICMPV6 or len(header) < 8 + _TRACED or header[0] not in _KINDS:
            return None
        source, destination = packed(6, hit["source"]), packed(6, hit["destination"])
        asks, outgoing = header[0] == SOLICITATION, source in self.here
        shown, other = header[8 : 8 + _TRACED], destination if outgoing else source
        found: list[tuple[int, str]] = []
        if asks is outgoing:
            hops = [hop for hop in self._hops if hop[:_TRACED] == shown]
            for hop in hops:
                if len(hops) == 1 or _alike(hop, other):
                    found += [(position, SEEKS) for position in self._seeks_in_vain(hop, silent)]
            return found
        for own in self._own:
            if own[:_TRACED] == shown and (outgoing or _alike(own, destination)):
                found += [(position, SOUGHT) for position in self._sought_in_vain(own, other)]
        return found

    def losses(self, silent: "Silent") -> "list[Loss]":
        """The same as losses, for rules that are known by their counters alone.

        A question that nobody answered may have ended on its way in, or its answer on its way out.
        """
        out = []
        for seen, count in self._asked.items():
            own, asker, _ = seen
            trials = self._sought_in_vain(own, asker) if len(own) == 16 else []
            if trials:
                idle = self._idle.get(seen, 0)
                there = _lost(seen[1:], count, True, SOLICITATION, idle)
                back = _lost((own, asker), count, False, ADVERTISEMENT, idle)
                out += [Loss(trials, SOUGHT, [None], lost) for lost in (there, back)]
        for seen, count in self._told.items():
            trials = self._seeks_in_vain(seen[0], silent)
            if trials and not self.blind:
                lost = _lost(seen[1:], count, True, ADVERTISEMENT, self._idle.get(seen, 0))
                out.append(Loss(trials, SEEKS, [None], lost))
        return out


def _count(counts: "dict[Seen, int]", seen: "Seen") -> None:
    if seen in counts or len(counts) < _MOST:
        counts[seen] = counts.get(seen, 0) + 1


def _alike(address: bytes, other: bytes) -> bool:
    """Whether the latter is the same or its solicited-node multicast address."""
    return address[-_SUFFIX:] == other[-_SUFFIX:]


def _lost(ends: "tuple[bytes, bytes]", count: int, incoming: bool, kind: int, idle: int) -> Lost:
    source, destination = map(text, ends)
    return Lost(ICMPV6, source, destination, count, incoming, kind=kind, idle=idle)


def undisputed(counted: "list[Hit]", traced: "list[Hit]") -> "list[Hit]":
    """What counters say, less what a trace knows better, and less the questions that may as well
    have ended at one rule as their answers at another.
    """
    rules: dict[tuple[int, str], set[int]] = {}
    for trial, leg, rule, _ in counted:
        rules.setdefault((trial, leg), set()).add(rule)
    doubtful = {key for key, found in rules.items() if len(found) > 1}
    doubtful |= {hit[:2] for hit in traced}
    return [hit for hit in counted if hit[1] not in (SOUGHT, SEEKS) or hit[:2] not in doubtful]
