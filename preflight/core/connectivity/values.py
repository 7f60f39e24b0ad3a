"""Fields of the API's objects, read with forbearance: what is missing or odd is empty."""

from __future__ import annotations

from collections.abc import Mapping

Values = Mapping[str, object]


def record(value: Values, key: str) -> Values:
    """An object."""
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def records(value: Values, key: str) -> list[Values]:
    """A list of objects."""
    inner = value.get(key)
    return [item for item in inner if isinstance(item, dict)] if isinstance(inner, list) else []


def text(value: Values, key: str) -> str:
    """A text."""
    inner = value.get(key)
    return inner if isinstance(inner, str) else ""


def texts(value: Values, key: str) -> list[str]:
    """A list of texts."""
    inner = value.get(key)
    return [item for item in inner if isinstance(item, str)] if isinstance(inner, list) else []


def count(value: Values, key: str) -> int:
    """A whole number of 0 or more."""
    inner = value.get(key)
    return inner if type(inner) is int and inner >= 0 else 0
