"""Which form an inventory file has, told by what is in it, and the nodes that it names."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from typing import TYPE_CHECKING

from preflight.core.model import BUILT_IN_PROBES, Inventory, Node
from preflight.errors import FileError
from preflight.inventory import document
from preflight.inventory.build import native
from preflight.inventory.document import Mapping, Scalar, Sequence, Value
from preflight.inventory.problems import Problems

if TYPE_CHECKING:
    from preflight.inventory.ansible.tree import Tree

_OBJECT = re.compile(r"^[\"']?(?:apiVersion|kind)[\"']?[ \t]*:", re.MULTILINE)
# Of YAML at the start of a line, of JSON anywhere.
_KUBECONFIG = re.compile(
    r"(?:^|[{,]\s*\"|^\s*\")[\"']?kind[\"']?\s*:\s*[\"']?Config\b", re.MULTILINE
)
_RESULT = re.compile(r"\"schema\"\s*:\s*\"preflight/([a-z-]+)/")
_YAML = re.compile(r"---|[{&*!|>%@`\"'-]|[^\s\[#;][^#=]*?:(?:\s|$)")
_SETTING = re.compile(r"\s[A-Za-z_]\w*=")
_ANSIBLES_KEYS = frozenset({"all", "ungrouped", "_meta", "plugin"})
_ANSIBLES_OWN = re.compile(r"\bansible_\w+=")


class KubeconfigError(FileError):
    """The file names no nodes but a cluster, which does."""


class Form(StrEnum):
    """What other tools call an inventory, and our own."""

    NATIVE = "native"
    HARDWARE = "hardware"
    ANSIBLE = "ansible"


def load(path: str | os.PathLike[str], form: Form | None = None) -> Inventory:
    """The inventory in the file at `path`; without `form` what is in it tells which it has.

    Raises FileError; its text has one line for each problem: file, line, key, what to write.
    """
    file = os.fspath(path)
    problems = Problems(file)
    text = document.text_of(file, problems)
    found = form or _outward(text, problems)
    if found is Form.HARDWARE:
        return _hardware(text, file, problems)
    if found is Form.ANSIBLE and not _is_yaml(text):
        return _ansible(_ini(text, problems), file, problems)
    root = document.parse(text, problems)
    if found is Form.ANSIBLE or (found is None and _is_ansible(root, problems)):
        from preflight.inventory.ansible import yaml_form

        return _ansible(yaml_form.read(root, problems), file, problems)
    return native(root, file, problems)


def _outward(text: str, problems: Problems) -> Form | None:
    """What its text alone tells; None is YAML of some kind."""
    if "hostname" in text.lstrip("\ufeff \r\n").partition("\n")[0].lower():
        from preflight.inventory import hardware

        if hardware.looks_like(text):
            return Form.HARDWARE
    if text.startswith("#!"):
        raise problems.fatal(
            "is a program: have it write the inventory (`ansible-inventory -i FILE --list`), and "
            "name what it wrote",
            1,
        )
    text = text.lstrip("\ufeff")
    if text.lstrip().startswith("{") and (result := _RESULT.search(text)):
        if result[1] != "snapshot":
            raise problems.fatal(f"is what preflight wrote ({result[1]}), no inventory")
        raise problems.fatal(
            "is a snapshot, no inventory: `preflight show` reads it; name the inventory that the "
            "check was given"
        )
    if _KUBECONFIG.search(text):
        raise KubeconfigError(str(problems.fatal("is a kubeconfig: name it with --kubeconfig")))
    if len(_OBJECT.findall(text)) > 1:
        raise problems.fatal(
            "holds Kubernetes objects, no inventory: a cluster's spec goes with --cluster-spec"
        )
    return Form.ANSIBLE if not _is_yaml(text) else None


def _is_yaml(text: str) -> bool:
    """False where it is an INI file of Ansible's, by its sections or its hosts' variables."""
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    said = [line for line in lines if line.lstrip()[0] not in "#;"]
    if not said or _YAML.match(said[0]):
        return True
    from preflight.inventory.ansible.ini import is_section

    if any(is_section(line) for line in said):
        return False
    return not any(_ANSIBLES_OWN.search(line) or _SETTING.search(line) for line in said)


def _is_ansible(root: Value, problems: Problems) -> bool:
    keys = {e.key.text: e.value for e in _entries(root) if isinstance(e.key, Scalar)}
    group = isinstance(keys.get("nodes"), Mapping)
    if "nodes" in keys and not group and not keys.keys() & _ANSIBLES_KEYS:
        return False
    from preflight.inventory.ansible import yaml_form

    if yaml_form.is_plugin(root):
        raise problems.fatal(
            "asks a plugin of Ansible's for the hosts: have it write them "
            "(`ansible-inventory -i FILE --list`), and name what it wrote",
            root.line,
        )
    if not yaml_form.looks_like(root):
        return False
    ours = [key for key in ("nodes", "probes") if isinstance(keys.get(key), Sequence)]
    if ours:
        raise problems.fatal(
            f"may be an inventory of ours (for its {ours[0]}:) or of Ansible's (for its groups): "
            f"say which, with `preflight inventory import --from native|ansible`",
            root.line,
        )
    return True


def _entries(root: Value) -> tuple[document.Entry, ...]:
    return root.entries if isinstance(root, Mapping) else ()


def _hardware(text: str, file: str, problems: Problems) -> Inventory:
    from preflight.inventory import hardware
    from preflight.inventory.draft import Remarks

    remarks = Remarks(problems.file)
    found = hardware.read(text, problems, remarks)
    return _inventory(file, found, problems, remarks.all(), Form.HARDWARE)


def _ini(text: str, problems: Problems) -> Tree:
    from preflight.inventory.ansible import ini

    return ini.read(text, problems)


def _ansible(tree: Tree, file: str, problems: Problems) -> Inventory:
    from preflight.inventory.ansible import meaning, variables
    from preflight.inventory.draft import Remarks

    tree.check(problems)
    problems.raise_any()
    remarks = Remarks(problems.file)
    by_host = variables.of_hosts(tree, file, problems, remarks)
    found = meaning.read(tree, by_host, problems, remarks)
    return _inventory(file, found, problems, remarks.all(), Form.ANSIBLE)


def _inventory(
    file: str,
    nodes: tuple[Node, ...],
    problems: Problems,
    remarks: tuple[str, ...],
    form: Form,
) -> Inventory:
    problems.raise_any()
    probes = tuple(BUILT_IN_PROBES.values())
    return Inventory(file, nodes, probes, remarks=remarks, form=str(form))
