"""What the kernel threw away meanwhile, and why it says it did: the tracepoint skb:kfree_skb.

The tracepoint tells of the whole machine, other network namespaces included: a count is a hint,
and never proof by itself.
"""

from preflight.agent.kernel.ebpf import Counter
from preflight.agent.kernel.kallsyms import names
from preflight.agent.kernel.tracefs import Layout, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = tuple[str, str, int, int]

_EVENT = "skb/kfree_skb"
_ETHERTYPES = (0x0800, 0x86DD)
_MAX_ROWS = 64
# These say nothing of a probe's fate: firewall rules are told of elsewhere; the rest is what
# sockets and TCP do every day, and what our own sockets' filters refuse.
_IDLE_TALK = ("NO_SOCKET", "NETFILTER_DROP", "OTHERHOST", "PACKET_SOCK_ERROR", "QUEUE_PURGE")
_IDLE_KINDS = ("SOCKET_", "TCP_")
_TELLING = ("TCP_CSUM",)
_UNNAMED = ("NOT_SPECIFIED",)  # here the function tells, as in kernels that give no reasons


class Drops:
    """Counts drops of IP packets from `open` on; nothing of it outlives the process."""

    def __init__(self) -> None:
        self._counter: Counter | None = None
        self._before: dict[tuple[int, int, int], int] = {}
        self._functions: dict[int, str] = {}

    def open(self) -> str:
        """Begin to watch; empty, or in a few words why that cannot be."""
        try:
            self._layout = layout(_EVENT)
            self._counter = Counter(self._layout, _ETHERTYPES, idle_talk(self._layout))
        except (OSError, ImportError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            return "the kernel's drop reasons cannot be read: %s" % why
        return ""

    def counts(self) -> "list[Row] | None":
        """(reason, function, EtherType, count) of the drops since last asked; most first.

        The reason is empty where the kernel gives none: there the function in which it was dropped
        is told, where it can be.
        None where it was not watched, or not all of it.
        """
        if self._counter is None:
            return None
        totals = self._counter.totals()
        if totals is None:
            self.close()
            return None
        before, self._before = self._before, totals
        told: dict[tuple[str, str, int], int] = {}
        risen = {key: count - before.get(key, 0) for key, count in totals.items()}
        named = {key: name_of(self._layout, key[1]) for key, rise in risen.items() if rise}
        # 0.1 s of the node's time: only where the reason does not tell enough.
        places = {location for (location, _, _), name in named.items() if not name}
        self._functions.update(names(places - set(self._functions)))
        for (location, reason, protocol), name in named.items():
            function = "" if name else self._functions.get(location, "")
            key = name, function, protocol
            told[key] = told.get(key, 0) + risen[location, reason, protocol]
        rows = [(*key, rise) for key, rise in told.items()]
        return sorted(rows, key=lambda row: (-row[3], row))[:_MAX_ROWS]

    def close(self) -> None:
        """End it: it counts nothing more."""
        if self._counter is not None:
            self._counter.close()
        self._counter = None


def idle_talk(form: Layout) -> "list[int]":
    """The reasons not worth counting, by their numbers in this kernel."""
    return [
        number
        for number, name in form.reasons.items()
        if name in _IDLE_TALK or (name.startswith(_IDLE_KINDS) and name not in _TELLING)
    ]


def name_of(form: Layout, reason: int) -> str:
    """What this kernel calls a reason; empty where it says none, or not what its number means."""
    if not form.reasons:
        return ""
    name = form.reasons.get(reason, str(reason))
    return "" if name in _UNNAMED else name
