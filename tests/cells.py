"""Cells to judge: sightings in few words, and any that Hypothesis can think of."""

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from oracle import ADDRESSES, USERS_TCP, USERS_UDP

from preflight.core.evidence import Errno, IcmpError, Setting, Sightings
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Phase, Probe

SOURCE, DESTINATION, ROUTER = ADDRESSES[Family.IPV4]
VANTAGES = ("sent", "left", "arrived", "accepted", "answered", "returned", "received")

# A busy machine is no finding.
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def setting(probe: Probe = GENEVE, **changes: Any) -> Setting:
    """A pair in the before phase with both agents there."""
    plain = Setting(probe, Family.IPV4, Phase.BEFORE, True, True, (SOURCE,), (DESTINATION,))
    return replace(plain, **changes)


def seen(*forward: int | None, **rest: Any) -> Sightings:
    """Three probes; `forward` is sent, left, arrived, accepted."""
    names = ("sent", "left", "arrived", "accepted")
    masks: dict[str, Any] = dict(zip(names, forward, strict=False))
    return Sightings(7, **masks, **rest)


def tcp(answered: str, received: str, mask: int = 7, **rest: Any) -> Sightings:
    """Three SYNs accepted; `mask` of the answers received, kinds as given."""
    kinds: dict[str, Any] = {f"answered_{answered}": 7, f"received_{received}": mask}
    rest = {"answered": 7, "returned": mask, "received": mask} | kinds | rest
    return seen(7, 7, 7, 7, **rest)


masks = st.one_of(st.none(), st.integers(0, 255))
wild_sightings = st.builds(
    Sightings,
    planned=st.integers(0, 255),
    full_size=st.integers(0, 255),
    **dict.fromkeys(VANTAGES, masks),
    answered_rst=st.integers(0, 255),
    answered_syn_ack=st.integers(0, 255),
    received_rst=st.integers(0, 255),
    received_syn_ack=st.integers(0, 255),
    send_errors=st.dictionaries(st.sampled_from((*Errno, 5, 100)), st.integers(0, 255), max_size=3),
    error=st.one_of(
        st.none(),
        st.builds(
            IcmpError,
            st.sampled_from((SOURCE, DESTINATION, ROUTER)),
            st.integers(0, 13),
            st.integers(0, 15),
        ),
    ),
    neighbour_failed=st.booleans(),
)
settings_ = st.builds(
    setting,
    probe=st.sampled_from((GENEVE, USERS_UDP, HEALTH, USERS_TCP, ECHO)),
    phase=st.sampled_from(Phase),
    family=st.sampled_from(Family),
    source_agent=st.booleans(),
    destination_agent=st.booleans(),
    serves=st.sampled_from((None, True, False)),
    echo_ignored=st.booleans(),
    final=st.booleans(),
)
