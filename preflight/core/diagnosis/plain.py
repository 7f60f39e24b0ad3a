"""A diagnosis as JSON values, and back: members are called as the fields are, nodes go by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.records import UnreadableError

_NODES = ("node", "kernel_node", "mute_node")


def plain(diagnosis: Diagnosis, names: Sequence[str]) -> dict[str, Any]:
    """`names` are all nodes'."""
    told: dict[str, Any] = _plain(diagnosis, names)
    return told


def _plain(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {
            field: names[part] if field in _NODES and part is not None else _plain(part, names)
            for field, part in zip(value._fields, value, strict=True)
        }
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(part, names) for part in value]
    return value


def read_diagnosis(value: object, where: str, names: Mapping[str, int]) -> Diagnosis:
    """`where` is its place in the file, `names` has each node's position.

    Raises UnreadableError.
    """
    diagnosis = _read(Diagnosis, value, where, names)
    assert isinstance(diagnosis, Diagnosis)
    return diagnosis


def _read(kind: Any, value: object, where: str, names: Mapping[str, int]) -> Any:
    """A value of the type that an annotation stands for."""
    if hasattr(kind, "_fields"):
        return _record(kind, value, where, names)
    origin = get_origin(kind)
    if origin is UnionType:  # nothing else than X | None
        (inner,) = (part for part in get_args(kind) if part is not NoneType)
        return None if value is None else _read(inner, value, where, names)
    if origin in (tuple, frozenset):
        return origin(_items(kind, value, where, names))
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(value)
        except ValueError:
            raise UnreadableError(f"{where}: not one of {', '.join(map(str, kind))}") from None
    if type(value) is not kind:
        raise UnreadableError(f"{where}: not a {_WORDS[kind]}")
    return value


_WORDS: Mapping[Any, str] = {int: "whole number", str: "text", bool: "true or false"}


def _record(kind: Any, value: object, where: str, names: Mapping[str, int]) -> Any:
    if not isinstance(value, dict):
        raise UnreadableError(f"{where}: not an object")
    hints, missing = _hints(kind), kind._field_defaults
    parts = {}
    for field in kind._fields:
        at = f"{where}.{field}"
        if field not in value and field in missing:
            continue
        if field not in value:
            raise UnreadableError(f"{at}: missing")
        part = value[field]
        if field in _NODES and part is not None:
            if not isinstance(part, str) or part not in names:
                raise UnreadableError(f"{at}: not a node of this file")
            part = names[part]
        parts[field] = _read(hints[field], part, at, names)
    return kind(**parts)


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _items(kind: Any, value: object, where: str, names: Mapping[str, int]) -> list[Any]:
    if not isinstance(value, list):
        raise UnreadableError(f"{where}: not a list")
    kinds = get_args(kind)
    if get_origin(kind) is tuple and kinds[-1] is not Ellipsis and len(kinds) != len(value):
        raise UnreadableError(f"{where}: not a list of {len(kinds)}")
    fixed = len(kinds) == len(value) and kinds[-1] is not Ellipsis
    each = kinds if fixed else (kinds[0],) * len(value)
    return [
        _read(part, item, f"{where}[{i}]", names)
        for i, (part, item) in enumerate(zip(each, value, strict=True))
    ]
