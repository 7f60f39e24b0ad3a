"""Progress: a line that is redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import TextIO

from preflight.report.progress import Progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def terminal(columns: int = 80) -> Iterator[tuple[TextIO, int]]:
    """A real terminal's stream, and the descriptor on which to read what was written to it."""
    there, here = pty.openpty()
    try:
        ioctl(here, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with open(here, "w", encoding="utf-8") as file:
            yield file, there
    finally:
        os.close(there)


def read(there: int) -> str:
    os.set_blocking(there, False)
    data = b""
    try:
        while part := os.read(there, 65536):
            data += part
    except BlockingIOError:
        pass
    return data.decode()


def screen(written: str) -> str:
    """What is left on the screen: carriage returns and erasures carried out."""
    lines = [""]
    column = 0
    for token in re.findall(r"\x1b\[K|\r\n|\r|[^\r\x1b]+", written):
        if token == "\r\n":
            lines.append("")
            column = 0
        elif token == "\r":
            column = 0
        elif token == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            line = lines[-1]
            lines[-1] = line[:column] + token + line[column + len(token) :]
            column += len(token)
    return "\n".join(lines)


def test_a_terminal_shows_where_it_stands() -> None:
    clock = Clock()
    with terminal() as (file, there):
        progress = Progress(file, clock=clock)
        progress.phase("connecting", 3)
        assert screen(read(there)) == "connecting 0/3"
        for node in ("n1", "n2"):
            clock.now += 0.2
            progress.advance(node)
        progress.waiting(["n3"])
        assert screen(read(there)) == "connecting 2/3"  # n3 is not slow yet
        clock.now += 2
        progress.waiting(["n3"])
        assert screen(read(there)) == "connecting 2/3, waiting for n3"
        progress.advance("n3")
        assert screen(read(there)) == "connecting 3/3"
        clock.now += 1
        progress.phase("second look: 12 cells", 0)
        assert screen(read(there)) == "second look: 12 cells"
        progress.close()
        assert screen(read(there)) == ""


def test_a_note_stays_above_the_line() -> None:
    with terminal() as (file, there):
        progress = Progress(file)
        progress.phase("connecting", 2)
        progress.note("n1: unreachable\x1b[31m")
        assert screen(read(there)) == "n1: unreachable\nconnecting 0/2"
        progress.close()
        progress.note("done")
        assert screen(read(there)) == "done\n"


def test_it_never_wraps() -> None:
    clock = Clock()
    with terminal(columns=30) as (file, there):
        progress = Progress(file, clock=clock)
        progress.phase("connecting", 50)
        clock.now += 3
        progress.waiting([f"worker-{i}" for i in range(50)])
        assert len(screen(read(there))) == 29


def test_many_slow_nodes_are_counted() -> None:
    clock = Clock()
    with terminal(columns=120) as (file, there):
        progress = Progress(file, clock=clock)
        progress.phase("connecting", 50)
        clock.now += 3
        progress.waiting([f"n{i}" for i in range(1, 51)])
        assert screen(read(there)).endswith("waiting for n1, n2, n3, n4, n5 and 45 more")


def test_redraws_are_few() -> None:
    clock = Clock()
    with terminal() as (file, there):
        progress = Progress(file, clock=clock)
        progress.phase("probing", 500)
        for i in range(500):
            progress.advance(f"n{i}")
        written = read(there)
        assert written.count("\r") == 2  # the first and the last
        assert screen(written) == "probing 500/500"


def test_elsewhere_there_are_plain_lines() -> None:
    clock, file = Clock(), io.StringIO()
    progress = Progress(file, clock=clock)
    progress.phase("connecting", 3)
    progress.advance("n1")
    progress.waiting(["n2", "n3"])
    clock.now += 2.5
    progress.waiting(["n2", "n3"])
    clock.now += 2.5
    progress.waiting(["n2"])
    progress.note("n3: lost")
    progress.phase("first look", 0)
    progress.close()
    assert file.getvalue() == ("connecting: 3 nodes\nwaiting for n2, n3\nn3: lost\nfirst look\n")


def test_quiet_tells_only_what_must_not_be_missed() -> None:
    clock = Clock()
    for live in (True, False):
        with terminal() as (tty, there):
            file = tty if live else io.StringIO()
            progress = Progress(file, quiet=True, clock=clock)
            progress.phase("connecting", 3)
            progress.advance("n1")
            clock.now += 3
            progress.waiting(["n2"])
            progress.note("a new host key was accepted")
            progress.close()
            text = read(there) if live else file.getvalue()  # type: ignore[attr-defined]
            assert text.replace("\r\n", "\n") == "a new host key was accepted\n"


def test_a_stream_without_utf8() -> None:
    raw = io.BytesIO()
    progress = Progress(io.TextIOWrapper(raw, encoding="ascii"))
    progress.phase("wörker → n2", 0)
    assert raw.getvalue() == b"w\\xf6rker -> n2\n"
