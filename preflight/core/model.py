"""The vocabulary. Every other module speaks in these words; none of them knows what a socket is.

The words and their meanings are the tool's contract: they appear in the JSON as they stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple


class Family(StrEnum):
    """The address family a cell was probed over."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


class Phase(StrEnum):
    """Before or after the installation of Cilium."""

    BEFORE = "before"
    AFTER = "after"


class Severity(StrEnum):
    """How much Cilium needs what a probe tests: MUST or SHOULD."""

    REQUIRED = "required"
    RECOMMENDED = "recommended"


class Protocol(StrEnum):
    """The protocol above IP. `icmp` is ICMPv6 on IPv6."""

    UDP = "udp"
    TCP = "tcp"
    ICMP = "icmp"


class Connection(StrEnum):
    """How the controller gets an agent onto a node."""

    SSH = "ssh"
    LOCAL = "local"
    KUBERNETES = "kubernetes"  # a pod on the node, over the API server
    NONE = "none"  # no agent there: one-sided evidence


class Verdict(StrEnum):
    """What is known of a cell."""

    OPEN = "open"
    CLOSED = "closed"
    BLOCKED = "blocked"
    LOSSY = "lossy"
    UNKNOWN = "unknown"


class Leg(StrEnum):
    """`forward` runs from the pair's source to its destination, `reply` the other way."""

    FORWARD = "forward"
    REPLY = "reply"


class Place(StrEnum):
    """Where a probe died. Source and destination are the pair's, whichever leg it is."""

    SOURCE = "source"  # inside that node: its own firewall, routing or kernel
    PATH = "path"  # between the two taps; includes NIC, XDP and hypervisor at both ends
    DESTINATION = "destination"


class Cause(StrEnum):
    """Why a cell is not open."""

    DROPPED = "dropped"  # no error and no RST was seen
    REJECTED = "rejected"  # one was seen, forged or not
    INTERCEPTED = "intercepted"  # an answer that the destination never sent
    NO_ROUTE = "no-route"
    NO_NEIGHBOUR = "no-neighbour"
    NOT_LISTENING = "not-listening"
    NOT_CILIUM = "not-cilium"  # TCP 4240: something else serves it
    NOT_ANSWERING = "not-answering"  # TCP 4240: it takes connections and answers none
    DATA = "data"  # TCP 4240: SYNs pass, what a connection then carries does not
    ECHO_IGNORED = "echo-ignored"  # sysctl icmp_echo_ignore_all on the destination
    SIZE = "size"  # small packets pass, full-size ones do not
    NO_AGENT = "no-agent"  # one of the two nodes has no agent that could watch
    NOT_WATCHED = "not-watched"  # a capture lost packets, so what it missed proves nothing
    INTERRUPTED = "interrupted"  # the run ended before this cell was decided


class ProbeKind(StrEnum):
    """What a probe's packets look like; `Probe.name` is what the user calls it."""

    GENEVE = "geneve"
    VXLAN = "vxlan"
    UDP = "udp"  # the token alone
    TCP = "tcp"
    HEALTH = "health"  # TCP to Cilium's health port
    ECHO = "echo"
    OVERLAY_ECHO = "overlay-echo"  # to Cilium's health endpoint, as pods are reached
    OVERLAY_HEALTH = "overlay-health"  # likewise, `GET /hello`


class Term(NamedTuple):
    """What a label of a node has to say: `role=worker`, or with `equal` False `role!=etcd`."""

    key: str
    value: str
    equal: bool = True

    @classmethod
    def of(cls, written: str) -> Term:
        """From its text. Raises ValueError for what is none."""
        key, separator, value = written.partition("=")
        equal = not key.endswith("!")
        key = key.removesuffix("!")
        if not separator or not key or "=" in value:
            raise ValueError("not a label and its value")
        return cls(key, value, equal)

    def holds(self, node: Node) -> bool:
        """A node without the label has no value, and so another one than `value`."""
        return (node.labels.get(self.key) == self.value) is self.equal

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.equal else '!='}{self.value}"


