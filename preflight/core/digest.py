"""A digest of a snapshot's content: whether a file is still what preflight wrote.

It is the SHA-256 of the document without its `digest`, as JSON with sorted keys, no space between
values, ASCII alone, and numbers in one form, so that whoever lays a file out anew changes nothing.
It shows damage and edits; it is no signature, since anybody can make one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256

KEY = "digest"
LONG = "results"  # the member that a writer does not hold as a whole
_EXACT = 1 << 53  # whole numbers up to here are themselves in every JSON program
_AT_ONCE = 10_000  # elements that are text at the same time


def number(text: str) -> float:
    """A JSON number with a fraction or an exponent; a whole one as int: some programs write 1.0
    as 1.
    """
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def canonical(value: object) -> str:
    """A JSON value, read with `number`, in the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def canonical_text(text: str) -> str:
    """The same of a JSON text."""
    return canonical(_rounded(json.loads(text, parse_float=number)))


def digest_of(document: Mapping[str, object]) -> str:
    """What the `digest` of a document, read with `number`, is to be."""
    seal = Seal(
        {
            key: canonical(value if key == "packed" else _rounded(value))
            for key, value in document.items()
            if key not in (KEY, LONG)
        }
    )
    found = document.get(LONG)
    if not isinstance(found, list):
        return ""
    for start in range(0, len(found), _AT_ONCE):
        seal.add(canonical(found[start : start + _AT_ONCE])[1:-1])
    return seal.done()


class Seal:
    """The digest of a document whose `results` come bit by bit."""

    def __init__(self, members: Mapping[str, str]) -> None:
        """`members` are all others, canonical."""
        early = [f"{canonical(key)}:{members[key]}," for key in sorted(members) if key < LONG]
        late = [f",{canonical(key)}:{members[key]}" for key in sorted(members) if key > LONG]
        self._hash = sha256()
        self._update(("{", *early, f'"{LONG}":['))
        self._late = ("]", *late, "}")
        self._first = True

    def add(self, results: str) -> None:
        """Some results, canonical and with commas between them."""
        self._update((results,) if self._first else (",", results))
        self._first = False

    def done(self) -> str:
        """The digest, once all results are in."""
        self._update(self._late)
        return f"sha256:{self._hash.hexdigest()}"

    def _update(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._hash.update(text.encode("ascii"))


def _rounded(value: object) -> object:
    """Whole numbers beyond what every program keeps exactly as what is left of them."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    if type(value) is int and abs(value) >= _EXACT:
        try:
            return float(value)
        except OverflowError:
            return value
    return value
