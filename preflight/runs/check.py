"""The whole check on one page: inventory -> fleet -> looks -> verdicts -> snapshot."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from preflight.agent.packets import udp_ports
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Inventory, Node, Phase, Verdict
from preflight.core.notes import notes
from preflight.core.options import CheckOptions
from preflight.core.plan import FlowBudget
from preflight.core.scope import scope
from preflight.core.snapshot import Snapshot
from preflight.crew.crew import Crew, crewed
from preflight.crew.muster import Progress
from preflight.looks.lookout import Lookout
from preflight.looks.readiness import causes, warnings
from preflight.looks.strays import Strays, sort_out
from preflight.looks.survey import Survey
from preflight.transport.base import Connector

if TYPE_CHECKING:
    from preflight.closer.ground import Ground
    from preflight.core.findings.model import Finding
    from preflight.core.findings.overlay_words import Context
    from preflight.core.options import Meeting
    from preflight.looks.overlay import Crossed

    Closer = Callable[[Matrix, Ground], Sequence[Finding]]


def check(
    inventory: Inventory,
    options: CheckOptions,
    connector: Callable[[Node], Connector],
    progress: Progress,
    closer: "Closer | None" = None,
) -> Snapshot:
    """Probe every pair in scope. Raises UsageError where there is nothing to probe.

    `closer` makes the findings; by default they come from a closer look where a cell is bad.
    """
    extent = scope(inventory, options)
    started, clock = _now(), time.monotonic()
    with crewed(extent, options, connector, progress) as crew:
        crew.muster()
        connected = time.monotonic()
        snapshot = measure(crew, closer)
    timings = {
        "connect_s": round(connected - clock, 3),
        **snapshot.timings,
        "total_s": round(time.monotonic() - clock, 3),
    }
    return replace(
        snapshot,
        started=started,
        finished=_now(),
        timings=timings,
        interrupted=crew.stop.is_set(),
    )


def measure(
    crew: Crew, closer: "Closer | None" = None, budget: FlowBudget | None = None
) -> Snapshot:
    """One round with a crew that is there: every cell decided, what is not open explained.

    `budget` is what rounds share; `closer` is as for `check`.
    """
    extent, options, chorus, hellos = crew.extent, crew.options, crew.chorus, crew.hellos
    started, clock = _now(), time.monotonic()
    after = options.phase is Phase.AFTER
    budget = budget or FlowBudget(options.max_flows)
    lookout = Lookout(extent, chorus, hellos, crew.templates, after=after)
    for warning in warnings(extent, hellos):
        crew.progress.note(warning)
    if options.meeting is not None:
        return _met(crew, lookout, options.meeting)
    survey = Survey(
        extent, options, hellos, lookout, lambda text: crew.progress.phase(text, 0),
        crew.stop.wait, budget=budget,
    )  # fmt: skip
    matrix = survey.run()
    heard: list[str] = []
    if after:
        from preflight.looks.hello import greet

        heard = greet(crew, matrix, budget)
    crossed = None
    if any(probe.overlay for probe in extent.probes):
        from preflight.looks.overlay import cross

        crossed = cross(crew, matrix, budget)
        heard += crossed.notes
    probed = time.monotonic()
    found: Sequence[Finding] = ()
    bad = any(outcome.verdict is not Verdict.OPEN for outcome in matrix.outcomes())
    suspects = causes(extent, options, hellos)
    strays = sort_out(survey.strays, survey.sent, extent, crew.key)
    if bad or survey.sources or suspects or options.known_before or closer is not None:
        from preflight.closer.diagnose import diagnose
        from preflight.closer.ground import Ground

        ground = Ground(
            extent, options, chorus, lookout.inert, crew.run, crew.progress, survey.sources,
            {node: {s[:2] for s in some} for node, (_, some) in strays.astray.items()},
            {(n, f): h["mtu"].get(f[-1], 0) for n, h in hellos.items() for f in Family},
            sorted(hellos) if bad else suspects,
            lambda probe, family, pair: udp_ports(
                crew.key, int(family[-1]), probe, pair, extent.ports,
                extent.probes[probe].source_ports,
            ),
            _context(crew, crossed),
        )  # fmt: skip
        found = (closer or diagnose)(matrix, ground)
    return Snapshot(
        phase=options.phase,
        started=started,
        finished=_now(),
        matrix=matrix,
        agents=crew.agents(),
        timings={
            "probe_s": round(probed - clock, 3),
            "diagnose_s": round(time.monotonic() - probed, 3),
            "total_s": round(time.monotonic() - clock, 3),
        },
        notes=[
            *notes(
                extent,
                lookout.inert,
                hellos,
                survey.slow,
                _in_words(strays.astray, found),
                strays.damaged,
                found,
            ),
            *heard,
            *options.notes,
        ],
        interrupted=chorus.interrupted,
        findings=found,
    )


def _context(crew: Crew, crossed: "Crossed | None") -> "Context | None":
    """What is known of the overlay beside its cells."""
    if crossed is None:
        return None
    from preflight.core.findings.overlay_words import Context

    drivers = {node: tuple(hello.get("drivers", ())) for node, hello in crew.hellos.items()}
    return Context(crew.options.overlay, crossed.checksums, drivers)


def _met(crew: Crew, lookout: Lookout, meeting: "Meeting") -> Snapshot:
    """What one node brings back from a meeting, before anybody joins it with the others'."""
    from preflight.core.findings.build import findings
    from preflight.core.groups import groups
    from preflight.core.meeting import NOTE
    from preflight.looks.meeting import meet

    started, clock = _now(), time.monotonic()
    matrix, records, told = meet(crew, lookout, meeting)
    return Snapshot(
        phase=crew.options.phase,
        started=started,
        finished=_now(),
        matrix=matrix,
        agents=crew.agents(),
        timings={"probe_s": round(time.monotonic() - clock, 3)},
        notes=[
            *notes(crew.extent, lookout.inert, crew.hellos),
            *told,
            NOTE,
            *crew.options.notes,
        ],
        interrupted=crew.chorus.interrupted,
        findings=findings(matrix, groups(matrix)),
        records=records,
    )


def _in_words(
    strays: Strays,
    found: "Sequence[Finding]",
) -> dict[int, tuple[int, str]]:
    """How many, and one of them; not of nodes of which a finding says why they get them."""
    if not strays:
        return {}
    from preflight.core.findings.model import Cause
    from preflight.craft.dissect import in_words

    known = {node for finding in found if finding.cause is Cause.ADDRESS for node in finding.nodes}
    return {
        node: (count, in_words(*samples[0]))
        for node, (count, samples) in strays.items()
        if node not in known
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
