"""Ways to a node. Only `ssh.py` knows paramiko, and it is imported when a node asks for SSH.

`base` says what a session is, `command` what is run on the node and what its exit means, `start`
follows sudo's first words. SSH, from the bottom: `sshconfig` and `endpoint` say where to go, `dial`
gets a byte stream there, `hostkeys` and `hostcheck` say whom to trust, `keyfile`, `sshagent`,
`keyring` and `auth` who we are, `ssh` is one connection, `session` what runs over it, and
`sshconnector` all nodes. `local` is this machine; `kubernetes` and `podsession` are pods of a
cluster. `bundle` and `fleet` are what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from preflight.core.model import Connection, Node
from preflight.errors import FileError
from preflight.transport.base import Connector, Credentials, Timeouts

if TYPE_CHECKING:
    from preflight.transport.kubernetes import PodSettings


def _check_identity_files(nodes: Iterable[Node]) -> None:
    problems = {}
    for node in nodes:
        if node.identity_file is not None and node.identity_file not in problems:
            try:
                Path(node.identity_file).expanduser().open("rb").close()
            except (OSError, RuntimeError) as error:  # RuntimeError: ~ of no known user
                why = getattr(error, "strerror", None) or error
                problems[node.identity_file] = f"{node.name}: identity_file: {why}"
    if problems:
        raise FileError("\n".join(f"{name}: {text}" for name, text in problems.items()))


def connectors(
    nodes: Iterable[Node],
    credentials: Credentials,
    timeouts: Timeouts,
    *,
    accept_new_host_keys: bool,
    ask: Callable[[str], str],
    notify: Callable[[str], None],
    pods: PodSettings | None = None,
) -> dict[Connection, Connector]:
    """A connector, ready to use, for every way in which `nodes` are reached.

    `ask` prompts for a key's passphrase, in this call and this thread; `notify` gets one-line
    messages for the user from any thread; `pods` says which cluster, where nodes are reached
    through one. Close them all. Raises FileError for a bad ~/.ssh/config or kubeconfig and for
    identity files that the inventory names and nobody can read.
    """
    from preflight.transport.bundle import BOOT

    nodes = tuple(nodes)
    ways: dict[Connection, Connector] = {}
    by_ssh = [node for node in nodes if node.connection is Connection.SSH]
    if by_ssh:
        _check_identity_files(by_ssh)
        from preflight.transport.sshconnector import SshConnector

        ways[Connection.SSH] = SshConnector(
            by_ssh,
            credentials,
            timeouts,
            boot=BOOT,
            accept_new_host_keys=accept_new_host_keys,
            ask=ask,
            notify=notify,
        )
    if any(node.connection is Connection.LOCAL for node in nodes):
        from preflight.transport.local import LocalConnector

        ways[Connection.LOCAL] = LocalConnector(credentials, timeouts, boot=BOOT)
    in_pods = [node for node in nodes if node.connection is Connection.KUBERNETES]
    if in_pods:
        from preflight.transport.kubernetes import KubernetesConnector, PodSettings

        ways[Connection.KUBERNETES] = KubernetesConnector(
            in_pods, pods or PodSettings(), timeouts, boot=BOOT, notify=notify
        )
    for way in ways.values():
        way.prepare()
    return ways
