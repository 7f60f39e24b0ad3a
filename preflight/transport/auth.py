"""Authentication as a sequence of attempts: keys first, then the password where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.endpoint import Endpoint
from preflight.transport.keyring import Candidate, Offer


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said to one attempt."""

    accepted: bool
    partial: bool = False  # right, but it wants more
    methods: tuple[str, ...] = ()  # what it takes, where it said so
    over: bool = False  # it hung up


class Door(Protocol):
    """One connection, waiting for its user to be authenticated. Each attempt is bounded."""

    def none(self) -> Reply:
        """Ask which methods there are."""

    def key(self, candidate: Candidate) -> Reply:
        """Offer a key."""

    def password(self, password: str) -> Reply:
        """Offer a password."""

    def interactive(self, password: str) -> Reply:
        """Answer the one question that keyboard-interactive asks with the password."""


def authenticate(end: Endpoint, offer: Offer, password: str | None, door: Door) -> None:
    """Get in as `end.user`, or raise NodeError (auth) that says what was tried."""
    methods: tuple[str, ...] = ()
    tried: list[str] = []
    factor = False
    for candidate in offer.candidates:
        if methods and "publickey" not in methods:
            break
        reply = door.key(candidate)
        if reply.accepted:
            return
        tried.append(candidate.label)
        methods = reply.methods or methods
        if reply.over:
            raise _refused(end, offer, tried, methods, password, hung_up=True)
        if reply.partial:
            factor = True
            break
    if not offer.candidates and password is None:
        reply = door.none()
        if reply.accepted:
            return
        methods = reply.methods
    if password is not None:
        reply = _offer_password(door, methods, password)
        if reply.accepted:
            return
        methods = reply.methods or methods
        tried.append("the password")
        factor = factor or reply.partial
        if reply.over:
            raise _refused(end, offer, tried, methods, password, hung_up=True)
    if factor:
        raise NodeError(
            AgentState.AUTH,
            f"{end} asks {end.user} for more than one proof (it also wants {_list(methods)}): "
            "use a user or a key for which one is enough",
        )
    raise _refused(end, offer, tried, methods, password, hung_up=False)


def _offer_password(door: Door, methods: Sequence[str], password: str) -> Reply:
    if not methods or "password" in methods:
        reply = door.password(password)
        # sshd with PAM often offers keyboard-interactive in place of password.
        if reply.accepted or "password" in (reply.methods or ("password",)):
            return reply
        methods = reply.methods
    if "keyboard-interactive" in methods:
        reply = door.interactive(password)
        return replace(reply, methods=reply.methods or tuple(methods))
    return Reply(accepted=False, methods=tuple(methods))


def _refused(
    end: Endpoint,
    offer: Offer,
    tried: Sequence[str],
    methods: Sequence[str],
    password: str | None,
    *,
    hung_up: bool,
) -> NodeError:
    what = f"{end} refused {end.user}"
    if hung_up:
        what = f"{end} hung up on {end.user}"
    said = [f"tried {', '.join(tried)}" if tried else "there was nothing to try"]
    if offer.left_out:
        said.append(f"left out {', '.join(offer.left_out)}")
    if methods:
        said.append(f"it takes {_list(methods)}")
    if hung_up and len(tried) > 1:
        advice = "name the right key with identity_file, sshd gives up after a few"
    elif password is not None:
        advice = "check the user and the password"
    elif not tried:
        advice = "name a key with identity_file, load one with ssh-add, or use --ask-pass"
    else:
        advice = (
            "check the user, add the key to its authorized_keys there, name another with "
            "identity_file, or use --ask-pass"
        )
    return NodeError(AgentState.AUTH, f"{what} ({'; '.join(said)}): {advice}")


def _list(methods: Sequence[str]) -> str:
    return ", ".join(methods) or "something else"
