"""Nodes as other tools' files describe them, made into ours by the same rules as the native form.

A message names file, line and that file's own key, never one of ours. A value is quoted only where
its key can hold no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeVar

from preflight.core.model import Connection, Node
from preflight.inventory import fields
from preflight.inventory.document import Kind, Scalar, Value
from preflight.inventory.problems import Problems, printable, quote

_T = TypeVar("_T")


class Given(NamedTuple):
    """A value, and where it stands."""

    text: str
    line: int
    key: str  # as its file calls it
    file: str = ""  # empty: the inventory itself

    def value(self) -> Value:
        """As the checks of the native form take it."""
        return Scalar(self.line, self.text, Kind.TEXT)


@dataclass(slots=True)
class Draft:
    """One node, unchecked."""

    name: Given
    addresses: list[Given] = field(default_factory=list)  # in the order of preference
    connection: Connection = Connection.SSH
    host: Given | None = None
    user: Given | None = None
    port: Given | None = None
    identity_file: Given | None = None
    known_hosts: Given | None = None
    proxy_jump: Given | None = None
    become: str | None = None
    python: Given | None = None
    labels: dict[str, str] = field(default_factory=dict)


class Remarks:
    """What was left out or guessed, for whoever relies on the result; each thing once."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, None] = {}

    def add(self, text: str, line: int | None = None, file: str = "") -> None:
        """`text` holds no value of a file that may be secret."""
        where = file or self._file
        told = f"{where}: {text}" if line is None else f"{where}:{line}: {text}"
        self._found[printable(told)] = None

    def all(self) -> tuple[str, ...]:
        """In the order in which they came."""
        return tuple(self._found)


def nodes(drafts: Sequence[Draft], problems: Problems, *, quotes: bool = True) -> tuple[Node, ...]:
    """The drafts, checked; what is wrong goes to `problems`.

    Without `quotes` no message holds a value: the file is known to hold secrets.
    """
    checks = _Checks(problems, quotes=quotes)
    return tuple(checks.node(draft) for draft in drafts)


class _Checks:
    def __init__(self, problems: Problems, *, quotes: bool) -> None:
        self._problems = problems
        self._quotes = quotes
        self._owners: dict[object, str] = {}

    def node(self, draft: Draft) -> Node:
        name = self._checked(draft.name, draft, fields.word, "")
        self._unique(("name", name), draft.name, draft)
        addresses = self._addresses(draft)
        host = self._optional(draft.host, draft, fields.host)
        if draft.connection is Connection.LOCAL:
            self._unique(Connection.LOCAL, draft.name, draft)
        return Node(
            name=name,
            addresses=addresses,
            host=host or next(iter(addresses), ""),
            connection=draft.connection,
            user=self._optional(draft.user, draft, fields.user),
            port=self._optional(draft.port, draft, _port),
            identity_file=self._optional(draft.identity_file, draft, fields.identity_file),
            known_hosts=self._optional(draft.known_hosts, draft, fields.file_path),
            proxy_jump=self._optional(draft.proxy_jump, draft, fields.proxy_jump),
            become=draft.become,
            python=self._optional(draft.python, draft, fields.python),
            labels=dict(draft.labels),
        )

    def _addresses(self, draft: Draft) -> tuple[str, ...]:
        found: dict[int, IPv4Address | IPv6Address] = {}
        for given in draft.addresses:
            address = self._checked(given, draft, fields.address, None)
            if address is not None and address.version not in found:
                found[address.version] = address
                self._unique(address, given, draft)
        return tuple(str(address) for address in found.values())

    def _unique(self, thing: object, given: Given, draft: Draft) -> None:
        here = (
            f"{draft.name.text} (line {draft.name.line})"
            if self._quotes
            else (f"line {draft.name.line}")
        )
        owner = self._owners.setdefault(thing, here)
        if owner != here:
            text = f"is that of {owner} too; each node has its own"
            if thing is Connection.LOCAL:
                text = f"only one node can be this machine, and {owner} is"
            self._problem(given, draft, text)

    def _optional(
        self, given: Given | None, draft: Draft, parse: Callable[[Value], _T]
    ) -> _T | None:
        return None if given is None else self._checked(given, draft, parse, None)

    def _checked(self, given: Given, draft: Draft, parse: Callable[[Value], _T], default: _T) -> _T:
        try:
            return parse(given.value())
        except fields.Invalid as exc:
            text = str(exc) if self._quotes else _without_value(given.key)
            self._problem(given, draft, text)
            return default

    def _problem(self, given: Given, draft: Draft, text: str) -> None:
        own = given is draft.name
        key = given.key if own or not self._quotes else f"{_shown(draft.name.text)}: {given.key}"
        self._problems.add(given.line, key, text, given.file)


def _port(value: Value) -> int:
    """Other files do not tell a number from a text."""
    text = value.text if isinstance(value, Scalar) else ""
    return fields.port(Scalar(value.line, text, Kind.INTEGER))


_WANTED: Mapping[str, str] = {
    "hostname": "is no name without spaces; write the node's own",
    "ip_address": "is no address that other nodes reach it by; write its IPv4 or IPv6 address",
}


def _without_value(key: str) -> str:
    return _WANTED.get(key, "cannot be used; correct it")


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) < 60 else quote(name)
