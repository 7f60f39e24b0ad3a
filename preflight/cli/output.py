"""Where results and messages go, and what is said where they cannot be written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, TextIO

import typer
from typer.models import OptionInfo

from preflight.errors import FileError, UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write it there: replaced as a whole, or not at all."
    ),
]
SnapshotFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Save the snapshot too; a file there is replaced."
    ),
]


class ReaderGoneError(Exception):
    """Whoever read our output has enough, and a command without an end has to end."""


class _Results(FileIO):
    """Standard output; what it does not take is an error of the user's, whoever was writing.

    A command whose reader has enough goes on to its exit code, which is not known before.
    """

    endless = False

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self.endless:
                raise ReaderGoneError from None
            return memoryview(data).nbytes
        except OSError as error:
            raise FileError(
                f"the results could not be written to standard output: {error.strerror}"
            ) from error


class _Messages(FileIO):
    """Standard error; where it takes nothing, nobody can be told."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def schema_option(text: Callable[[], str]) -> OptionInfo:
    """`--schema`, which prints a JSON Schema, whatever else is asked for or left out."""

    def told(wanted: bool) -> None:
        if wanted:
            sys.stdout.write(text())
            raise typer.Exit

    option: OptionInfo = typer.Option(
        "--schema", callback=told, is_eager=True, help="Print the JSON Schema."
    )
    return option


def guard() -> None:
    """Put those two in the place of the process's own. Raises FileError without an output."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process lives
    elif isinstance(sys.stderr, TextIOWrapper):
        sys.stderr = _around(_Messages(2, "wb", closefd=False), sys.stderr)
    if sys.stdout is None:
        raise FileError("standard output is closed: the results have nowhere to go")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout = _around(_Results(1, "wb", closefd=False), sys.stdout)


def endless() -> None:
    """This command ends when nobody reads its results any more."""
    _Results.endless = True


def _around(raw: FileIO, like: TextIOWrapper) -> TextIOWrapper:
    """A text stream that differs from `like` in the last step alone."""
    # With `python -u` there is no buffer in between.
    binary: IO[bytes] = raw if isinstance(like.buffer, FileIO) else BufferedWriter(raw)
    return TextIOWrapper(
        binary,
        encoding=like.encoding,
        errors=like.errors,
        line_buffering=like.line_buffering,
        write_through=like.write_through,
    )


def ready(output: Path | None, *sources: Path | None) -> None:
    """Find out now whether results can be written there, where a file that is there is replaced.

    Raises FileError, and UsageError for a file that is one of `sources`.
    """
    if output is None:
        return
    from preflight.atomic import ensure_writable

    ensure_writable(output)
    read = [source for source in sources if source is not None and source.exists()]
    if output.is_file() and any(map(output.samefile, read)):
        raise UsageError(f"{output}: this is what is read; choose another file for --output")


def written(output: Path | None, write: Callable[[TextIO], object], *, utf8: bool = False) -> None:
    """Have results written to standard output, or whole or not at all to a file.

    A file is UTF-8; with `utf8` standard output too, whatever the terminal's encoding is.
    """
    if output is None:
        if utf8 and isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        write(sys.stdout)
        sys.stdout.flush()
        return
    from preflight.atomic import replacing

    with replacing(output) as raw:
        text = TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
        try:
            write(text)
            text.flush()
        finally:
            text.detach()
