"""A snapshot whose every text can be printed and measured: what nodes and files said is cleaned."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from enum import Enum
from typing import Any

from preflight.core.snapshot import Snapshot
from preflight.report.text import Speech, clean

# A comment to the shell, so that who pastes it does nothing.
_UNSPEAKABLE = "# this command has signs that cannot be shown here: --format json has it"


def presentable(snapshot: Snapshot, speech: Speech) -> Snapshot:
    """`snapshot` in words that `speech` can say, as wide as they will be shown.

    Commands stay as they are, or are left out: a command that was changed is not the same command.
    """
    matrix = copy(snapshot.matrix)
    matrix.nodes = tuple(
        replace(
            node,
            name=speech.name(node.name),
            labels={speech.name(k): speech.name(v) for k, v in node.labels.items()},
        )
        for node in matrix.nodes
    )
    matrix.probes = tuple(replace(p, name=speech.name(p.name)) for p in matrix.probes)
    agents = [
        a if a.reason is None else replace(a, reason=speech.name(a.reason)) for a in snapshot.agents
    ]
    return replace(
        snapshot,
        matrix=matrix,
        agents=agents,
        notes=[speech.name(note) for note in snapshot.notes],
        findings=[_said(finding, speech) for finding in snapshot.findings],
    )


def _said(value: Any, speech: Speech) -> Any:
    """A text, or all texts in tuples in tuples."""
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return speech.say(clean(value))
    if not isinstance(value, tuple):
        return value
    if not hasattr(value, "_fields"):
        return tuple(_said(part, speech) for part in value)
    parts = {
        field: _commands(part, speech) if field in ("commands", "persist") else _said(part, speech)
        for field, part in zip(value._fields, value, strict=True)
    }
    return type(value)(**parts)


def _commands(commands: tuple[str, ...], speech: Speech) -> tuple[str, ...]:
    return tuple(c if speech.exactly(c) else _UNSPEAKABLE for c in commands)
