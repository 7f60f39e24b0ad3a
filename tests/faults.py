"""The faults that the oracle is asked about: each one by itself, and any two drawn at random."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from hypothesis import strategies as st
from oracle import BACK, DESTINATION_SIDE, FORWARD, SOURCE_SIDE, USERS_TCP, USERS_UDP, Scenario

from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Phase, Protocol


def one_fault_each() -> Iterator[Scenario]:
    """Every fault, of all probes or of one, with every set of up to three blind vantage points."""
    vantages = ("left", "arrived", "accepted", "answered", "returned", "received")
    blind = [
        frozenset(name for bit, name in enumerate(vantages) if chosen >> bit & 1)
        for chosen in range(64)
        if chosen.bit_count() <= 3
    ]
    faults: list[dict[str, Any]] = [{}]
    faults += [
        {"forward": fault, "forward_hits": hits, "icmp_code": code}
        for fault in FORWARD
        for hits in (0b111, 0b001)
        for code in (("port", "prohibited") if fault.endswith("icmp") else ("port",))
        if fault != "path-too-big"
    ]
    faults.append({"forward": "path-too-big", "forward_hits": 0b100, "full_size": 0b100})
    faults += [{"back": fault, "back_hits": hits} for fault in BACK for hits in (0b111, 0b001)]
    for probe, fault, unwatched, listening, known in product(
        (GENEVE, HEALTH, ECHO), faults, blind, (True, False), (True, False)
    ):
        kind = probe.protocol
        name = fault.get("forward", "")
        if (
            ("back" in fault and kind is Protocol.UDP)
            or (name.endswith("-rst") and kind is not Protocol.TCP)
            or (name == "path-intercept" and kind is Protocol.UDP)
            or (name == "path-too-big" and kind is not Protocol.UDP)
            or (fault.get("back") == "back-inject" and kind is not Protocol.TCP)
            or (fault.get("back") == "sysctl" and (kind is not Protocol.ICMP or listening))
            or (fault.get("back") == "sysctl" and fault["back_hits"] != 0b111)
            or (kind is Protocol.ICMP and (listening or known))
        ):
            continue
        yield Scenario(
            probe=probe,
            phase=Phase.AFTER,
            listening=listening,
            serves_known=known,
            tokens=3,
            unwatched=unwatched,
            **fault,
        )


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any cell, any fault on either leg, anybody looking."""
    probe = draw(st.sampled_from((GENEVE, USERS_UDP, HEALTH, USERS_TCP, ECHO)))
    tcp, icmp = probe.protocol is Protocol.TCP, probe.protocol is Protocol.ICMP
    tokens = draw(st.integers(2, 8))
    planned = (1 << tokens) - 1
    some = st.one_of(st.just(planned), st.integers(1, planned))
    unsent = draw(st.one_of(st.just(0), st.just(0), st.integers(0, planned)))
    if 2 * unsent.bit_count() > tokens:
        unsent = 0
    full_size = draw(st.integers(0, planned)) if probe is GENEVE else 0
    if full_size | unsent == planned:
        full_size = 0  # some small probes are always sent
    forward = draw(st.one_of(st.none(), st.sampled_from(sorted(FORWARD))))
    if (forward in ("output-reject-rst", "path-reject-rst", "input-reject-rst") and not tcp) or (
        forward == "path-intercept" and not (tcp or icmp)
    ):
        forward = "path-drop"
    forward_hits = draw(some)
    if forward == "path-too-big":
        forward_hits = full_size
    back = draw(st.one_of(st.none(), st.sampled_from(BACK)))
    back_hits = draw(some)
    if not (tcp or icmp) or (back == "sysctl" and not icmp) or (back == "back-inject" and not tcp):
        back = None
    if back == "sysctl":
        back_hits = planned
    return Scenario(
        probe=probe,
        family=draw(st.sampled_from(Family)),
        phase=draw(st.sampled_from(Phase)),
        listening=draw(st.booleans()),
        serves_known=draw(st.booleans()),
        tokens=tokens,
        full_size=full_size,
        unsent=unsent,
        forward=forward,
        forward_hits=forward_hits,
        icmp_code=draw(st.sampled_from(("port", "prohibited"))),
        icmp_seen=draw(st.booleans()),
        errno=draw(st.sampled_from((101, 113, 13, 22))),
        back=back,
        back_hits=back_hits,
        also_genuine=draw(st.booleans()),
        unwatched=draw(
            st.one_of(
                st.just(frozenset[str]()),
                st.frozensets(st.sampled_from((*SOURCE_SIDE, *DESTINATION_SIDE)), max_size=4),
            )
        ),
        source_agent=draw(st.integers(0, 9)) > 0,
        destination_agent=draw(st.integers(0, 5)) > 0,
    )
