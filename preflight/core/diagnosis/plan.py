"""Which shots a trial fires at one sample cell, from what its looks found.

What a firewall has to remember of it, in sessions of one or a few packets:

- PLAIN, HOP, CONTENT and SIZE: over UDP none that it does not know already, where the source ports
  of the looks are given, as they go in those very flows; else 10. Of an open cell 10 all the same,
  of a brief look 2. Over TCP 7: a SYN has a port of its own, but the rising TTL is one flow to
  the probe's port and one to another. ICMP: one.
- CONTROL: 6 over UDP, 5 over TCP.
- FLOW: one for each source port that the looks did not use, so at most 24 for a blocked cell, 36
  for a lossy one, 64 where asked to be thorough.

At most 40 for one sample of a finding, 80 where thorough: what a look at two or four pairs costs.
A firewall that drops them keeps fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from preflight.core.diagnosis.lengths import COPIES
from preflight.core.diagnosis.ports import control_ports, shuffled, sweep_ports, usual_ports
from preflight.core.diagnosis.trial import Form, Purpose, Shot
from preflight.core.groups import Kind
from preflight.core.model import (
    Cause,
    Family,
    Leg,
    Phase,
    Place,
    Probe,
    ProbeKind,
    Protocol,
    Verdict,
)

SAMPLES = 16  # cells that a check looks at more closely
MOST_SHOTS = 160  # for one of them

_TUNNELS = (ProbeKind.GENEVE, ProbeKind.VXLAN)
_NEVER_LEFT = (Cause.NO_ROUTE, Cause.NO_NEIGHBOUR)
_TCP_FIRST, _TCP_PORTS = 61000, 4000  # above Linux's default ephemeral range
_PLAIN = {Protocol.UDP: 10, Protocol.TCP: 5, Protocol.ICMP: 5}
_OF_EACH_FORM = 3
_LENGTHS = (100, 512, 1280)  # bytes of IP packet, which every path takes, and the device's MTU
_HOPS, _HOPS_THOROUGH = 10, 16
_BRIEF = 2


class _Sweep(NamedTuple):
    ports: int
    rounds: int


_BLOCKED, _LOSSY, _THOROUGH = _Sweep(24, 3), _Sweep(36, 4), _Sweep(64, 4)


def shots(
    probe: Probe,
    family: Family,
    phase: Phase,
    inert: bool,
    kind: Kind,
    known_ports: Sequence[int],
    thorough: bool,
    *,
    draw: int = 0,
    mtu: int = 0,
) -> tuple[Shot, ...]:
    """The shots in the order in which they are to leave, at an even pace.

    `inert`: the destination may have a tunnel device on the probe's port. Then, and after the
    installation, nothing goes to it but what its kernel throws away. `kind` is what the cell says,
    `known_ports` are the UDP source ports of its looks. `thorough` asks all about a cell of any
    kind. `draw`: another number for each run, because some firewalls drop a SYN in the flow of an
    earlier one, and what translates addresses looks at the first packet of a flow alone.
    """
    harmless = probe.kind in _TUNNELS and (inert or phase is Phase.AFTER)
    known = known_ports
    if kind.verdict is Verdict.OPEN and not thorough:
        known = _unknown(probe, known_ports, draw)
    if kind.verdict is Verdict.LOSSY:
        draw = 0  # what a loss looks like must not change with every run
    aim = _Aim(probe, Form.HARMLESS if harmless else Form.PLAIN, known, draw)
    hops: list[Shot] = []
    if thorough or _ends_on_the_path(kind):
        hops = list(aim.hops(_HOPS_THOROUGH if thorough else _HOPS))
    series = [list(aim.plain())]
    if (thorough or _all_lost(kind)) and not harmless:
        # Another port alone, without other bytes to this one, proves nothing of a tunnel.
        series += [list(aim.content()), list(aim.controls())]
    # A cell that loses some is asked for sizes later, where not one small packet passes: more
    # packets than the sweep's would hide a limiter's pace.
    some = kind.verdict is Verdict.LOSSY
    if probe.protocol is Protocol.UDP and not some and (thorough or _all_lost(kind)):
        series.append(list(aim.lengths(family, mtu)))
    sweep = _sweep(kind, thorough=thorough)
    if sweep is not None and probe.protocol is Protocol.UDP:
        series.append(list(aim.flows(sweep, known_ports)))
    rest = _blend(series)
    # Rejections are paid from the same few ICMP errors a second as answers to a rising TTL, so
    # these go first; but a limiter's burst must not be spent before the sweep.
    ordered = rest + hops if kind.verdict in (Verdict.LOSSY, Verdict.OPEN) else hops + rest
    return _numbered(probe, ordered)


def _numbered(probe: Probe, ordered: Sequence[Shot]) -> tuple[Shot, ...]:
    if probe.protocol is not Protocol.ICMP:
        return tuple(ordered)
    return tuple(shot._replace(source_port=i) for i, shot in enumerate(ordered, 1))


def _unknown(probe: Probe, known_ports: Sequence[int], draw: int) -> Sequence[int]:
    """Source ports of flows that nobody has seen yet, so that a rule that translates shows."""
    if probe.protocol is not Protocol.UDP or probe.source_ports is not None:
        return known_ports
    return usual_ports(probe.port or 0, _PLAIN[Protocol.UDP] + 1, draw)[1:]


def brief_shots(
    probe: Probe,
    phase: Phase,
    inert: bool,
    kind: Kind,
    known_ports: Sequence[int],
    draw: int = 0,
) -> tuple[Shot, ...]:
    """The shots of a look that only asks who ends the probe: two, and rising TTL where it ends
    between the nodes. `known_ports` and `draw` are as for `shots`.
    """
    known_ports = _unknown(probe, known_ports, draw)
    harmless = probe.kind in _TUNNELS and (inert or phase is Phase.AFTER)
    aim = _Aim(probe, Form.HARMLESS if harmless else Form.PLAIN, known_ports, 0)
    ordered = list(islice(aim.plain(), _BRIEF))
    if _ends_on_the_path(kind):
        ordered = list(islice(aim.hops(_HOPS), _HOPS)) + ordered
    return _numbered(probe, ordered)


def by_connection(kind: Kind) -> bool:
    """Whether a real connection is asked in place of shots: inside a node dies what none is like,
    or may die, where no program answers.

    On the path no node could say more of it.
    """
    inside = kind.place in (Place.SOURCE, Place.DESTINATION)
    return inside and kind.cause in (Cause.DATA, Cause.NOT_ANSWERING)


def hops_back(kind: Kind, *, thorough: bool) -> int:
    """The largest TTL with which an answer is to be sent again; 0 where none is lost on its way."""
    lost = kind.verdict is Verdict.BLOCKED and kind.cause is Cause.DROPPED
    if not (lost and kind.leg is Leg.REPLY and kind.place is Place.PATH):
        return 0
    return _HOPS_THOROUGH if thorough else _HOPS


def _small_lost_forward(kind: Kind) -> bool:
    """Whether small probes leave and do not arrive."""
    forward = kind.verdict is not Verdict.OPEN and kind.leg is not Leg.REPLY
    return forward and kind.cause not in (*_NEVER_LEFT, Cause.SIZE)


def _all_lost(kind: Kind) -> bool:
    return _small_lost_forward(kind) and kind.verdict is not Verdict.LOSSY


def _ends_on_the_path(kind: Kind) -> bool:
    """Whether there may be a hop at which it ends: what is lost in part ends nowhere."""
    return _all_lost(kind) and kind.place in (Place.PATH, None)


def _sweep(kind: Kind, *, thorough: bool) -> _Sweep | None:
    if thorough:
        return _THOROUGH
    if not _small_lost_forward(kind):
        return None
    return _LOSSY if kind.verdict is Verdict.LOSSY else _BLOCKED


def _blend(series: Sequence[Sequence[Shot]]) -> list[Shot]:
    """All series in one, each in its own order and spread over the whole.

    What changes in the meantime, a burst or an emptied bucket, hits all alike.
    """
    placed = [
        ((2 * i + 1) / (2 * len(shots)), number, i, shot)
        for number, shots in enumerate(series)
        for i, shot in enumerate(shots)
    ]
    return [shot for *_, shot in sorted(placed, key=lambda entry: entry[:3])]


class _Aim:
    """Makes one probe's shots."""

    def __init__(self, probe: Probe, form: Form, known_ports: Sequence[int], draw: int) -> None:
        self._protocol = probe.protocol
        self._varies = probe.kind in _TUNNELS
        self._port = probe.port or 0
        self._form = form
        self._draw = draw
        count = _PLAIN[probe.protocol]
        if probe.protocol is Protocol.UDP:
            known = list(dict.fromkeys(known_ports))[:count] or usual_ports(self._port, count, draw)
            self._origins = known
            self._traced = known[1 % len(known)]  # the first is a privileged one
        elif probe.protocol is Protocol.TCP:
            first = draw * (count + 1)
            drawn = [_TCP_FIRST + (first + i) % _TCP_PORTS for i in range(count + 1)]
            self._origins, self._traced = drawn[:count], drawn[count]
        else:
            self._origins, self._traced = [0], 0

    def plain(self) -> Iterator[Shot]:
        """The probe as the looks send it, over several flows."""
        for i in range(_PLAIN[self._protocol]):
            yield self._shot(Purpose.PLAIN, self._origins[i % len(self._origins)])

    def hops(self, most: int) -> Iterator[Shot]:
        """TTL 1 to `most`, twice, all in one flow: other ports may take another path.

        In rounds, so that no router is asked twice at once: Linux sends six ICMP errors to one
        peer, then one a second. What has ports goes to a control port as well, once: a router that
        answers there and not here drops for the port, and is not just silent.
        """
        ports = [self._port, self._port]
        if self._protocol is not Protocol.ICMP:
            ports.insert(1, control_ports(self._port, 1)[0])
        for port in ports:
            for ttl in range(1, most + 1):
                yield self._shot(Purpose.HOP, self._traced, port=port, ttl=ttl)

    def content(self) -> Iterator[Shot]:
        """Other bytes in flows of PLAIN shots; tunnels alone."""
        if self._varies:
            for i in range(1, _OF_EACH_FORM + 1):
                for form in (Form.HARMLESS, Form.RANDOM):
                    origin = self._origins[i % len(self._origins)]
                    yield self._shot(Purpose.CONTENT, origin, form=form)

    def lengths(self, family: Family, mtu: int) -> Iterator[Shot]:
        """Other sizes in flows of PLAIN shots, and with DF set: a rule may be for either."""
        wanted = [(size, False) for size in dict.fromkeys((*_LENGTHS, mtu)) if size]
        if family is Family.IPV4:
            wanted += [(size, True) for size in (0, mtu or _LENGTHS[-1])]
        for copy in range(COPIES):
            origin = self._origins[copy % len(self._origins)]
            for size, df in wanted:
                shot = self._shot(Purpose.SIZE, origin)
                yield shot._replace(size=size, dont_fragment=df)

    def controls(self) -> Iterator[Shot]:
        """The same bytes to other ports, each from a source port of its own."""
        if self._protocol is Protocol.UDP:
            for i in range(1, _OF_EACH_FORM + 1):
                for port in control_ports(self._port, 2):
                    origin = self._origins[i % len(self._origins)]
                    yield self._shot(Purpose.CONTROL, origin, port=port)
        elif self._protocol is Protocol.TCP:
            (port,) = control_ports(self._port, 1)
            for origin in self._origins:
                yield self._shot(Purpose.CONTROL, origin, port=port)

    def flows(self, sweep: _Sweep, known_ports: Sequence[int]) -> Iterator[Shot]:
        """Every source port once in each round, in another order each time."""
        known = [*self._origins, *known_ports]
        ports = sweep_ports(self._port, sweep.ports, known, self._draw)
        for turn in range(sweep.rounds):
            for port in shuffled(ports, turn):
                yield self._shot(Purpose.FLOW, port)

    def _shot(
        self,
        purpose: Purpose,
        source_port: int,
        *,
        port: int | None = None,
        form: Form | None = None,
        ttl: int = 64,
    ) -> Shot:
        return Shot(
            purpose,
            self._form if form is None else form,
            source_port,
            self._port if port is None else port,
            ttl,
        )
