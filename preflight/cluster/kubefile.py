"""What a kubeconfig must be before the client gets it: it takes a file's word for every type, and
tells of what is wrong in Python's words, or in the file's, secrets included."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from preflight.errors import FileError
from preflight.inventory import document
from preflight.inventory.document import Kind, Mapping, Scalar, Sequence, Unusable, Value
from preflight.inventory.problems import Problems, printable, quote

_LISTS = {"clusters": "cluster", "users": "user", "contexts": "context"}
_TEXTS = {
    "cluster": ("server", "certificate-authority", "tls-server-name", "proxy-url"),
    "user": ("tokenFile", "username", "password", "client-certificate", "client-key"),
    "context": ("cluster", "user", "namespace"),
    "exec": ("command", "apiVersion"),
}
_DATA = ("certificate-authority-data", "client-certificate-data", "client-key-data")


class Context(NamedTuple):
    """A cluster, a user and a namespace by their names; empty where it does not say."""

    cluster: str
    user: str
    namespace: str


@dataclass(slots=True)
class Names:
    """What the files define; of two with one name the first counts."""

    contexts: dict[str, Context] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)  # each cluster's, where it has one
    users: set[str] = field(default_factory=set)
    current: str = ""  # the last file's, as the client has it


def names_of(paths: str) -> Names:
    """Of all the files in a text as KUBECONFIG is one; those that are not there are passed over.

    Raises FileError for what the client could not use: file, line, key, and what belongs there.
    Values are not quoted: they may be secrets.
    """
    names = Names()
    for path in filter(None, paths.split(os.pathsep)):
        file = Path(path).expanduser()
        if file.exists():
            _File(str(file)).into(names)
    return names


class _File:
    def __init__(self, path: str) -> None:
        self._problems = Problems(path)
        found = document.read_all(path, "kubeconfig")
        if not found:
            raise self._problems.fatal("is empty: a kubeconfig has clusters, users and contexts")
        if len(found) > 1:
            raise self._problems.fatal("holds several YAML documents: a kubeconfig is one")
        self._root = found[0]

    def into(self, names: Names) -> None:
        root = self._root
        if not isinstance(root, Mapping):
            raise self._wrong(root, "", "clusters, users and contexts belong here")
        self._usable(root)
        there = _entries(root)
        self._texts(there, ("current-context",), "")
        names.current = _text(there.get("current-context")) or names.current
        for key, inner in _LISTS.items():
            for name, entries in self._items(there.get(key), key, inner):
                if key == "contexts":
                    said = (_text(entries.get(of)) for of in Context._fields)
                    names.contexts.setdefault(name, Context(*said))
                elif key == "clusters":
                    names.servers.setdefault(name, _text(entries.get("server")))
                else:
                    names.users.add(name)

    def _items(
        self, value: Value | None, key: str, inner: str
    ) -> Iterator[tuple[str, dict[str, Value]]]:
        """The name and the entries of each item of a list."""
        for i, item in enumerate(self._list(value, key)):
            where = f"{key}[{i}]"
            there = self._mapping(item, where)
            named = there.get("name")
            if named is None or _null(named):
                raise self._wrong(item, where, "has no name")
            if not isinstance(named, Scalar):
                raise self._wrong(named, f"{where}.name", "must be text")
            where = f"{where}.{inner}"
            if inner not in there or _null(there[inner]):
                if inner == "user":
                    yield named.text, {}
                    continue
                raise self._wrong(item, where, "is missing")
            entries = self._mapping(there[inner], where)
            self._texts(entries, _TEXTS[inner], where)
            if inner == "cluster":
                skip = "insecure-skip-tls-verify"
                self._boolean(entries.get(skip), f"{where}.{skip}")
            if inner == "user":
                self._user(entries, where)
            for data in _DATA:
                self._base64(entries.get(data), f"{where}.{data}")
            yield named.text, entries

    def _user(self, entries: dict[str, Value], where: str) -> None:
        token = entries.get("token")
        if token is not None and not isinstance(token, Scalar):
            raise self._wrong(token, f"{where}.token", "must be text")
        if token is not None and not _text(token).strip().isprintable():
            raise self._wrong(token, f"{where}.token", "holds a line break or a control character")
        plugin = entries.get("exec")
        if plugin is None or _null(plugin):
            return
        where = f"{where}.exec"
        there = self._mapping(plugin, where)
        self._texts(there, _TEXTS["exec"], where)
        for key in _TEXTS["exec"]:
            if not _text(there.get(key)):
                raise self._wrong(plugin, f"{where}.{key}", "is missing")
        for i, one in enumerate(self._list(there.get("args"), f"{where}.args")):
            self._is_text(one, f"{where}.args[{i}]")
        for i, one in enumerate(self._list(there.get("env"), f"{where}.env")):
            here = f"{where}.env[{i}]"
            pair = self._mapping(one, here)
            for key in ("name", "value"):
                if key not in pair:
                    raise self._wrong(one, f"{here}.{key}", "is missing")
                self._is_text(pair[key], f"{here}.{key}")

    def _list(self, value: Value | None, where: str) -> tuple[Value, ...]:
        if value is None or _null(value):
            return ()
        if not isinstance(value, Sequence):
            raise self._wrong(value, where, "must be a list")
        return value.items

    def _mapping(self, value: Value, where: str) -> dict[str, Value]:
        if not isinstance(value, Mapping):
            raise self._wrong(value, where, "must be a mapping: `key: value`")
        return _entries(value)

    def _texts(self, there: dict[str, Value], keys: tuple[str, ...], where: str) -> None:
        for key in keys:
            value = there.get(key)
            if value is not None and not _null(value):
                self._is_text(value, f"{where}.{key}".lstrip("."))

    def _boolean(self, value: Value | None, where: str) -> None:
        if value is not None and not (isinstance(value, Scalar) and value.kind is Kind.BOOLEAN):
            raise self._wrong(value, where, "must be true or false")

    def _is_text(self, value: Value, where: str) -> None:
        if not isinstance(value, Scalar):
            raise self._wrong(value, where, "must be text")
        if value.kind is not Kind.TEXT:
            raise self._wrong(value, where, f'is {value.kind.value}: put it in "quotes"')

    def _base64(self, value: Value | None, where: str) -> None:
        if value is None or _null(value):
            return
        self._is_text(value, where)
        try:
            base64.b64decode("".join(_text(value).split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._wrong(value, where, "is not base64: was it cut short?") from error

    def _usable(self, value: Value) -> None:
        """Aliases without an anchor, tags of other programs: the client would not load them."""
        if isinstance(value, Unusable):
            raise self._wrong(value, "", value.reason)
        if isinstance(value, Sequence):
            for item in value.items:
                self._usable(item)
        if isinstance(value, Mapping):
            for entry in value.entries:
                self._usable(entry.key)
                self._usable(entry.value)

    def _wrong(self, value: Value, where: str, message: str) -> FileError:
        before = f"{where}: " if where else ""
        return self._problems.fatal(f"not a usable kubeconfig: {before}{message}", value.line)


def chosen(names: Names, wanted: str | None, shown: str) -> tuple[str, str]:
    """The names of the context that is meant and of its cluster, both of which are there.

    Raises FileError for a reference to nothing; `shown` is what to call the files.
    """
    name = wanted if wanted is not None else names.current
    if not names.contexts:
        raise FileError(f"{shown}: it has no contexts: not a usable kubeconfig")
    if not name:
        there = ", ".join(map(quote, names.contexts))
        raise FileError(f"{shown}: it has no current-context; name one: --context, of {there}")
    if name not in names.contexts:
        raise FileError(f"{shown}: its current-context {quote(name)} is not among its contexts")
    cluster, user, _ = names.contexts[name]
    if cluster not in names.servers:
        missing = f"wants the cluster {quote(cluster)}, and there is none" if cluster else (
            "names no cluster"
        )  # fmt: skip
        raise FileError(f"{shown}: context {quote(name)} {missing}")
    server = names.servers[cluster]
    if not is_url(server):
        wrong = f"server is not a URL: {printable(server)}" if server else "it has no server"
        raise FileError(f"{shown}: cluster {printable(cluster)}: {wrong}")
    if user and user not in names.users:
        raise FileError(f"{shown}: context {quote(name)} wants the user {quote(user)}, "
                        "and there is none")  # fmt: skip
    return name, cluster


def is_url(server: str) -> bool:
    """Whether it can be the address of an API server."""
    try:
        parts = urlsplit(server)
        return parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def _entries(value: Mapping) -> dict[str, Value]:
    return {entry.key.text: entry.value for entry in value.entries if isinstance(entry.key, Scalar)}


def _null(value: Value) -> bool:
    return isinstance(value, Scalar) and value.kind is Kind.NULL


def _text(value: Value | None) -> str:
    return value.text if isinstance(value, Scalar) and value.kind is not Kind.NULL else ""
