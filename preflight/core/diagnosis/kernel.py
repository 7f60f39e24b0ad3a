"""The kernel's own reason for a loss inside a node, where no firewall rule is to blame.

Rules that live here:

1. Every accusation is a row of `kernel_rules.TABLE`; nothing else accuses.
2. A row accuses where all its `needs` say yes, no witness says no, and at least two say yes. One
   witness is a hint, and not enough.
3. Where rows with different reasons accuse, nobody is accused: a packet dies once.
"""

from __future__ import annotations

from typing import NamedTuple

from preflight.core.diagnosis.kernel_rules import TABLE, TITLES, Reason, Rule, Stage
from preflight.core.diagnosis.trial import End
from preflight.core.diagnosis.witnesses import Case, SysctlChange
from preflight.core.model import Family, Leg, Place, Protocol


class KernelReason(NamedTuple):
    """A proven accusation."""

    reason: Reason
    title: str
    evidence: tuple[str, ...]  # sentences, with their numbers
    settings: tuple[SysctlChange, ...]  # that would mend it, where settings do


_STAGES = {
    (Leg.FORWARD, Place.SOURCE): Stage.SEND,
    (Leg.FORWARD, Place.PATH): Stage.ARRIVE,
    (Leg.FORWARD, Place.DESTINATION): Stage.TAKE_IN,
    (Leg.REPLY, Place.DESTINATION): Stage.ANSWER,
    (Leg.REPLY, Place.PATH): Stage.ARRIVE,
    (Leg.REPLY, Place.SOURCE): Stage.TAKE_IN,
}


def explain(
    *,
    leg: Leg,
    place: Place,
    protocol: Protocol,
    family: Family,
    lost: int,
    came: int,
    device: str,
    end: End,
    source: str = "",
    destination: str = "",
) -> KernelReason | None:
    """Why the kernel of one node threw `lost` of the `came` probes, or answers, away; or None.

    `place` is the node, as always the pair's; for the path `end` is that of the receiving node,
    whose driver and XDP may be to blame. `device` is the one through which they came in, empty
    where it is not known. `source` and `destination` are the pair's addresses, as the node saw
    them: where they are given, only what its routing says of these counts.
    """
    if not 0 < lost <= came:
        return None
    addresses = (source, destination) if leg is Leg.FORWARD else (destination, source)
    stage = _STAGES[leg, place]
    if stage not in (Stage.ARRIVE, Stage.TAKE_IN):
        device = ""  # they leave by another, and the device may be the other node's
    case = Case(family, lost, came, device, *addresses, end)
    proven = [
        reason
        for rule in TABLE
        if stage in rule.stages
        and rule.family in (None, family)
        and rule.protocol in (None, protocol)
        and (reason := _judge(rule, case)) is not None
    ]
    return proven[0] if len({found.reason for found in proven}) == 1 else None


def _judge(rule: Rule, case: Case) -> KernelReason | None:
    words = [witness.hear(case) for witness in (*rule.needs, *rule.supports)]
    said = [word for word in words if word is not None]
    needed = words[: len(rule.needs)]
    if None in needed or not all(word.says for word in said) or len(said) < 2:
        return None
    return KernelReason(
        rule.reason,
        TITLES[rule.reason],
        tuple(word.sentence for word in said),
        tuple(change for word in said for change in word.changes),
    )
