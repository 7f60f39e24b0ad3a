"""What was seen of each shot at each vantage point of this node, packet by packet."""

from preflight.agent.deep.answers import Answers
from preflight.agent.deep.shots import DESTINATION, SOURCE, Book, Packet, build
from preflight.agent.inet import packed, text
from preflight.agent.packets import ICMP, ICMPV6, TAG, TCP, TOKEN, UDP
from preflight.agent.watch import kind_of, previous

TYPE_CHECKING = False
if TYPE_CHECKING:
    from preflight.agent.deep.shots import Flow, Place, Trial

FORWARD, REPLY = "forward", "reply"
ERRORS = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}
_ECHO = {(ICMP, 8): FORWARD, (ICMP, 0): REPLY, (ICMPV6, 128): FORWARD, (ICMPV6, 129): REPLY}
_TOO_BIG = {(ICMP, 3, 4): (6, 8), (ICMPV6, 2, 0): (4, 8)}  # where the MTU stands
_LARGEST_MTU = 65535  # larger ones are no router's word
_AT_TAP = {
    (FORWARD, True): "left",
    (FORWARD, False): "arrived",
    (REPLY, True): "answered",
    (REPLY, False): "returned",
}
_AT_SOCKET = {FORWARD: "accepted", REPLY: "received"}
_SAVED, _SAVED_BYTES = 2000, 256
_MOST_ERRORS = 4096
_ROW_PORT = 4  # where a passage has the destination port


class Record:
    """What one trial has come to here. Bit i of a mask is shot i."""

    def __init__(self) -> None:
        self.masks: dict[str, int] = {}
        self.resets: dict[str, int] = {}
        self.passages: dict[str, dict[int, list[object]]] = {}
        self.send_errors: dict[int, int] = {}  # shot -> errno
        # shot, sender, type, code, MTU
        self.errors: set[tuple[int, str, int, int, int]] = set()

    def see(self, vantage: str, shot: int) -> None:
        """That shot, or its answer, was there."""
        self.masks[vantage] = self.masks.get(vantage, 0) | 1 << shot


