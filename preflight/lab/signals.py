"""When Ctrl-C, a `kill` and a closed terminal may interrupt us."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupt_on_all() -> Iterator[None]:
    """Inside the block a `kill` and a closed terminal raise KeyboardInterrupt, as Ctrl-C does."""
    former = {
        number: signal.signal(number, signal.default_int_handler)
        for number in _INTERRUPTIONS
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup means it
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def postponed() -> Iterator[None]:
    """Let an interruption take effect only when the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt the main thread alone
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        came.append(number)

    former = {
        number: signal.signal(number, note)
        for number in _INTERRUPTIONS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
