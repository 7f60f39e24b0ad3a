"""What an Ansible inventory says of a cluster's nodes.

The address that is probed must be the node's InternalIP. A variable that names it (`node_ip`,
kubespray's `ip`, …) is believed first, then `ansible_host` where it is an address: that may well be
the one of a management network. Names are not looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from preflight.core.model import Connection, Node
from preflight.inventory.ansible import arguments
from preflight.inventory.ansible.tree import Form, Tree, Variable
from preflight.inventory.draft import Draft, Given, Remarks, nodes
from preflight.inventory.problems import Problems

_INTERNAL = (
    "node_ip", "ip", "k8s_node_ip", "kubelet_node_ip", "internal_ip", "private_ip", "ip6",
    "node_ip6", "node_ipv6",
)  # fmt: skip
_HOST = ("ansible_host", "ansible_ssh_host")
_USER = ("ansible_user", "ansible_ssh_user")
_PORT = ("ansible_port", "ansible_ssh_port")
_KEY = ("ansible_ssh_private_key_file", "ansible_private_key_file")
_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
_PASSWORDS = (
    "ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_become_password",
    "ansible_become_pass", "ansible_sudo_pass", "ansible_ssh_private_key_passphrase",
    "ansible_private_key_passphrase",
)  # fmt: skip
_BECOME = ("ansible_become", "ansible_sudo")
_OVER_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh",
             "ansible.builtin.paramiko_ssh")  # fmt: skip
_LOCAL = ("local", "ansible.builtin.local")
_PLACES = ("rack", "row", "zone", "region", "site", "room", "datacenter", "dc")
_PLACE = re.compile(rf"({'|'.join(_PLACES)})(?:[_-](.+)|([0-9]+))", re.IGNORECASE)

# Names of groups, in small letters with underscores, as kubespray, k3s-ansible, rke2 and others
# have them.
_CLUSTER = frozenset(
    {"k8s_cluster", "kube_cluster", "kubernetes", "kubernetes_cluster", "k3s_cluster",
     "rke2_cluster"}
)  # fmt: skip
_CONTROL_PLANE = frozenset(
    {"kube_control_plane", "kube_master", "kube_masters", "control_plane", "control_planes",
     "control_plane_nodes", "controlplane", "controlplanes", "controllers", "k8s_control_plane",
     "k8s_master", "k8s_masters", "master", "masters", "cp", "server", "rke2_servers"}
)  # fmt: skip
_WORKER = frozenset(
    {"kube_node", "kube_nodes", "kube_worker", "kube_workers", "worker", "workers",
     "worker_nodes", "k8s_worker", "k8s_workers", "k8s_node", "k8s_nodes", "agent", "agents",
     "rke2_agents", "node", "nodes"}
)  # fmt: skip
_ETCD = frozenset({"etcd", "etcd_nodes", "k8s_etcd"})
_NO_NODES = frozenset(
    {"bastion", "bastions", "jump", "jumphost", "jumphosts", "jump_hosts", "loadbalancer",
     "loadbalancers", "load_balancer", "load_balancers", "lb", "haproxy", "admin"}
)  # fmt: skip
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_SHOWN = 8

_Variables = Mapping[str, Variable]


def read(
    tree: Tree,
    variables: Mapping[str, _Variables],
    problems: Problems,
    remarks: Remarks,
) -> tuple[Node, ...]:
    """The cluster's nodes, in the inventory's order."""
    chosen = list(_nodes(tree, remarks))
    if not chosen:
        problems.add(1, "the inventory", "names no host that is a node of a cluster")
    lineage = tree.lineage()
    drafts = [
        _Reading(tree.hosts[name].name, variables[name], lineage[name], problems, remarks).draft()
        for name in chosen
    ]
    return nodes(drafts, problems)


def _nodes(tree: Tree, remarks: Remarks) -> Iterator[str]:
    """The hosts that are nodes."""

    def members(names: Iterable[str]) -> set[str]:
        return {
            host for name in tree.groups if _plain(name) in names for host in tree.members(name)
        }

    in_cluster = members(_CLUSTER)
    with_role = members(_CONTROL_PLANE | _WORKER | _ETCD)
    others = members(_NO_NODES) - with_role
    left_out = []
    for name in tree.hosts:
        outside = in_cluster and name not in in_cluster | with_role
        if name in _THIS_MACHINE - with_role or outside or name in others:
            left_out.append(name)
        else:
            yield name
    if left_out:
        shown = ", ".join(left_out[:_SHOWN])
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        remarks.add(f"{shown}{more}: taken for no node of the cluster, by group, and left out")


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


class _Reading:
    """One host's variables, as a node."""

    def __init__(
        self,
        name: Given,
        variables: _Variables,
        groups: list[str],
        problems: Problems,
        remarks: Remarks,
    ) -> None:
        self._name = name
        self._variables = variables
        self._groups = groups
        self._problems = problems
        self._remarks = remarks

    def draft(self) -> Draft:
        """It, unchecked but for its address."""
        host = self._given(*_HOST)
        draft = Draft(
            self._name,
            addresses=self._addresses(host),
            connection=self._connection(),
            host=host or self._name,
            user=self._given(*_USER),
            port=self._given(*_PORT),
            identity_file=self._given(*_KEY),
            become=self._become(),
            python=self._python(),
            labels=dict(self._labels()),
        )
        self._from_arguments(draft)
        for key in _PASSWORDS:
            if key in self._variables:
                told = f"{key}: passwords are not copied; type them (--ask-pass, --ask-become-pass)"
                self._remark(self._variables[key].given, f"{told}, or use ssh-agent")
        return draft

    def _given(self, *keys: str) -> Given | None:
        """The first of these variables that has a value which is known here."""
        for key in keys:
            found = self._variables.get(key)
            if found is None or found.form is Form.EMPTY:
                continue
            if found.form is Form.PLAIN:
                return found.given
            why = {
                Form.TEMPLATE: "is a template, which only Ansible evaluates: not used",
                Form.ENCRYPTED: "is encrypted: not used",
                Form.OTHER: "is a list or a mapping: not used",
            }[found.form]
            self._remark(found.given, f"{key} {why}")
        return None

    def _remark(self, given: Given, text: str) -> None:
        self._remarks.add(text, given.line, given.file)

    def _addresses(self, host: Given | None) -> list[Given]:
        found = []
        for key in _INTERNAL:
            given = self._given(key)
            if given is not None:
                found += [given._replace(text=part.strip()) for part in given.text.split(",")]
        for given in (host, self._name):
            if not found and given is not None and _is_address(given.text):
                found.append(given)
        if not found:
            key = host.key if host is not None else "ansible_host"
            where = host or self._name
            self._problems.add(
                where.line,
                f"{self._name.text}: {key}",
                "no address is known, and names are not looked up: add node_ip=ADDRESS, the node's "
                "InternalIP",
                where.file,
            )
        elif host is not None and _is_address(host.text) and not _same(found, host):
            self._remarks.add(
                f"where {found[0].key} and {host.key} differ, {found[0].key} is probed, and "
                f"{host.key} is where SSH goes"
            )
        return found

    def _connection(self) -> Connection:
        given = self._given("ansible_connection")
        if given is None or given.text in _OVER_SSH:
            return Connection.SSH
        if given.text in _LOCAL:
            return Connection.LOCAL
        self._remark(given, "ansible_connection is neither ssh nor local: no agent there")
        return Connection.NONE

    def _become(self) -> str | None:
        wanted = self._given(*_BECOME)
        if wanted is None or wanted.text.lower() not in ("true", "yes", "on", "1", "y", "t"):
            return None
        method = self._given("ansible_become_method")
        if method is not None and method.text.rpartition(".")[2] != "sudo":
            self._remark(method, "ansible_become_method is not sudo, the only one known: not used")
            return None
        user = self._given("ansible_become_user", "ansible_sudo_user")
        if user is not None and user.text != "root":
            self._remark(user, "ansible_become_user is not root, which raw packets need: not used")
        return "sudo"

    def _python(self) -> Given | None:
        given = self._given("ansible_python_interpreter")
        if given is None or given.text.startswith("auto"):
            return None
        if not given.text.startswith("/"):
            self._remark(given, "ansible_python_interpreter is no absolute path: not used")
            return None
        return given

    def _from_arguments(self, draft: Draft) -> None:
        for key in _ARGUMENTS:
            given = self._given(key)
            if given is None:
                continue
            read = arguments.read(given.text)
            for told in read.told:
                self._remark(given, f"{key}: {told}")

            def place(text: str | None, known: Given | None, of: Given = given) -> Given | None:
                return known if text is None or known is not None else of._replace(text=text)

            draft.proxy_jump = place(read.proxy_jump, draft.proxy_jump)
            draft.known_hosts = place(read.known_hosts, draft.known_hosts)
            draft.identity_file = place(read.identity_file, draft.identity_file)
            draft.port = place(read.port, draft.port)
            draft.user = place(read.user, draft.user)

    def _labels(self) -> Iterator[tuple[str, str]]:
        groups = [_plain(name) for name in self._groups]
        for role, names in (
            ("control-plane", _CONTROL_PLANE),
            ("worker", _WORKER),
            ("etcd", _ETCD),
        ):
            if names.intersection(groups):
                yield "role", role
                break
        for name in self._groups:
            found = _PLACE.fullmatch(name)
            if found is not None and name.isprintable():
                yield found[1].lower(), found[2] or found[3]
        for key in ("role", *_PLACES):
            variable = self._variables.get(key)
            if variable is not None and variable.form is Form.PLAIN:
                text = variable.given.text
                if text.isprintable() and (key != "role" or text in _ROLES):
                    yield key, _ROLES.get(text, text) if key == "role" else text


_ROLES = {
    "control-plane": "control-plane", "controlplane": "control-plane", "master": "control-plane",
    "cp": "control-plane", "worker": "worker", "node": "worker", "etcd": "etcd",
}  # fmt: skip


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _same(found: Iterable[Given], host: Given) -> bool:
    own = ip_address(host.text)
    return any(_is_address(given.text) and ip_address(given.text) == own for given in found)
