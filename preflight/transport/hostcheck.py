"""Whether to trust the key that a host presents, and what to say where not."""

import threading
from collections.abc import Callable, Sequence

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.endpoint import Endpoint
from preflight.transport.hostkeys import (
    Entry,
    KnownHosts,
    Standing,
    fingerprint,
    host_name,
    opinion,
)


class HostCheck:
    """Strict: only listed keys pass. With `accept_new`, unlisted ones are added to known_hosts.

    A changed or a revoked key never passes.
    """

    def __init__(self, *, accept_new: bool, notify: Callable[[str], None]) -> None:
        self._known = KnownHosts()
        self._accept_new = accept_new
        self._notify = notify
        self._lock = threading.Lock()

    def kinds(self, end: Endpoint, supported: Sequence[str]) -> tuple[str, ...]:
        """`supported` key algorithms, those of the keys that we know of `end` first.

        A server with several keys then shows one that we can compare.
        """
        entries = (*self._entries(end), *self._without_port(end))
        known = {entry.kind for entry in entries if not entry.marker}
        if "ssh-rsa" in known:
            known |= {"rsa-sha2-512", "rsa-sha2-256"}
        return tuple(sorted(supported, key=lambda kind: kind not in known))

    def check(self, end: Endpoint, kind: str, key: bytes) -> None:
        """Pass, or raise NodeError (host-key)."""
        with self._lock:  # two nodes may share a host, whose new key is added once
            self._check(end, kind, key)

    def _check(self, end: Endpoint, kind: str, key: bytes) -> None:
        entries = self._entries(end)
        standing, entry = opinion(entries, kind, key)
        if standing is Standing.UNKNOWN:
            # As in OpenSSH, a key listed without a port vouches for any, but forbids nothing.
            other = opinion(self._without_port(end), kind, key)
            if other.standing in (Standing.KNOWN, Standing.REVOKED):
                standing, entry = other
        if standing is Standing.KNOWN:
            return
        shown = f"{_short(kind)} {fingerprint(key)}"
        if standing is Standing.UNKNOWN:
            self._meet(end, kind, key, shown, entries)
        elif standing is Standing.REVOKED:
            assert entry is not None
            raise NodeError(
                AgentState.HOST_KEY,
                f"host key of {end}: {shown} is revoked at {entry.where}: "
                "do not use this node before it has a new key",
            )
        else:
            assert entry is not None
            raise NodeError(
                AgentState.HOST_KEY,
                f"HOST KEY OF {end} HAS CHANGED: it presents {shown}, but {entry.where} lists "
                f"{_short(entry.kind)} {fingerprint(entry.key)}: either the node was reinstalled "
                "or somebody is in between; ask whoever runs it before you remove that line",
            )

    def _entries(self, end: Endpoint) -> list[Entry]:
        name = host_name(end.host, end.port, end.host_key_alias)
        return self._known.find((*end.known_hosts, *end.global_known_hosts), name)

    def _without_port(self, end: Endpoint) -> list[Entry]:
        if end.port == 22 or end.host_key_alias is not None:
            return []
        name = host_name(end.host, 22)
        return self._known.find((*end.known_hosts, *end.global_known_hosts), name)

    def _meet(
        self, end: Endpoint, kind: str, key: bytes, shown: str, entries: Sequence[Entry]
    ) -> None:
        name = host_name(end.host, end.port, end.host_key_alias)
        if not self._accept_new or end.never_accept_new:
            raise NodeError(
                AgentState.HOST_KEY, _unknown(end, shown, entries, accept_new=self._accept_new)
            )
        if not end.known_hosts:
            self._notify(f"accepted host key of {end}: {shown}; it is not stored anywhere")
            return
        path = end.known_hosts[0]
        try:
            self._known.add(path, name, kind, key, hashed=end.hash_known_hosts)
        except OSError as exc:
            raise NodeError(
                AgentState.HOST_KEY,
                f"host key of {end}: {shown} cannot be added to {path}: {exc.strerror}",
            ) from exc
        self._notify(f"added host key of {end} to {path}: {shown}")


def _unknown(end: Endpoint, shown: str, entries: Sequence[Entry], *, accept_new: bool) -> str:
    files = " or ".join(end.known_hosts) or "any file (UserKnownHostsFile none)"
    if any(entry.marker == "@cert-authority" for entry in entries):
        files += " (an @cert-authority line is, which preflight does not support)"
    if accept_new:
        advice = "~/.ssh/config says StrictHostKeyChecking yes for it: add the key by hand"
    else:
        at = f"-p {end.port} " if end.port != 22 else ""
        advice = (
            "compare it with the node's own, then use --accept-new-host-keys, "
            f"or add it with ssh-keyscan {at}{end.host}"
        )
    return f"host key of {end}: {shown} is not in {files}: {advice}"


def _short(kind: str) -> str:
    return kind.removeprefix("ssh-").partition("-")[0].upper()
