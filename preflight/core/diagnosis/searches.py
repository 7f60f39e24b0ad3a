"""What is asked beyond one trial, round by round, and what became of it."""

from __future__ import annotations

from typing import NamedTuple

from preflight.core.diagnosis.conclusions import FlowPattern, Lengths, Marking, Size
from preflight.core.diagnosis.flows import flows
from preflight.core.diagnosis.lengths import LengthSearch
from preflight.core.diagnosis.marks import MarkSearch
from preflight.core.diagnosis.sizes import SizeSearch
from preflight.core.diagnosis.trial import Observed
from preflight.core.groups import Kind
from preflight.core.model import Cause, Family, Place, Verdict

Search = SizeSearch | LengthSearch | MarkSearch
SMALLEST = {Family.IPV4: 100, Family.IPV6: 1280}  # bytes of IP packet, which pass where any do
_MOSTLY = 0.75  # of the packets
_NO_TIME = "which sizes pass: not one small packet does, and there was no time to ask for others"


class Answers(NamedTuple):
    """What a search found out."""

    size: Size | None = None
    lengths: Lengths | None = None
    marking: Marking | None = None
    notes: tuple[str, ...] = ()  # what it did not, and why


def search_for(observed: Observed, kind: Kind, least: int, *, sizes: bool) -> Search | None:
    """What to ask of a one-way cell of `kind`; None for nothing.

    `least` is the size of a shot that has none of its own, `sizes` asks for the largest anyway.
    """
    if kind.cause is not Cause.SIZE and kind.place in (Place.PATH, None):
        lengths = LengthSearch(observed, observed.mtu or SMALLEST[Family.IPV6], least)
        if lengths.pays:
            return lengths
        marks = MarkSearch(observed)
        if marks.pays:
            return marks
    if observed.mtu and (sizes or kind.cause is Cause.SIZE or _may_hide_size(kind, observed)):
        return SizeSearch.like(observed, observed.mtu, SMALLEST[observed.trial.family], least)
    return None


def answers(search: Search | None, *, rounds: int, always: bool) -> Answers:
    """Of `search` after so many rounds; that all sizes pass is told only with `always`."""
    if isinstance(search, MarkSearch):
        return Answers(marking=search.result())
    if isinstance(search, LengthSearch):
        found = search.result()
        return Answers(lengths=found, notes=() if rounds or found else (_NO_TIME,))
    if search is None:
        return Answers()
    size = search.result()
    told = size is None or always or size.smallest_lost
    return Answers(size if told else None, search.lengths())


def _may_hide_size(kind: Kind, observed: Observed) -> bool:
    """Whether large ones may be lost for their size, and some small ones for another reason."""
    if kind.verdict is not Verdict.LOSSY or kind.place not in (Place.PATH, None):
        return False
    swept = flows(observed)
    if swept is None or swept.pattern not in (FlowPattern.RANDOM, FlowPattern.ALL):
        return False  # a limiter may count bytes, and let small ones through
    return swept.passed >= _MOSTLY * swept.sent
