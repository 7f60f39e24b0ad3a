"""Two looks at one cell. Pure.

A later look judges, because the first one did not wait for what was missing. But what the first
look proved stays true: a cell of which any probe did all it must is not blocked, only lossy.
"""

from dataclasses import replace
from typing import Any

from preflight.core.evidence import Setting, Sightings
from preflight.core.model import Protocol

_FORWARD = ("sent", "left", "arrived", "accepted")
_REPLY = ("answered", "returned", "received")


def proven(sightings: Sightings, setting: Setting) -> int:
    """The probes that did all they must, as a mask."""
    if sightings.accepted is None:
        return 0
    done = sightings.planned & sightings.accepted
    if setting.probe.one_way:
        return done
    if sightings.received is None:
        return 0
    done &= sightings.received
    if setting.probe.protocol is Protocol.TCP:
        rst, syn_ack = sightings.received_rst, sightings.received_syn_ack
        due, undue = (syn_ack, rst) if setting.serves else (rst, syn_ack)
        done &= due & ~undue if setting.serves is not None else 0
    return done


def together(later: Sightings, first: Sightings, setting: Setting) -> Sightings:
    """The later look, and with it the probes that the first look proved."""
    shift = later.planned.bit_length()
    mask = proven(first, setting)
    moved = mask << shift
    changed: dict[str, Any] = {
        "planned": later.planned | moved,
        "full_size": later.full_size | (first.full_size & mask) << shift,
    }
    vantages = _FORWARD if setting.probe.one_way else _FORWARD + _REPLY
    for vantage in vantages:
        seen = getattr(later, vantage)
        if seen is not None:
            changed[vantage] = seen | moved
    if setting.probe.protocol is Protocol.TCP:
        for kind in ("rst", "syn_ack"):
            got = (getattr(first, f"received_{kind}") & mask) << shift
            for vantage in ("answered", "received"):
                name = f"{vantage}_{kind}"
                changed[name] = getattr(later, name) | got
    return replace(later, **changed)


def telling_error(later: Sightings, first: Sightings) -> Sightings:
    """The later look, with the first one's ICMP error where its sender had none left to spend.

    Only where the first look delivered nothing: a probe that arrived at a closed port has its
    port-unreachable too.
    """
    if later.error is not None or first.error is None or first.accepted != 0:
        return later
    return replace(later, error=first.error)
