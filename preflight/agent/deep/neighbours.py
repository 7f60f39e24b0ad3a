"""Neighbour discovery as this node takes part in it: IPv6's, and ARP as far as taps tell of it.

IPv6's is ICMPv6, and so subject to the very rules that probes meet: a node that drops solicitations
(type 135) or advertisements (136) is found by nobody on its link, or finds nobody.
"""

from preflight.agent.deep.losses import Loss
from preflight.agent.firewall.xtmatch import Lost
from preflight.agent.inet import packed, text
from preflight.agent.netlink import RTM_NEWNEIGH, attributes
from preflight.agent.packets import ICMPV6
from preflight.agent.taps import NDA_DST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from preflight.agent.deep.marks import Mark
    from preflight.agent.deep.shots import Trial
    from preflight.agent.route import Routes

    Seen = tuple[bytes, bytes, bytes]  # target, source, destination
    Waiting = tuple[int, str]  # position of the trial, leg
    Hit = tuple[int, str, int, int | None]  # position of the trial, leg, of the rule, shot
    Silent = set[tuple[int, bytes]]  # `taps.silent_neighbours`

SOUGHT, ASKED, SEEKS = _LEGS = ("sought", "asked", "seeks")
SOLICITATION, ADVERTISEMENT = _KINDS = (135, 136)
# What is seen while counters are read may be in the reading or not.
IDLE, TURNING, OURS, ENDING = range(4)
_PHASES = 4
_TARGET = slice(48, 64)  # of an IPv6 packet
_TRACED = 12  # bytes of the target that a trace still shows
_SUFFIX = 3  # bytes that an address and its solicited-node multicast address have in common
_MOST = 1024  # neighbours that are remembered
_LINK_LOCAL, _MULTICAST = b"\xfe\x80", b"\xff"
_ITS_MAC = b"\1\1"  # the option "source link-layer address", 8 bytes long
_ARP = b"\0\1\x08\0\6\4\0"  # of IPv4 on Ethernet; then the operation
_REQUEST, _REPLY = 1, 2
# linux/neighbour.h
_NDA_LLADDR, _NEIGHBOUR_FLAGS, _NTF_ROUTER = 2, 10, 0x80


class _Way:
    """One trial's next hop; addresses are packed."""

    def __init__(self, position: int, trial: "Trial", routes: "Routes") -> None:
        self.position = position
        self.own, self.far = (packed(trial.family, one) for one in (trial.own, trial.far))
        route = routes.to(trial.family, trial.far)
        self.device, self.gateway = route.device, route.gateway

    def brought_by(self, asker: bytes, routers: "set[bytes]") -> str:
        """SOUGHT where that neighbour brings what the far end sends, as itself or as a router that
        is known; ASKED where it may, "" where it does not.

        Routers of IPv6 ask from a link-local address, hosts from the one that their packets have.
        """
        if asker == self.far:
            return SOUGHT
        if self.gateway == self.far:
            return ""
        if asker == self.gateway or asker in routers:
            return SOUGHT
        return ASKED if asker[:2] == _LINK_LOCAL else ""


