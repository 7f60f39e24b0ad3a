"""One look: what this node has to send and to expect, and what has been seen of it so far.

A look is a list of cells; a cell is one probe over one family, to the peers in `out` and from the
peers in `in`. What a vantage point saw of one cell and peer is a bit set over the probe's sequence
numbers, kept at slot `cell * peers + peer`. `slot << 6 | sequence` is the place of one probe.
"""

from preflight.agent import packets
from preflight.agent.inet import packed
from preflight.agent.packets import TCP, UDP, Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from preflight.agent.packets import Patcher

    Shot = tuple[Patcher, tuple[bytes, int]]  # and its aim

OUT = ("sent", "left", "returned", "received")  # watched at the source of a cell
IN = ("arrived", "accepted", "answered")  # watched at its destination
KINDS = ("received_rst", "received_syn_ack", "answered_rst", "answered_syn_ack")
_SAMPLES, _SAMPLE = 4, 128  # packets of one protocol, each of another sender; bytes of each
_PROOFS = ("accepted", "received")


class Run:
    """What holds for all looks of a run: who this node is, who its peers are, what is probed."""

    def __init__(self, key: bytes, me: int, addresses: "dict[int, list[str]]") -> None:
        self.key = key
        self.me = me
        self.addresses = addresses  # family -> address of each peer, "" where it has none
        self.peers = max(map(len, addresses.values()))
        self.past: dict[bytes, tuple[str, int, int, int]] = {}  # see `Look.recall`
        self.looks: list[Look] = []  # not in `past` yet: most need never be
        self.tag = packets.run_tag(key)
        self.ident = packets.run_ident(key)
        self.numbers = {
            family: {packed(family, a): i for i, a in enumerate(known) if a}
            for family, known in addresses.items()
        }

    def forget(self) -> None:
        """Let go of the looks, which hold this run in turn."""
        self.past.clear()
        self.looks.clear()


class Cell:
    """One probe over one family, as this node has to send and expect it."""

    def __init__(self, number: int, fields: "dict[str, Any]") -> None:
        self.number = number
        self.probe: int = fields["probe"]
        self.family: int = fields["family"]
        self.protocol: int = fields["protocol"]
        self.port: int = fields["port"]
        self.count: int = fields["count"]
        self.full: int = fields["full"]
        self.flows: int = fields["flows"]
        self.gap: float = fields["gap"]
        self.within: tuple[int, int] | None = fields.get("ports")  # of UDP sources; None: any
        self.out: list[int] = fields["out"]
        self.come: list[int] = fields["in"]
        self.sends_to = set(self.out)
        self.inert: set[int] = set(fields["inert"])
        self.plain = Template.of(fields["template"])
        self.harmless = Template.of(fields["harmless"])
        self.planned = (1 << self.count) - 1
        self.width = packets.token_width(self.protocol)
        self.token_at = self.plain.token - self.plain.header
        self.two_way = self.protocol != UDP

    def tokens(self, key: bytes, look: int, pair: "tuple[int, int]") -> "list[bytes]":
        """The token of each probe of a pair."""
        found = packets.tokens(key, look, self.family, self.probe, pair, self.count)
        return found if self.width == packets.TOKEN else [token[: self.width] for token in found]

    def firsts(self, key: bytes, look: int, pair: "tuple[int, int]") -> "list[int]":
        """The source port, or ICMP sequence number, of each probe of a pair."""
        if self.protocol == UDP:
            ports = packets.udp_ports(key, self.family, self.probe, pair, self.flows, self.within)
            return [ports[i % self.flows] for i in range(self.count)]
        if self.protocol == TCP:
            return packets.tcp_ports(key, look, self.family, self.probe, pair, self.count)
        return list(range(1, self.count + 1))


class Flight:
    """The probes of one cell to one peer, ready to be patched and sent."""

    __slots__ = (
        "address",
        "firsts",
        "full",
        "peer",
        "refused",
        "slot",
        "small",
        "target",
        "tokens",
    )

    def __init__(
        self, slot: int, peer: int, address: str, firsts: "list[int]", tokens: "list[bytes]"
    ) -> None:
        self.slot = slot
        self.peer = peer
        self.address = address
        self.target = (address, 0)
        self.refused = 0  # errno, where routing forbids what a raw socket may send
        self.firsts = firsts
        self.tokens = tokens
        self.small: Shot | None = None
        self.full: Shot | None = None


