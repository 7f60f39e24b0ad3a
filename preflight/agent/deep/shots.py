"""Shots as bytes: building them, and knowing them, their answers and what quotes them. Pure.

A trial is a list of shots from one node to another; both ends read the same list. Its tokens are
those of a look's cell, with the trial's number in place of the probe's, so a deep look needs a
number that no look of the run had.
"""

import struct

from preflight.agent import packets
from preflight.agent.inet import packed
from preflight.agent.packets import ICMP, ICMPV6, TAG, TCP, UDP, Template, checksum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Place = tuple[int, int]  # position of a trial among this node's, position of a shot in it
    Flow = tuple[bytes, int, int]  # far address, the shots' source port, their destination port

SOURCE, DESTINATION = "source", "destination"
_REQUESTS = {ICMP: 8, ICMPV6: 128}
_LARGEST = 65535  # bytes of an IP packet
_DONT_FRAGMENT = 0x4000
_CHECKSUM_AT = {UDP: 6, TCP: 16, ICMP: 2, ICMPV6: 2}
_TRIAL_STEP, _LOOK_STEP = 256, 40503  # in IPv4 identifications


class Shot:
    """One packet. `source_port` is the sequence number for ICMP; `size` is the IP packet's."""

    __slots__ = ("df", "form", "port", "size", "source_port", "tos", "ttl")

    def __init__(
        self, form: str, source_port: int, port: int, ttl: int, size: int, df: bool, tos: int = 0
    ) -> None:
        self.form = form
        self.source_port = source_port
        self.port = port
        self.ttl = ttl
        self.size = size
        self.df = df
        self.tos = tos


class Trial:
    """One trial, as this node has to send or expect it."""

    def __init__(self, fields: "dict[str, Any]", key: bytes, look: int) -> None:
        self._look = look
        self.number: int = fields["id"]
        self.role: str = fields["role"]
        self.family: int = fields["family"]
        self.protocol: int = fields["protocol"]
        self.port: int = fields["port"]
        self.tag_at: int = fields["tag_at"]
        self.own: str = fields["own"]
        self.far: str = fields["far"]
        self.again: int | None = fields.get("again")
        self.back: int = fields.get("back", 0)
        self.ask: int = fields.get("ask", 0)
        self.two_way = self.protocol != UDP
        self._forms = {name: Template.of(form) for name, form in fields["forms"].items()}
        self.shots = [self._shot(row) for row in fields["shots"]]
        pair = (fields["source"], fields["destination"])
        width = packets.token_width(self.protocol)
        found = packets.tokens(key, look, self.family, self.number, pair, len(self.shots))
        self.tokens = [token[:width] for token in found]

    def _shot(self, row: "list[Any]") -> Shot:
        form, source_port, port, ttl, size, df, *more = row
        least = len(self.template(form).packet)
        return Shot(form, source_port, port, ttl, min(max(size, least), _LARGEST), bool(df), *more)

    def template(self, form: str) -> Template:
        """The bytes of that form; protocols with one form have it whatever is asked for."""
        return self._forms.get(form) or self._forms["plain"]

    def token_at(self, form: str) -> "tuple[int, int]":
        """Offset behind the IP header, and width, of the token."""
        template = self.template(form)
        return template.token - template.header, packets.token_width(self.protocol)

    def identification(self, ident: int, shot: int) -> int:
        """The IPv4 identification of one shot, by which an error that quotes little names it.

        `ident` is the run's. Shots with the same one differ in protocol, address or ports, or their
        trials have more than 256 shots. Never 0, which the kernel would replace.
        """
        first = ident + _LOOK_STEP * self._look + _TRIAL_STEP * self.number
        return (first + shot) % 0xFFFF + 1

    @property
    def every(self) -> int:
        """The bit set of all shots."""
        return (1 << len(self.shots)) - 1


