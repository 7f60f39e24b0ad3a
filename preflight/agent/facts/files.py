"""Small files of /proc, /sys and /etc. Unlike `host.read` these say why they cannot be read."""

import errno
import posix

_MOST = 1 << 25


def read(path: str, most: int = _MOST) -> bytes:
    """The first `most` bytes of a file. Raises OSError, also where a whole file is too large."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    try:
        pieces, size = [], 0
        while size < most:
            piece = posix.read(fd, min(1 << 18, most - size))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        if size == _MOST:  # a table that is cut short would say that something is not there
            raise OSError(errno.EFBIG, "too large", path)
        return b"".join(pieces)
    finally:
        posix.close(fd)


def text(path: str) -> str:
    """Likewise as text. Raises OSError."""
    return read(path).decode("utf-8", "replace")


def number(path: str) -> int:
    """A file that holds one number. Raises OSError, ValueError."""
    return int(read(path, 64))


def exists(path: str) -> bool:
    """Whether there is such a file, be it a link to nowhere."""
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def names(path: str) -> "list[str]":
    """What is in a folder, sorted. Raises OSError."""
    return sorted(posix.listdir(path))


def settings(text: str) -> "dict[str, str]":
    """The KEY=VALUE lines of a shell-like or ini-like file; sections and comments are left out."""
    out = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith(("#", ";", "[")):
            out[key.strip()] = value.strip().strip("\"'")
    return out
