"""Answers that are lost and were RSTs, each of a port that nobody serves yet: what that proves.

Before the installation a SYN to Cilium's health port draws an RST. Firewalls and hardening scripts
that drop RSTs alone are common, and Cilium's own answers are SYN-ACKs, which they let pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from preflight.core.detail import only_resets
from preflight.core.findings.mend import Mending
from preflight.core.findings.model import Cause
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import Group
from preflight.core.model import Leg

_IF = "only if SYN-ACKs are lost as well as RSTs"


def resets_alone(shapes: Shapes, groups: Sequence[Group]) -> bool:
    """Whether all that is known to be lost of these groups is RSTs."""
    return all(g.kind.leg is Leg.REPLY and shapes.every(g, only_resets) for g in groups)


def with_doubt(shapes: Shapes, cause: Cause, groups: Sequence[Group], mending: Mending) -> Mending:
    """The same, and how to find out first whether it is needed."""
    ends = {n for g in groups for n in (*g.destinations, *(g.sources if g.both_ways else ()))}
    what = shapes.traffic(groups[0].tests[0])
    port = what.rpartition(" ")[2]
    then = "is there anything to change."
    if cause is Cause.RULE:
        then = "is that change needed."
    elif mending.requests:
        then = "is there something to ask for, as below."
    told = (
        f"The answers that are lost are RSTs: nobody serves {what} on {shapes.name(ends)} yet. A "
        "filter of RSTs alone would not hurt Cilium, whose answers are SYN-ACKs. To find out, "
        f"serve the port there for a moment (python3 -m http.server {port}) and check again, or "
        f"check after the installation. Only if answers are lost then, too, {then}"
    )
    return mending._replace(
        advice=" ".join(filter(None, (told, mending.advice))),
        requests=tuple(r._replace(reason=f"{_IF}; {r.reason}") for r in mending.requests),
    )
