"""What a trial can prove. Each says no more than its evidence; None stands for not known."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from preflight.core.diagnosis.kernel import KernelReason
from preflight.core.diagnosis.trial import RuleHit


class Router(NamedTuple):
    """One that said "time to live exceeded"."""

    ttl: int
    address: str


class Path(NamedTuple):
    """How far a flow comes, by rising TTL."""

    routers: tuple[Router, ...]  # by rising TTL
    silent: int | None  # the lowest TTL above all answers of which neither an answer nor an arrival
    distance: int | None  # routers between the nodes, where something that arrived tells it
    on_link: bool  # the source sends it straight to the destination: no router is asked
    control: tuple[Router, ...] = ()  # who answers the same to another port
    back: bool = False  # it is the answer's, from the destination to the source
    # TTLs at which a router answers with the destination's address, though nothing arrives there:
    # connection tracking puts that for its own where it translates destinations.
    as_destination: tuple[int, ...] = ()


class FlowPattern(StrEnum):
    """Which of a pair's flows pass."""

    SOME_DEAD = (
        "some-dead"  # always the same flows never pass: a dead link of a bundle or ECMP path
    )
    HIGH_ONLY = "high-only"  # only source ports from 1024 up
    LOW_ONLY = "low-only"  # only source ports below 1024
    RANGE = "range"  # only source ports of some other range, or none of it
    REPLIES_ONLY = "replies-only"  # only what looks like a reply: source port equals the port
    RANDOM = "random"  # loss hits all flows alike
    LIMITED = "limited"  # the first packets pass, then few: a rate limiter
    NONE = "none"  # no flow passes
    ALL = "all"


class Flows(NamedTuple):
    """A sweep of source ports."""

    pattern: FlowPattern
    tried: int  # source ports
    dead: tuple[int, ...]  # source ports of which nothing arrived
    passed: int  # packets
    sent: int
    passing: tuple[int, ...] = ()  # source ports of which something arrived


class ContentPattern(StrEnum):
    """What the bytes have to do with the loss."""

    PORT = "port"  # nothing passes to this port, whatever its bytes; other ports pass
    TUNNEL = "tunnel"  # other bytes pass in the same flow, neither form of a tunnel's does
    INNER = "inner"  # another type in the tunnel's header passes, Cilium's own does not
    PROTOCOL = "protocol"  # no port of this protocol passes


class Until(StrEnum):
    """How far a shot has to come to count as passed: past where the probe is lost."""

    LEFT = "left"
    ARRIVED = "arrived"
    ACCEPTED = "accepted"


class Content(NamedTuple):
    """The same flow with other bytes, and other ports with the same bytes."""

    pattern: ContentPattern
    passed: tuple[str, ...]  # what passed, in words: `UDP 6082`, `random bytes`
    lost: tuple[str, ...]
    until: Until = Until.ARRIVED


class Size(NamedTuple):
    """What sizes of IP packets pass, in bytes."""

    largest: int  # that arrives with DF set
    smallest_lost: int  # with DF set, that does not; 0 where none was lost
    largest_fragmented: int | None  # that arrives with DF not set; None where not tried
    device_mtu: int  # the source's, towards the destination
    black_hole: bool  # nobody said "fragmentation needed"
    reported_by: str | None  # who did
    reported_mtu: int | None
    fragments_refused: bool = (
        False  # a first one came to the destination, the packet was not accepted
    )


class Band(NamedTuple):
    """Sizes of IP packets that are lost, in bytes; others pass."""

    first: int
    last: int
    below: int  # the largest smaller one that passes; 0 where none does, or can be sent
    above: int  # the smallest larger one that passes; 0 for none


class DontFragment(NamedTuple):
    """IPv4's DF bit decides: of the same sizes in the same flows, with it and without."""

    passes: bool  # whether those that pass have it set
    smallest: int  # sizes that were compared
    largest: int
    passed: int  # packets
    sent: int  # of the same sort
    lost: int  # of the other sort, of which none passed


class Lengths(NamedTuple):
    """What packets have in common that are lost, where small ones are."""

    bands: tuple[Band, ...]
    dont_fragment: DontFragment | None


class Marking(NamedTuple):
    """A DSCP that a node's own packets have when they leave it, though they were sent with none."""

    tos: int  # as it leaves, without ECN
    dropped: bool | None  # whether the path drops what bears it; None where that is not known
    passed: int  # of `sent` without the mark, to `port`
    sent: int
    lost: int  # packets with the mark, to the same port
    port: int

    @property
    def dscp(self) -> int:
        """As firewalls write it."""
        return self.tos >> 2


class RewrittenField(StrEnum):
    """What the path may change in a packet."""

    SOURCE = "source"
    SOURCE_PORT = "source-port"
    DESTINATION = "destination"
    PORT = "port"
    TOS = "tos"
    DONT_FRAGMENT = "dont-fragment"


class Rewrite(NamedTuple):
    """One field that arrived other than it left."""

    field: RewrittenField
    left: str
    arrived: str


class Expired(NamedTuple):
    """Shots with the usual TTL that were answered by "time to live exceeded"."""

    at: tuple[str, ...]  # who said so
    left: tuple[int, ...]  # TTLs with which they left their node; empty: not seen
    by_source: bool  # all of them left with less than they were sent with: the node itself did it
    answered: int  # shots


class NextHop(NamedTuple):
    """Who is asked for by ARP or neighbour discovery, and does not answer."""

    node: int  # who asks
    address: str
    device: str  # by which; empty where not known


class LeavesAs(NamedTuple):
    """What shots bear as their source address when they leave: not that of the inventory."""

    node: int
    address: str
    own: str  # of the inventory
    hit: RuleHit | None  # the node's own rule that does it
    picked: bool  # its routes pick that address


class Passing(NamedTuple):
    """Packets like the probe's own, and how many of them got past where the cell lost all."""

    passed: int
    sent: int

    @property
    def some(self) -> bool:
        """Some did, and some were lost again: nothing shuts it, something thins it."""
        return 0 < self.passed < self.sent


class Diagnosis(NamedTuple):
    """All that is known of one sample cell beyond its verdict."""

    hits: tuple[RuleHit, ...] = ()
    kernel: KernelReason | None = None
    kernel_node: int | None = None  # whose kernel that is
    path: Path | None = None
    flows: Flows | None = None
    content: Content | None = None
    size: Size | None = None
    rewrites: tuple[Rewrite, ...] = ()
    rejecters: tuple[str, ...] = ()  # senders of ICMP errors that mean "discarded", and forged RSTs
    stuck_back: bool = False  # no answer left: the destination's next hop answers no ARP or ND
    mute_node: int | None = None  # who sent no answer, ARP or ND, to those who bring it packets
    notes: tuple[str, ...] = ()  # what could not be found out, and why
    lengths: Lengths | None = None
    marking: Marking | None = None
    readdressed: str = ""  # where shots left for, when that is not where they were sent to
    leaves_as: LeavesAs | None = None
    expired: Expired | None = None
    next_hop: NextHop | None = None  # that is silent, so that nothing leaves
    shared_port: int = 0  # the source port that the path gives all flows, of which one gets through
    passing: Passing | None = None  # of a blocked cell
