"""`~/.ssh/config` and its kin, read as OpenSSH reads them.

The first value found wins, identity files add up, `Include`, `Host` and `Match` are as in
ssh_config(5), without `localnetwork` and host name canonicalization. Keywords that we have no use
for are passed over.
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from preflight.errors import FileError

_MOST_INCLUDES = 16
_EXEC_TIMEOUT = 10.0
_ADD_UP = {"identityfile", "certificatefile"}


class _Line(NamedTuple):
    where: str  # file:line
    key: str
    args: tuple[str, ...]
    included: tuple[tuple[_Line, ...], ...] = ()


class Options:
    """What the files say about one host."""

    def __init__(self, given: Mapping[str, str | int | None]) -> None:
        """`given` goes before the files, as ssh's own options do."""
        self._values: dict[str, list[tuple[str, tuple[str, ...]]]] = {
            key: [("given", (str(value),))] for key, value in given.items() if value is not None
        }

    def take(self, where: str, key: str, args: tuple[str, ...]) -> None:
        """Note a value, unless there is one already."""
        values = self._values.setdefault(key, [])
        if not values or (key in _ADD_UP and args not in [known for _, known in values]):
            values.append((where, args))

    def first(self, key: str) -> str | None:
        """The value of `key`, or None."""
        values = self._values.get(key)
        return values[0][1][0] if values else None

    def words(self, key: str) -> list[str]:
        """All words of all values of `key`."""
        return [word for _, args in self._values.get(key, ()) for word in args]

    def is_on(self, key: str) -> bool:
        """Whether `key` says yes."""
        return (self.first(key) or "").lower() in ("yes", "true")

    def number(self, key: str, largest: int) -> int | None:
        """The number that `key` says. Raises FileError for anything else."""
        text = self.first(key)
        if text is None or text.lower() == "none":
            return None
        if not text.isascii() or not text.isdigit() or int(text) > largest:
            where = self._values[key][0][0]
            raise FileError(f"{where}: {key}: {text!r} is no whole number up to {largest}")
        return int(text)


class SshConfig:
    """The configuration files, read once."""

    def __init__(self, files: Iterable[str | Path] | None = None) -> None:
        """`files` defaults to the user's and then the system's.

        Raises FileError for a line that cannot be understood.
        """
        self.home = os.path.expanduser("~")
        self.local_user = pwd.getpwuid(os.getuid()).pw_name
        if files is None:
            files = [f"{self.home}/.ssh/config", "/etc/ssh/ssh_config"]
        self._files = [_read(str(file), self.home) for file in files]
        self._exec_results: dict[str, bool] = {}

    def lookup(self, name: str, user: str | None = None, port: int | None = None) -> Options:
        """The options for `ssh -l user -p port name`. Raises FileError."""
        options = Options({"user": user, "port": port})
        walk = _Walk(self, options, name, name, final=False)
        for file in self._files:
            walk.file(file, reached=True)
        if walk.wants_final:
            host = host_name(options, name)
            options.take("given", "hostname", (host,))  # the last pass does not change it
            again = _Walk(self, options, host, name, final=True)
            for file in self._files:
                again.file(file, reached=True)
        return options

    def exec_succeeds(self, command: str) -> bool:
        """Whether a `Match exec` command of the user's own file ends with status 0."""
        if command not in self._exec_results:
            try:
                done = subprocess.run(
                    ["/bin/sh", "-c", command],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    timeout=_EXEC_TIMEOUT,
                )
                self._exec_results[command] = done.returncode == 0
            except (OSError, subprocess.TimeoutExpired):
                self._exec_results[command] = False
        return self._exec_results[command]


def host_name(options: Options, name: str) -> str:
    """Where ssh connects for `name`."""
    return expand(options.first("hostname") or name, {"h": name, "%": "%"})


def expand(text: str, tokens: Mapping[str, str]) -> str:
    """Replace ssh_config's percent tokens; unknown ones stay."""
    return re.sub(r"%(.)", lambda m: tokens.get(m[1], m[0]), text)