class Look:
    """The state of one look."""

    def __init__(self, run: Run, frame: "dict[str, Any]") -> None:
        self.run = run
        self.number: int = frame["number"]
        self.rate: float = frame["rate"]
        self.taps: bool = frame["taps"]
        self.settle: bool = frame["settle"]
        self.at: float = frame.get("at", 0.0)  # a meeting's time in seconds since the epoch
        self.heard: dict[int, float] = {}  # peer -> when its first probe came, from then on
        cells = frame["cells"]
        self.cells = [Cell(i, fields) for i, fields in enumerate(cells)]
        self.seen = {v: [0] * (len(cells) * run.peers) for v in OUT + IN + KINDS}
        self.missing = 0  # proofs that have not come in yet
        self.sent_at: dict[int, float] = {}  # place -> seconds since the epoch
        self.rtt: dict[int, float] = {}  # slot -> least seconds
        self.send_errors: dict[tuple[int, int], int] = {}  # slot, errno -> bit set
        self.errors: dict[int, tuple[str, int, int]] = {}  # slot -> sender, type, code
        self.sources: dict[int, str] = {}  # slot -> a sender that is not the peer's address
        self.lost: set[tuple[str, int]] = set()  # vantage, cell: not watched
        self.requests: dict[bytes, int] = {}  # what peers send: token -> place
        self.own: dict[bytes, int] = {}  # what we send: token -> place
        self.request_flows: dict[tuple[str, int, int], int] = {}
        self.own_flows: dict[tuple[str, int, int], int] = {}
        self.quoted: dict[tuple[int, int, int], Cell] = {}
        self.late: set[tuple[int, int, str]] = set()  # cell, peer, in or out
        self.strays = 0
        self.samples: list[tuple[int, str, str]] = []  # protocol, sender, hexadecimal
        self.flights: dict[int, list[Flight]] = {}  # cell -> one for each peer in `out`
        for cell in self.cells:
            self.quoted[(cell.family, cell.protocol, cell.port)] = cell
            self._expect(cell)
            self.flights[cell.number] = [self._flight(cell, peer) for peer in self._turn(cell.out)]

    def _turn(self, peers: "list[int]") -> "list[int]":
        # From this node on, so that not every node begins with the same destination.
        return sorted(peers, key=lambda peer: (peer - self.run.me) % self.run.peers)

    def _expect(self, cell: Cell) -> None:
        run = self.run
        addresses = run.addresses[cell.family]
        for peer in cell.come:
            pair = (peer, run.me)
            start = (cell.number * run.peers + peer) << 6
            for i, token in enumerate(cell.tokens(run.key, self.number, pair)):
                self.requests[token] = start + i
            if cell.protocol == TCP:
                for i, port in enumerate(cell.firsts(run.key, self.number, pair)):
                    self.request_flows[(addresses[peer], port, cell.port)] = start + i
            self.missing += cell.count

    def _flight(self, cell: Cell, peer: int) -> Flight:
        run = self.run
        pair = (run.me, peer)
        slot = cell.number * run.peers + peer
        flight = Flight(
            slot,
            peer,
            run.addresses[cell.family][peer],
            cell.firsts(run.key, self.number, pair),
            cell.tokens(run.key, self.number, pair),
        )
        if cell.two_way or self.taps:
            for i, token in enumerate(flight.tokens):
                self.own[token] = slot << 6 | i
        if cell.protocol == TCP:
            for i, port in enumerate(flight.firsts):
                self.own_flows[(flight.address, port, cell.port)] = slot << 6 | i
        if cell.two_way:
            self.missing += cell.count
        return flight

    def cell_of(self, slot: int) -> Cell:
        """The cell that a slot belongs to."""
        return self.cells[slot // self.run.peers]

    def sight(self, vantage: str, place: int) -> bool:
        """The probe at `place` was seen at `vantage`; True where that is news."""
        seen = self.seen[vantage]
        slot, bit = place >> 6, 1 << (place & 63)
        if seen[slot] & bit:
            return False
        seen[slot] |= bit
        if vantage in _PROOFS:
            self.missing -= 1
        return True

    def too_late(self, token: bytes) -> bool:
        """A packet that is not of this look: is it of an earlier one, and was it waited for?"""
        run = self.run
        while run.looks:
            run.looks.pop().recall(run.past)
        known = run.past.get(token)
        if known is None:
            return False
        side, family, probe, peer = known
        for cell in self.cells:
            if side and (cell.family, cell.probe) == (family, probe):
                self.late.add((cell.number, peer, side))
        return True

    def stray(self, protocol: int, data: bytes, sender: str) -> None:
        """A packet with the run's tag that this node was never to get."""
        self.strays += 1
        senders = [kept[1] for kept in self.samples if kept[0] == protocol]
        if len(senders) < _SAMPLES and sender not in senders:
            self.samples.append((protocol, sender, data[:_SAMPLE].hex()))

    def remember(self) -> None:
        """Keep what was expected: what is missing may come yet, and is then late, not lost."""
        self.run.looks.append(self)

    def recall(self, past: "dict[bytes, tuple[str, int, int, int]]") -> None:
        """Add this look's tokens to `past`: (in or out, "" where it came; family, probe, peer)."""
        sides = (("in", "accepted", self.requests), ("out", "received", self.own))
        for side, vantage, tokens in sides:
            seen = self.seen[vantage]
            for token, place in tokens.items():
                cell = self.cell_of(place >> 6)
                if side == "out" and not cell.two_way:
                    continue
                peer = (place >> 6) % self.run.peers
                missing = not seen[place >> 6] >> (place & 63) & 1
                past[token] = (side if missing else "", cell.family, cell.probe, peer)

    def error(self, slot: int, sender: str, kind: int, code: int) -> None:
        """An ICMP error quotes a probe of `slot`; a port-unreachable tells less than any other."""
        known = self.errors.get(slot)
        if known is None or _port_unreachable(self.cell_of(slot), known):
            self.errors[slot] = (sender, kind, code)


def _port_unreachable(cell: Cell, error: "tuple[str, int, int]") -> bool:
    return error[1:] == ((3, 3) if cell.family == 4 else (1, 4))
