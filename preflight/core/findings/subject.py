"""What the title of a finding speaks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import (
    Diagnosis,
)
from preflight.core.diagnosis.trial import RuleHit
from preflight.core.findings import size_words
from preflight.core.findings.extents import Extent
from preflight.core.groups import Group
from preflight.core.model import Came, Hello


class Subject(NamedTuple):
    """What a title speaks of."""

    group: Group  # the most important of the finding's
    where: str
    what: str  # `UDP 6081`
    names: Sequence[str]  # of all nodes
    guilty: str  # the nodes to blame in words; may be empty
    hits: Sequence[RuleHit]
    diagnoses: Sequence[Diagnosis]
    rejecters: Sequence[str]  # addresses or words
    owners: Mapping[str, str]  # the node that has an address
    sized: Sequence[size_words.Sized] = ()  # the looks
    small: int = 0  # the smallest MTU of destinations that take less than their sources send
    instead: str = ""  # the nodes that got it, where they were not meant
    hellos: Sequence[Hello] = ()  # the unlike ones of its cells
    agentless: str = ""  # the nodes for want of whose agents nothing is known
    extents: Sequence[Extent] = ()  # what of it is where, by test
    carried: str = ""  # what of it is lost where SYNs pass: `requests in connections to `
    resets: bool = False  # all answers that were lost were RSTs


def carried(hellos: Sequence[Hello]) -> str:
    """What of a port's traffic is lost that SYNs of ours are not like, before the port."""
    return "nodes' own connections to " if unconnected(hellos) else "requests in connections to "


def unconnected(hellos: Sequence[Hello]) -> bool:
    """Whether no connection was made at all."""
    return bool(hellos) and all(h.answer in (Came.REFUSED, Came.UNANSWERED) for h in hellos)


def answers(subject: Subject) -> str:
    """`answers to ` or what else they are, before what they answer."""
    return "RSTs that answer " if subject.resets else "answers to "
