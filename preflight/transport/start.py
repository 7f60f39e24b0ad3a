"""Sudo's dialogue: write the password when it asks, and only then. Pure: bytes in, decisions out.

Until python runs, sudo owns stdin and would eat what is written there; once python runs without
having been asked for a password, the password would reach python. So nothing is written before
either the prompt or the marker has been seen.
"""

import os

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.command import marker, printed_tail, readable_tail

_KEEP = 16 * 1024


def new_prompt() -> str:
    """A prompt that nothing else on the node can print. It holds one percent sign."""
    return f"preflight%{os.urandom(8).hex()}:"


class Tail:
    """The last few KiB of a stream."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, data: bytes) -> None:
        """Keep `data`, and forget what has become too old."""
        self._data = (self._data + data)[-_KEEP:]

    def __bytes__(self) -> bytes:
        return self._data


class Start:
    """What a node says between the command and python's start."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt.encode()
        self._marker = marker(prompt).encode()
        self._stdout = b""
        self._stderr = b""
        self._answered = False
        self._errors = Tail()
        self._printed = Tail()
        self.output = b""
        """What python itself has written by now, once `started`."""
        self.started = False

    @property
    def errors(self) -> bytes:
        """What was on stderr lately, besides the prompt."""
        return bytes(self._errors) + self._stderr

    @property
    def printed(self) -> str:
        """What was on stdout before python's own words, fit for a message."""
        return printed_tail(bytes(self._printed))

    def stdout(self, data: bytes) -> None:
        """Take what came on stdout; all up to the marker is noise."""
        if not self._answered:  # nothing of it can be the password, sent back
            self._printed.add(data)
        noise, found, rest = (self._stdout + data).partition(self._marker)
        if found:
            self.started, self.output = True, rest
        else:
            self._stdout = noise[-len(self._marker) :]

    def stderr(self, data: bytes) -> bool:
        """Take what came on stderr. True: sudo asks for the password now.

        Raises NodeError (become) when it asks again, which says that the password was wrong.
        """
        before, found, rest = (self._stderr + data).partition(self._prompt)
        if not found:
            # The end may be the beginning of a prompt: keep it back.
            cut = max(0, len(before) - len(self._prompt))
            self._errors.add(before[:cut])
            self._stderr = before[cut:]
            return False
        self._errors.add(before)
        self._stderr = rest
        if self._answered or self._prompt in rest:
            raise NodeError(
                AgentState.BECOME,
                "sudo refused the password: give the right one with --ask-become-pass",
            )
        self._answered = True
        return True

    def timed_out(self, seconds: float) -> NodeError:
        """The error for a node where neither python nor a prompt came within `seconds`."""
        said = "; ".join(filter(None, (readable_tail(self.errors), self.printed)))
        return NodeError(
            AgentState.BECOME,
            f"sudo neither started python nor asked for a password within {seconds:g} s "
            f"(start timeout){': ' + said if said else ''}",
        )
