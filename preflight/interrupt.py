"""Ctrl-C, SIGTERM and a closed terminal: end the run, keep what was measured.

The first one sets a flag that the run looks at wherever it waits; the second one ends the process
as if nothing had been caught.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(wake: Callable[[], None]) -> Iterator[threading.Event]:
    """Yields the flag; `wake` is called when it is set, to end a wait. Main thread only."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        wake()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
