"""Trials to judge: by what the network does to each shot, and any that Hypothesis can think of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from preflight.core.diagnosis.plan import shots as plan
from preflight.core.diagnosis.trial import (
    VANTAGES,
    End,
    Form,
    Observed,
    Passage,
    Purpose,
    Shot,
    ShotError,
    Trial,
)
from preflight.core.groups import Kind
from preflight.core.model import GENEVE, Cause, Family, Leg, Phase, Place, Probe, Verdict

SOURCE, DESTINATION = "198.18.1.11", "198.18.2.21"
ROUTERS = ("198.18.1.1", "198.18.9.1", "198.18.9.2", "198.18.2.1")
BLOCKED = Kind(Verdict.BLOCKED, Leg.FORWARD, Place.PATH, Cause.DROPPED, None)
LOSSY = BLOCKED._replace(verdict=Verdict.LOSSY)

Network = Callable[[int, Shot], bool]  # position and shot; whether it passes


def planned(
    probe: Probe = GENEVE,
    kind: Kind = BLOCKED,
    *,
    family: Family = Family.IPV4,
    phase: Phase = Phase.BEFORE,
    inert: bool = False,
    known: Sequence[int] = (),
    thorough: bool = False,
    draw: int = 0,
) -> tuple[Shot, ...]:
    """What the plan fires."""
    return plan(probe, family, phase, inert, kind, known, thorough, draw=draw)


def trial(shots: Sequence[Shot], family: Family = Family.IPV4) -> Trial:
    """One from node 0 to node 1."""
    return Trial(0, 0, 1, 0, family, tuple(shots))


def observed(
    shots: Sequence[Shot],
    passes: Network,
    *,
    family: Family = Family.IPV4,
    **changes: Any,
) -> Observed:
    """All vantage points of the forward leg watched; what passes was accepted."""
    every = (1 << len(shots)) - 1
    mask = sum(1 << i for i, shot in enumerate(shots) if passes(i, shot))
    seen = dict.fromkeys(VANTAGES) | {
        "sent": every, "left": every, "arrived": mask, "accepted": mask
    }  # fmt: skip
    ends = {"source": End(), "destination": End()}
    return Observed(trial(shots, family), seen, ends=ends, **changes)


def passage(shot: Shot, **changes: Any) -> Passage:
    """The shot as a tap at its source sees it."""
    seen = Passage(
        "eth0", SOURCE, shot.source_port, DESTINATION, shot.port, shot.ttl, 0, shot.size or 62,
        shot.dont_fragment,
    )  # fmt: skip
    return seen._replace(**changes)


def mask_of(shots: Sequence[Shot], *purposes: Purpose) -> int:
    """The positions of shots of these purposes."""
    return sum(1 << i for i, shot in enumerate(shots) if shot.purpose in purposes)


ports = st.sampled_from((0, 1, 53, 703, 1023, 1024, 1025, 6081, 6082, 33434, 40000, 65535))
wild_shots = st.lists(
    st.builds(
        Shot,
        st.sampled_from(Purpose),
        st.sampled_from(Form),
        ports,
        st.sampled_from((0, 6081, 6082, 33434)),
        st.integers(0, 255),
        st.sampled_from((0, 62, 100, 1280, 1400, 1401, 1500, 9000, 65535)),
        st.booleans(),
    ),
    max_size=60,
)
addresses = st.sampled_from((SOURCE, DESTINATION, *ROUTERS, "2001:db8::1"))
passages = st.builds(
    Passage, st.just("eth0"), addresses, ports, addresses, ports, *[st.integers(0, 255)] * 2,
    st.integers(0, 9000), st.booleans(),
)  # fmt: skip


@st.composite
def _wild(draw: st.DrawFn) -> Observed:
    shots = draw(wild_shots)
    masks = st.one_of(st.none(), st.integers(0, (1 << len(shots)) - 1))
    seen = {vantage: draw(masks) for vantage in VANTAGES}
    if not shots:
        return Observed(trial(shots), seen)
    position = st.integers(0, len(shots) - 1)
    some: Mapping[str, Any] = {
        "send_errors": draw(
            st.dictionaries(position, st.sampled_from((1, 11, 90, 101, 105)), max_size=8)
        ),
        "errors": draw(
            st.lists(
                st.builds(
                    ShotError,
                    position,
                    addresses,
                    st.sampled_from((1, 2, 3, 11)),
                    st.sampled_from((0, 1, 3, 4, 13)),
                    st.sampled_from((0, 576, 1400, 65535)),
                ),
                max_size=20,
            )
        ),
        "passages": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    name: st.dictionaries(position, passages, max_size=10)
                    for name in ("left", "arrived", "returned")
                },
            )
        ),
        "ends": draw(st.sampled_from(({}, {"source": End()}, {"destination": End()}))),
    }
    return Observed(trial(shots, draw(st.sampled_from(Family))), seen, **some)


wild_observed = _wild()