def matches(patterns: Iterable[str], text: str) -> bool:
    """OpenSSH's pattern lists: `*`, `?`, and `!` to exclude."""
    matched = False
    for pattern in patterns:
        # Brackets are fnmatch's alone.
        if fnmatchcase(text, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


class _Walk:
    """One pass over the files for one host."""

    def __init__(
        self, config: SshConfig, options: Options, host: str, original: str, *, final: bool
    ) -> None:
        self._config = config
        self._options = options
        self._host = host
        self._original = original
        self._final = final
        self.wants_final = False

    def file(self, lines: tuple[_Line, ...], *, reached: bool) -> None:
        """Take a file's values; not `reached` inside a block that does not apply."""
        active = reached
        for line in lines:
            if line.key == "host":
                active = reached and matches(line.args, self._host)
            elif line.key == "match":
                active = reached and self._match(line)
            elif line.key == "include":
                for included in line.included:
                    self.file(included, reached=active)
            elif active:
                self._options.take(line.where, line.key, line.args)

    def _match(self, line: _Line) -> bool:
        criteria = list(line.args)
        while criteria:
            word, _, inline = criteria.pop(0).partition("=")
            kind = word.removeprefix("!").lower()
            if kind == "final":
                self.wants_final = True
            if kind in ("all", "final", "canonical"):
                result = kind == "all" or self._final
            else:
                if not inline and not criteria:
                    raise FileError(f"{line.where}: Match {word} lacks its value")
                result = self._fits(kind, inline or criteria.pop(0), line.where)
            if result is word.startswith("!"):
                return False
        return True

    def _fits(self, kind: str, value: str, where: str) -> bool:
        host = host_name(self._options, self._original)
        user = self._options.first("user") or self._config.local_user
        subjects = {
            "host": host,
            "originalhost": self._original,
            "user": user,
            "localuser": self._config.local_user,
            "tagged": self._options.first("tag") or "",
        }
        if kind in subjects:
            return matches(value.split(","), subjects[kind])
        if kind == "exec":
            tokens = {"%": "%", "h": host, "n": self._original, "r": user}
            tokens["p"] = self._options.first("port") or "22"
            tokens["u"] = self._config.local_user
            return self._config.exec_succeeds(expand(value, tokens))
        if kind == "localnetwork":
            return False
        raise FileError(f"{where}: Match {kind} is not known")


_KEYWORD = re.compile(r"""\s*([A-Za-z]\w*)(?:\s*=\s*|\s+|(?="))(.*?)\s*$""")
_WORD = re.compile(r"""\s*(?:(#.*)|((?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+))""")
_PIECE = re.compile(r""""((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|((?:\\.|[^"'\\])+)""")


def _read(path: str, home: str, depth: int = 0) -> tuple[_Line, ...]:
    try:
        text = Path(path).read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise FileError(f"{path}: {exc.strerror}: make it readable, or move it away") from exc
    lines: list[_Line] = []
    for number, raw in enumerate(text.split("\n"), 1):
        where = f"{path}:{number}"
        if not raw.strip() or raw.lstrip().startswith("#"):
            continue
        found = _KEYWORD.match(raw)
        if found is None:
            raise FileError(f"{where}: not a keyword and its value: {raw.strip()[:60]!r}")
        key, rest = found[1].lower(), found[2]
        # A command's quotes are its shell's business.
        args = (rest,) if key == "proxycommand" else _split(rest, where)
        if not args or not args[0]:
            raise FileError(f"{where}: {found[1]} lacks its value")
        included: tuple[tuple[_Line, ...], ...] = ()
        if key == "include":
            if depth >= _MOST_INCLUDES:
                raise FileError(f"{where}: files include each other more than {depth} deep")
            base = "/etc/ssh" if path.startswith("/etc/ssh/") else f"{home}/.ssh"
            globs = (os.path.join(base, os.path.expanduser(word)) for word in args)
            paths = (each for pattern in globs for each in sorted(glob.glob(pattern)))
            included = tuple(_read(each, home, depth + 1) for each in paths)
        lines.append(_Line(where, key, args, included))
    return tuple(lines)


def _split(text: str, where: str) -> tuple[str, ...]:
    words: list[str] = []
    at = 0
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            raise FileError(f"{where}: a quote is not closed")
        if found[1]:
            break
        pieces = (m[1] or m[2] or m[3] or "" for m in _PIECE.finditer(found[2]))
        words.append(re.sub(r"""\\(["'\\ ])""", r"\1", "".join(pieces)))
        at = found.end()
    return tuple(words)
