"""The options that several commands share, and what they all do with them."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from preflight.core.model import Connection, Family, Node, Phase
from preflight.errors import UsageError
from preflight.transport.base import Connector, Credentials


class Format(StrEnum):
    """How results are written to standard output."""

    TABLE = "table"
    JSON = "json"


class FamilyChoice(StrEnum):
    """Which address families are probed."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    ALL = "all"

    def family(self) -> Family | None:
        """None is every family that both nodes of a pair have."""
        return None if self is FamilyChoice.ALL else Family(self.value)


class Colour(StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


InventoryFile = Annotated[
    Path, typer.Option("--inventory", "-i", metavar="FILE", help="The nodes, as YAML.")
]
PhaseOption = Annotated[
    Phase, typer.Option("--phase", help="Before or after Cilium's installation.")
]
ProbeNames = Annotated[
    list[str] | None,
    typer.Option("--probe", metavar="NAME", help="Only this probe; may be given again."),
]
FamilyOption = Annotated[
    FamilyChoice, typer.Option("--family", help="Address families; all: each that both nodes have.")
]
Local = Annotated[
    str | None,
    typer.Option("--local", metavar="NODE", help="This machine is that node; no SSH to any other."),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=0.05, max=60, help="Seconds until a probe counts as missing."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="Of the results.")]
ColourOption = Annotated[
    Colour, typer.Option("--colour", "--color", help="auto: on a terminal, unless NO_COLOR.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Strict = Annotated[bool, typer.Option("--strict", help="Treat what is recommended as required.")]
AskPass = Annotated[bool, typer.Option("--ask-pass", "-k", help="Prompt for the SSH password.")]
AskBecomePass = Annotated[
    bool, typer.Option("--ask-become-pass", "-K", help="Prompt for the sudo password.")
]
AcceptNewHostKeys = Annotated[
    bool,
    typer.Option("--accept-new-host-keys", help="Add unknown host keys to known_hosts."),
]
ConnectTimeout = Annotated[
    float,
    typer.Option(
        "--connect-timeout", min=1, max=300, help="Seconds for a TCP connection to a node."
    ),
]


def credentials(*, ask_pass: bool, ask_become_pass: bool) -> Credentials:
    """Prompt for what was asked to be prompted for. Raises UsageError without a terminal."""
    return Credentials(
        ask("SSH password: ") if ask_pass else None,
        ask("sudo password: ") if ask_become_pass else None,
    )


def ask(prompt: str) -> str:
    """A secret, typed on the terminal. Raises UsageError where there is none."""
    asked = prompt.rstrip(": ")
    try:
        Path("/dev/tty").open("rb").close()
        return getpass(f"{asked}: ")
    except OSError as error:
        raise UsageError(f"{asked}: there is no terminal to ask on; use ssh-agent") from error
    except EOFError as error:
        raise UsageError(f"{asked}: nothing was typed") from error


def chooser(ways: Mapping[Connection, Connector]) -> Callable[[Node], Connector]:
    """Each node's connector."""
    return lambda node: ways[node.connection]
