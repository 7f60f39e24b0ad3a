"""What the rest of the program knows of a way to a node: a byte stream to the python there.

A connector logs in and starts the node's python; a session carries bytes to and from it. Frames,
and what the python is told to do, are other people's business.
"""

from dataclasses import dataclass
from typing import Protocol

from preflight.core.model import Node


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take, in seconds. Messages call a timeout by its name here."""

    connect: float = 10.0  # name look-up and TCP, all of a name's addresses together
    banner: float = 15.0  # the server's first line; then again, its key exchange
    auth: float = 20.0  # all keys and passwords together
    channel: float = 10.0  # opening the session, starting its command
    start: float = 20.0  # from the command to the first words of sudo or python
    send: float = 15.0  # a node that takes no byte for so long is lost


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Passwords typed by the user. They leave this object only over an encrypted connection."""

    password: str | None = None  # for the login
    become_password: str | None = None  # for sudo

    def __repr__(self) -> str:
        return "Credentials(hidden)"


class Session(Protocol):
    """A running python on a node. One thread may receive while others send."""

    def send(self, data: bytes) -> None:
        """Write all of `data` to the node's stdin.

        Raises NodeError (lost) when the connection is gone or takes no byte for `Timeouts.send`.
        """

    def receive(self) -> bytes:
        """The next bytes of the node's stdout, as soon as there are any.

        b"" at its end, when the connection is lost, and after `close`.
        """

    def ending(self) -> tuple[int | None, str]:
        """After the end: the exit status, None if unknown, and the last lines of stderr.

        The lines are joined by "; ", free of control characters, and at most 500 characters.
        """

    def complaints(self) -> str:
        """The last lines of stderr so far, as `ending` gives them. Does not wait."""

    def close(self) -> None:
        """End the session and free what it holds. May be called again, and from any thread."""


class Connector(Protocol):
    """One way to nodes. `connect` is called from many threads at once."""

    def prepare(self) -> None:
        """Whatever needs the user or is common to all nodes. Call it once, before any `connect`.

        Raises FileError for a configuration file that cannot be understood.
        """

    def connect(self, node: Node) -> Session:
        """Log in to `node` and start its python.

        Raises NodeError: its state says how far we got, its reason what to do.
        """

    def close(self) -> None:
        """Free what the sessions shared. Close the sessions first."""
