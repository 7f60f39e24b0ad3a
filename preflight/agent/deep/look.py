"""A deep look: shots between this node and its peers, each unlike the others, watched at both ends.

What `look` is for many pairs and a few alike probes, this is for a few pairs and as many questions.
It comes to a node only where there is something to explain.
"""

import _socket as socket
from time import monotonic

from preflight.agent.deep.asked import ask, request_marks, request_of
from preflight.agent.deep.inside import Counted, Counters, Inside, KernelDrops, Rules
from preflight.agent.deep.losses import losses, translations
from preflight.agent.deep.marks import marks
from preflight.agent.deep.neighbours import ENDING, OURS, TURNING, Discovery, known, undisputed
from preflight.agent.deep.shooter import Shooter
from preflight.agent.deep.shotfilter import ShotFilters
from preflight.agent.deep.shots import DESTINATION, SOURCE, Trial
from preflight.agent.deep.sightings import Sightings
from preflight.agent.host import addresses
from preflight.agent.inet import packed, text
from preflight.agent.packets import ICMP, ICMPV6, TCP
from preflight.agent.policed import Policed
from preflight.agent.route import Routes, name_of
from preflight.agent.sockets import SO_TIMESTAMPNS, RawSocket, stamp_of
from preflight.agent.taps import Devices, PacketSocket, failed_neighbours, neighbours
from preflight.agent.watch import MAX_READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from preflight.agent.deep.losses import Loss
    from preflight.agent.deep.sightings import Record
    from preflight.agent.route import Route

_BUFFER = 4 << 20  # bytes
_SNAP, _ANCILLARY = 512, 64
_MOST_DEVICES = 8  # of one peer; a bridge may have a port for each of a hundred containers
_AT_DEVICES = {SOURCE: ("left", "returned"), DESTINATION: ("arrived", "answered")}
_OUT = {SOURCE: ("sent", "left"), DESTINATION: ("accepted", "answered")}
_AT_SOCKETS = {SOURCE: "received", DESTINATION: "accepted"}
_ANSWERS = ("answered", "returned", "received")
_ERRORS = {4: ICMP, 6: ICMPV6}
_AGAIN_S = 0.2
_TAP = (0, 0)  # in place of a raw socket's family and protocol


class ShotTap(PacketSocket):
    """The devices' vantage points of a deep look."""

    def __init__(self, program: bytes, devices: Devices) -> None:
        super().__init__(program, _BUFFER)
        self._devices = devices
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def read(self, seen: Sightings, discovery: Discovery) -> None:
        """Everything that is waiting."""
        for _ in range(MAX_READ):
            try:
                data, ancillary, _, (device, _, kind, *_) = self._socket.recvmsg(_SNAP, _ANCILLARY)
            except BlockingIOError:
                return
            if self._devices.counts(device, kind):
                outgoing = kind == socket.PACKET_OUTGOING
                if not discovery.at_tap(data, outgoing):
                    seen.at_tap(data, outgoing, device, stamp_of(ancillary))


