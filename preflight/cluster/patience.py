"""How long one request may take, whatever the other side does, and that it can be left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_LEAST = 1.0  # seconds that a request gets, however late it is
_LOOK = 0.1  # seconds between two looks at whether the user wants to end


class StoppedError(KeyboardInterrupt):
    """The user wants to end; what was asked may have been done all the same."""


class LateError(Exception):
    """Nothing came for too long, or not all of it in time."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = 5.0  # of one attempt
    read: float = 10.0  # without a byte of the answer, over all attempts
    whole: float = 60.0  # for all of the answer, over all attempts


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds a command's requests beyond their own timeouts."""

    until: float = float("inf")  # by time.monotonic(); a request after it gets a second
    stop: threading.Event | None = None  # set: StoppedError


class Patience:
    """With one request. A name that is looked up, or an answer that drips, has no timeout of its
    own: attempts run in threads that are left alone when it ends."""

    def __init__(self, timeouts: Timeouts, bounds: Bounds) -> None:
        now = time.monotonic()
        self._read = timeouts.read
        self._end = min(now + timeouts.whole, max(now + _LEAST, bounds.until))
        self._heard = now
        self._stop = bounds.stop
        self._given_up = False

    def left(self) -> float:
        """Seconds, at least a moment: what a socket waits for."""
        return max(self._left(), 0.001)

    def _left(self) -> float:
        return min(self._heard + self._read, self._end) - time.monotonic()

    def heard(self) -> None:
        """Something came. Raises LateError where nobody waits for it any more."""
        if self._given_up:
            raise LateError
        self._heard = time.monotonic()

    def _look(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise StoppedError
        if self._left() <= 0:
            raise LateError

    def pause(self, seconds: float) -> bool:
        """Wait between two attempts; False where there is no time for another."""
        seconds = min(seconds, self.left())
        if self._stop is None:
            time.sleep(seconds)
        elif self._stop.wait(seconds):
            raise StoppedError
        return self._left() > 0

    def during(self, work: Callable[[], T]) -> T:
        """Its result, or what it raises; LateError or StoppedError where it is left alone."""
        self._look()
        done = threading.Event()
        results: list[T] = []
        problems: list[BaseException] = []

        def attempt() -> None:
            try:
                results.append(work())
            except BaseException as problem:  # the caller's, whatever it is
                problems.append(problem)
            finally:
                done.set()

        threading.Thread(target=attempt, daemon=True).start()
        try:
            while not done.wait(min(_LOOK, self.left())):
                self._look()
        except BaseException:
            self._given_up = True
            raise
        if problems:
            raise problems[0]
        return results[0]
