"""Who refused, told no further than it is known: whoever refuses may use another's address.

Rules of this file:
1. A packet that is lost between the nodes was refused by neither, whatever address the refusal
   bears: one of them never got it, and the other had sent it.
2. A third node is a router only where it says of itself that a time to live ran out there. Else
   somebody speaks in its name, or nobody knows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from preflight.core.groups import BY_THE_DESTINATION, BY_THE_SOURCE
from preflight.core.model import Place


class Rejecter(NamedTuple):
    """Whose address a refusal bears."""

    who: str  # `the destination itself`, `198.18.1.1`, `n3 (198.18.2.11)`
    itself: bool  # False: only in its name
    expired: bool = False  # it refused nothing: a TTL ran out there

    def __str__(self) -> str:
        if self.itself:
            return f"by {self.who}"
        if self.who.startswith("the "):
            return f"in {self.who}'s name"
        return f"in the name of {self.who}"


def rejecter(
    told: str,
    place: Place | None,
    owners: Mapping[str, str],
    routers: Collection[str] = (),
) -> Rejecter:
    """`told` is a kind's `rejected_by`, `place` where its packets are lost; `owners` are the nodes
    by their addresses, `routers` the addresses that answered a rising TTL.
    """
    for role, there in ((BY_THE_SOURCE, Place.SOURCE), (BY_THE_DESTINATION, Place.DESTINATION)):
        if told == role:
            own = place is there
            return Rejecter(f"the {role} itself" if own else f"the {role}", own)
    owner = owners.get(told)
    if owner is None:
        return Rejecter(told, itself=True)
    if told in routers:
        return Rejecter(f"{told} ({owner})", itself=True)
    return Rejecter(f"{owner} ({told})", itself=False)