def build(
    trial: Trial, shot: int, tag: bytes, ident: int, source: bytes, destination: bytes
) -> bytearray:
    """The whole IP packet. Zeros make up its size; the kernel fills in IPv4's header checksum, and
    its source where that is zeros.
    """
    wanted = trial.shots[shot]
    template = trial.template(wanted.form)
    l4, protocol, size = template.header, template.protocol, wanted.size
    packet = bytearray(template.packet) + bytes(size - len(template.packet))
    addresses = source + destination
    if l4 == 40:
        struct.pack_into("!H", packet, 4, size - 40)
        packet[0], packet[1] = 0x60 | wanted.tos >> 4, (wanted.tos & 15) << 4
        packet[7] = wanted.ttl
        packet[8:40] = addresses
    else:
        number = trial.identification(ident, shot)
        packet[1] = wanted.tos
        fragment = _DONT_FRAGMENT if wanted.df else 0
        struct.pack_into("!HHHB", packet, 2, size, number, fragment, wanted.ttl)
        packet[10:20] = bytes(2) + addresses
    token = trial.tokens[shot]
    packet[template.token : template.token + len(token)] = token
    if protocol != TCP:
        packet[template.token - TAG : template.token] = tag
    if protocol in _REQUESTS:
        # One of its own for each trial: rules that translate addresses see a flow's first packet.
        own = (ident + 1 + trial.number) & 0xFFFF
        struct.pack_into("!HH", packet, l4 + 4, own, wanted.source_port)
    else:
        struct.pack_into("!HH", packet, l4, wanted.source_port, wanted.port)
    if protocol == UDP:
        struct.pack_into("!H", packet, l4 + 4, size - l4)
    at = l4 + _CHECKSUM_AT[protocol]
    packet[at : at + 2] = bytes(2)
    if protocol != UDP or l4 == 40:  # none on IPv4, as Cilium sends it
        # ICMP alone sums up no addresses.
        head = b"" if protocol == ICMP else addresses + struct.pack("!HH", protocol, size - l4)
        struct.pack_into("!H", packet, at, checksum(head + bytes(packet[l4:])) or 0xFFFF)
    return packet


class Packet:
    """An IP packet as a tap sees it. `df` is False and `ident` 0 on IPv6, which has neither."""

    __slots__ = (
        "body",
        "destination",
        "df",
        "family",
        "ident",
        "protocol",
        "size",
        "source",
        "tos",
        "ttl",
    )

    def __init__(self, data: bytes) -> None:
        """Raises ValueError for what is no IP packet with eight bytes of payload."""
        self.family = data[0] >> 4 if data else 0
        header = 40 if self.family == 6 else (data[0] & 15) * 4 if self.family == 4 else 0
        if header < 20 or len(data) < header + 8:
            raise ValueError("no IP packet of ours")
        self.body = data[header:]
        if self.family == 6:
            self.size = 40 + (data[4] << 8 | data[5])
            self.protocol, self.ttl = data[6], data[7]
            self.tos = (data[0] & 15) << 4 | data[1] >> 4
            self.source, self.destination = data[8:24], data[24:40]
            self.df, self.ident = False, 0
        else:
            self.tos = data[1]
            self.size, self.ident = data[2] << 8 | data[3], data[4] << 8 | data[5]
            self.df = bool(data[6] & _DONT_FRAGMENT >> 8)
            self.ttl, self.protocol = data[8], data[9]
            self.source, self.destination = data[12:16], data[16:20]

    def ports(self) -> "tuple[int, int]":
        """Source and destination port; of an echo its sequence number, and 0."""
        if self.protocol in _REQUESTS:
            return _two(self.body, 6), 0
        return _two(self.body, 0), _two(self.body, 2)


