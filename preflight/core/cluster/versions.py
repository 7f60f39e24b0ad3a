"""What runs against what was asked for, and what did not run through: images and restarts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from preflight.core.cluster.agents import Agent, ending
from preflight.core.cluster.model import Container, Pod, Workload
from preflight.core.cluster.problem import Problem
from preflight.core.model import Severity

_RECENT = timedelta(hours=1)


def tag(image: str) -> str:
    """`v1.15.16-eksa.1` of an image's name; its digest where it has no tag."""
    name, _, digest = image.partition("@")
    last = name.rpartition("/")[2]
    _, colon, version = last.partition(":")
    return version if colon else digest or "latest"


def version_problems(
    daemon: Workload | None,
    found: Sequence[Agent],
    operators: Sequence[Pod],
    now: datetime,
) -> Iterator[Problem]:
    """Images that differ, and restarts of late."""
    mains = [(a.node, a.pod.main) for a in found if a.pod is not None and not a.pod.deleting]
    running = [(node, main) for node, main in mains if main is not None]
    if daemon is not None:
        yield from _images(daemon, running)
    theirs = {tag(p.main.image) for p in operators if p.main is not None and not p.deleting}
    agents = {tag(main.image) for _, main in running}
    if len(theirs) == len(agents) == 1 and theirs != agents:
        yield Problem(
            "operator-version",
            Severity.RECOMMENDED,
            "agents and operators are of different versions",
            evidence=(
                f"agents {', '.join(sorted(agents))}, operators {', '.join(sorted(theirs))}",
            ),
            advice="Right in the middle of an upgrade, and wrong after it.",
        )
    if len(theirs) > 1:
        yield Problem(
            "operator-versions",
            Severity.RECOMMENDED,
            "operators of different versions",
            evidence=(", ".join(sorted(theirs)),),
        )
    yield from _restarts(found, operators, now)


def _images(daemon: Workload, running: Sequence[tuple[str, Container]]) -> Iterator[Problem]:
    for image, count in Counter(main.image for _, main in running).items():
        if image == daemon.image:
            continue
        yield Problem(
            "agent-image",
            Severity.RECOMMENDED,
            "another image than the DaemonSet asks for on {nodes}",
            tuple(node for node, main in running if main.image == image),
            (f"{count} of {len(running)} agents run {image}", f"asked for: {daemon.image}"),
        )
    by_id: dict[str, list[str]] = {}
    for node, main in running:
        if main.image == daemon.image and main.image_id:
            by_id.setdefault(main.image_id.rpartition("@")[2], []).append(node)
    if len(by_id) > 1:
        most = max(by_id, key=lambda i: len(by_id[i]))
        for digest, where in by_id.items():
            if digest != most:
                yield Problem(
                    "agent-digest",
                    Severity.RECOMMENDED,
                    "another content of the same image's name on {nodes}",
                    tuple(where),
                    (f"{daemon.image} is {digest} there, {most} elsewhere",),
                    "Nodes of different architectures have different ones; else the tag was moved.",
                )


def _restarts(found: Sequence[Agent], operators: Sequence[Pod], now: datetime) -> Iterator[Problem]:
    """Grouped by who and why: ten agents that ran out of memory are one problem."""
    groups: dict[tuple[str, str], list[tuple[str, Container]]] = {}
    every = [("agent", a.node, a.pod) for a in found if a.pod is not None]
    every += [("operator", p.node, p) for p in operators]
    for who, node, pod in every:
        for container in pod.containers:
            ended = container.ended_at
            if container.init or not container.restarts or ended is None:
                continue
            if now - ended < _RECENT and not container.waiting:
                groups.setdefault((who, ending(container)), []).append((node, container))
    for (who, end), group in groups.items():
        most = max(container.restarts for _, container in group)
        yield Problem(
            f"{who}-restarted",
            Severity.RECOMMENDED,
            f"{who} restarted within the last hour on {{nodes}}",
            tuple(dict.fromkeys(node for node, _ in group)),
            (f"last end: {end}; {most} restart{'' if most == 1 else 's'} so far",),
        )
