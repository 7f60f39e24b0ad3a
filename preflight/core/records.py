"""A JSON object from a file, read with suspicion: every value is looked at before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import TypeVar

MOST = 10**9  # for counts and times

Member = TypeVar("Member", bound=StrEnum)


class UnreadableError(ValueError):
    """Not a snapshot that this version reads; the text says where and why."""


class Record:
    """A JSON object; `where` is its place in the file, for messages."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UnreadableError(f"{where or 'the file'}: not an object")
        self._values: dict[str, object] = value
        self._where = where

    def has(self, key: str) -> bool:
        """Whether it is there at all."""
        return key in self._values

    @property
    def as_it_is(self) -> Mapping[str, object]:
        """All of it."""
        return self._values

    def at(self, key: str) -> str:
        """Where a member stands in the file."""
        return f"{self._where}.{key}" if self._where else key

    def bad(self, key: str, expected: str) -> UnreadableError:
        """What to raise for a member that is missing or not as `expected`."""
        missing = "missing" if key not in self._values else f"not {expected}"
        return UnreadableError(f"{self.at(key)}: {missing}")

    def value(self, key: str) -> object:
        """As it is; None where it is missing."""
        return self._values.get(key)

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self.bad(key, "a text")
        return value

    def maybe_text(self, key: str) -> str | None:
        """None where it is missing or null; likewise for all that begin so."""
        return None if self._values.get(key) is None else self.text(key)

    def words(self, key: str) -> str:
        """A text that may be empty, or missing."""
        value = self._values.get(key, "")
        if not isinstance(value, str):
            raise self.bad(key, "a text")
        return value

    def whole(self, key: str, most: int) -> int:
        """A whole number from 0 to `most`."""
        value = self._values.get(key)
        if type(value) is not int or not 0 <= value <= most:
            raise self.bad(key, f"a whole number up to {most}")
        return value

    def maybe_whole(self, key: str, most: int) -> int | None:
        return None if self._values.get(key) is None else self.whole(key, most)

    def number(self, key: str) -> float:
        """A number from 0 to MOST."""
        value = self._values.get(key)
        if type(value) not in (int, float) or not 0 <= value <= MOST:  # type: ignore[operator]
            raise self.bad(key, "a number of 0 or more")
        return float(value)  # type: ignore[arg-type]

    def maybe_number(self, key: str) -> float | None:
        return None if self._values.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        """True or false; false where it is missing."""
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise self.bad(key, "true or false")
        return value

    def one_of(self, key: str, kinds: type[Member]) -> Member:
        """A member of an enumeration."""
        value = self._values.get(key)
        try:
            return kinds(value)  # type: ignore[arg-type]
        except ValueError:
            raise self.bad(key, f"one of {', '.join(kinds)}") from None

    def maybe_one_of(self, key: str, kinds: type[Member]) -> Member | None:
        return None if self._values.get(key) is None else self.one_of(key, kinds)

    def record(self, key: str) -> Record:
        """An object."""
        return Record(self._values.get(key), self.at(key))

    def members(self, key: str) -> Mapping[str, object]:
        """An object, as it is."""
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.bad(key, "an object")
        return value

    def items(self, key: str) -> list[object]:
        """A list, as it is."""
        value = self._values.get(key)
        if not isinstance(value, list):
            raise self.bad(key, "a list")
        return value

    def records(self, key: str) -> Iterator[Record]:
        """A list of objects."""
        for position, value in enumerate(self.items(key)):
            yield Record(value, f"{self.at(key)}[{position}]")

    def texts(self, key: str) -> list[str]:
        """A list of texts, empty ones too."""
        values = [value for value in self.items(key) if isinstance(value, str)]
        if len(values) != len(self.items(key)):
            raise self.bad(key, "a list of texts")
        return values


def unique(what: str, names: list[str]) -> None:
    """Raises UnreadableError for a name that comes twice in the list called `what`."""
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            raise UnreadableError(f"{what}[{position}]: a second {name!r}")
        seen.add(name)


def is_address(text: str) -> bool:
    """Whether that is a literal IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
