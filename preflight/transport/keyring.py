"""Which keys to offer to a host, in which order. Every key file is read, and asked for, once.

First the keys that the inventory or `~/.ssh/config` names, else the usual ones in `~/.ssh`; then
what else the agent holds. A key that the agent holds is never unlocked here. Certificates go before
their keys.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.endpoint import Endpoint
from preflight.transport.keyfile import (
    KeyFile,
    KeyFileError,
    WrongPassphraseError,
    certifies,
    read_key_file,
    read_public_key,
    read_string,
    unlock,
)
from preflight.transport.sshagent import AgentError, Identity, SshAgent

_USUAL = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_TRIES = 3
_AGENT_TIMEOUT = 5.0


class PrivateKey(Protocol):
    """A key that signs."""

    def public(self) -> bytes:
        """Its public half."""

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """A signature of `data` in SSH's format."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key to offer. `label` names it in messages."""

    blob: bytes  # the public key or certificate
    label: str
    sign: Callable[[bytes, str], bytes]

    @property
    def kind(self) -> str:
        """The type of what is offered, e.g. ssh-ed25519."""
        return read_string(self.blob, 0)[0].decode("ascii", "replace")


@dataclass(frozen=True, slots=True)
class Offer:
    """What to offer to one host, and what could not be."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...] = ()


class Keyring:
    """All keys of a run. Used from the main thread, before any login."""

    def __init__(
        self,
        load: Callable[[str], PrivateKey],
        ask: Callable[[str], str],
        notify: Callable[[str], None],
        sign_timeout: float,
        *,
        has_password: bool,
    ) -> None:
        """`load` makes a key of its unencrypted text; `ask` prompts for a passphrase."""
        self._load = load
        self._ask = ask
        self._notify = notify
        self._sign_timeout = sign_timeout
        self._has_password = has_password
        self._agents: dict[str, tuple[SshAgent, list[Identity]]] = {}
        self._files: dict[str, KeyFile | str] = {}
        self._keys: dict[str, PrivateKey | str] = {}
        self._offers: dict[tuple[object, ...], Offer] = {}

    def offer(self, end: Endpoint) -> Offer:
        """The keys for `end`. It may ask for passphrases.

        Raises NodeError (auth) where a key that the inventory names cannot be used.
        """
        basis = (
            end.identity_files,
            end.certificate_files,
            end.identities_only,
            end.identities_required,
            end.identity_agent,
        )
        if basis not in self._offers:
            self._offers[basis] = self._choose(end)
        return self._offers[basis]

    def close(self) -> None:
        """Leave the agents."""
        for agent, _ in self._agents.values():
            agent.close()

    def _choose(self, end: Endpoint) -> Offer:
        agent, held = self._agent(end.identity_agent)
        named = bool(end.identity_files)
        home = os.path.expanduser("~/.ssh")
        paths = end.identity_files or [f"{home}/{name}" for name in _USUAL]
        chosen: list[Candidate] = []
        left_out: list[str] = []
        locked: list[KeyFile] = []
        for path in paths:
            file = self._file(path)
            identity = next((i for i in held if i.blob == self._public(path, file)), None)
            if identity is not None and agent is not None:
                chosen += self._with_certificates(path, end, _held(agent, identity, path))
            elif isinstance(file, str):
                if named:
                    left_out.append(f"{_short(path)}: {file}")
            elif file.encrypted and not named:
                locked.append(file)
            else:
                chosen += self._unlocked(file, end, left_out)
        if end.identities_required and not chosen:
            raise NodeError(
                AgentState.AUTH, f"identity_file {left_out[0]}: correct it in the inventory"
            )
        if agent is not None and not end.identities_only:
            offered = {each.blob for each in chosen}
            chosen += [_held(agent, each) for each in held if each.blob not in offered]
        for file in locked:
            # Nobody named it: ask only where there is nothing else to try.
            if not chosen and not self._has_password:
                chosen += self._unlocked(file, end, left_out)
            else:
                left_out.append(f"{_short(file.path)}: encrypted; name it, or use ssh-add")
        return Offer(tuple(chosen), tuple(left_out))

    def _unlocked(self, file: KeyFile, end: Endpoint, left_out: list[str]) -> Iterator[Candidate]:
        key = self._key(file)
        if isinstance(key, str):
            left_out.append(f"{_short(file.path)}: {key}")
            return iter(())
        plain = Candidate(key.public(), _short(file.path), key.sign)
        return self._with_certificates(file.path, end, plain)

    def _with_certificates(self, path: str, end: Endpoint, plain: Candidate) -> Iterator[Candidate]:
        for name in (f"{path}-cert.pub", *end.certificate_files):
            certificate = read_public_key(name)
            if certificate is not None and certifies(certificate, plain.blob):
                yield Candidate(certificate, _short(name), plain.sign)
        yield plain

    def _agent(self, path: str | None) -> tuple[SshAgent | None, list[Identity]]:
        if path is None:
            return None, []
        if path not in self._agents:
            agent = SshAgent(path, _AGENT_TIMEOUT, self._sign_timeout)
            try:
                held = agent.identities()
            except AgentError as exc:
                self._notify(f"going on without ssh-agent: {exc}")
                held = []
            self._agents[path] = agent, held
        return self._agents[path]

    def _file(self, path: str) -> KeyFile | str:
        if path not in self._files:
            try:
                self._files[path] = read_key_file(path)
            except OSError as exc:
                self._files[path] = exc.strerror or str(exc)
            except KeyFileError as exc:
                self._files[path] = str(exc)
        return self._files[path]

    def _public(self, path: str, file: KeyFile | str) -> bytes | None:
        # With the public half alone on disk, the agent may still hold the key.
        if isinstance(file, KeyFile):
            return file.public
        return read_public_key(f"{path}.pub") or read_public_key(path)

    def _key(self, file: KeyFile) -> PrivateKey | str:
        if file.path not in self._keys:
            try:
                self._keys[file.path] = self._unlock(file)
            except KeyFileError as exc:
                self._keys[file.path] = str(exc)
        return self._keys[file.path]

    def _unlock(self, file: KeyFile) -> PrivateKey:
        if not file.encrypted:
            return self._load(unlock(file, None))
        for _ in range(_TRIES):
            try:
                return self._load(unlock(file, self._ask(f"Passphrase for {file.path}: ")))
            except WrongPassphraseError:
                self._notify(f"wrong passphrase for {file.path}")
        raise KeyFileError(f"the passphrase was wrong {_TRIES} times")


def _held(agent: SshAgent, identity: Identity, path: str | None = None) -> Candidate:
    label = (
        f"{_short(path)} (agent)" if path else f"the agent's {identity.comment or identity.kind}"
    )

    def sign(data: bytes, algorithm: str) -> bytes:
        return agent.sign(identity.blob, data, algorithm)

    return Candidate(identity.blob, label, sign)


def _short(path: str) -> str:
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if home != "/" and path.startswith(f"{home}/") else path
