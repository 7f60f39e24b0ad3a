"""A diff whose every text can be printed and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.core.diff.model import Diff, FindingChange
from preflight.core.findings.model import Finding
from preflight.core.model import Node
from preflight.report.presentable import presentable
from preflight.report.text import Speech, clean


def presentable_diff(diff: Diff, speech: Speech) -> Diff:
    """`diff` in words that `speech` can say, as wide as they will be shown."""
    before, after = presentable(diff.before, speech), presentable(diff.after, speech)
    said: Mapping[int, Finding] = {
        id(raw): clean_
        for snapshot, shown in ((diff.before, before), (diff.after, after))
        for raw, clean_ in zip(snapshot.findings, shown.findings, strict=True)
    }

    def say(text: str) -> str:
        return speech.say(clean(text))

    def node(position: int | None, of: tuple[Node, ...]) -> Node | None:
        return None if position is None else of[position]

    nodes = []
    for pairing in diff.nodes:
        former = node(pairing.before, before.matrix.nodes)
        now = node(pairing.after, after.matrix.nodes) or former
        assert now is not None  # a pairing has one of them
        nodes.append(replace(pairing, node=now, former=former))
    probes = []
    for probe in diff.probes:
        was = None if probe.before is None else before.matrix.probes[probe.before]
        is_ = was if probe.after is None else after.matrix.probes[probe.after]
        assert is_ is not None  # likewise
        probes.append(replace(probe, probe=is_, former=was))
    return replace(
        diff,
        before=replace(before, started=say(before.started), finished=say(before.finished)),
        after=replace(after, started=say(after.started), finished=say(after.finished)),
        nodes=tuple(nodes),
        probes=tuple(probes),
        changes=tuple(change._replace(where=say(change.where)) for change in diff.changes),
        findings=tuple(
            FindingChange(
                course=change.course,
                severity=change.severity,
                before=tuple(said[id(finding)] for finding in change.before),
                after=None if change.after is None else said[id(change.after)],
                cells=change.cells,
                differences=tuple(map(say, change.differences)),
            )
            for change in diff.findings
        ),
        rtt=tuple(move._replace(where=say(move.where)) for move in diff.rtt),
        mtu=tuple(move._replace(where=say(move.where)) for move in diff.mtu),
        notes=tuple(map(say, diff.notes)),
    )
