"""The YAML form, and the JSON that `ansible-inventory --list` writes."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.inventory.ansible.tree import (
    ALL,
    UNGROUPED,
    Host,
    Tree,
    Variable,
    expanded,
    variable,
)
from preflight.inventory.document import Kind, Mapping, Scalar, Sequence, Value
from preflight.inventory.problems import Problems, quote

_KEYS = ("hosts", "children", "vars")
_META = "_meta"


def looks_like(root: Value) -> bool:
    """Whether a YAML document is an inventory of Ansible's: groups of hosts, groups, variables."""
    groups = [value for key, _, value in _members(root) if key != _META]
    if not isinstance(root, Mapping) or not groups:
        return False
    named = {key for key, _, _ in _members(root)}
    return bool(named & {ALL, UNGROUPED, _META}) or all(
        isinstance(group, Mapping) and any(key in _KEYS for key, _, _ in _members(group))
        for group in groups
    )


def is_plugin(root: Value) -> bool:
    """Whether it asks a plugin for the hosts."""
    return any(key == "plugin" for key, _, _ in _members(root))


def read(root: Value, problems: Problems) -> Tree:
    """The inventory in a YAML document; what is wrong with it goes to `problems`."""
    tree = Tree()
    for key, line, value in _members(root):
        if key != _META:
            _group(key, line, value, tree, problems)
    for key, _, value in _members(root):
        if key == _META:
            _hostvars(value, tree)
    for name, group in tree.groups.items():
        if name not in (ALL, UNGROUPED) and not any(
            name in other.children for other in tree.groups.values()
        ):
            tree.groups[ALL].children.setdefault(name, group.line)
    return tree


def _group(name: str, line: int, value: Value, tree: Tree, problems: Problems) -> None:
    group = tree.group(name, line)
    if _is_null(value):
        return
    if not isinstance(value, Mapping):
        problems.add(value.line, name, "is a group, and must have hosts:, children: or vars:")
        return
    for key, at, item in _members(value):
        if key == "hosts":
            for host in _hosts(item, f"{name}.hosts", tree, problems):
                group.hosts[host.name.text] = None
        elif key == "vars":
            group.variables.update(_variables(item, f"{name}.vars", problems))
        elif key == "children":
            for child, where, inner in _children(item, f"{name}.children", problems):
                group.children[child] = where
                if inner is None:
                    tree.group(child, where)
                else:
                    _group(child, where, inner, tree, problems)
        else:
            problems.add(at, f"{name}.{_shown(key)}", f"is none of {', '.join(_KEYS)}")


def _hosts(value: Value, path: str, tree: Tree, problems: Problems) -> Iterator[Host]:
    if _is_null(value):
        return
    listed: list[tuple[str, int, Value | None]] = []
    if isinstance(value, Sequence):
        listed = [(i.text, i.line, None) for i in value.items if isinstance(i, Scalar)]
    elif isinstance(value, Mapping):
        listed = [(key, line, own) for key, line, own in _members(value)]
    else:
        problems.add(
            value.line, path, "must be a mapping of hosts, each with its variables or none"
        )
    for pattern, line, own in listed:
        variables = {} if own is None else _variables(own, f"{path}.{_shown(pattern)}", problems)
        try:
            for name in expanded(pattern):
                host = tree.host(name, line)
                host.variables.update(variables)
                yield host
        except ValueError as error:
            problems.add(line, path, f"{_shown(pattern)} {error}")


def _children(
    value: Value, path: str, problems: Problems
) -> Iterator[tuple[str, int, Value | None]]:
    if isinstance(value, Mapping):
        yield from _members(value)
    elif isinstance(value, Sequence):
        yield from ((i.text, i.line, None) for i in value.items if isinstance(i, Scalar))
    elif not _is_null(value):
        problems.add(value.line, path, "must be a mapping of groups")


def _hostvars(value: Value, tree: Tree) -> None:
    for key, _, hosts in _members(value):
        if key == "hostvars":
            for name, line, own in _members(hosts):
                host = tree.host(name, line)
                host.variables.update((k, variable(v, k, "")) for k, _, v in _members(own))
                if not any(name in group.hosts for group in tree.groups.values()):
                    tree.groups[UNGROUPED].hosts[name] = None


def _variables(value: Value, path: str, problems: Problems) -> dict[str, Variable]:
    if _is_null(value):
        return {}
    if not isinstance(value, Mapping):
        problems.add(value.line, path, "must be a mapping of variables")
        return {}
    return {key: variable(item, key, "") for key, _, item in _members(value)}


def _members(value: Value) -> list[tuple[str, int, Value]]:
    if not isinstance(value, Mapping):
        return []
    pairs = ((entry.key, entry.value) for entry in value.entries)
    return [(key.text, key.line, item) for key, item in pairs if isinstance(key, Scalar)]


def _is_null(value: Value) -> bool:
    return isinstance(value, Scalar) and value.kind is Kind.NULL


def _shown(key: str) -> str:
    return key if key.isprintable() and 0 < len(key) <= 60 and " " not in key else quote(key)
