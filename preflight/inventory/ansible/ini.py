"""The INI form, as ansible/ansible `lib/ansible/plugins/inventory/ini.py` reads it.

A line that cannot be read is never quoted: it may hold a password.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator

from preflight.inventory.ansible.tree import ALL, UNGROUPED, Tree, expanded, from_text
from preflight.inventory.problems import Problems, quote

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_CHILD = re.compile(r"([^:\]\s#;]+)\s*(?:[#;].*)?")
_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*(?:\[[^\]]*\][^:\[\]]*)*)):([0-9]{1,5})")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_NO_SECTION = "is none of [group], [group:children] and [group:vars]"
_KINDS = frozenset({"hosts", "children", "vars"})


def is_section(line: str) -> bool:
    """Whether a line begins a section."""
    return _SECTION.fullmatch(line.strip()) is not None


def read(text: str, problems: Problems) -> Tree:
    """The inventory in `text`; what is wrong with it goes to `problems`."""
    tree = Tree()
    group, kind = UNGROUPED, "hosts"
    declared = {ALL, UNGROUPED}
    named: list[tuple[int, str, str]] = []  # line, section, a group that must be declared
    for number, line in _lines(text):
        found = _SECTION.fullmatch(line)
        kinds = (found[2] or "hosts",) if found is not None else ()
        bracketed = line.startswith("[") and line.endswith("]")
        if (found is None and bracketed) or not set(kinds) <= _KINDS:
            problems.add(number, "the section", _NO_SECTION)
            group, kind = UNGROUPED, "skip"
        elif found is not None:
            group, kind = found[1], found[2] or "hosts"
            tree.group(group, number)
            if kind == "vars":
                named.append((number, f"[{group}:vars]", group))
            else:
                declared.add(group)
        elif kind == "hosts":
            _host(line, number, group, tree, problems)
        elif kind == "children":
            child = _CHILD.fullmatch(line)
            if child is None:
                problems.add(number, f"[{group}:children]", "takes the names of groups")
                continue
            tree.group(group, number).children[child[1]] = number
            tree.group(child[1], number)
            named.append((number, f"[{group}:children]", child[1]))
        elif kind == "vars":
            _variable(line, number, group, tree, problems)
    for number, section, name in named:
        if name not in declared:
            problems.add(number, section, f"there is no group {quote(name)}; write [{name}] for it")
    return tree


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        stripped = line.strip()
        if stripped and stripped[0] not in "#;":
            yield number, stripped


def _host(line: str, number: int, group: str, tree: Tree, problems: Problems) -> None:
    where = f"[{group}]"
    try:
        pattern, *settings = shlex.split(line, comments=True)
    except ValueError:
        problems.add(number, where, "has a quote that does not end")
        return
    pattern, port = _port(pattern)
    try:
        names = list(expanded(pattern))
    except ValueError as error:
        problems.add(number, where, str(error))
        return
    own = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not _KEY.fullmatch(key):
            problems.add(
                number, where, "after the host's name comes key=value, several with spaces"
            )
            return
        own[key] = from_text(value, number, key)
    for name in names:
        tree.group(group, number).hosts[name] = None
        new = name not in tree.hosts
        host = tree.host(name, number)
        if port and new:  # as Ansible has it: a port behind a later mention says nothing
            host.variables["ansible_port"] = from_text(port, number, "ansible_port")
        host.variables.update(own)


def _port(pattern: str) -> tuple[str, str]:
    """`host:port` apart; an IPv6 address in brackets loses these."""
    found = _PORT.fullmatch(pattern)
    if found is None:
        bare = re.fullmatch(r"\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]", pattern)
        return (bare[1] if bare else pattern), ""
    return found[1] or found[2], found[3]


def _variable(line: str, number: int, group: str, tree: Tree, problems: Problems) -> None:
    key, separator, value = (part.strip() for part in line.partition("="))
    if not separator or not _KEY.fullmatch(key):
        problems.add(number, f"[{group}:vars]", "takes key=value, one on a line")
        return
    tree.group(group, number).variables[key] = from_text(_unquoted(value), number, key)


def _unquoted(value: str) -> str:
    """Ansible takes the rest of such a line for a Python literal, and for a text if it is none."""
    if value[:1] in ("'", '"'):
        try:
            literal = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
        if isinstance(literal, str):
            return literal
    return value
