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
from preflight.core.model import Hello


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
    resets: bool = False  # all answers that were lost were RSTs


def answers(subject: Subject) -> str:
    """`answers to ` or what else they are, before what they answer."""
    return "RSTs that answer " if subject.resets else "answers to "