class Deep:
    """One deep look. `breathe` lets the controller be heard while something takes its time."""

    def __init__(
        self,
        frame: "dict[str, Any]",
        key: bytes,
        tag: bytes,
        ident: int,
        breathe: "Callable[[], None]",
    ) -> None:
        self.number: int = frame["number"]
        self._rate: float = frame["rate"]
        self._run: str = frame["trace"]
        self._pcap: bool = frame["pcap"]
        self._tag = tag
        self._trials = [Trial(fields, key, self.number) for fields in frame["trials"]]
        self._seen = Sightings(self._trials, tag, ident, self._pcap)
        self._routes = Routes()
        self._discovery = Discovery(self._trials, self._routes)
        self._shooter = Shooter(tag, ident, self._routes)
        self._raw: dict[tuple[int, int], RawSocket] = {}
        self._policed = Policed(sockets=2)  # the looks' stay open
        self._tap: ShotTap | None = None
        self._breathe = breathe
        self._inside = Inside([], breathe)
        self._rules: Rules | None = None
        self._counted: Counted | None = None
        self._blind: set[tuple[int, int]] = set()
        self._silent: set[tuple[int, bytes]] = set()
        self._next = 0.0

    @property
    def tokens(self) -> "list[bytes]":
        """Those of every shot that this node sends or expects."""
        return self._seen.book.tokens()

    # --- watching

    def open(self) -> None:
        """Begin to watch. What this node cannot watch is left out of the report's masks."""
        filters = self._filters()
        for family, protocol in self._wanted():
            try:
                raw = RawSocket(family, protocol, filters, _BUFFER)
            except OSError:
                continue
            self._raw[(family, protocol)] = raw
        self._policed.lost(self._raw.values())
        devices = Devices.here()
        try:
            self._tap = ShotTap(filters.tap(), devices)
        except OSError:
            pass
        self._seen.answers.open()
        if self._run:
            self._inside = self._look_inside(devices)
            self._inside.open()

    def _filters(self) -> ShotFilters:
        tcp = [shot for trial in self._trials if trial.protocol == TCP for shot in trial.shots]
        return ShotFilters(
            [trial.tag_at for trial in self._trials],
            [shot.port for shot in tcp],
            [shot.source_port for shot in tcp],
            self._tag,
            self._discovery.addresses if self._run else (),
        )

    def _wanted(self) -> "list[tuple[int, int]]":
        """Family and protocol of the raw sockets that it takes."""
        wanted = set()
        for trial in self._trials:
            if trial.two_way or trial.role == DESTINATION:
                wanted.add((trial.family, trial.protocol))
            if trial.role == SOURCE:
                wanted.add((trial.family, _ERRORS[trial.family]))
        return sorted(wanted)

    def _look_inside(self, devices: Devices) -> Inside:
        ways = []
        here = addresses()
        self._discovery.here = set(here)
        for trial in self._trials:
            # What leaves by one device may come in by another: the one that has the address.
            for index in (self._way(trial).device, here.get(packed(trial.family, trial.own), 0)):
                try:
                    device = socket.if_indextoname(index)
                except OSError:
                    continue  # no route, or a device that has just gone
                ways += devices.below(device)[:_MOST_DEVICES]
        names = list(dict.fromkeys(ways))
        pairs = list(dict.fromkeys((trial.own, trial.far) for trial in self._trials))
        all_marks = marks(self._trials, self._tag) + self._discovery.marks()
        all_marks += request_marks(self._trials)
        self._rules = Rules(self._run, all_marks, names)
        self._counted = Counted(self._losses)
        pieces = [self._counted, KernelDrops(), Counters(pairs, names), self._rules]
        return Inside(pieces, self._breathe)

    def read(self) -> None:
        """Everything that is waiting; the taps first, which know more of a packet."""
        self._read_sockets()
        self._inside.read()

    def _read_sockets(self) -> None:
        if self._tap is not None:
            self._tap.read(self._seen, self._discovery)
        for raw in self._raw.values():
            for _ in range(MAX_READ):
                got = raw.receive()
                if got is None:
                    break
                self._seen.at_socket(raw.protocol, raw.family, *got[:2])
        self._seen.answers.read()

    def settle(self) -> None:
        """The idle window is over: what was lost and what moved in it had nothing to do with us."""
        self.read()
        self._discovery.phase = TURNING
        self._inside.settle()
        self.read()
        self._discovery.phase = OURS
        self._lost()

    def _lost(self) -> "set[tuple[int, int]]":
        """Which sockets lost packets since last asked: family and protocol of raw ones, `_TAP`."""
        lost = {(raw.family, raw.protocol) for raw in self._policed.lost(self._raw.values())}
        if self._tap is not None and self._tap.lost():
            lost.add(_TAP)
        return lost

    @property
    def complete(self) -> bool:
        """Nothing more can come."""
        return not self._seen.answers.pending and all(
            self._done(trial, record) for trial, record in zip(self._trials, self._seen.records)
        )

    def _done(self, trial: Trial, record: "Record") -> bool:
        if trial.role == DESTINATION:
            wanted = ("accepted", "answered") if trial.two_way else ("accepted",)
            return all(record.masks.get(vantage, 0) == trial.every for vantage in wanted)
        # Nothing but an error tells the source that a one-way shot has ended.
        done = record.masks.get("received", 0)
        for shot in [*record.send_errors, *(error[0] for error in record.errors)]:
            done |= 1 << shot
        return done == trial.every

    def _way(self, trial: Trial) -> "Route":
        return self._routes.to(trial.family, trial.far)

    def send(self, idle: "Callable[[float], bool]") -> None:
        """All shots of this node, then its requests; `idle(seconds)` watches meanwhile, False ends
        it.
        """
        self._shooter.run(self._trials, self._seen.records, self._rate, idle)
        ask(self._trials, idle)

    def again(self) -> None:
        """Time and again while it waits: a kernel that got no answer three times stops asking for
        a neighbour until there is another packet for it. Answers that are lost go again, too.
        """
        self._seen.answers.send()
        if monotonic() >= self._next:
            self._next = monotonic() + _AGAIN_S
            self._shooter.again(self._trials)

    # --- telling

    def report(self) -> "dict[str, Any]":
        """The report frame, as `preflight.wire` has it."""
        self.read()
        self._discovery.phase = ENDING
        self._blind = self._lost()
        self._discovery.blind = self._tap is None or _TAP in self._blind
        try:
            entries = neighbours()
        except OSError:
            entries = []
        self._silent = failed_neighbours(entries)
        self._discovery.neighbours = known(entries)
        node = self._inside.tell() if self._run else {"trace": "not asked"}
        parts = [
            self._part(trial, record) for trial, record in zip(self._trials, self._seen.records)
        ]
        for number, most in self._seen.answers.sent.items():
            parts[number]["back"] = [most, sorted(self._seen.answers.errors.get(number, ()))]
        for number, part in enumerate(parts):
            part["mute"] = self._discovery.mute(number)
        for number, leg, rule, shot in self._hits():
            parts[number]["hits"].append([leg, rule, shot])
        out = {"t": "report", "number": self.number, "trials": parts, "node": node}
        if self._pcap:
            out["pcap"] = self._seen.saved
        return out

    def _hits(self) -> "list[tuple[int, str, int, int | None]]":
        """Position of the trial, leg, position of the rule, shot."""
        out: dict[tuple[int, str, int, int | None], None] = {}
        for position, hit in self._rules.hits if self._rules is not None else ():
            source, destination = hit["source"], hit["destination"]
            if source and destination:
                waiting = self._discovery.of_hit(hit, self._silent)
                if waiting is not None:
                    out.update(((*who, position, None), None) for who in waiting)
                    continue
                ends = [packed(6 if ":" in a else 4, a) for a in (source, destination)]
                header = bytes.fromhex(hit["transport"])
                request = request_of(self._trials, hit["protocol"], header)
                if request is not None:
                    out[(*request, position, None)] = None
                    continue
                found = self._seen.traced(hit["ident"], ends[0], ends[1], header)
                if found is not None:
                    out[(found[0], found[1], position, found[2])] = None
        counted = self._counted.hits if self._counted is not None else []
        return [*out, *undisputed(counted, list(out))]

    def _losses(self) -> "list[Loss]":
        self._read_sockets()
        watched = [set(self._watched(trial)) - set(self._unseen(trial)) for trial in self._trials]
        found = losses(self._trials, self._seen.records, watched)
        ways = (self._way(trial).source for trial in self._trials)
        picked = [text(source) if source else "" for source in ways]
        found += translations(self._trials, self._seen.records, watched, picked)
        return found + self._discovery.losses(self._silent)

    def _part(self, trial: Trial, record: "Record") -> "dict[str, Any]":
        part: dict[str, Any] = {
            "id": trial.number,
            "masks": {vantage: record.masks.get(vantage, 0) for vantage in self._watched(trial)},
            "resets": record.resets,
            "lost": self._unseen(trial),
            "passages": {
                vantage: [[shot, *row] for shot, row in sorted(rows.items())]
                for vantage, rows in record.passages.items()
            },
            "hits": [],
            **self._next_hop(trial, record),
        }
        if trial.role == SOURCE:
            part["send_errors"] = sorted(record.send_errors.items())
            part["errors"] = sorted(record.errors)
        return part

    def _unseen(self, trial: Trial) -> "list[str]":
        """Where packets were lost to us alone."""
        out = [*_AT_DEVICES[trial.role]] if _TAP in self._blind else []
        if (trial.family, trial.protocol) in self._blind:
            out.append(_AT_SOCKETS[trial.role])
        if trial.role == SOURCE and (trial.family, _ERRORS[trial.family]) in self._blind:
            out.append("errors")
        return out

    def _watched(self, trial: Trial) -> "list[str]":
        """The vantage points at this end; a one-way shot has no answer to watch for."""
        watched = ["sent"] if trial.role == SOURCE else []
        watched += _AT_DEVICES[trial.role] if self._tap is not None else ()
        if (trial.family, trial.protocol) in self._raw:
            watched.append(_AT_SOCKETS[trial.role])
        return [vantage for vantage in watched if trial.two_way or vantage not in _ANSWERS]

    def _next_hop(self, trial: Trial, record: "Record") -> "dict[str, Any]":
        """Of the way to the other end, and whether anything is stuck before it."""
        way = self._way(trial)
        before, behind = _OUT[trial.role]
        stuck = record.masks.get(before, 0) & ~record.masks.get(behind, 0)
        watched = self._tap is not None and (trial.role == SOURCE or trial.two_way)
        return {
            "route": [text(way.gateway) if way.device else "", way.mtu],
            "device": name_of(way.device) if way.device else "",
            "picked": text(way.source) if way.source else "",
            "neighbour_failed": watched
            and bool(stuck)
            and (way.device, way.gateway) in self._silent,
        }

    def close(self) -> None:
        """Give everything back."""
        self._inside.close()
        for raw in self._raw.values():
            raw.close()
        if self._tap is not None:
            self._tap.close()
        self._shooter.close()
        self._seen.answers.close()
        self._routes.close()
