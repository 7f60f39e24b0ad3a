"""The names of kernel functions, from /proc/kallsyms."""

import posix
from bisect import bisect_right

_PIECE = 1 << 20
_DIGITS = 16  # of an address on 64 bits


class Symbols:
    """Finds for some addresses the function that each is in, as the list goes by.

    The list is not sorted throughout: modules' functions stand behind the kernel's own.
    """

    def __init__(self, addresses: "set[int]") -> None:
        self._best = {b"%016x" % address: b"" for address in addresses}

    def feed(self, lines: "list[bytes]") -> None:
        """Some lines of the list, whole ones, whatever they hold."""
        lines = sorted(lines)
        for address, best in self._best.items():
            at = bisect_right(lines, address + b"~")
            if at and lines[at - 1] > best:
                self._best[address] = lines[at - 1]

    def names(self) -> "dict[int, str]":
        """What was found: no compiler's suffix, nothing where addresses are hidden from us."""
        out = {}
        for address, line in self._best.items():
            words = line.split()
            if len(words) > 2 and len(words[0]) == _DIGITS and words[0].strip(b"0"):
                out[int(address, 16)] = words[2].decode("ascii", "replace").partition(".")[0]
        return out


def names(addresses: "set[int]") -> "dict[int, str]":
    """The functions that these addresses are in; without those that cannot be told."""
    symbols = Symbols(addresses)
    if addresses:
        try:
            fd = posix.open("/proc/kallsyms", posix.O_RDONLY)
        except OSError:
            return {}
        try:
            rest = b""
            while True:
                piece = posix.read(fd, _PIECE)
                lines = (rest + piece).split(b"\n")
                rest = lines.pop()
                symbols.feed(lines)
                if not piece:
                    break
        finally:
            posix.close(fd)
    return symbols.names()
