"""What the bytes of a packet, or its port, have to do with its loss.

Rules of this file:
1. Everything is compared in one trial, in shots that were sent in turn, so that what changes with
   time hits all alike.
2. A contrast counts only where no rate of loss is likely to make it. What loss explains is None.
3. A port is to blame "whatever its bytes" only where other bytes were tried: something that knows
   tunnels may look for them at their own port alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from preflight.core.diagnosis.arrivals import arrived, passed, shots_in, tried
from preflight.core.diagnosis.chance import RARE, cleanly_apart
from preflight.core.diagnosis.conclusions import Content, ContentPattern, Until
from preflight.core.diagnosis.trial import Form, Observed, Purpose
from preflight.core.model import Phase, Place, Protocol

_LEAST_LOST = 10  # flows, before none is said to pass: if half of them did, that is 1 in 1,000


class Fate(Enum):
    """What became of one sort of shots. How many got through is chance's business, not the
    table's.
    """

    THROUGH = auto()  # all of them or some
    LOST = auto()  # all of them
    NOT_SENT = auto()


def pattern(plain: Fate, harmless: Fate, random: Fate, control: Fate) -> ContentPattern | None:
    """The whole table. `plain` is the probe itself, `control` the best of the other ports."""
    if plain is not Fate.LOST:
        return None
    if harmless is Fate.THROUGH:
        return ContentPattern.INNER
    if harmless is not random and Fate.NOT_SENT in (harmless, random):
        return None  # half of the contrast is missing
    if random is Fate.THROUGH:
        return ContentPattern.TUNNEL
    if control is Fate.THROUGH:
        return ContentPattern.PORT
    return ContentPattern.PROTOCOL if control is Fate.LOST else None


def content(
    observed: Observed,
    phase: Phase,
    protocol: Protocol = Protocol.UDP,
    place: Place | None = None,
) -> Content | None:
    """Which bytes and which ports pass, where the probe itself does not at all.

    None where the probe itself was the harmless form, so that no other bytes could be tried. Of
    Cilium's own form nothing is concluded after the installation, when it must not be sent.
    `place` is where the probe is lost: what other shots meet behind it is another matter.
    """
    until, through = _through(observed, place)
    trial = _Contrast.of(observed, protocol, through)
    if trial is None:
        return None
    found = pattern(trial.plain.fate, trial.harmless.fate, trial.random.fate, trial.control)
    if found is None or not trial.proves(found):
        return None
    if phase is Phase.AFTER and found in (ContentPattern.INNER, ContentPattern.TUNNEL):
        return None
    return Content(
        found,
        tuple(sort.name for sort in trial.sorts if sort.fate is Fate.THROUGH),
        tuple(sort.name for sort in trial.sorts if sort.fate is Fate.LOST),
        until,
    )


def _through(observed: Observed, place: Place | None) -> tuple[Until, int | None]:
    """The shots that got past `place`, as the nearest vantage point behind it that was watched
    tells.
    """
    left = observed.seen.get("left")
    if place is Place.SOURCE and left is not None:
        return Until.LEFT, left | (arrived(observed) or 0)
    there = arrived(observed)
    if place in (Place.SOURCE, Place.PATH) and there is not None:
        return Until.ARRIVED, there
    watched = observed.seen.get("accepted") is not None
    return Until.ACCEPTED if watched else Until.ARRIVED, passed(observed)


class _Sort:
    """Shots of one sort, by flow: packets of one flow may share their fate for another reason."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._flows: dict[int, bool] = {}  # source port -> whether anything got through

    def add(self, source_port: int, *, passes: bool) -> None:
        self._flows[source_port] = self._flows.get(source_port, False) or passes

    @property
    def tried(self) -> int:
        """Flows."""
        return len(self._flows)

    @property
    def passed(self) -> int:
        """Flows of which something got through."""
        return sum(self._flows.values())

    @property
    def fate(self) -> Fate:
        if not self._flows:
            return Fate.NOT_SENT
        return Fate.THROUGH if self.passed else Fate.LOST


class _Contrast(NamedTuple):
    plain: _Sort
    harmless: _Sort
    random: _Sort
    controls: Sequence[_Sort]  # for each other port

    @classmethod
    def of(cls, observed: Observed, protocol: Protocol, through: int | None) -> _Contrast | None:
        shots = observed.trial.shots
        first = next((shot for shot in shots if shot.purpose is Purpose.PLAIN), None)
        if through is None or first is None or first.form is not Form.PLAIN:
            return None
        name = protocol.upper()
        plain = _Sort(f"{name} {first.port}")
        forms = {
            Form.HARMLESS: _Sort("its harmless form"),
            Form.RANDOM: _Sort("random bytes"),
            Form.PLAIN: plain,
        }
        controls: dict[int, _Sort] = {}
        for position in shots_in(tried(observed)):
            shot = shots[position]
            if shot.purpose is Purpose.CONTROL:
                sort = controls.setdefault(shot.port, _Sort(f"{name} {shot.port}"))
            elif shot.purpose in (Purpose.PLAIN, Purpose.FLOW, Purpose.CONTENT):
                sort = forms[shot.form]
            else:
                continue
            sort.add(shot.source_port, passes=bool(through >> position & 1))
        others = tuple(controls.values())
        return cls(plain, forms[Form.HARMLESS], forms[Form.RANDOM], others)

    @property
    def sorts(self) -> tuple[_Sort, ...]:
        return (self.plain, self.harmless, self.random, *self.controls)

    @property
    def control(self) -> Fate:
        """The best fate of all other ports."""
        fates = [sort.fate for sort in self.controls]
        return next((fate for fate in Fate if fate in fates), Fate.NOT_SENT)

    def proves(self, found: ContentPattern) -> bool:
        """Whether loss that treats all alike is an unlikely explanation."""
        lost: Sequence[_Sort] = (self.plain,)
        passing: Sequence[_Sort] = (self.harmless,)
        if found is ContentPattern.TUNNEL:
            lost, passing = (self.plain, self.harmless), (self.random,)
        elif found is ContentPattern.PORT:
            lost = (self.plain, self.harmless, self.random)
            passing = [sort for sort in self.controls if sort.fate is Fate.THROUGH]
        elif found is ContentPattern.PROTOCOL:
            return sum(sort.tried for sort in self.sorts) >= _LEAST_LOST
        chance = cleanly_apart(
            sum(sort.tried for sort in lost),
            sum(sort.tried for sort in passing),
            sum(sort.passed for sort in passing),
        )
        return chance < RARE
