"""DSCP that a node gives its own packets, and whether the path drops what bears it.

The flow that is lost cannot be sent without the mark, as the node's own rule sets it again. So both
are sent to another port, to which packets leave as they were sent.
"""

from __future__ import annotations

from preflight.core.diagnosis.arrivals import passed, shots_in, tried
from preflight.core.diagnosis.chance import RARE, cleanly_apart
from preflight.core.diagnosis.conclusions import Marking
from preflight.core.diagnosis.trial import Observed, Purpose, Shot

_COPIES = 4  # of each sort, in each of the flows that are there


def own_mark(observed: Observed) -> int:
    """The traffic class, ECN left out, with which all shots to the probe's own port left, though
    they were sent with 0; 0 for none.
    """
    shots = observed.trial.shots
    left = observed.passages.get("left", {})
    own = observed.mask(Purpose.PLAIN) | observed.mask(Purpose.FLOW)
    marks = {left[i].tos & 0xFC for i in shots_in(own) if i in left and not shots[i].tos}
    return marks.pop() if len(marks) == 1 else 0


class MarkSearch:
    """One round of packets to a control port, with the mark and without, in turn."""

    def __init__(self, observed: Observed) -> None:
        self._mark = own_mark(observed)
        left = observed.passages.get("left", {})
        control = observed.mask(Purpose.CONTROL)
        free = [i for i in shots_in(control) if i in left and not left[i].tos & 0xFC]
        shots = observed.trial.shots
        port = shots[free[0]].port if free else 0
        self._likes = [shots[i] for i in free if shots[i].port == port]
        through = passed(observed)
        lost = observed.mask(Purpose.PLAIN) & tried(observed)
        self.pays = bool(self._mark and through is not None and lost & ~through)
        self._result = Marking(self._mark, None, 0, 0, 0, port)

    def next_shots(self, observed: Observed | None) -> tuple[Shot, ...]:
        """The round at first, then nothing; `observed` is what became of it."""
        if observed is not None:
            self._take(observed)
            self._likes = []
        ports = dict.fromkeys(like.source_port for like in self._likes)
        return tuple(
            self._likes[0]._replace(source_port=port, tos=tos)
            for _ in range(_COPIES)
            for port in ports
            for tos in (0, self._mark)
        )

    def result(self) -> Marking | None:
        """What is known of the mark; None where the node sets none."""
        return self._result if self.pays else None

    def _take(self, observed: Observed) -> None:
        through = passed(observed)
        left = observed.passages.get("left", {})
        if through is None:
            return
        bare: list[bool] = []
        marked: list[bool] = []
        for i in shots_in(observed.mask(Purpose.CONTROL) & tried(observed)):
            tos = observed.trial.shots[i].tos
            if i in left and left[i].tos & 0xFC == tos:
                (marked if tos else bare).append(bool(through >> i & 1))
        if not any(bare) or not marked:
            return
        told = self._result._replace(passed=sum(bare), sent=len(bare), lost=len(marked))
        if any(marked):
            self._result = told._replace(dropped=False, lost=len(marked) - sum(marked))
        elif cleanly_apart(len(marked), len(bare), sum(bare)) < RARE:
            self._result = told._replace(dropped=True)
