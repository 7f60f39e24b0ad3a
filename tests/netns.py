"""Agents started straight in network namespaces: everything but SSH is real."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Sequence

from preflight.core.model import Node
from preflight.errors import NodeError
from preflight.transport.bundle import BOOT


class PipeSession:
    """A session over the pipes of a process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def send(self, data: bytes) -> None:
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise NodeError("lost", "the process is gone") from error

    def receive(self) -> bytes:
        try:
            return os.read(self.process.stdout.fileno(), 1 << 16)
        except (OSError, ValueError):
            return b""

    def ending(self) -> tuple[int | None, str]:
        status = self.process.wait(10)
        return status, self.process.stderr.read().decode(errors="replace").strip()[-500:]

    def complaints(self) -> str:
        return ""  # reading them would wait

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(10)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()


class NetnsConnector:
    """Starts the agent of a node with `popen(node name, argv, **popen arguments)`."""

    def __init__(
        self,
        popen: Callable[..., subprocess.Popen[bytes]],
        python: Sequence[str] = ("/usr/bin/python3",),
    ) -> None:
        self._popen = popen
        self._python = list(python)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self) -> None:
        pass

    def connect(self, node: Node) -> PipeSession:
        process = self._popen(
            node.name,
            *self._python,
            "-IBS",
            "-u",
            "-c",
            BOOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes[node.name] = process
        return PipeSession(process)

    def close(self) -> None:
        pass
