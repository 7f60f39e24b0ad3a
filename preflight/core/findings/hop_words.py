"""Words for next hops that do not answer ARP or neighbour discovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.core.diagnosis.conclusions import Diagnosis, NextHop
from preflight.core.terms import listed

_SHOWN = 3


def silent_hops(diagnoses: Sequence[Diagnosis]) -> list[NextHop]:
    """Whom nodes ask for in vain, each once."""
    return list(dict.fromkeys(d.next_hop for d in diagnoses if d.next_hop))


def silent(diagnoses: Sequence[Diagnosis], owners: Mapping[str, str], *, answers: bool) -> str:
    """`the next hop 10.0.1.1 on eth0 does not answer ARP`; `owners` are the nodes' addresses."""
    who = "the destination's next hop for answers" if answers else "the next hop"
    hops = silent_hops(diagnoses)
    if not hops:
        return f"{who} does not answer ARP or neighbour discovery"
    named = list(dict.fromkeys(in_words(hop, owners) for hop in hops))
    more = [f"{len(named) - _SHOWN} more"] if len(named) > _SHOWN else []
    does = "does"
    if len(named) > 1:
        who, does = who.replace("next hop", "next hops"), "do"
    asked = listed(dict.fromkeys(map(asks, hops)))
    return f"{who} {listed([*named[:_SHOWN], *more])} {does} not answer {asked}"


def in_words(hop: NextHop, owners: Mapping[str, str]) -> str:
    """`10.0.1.11 (n1) on eth0`."""
    name = f" ({owners[hop.address]})" if hop.address in owners else ""
    return f"{hop.address}{name}{f' on {hop.device}' if hop.device else ''}"


def asks(hop: NextHop) -> str:
    """What a node asks for a next hop by."""
    return "neighbour discovery" if ":" in hop.address else "ARP"
