"""One round of trials at once: every node that has a part in it is told, and says what it saw."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from preflight.closer.allowance import Allowance
from preflight.core.diagnosis.trial import Form, Observed, Shot, Trial, observe
from preflight.core.model import Family, Probe, Protocol
from preflight.core.offsets import tag_offset
from preflight.core.scope import Scope
from preflight.crew.chorus import Chorus, Keep
from preflight.transport import bundle

_FIRST_NUMBER = 0x8000  # of the looks' numbers, which the survey counts from 1
_RATE = 1000.0  # shots a second from each node
_ASKING_S = 0.8  # for requests that are never answered
_SETTLE_S = 0.3  # what counters do without us
_WAIT_S = 0.7
_WAIT_AGAIN_S = 1.0  # neighbours are asked for once a second
_OVERHEAD_S = 0.4  # until all have been told, have told, and have let go of what they set up
_GRACE_S = 15.0
_LEAST_GRACE_S = 0.5
_VERSIONS = {Family.IPV4: 4, Family.IPV6: 6}
_NUMBERS = {Protocol.UDP: 17, Protocol.TCP: 6, Protocol.ICMP: 1}
_ICMPV6 = 58

Craft = Callable[[Probe, Family, Form], Mapping[str, object]]


class Rounds:
    """Has trials run by a fleet. `captured` are packets by node, of rounds that asked for them."""

    def __init__(
        self, scope: Scope, chorus: Chorus, craft: Craft, run: str, allowance: Allowance
    ) -> None:
        self._scope = scope
        self._chorus = chorus
        self._craft = craft
        self._run = run
        self._allowance = allowance
        self._numbers = iter(range(_FIRST_NUMBER, 0xFFFF))
        self._loaded: set[int] = set()
        self.captured: dict[int, list[Sequence[Any]]] = {}

    def run(self, trials: Sequence[Trial], *, trace: bool, pcap: bool) -> dict[int, Observed]:
        """What was seen of each, by its number; those whose source did not report lack."""
        number = next(self._numbers)
        part = {n for t in trials for n in _ends(t)} & self._chorus.alive
        reports: dict[int, Mapping[str, Any]] = {}

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            observe([t for t in trials if node in _ends(t)], {node: frame})
            reports[node] = frame

        chorus = self._chorus
        chorus.broadcast(part - self._loaded, bundle.deep())
        self._loaded |= part
        frames = {node: self._frame(node, number, trials, trace=trace, pcap=pcap) for node in part}
        chorus.send(frames)
        sending, wait = _sending_s(trials), _wait_s(trials, trace=trace)
        late = self._late(part, "ready", number, _SETTLE_S if trace else 0, sending + wait)
        chorus.broadcast(part, {"t": "go"})
        late |= self._late(part - late, "sent", number, sending, wait, keep)
        rest = part - reports.keys()
        chorus.broadcast(rest, {"t": "drain", "number": number, "wait": wait})
        late |= self._late(rest - late, "report", number, wait, 0, keep)
        if pcap:
            for node, frame in reports.items():
                self.captured.setdefault(node, []).extend(frame.get("pcap") or ())
        reports = {node: report for node, report in reports.items() if node not in late}
        told = [t for t in trials if t.source in reports]
        seen = observe(told, _only(reports, told))
        for observed in seen.values():
            trial = observed.trial
            observed.source_address = self._address(trial.source, trial.family)
            observed.destination_address = self._address(trial.destination, trial.family)
        return seen

    def _late(
        self,
        part: set[int],
        kind: str,
        number: int,
        lasts_s: float,
        then_s: float,
        keep: Keep | None = None,
    ) -> set[int]:
        """Those that were not done when what comes `then_s` could wait no longer.

        They may be busy, and are not given up, but what they saw is of another time.
        """
        left = self._allowance.left_s - then_s - lasts_s
        grace = min(_GRACE_S, max(_LEAST_GRACE_S, left))
        return self._chorus.until(part, kind, number, lasts_s + grace, keep, patient=True)

    def _frame(
        self, node: int, number: int, trials: Sequence[Trial], *, trace: bool, pcap: bool
    ) -> dict[str, Any]:
        return {
            "t": "deep",
            "number": number,
            "rate": _RATE,
            "trace": f"{self._run}_{node}" if trace else "",  # a machine may be two nodes
            "settle": _SETTLE_S if trace else 0,
            "pcap": pcap,
            "trials": [self._part(node, t) for t in trials if node in _ends(t)],
        }

    def _part(self, node: int, trial: Trial) -> dict[str, Any]:
        probe = self._scope.probes[trial.probe]
        number = _NUMBERS[probe.protocol]
        if probe.protocol is Protocol.ICMP and trial.family is Family.IPV6:
            number = _ICMPV6
        source = node == trial.source
        ends = (trial.source, trial.destination) if source else (trial.destination, trial.source)
        own, far = (self._address(n, trial.family) for n in ends)
        used = list(dict.fromkeys(shot.form for shot in trial.shots))
        return {
            "id": trial.number,
            "role": "source" if source else "destination",
            "source": trial.source,
            "destination": trial.destination,
            "family": _VERSIONS[trial.family],
            "protocol": number,
            "port": 0 if probe.protocol is Protocol.ICMP else probe.port,
            "tag_at": tag_offset(probe),
            "own": own,
            "far": far,
            "forms": {form: self._craft(probe, trial.family, form) for form in used},
            "shots": [_row(shot) for shot in trial.shots],
            "again": None if node == trial.witness else trial.again,
            "back": 0 if node == trial.witness else trial.back,
            "ask": trial.ask,
        }

    def _address(self, node: int, family: Family) -> str:
        return self._scope.nodes[node].address_in(family) or ""


def lasts_s(trials: Sequence[Trial], *, trace: bool) -> float:
    """How long a round of these takes where nobody is slow."""
    settle = _SETTLE_S if trace else 0
    return settle + _sending_s(trials) + _wait_s(trials, trace=trace) + _OVERHEAD_S


def _sending_s(trials: Sequence[Trial]) -> float:
    shots = Counter[int]()
    for trial in trials:
        shots[trial.source] += len(trial.shots)
    asking = _ASKING_S if any(trial.ask for trial in trials) else 0
    return max(shots.values(), default=0) / _RATE + asking


def _wait_s(trials: Sequence[Trial], *, trace: bool) -> float:
    if any(trial.again is not None for trial in trials):
        return _WAIT_AGAIN_S
    return _WAIT_S if trace else _WAIT_S / 2


def _ends(trial: Trial) -> set[int]:
    """The nodes that have a part in it. A witness watches as the destination does, in its name."""
    return {trial.source, trial.destination, *([] if trial.witness is None else [trial.witness])}


def _only(
    reports: Mapping[int, Mapping[str, Any]], trials: Sequence[Trial]
) -> dict[int, Mapping[str, Any]]:
    """The reports, less what they say of other trials."""
    numbers = {trial.number for trial in trials}
    return {
        node: {**frame, "trials": [t for t in frame["trials"] if t["id"] in numbers]}
        for node, frame in reports.items()
    }


def _row(shot: Shot) -> list[object]:
    return list(shot[1:])