class Discovery:
    """What the tap and the traces of a deep look tell of it."""

    def __init__(self, trials: "list[Trial]", routes: "Routes") -> None:
        self._ways = [_Way(position, trial, routes) for position, trial in enumerate(trials)]
        self._own = {way.own for way in self._ways}
        self._hops = {way.gateway for way in self._ways if way.device}
        # How many there were in each phase.
        self._asked: dict[Seen, list[int]] = {}
        self._told: dict[Seen, list[int]] = {}
        self._answered: set[tuple[bytes, bytes]] = set()  # own, whom
        self._macs: dict[bytes, bytes] = {}  # of who asked
        self._vain: dict[tuple[bytes, bytes], list[Waiting]] | None = None
        self.here: set[bytes] = set()  # this node's addresses
        self.neighbours: dict[bytes, tuple[bytes, bool]] = {}  # see `known`
        self.phase = IDLE
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
            self._count(self._asked, seen)
            if data[64:66] == _ITS_MAC:
                self._macs[source] = data[66:72]
        elif kind == ADVERTISEMENT and target in self._hops:
            self._count(self._told, seen)
        return kind in _KINDS

    def _arp(self, operation: int, sender: bytes, target: bytes, outgoing: bool) -> None:
        if operation == _REQUEST and not outgoing and target in self._own:
            self._count(self._asked, (target, sender, target))
        elif operation == _REPLY and outgoing:
            self._answered.add((sender, target))

    def _count(self, counts: "dict[Seen, list[int]]", seen: "Seen") -> None:
        if seen in counts or len(counts) < _MOST:
            counts.setdefault(seen, [0] * _PHASES)[self.phase] += 1

    # --- whom it keeps from us, and us from whom

    def _unanswered(self, way: _Way) -> "dict[bytes, str]":
        """Who asked for our address on behalf of the far end, with its leg; none where any of them
        was told.
        """
        told = {whom for own, whom in self._answered if own == way.own}
        if self.blind or any(whom[:1] == _MULTICAST for whom in told):
            return {}
        routers = self._routers(way)
        askers = {asker for own, asker, _ in self._asked if own == way.own}
        found = {asker: way.brought_by(asker, routers) for asker in askers}
        found = {asker: leg for asker, leg in found.items() if leg}
        return {} if found.keys() & told else found

    def _routers(self, way: _Way) -> "set[bytes]":
        """Who asked, and is a router by the kernel's word or has the next hop's own MAC address."""
        gateway = self.neighbours.get(way.gateway, (b"", False))[0]
        return {
            asker
            for asker in {asker for _, asker, _ in self._asked}
            if self.neighbours.get(asker, (b"", False))[1]
            or (gateway and self._macs.get(asker) == gateway)
        }

    def mute(self, position: int) -> bool:
        """Whether somebody asked for this node, for a trial's packets, and nobody got an answer."""
        return SOUGHT in self._unanswered(self._ways[position]).values()

    def _sought_in_vain(self, own: bytes, asker: bytes) -> "list[Waiting]":
        """The trials whose packets wait for that answer; once all has been read."""
        if self._vain is None:
            self._vain = {}
            for way in self._ways:
                for one, leg in self._unanswered(way).items():
                    self._vain.setdefault((way.own, one), []).append((way.position, leg))
        return self._vain.get((own, asker), [])

    def _seeks_in_vain(self, hop: bytes, silent: "Silent") -> "list[int]":
        """The trials whose next hop that is, where the kernel has not found it."""
        ways = [way for way in self._ways if way.gateway == hop]
        return [way.position for way in ways if (way.device, hop) in silent]

    def of_hit(self, hit: "dict[str, Any]", silent: "Silent") -> "list[Waiting] | None":
        """(position of the trial, leg) of all that a packet's end, as `nftrace` tells it, is the
        cause of; None where it is nothing of this.
        """
        header = bytes.fromhex(hit["transport"])
        if hit["protocol"] != ICMPV6 or len(header) < 8 + _TRACED or header[0] not in _KINDS:
            return None
        source, destination = packed(6, hit["source"]), packed(6, hit["destination"])
        asks, outgoing = header[0] == SOLICITATION, source in self.here
        shown, other = header[8 : 8 + _TRACED], destination if outgoing else source
        found: list[Waiting] = []
        if asks is outgoing:
            hops = [hop for hop in self._hops if hop[:_TRACED] == shown]
            for hop in hops:
                if len(hops) == 1 or _alike(hop, other):
                    found += [(position, SEEKS) for position in self._seeks_in_vain(hop, silent)]
            return found
        for own in self._own:
            if own[:_TRACED] == shown and (outgoing or _alike(own, destination)):
                found += self._sought_in_vain(own, other)
        return found

    def losses(self, silent: "Silent") -> "list[Loss]":
        """The same as losses, for rules that are known by their counters alone.

        A question that nobody answered may have ended on its way in, or its answer on its way out.
        """
        out = []
        for seen, counts in self._asked.items():
            own, asker, _ = seen
            legs: dict[str, list[int]] = {}
            for position, leg in self._sought_in_vain(own, asker) if len(own) == 16 else ():
                legs.setdefault(leg, []).append(position)
            for leg, trials in legs.items():
                there = _lost(seen[1:], counts, True, SOLICITATION)
                back = _lost((own, asker), counts, False, ADVERTISEMENT)
                out += [Loss(trials, leg, [None], lost) for lost in (there, back)]
        for seen, counts in self._told.items():
            trials = self._seeks_in_vain(seen[0], silent)
            if trials and not self.blind:
                lost = _lost(seen[1:], counts, True, ADVERTISEMENT)
                out.append(Loss(trials, SEEKS, [None], lost))
        return out


def known(entries: "list[tuple[int, bytes]]") -> "dict[bytes, tuple[bytes, bool]]":
    """MAC address, and whether it is a router, of each neighbour of IPv6 by its packed address.

    `entries` are RTM_NEWNEIGH messages.
    """
    out = {}
    for kind, body in entries:
        if kind == RTM_NEWNEIGH:
            found = attributes(body[12:])
            is_router = bool(body[_NEIGHBOUR_FLAGS] & _NTF_ROUTER)
            out[found.get(NDA_DST, b"")] = found.get(_NDA_LLADDR, b""), is_router
    return out


def _alike(address: bytes, other: bytes) -> bool:
    """Whether the latter is the same or its solicited-node multicast address."""
    return address[-_SUFFIX:] == other[-_SUFFIX:]


def _lost(ends: "tuple[bytes, bytes]", counts: "list[int]", incoming: bool, kind: int) -> Lost:
    source, destination = map(text, ends)
    idle, turning, ours, ending = counts
    return Lost(
        ICMPV6,
        source,
        destination,
        ours,
        incoming,
        kind=kind,
        idle=idle + turning,
        doubtful=turning + ending,
    )


def undisputed(counted: "list[Hit]", traced: "list[Hit]") -> "list[Hit]":
    """What counters say, less what a trace knows better, and less the questions that may as well
    have ended at one rule as their answers at another.
    """
    rules: dict[tuple[int, str], set[int]] = {}
    for trial, leg, rule, _ in counted:
        rules.setdefault((trial, leg), set()).add(rule)
    doubtful = {key for key, found in rules.items() if len(found) > 1}
    doubtful |= {hit[:2] for hit in traced}
    return [hit for hit in counted if hit[1] not in _LEGS or hit[:2] not in doubtful]
