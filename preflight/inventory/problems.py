"""Collects everything that is wrong with a file, so that it is all told at once."""

import sys

from preflight.errors import FileError

_LONGEST_QUOTE = 60
_MOST_PROBLEMS = 10_000  # no inventory has them; a wrong file may, and they cost time to word


class Problems:
    """What is wrong with one file, each with its line and key."""

    def __init__(self, file: str) -> None:
        self.file = printable(file) or '""'
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, key: str, message: str, file: str = "") -> None:
        """Note one problem: `key` is the path to it, as in `nodes[2].address`.

        `file` is where it stands, if that is another file, which this one brings with it.
        """
        where = printable(file) or self.file
        self._found.append((line, f"{where}:{line}: {printable(key)}: {printable(message)}"))
        if len(self._found) == _MOST_PROBLEMS:
            last = f"{self.file}: more than {_MOST_PROBLEMS:,} problems; the rest is not told"
            self._found.append((sys.maxsize, last))
            self.raise_any()

    def fatal(self, message: str, line: int | None = None) -> FileError:
        """The error for a file that cannot be read any further."""
        where = self.file if line is None else f"{self.file}:{line}"
        return FileError(f"{where}: {printable(' '.join(message.split()))}")

    def raise_any(self) -> None:
        """Raise FileError with every problem, in the file's order; return where there is none."""
        if self._found:
            self._found.sort(key=lambda found: found[0])
            raise FileError("\n".join(text for _, text in self._found))


def printable(text: str) -> str:
    """`text` on one line, with what a terminal would act on spelled out."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def quote(text: str) -> str:
    """`text` as a message shows it: in quotes, printable, and cut where it is long."""
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 1] + "…"
    return f'"{printable(text)}"'
