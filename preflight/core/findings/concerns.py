"""Whether a rule's own words leave room for a probe's packets."""

from __future__ import annotations

import re

from preflight.core.diagnosis.trial import Rule
from preflight.core.model import Probe

_PROTOCOL = re.compile(r"\b(udp|tcp|icmp)(?:v6)?\b")
_PORT = re.compile(r"(?<!! --)\b(dport|sport) (\d+)(?![\d:-])")  # one alone, no range
# What a rule says, not what it matches.
_SPOKEN = re.compile(r"(?:comment|prefix) (\"[^\"]*\"|'[^']*'|\S+)|\breject(-| )with .*")


def concerns(rule: Rule, probe: Probe, leg: str) -> bool:
    """False where the rule's text says that it is about other packets."""
    text = _SPOKEN.sub("", rule.text)
    protocols = {found.group(1) for found in _PROTOCOL.finditer(text)}
    if protocols and probe.protocol not in protocols:
        return False
    ours = "sport" if leg == "reply" else "dport"
    ports = {int(number) for side, number in _PORT.findall(text) if side == ours}
    return not ports or probe.port in ports
