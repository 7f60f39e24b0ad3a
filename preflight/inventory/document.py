"""From a YAML file to a tree of values that know their lines. Nothing here knows what a node is.

The only file that imports PyYAML. It takes the parser's events and builds the tree itself: the
library's own composer recurses in C and dies of a deeply nested file, and its aliases can grow a
small file into one that never ends.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import yaml

from preflight.errors import FileError
from preflight.inventory.problems import Problems, printable

_T = TypeVar("_T")
_MOST_BYTES = 16 * 2**20
_MOST_VALUES = 1_000_000  # 5,000 nodes with 50 keys each are half of it; aliases count as copies
_MOST_LEVELS = 30

# The C parser reads 500 nodes in some 20 ms, the Python one in half a second.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Kind(Enum):
    """What YAML takes a scalar for; the value is how to call it in a message."""

    TEXT = "text"
    INTEGER = "a number"
    FLOAT = "a decimal number"
    BOOLEAN = "a yes/no value"
    NULL = "nothing"
    DATE = "a date"
    MERGE = "a merge key"


_KINDS = {
    "tag:yaml.org,2002:str": Kind.TEXT,
    "tag:yaml.org,2002:value": Kind.TEXT,
    "tag:yaml.org,2002:int": Kind.INTEGER,
    "tag:yaml.org,2002:float": Kind.FLOAT,
    "tag:yaml.org,2002:bool": Kind.BOOLEAN,
    "tag:yaml.org,2002:null": Kind.NULL,
    "tag:yaml.org,2002:timestamp": Kind.DATE,
    "tag:yaml.org,2002:merge": Kind.MERGE,
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, as written: `text` is not converted to what `kind` says."""

    line: int
    text: str
    kind: Kind
    size: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    line: int
    items: "tuple[Value, ...]"
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value`."""

    key: "Value"
    value: "Value"


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys with values, merge keys resolved. A key given twice is here twice."""

    line: int
    entries: tuple[Entry, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something that YAML allows and no inventory can use; `reason` says what to write."""

    line: int
    reason: str
    size: int = 1


Value = Scalar | Sequence | Mapping | Unusable


def read(path: str) -> Value:
    """The whole file as one value. Raises FileError where it is not one readable YAML document."""
    problems = Problems(path)
    return parse(text_of(path, problems), problems)


def read_all(path: str, what: str) -> list[Value]:
    """The documents of a file, which is to be a `what`. Raises FileError as `read` does."""
    problems = Problems(path)
    return _checked(text_of(path, problems, what), problems, _Composer.documents)


def parse(text: str, problems: Problems) -> Value:
    """`text` as one value. Raises FileError where it is not one YAML document."""
    return _checked(text, problems, _Composer.document)


def _checked(text: str, problems: Problems, read_it: "Callable[[_Composer], _T]") -> _T:
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        line = len(_BREAK.findall(text, 0, forbidden.start())) + 1
        char = f"U+{ord(forbidden[0]):04X}"
        raise problems.fatal(f"the control character {char} does not belong in a text file", line)
    try:
        return _composed(text, problems, read_it)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(exc, text, problems) from exc
    except yaml.YAMLError as exc:
        raise problems.fatal(f"not valid YAML: {exc}") from exc
    except (ValueError, OverflowError) as exc:  # the Python parser's way to refuse "\UFFFFFFFF"
        raise problems.fatal("not valid YAML: an escape that stands for no character") from exc


def _composed(text: str, problems: Problems, read_it: "Callable[[_Composer], _T]") -> _T:
    loader = _LOADER(text)
    try:
        return read_it(_Composer(loader, problems))
    finally:
        loader.dispose()


def text_of(path: str, problems: Problems, what: str = "inventory") -> str:
    """What is in a file that is to be a `what`. Raises FileError where it is no readable text."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as exc:
        raise problems.fatal("there is no such file") from exc
    except IsADirectoryError as exc:
        raise problems.fatal(f"is a directory; name the {what} file in it") from exc
    except OSError as exc:
        raise problems.fatal(f"cannot be read: {exc.strerror or exc}") from exc
    except ValueError as exc:  # a NUL in the path
        raise problems.fatal(f"is not a file name: {exc}") from exc
    if len(data) > _MOST_BYTES:
        raise problems.fatal(f"is larger than {_MOST_BYTES // 2**20} MiB: no {what} is")
    try:
        return data.decode()  # the parser skips the byte order mark that Windows editors write
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise problems.fatal(
            f"is not UTF-8 text (byte 0x{data[exc.start]:02x}); save the file as UTF-8", line
        ) from exc


class _Composer:
    """Builds values from parser events; recursion is bounded by `_MOST_LEVELS`."""

    def __init__(self, loader: Any, problems: Problems) -> None:
        self._loader = loader
        self._problems = problems
        self._anchors: dict[str, Value | None] = {}  # None while the anchor's value is being built
        self._values = 0

    def document(self) -> Value:
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise self._problems.fatal('is empty; an inventory has at least "nodes:"', 1)
        value = self._value(self._next(), 0)
        self._next()  # document end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._problems.fatal(
                'a second document begins here; remove the "---"', _line(event)
            )
        return value

    def documents(self) -> list[Value]:
        """Every document; those without a value are left out."""
        found: list[Value] = []
        self._next()  # stream start
        while not isinstance(self._next(), yaml.StreamEndEvent):
            self._anchors.clear()  # they hold within a document
            value = self._value(self._next(), 0)
            if not (isinstance(value, Scalar) and value.kind is Kind.NULL):
                found.append(value)
            self._next()  # document end
        return found

    def _next(self) -> Any:
        return self._loader.get_event()

    def _value(self, event: Any, level: int) -> Value:
        line = _line(event)
        if level > _MOST_LEVELS:
            raise self._problems.fatal(f"nested more than {_MOST_LEVELS} levels deep", line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._spend(1, line)
        value: Value
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(line, level)
        else:
            value = self._mapping(line, level)
        if isinstance(event, yaml.CollectionStartEvent) and event.tag not in _COLLECTION_TAGS:
            value = Unusable(line, f"the tag {printable(event.tag)} is not known here; remove it")
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _alias(self, event: Any) -> Value:
        line = _line(event)
        name = printable(event.anchor)
        if event.anchor not in self._anchors:
            return Unusable(line, f"*{name} has no anchor above it; write &{name} where it is set")
        value = self._anchors[event.anchor]
        if value is None:
            return Unusable(line, f"*{name} stands inside its own anchor &{name}")
        self._spend(value.size, line)
        return value

    def _scalar(self, event: Any, line: int) -> Value:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag not in _KINDS:
            return Unusable(line, f"the tag {printable(tag)} is not known here; remove it")
        return Scalar(line, event.value, _KINDS[tag])

    def _sequence(self, line: int, level: int) -> Sequence:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, level + 1))
        return Sequence(line, tuple(items), 1 + sum(item.size for item in items))

    def _mapping(self, line: int, level: int) -> Mapping:
        entries: list[Entry] = []
        merges: list[Entry] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._value(event, level + 1)
            entry = Entry(key, self._value(self._next(), level + 1))
            is_merge = isinstance(key, Scalar) and key.kind is Kind.MERGE
            (merges if is_merge else entries).append(entry)
        own = {_name(entry.key) for entry in entries}
        for merge in merges:
            for entry in self._merged(merge):
                name = _name(entry.key)
                if name is None or name not in own:
                    own.add(name)
                    entries.append(entry)
        size = 1 + sum(entry.key.size + entry.value.size for entry in entries)
        return Mapping(line, tuple(entries), size)

    def _merged(self, merge: Entry) -> Iterator[Entry]:
        sources = merge.value.items if isinstance(merge.value, Sequence) else (merge.value,)
        for source in sources:
            if isinstance(source, Mapping):
                yield from (entry for entry in source.entries if _name(entry.key) is not None)
            elif isinstance(source, Unusable):
                yield Entry(merge.key, source)
            else:
                reason = "takes a mapping (as *anchor) or a list of mappings"
                yield Entry(merge.key, Unusable(merge.key.line, reason))

    def _spend(self, values: int, line: int) -> None:
        self._values += values
        if self._values > _MOST_VALUES:
            raise self._problems.fatal(
                f"holds more than {_MOST_VALUES:,} values, counting aliases: too many", line
            )


_COLLECTION_TAGS = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def _name(key: Value) -> str | None:
    return key.text if isinstance(key, Scalar) and key.kind is not Kind.MERGE else None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _syntax_error(exc: yaml.MarkedYAMLError, text: str, problems: Problems) -> FileError:
    mark = exc.problem_mark or exc.context_mark
    lines = _BREAK.split(text.rstrip())
    what = f"not valid YAML: {exc.problem or exc.context}"
    if mark is None:
        return problems.fatal(what)
    row = min(mark.line, len(lines) - 1)  # the end of the file is one line past the last
    here = lines[row][mark.column : mark.column + 1] if row == mark.line else ""
    if "cannot start any token" in what and here == "\t":
        what = "not valid YAML: a tab where spaces belong; indent with spaces"
    elif "cannot start any token" in what and here:
        what = f'not valid YAML: a value cannot begin with {here}; put it in "quotes"'
    elif "mapping values are not allowed" in what:
        what += '; put a value that holds ": " in "quotes", and check the indentation'
    elif exc.context and exc.context_mark is not None:
        what += f" {exc.context}"
        if exc.context_mark.line < row:
            what += f" that begins on line {exc.context_mark.line + 1}"
    return problems.fatal(what, row + 1)
