"""Known hosts: who a host said it was before. It holds the rules of OpenSSH's known_hosts files.

Plain, wildcard, negated, hashed and `[host]:port` names, several keys and types for a host, and
`@revoked` lines are understood. `@cert-authority` lines are not: a host that is known by its
authority alone counts as unknown, and the message says so. A line that makes no sense is skipped,
as OpenSSH does, and never touched.
"""

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One key of one line of a known_hosts file."""

    where: str  # file:line
    marker: str  # "", "@revoked" or "@cert-authority"
    kind: str  # e.g. ssh-ed25519
    key: bytes


class Standing(Enum):
    """What known_hosts says of a key that a host presents."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


class Opinion(NamedTuple):
    """A standing, and the entry that made it so."""

    standing: Standing
    entry: Entry | None = None


@dataclass
class _File:
    plain: dict[str, list[Entry]] = field(default_factory=dict)
    patterns: list[tuple[list[str], Entry]] = field(default_factory=list)
    hashed: list[tuple[bytes, bytes, Entry]] = field(default_factory=list)
    found: dict[str, list[Entry]] = field(default_factory=dict)  # by name, once looked for

    def find(self, name: str) -> list[Entry]:
        if name not in self.found:
            encoded = name.encode()
            self.found[name] = [
                *self.plain.get(name, ()),
                *(entry for patterns, entry in self.patterns if _matches(patterns, name)),
                *(
                    entry
                    for salt, digest, entry in self.hashed
                    if hmac.digest(salt, encoded, "sha1") == digest
                ),
            ]
        return self.found[name]


def host_name(host: str, port: int, alias: str | None = None) -> str:
    """The name under which a host is listed."""
    if alias is not None:
        return alias
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def fingerprint(key: bytes) -> str:
    """A public key's fingerprint, as ssh-keygen shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def opinion(entries: Iterable[Entry], kind: str, key: bytes) -> Opinion:
    """What `entries` of one host say of the key it presents.

    A host known by keys of other types alone has changed, too: whoever sits in between could
    otherwise offer a type that we have not seen.
    """
    known = changed = None
    for entry in entries:
        if entry.marker == "@cert-authority":
            continue
        if entry.marker == "@revoked":
            if entry.key == key:
                return Opinion(Standing.REVOKED, entry)
        elif entry.key == key:
            known = known or entry
        elif changed is None or (entry.kind == kind != changed.kind):
            changed = entry
    if known:
        return Opinion(Standing.KNOWN, known)
    return Opinion(Standing.CHANGED, changed) if changed else Opinion(Standing.UNKNOWN)


def parse_line(line: str, where: str) -> tuple[str, Entry] | None:
    """A line's names and entry, or None for what is neither."""
    words = line.split()
    if not words or words[0].startswith("#"):
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", "@revoked", "@cert-authority") or len(words) < 3:
        return None
    names, kind, blob = words[:3]
    try:
        key = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        return None
    # A key begins with its type's name.
    if key[:4] != len(kind).to_bytes(4, "big") or key[4 : 4 + len(kind)] != kind.encode():
        return None
    return names, Entry(where, marker, kind, key)


def _matches(patterns: Sequence[str], name: str) -> bool:
    matched = False
    for pattern in patterns:
        # Only * and ? are special in known_hosts, and addresses hold brackets.
        if fnmatchcase(name, re.sub(r"\[", "[[]", pattern.lstrip("!"))):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


class KnownHosts:
    """All known_hosts files of a run, each read once."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def find(self, paths: Iterable[str], name: str) -> list[Entry]:
        """What the files at `paths` list under `name`. A file that cannot be read lists nothing."""
        return [entry for path in paths for entry in self._file(path).find(name.lower())]

    def add(self, path: str, name: str, kind: str, key: bytes, hashed: bool = False) -> None:
        """Append a host's key to the file at `path`, which is made if need be.

        With `hashed` the name is written as HashKnownHosts would. Raises OSError.
        """
        if hashed:
            salt = os.urandom(20)
            digest = hmac.digest(salt, name.encode(), "sha1")
            listed = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
        else:
            listed = name
        line = f"{listed} {kind} {base64.b64encode(key).decode()}\n"
        file = self._file(path)
        with self._lock:
            _append(path, line)
            entry = Entry(path, "", kind, key)
            file.found[name.lower()] = [*file.find(name.lower()), entry]

    def _file(self, path: str) -> _File:
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = _read(path)
            return file


def _read(path: str) -> _File:
    file = _File()
    try:
        text = Path(path).read_text("utf-8", "replace")
    except OSError:
        return file
    for number, line in enumerate(text.split("\n"), 1):
        parsed = parse_line(line, f"{path}:{number}")
        if parsed is None:
            continue
        names, entry = parsed
        if names.startswith("|"):
            try:
                _, method, salt, digest = names.split("|")
                pair = base64.b64decode(salt), base64.b64decode(digest)
            except (ValueError, binascii.Error):
                continue
            if method == "1":
                file.hashed.append((*pair, entry))
            continue
        patterns = [p.lower() for p in names.split(",") if p]
        if any(set("*?!") & set(p) for p in patterns):
            file.patterns.append((patterns, entry))
        else:
            for name in patterns:
                file.plain.setdefault(name, []).append(entry)
    return file


def _append(path: str, line: str) -> None:
    """One write at the end, under a lock that other runs respect; other lines stay as they are."""
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        broken = size and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, (("\n" if broken else "") + line).encode())
    finally:
        os.close(fd)