class Sightings:
    """All trials of a deep look. `records` are in the order of the trials."""

    def __init__(self, trials: "list[Trial]", tag: bytes, ident: int, save: bool) -> None:
        self.book = Book(trials, ident)
        self.records = [Record() for _ in trials]
        self.saved: list[list[object]] = []
        self._save = save
        self._devices: dict[object, str] = {}
        self._trials = trials
        self._tag, self._ident = tag, ident
        self.answers = Answers(trials)
        self._tag_ats = sorted({trial.tag_at for trial in trials if trial.protocol == UDP})

    def at_socket(self, protocol: int, family: int, body: bytes, sender: str) -> None:
        """A packet that got past this node's own firewall, from its transport header on."""
        sender = sender.partition("%")[0]
        if body and body[0] in ERRORS.get(protocol, ()):
            self._error(protocol, family, body, sender)
            return
        told = self.meaning(protocol, body)
        if told is not None:
            leg, token, reset = told
            far = packed(family, sender)
            place = self._place(leg, False, protocol, body, token, far, None)
            if place is not None and not (leg == FORWARD and self._diverted(place, protocol, body)):
                self._note(_AT_SOCKET[leg], place, reset)

    def _diverted(self, place: "Place", protocol: int, body: bytes) -> bool:
        """Whether this node's own rules have led it to another port than it came for."""
        if protocol not in (TCP, UDP):
            return False
        arrived = self.records[place[0]].passages.get("arrived", {}).get(place[1])
        port = self.book.shot(place).port if arrived is None else arrived[_ROW_PORT]
        return port != body[2] << 8 | body[3]

    def at_tap(self, data: bytes, outgoing: bool, device: str, seconds: float) -> None:
        """A packet on one of the devices that count, from its IP header on."""
        try:
            packet = Packet(data)
        except ValueError:
            return
        if packet.body[0] in ERRORS.get(packet.protocol, ()):
            key = self._quotes(packet, outgoing)
            if key is not None:
                self._keep(key, data, outgoing, device, seconds)
            return
        told = self.meaning(packet.protocol, packet.body)
        if told is None:
            return
        leg, token, reset = told
        far = packet.destination if outgoing else packet.source
        place = self._place(leg, outgoing, packet.protocol, packet.body, token, far, packet)
        if place is None:
            return
        vantage = _AT_TAP[leg, outgoing]
        self._note(vantage, place, reset)
        self._keep((vantage, place), data, outgoing, device, seconds)
        if vantage == "answered":
            self.answers.answered(*place, data)
        passages = self.records[place[0]].passages.setdefault(vantage, {})
        if place[1] not in passages:
            passages[place[1]] = _row(packet, device)

    def meaning(self, protocol: int, body: bytes) -> "tuple[str, bytes, bool] | None":
        """Leg, token, and whether it is an RST, of what may be a shot or the answer to one."""
        if protocol == UDP:
            for at in self._tag_ats:
                if body[8 + at : 8 + at + TAG] == self._tag:
                    return FORWARD, body[8 + at + TAG : 8 + at + TAG + TOKEN], False
        elif protocol == TCP:
            kind = kind_of(body[13]) if len(body) >= 14 else None
            if kind == "syn":
                return FORWARD, body[4:8], False
            if kind is not None:
                return REPLY, previous(body[8:12]), kind == "rst"
        elif body[8 : 8 + TAG] == self._tag and (protocol, body[0]) in _ECHO:
            return _ECHO[protocol, body[0]], body[8 + TAG : 8 + TAG + TOKEN], False
        return None

    def _place(
        self,
        leg: str,
        outgoing: bool,
        protocol: int,
        body: bytes,
        token: bytes,
        far: bytes,
        packet: "Packet | None",
    ) -> "Place | None":
        role = SOURCE if (leg == FORWARD) is outgoing else DESTINATION
        flow: Flow | None = None
        if protocol == TCP and not (leg == FORWARD and outgoing):
            from_port, to_port = body[0] << 8 | body[1], body[2] << 8 | body[3]
            flow = (far, from_port, to_port) if leg == FORWARD else (far, to_port, from_port)
        return self.book.find(role, token, flow, packet if leg == FORWARD else None)

    def _note(self, vantage: str, place: "Place", reset: bool) -> None:
        record = self.records[place[0]]
        record.see(vantage, place[1])
        if reset and vantage in ("answered", "received"):
            record.resets[vantage] = record.resets.get(vantage, 0) | 1 << place[1]

    def _quotes(self, packet: Packet, outgoing: bool) -> "object | None":
        """What tells an ICMP error about one of our shots from all others, None for a stranger."""
        if outgoing:
            place = self.book.quoted(packet.family, packet.body[8:], DESTINATION)
        else:
            sender = text(packet.source)
            place = self._error(packet.protocol, packet.family, packet.body, sender)
        return (place, packet.source, packet.body[:2]) if place is not None else None

    def _error(self, protocol: int, family: int, body: bytes, sender: str) -> "Place | None":
        """An ICMP error came in: the shot of ours that it is about."""
        place = self.book.quoted(family, body[8:])
        if place is None:
            return None
        kind, code = body[0], body[1]
        begin, end = _TOO_BIG.get((protocol, kind, code), (0, 0))
        mtu = min(int.from_bytes(body[begin:end], "big"), _LARGEST_MTU)
        errors = self.records[place[0]].errors
        if len(errors) < _MOST_ERRORS:
            errors.add((place[1], sender, kind, code, mtu))
        return place

    def traced(
        self, number: int, source: bytes, destination: bytes, body: bytes
    ) -> "tuple[int, str, int | None] | None":
        """Position of the trial, leg and shot of a packet that the node's firewall ended.

        `body` begins with its transport header and may end with it, `number` is its IPv4
        identification. The shot is None where it may be several; all is where it is none of ours.
        """
        for protocol in (ICMP, ICMPV6, TCP):
            told = self.meaning(protocol, body) if len(body) >= 20 else None
            if told is None:
                continue
            leg, token, _ = told
            for outgoing, far in ((True, destination), (False, source)):
                place = self._place(leg, outgoing, protocol, body, token, far, None)
                if place is not None:
                    return place[0], leg, place[1]
        places = self.book.datagrams(number, source, destination, body) if len(body) >= 8 else []
        if not places:
            return None
        if len(places) > 1:  # on IPv6 the checksum is all that tells them apart
            checksums = [self._checksum(place, source, destination) for place in places]
            exact = [p for p, checksum in zip(places, checksums) if checksum == body[6:8]]
            places = exact or places
        return (places[0][0], FORWARD, places[0][1] if len(places) == 1 else None)

    def _checksum(self, place: "Place", source: bytes, destination: bytes) -> bytes:
        trial = self._trials[place[0]]
        packet = build(trial, place[1], self._tag, self._ident, source, destination)
        return bytes(packet[46:48])

    def _keep(self, key: object, data: bytes, outgoing: bool, device: str, seconds: float) -> None:
        """On the first device that it was seen at, each time that it is."""
        if not self._save or self._devices.setdefault(key, device) != device:
            return
        if len(self.saved) < _SAVED:
            way = "out" if outgoing else "in"
            self.saved.append([seconds, way, device, data[:_SAVED_BYTES].hex()])


def _row(packet: Packet, device: str) -> "list[object]":
    from_port, to_port = packet.ports()
    return [
        device,
        text(packet.source),
        from_port,
        text(packet.destination),
        to_port,
        packet.ttl,
        packet.tos,
        packet.size,
        int(packet.df),
    ]
