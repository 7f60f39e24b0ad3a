"""The bytes to and from the python in a pod, over the API server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.base import Timeouts
from preflight.transport.command import readable_tail
from preflight.transport.start import Tail

if TYPE_CHECKING:
    from preflight.cluster.execution import Execution


class PodSession:
    """A process in a container; see `base.Session`."""

    def __init__(self, execution: Execution, place: str, timeouts: Timeouts) -> None:
        self._execution = execution
        self._place = place
        self._timeouts = timeouts
        self._errors = Tail()
        self._closed = threading.Event()
        self._sending = threading.Lock()

    def send(self, data: bytes) -> None:
        """See `Session`."""
        from preflight.cluster.errors import ClusterError

        try:
            with self._sending:
                self._execution.write(data)
        except ClusterError as error:
            raise NodeError(AgentState.LOST, f"{self._place} was lost: {error}") from error

    def receive(self) -> bytes:
        """See `Session`."""
        from preflight.cluster.errors import ClusterError
        from preflight.cluster.execution import Channel

        while not self._closed.is_set():
            try:
                # One socket: its time limit holds for who writes meanwhile, too.
                frame = self._execution.read(self._timeouts.send)
            except TimeoutError:
                continue
            except ClusterError as error:
                self._errors.add(str(error).encode())
                return b""
            if frame is None:
                return b""
            if frame.channel is Channel.STDOUT:
                return frame.data
            self._errors.add(frame.data)
        return b""

    def ending(self) -> tuple[int | None, str]:
        """See `Session`."""
        return self._execution.exit_code, readable_tail(bytes(self._errors))

    def complaints(self) -> str:
        """See `Session`."""
        return readable_tail(bytes(self._errors))

    def close(self) -> None:
        """See `Session`. The container's runtime closes the process's stdin with the connection."""
        if not self._closed.is_set():
            self._closed.set()
            self._execution.close()
