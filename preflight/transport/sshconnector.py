"""SSH to all nodes, side by side. Keys are read once, and bastions logged in to once."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport.base import Credentials, Session, Timeouts
from preflight.transport.command import shell_command
from preflight.transport.dial import ProxyCommand, Wire, connect
from preflight.transport.endpoint import Endpoint, Endpoints
from preflight.transport.hostcheck import HostCheck
from preflight.transport.keyring import Keyring, Offer
from preflight.transport.ssh import Connection, FileKey, HungUpError
from preflight.transport.sshconfig import SshConfig
from preflight.transport.start import Start, new_prompt

_LOGINS = 64  # side by side: more would only queue for this machine's processors
_LOGINS_PER_BASTION = 16
_BASTION_AGAIN_S = 20.0  # the nodes of one check share its error: no login for each of them
_RETRY_AFTER = 0.3, 1.0  # seconds, the least and the most


class SshConnector:
    """Logs in to nodes over SSH: `prepare` in the main thread, then `connect` from any."""

    def __init__(
        self,
        nodes: Iterable[Node],
        credentials: Credentials,
        timeouts: Timeouts,
        *,
        boot: str,
        accept_new_host_keys: bool,
        ask: Callable[[str], str],
        notify: Callable[[str], None],
        config_files: Iterable[str | Path] | None = None,
    ) -> None:
        """`boot` is the Python that a node's interpreter runs, fit for `shell_command`.

        `ask` prompts for a key's passphrase; `notify` gets messages for the user, from any thread.
        `config_files` stand in for `~/.ssh/config` and the system's.
        """
        self._nodes = tuple(nodes)
        self._credentials = credentials
        self._timeouts = timeouts
        self._boot = boot
        self._config_files = config_files
        self._host_check = HostCheck(accept_new=accept_new_host_keys, notify=notify)
        self._keyring = Keyring(
            FileKey, ask, notify, timeouts.auth, has_password=credentials.password is not None
        )
        self._ways: dict[str, Endpoint] = {}
        self._offers: dict[Endpoint, Offer | NodeError] = {}
        self._bastions: dict[tuple[Endpoint, ...], _Bastion] = {}
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(_LOGINS)

    def prepare(self) -> None:
        """Read the configuration and the keys of all nodes; may ask for passphrases.

        Raises FileError. A key that cannot be used is told by `connect`.
        """
        endpoints = Endpoints(SshConfig(self._config_files))
        for node in self._nodes:
            end = self._ways[node.name] = endpoints.of(node)
            for each in (*end.jumps, end):
                if each not in self._offers:
                    try:
                        self._offers[each] = self._keyring.offer(each)
                    except NodeError as exc:
                        self._offers[each] = exc

    def connect(self, node: Node) -> Session:
        """Log in and start python; see `Connector`. With a sudo password, wait until it runs."""
        end = self._ways[node.name]
        become = None if end.user == "root" else node.become
        password = self._credentials.become_password if become else None
        prompt = None if password is None else new_prompt()
        command = shell_command(node.python, become, self._boot, prompt)
        with self._slots:
            connection = self._log_in(end)
            try:
                session = connection.run(command)
            except BaseException:
                connection.close()
                raise
        if password is not None and prompt is not None:
            try:
                session.answer_sudo(Start(prompt), password)
            except BaseException:
                session.close()
                raise
        return session

    def close(self) -> None:
        """Leave the bastions and the agents."""
        with self._lock:
            bastions = list(self._bastions.values())
        for bastion in bastions:
            if bastion.connection is not None:
                bastion.connection.close()
        self._keyring.close()

    def _log_in(self, end: Endpoint) -> Connection:
        if not end.jumps:
            return self._try_twice(end, self._dial)
        bastion = self._bastion(end.jumps)
        with bastion.slots:
            return self._try_twice(end, bastion.through)

    def _bastion(self, chain: tuple[Endpoint, ...]) -> "_Bastion":
        """The last bastion of `chain`, logged in to by whoever comes first."""
        with self._lock:
            bastion = self._bastions.get(chain)
            first = bastion is None or bastion.over()
            if bastion is None or first:
                bastion = self._bastions[chain] = _Bastion()
        if first:
            try:
                bastion.connection = self._enter(chain)
            except NodeError as exc:
                bastion.error = exc
            finally:
                bastion.done = time.monotonic()
                bastion.ready.set()
        bastion.ready.wait()
        if bastion.error is not None:
            raise NodeError(bastion.error.state, str(bastion.error)) from bastion.error
        return bastion

    def _enter(self, chain: tuple[Endpoint, ...]) -> Connection:
        *before, end = chain
        dial = self._bastion(tuple(before)).through if before else self._dial
        try:
            return self._try_twice(end, dial)
        except NodeError as exc:
            raise NodeError(exc.state, f"bastion {end}: {exc}") from exc

    def _dial(self, end: Endpoint) -> Wire:
        if end.proxy_command is not None:
            command = ProxyCommand(end.proxy_command)
            return Wire(command.socket, self._timeouts.send, command)
        sock = connect(end, end.connect_timeout or self._timeouts.connect)
        return Wire(sock, self._timeouts.send)

    def _try_twice(self, end: Endpoint, dial: Callable[[Endpoint], Wire]) -> Connection:
        try:
            return self._try(end, dial)
        except HungUpError:
            # Often sshd's MaxStartups, which drops at random: come back when others are done.
            least, most = _RETRY_AFTER
            time.sleep(least + (most - least) * os.urandom(1)[0] / 255)
        try:
            return self._try(end, dial)
        except HungUpError as exc:
            raise NodeError(
                AgentState.UNREACHABLE,
                f"{end} hung up without an SSH banner{f' ({exc})' if str(exc) else ''}: check the "
                "port, and whether its sshd turns us away (MaxStartups, PerSourcePenalties)",
            ) from exc

    def _try(self, end: Endpoint, dial: Callable[[Endpoint], Wire]) -> Connection:
        connection = Connection(end, dial(end), self._timeouts)
        connection.log_in(self._host_check, self._offers[end], self._credentials.password)
        return connection


class _Bastion:
    """A bastion's connection, or why there is none, once it is ready."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.connection: Connection | None = None
        self.error: NodeError | None = None
        self.done = 0.0  # when it was ready
        self.slots = threading.Semaphore(_LOGINS_PER_BASTION)

    def over(self) -> bool:
        """Whether somebody may try again: it broke off, or could not be entered some time ago."""
        if not self.ready.is_set():
            return False
        if self.connection is not None:
            return not self.connection.alive()
        return time.monotonic() - self.done > _BASTION_AGAIN_S

    def through(self, end: Endpoint) -> Wire:
        """A byte stream from the bastion to `end`. Raises NodeError."""
        if self.connection is None:
            raise NodeError(AgentState.FAILED, f"the bastion before {end} broke off")
        return self.connection.through(end)
