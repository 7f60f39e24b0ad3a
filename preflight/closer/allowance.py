"""The time that closer looks may add to a run."""

import time
from collections.abc import Callable

LIMIT_S = 5.0


class Allowance:
    """So many seconds from now on; none of them is had twice."""

    def __init__(
        self, limit_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._end = clock() + (LIMIT_S if limit_s is None else limit_s)

    @property
    def left_s(self) -> float:
        """Below 0 once it is used up."""
        return self._end - self._clock()
