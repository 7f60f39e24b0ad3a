"""Which raw sockets lost packets for want of room, and not to an IPsec policy."""

from preflight.agent.sockets import RawSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_STAT = "/proc/net/xfrm_stat"
_REFUSED = ("XfrmInNoPols", "XfrmInPolBlock", "XfrmInPolError", "XfrmInTmplMismatch")


class Policed:
    """A raw socket counts as dropped, too, what an IPsec policy keeps from it (Linux's raw_rcv).

    Such a packet was not lost by the watcher: the kernel threw it away. It is told from want of
    room only where the policies' counter explains every single one.

    Of each packet every raw socket asks, and whoever is to have it or to refuse it: raw_rcv, and
    __udp4_lib_rcv, tcp_v4_rcv or icmp_rcv in Linux's net/ipv4, and their like in net/ipv6.
    """

    def __init__(self, sockets: int = 1) -> None:
        """`sockets` are those of the agent that get the same packets."""
        self._asked = sockets + 1
        self._refused = refused()

    def lost(self, raws: "Iterable[RawSocket]") -> "list[RawSocket]":
        """Those that lost packets since last asked. Asked for all sockets of the agent at once."""
        before, self._refused = self._refused, refused()
        found = [(raw, raw.lost()) for raw in raws]
        drops = sum(lost for _, lost in found)
        known = all(raw.counts for raw, _ in found)
        if known and drops and self._refused - before == self._asked * drops:
            return []
        return [raw for raw, lost in found if lost]


def refused() -> int:
    """How often an IPsec policy has kept a packet from coming in, since boot; 0 without IPsec."""
    try:
        with open(_STAT, encoding="ascii") as stat:
            pairs = [line.split() for line in stat]
    except (OSError, ValueError):
        return 0
    return sum(int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] in _REFUSED)
