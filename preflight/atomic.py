"""Files written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from preflight.errors import FileError

_STREAM = re.compile(r"(?:/dev|/proc/self)/fd/(\d+)")
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@contextmanager
def replacing(path: str | Path) -> Iterator[BufferedWriter]:
    """A file that takes the place of `path` once the block has ended well.

    After a crash, an interruption or an error the old file is as it was. A symbolic link stays
    and the file it names is replaced; a pipe or a device is written to. Raises FileError.
    """
    target = Path(path)
    try:
        with _opened(target) as file:
            yield file
    except OSError as error:
        raise FileError(f"{path}: not saved: {_why(error, target)}") from error


def ensure_writable(path: str | Path) -> None:
    """Find out now, not after the run, whether `replacing` could write there. Raises FileError.

    Nothing is left behind, and a file that is there is not touched.
    """
    target = Path(path)
    try:
        if _stream(target) is not None or _is_special(target):
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        draft = _draft(Path(os.path.realpath(target)))
        os.close(os.open(draft, _NEW, 0o666))
        draft.unlink()
    except OSError as error:
        raise FileError(f"{path}: cannot be saved to: {_why(error, target)}") from error


def holds(path: str | Path) -> bool:
    """Whether a file is there that `replacing` would replace, with something in it."""
    target = Path(path)
    try:
        return _stream(target) is None and target.is_file() and target.stat().st_size > 0
    except OSError:
        return False


def ensure_directory(path: str | Path) -> None:
    """A directory that files can be made in, created where it is missing. Raises FileError."""
    target = Path(path)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: no directory to save to: {error.strerror or error}") from error
    ensure_writable(target / "x")


@contextmanager
def _opened(path: Path) -> Iterator[BufferedWriter]:
    stream = _stream(path)
    if stream is not None:
        # Another open() of a redirected stream would have its own position in the file.
        sys.stdout.flush()
        with open(os.dup(stream), "wb") as file:
            yield file
        return
    if _is_special(path):
        with path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    draft = _draft(target)
    try:
        with open(os.open(draft, _NEW, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    _sync_directory(target.parent)


def _draft(target: Path) -> Path:
    """A name beside `target` that nobody has."""
    return target.with_name(f".preflight-{secrets.token_hex(6)}.tmp")


def _stream(path: Path) -> int | None:
    """The open descriptor that `path` stands for: `/dev/stdout`, `/dev/fd/3`."""
    found = _STREAM.fullmatch(str(path))
    return int(found[1]) if found else _STREAMS.get(str(path))


def _is_special(path: Path) -> bool:
    """True for a pipe, a socket or a device. Raises OSError for a directory."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return not stat.S_ISREG(mode)


def _sync_directory(directory: Path) -> None:
    """The new name reaches the disk too, where the file system can do that."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _why(error: OSError, path: Path) -> str:
    """What happened, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error.strerror}: make room, or choose another place with --output"
    if error.errno == errno.ENOENT:
        return f"there is no directory {path.absolute().parent}: create it"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror} in {path.absolute().parent}: choose another place with --output"
    if error.errno == errno.EISDIR:
        return "it is a directory: name a file in it"
    return error.strerror or str(error)
