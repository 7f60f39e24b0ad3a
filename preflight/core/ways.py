"""What came of all that travels from one node to another: its probes, and answers to the other's.

Sets of nodes are ints, as in `core.naming`. Only cells that say where something was lost count.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.core.cover import transposed
from preflight.core.groups import FamilyProbe
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Family, Leg, Outcome, Place, Verdict

Wanted = Callable[[Outcome], bool]
Rows = dict[int, int]  # for each source the set of its destinations
_DIED = (Cause.DROPPED, Cause.REJECTED)


class Ways:
    """The ways of one matrix's nodes over one family; each member is by node the set of nodes to
    which its way is such.
    """

    def __init__(self, matrix: Matrix, family: Family) -> None:
        self.family = family
        self._matrix = matrix
        self._number = matrix.families.index(family)
        self.tests = [
            FamilyProbe(p, family) for p, probe in enumerate(matrix.probes) if not probe.overlay
        ]
        self.lost = self._both(lost_there, lost_back)
        self.came = self._both(came_there, came_back)
        self.rejected = self._both(rejected, lambda _: False)
        self.unsent = self._both(unsent, unanswered)
        self.failing = self._both(failing, failing)

    def dead(self, node: int) -> int:
        """Where something that left the node was lost on the path, and nothing came."""
        return self.lost.get(node, 0) & ~self.came.get(node, 0)

    def rows(self, test: FamilyProbe, wanted: Wanted) -> Rows:
        """The cells of one test whose outcome is wanted."""
        signs = [ord("1" if o is not None and wanted(o) else "0") for o in self._matrix.table]
        if ord("1") not in signs:
            return {}
        rows = enumerate(self._matrix.rows(self._number, test.probe, signs))
        return {s: there for s, row in rows if (there := int(row[::-1], 2))}

    def _both(self, there: Wanted, back: Wanted) -> Rows:
        out: Rows = {}
        for test in self.tests:
            for rows in (self.rows(test, there), transposed(self.rows(test, back))):
                for node, row in rows.items():
                    out[node] = out.get(node, 0) | row
        return out


def lost_there(outcome: Outcome) -> bool:
    """Probes left, and none of them arrived."""
    seen = outcome.evidence
    return _blocked(outcome, Leg.FORWARD, Place.PATH) and bool(seen.left) and seen.arrived == 0


def lost_back(outcome: Outcome) -> bool:
    """Answers left, and none of them returned."""
    seen = outcome.evidence
    return _blocked(outcome, Leg.REPLY, Place.PATH) and bool(seen.answered) and seen.returned == 0


def came_there(outcome: Outcome) -> bool:
    """Some of the probes arrived."""
    seen = outcome.evidence
    return outcome.verdict is Verdict.OPEN or bool(seen.arrived or seen.accepted or seen.answered)


def came_back(outcome: Outcome) -> bool:
    """Some of the answers returned."""
    return bool(outcome.evidence.returned or outcome.evidence.received)


def rejected(outcome: Outcome) -> bool:
    """Somebody on the way said that it is."""
    return outcome.cause is Cause.REJECTED


def unsent(outcome: Outcome) -> bool:
    """The source's own routing refused them."""
    return outcome.verdict is Verdict.BLOCKED and outcome.cause is Cause.NO_ROUTE


def unanswered(outcome: Outcome) -> bool:
    """Probes arrived and no answer left, or the destination's kernel took none of them in."""
    inside = outcome.place is Place.DESTINATION and outcome.cause in _DIED
    return inside and outcome.verdict is Verdict.BLOCKED


def failing(outcome: Outcome) -> bool:
    """Wherever, and by whomever, some or all of it is lost."""
    return outcome.verdict in (Verdict.BLOCKED, Verdict.LOSSY)


def _blocked(outcome: Outcome, leg: Leg, place: Place) -> bool:
    where = (outcome.verdict, outcome.leg, outcome.place)
    return where == (Verdict.BLOCKED, leg, place) and outcome.cause in _DIED
