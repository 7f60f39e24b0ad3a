"""The options that several commands share, and what they all do with them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from enum import StrEnum
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preflight.core.model import Connection, Family, Node, Phase
from preflight.core.options import Profile
from preflight.errors import FileError, UsageError
from preflight.report.formats import ReportFormat
from preflight.transport.base import Connector, Credentials

if TYPE_CHECKING:
    from preflight.cluster.api import Access
    from preflight.core.options import Meeting

_LEAST_SECRET = 8
_SOON = timedelta(hours=12)  # a time without a date is not further away


class Format(StrEnum):
    """How results are written that have no more than these two forms; see also ReportFormat."""

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


InventoryOrCluster = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        "-i",
        metavar="FILE",
        help="The nodes: YAML of ours, Ansible's INI or YAML, or EKS Anywhere's hardware.csv.",
    ),
]
ClusterSpecFile = Annotated[
    Path | None,
    typer.Option(
        "--cluster-spec",
        metavar="FILE",
        help="The EKS Anywhere cluster spec, of which ports and pod ranges follow.",
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="The cluster, whose configuration of Cilium and nodes are read.",
    ),
]
ClusterKubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig", metavar="FILE", help="The cluster; else $KUBECONFIG or ~/.kube/config."
    ),
]
PodsKubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", metavar="FILE", help="For pods: the cluster they are in."),
]
Context = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Of the kubeconfig; else its own.")
]
ProfileOption = Annotated[
    Profile | None,
    typer.Option("--profile", help="Test the other ports that such clusters need, by role."),
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
SourceNames = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="NODE", help="Only pairs from this node; may be given again."),
]
DestinationNames = Annotated[
    list[str] | None,
    typer.Option(
        "--destination", metavar="NODE", help="Only pairs to this node; may be given again."
    ),
]
LabelTerms = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="KEY=VALUE",
        help="Only pairs with a node that carries this label; given again: all of them.",
    ),
]
Rate = Annotated[
    int, typer.Option("--rate", min=1, max=1_000_000, help="Probes a second from each node.")
]
MaxFlows = Annotated[
    int, typer.Option("--max-flows", min=100, help="New flows of all nodes together in any 30 s.")
]
Local = Annotated[
    str | None,
    typer.Option("--local", metavar="NODE", help="This machine is that node; no SSH to any other."),
]
Meet = Annotated[
    str | None,
    typer.Option(
        "--meet",
        metavar="TIME",
        help="With --local on every node: all probe at this time, UTC, as 15:30; then merge.",
    ),
]
MeetKey = Annotated[
    Path | None,
    typer.Option(
        "--meet-key", metavar="FILE", help="For --meet: a secret, the same file on every node."
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=0.05, max=60, help="Seconds until a probe counts as missing."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="Of the results.")]
ReportFormatOption = Annotated[ReportFormat, typer.Option("--format", help="Of the report.")]
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


def meeting(
    at: str | None, key: Path | None, local: str | None, output: Path | None
) -> "Meeting | None":
    """Raises UsageError where what is needed for one is not all there."""
    if at is None:
        if key is not None:
            raise UsageError("--meet-key goes with --meet")
        return None
    if key is None or local is None or output is None:
        raise UsageError(
            "--meet needs --local NODE, --meet-key FILE with a secret in it, and --output FILE for "
            "what merge is to join"
        )
    from preflight.core.options import Meeting
    from preflight.looks.meeting import in_time

    try:
        secret = key.read_bytes().strip()
    except OSError as error:
        raise FileError(f"{key}: cannot be read: {error.strerror}") from error
    if len(secret) < _LEAST_SECRET:
        raise FileError(f"{key}: a secret of at least {_LEAST_SECRET} bytes has to be in it")
    agreed = Meeting(_moment(at), secret)
    in_time(agreed)
    return agreed


def _moment(text: str) -> float:
    """The next time that a clock in UTC shows so; or a whole date and time."""
    now = datetime.now(UTC)
    try:
        if "T" in text or "-" in text:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        clock = clock_time.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--meet {text}: write it as 15:30, or as 2026-11-22T15:30, UTC") from None
    moment = datetime.combine(now.date(), clock, UTC)
    if moment <= now:
        moment += timedelta(days=1)
    if moment - now > _SOON:
        raise UsageError(f"--meet {text}: it is {now:%H:%M} UTC, that is over; give the date, too")
    return moment.timestamp()


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


def access(kubeconfig: Path | None, context: str | None) -> "Access | None":
    """The cluster that is meant, if one is."""
    if kubeconfig is None:
        if context is not None:
            raise UsageError(f"--context {context}: name the kubeconfig too: --kubeconfig FILE")
        return None
    from preflight.cluster.api import Access

    return Access(kubeconfig, context)


def told(text: str) -> None:
    """One line that stays, on standard error."""
    typer.echo(f"preflight: {text}", err=True)


def chooser(ways: Mapping[Connection, Connector]) -> Callable[[Node], Connector]:
    """Each node's connector."""
    return lambda node: ways[node.connection]
