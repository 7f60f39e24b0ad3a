"""An Ansible inventory as such: groups, hosts and variables. It does not know what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from typing import NamedTuple

from preflight.inventory.document import Kind, Scalar, Unusable, Value
from preflight.inventory.draft import Given
from preflight.inventory.problems import Problems

ALL, UNGROUPED = "all", "ungrouped"
_MOST_HOSTS = 10_000
_RANGE = re.compile(r"\[([^\[\]:]+):([^\[\]:]+)(?::([0-9]+))?\]")
_TEMPLATE = re.compile(r"\{\{|\{%")


class Form(Enum):
    """What a variable's value is."""

    PLAIN = "plain"
    TEMPLATE = "template"  # Jinja, which only Ansible evaluates
    ENCRYPTED = "encrypted"  # by Ansible Vault, or another tag of YAML
    OTHER = "other"  # a list or a mapping
    EMPTY = "empty"


class Variable(NamedTuple):
    """A value and where it stands; `given.text` is empty unless it is plain."""

    given: Given
    form: Form


@dataclass(slots=True)
class Group:
    """Hosts, and groups whose hosts are this one's too."""

    name: str
    line: int
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)  # with the lines that name them
    variables: dict[str, Variable] = field(default_factory=dict)


@dataclass(slots=True)
class Host:
    """A host and what its own lines say of it."""

    name: Given
    variables: dict[str, Variable] = field(default_factory=dict)


class Tree:
    """The whole of it. `all` and `ungrouped` are always there."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.hosts: dict[str, Host] = {}
        for name in (ALL, UNGROUPED):
            self.group(name, 1)

    def group(self, name: str, line: int) -> Group:
        """The group called so, made where it is new."""
        return self.groups.setdefault(name, Group(name, line))

    def host(self, name: str, line: int) -> Host:
        """The host called so, made where it is new."""
        return self.hosts.setdefault(name, Host(Given(name, line, "host")))

    def check(self, problems: Problems) -> None:
        """Note groups that contain themselves."""
        for group in self.groups.values():
            for child, line in group.children.items():
                if group.name in self._below(child):
                    problems.add(line, f"{group.name}.children", f"{child} contains {group.name}")

    def lineage(self) -> Mapping[str, list[str]]:
        """For each host its groups, the most general first: later ones' variables win.

        As in ansible/ansible `lib/ansible/inventory/group.py` (`depth`) and `vars/plugins`: by
        depth, then `ansible_group_priority`, then name.
        """
        parents: dict[str, set[str]] = {name: set() for name in self.groups}
        for group in self.groups.values():
            for child in group.children:
                if child in parents:
                    parents[child].add(group.name)
        depths: dict[str, int] = {}
        above: dict[str, set[str]] = {}
        for name in self.groups:
            _measure(name, parents, depths, above)
        direct: dict[str, set[str]] = {name: set() for name in self.hosts}
        for group in self.groups.values():
            for host in group.hosts:
                direct[host].add(group.name)
        order = {
            name: (depths[name], _priority(group), name) for name, group in self.groups.items()
        }
        out = {}
        for host, groups in direct.items():
            whole = {ALL, *groups}.union(*(above[name] for name in groups))
            out[host] = sorted(whole, key=lambda name: (name != ALL, order[name]))
        return out

    def members(self, name: str) -> set[str]:
        """The hosts of a group and of all below it."""
        found: set[str] = set()
        for group in {name, *self._below(name)}:
            if group in self.groups:
                found.update(self.groups[group].hosts)
        return found

    def _below(self, name: str) -> set[str]:
        found: set[str] = set()
        left = [name]
        while left:
            group = self.groups.get(left.pop())
            for child in group.children if group is not None else ():
                if child not in found:
                    found.add(child)
                    left.append(child)
        return found


def _measure(
    name: str,
    parents: Mapping[str, set[str]],
    depths: dict[str, int],
    above: dict[str, set[str]],
) -> None:
    """Depth and ancestors of a group, without recursion: an inventory may be deep."""
    stack = [name]
    while stack:
        one = stack[-1]
        todo = [parent for parent in parents[one] if parent not in depths]
        if one in depths or not todo:
            stack.pop()
            if one not in depths:
                own = parents[one]
                above[one] = own.union(*(above[parent] for parent in own))
                deepest = max((depths[parent] for parent in own), default=0)
                depths[one] = 0 if one == ALL else deepest + 1
        else:
            stack += todo


def _priority(group: Group) -> int:
    found = group.variables.get("ansible_group_priority")
    text = found.given.text if found is not None else ""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 1


def variable(value: Value, key: str, file: str) -> Variable:
    """A value of a YAML file as a variable."""
    if isinstance(value, Unusable):
        return Variable(Given("", value.line, key, file), Form.ENCRYPTED)
    if not isinstance(value, Scalar):
        return Variable(Given("", value.line, key, file), Form.OTHER)
    text = "" if value.kind is Kind.NULL else value.text
    return from_text(text, value.line, key, file)


def from_text(text: str, line: int, key: str, file: str = "") -> Variable:
    """A text as a variable."""
    if _TEMPLATE.search(text):
        return Variable(Given("", line, key, file), Form.TEMPLATE)
    form = Form.PLAIN if text else Form.EMPTY
    return Variable(Given(text, line, key, file), form)


def expanded(pattern: str) -> Iterator[str]:
    """The hosts that `node[01:10].example` and the like stand for.

    Raises ValueError for a range that is none, or is too long.
    """
    parts: list[list[str]] = []
    end = 0
    count = 1
    for found in _RANGE.finditer(pattern):
        parts += [[pattern[end : found.start()]], _values(*found.groups())]
        count *= len(parts[-1])
        end = found.end()
        if count > _MOST_HOSTS:
            raise ValueError(f"stands for more than {_MOST_HOSTS:,} hosts")
    parts.append([pattern[end:]])
    return ("".join(texts) for texts in product(*parts))


def _values(first: str, last: str, step: str | None) -> list[str]:
    every = int(step or 1)
    if every < 1:
        raise ValueError("has a range without steps")
    if first.isdecimal() and last.isdecimal() and first.isascii() and last.isascii():
        low, high = int(first), int(last)
        width = len(first) if first.startswith("0") else 0
        if width and len(last) != width:
            raise ValueError("has a range whose ends are not of one width")
        if high - low > _MOST_HOSTS * every:
            raise ValueError(f"stands for more than {_MOST_HOSTS:,} hosts")
        numbers = [str(n).zfill(width) for n in range(low, high + 1, every)]
    elif len(first) == len(last) == 1 and first.isalpha() and last.isalpha():
        numbers = [chr(n) for n in range(ord(first), ord(last) + 1, every)]
    else:
        raise ValueError("has a range that counts neither numbers nor letters")
    if not numbers:
        raise ValueError("has a range whose end is before its start")
    return numbers
