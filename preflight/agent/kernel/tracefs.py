"""How this kernel lays out a tracepoint's records, as its tracefs tells.

Where tracefs is mounted nowhere, it is read through a mount that has no place in any directory
and that goes with its descriptor (fsmount of Linux 5.2): nobody sees it, nothing is left.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # alike on every architecture but Alpha
_CMD_CREATE, _CLOEXEC = 6, 1
_READ_ONLY = 0xF  # and no suid, no devices, no programs
_MAX_READ = 1 << 17


class Layout:
    """Where a record's fields lie, from the record's own beginning, and what its reasons mean."""

    def __init__(self, number: int, text: bytes) -> None:
        """`number` and `text` are the event's files `id` and `format`, whatever they hold."""
        self.number = number
        self.fields = _fields(text)
        self.reasons = _symbols(text) if b"reason" in self.fields else {}


def layout(event: str) -> Layout:
    """The layout of `event`, as in skb/kfree_skb. Raises OSError, or ValueError for nonsense."""
    for line in _read(posix.open("/proc/self/mounts", posix.O_RDONLY)).splitlines():
        words = line.split(b" ")
        if len(words) > 2 and words[2] == b"tracefs":
            folder = posix.open(words[1], posix.O_RDONLY | posix.O_DIRECTORY)
            break
    else:
        folder = _unseen_mount()
    try:
        number, text = [
            _read(posix.open("events/%s/%s" % (event, name), posix.O_RDONLY, dir_fd=folder))
            for name in ("id", "format")
        ]
    finally:
        posix.close(folder)
    return Layout(int(number), text)


def _unseen_mount() -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *values: "Any") -> int:
        result = int(libc.syscall(ctypes.c_long(number), *values))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, "tracefs is not mounted: " + posix.strerror(code))
        return result

    nothing, zero = ctypes.c_void_p(None), ctypes.c_int(0)
    context = call(_FSOPEN, ctypes.c_char_p(b"tracefs"), ctypes.c_uint(_CLOEXEC))
    try:
        call(_FSCONFIG, ctypes.c_int(context), ctypes.c_uint(_CMD_CREATE), nothing, nothing, zero)
        flags = ctypes.c_uint(_CLOEXEC), ctypes.c_uint(_READ_ONLY)
        return call(_FSMOUNT, ctypes.c_int(context), *flags)
    finally:
        posix.close(context)


def _read(fd: int) -> bytes:
    try:
        out = b""
        while len(out) < _MAX_READ:
            piece = posix.read(fd, 1 << 14)
            if not piece:
                break
            out += piece
        return out
    finally:
        posix.close(fd)


def _fields(text: bytes) -> "dict[bytes, tuple[int, int]]":
    """(offset, size) of each field by its name."""
    out = {}
    for line in text.splitlines():
        told = {}
        for part in line.strip().split(b";"):
            key, _, value = part.strip().partition(b":")
            told[key] = value
        try:
            name = told[b"field"].split()[-1]
            out[name] = int(told[b"offset"]), int(told[b"size"])
        except (KeyError, IndexError, ValueError):
            continue
    return out


def _symbols(text: bytes) -> "dict[int, str]":
    """The names in the last `__print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, ...)`."""
    out = {}
    for pair in text.rpartition(b"REC->reason")[2].split(b"{")[1:]:
        number, _, rest = pair.partition(b",")
        name = rest.split(b'"')
        try:
            out[int(number, 0)] = name[1].decode("ascii")
        except (IndexError, ValueError):
            continue
    return out
