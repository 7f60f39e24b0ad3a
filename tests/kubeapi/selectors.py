"""Label and field selectors, as a query has them."""

import re
from collections.abc import Callable
from typing import Any

from kubeapi.answers import bad
from kubeapi.kinds import FIELDS, Kind

Test = Callable[[dict[str, Any]], bool]

_SET = re.compile(r"^\s*([^\s!=(),]+)\s+(in|notin)\s*\(([^()]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s!=(),]+)\s*(==|=|!=)\s*([^\s!=(),]*)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=(),]+)\s*$")


def by_labels(selector: str) -> Test:
    """Whether an object has the labels that a selector wants."""
    tests = [_label(part, selector) for part in _parts(selector)]
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in tests)


def _parts(selector: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label(part: str, whole: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.match(part):
        key, values = found[1], {v.strip() for v in found[3].split(",")}
        if found[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(part):
        key, value = found[1], found[3]
        if found[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(part):
        key, there = found[2], not found[1]
        return lambda labels: (key in labels) == there
    raise bad(f"unable to parse requirement: {whole}")


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A LabelSelector object against labels."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_expression(e, labels) for e in selector.get("matchExpressions") or ())


def _expression(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case operator:
            raise bad(f'"{operator}" is not a valid label selector operator')


def by_fields(selector: str, kind: Kind) -> Test:
    """Whether an object's fields are as a selector wants; 400 for a field that it cannot select."""
    served = ("metadata.name", "metadata.namespace", *FIELDS.get(kind.plural, ()))
    wanted = []
    for part in _parts(selector):
        found = _EQUAL.match(part)
        if found is None:
            raise bad(f"invalid selector: '{selector}'; can't understand '{part}'")
        if found[1] not in served:
            raise bad(f"field label not supported: {found[1]}")
        wanted.append((found[1].split("."), found[2] != "!=", found[3]))

    def test(item: dict[str, Any]) -> bool:
        return all((_at(item, path) == value) == equal for path, equal, value in wanted)

    return test


def _at(item: Any, path: list[str]) -> str:
    for step in path:
        item = item.get(step) if isinstance(item, dict) else None
    return "" if item is None else str(item).lower() if isinstance(item, bool) else str(item)
