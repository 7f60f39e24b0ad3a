"""What `cilium status` has to tell."""

from __future__ import annotations

from typing import NamedTuple

from preflight.core.model import Severity


class Problem(NamedTuple):
    """Something that is not as it should be; `nodes` by name."""

    key: str
    severity: Severity
    title: str  # `{nodes}` stands for the nodes in it
    nodes: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    advice: str = ""
    command: str = ""
    lasting: bool = False
