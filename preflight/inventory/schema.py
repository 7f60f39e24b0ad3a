"""Walks the file's tree: which keys there are, which must be there, and where each problem is."""

import difflib
from collections.abc import Callable, Sequence
from typing import TypeVar

from preflight.inventory import document
from preflight.inventory.document import Kind, Mapping, Scalar, Unusable, Value
from preflight.inventory.fields import Invalid
from preflight.inventory.problems import Problems, quote

_T = TypeVar("_T")
_LONGEST_KEY = 40


class Section:
    """One mapping of the file. It hands out checked values; what is wrong goes to `problems`."""

    def __init__(
        self,
        mapping: Mapping,
        path: str,
        problems: Problems,
        known: Sequence[str] | None = None,
        misplaced: dict[str, str] | None = None,
    ) -> None:
        """`known` are the keys it may have (None: any), `misplaced` says where others belong."""
        self.line = mapping.line
        self.path = path
        self.problems = problems
        self._values: dict[str, Value] = {}
        self._meant: set[str] = set()  # known keys that an unknown one resembles
        self.lines: dict[str, int] = {}  # of the usable keys, in the file's order
        for entry in mapping.entries:
            key = self._key(entry)
            if key is None:
                continue
            line = entry.key.line
            if key in self._values:
                problems.add(line, self.at(key), f"is given twice, first on line {self.lines[key]}")
            elif known is not None and key not in known:
                problems.add(line, self.at(key), self._unknown(key, known, misplaced or {}))
            else:
                self.lines[key] = line
                self._values[key] = entry.value

    def at(self, key: str) -> str:
        """The path of `key`, as messages name it."""
        plain = 0 < len(key) <= _LONGEST_KEY and key.isprintable() and " " not in key
        shown = key if plain else quote(key)
        return f"{self.path}.{shown}" if self.path else shown

    def value(self, key: str) -> Value | None:
        """The value of `key` unchecked, None where the key is absent."""
        return self._values.get(key)

    def invalid(self, key: str, message: str) -> None:
        """Note a problem with the value of `key`, which the mapping may have from elsewhere."""
        value = self._values.get(key)
        self.problems.add(self.line if value is None else value.line, self.at(key), message)

    def missing(self, key: str, wanted: str) -> None:
        """Note that `key` is not there, unless an unknown key looks like a slip for it."""
        if key not in self._meant:
            self.problems.add(self.line, self.at(key), f"is missing; write {wanted}")

    def given(self, key: str, parse: Callable[[Value], _T], default: _T) -> _T:
        """The value of `key`, which must have one; `default` where it is absent or wrong."""
        value = self._values.get(key)
        if value is None:
            return default
        return checked(value, self.at(key), self.problems, parse, default)

    def optional(
        self, key: str, parse: Callable[[Value], _T | None], default: _T | None
    ) -> _T | None:
        """As `given`, but null is a value too: it means none, whatever the default."""
        if is_null(self._values.get(key)):
            return None
        return self.given(key, parse, default)

    def required(self, key: str, parse: Callable[[Value], _T], wanted: str) -> _T | None:
        """As `given`, but absence is a problem; `wanted` says what to write."""
        if key not in self._values:
            self.missing(key, wanted)
            return None
        return self.given(key, parse, None)

    def _key(self, entry: document.Entry) -> str | None:
        key = entry.key
        if isinstance(key, Scalar) and key.kind is Kind.TEXT:
            return key.text
        if isinstance(key, Scalar) and key.kind is Kind.MERGE:
            reason = entry.value.reason if isinstance(entry.value, Unusable) else ""
            self.problems.add(key.line, self.at("<<"), reason)
        elif isinstance(key, Scalar) and key.text:
            shown = quote(key.text)
            message = f"{shown[1:-1]} is {key.kind.value} to YAML; put it in quotes: {shown}"
            self.problems.add(key.line, self.at(key.text), message)
        else:
            self.problems.add(key.line, self.path or "the file", "holds a key that is no text")
        return None

    def _unknown(self, key: str, known: Sequence[str], misplaced: dict[str, str]) -> str:
        if key in misplaced:
            return misplaced[key]
        near = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1)
        if near:
            self._meant.add(near[0])
            return f'unknown key; did you mean "{near[0]}"?'
        return f"unknown key; known here: {', '.join(known)}"


def section(
    value: Value,
    path: str,
    problems: Problems,
    known: Sequence[str] | None = None,
    *,
    wanted: str,
    misplaced: dict[str, str] | None = None,
) -> Section | None:
    """`value` as a Section, or None where it is no mapping; `wanted` says what to write."""
    if isinstance(value, Mapping):
        return Section(value, path, problems, known, misplaced)
    reason = value.reason if isinstance(value, Unusable) else f"must be {wanted}"
    problems.add(value.line, path or "the file", reason)
    return None


def items(value: Value, path: str, problems: Problems, *, wanted: str) -> list[tuple[str, Value]]:
    """The items of a list, each with its path; none where `value` is no list or an empty one."""
    if isinstance(value, document.Sequence) and value.items:
        return [(f"{path}[{number}]", item) for number, item in enumerate(value.items)]
    if isinstance(value, Unusable):
        reason = value.reason
    elif isinstance(value, document.Sequence) or is_null(value):
        reason = f"is empty; write {wanted}"
    else:
        reason = f"must be a list; write {wanted}"
    problems.add(value.line, path, reason)
    return []


def checked(
    value: Value, path: str, problems: Problems, parse: Callable[[Value], _T], default: _T
) -> _T:
    """`parse(value)`, or `default` after noting what is wrong."""
    try:
        return parse(value)
    except Invalid as exc:
        problems.add(value.line, path, str(exc))
        return default


def is_null(value: Value | None) -> bool:
    """True for a key written without a value, or with null."""
    return isinstance(value, Scalar) and value.kind is Kind.NULL