class Book:
    """All shots of a deep look that this node has a part in."""

    def __init__(self, trials: "list[Trial]", ident: int) -> None:
        self._trials = trials
        self._ident = ident
        self._far = [packed(trial.family, trial.far) for trial in trials]
        self._tokens: dict[str, dict[bytes, Place]] = {SOURCE: {}, DESTINATION: {}}
        self._token_ats: dict[tuple[int, int], set[tuple[int, int]]] = {}
        self._ports: dict[tuple[int, int, int, int], list[Place]] = {}
        self._numbers: dict[tuple[int, int], list[Place]] = {}  # protocol, IPv4 identification
        self._others: dict[tuple[str, Flow, bytes], Place] = {}  # in place of a token
        self._taken: set[tuple[str, Place]] = set()
        for position, trial in enumerate(trials):
            for i, shot in enumerate(trial.shots):
                self._enter(trial, shot, (position, i))

    def _enter(self, trial: Trial, shot: Shot, place: "Place") -> None:
        self._tokens[trial.role][trial.tokens[place[1]]] = place
        ports = trial.family, trial.protocol, shot.source_port, shot.port
        self._ports.setdefault(ports, []).append(place)
        if trial.family == 4:
            self._numbers.setdefault((trial.protocol, self._number(place)), []).append(place)
        places = self._token_ats.setdefault((trial.family, trial.protocol), set())
        places.add(trial.token_at(shot.form))

    def _number(self, place: "Place") -> int:
        return self._trials[place[0]].identification(self._ident, place[1])

    def shot(self, place: "Place") -> Shot:
        """The shot at that place."""
        return self._trials[place[0]].shots[place[1]]

    def tokens(self) -> "list[bytes]":
        """Those of every shot."""
        return [token for known in self._tokens.values() for token in known]

    def find(
        self,
        role: str,
        token: bytes,
        flow: "Flow | None" = None,
        packet: "Packet | None" = None,
    ) -> "Place | None":
        """The shot that a packet is, or answers, at this end of a trial.

        A firewall may rewrite a SYN's sequence number: then its `flow` tells, with what else is
        known of a SYN (`packet`). What this node sends has nobody rewritten yet: no flow for that.
        """
        place = self._tokens[role].get(token)
        if flow is None:
            return place
        if place is None:
            place = self._others.get((role, flow, token)) or self._guess(role, flow, packet)
            if place is None:
                return None
            self._others[(role, flow, token)] = place
        self._taken.add((role, place))
        return place

    def _guess(self, role: str, flow: "Flow", packet: "Packet | None") -> "Place | None":
        """Of the flow's shots that have not been seen by their token the one that it must be: the
        one of its identification, or of its size; then the one with the largest TTL, because where
        one shot gets to, those with a larger TTL get as well.
        """
        far, source_port, port = flow
        family = family_of(far)
        places = [
            place
            for place in self._ports.get((family, TCP, source_port, port), ())
            if self._trials[place[0]].role == role
            and self._far[place[0]] == far
            and (role, place) not in self._taken
        ]
        if packet is not None:
            by_number = [p for p in places if family == 4 and self._number(p) == packet.ident]
            by_size = [p for p in places if self.shot(p).size == packet.size]
            places = by_number or by_size or places
        return max(places, key=lambda place: self.shot(place).ttl) if places else None

    def quoted(self, family: int, data: bytes, role: str = SOURCE) -> "Place | None":
        """The shot that an ICMP error quotes from its IP header on, as far as it does: one that
        this node sent, or with the other `role` one that it got.

        None where it quotes something else, or leaves open which of several shots.
        """
        try:
            packet = Packet(data)
        except ValueError:
            return None
        request = _REQUESTS.get(packet.protocol, packet.body[0])
        if packet.family != family or packet.body[0] != request:
            return None  # the latter is about an answer
        for at, width in self._token_ats.get((family, packet.protocol), ()):
            place = self._tokens[role].get(packet.body[at : at + width])
            if place is not None:
                return place
        if family == 4:
            places = self._numbers.get((packet.protocol, packet.ident), [])
        else:
            places = self._ports.get((family, packet.protocol, *packet.ports()), [])
        places = [place for place in places if self._may_be(place, packet, role)]
        if len(places) > 1:
            places = [place for place in places if self.shot(place).size == packet.size]
        return places[0] if len(places) == 1 else None

    def _may_be(self, place: "Place", packet: Packet, role: str) -> bool:
        """Whether that shot may be quoted so; address translation may have left its traces."""
        shot, trial = self.shot(place), self._trials[place[0]]
        at, width = trial.token_at(shot.form)
        # A firewall may rewrite a SYN's, and quote the rewritten one.
        another = trial.protocol != TCP and len(packet.body) >= at + width
        if another or trial.role != role:
            return False
        far = packet.destination if role == SOURCE else packet.source
        same_far = far == self._far[place[0]]
        if family_of(packet.destination) == 6:
            return same_far
        return same_far or packet.ports() == (shot.source_port, shot.port)

    def datagrams(
        self, number: int, source: bytes, destination: bytes, header: bytes
    ) -> "list[Place]":
        """The UDP shots that a packet may be of which the UDP header is known, and the IPv4
        identification (`number`): one, where it is one of ours and nobody has made much else of it.
        """
        family = family_of(source)
        ports = _two(header, 0), _two(header, 2)
        places = []
        for place in self._ports.get((family, UDP, *ports), ()):
            trial, far = self._trials[place[0]], self._far[place[0]]
            same_far = far == (destination if trial.role == SOURCE else source)
            if (self._number(place) == number) if family == 4 else same_far:
                places.append(place)
        if not places and family == 4:  # of those whose ports were rewritten on the way
            known = self._numbers.get((UDP, number), [])
            places = [p for p in known if self.shot(p).port in ports or source == self._far[p[0]]]
        return places


def family_of(address: bytes) -> int:
    """4 or 6."""
    return 4 if len(address) == 4 else 6


def _two(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
