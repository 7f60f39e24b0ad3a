"""A tree of the YAML reader as plain Python values, for what has no schema of ours."""

from __future__ import annotations

from preflight.inventory.document import Kind, Mapping, Scalar, Sequence, Unusable, Value

_TRUE = frozenset({"true", "yes", "on"})


def plain(value: Value | None) -> object:
    """Texts, numbers, bools, None, lists and mappings; None for what YAML allows and JSON lacks."""
    if isinstance(value, Scalar):
        return _scalar(value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value.items]
    if isinstance(value, Mapping):
        pairs = ((entry.key, entry.value) for entry in value.entries)
        return {key.text: plain(item) for key, item in pairs if isinstance(key, Scalar)}
    return None


def at(value: Value | None, *keys: str) -> Value | None:
    """What a path of keys leads to; None where it leads nowhere."""
    for key in keys:
        value = _members(value).get(key)
    return value


def line_at(value: Value, path: str) -> int:
    """The line of the deepest key of `path`, given with dots, that is there."""
    line = value.line
    found: Value | None = value
    for key in path.split("."):
        found = _members(found).get(key)
        if found is None:
            break
        line = found.line
    return line


def is_unusable(value: Value | None) -> bool:
    """True for what YAML allows and no spec can use."""
    return isinstance(value, Unusable)


def _members(value: Value | None) -> dict[str, Value]:
    if not isinstance(value, Mapping):
        return {}
    return {e.key.text: e.value for e in value.entries if isinstance(e.key, Scalar)}


def _scalar(value: Scalar) -> object:
    if value.kind is Kind.NULL:
        return None
    if value.kind is Kind.BOOLEAN:
        return value.text.lower() in _TRUE
    if value.kind is Kind.INTEGER and value.text.isdecimal():
        return int(value.text)
    return value.text
