"""Comma-separated values as RFC 4180 has them, harmless to a spreadsheet that opens them."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.report.text import clean

END = "\r\n"
# A spreadsheet takes a cell that begins so for a formula; some read the wide forms alike.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_QUOTED = frozenset(',"\r\n')


def field(value: object) -> str:
    """One field: quoted where it must be; an apostrophe before what would be a formula."""
    text = clean(str(value))
    if text.lstrip(" '\"").startswith(_FORMULA):
        text = f"'{text}"
    if _QUOTED.isdisjoint(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def record(values: Iterable[object]) -> str:
    """A whole line."""
    return ",".join(map(field, values)) + END
