"""The way to a host: the inventory's word first, then `~/.ssh/config`, then ssh's defaults."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from preflight.core.model import Node
from preflight.errors import FileError
from preflight.transport.sshconfig import Options, SshConfig, expand, host_name

_MOST_JUMPS = 8
_LONGEST_TIMEOUT = 86400


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host to log in to, with everything looked up. It may be a node or a bastion."""

    name: str  # as the user wrote it
    host: str
    port: int
    user: str
    family: socket.AddressFamily
    identity_files: tuple[str, ...]  # empty: none is named, the usual ones are tried
    identities_required: bool  # the inventory names them, so they must be readable
    identities_only: bool  # offer nothing else that the agent holds
    certificate_files: tuple[str, ...]
    identity_agent: str | None  # the agent's socket
    known_hosts: tuple[str, ...]  # new keys go to the first
    global_known_hosts: tuple[str, ...]
    host_key_alias: str | None
    never_accept_new: bool  # StrictHostKeyChecking yes
    hash_known_hosts: bool
    connect_timeout: float | None
    proxy_command: str | None = None
    jumps: tuple[Endpoint, ...] = ()  # bastions; the first is the one that we reach ourselves

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{host}:{self.port}"
        return place if self.name == self.host else f"{self.name} ({place})"


class Endpoints:
    """Looks up the way to each node."""

    def __init__(self, config: SshConfig) -> None:
        self._config = config

    def of(self, node: Node) -> Endpoint:
        """The way to an inventory's node. Raises FileError for values that make no sense."""
        options = self._config.lookup(node.host, node.user, node.port)
        end = self._resolve(node.host, options, node)
        jump = node.proxy_jump
        if jump is None:
            if end.proxy_command is not None:
                return end
            jump = options.first("proxyjump")
        end = replace(end, proxy_command=None)
        if jump is None or jump.lower() == "none":
            return end
        return replace(end, jumps=self._jumps(self._expand(jump, end), node, (end,)))

    def _jumps(self, chain: str, node: Node, seen: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        hops: list[Endpoint] = []
        for number, spec in enumerate(chain.split(",")):
            user, name, port = _parse_jump(spec.strip())
            options = self._config.lookup(name, user, port)
            hop = self._resolve(name, options, node, bastion=True)
            if number:
                hop = replace(hop, proxy_command=None)
            elif hop.proxy_command is None:
                hops += self._before(hop, options, node, seen)
            hops.append(hop)
        return tuple(hops)

    def _before(
        self, hop: Endpoint, options: Options, node: Node, seen: tuple[Endpoint, ...]
    ) -> list[Endpoint]:
        """As with ssh -J, the first bastion is reached in the way that its own entry says."""
        own = options.first("proxyjump")
        if own is None or own.lower() == "none":
            return []
        if len(seen) > _MOST_JUMPS:
            raise FileError(f"ProxyJump: more than {_MOST_JUMPS} bastions before {hop.name}")
        if _parse_jump(own.split(",")[0].strip())[1] in {each.name for each in (*seen, hop)}:
            return []  # a ProxyJump under `Host *` covers the bastion, too
        return list(self._jumps(self._expand(own, hop), node, (*seen, hop)))

    def _resolve(
        self, name: str, options: Options, node: Node, *, bastion: bool = False
    ) -> Endpoint:
        families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
        draft = Endpoint(
            name=name,
            host=host_name(options, name),
            port=options.number("port", 65535) or 22,
            user=options.first("user") or self._config.local_user,
            family=families.get(
                (options.first("addressfamily") or "any").lower(), socket.AF_UNSPEC
            ),
            identity_files=(),
            identities_required=False,
            identities_only=options.is_on("identitiesonly"),
            certificate_files=(),
            identity_agent=None,
            known_hosts=(),
            global_known_hosts=(),
            host_key_alias=options.first("hostkeyalias"),
            never_accept_new=options.is_on("stricthostkeychecking"),
            hash_known_hosts=options.is_on("hashknownhosts"),
            connect_timeout=options.number("connecttimeout", _LONGEST_TIMEOUT) or None,
        )
        ssh = f"{self._config.home}/.ssh"
        known = self._files(
            "userknownhostsfile", options, draft, [f"{ssh}/known_hosts", f"{ssh}/known_hosts2"]
        )
        if node.known_hosts is not None:
            given = self._path(node.known_hosts)
            known = (given, *known) if bastion else (given,)
        identities = self._files("identityfile", options, draft)
        required = False
        # An inventory alone must do, so its identity serves the bastion, too, if nothing else does.
        if node.identity_file is not None and not (bastion and identities):
            identities, required = (self._path(node.identity_file),), not bastion
        command = options.first("proxycommand")
        if command is not None and command.lower() == "none":
            command = None
        return replace(
            draft,
            identity_files=identities,
            identities_required=required,
            certificate_files=self._files("certificatefile", options, draft),
            identity_agent=self._agent(options, draft),
            known_hosts=known,
            global_known_hosts=self._files(
                "globalknownhostsfile",
                options,
                draft,
                ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
            ),
            proxy_command=None if command is None else self._expand(command, draft),
        )

    def _files(
        self, key: str, options: Options, end: Endpoint, default: Sequence[str] = ()
    ) -> tuple[str, ...]:
        named = options.words(key) or default
        return tuple(self._path(self._expand(w, end)) for w in named if w.lower() != "none")

    def _agent(self, options: Options, end: Endpoint) -> str | None:
        path = options.first("identityagent") or "SSH_AUTH_SOCK"
        if path == "none":
            return None
        if path == "SSH_AUTH_SOCK":
            return os.environ.get("SSH_AUTH_SOCK") or None
        if re.fullmatch(r"\$\w+", path):
            return os.environ.get(path[1:]) or None
        return self._path(self._expand(path, end))

    @staticmethod
    def _path(text: str) -> str:
        text = re.sub(r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], m[0]), text)
        return os.path.expanduser(text)

    def _expand(self, text: str, end: Endpoint) -> str:
        local = socket.gethostname()
        tokens = {
            "%": "%",
            "d": self._config.home,
            "h": end.host,
            "i": str(os.getuid()),
            "k": end.host_key_alias or end.name,
            "l": local,
            "L": local.split(".", maxsplit=1)[0],
            "n": end.name,
            "p": str(end.port),
            "r": end.user,
            "u": self._config.local_user,
        }
        return expand(text, tokens)


_JUMP = re.compile(
    r"(?:(?P<user>[^@]+)@)?"
    r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:@\[\]]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


def _parse_jump(spec: str) -> tuple[str | None, str, int | None]:
    found = _JUMP.fullmatch(spec.removeprefix("ssh://").rstrip("/"))
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise FileError(f"ProxyJump: {spec!r} is not [user@]host[:port]")
    return found["user"], found["bracketed"] or found["plain"], port
