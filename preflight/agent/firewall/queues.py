"""The queues by which firewall rules hand packets to a program (NFQUEUE, nft's `queue`).

The kernel drops what it is to put into a queue that no program reads, unless the rule says bypass.
"""

import posix

from preflight.agent.firewall.xtwords import option
from preflight.agent.host import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Span = tuple[int, int]  # the first and the last of some queues
    Readers = dict[int, int]  # queue -> netlink port of the program that reads it

TARGETS = ("NFQUEUE", "QUEUE")
_READ = "/proc/net/netfilter/nfnetlink_queue"  # there once something could read one
_FOLDER = "/proc/net/netfilter"
NOBODY = 0


def readers() -> "Readers | None":
    """Who reads which queue in this network namespace; None where the kernel does not tell."""
    if not posix.access(_FOLDER, posix.F_OK):
        return None
    if not posix.access(_READ, posix.F_OK):
        return {}
    try:
        return parse(read(_READ))
    except ValueError:
        return None


def parse(text: bytes) -> "Readers":
    """A line for each queue that is read, which begins with its number and the reader's port."""
    rows = [line.split() for line in text.splitlines()]
    return {int(row[0]): int(row[1]) for row in rows if len(row) > 1}


def span(words: "Sequence[str]") -> "Span":
    """The queues of a rule in iptables' words."""
    first, _, last = option(words, "--queue-balance").partition(":")
    if first and last:
        return int(first), int(last)
    number = int(option(words, "--queue-num") or 0)
    return number, number


def reader(queues: "Span", known: "Readers | None") -> "int | None":
    """The netlink port of who reads one of `queues`; NOBODY; None where that is not known."""
    if known is None:
        return None
    found = [known[number] for number in range(queues[0], queues[1] + 1) if number in known]
    return found[0] if found else NOBODY


def goes_on(words: "Sequence[str]", who: "int | None") -> bool:
    """Whether packets pass a rule in iptables' words for want of a reader."""
    return who == NOBODY and "--queue-bypass" in words


def ever(seen: "Sequence[Readers | None]") -> "Readers | None":
    """Who read queues at any of several times."""
    every: Readers = {}
    for known in seen:
        if known is None:
            return None
        every.update(known)
    return every


def told(queues: "Span", known: "Readers | None") -> "dict[str, Any]":
    """What a rule's report says of its queues: `queue`, in words, and `reader`."""
    first, last = queues
    words = str(first) if first == last else "%d-%d" % queues
    return {"queue": words, "reader": reader(queues, known)}
