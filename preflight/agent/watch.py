"""What comes up from the raw sockets, matched against a look."""

from time import time

from preflight.agent.packets import ICMP, ICMPV6, IDENT_MASK, RST, SYN, TAG, TCP, TOKEN, UDP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from preflight.agent.look import Cell, Look
    from preflight.agent.sockets import RawSocket

_ACK_OF = 1  # an answer acknowledges the SYN's sequence number plus one
_ERRORS = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3)}
_REQUEST = {ICMP: 8, ICMPV6: 128}
_REPLY = {ICMP: 0, ICMPV6: 129}
_MAX_RTT_S = 60.0
MAX_READ = 1 << 16  # more than a buffer holds; strangers' SYNs may come faster than we read


def previous(ack: bytes) -> bytes:
    """The sequence number that an acknowledgement number answers."""
    return ((int.from_bytes(ack, "big") - _ACK_OF) & 0xFFFFFFFF).to_bytes(4, "big")


def kind_of(flags: int) -> "str | None":
    """What a TCP segment is to us: a request, or one of two answers."""
    if flags & RST:
        return "rst"
    if flags & 0x12 == 0x12:
        return "syn_ack"
    return "syn" if flags & SYN else None


class Watcher:
    """Reads the raw sockets dry into the look that is under way."""

    def __init__(self, look: "Look", offsets: "dict[int, int]") -> None:
        self._look = look
        self._offsets = offsets  # UDP destination port -> offset of the tag in the payload

    def read(self, raw: "RawSocket") -> None:
        """Everything that is waiting in `raw`."""
        match = {UDP: self._udp, TCP: self._tcp}.get(raw.protocol, self._icmp)
        for _ in range(MAX_READ):
            got = raw.receive()
            if got is None:
                return
            match(raw, *got)

    def _udp(self, raw: "RawSocket", data: bytes, sender: str, _: float) -> None:
        if len(data) < 8:
            return
        at = 8 + self._offsets.get(data[2] << 8 | data[3], 0) + TAG
        self._accept(raw, data, data[at : at + TOKEN], sender)

    def _accept(
        self,
        raw: "RawSocket",
        data: bytes,
        token: bytes,
        sender: str,
        flow: "tuple[str, int, int] | None" = None,
    ) -> None:
        look = self._look
        place = look.requests.get(token)
        if place is None and flow is not None:
            place = look.request_flows.get(flow)
        if place is None:
            # SYNs carry no tag: one of no pair is somebody else's business.
            if not look.too_late(token) and raw.protocol != TCP:
                look.stray(raw.protocol, data, sender)
        elif look.sight("accepted", place):
            peer = (place >> 6) % look.run.peers
            if look.at and peer not in look.heard:
                look.heard[peer] = time() - look.at
            if sender != look.run.addresses[raw.family][peer]:
                look.sources[place >> 6] = sender

    def _tcp(self, raw: "RawSocket", data: bytes, sender: str, stamp: float) -> None:
        if len(data) < 14:
            return
        look = self._look
        source, port = data[0] << 8 | data[1], data[2] << 8 | data[3]
        kind = kind_of(data[13])
        if kind == "syn":
            self._accept(raw, data, data[4:8], sender, (sender, source, port))
        elif kind is not None:
            place = look.own.get(previous(data[8:12]))
            if place is None:
                place = look.own_flows.get((sender, port, source))
            if place is not None:
                look.sight("received_" + kind, place)
            self._answered(place, previous(data[8:12]), stamp)

    def _answered(self, place: "int | None", token: bytes, stamp: float) -> None:
        look = self._look
        if place is None:
            look.too_late(token)
        elif look.sight("received", place) and stamp:
            rtt = stamp - look.sent_at.get(place, 0)
            if 0 <= rtt < _MAX_RTT_S:
                look.rtt[place >> 6] = min(rtt, look.rtt.get(place >> 6, rtt))

    def _icmp(self, raw: "RawSocket", data: bytes, sender: str, stamp: float) -> None:
        if len(data) < 8:
            return
        kind, code = data[0], data[1]
        if kind in _ERRORS[raw.protocol]:
            self._error(raw.family, data[8:], sender, kind, code)
            return
        token = data[8 + TAG : 8 + TAG + TOKEN]
        if kind == _REQUEST[raw.protocol]:
            self._accept(raw, data, token, sender)
        elif kind == _REPLY[raw.protocol]:
            self._answered(self._look.own.get(token), token, stamp)

    def _error(self, family: int, quoted: bytes, sender: str, kind: int, code: int) -> None:
        header = 40 if family == 6 else (quoted[0] & 15) * 4 if quoted else 0
        if len(quoted) < header + 8 or not header:
            return
        protocol = quoted[6] if family == 6 else quoted[9]
        port = quoted[header + 2] << 8 | quoted[header + 3]
        if protocol in _REQUEST:
            if quoted[header] != _REQUEST[protocol]:
                return  # it is about an answer of ours
            port = 0
        cell = self._look.quoted.get((family, protocol, port))
        if cell is None or not self._of_this_look(cell, quoted, header):
            return
        target = quoted[24:40] if family == 6 else quoted[16:20]
        self._blame(cell, target, sender, kind, code)

    def _of_this_look(self, cell: "Cell", quoted: bytes, header: int) -> bool:
        """False where the quoted packet is known to be an earlier look's, which may have passed."""
        if cell.family == 4:
            return not (quoted[5] ^ self._look.number) & ~IDENT_MASK & 0xFF
        token = quoted[header + cell.token_at :][: cell.width]
        if len(token) < cell.width or (cell.protocol == UDP and not self._look.taps):
            return True
        return token in self._look.own

    def _blame(self, cell: "Cell", target: bytes, sender: str, kind: int, code: int) -> None:
        peer = self._look.run.numbers[cell.family].get(target)
        if peer is not None and peer in cell.sends_to:
            self._look.error(cell.number * self._look.run.peers + peer, sender, kind, code)
