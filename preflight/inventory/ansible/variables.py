"""What each host's variables come to, from the inventory and the directories beside it.

The order is Ansible's ("Variable precedence: where should I put a variable?"), as far as it is
about inventories: groups in the inventory, group_vars/all, other group_vars, the host in the
inventory, host_vars. Playbooks, roles and the command line are not known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from preflight.inventory import document
from preflight.inventory.ansible.tree import ALL, Tree, Variable, variable
from preflight.inventory.document import Kind, Scalar
from preflight.inventory.document import Mapping as Members
from preflight.inventory.draft import Remarks
from preflight.inventory.problems import Problems

_ENDINGS = ("", ".yml", ".yaml", ".json")
_VAULT = b"$ANSIBLE_VAULT"
_MOST_FILES = 1000  # below one directory of a group or host
_WHAT = "variables"

Variables = Mapping[str, Variable]


def of_hosts(
    tree: Tree, file: str, problems: Problems, remarks: Remarks
) -> dict[str, dict[str, Variable]]:
    """The variables of each host of the inventory in `file`.

    Raises FileError for a file beside it that cannot be read.
    """
    folder = os.path.dirname(file)
    beside = _Beside(folder, problems, remarks)
    by_group = {name: dict(beside.variables("group_vars", name)) for name in tree.groups}
    found = {}
    for host, groups in tree.lineage().items():
        own: dict[str, Variable] = {}
        for name in groups:
            own.update(tree.groups[name].variables)
        for name in sorted(groups, key=lambda name: name != ALL):
            own.update(by_group[name])
        own.update(tree.hosts[host].variables)
        own.update(beside.variables("host_vars", host))
        found[host] = own
    return found


class _Beside:
    """The directories group_vars and host_vars next to an inventory."""

    def __init__(self, folder: str, problems: Problems, remarks: Remarks) -> None:
        self._folder = folder
        self._problems = problems
        self._remarks = remarks
        self._there = {
            kind: frozenset(_listed(os.path.join(folder, kind)))
            for kind in ("group_vars", "host_vars")
        }

    def variables(self, kind: str, name: str) -> Iterator[tuple[str, Variable]]:
        """Those of one group or host, later ones winning."""
        for ending in _ENDINGS:
            if f"{name}{ending}" not in self._there[kind]:
                continue
            path = os.path.join(self._folder, kind, f"{name}{ending}")
            for file in _files(path):
                yield from self._read(file)

    def _read(self, path: str) -> Iterator[tuple[str, Variable]]:
        if _is_vault(path):
            self._remarks.add("encrypted with Ansible Vault: not read", file=path)
            return
        for root in document.read_all(path, _WHAT)[:1]:
            if not isinstance(root, Members):
                self._problems.add(root.line, "the file", "must be a mapping of variables", path)
                return
            for entry in root.entries:
                if isinstance(entry.key, Scalar) and entry.key.kind is not Kind.MERGE:
                    yield entry.key.text, variable(entry.value, entry.key.text, path)


def _listed(path: str) -> Sequence[str]:
    try:
        return os.listdir(path)
    except OSError:  # most inventories have none
        return ()


def _files(path: str) -> Iterator[str]:
    """A file, or all below a directory in the order of their names, hidden ones left out."""
    if not os.path.isdir(path):
        yield path
        return
    count = 0
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            plain = not name.startswith(".") and not name.endswith("~")
            if plain and os.path.splitext(name)[1] in _ENDINGS and count < _MOST_FILES:
                count += 1
                yield os.path.join(folder, name)


def _is_vault(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_VAULT)) == _VAULT
    except OSError:
        return False  # reading it will say why
