"""The whole check on one page: inventory -> fleet -> looks -> verdicts -> snapshot."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from preflight.agent.packets import udp_ports
from preflight.chorus import Chorus
from preflight.core.matrix import Matrix
from preflight.core.model import AgentInfo, Family, Inventory, Node, Phase, Verdict
from preflight.core.notes import notes
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope, scope
from preflight.core.snapshot import Snapshot
from preflight.interrupt import interruptible
from preflight.lookout import Lookout
from preflight.muster import Progress, muster
from preflight.readiness import causes, warnings
from preflight.survey import Survey
from preflight.transport.base import Connector
from preflight.transport.fleet import Event, Fleet

if TYPE_CHECKING:
    from preflight.core.findings.model import Finding
    from preflight.diagnose import Ground

    Closer = Callable[[Matrix, Ground], Sequence[Finding]]

_WAKE = -1


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
    run, key = secrets.token_hex(8), secrets.token_bytes(32)
    fleet = Fleet(run)
    templates = _Templates(extent)
    with interruptible(lambda: fleet.events.put(Event(_WAKE, None))) as stop:
        try:
            states, hellos = muster(extent, options, fleet, key, connector, progress, stop)
            connected = time.monotonic()
            names = [node.name for node in extent.nodes]
            chorus = Chorus(fleet, names, hellos, stop, lambda who: progress.waiting(list(who)))
            after = options.phase is Phase.AFTER
            lookout = Lookout(extent, chorus, hellos, templates, after=after)
            for warning in warnings(extent, hellos):
                progress.note(warning)
            survey = Survey(
                extent, options, hellos, lookout, lambda text: progress.phase(text, 0), stop.wait
            )
            matrix = survey.run()
            probed = time.monotonic()
            found: Sequence[Finding] = ()
            bad = any(outcome.verdict is not Verdict.OPEN for outcome in matrix.outcomes())
            suspects = causes(extent, options, hellos)
            if bad or survey.sources or suspects or closer is not None:
                from preflight.diagnose import Ground, diagnose

                ground = Ground(
                    extent, options, chorus, lookout.inert, run, progress, survey.sources,
                    {node: {s[:2] for s in some} for node, (_, some) in survey.strays.items()},
                    {(n, f): h["mtu"].get(f[-1], 0) for n, h in hellos.items() for f in Family},
                    sorted(hellos) if bad else suspects,
                    lambda probe, family, pair: udp_ports(
                        key, int(family[-1]), probe, pair, extent.ports
                    ),
                )  # fmt: skip
                found = (closer or diagnose)(matrix, ground)
            diagnosed = time.monotonic()
        finally:
            fleet.close()
        interrupted = stop.is_set()
    for node, event in chorus.lost.items():
        states[node] = AgentInfo(
            event.state, event.reason, states[node].python, states[node].kernel
        )
    return Snapshot(
        phase=options.phase,
        started=started,
        finished=_now(),
        matrix=matrix,
        agents=states,
        timings={
            "connect_s": round(connected - clock, 3),
            "probe_s": round(probed - connected, 3),
            "diagnose_s": round(diagnosed - probed, 3),
            "total_s": round(time.monotonic() - clock, 3),
        },
        notes=notes(extent, lookout.inert, hellos, survey.slow, _in_words(survey.strays)),
        interrupted=interrupted,
        findings=found,
    )


def _in_words(
    strays: Mapping[int, tuple[int, tuple[tuple[int, str, bytes], ...]]],
) -> dict[int, tuple[int, str]]:
    if not strays:
        return {}
    from preflight.craft.dissect import in_words

    return {node: (count, in_words(*samples[0])) for node, (count, samples) in strays.items()}


class _Templates:
    """The packets, crafted while the nodes are being logged in to: scapy is slow to import."""

    def __init__(self, extent: Scope) -> None:
        self._extent = extent
        self._made: dict[tuple[int, Family, bool], dict[str, object]] = {}
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def _make(self) -> None:
        from preflight.craft.templates import template

        for number, probe in enumerate(self._extent.probes):
            for family in self._extent.families:
                for harmless in (False, True):
                    made = template(probe, family, harmless=harmless)
                    self._made[number, family, harmless] = made

    def __call__(self) -> Mapping[tuple[int, Family, bool], Mapping[str, object]]:
        self._thread.join()
        return self._made


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
