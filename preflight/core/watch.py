"""What the rounds of a watch say of each cell over time: what it is, since when, what turned.

Rules of this file:

1. A change is believed when two rounds in a row say the same. Its time is that of the first one.
   What one round alone says is counted as odd, and said to nobody.
2. A cell that nobody could look at, because a node has no agent, has not changed. It keeps what
   was known of it.
3. What differs by chance is no change: a rejection may be silent, since ICMP errors are rationed; a
   vantage point may not have been watched; what is lost at random is lost now here, now there.
4. A cell that turns and turns again is unsteady: that is said once, and then no turn of it, until
   it has stayed the same for a while.

Times are seconds since the epoch. A round counts from its beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import product
from typing import NamedTuple

from preflight.core.groups import Kind
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Outcome, Verdict

UNSTEADY_TURNS, UNSTEADY_ROUNDS = 5, 20  # so many turns within so many rounds
CALM_ROUNDS = 6  # after which an unsteady cell is steady again
OPEN = Kind(Verdict.OPEN, None, None, None, None)
UNSEEN = Kind(Verdict.UNKNOWN, None, None, Cause.NO_AGENT, None)
_NOT_PLANNED = 0


class Sort(StrEnum):
    """What happened to a cell."""

    TURNED = "turned"
    UNSTEADY = "unsteady"  # it turned too often to say each time
    STEADY = "steady"  # it has stopped doing so


class Change(NamedTuple):
    """One cell of which something is to be said; `cell` is its position in the matrix."""

    cell: int
    sort: Sort
    was: Kind
    now: Kind
    was_since: float | None  # None: since the first round
    at: float  # when it was first seen so


class Standing(NamedTuple):
    """What one cell is, and since when; None: since the first round.

    Of a cell that nobody can look at it is not said: since its node's agent is gone.
    """

    kind: Kind
    since: float | None
    unsteady: bool


class _Pending(NamedTuple):
    kind: int
    at: float


class _Unsteady:
    """A cell that is not believed for now."""

    def __init__(self, at: float, kind: int) -> None:
        self.at = at
        self.latest = kind
        self.latest_at = at
        self.calm = 0  # rounds with the same


def kind_of(outcome: Outcome) -> Kind:
    """What counts of an outcome: who sent a rejection may differ from packet to packet."""
    return Kind(outcome.verdict, outcome.leg, outcome.place, outcome.cause, None)


def carries_on(known: Kind, now: Kind) -> bool:
    """Whether `now` is no change from `known`."""
    if now in (known, UNSEEN):
        return True
    if known.verdict is now.verdict is Verdict.LOSSY:
        return (known.cause is Cause.SIZE) == (now.cause is Cause.SIZE)
    if not known.verdict is now.verdict is Verdict.BLOCKED or known.leg is not now.leg:
        return False
    silent = known.cause is Cause.REJECTED and now.cause is Cause.DROPPED
    return (known.cause is now.cause or silent) and (
        now.place is None or known.place is None or known.place is now.place
    )


class History:
    """Every cell's course over the rounds. Holds a byte for each cell, more for those that turn."""

    def __init__(self) -> None:
        self.rounds = 0
        self.odd = 0  # cells that one round alone saw otherwise, counted each time
        self._kinds: list[Kind | None] = [None]
        self._numbers: dict[Kind, int] = {}
        self._known = bytearray()
        self._pending: dict[int, _Pending] = {}
        self._since: dict[int, float] = {}
        self._unseen: set[int] = set()
        self._turns: dict[int, deque[int]] = {}
        self._unsteady: dict[int, _Unsteady] = {}

    @property
    def pending(self) -> int:
        """How many cells the last round alone saw otherwise."""
        return len(self._pending)

    def see(self, matrix: Matrix, at: float) -> list[Change]:
        """Take a complete round that began at `at`; all rounds have the same extent."""
        self.rounds += 1
        rows = self._rows(matrix)
        if self.rounds == 1:
            self._known = bytearray(b"".join(rows))
            self._unseen = set(self._not_seen(self._known))
            return []
        pending = self._pending
        changes: list[Change] = []
        seen = b"".join(rows)
        self._unseen = set(self._not_seen(seen))
        self._pending = {cell: pending[cell] for cell in self._unseen & pending.keys()}
        for cell in self._different(seen, len(matrix.nodes)):
            if cell not in self._unsteady and cell not in self._unseen:
                changes += self._differs(cell, seen[cell], pending.get(cell), at)
        self.odd += len(pending.keys() - self._pending.keys() - {c.cell for c in changes})
        return [*changes, *self._calmer(seen, at)]

    def standing(self, cell: int) -> Standing:
        """What is believed of one cell that is planned."""
        kind, since = self._kind(self._known[cell]), self._since.get(cell)
        unsteady = self._unsteady.get(cell)
        if cell in self._unseen:
            return Standing(UNSEEN, None, False)
        if unsteady is not None:
            return Standing(self._kind(unsteady.latest), unsteady.at, True)
        return Standing(kind, since, False)

    def not_open(self) -> Iterator[tuple[int, Standing]]:
        """Every cell that is not open, or unsteady, with what is believed of it."""
        plain = {_NOT_PLANNED, self._numbers.get(OPEN, _NOT_PLANNED)}
        beside = self._unseen | self._unsteady.keys()
        for cell, kind in enumerate(self._known):
            if kind not in plain or cell in beside:
                yield cell, self.standing(cell)

    # --- one round

    def _rows(self, matrix: Matrix) -> list[bytes]:
        signs = [_NOT_PLANNED if o is None else self._number(kind_of(o)) for o in matrix.table]
        tests = product(range(len(matrix.families)), range(len(matrix.probes)))
        return [row for test in tests for row in matrix.rows(*test, signs)]

    def _number(self, kind: Kind) -> int:
        number = self._numbers.get(kind)
        if number is None:  # of all that can be, there are fewer than 255
            number = self._numbers[kind] = len(self._kinds)
            self._kinds.append(kind)
        return number

    def _kind(self, number: int) -> Kind:
        kind = self._kinds[number]
        assert kind is not None  # it is planned
        return kind

    def _not_seen(self, seen: bytes | bytearray) -> Iterator[int]:
        number = self._numbers.get(UNSEEN)
        cell = -1 if number is None else seen.find(number)
        while number is not None and cell >= 0:
            yield cell
            cell = seen.find(number, cell + 1)

    def _different(self, seen: bytes, row: int) -> Iterator[int]:
        if seen == self._known:
            return
        for start in range(0, len(seen), row):
            now, known = seen[start : start + row], self._known[start : start + row]
            if now != known:
                pairs = enumerate(zip(now, known, strict=True), start)
                yield from (cell for cell, (a, b) in pairs if a != b)

    def _differs(
        self, cell: int, now: int, pending: _Pending | None, at: float
    ) -> Iterable[Change]:
        known = self._known[cell]
        if carries_on(self._kind(known), self._kind(now)):
            return ()
        if pending is None or not carries_on(self._kind(pending.kind), self._kind(now)):
            self._pending[cell] = _Pending(now, at)
            return ()
        was, since = self._kind(known), self._since.get(cell)
        self._known[cell] = now
        self._since[cell] = pending.at
        turns = self._turns.setdefault(cell, deque(maxlen=UNSTEADY_TURNS))
        turns.append(self.rounds)
        if len(turns) == UNSTEADY_TURNS and self.rounds - turns[0] < UNSTEADY_ROUNDS:
            self._unsteady[cell] = _Unsteady(pending.at, now)
            return (Change(cell, Sort.UNSTEADY, was, self._kind(now), since, pending.at),)
        return (Change(cell, Sort.TURNED, was, self._kind(now), since, pending.at),)

    def _calmer(self, seen: bytes, at: float) -> Iterator[Change]:
        """Unsteady cells that are steady again."""
        for cell, unsteady in list(self._unsteady.items()):
            now = self._kind(seen[cell])
            if now == UNSEEN:
                continue
            if carries_on(self._kind(unsteady.latest), now):
                unsteady.calm += 1
            else:
                unsteady.latest, unsteady.latest_at, unsteady.calm = seen[cell], at, 1
            if unsteady.calm >= CALM_ROUNDS:
                del self._unsteady[cell], self._turns[cell]
                self._known[cell], self._since[cell] = unsteady.latest, unsteady.latest_at
                kind = self._kind(unsteady.latest)
                yield Change(cell, Sort.STEADY, kind, kind, unsteady.at, unsteady.latest_at)
