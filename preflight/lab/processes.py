"""Who is inside a namespace, and the end of them."""

import os
import select
import signal
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import psutil

from preflight.errors import LabError

_GRACE_S = 2.0  # between SIGTERM and SIGKILL
_GIVE_UP_S = 10.0


def processes_in(namespaces: Collection[Path]) -> list[int]:
    """The process ids of all who are inside one of these network namespaces."""
    ours = set(_identities(namespaces))
    return [pid for pid in psutil.pids() if _namespace_of(pid) in ours]


def end_processes_in(namespaces: Collection[Path]) -> None:
    """End everything inside these namespaces: SIGTERM, then SIGKILL. Returns when they are gone.

    Raises LabError where this process is itself inside one, or one cannot be killed.
    """
    ours = set(_identities(namespaces))
    if _namespace_of(os.getpid()) in ours:
        raise LabError("this shell is inside the lab: leave it, then run preflight lab down")
    deadline = monotonic() + _GIVE_UP_S
    # Again until none is left: what we end may have started others meanwhile.
    while pids := processes_in(namespaces):
        if monotonic() > deadline:
            raise LabError(f"{_describe(pids[0])} cannot be killed: preflight lab down again later")
        _end(pids, ours)


def _end(pids: Collection[int], ours: Collection[tuple[int, int]]) -> None:
    with ExitStack() as stack:
        handles = []
        for pid in pids:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                stack.callback(os.close, handle)
                # The number may be another process's by now; the handle no longer changes.
                if _namespace_of(pid) in ours:
                    handles.append(handle)
        for number, wait_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
            for handle in handles:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            handles = _still_running(handles, wait_s)


def _still_running(handles: Collection[int], wait_s: float) -> list[int]:
    """Those that do not end within `wait_s`. A zombie that nobody reaps has ended."""
    poll = select.poll()
    running = set(handles)
    for handle in running:
        poll.register(handle, select.POLLIN)
    deadline = monotonic() + wait_s
    while running and (left_s := deadline - monotonic()) > 0:
        for handle, _ in poll.poll(left_s * 1000):
            poll.unregister(handle)
            running.discard(handle)
    return sorted(running)


def _identities(namespaces: Collection[Path]) -> Iterator[tuple[int, int]]:
    for path in namespaces:
        with suppress(OSError):
            stat = path.stat()
            yield stat.st_dev, stat.st_ino


def _namespace_of(pid: int) -> tuple[int, int] | None:
    try:
        stat = os.stat(f"/proc/{pid}/ns/net")
    except OSError:  # it has ended
        return None
    return stat.st_dev, stat.st_ino


def _describe(pid: int) -> str:
    with suppress(psutil.Error):
        return f"process {pid} ({psutil.Process(pid).name()})"
    return f"process {pid}"