@dataclass(frozen=True, slots=True)
class Between:
    """Which nodes need what a probe tests, from whom to whom.

    A side is every node of which at least one term holds; without terms it is every node.
    """

    source: tuple[Term, ...] = ()
    destination: tuple[Term, ...] = ()

    def __str__(self) -> str:
        source, destination = (
            ", ".join(map(str, side)) or "all" for side in (self.source, self.destination)
        )
        return f"{source} → {destination}"


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that is tested between every ordered pair, or those that `between` names."""

    name: str
    kind: ProbeKind
    protocol: Protocol
    port: int | None  # destination port; None for ICMP
    severity: Severity
    between: Between | None = None
    families: tuple[Family, ...] = ()  # over which it is needed; empty: each that a pair has
    source_ports: tuple[int, int] | None = None  # lowest and highest that the sender will use
    purpose: str = ""  # what it is for, in a few words; empty: its kind says so

    @property
    def one_way(self) -> bool:
        """True where no answer is expected: delivery is the whole test."""
        return self.protocol is Protocol.UDP

    @property
    def overlay(self) -> bool:
        """True where it goes to nodes' health endpoints, the way pods' packets go."""
        return self.kind in (ProbeKind.OVERLAY_ECHO, ProbeKind.OVERLAY_HEALTH)

    def __str__(self) -> str:
        return f"{self.name} ({self.protocol}{f' {self.port}' if self.port else ' echo'})"


GENEVE = Probe("geneve", ProbeKind.GENEVE, Protocol.UDP, 6081, Severity.REQUIRED)
HEALTH = Probe("health", ProbeKind.HEALTH, Protocol.TCP, 4240, Severity.RECOMMENDED)
ECHO = Probe("echo", ProbeKind.ECHO, Protocol.ICMP, None, Severity.RECOMMENDED)
BUILT_IN_PROBES: Mapping[str, Probe] = {p.name: p for p in (GENEVE, HEALTH, ECHO)}


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the inventory. SSH settings left at None are looked up in `~/.ssh/config`."""

    name: str
    addresses: tuple[str, ...]  # what is probed, at most one per family, in the order given
    host: str  # where SSH connects
    connection: Connection = Connection.SSH
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    known_hosts: str | None = None
    proxy_jump: str | None = None
    become: str | None = None  # None or "sudo"
    python: str | None = None  # the node's interpreter; None: found on the node
    labels: Mapping[str, str] = field(default_factory=dict)
    cluster: str | None = None
    # After the installation: of Cilium's health endpoint there, as far as known.
    endpoints: tuple[str, ...] = field(default=(), compare=False)

    @property
    def address(self) -> str:
        """The first address given."""
        return self.addresses[0]

    def address_in(self, family: Family) -> str | None:
        """This node's address of `family`, or None."""
        return next((a for a in self.addresses if family_of(a) is family), None)

    def endpoint_in(self, family: Family) -> str | None:
        """The address of `family` of its health endpoint, or None."""
        return next((a for a in self.endpoints if family_of(a) is family), None)


def family_of(address: str) -> Family:
    """The family of a literal address. Raises ValueError for anything else."""
    return Family.IPV4 if ip_address(address).version == 4 else Family.IPV6


@dataclass(frozen=True, slots=True)
class Inventory:
    """The nodes to test and what to test between them."""

    path: str
    nodes: tuple[Node, ...]
    probes: tuple[Probe, ...]
    lists_probes: bool = field(default=False, compare=False)  # the file itself, and no default
    remarks: tuple[str, ...] = field(default=(), compare=False)  # what was dropped or guessed
    form: str = field(default="native", compare=False)  # of the file: `inventory.forms.Form`


class Evidence(NamedTuple):
    """How many distinct probes each vantage point saw; None is not watched or not applicable.

    None is never evidence of a drop. 0 is: watched, and none seen.
    """

    sent: int | None = None  # the source's kernel took it (netfilter OUTPUT passed it)
    left: int | None = None  # outgoing at the source's lowest device
    arrived: int | None = None  # incoming at the destination, before netfilter
    accepted: int | None = None  # past the destination's netfilter INPUT
    answered: int | None = None  # the destination's answer, outgoing
    returned: int | None = None  # the answer incoming at the source, before netfilter
    received: int | None = None  # past the source's netfilter INPUT


class Came(StrEnum):
    """What came of one `GET /hello`."""

    CILIUM = "cilium"  # 200 and an empty body
    HTTP = "http"  # any other answer in HTTP
    OTHER = "other"  # bytes that are not HTTP
    ENDED = "ended"  # the connection was closed without a word
    RESET = "reset"  # it was reset
    SILENT = "silent"  # it stood, and nothing came
    UNTAKEN = "untaken"  # likewise, and no kernel acknowledged the request
    REFUSED = "refused"  # there was none: an RST, or an ICMP error
    UNANSWERED = "unanswered"  # there was none: nothing came
    UNSENT = "unsent"  # the source itself could not ask


class Hello(NamedTuple):
    """One answer, as a cell keeps it."""

    answer: Came
    status: int | None = None  # of HTTP
    says: str | None = None  # HTTP's Server, or what the bytes look like; printable, short
    holder: str | None = None  # the process that has the port at the destination


class Outcome(NamedTuple):
    """All that is known of a cell but its round-trip time. Alike cells share one."""

    verdict: Verdict
    leg: Leg | None = None
    place: Place | None = None
    cause: Cause | None = None
    rejected_by: str | None = None  # address of the rejection's sender
    evidence: Evidence = Evidence()
    detail: str | None = None  # one plain sentence more, where there is one to say
    hello: Hello | None = None  # after the installation: what came of `GET /hello`; None: not asked


class AgentState(StrEnum):
    """What became of a node's agent."""

    OK = "ok"
    NONE = "none"  # the inventory asks for no agent there
    UNREACHABLE = "unreachable"  # no SSH connection
    HOST_KEY = "host-key"  # the host key is unknown or has changed
    AUTH = "auth"  # the node refused the key or password
    BECOME = "become"  # sudo failed
    NO_PYTHON = "no-python"
    NO_PRIVILEGE = "no-privilege"  # neither root nor CAP_NET_RAW
    WRONG_ADDRESS = "wrong-address"  # the inventory's address is not on this node
    LOST = "lost"  # it ran, then its connection or process ended
    FAILED = "failed"  # anything else; the reason says what


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """One node's agent, as the report tells it."""

    state: AgentState
    reason: str | None = None  # one line, None where the state is ok
    python: str | None = None
    kernel: str | None = None
