"""What `ansible_ssh_common_args` and its like ask of ssh, as far as our inventory can say it.

Nothing of them is quoted in a message but names of options: a ProxyCommand may hold a password.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_WITH_VALUE = frozenset("bcDEeFIiJLlmOopQRSWw")
# Those that change nothing about where and as whom ssh connects.
_HARMLESS = frozenset(
    {
        "controlmaster", "controlpersist", "controlpath", "forwardagent", "serveraliveinterval",
        "serveralivecountmax", "connecttimeout", "connectionattempts", "loglevel", "compression",
        "tcpkeepalive", "batchmode", "preferredauthentications", "gssapiauthentication",
    }
)  # fmt: skip
_NOWHERE = frozenset({"/dev/null", "none"})
_FORWARD = re.compile(r"\[?%h\]?:%p")
_HOST = re.compile(r"(?:[^-@\s%$`{}]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)")


@dataclass(slots=True)
class Arguments:
    """What was found; `told` names what cannot be taken over."""

    proxy_jump: str | None = None
    known_hosts: str | None = None
    identity_file: str | None = None
    port: str | None = None
    user: str | None = None
    told: tuple[str, ...] = ()


def read(text: str) -> Arguments:
    """What ssh would make of these arguments."""
    found = Arguments()
    try:
        words = shlex.split(text)
    except ValueError:
        found.told = ("has a quote that does not end: not copied",)
        return found
    told = []
    for option, value in _options(words):
        note = _take(found, option, value)
        if note:
            told.append(note)
    found.told = tuple(dict.fromkeys(told))
    return found


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options as `-o` would spell them, small, with their values."""
    short = {"J": "proxyjump", "i": "identityfile", "p": "port", "l": "user"}
    left = iter(words)
    for word in left:
        if not word.startswith("-") or len(word) < 2:
            continue
        letter, value = word[1], word[2:]
        if letter in _WITH_VALUE and not value:
            value = next(left, "")
        if letter == "o":
            key, _, rest = value.replace("=", " ", 1).partition(" ")
            yield key.lower(), rest.strip()
        elif letter in short:
            yield short[letter], value
        elif letter in _WITH_VALUE:
            yield f"-{letter}", value


def _take(found: Arguments, option: str, value: str) -> str | None:
    """Keep an option, or say why not."""
    setters: dict[str, Callable[[], str | None]] = {
        "proxyjump": lambda: _set(found, "proxy_jump", value),
        "identityfile": lambda: _set(found, "identity_file", value),
        "port": lambda: _set(found, "port", value),
        "user": lambda: _set(found, "user", value),
        "userknownhostsfile": lambda: (
            None if value in _NOWHERE else _set(found, "known_hosts", value)
        ),
        "proxycommand": lambda: _proxy_command(found, value),
    }
    if option in setters:
        return setters[option]()
    if option == "stricthostkeychecking":
        if value.lower() in ("no", "off", "accept-new"):
            return (
                "StrictHostKeyChecking is not copied: host keys are checked; "
                "--accept-new-host-keys adds unknown ones"
            )
        return None
    if option in _HARMLESS:
        return None
    name = option if option.isascii() and option.strip("-").isalnum() else "an option"
    return f"{name} is not copied: put it into ~/.ssh/config, which is honoured"


def _set(found: Arguments, name: str, value: str) -> None:
    if value and getattr(found, name) is None:  # ssh takes the first of each
        setattr(found, name, value)


def _proxy_command(found: Arguments, value: str) -> str | None:
    told = (
        "its ProxyCommand is not copied: write the jump host as ProxyJump (-J), or into "
        "~/.ssh/config, which is honoured"
    )
    if value.lower() == "none":
        return None
    hop, exact = _jump(value)
    if hop is None:
        return told
    _set(found, "proxy_jump", hop)
    if not exact:
        return (
            "the jump host is taken from its ProxyCommand, the command's other options are not: "
            "put them into ~/.ssh/config"
        )
    return None


def _jump(command: str) -> tuple[str | None, bool]:
    """`ssh -W %h:%p [-q] [-p PORT] [USER@]HOST` as ProxyJump has it, and whether that is all."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None, False
    if not words or words[0].rpartition("/")[2] != "ssh":
        return None, False
    host = user = port = ""
    forwards, exact = False, True
    left = iter(words[1:])
    for word in left:
        if not word.startswith("-"):
            if host:
                return None, False  # a command on the jump host
            host = word
            continue
        letter, value = word[1:2], word[2:]
        if letter in _WITH_VALUE and not value:
            value = next(left, "")
        if letter == "W":
            forwards = _FORWARD.fullmatch(value) is not None
        elif letter == "p":
            port = value
        elif letter == "l":
            user = value
        elif letter not in ("q", "x", "a", "T", "4", "6", "N", "C"):
            exact = False
    if not forwards or not _HOST.fullmatch(host) or (port and not port.isdecimal()):
        return None, False
    hop = f"{user}@{host}" if user and "@" not in host else host
    return (f"{hop}:{port}" if port else hop), exact
