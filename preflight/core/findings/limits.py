"""Rules that drop what is too much: of what, in words. By the rule's own text alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.accept import Traffic
from preflight.core.model import ProbeKind

_TUNNELS = (ProbeKind.GENEVE, ProbeKind.VXLAN)
_CONNECTIONS = re.compile(r"(?:\{ (?P<key>[^{}]*?) |\b)ct count over (?P<most>\d+)")
_TIMEOUT = re.compile(r" timeout \S+")
_CONNLIMIT = re.compile(r"--connlimit-above (?P<most>\d+)")
_MASK = re.compile(r"--connlimit-mask (\d+)")
_WHOLE = {"iptables": "32", "ip6tables": "128"}
_AMOUNTS = (
    (re.compile(r"\bct count\b|-m connlimit\b"), "a number of connections at once"),
    (re.compile(r"\bquota\b"), "an amount of data"),
    (re.compile(r"-m recent\b"), "how often a sender came of late"),
    (re.compile(r"\blimit rate\b|\bmeter\b|-m (limit|hashlimit)\b"), "a rate"),
)
_KEYS = {
    "ip saddr": "from one source",
    "ip6 saddr": "from one source",
    "ip daddr": "to one destination",
    "ip6 daddr": "to one destination",
}


class Connections(NamedTuple):
    """A limit of how many there may be at once."""

    most: int
    of: str  # `from one source`; which of them count together

    def __str__(self) -> str:
        return f"over {self.most} at once {self.of}"


def connections(rule: Rule) -> Connections | None:
    """What a rule says that drops the connections that are too many; None for any other rule."""
    if found := _CONNECTIONS.search(rule.text):
        key = _TIMEOUT.sub("", found["key"] or "")
        of = _KEYS.get(key, f"for each {key}") if key else "from all together"
        return Connections(int(found["most"]), of)
    if found := _CONNLIMIT.search(rule.text):
        return Connections(int(found["most"]), _by_mask(rule))
    return None


def limits(rule: Rule) -> str:
    """`n4's rule` continued: what it drops more than; empty where it limits nothing."""
    if (most := connections(rule)) is not None:
        return f"counts connections and drops new ones: {most}"
    told = next((words for pattern, words in _AMOUNTS if pattern.search(rule.text)), "")
    return f"drops what exceeds {told}" if told else ""


def advice(node: str, rule: Rule, packets: Sequence[Traffic]) -> str:
    """What there is to know beside an accept of `packets` that comes before the rule; empty as
    `limits`.
    """
    told = limits(rule)
    if not told:
        return ""
    more = "What is accepted before it no longer counts."
    tunnels = [p.comment for p in packets if p.probe.kind in _TUNNELS]
    if connections(rule) is not None and tunnels:
        more = (
            f"To connection tracking each source port of {tunnels[0]} is a connection, and nodes "
            f"send from thousands: no higher number would do. {more}"
        )
    return f"{node}: that rule {told}. {more}"


def _by_mask(rule: Rule) -> str:
    to = "--connlimit-daddr" in rule.text
    found = _MASK.search(rule.text)
    if found is None or found[1] == _WHOLE.get(rule.tool.partition("-")[0]):
        return "to one destination" if to else "from one source"
    if found[1] == "0":
        return "from all together"
    return f"{'to' if to else 'from'} one /{found[1]}"
