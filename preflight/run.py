"""The whole check on one page: inventory -> fleet -> looks -> verdicts -> snapshot."""

import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from preflight.core.model import (
    AgentInfo,
    AgentState,
    Connection,
    Family,
    Inventory,
    Node,
    Phase,
)
from preflight.core.notes import notes
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope, scope
from preflight.core.snapshot import Snapshot
from preflight.interrupt import interruptible
from preflight.lookout import Lookout
from preflight.survey import Survey
from preflight.transport.base import Connector
from preflight.transport.fleet import Event, Fleet

_HELLO_LIMIT_S = 120.0  # beyond all of a connection's own timeouts together
_WAKE = -1
_FAMILIES = {Family.IPV4: "4", Family.IPV6: "6"}

Hellos = dict[int, Mapping[str, Any]]


class Progress(Protocol):
    """Whoever tells the user how it goes."""

    def phase(self, text: str, total: int) -> None:
        """Something begins that `total` nodes have to finish; 0 where that is not counted."""

    def advance(self, node: str) -> None:
        """One of them has."""

    def waiting(self, nodes: list[str]) -> None:
        """These have not."""

    def note(self, text: str) -> None:
        """One line that stays."""


def check(
    inventory: Inventory,
    options: CheckOptions,
    connector: Callable[[Node], Connector],
    progress: Progress,
) -> Snapshot:
    """Probe every pair in scope. Raises UsageError where there is nothing to probe."""
    extent = scope(inventory, options)
    started, clock = _now(), time.monotonic()
    run, key = secrets.token_hex(8), secrets.token_bytes(32)
    fleet = Fleet(run)
    templates = _Templates(extent)
    with interruptible(lambda: fleet.events.put(Event(_WAKE, None))) as stop:
        try:
            states, hellos = _muster(extent, fleet, key, connector, progress, stop)
            connected = time.monotonic()
            lookout = Lookout(
                extent,
                fleet,
                hellos,
                templates,
                after=options.phase is Phase.AFTER,
                stop=stop,
                watch=lambda names: progress.waiting(list(names)),
            )
            survey = Survey(
                extent, options, hellos, lookout, lambda text: progress.phase(text, 0), stop.wait
            )
            matrix = survey.run()
            probed = time.monotonic()
        finally:
            fleet.close()
        interrupted = stop.is_set()
    for node, event in lookout.lost.items():
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
            "total_s": round(time.monotonic() - clock, 3),
        },
        notes=notes(extent, lookout.inert, hellos, survey.sources),
        interrupted=interrupted,
    )


def _muster(
    extent: Scope,
    fleet: Fleet,
    key: bytes,
    connector: Callable[[Node], Connector],
    progress: Progress,
    stop: threading.Event,
) -> tuple[list[AgentInfo], Hellos]:
    """Start an agent on every node that may have one, and hear from each."""
    nodes = extent.nodes
    states = [AgentInfo(AgentState.NONE, "the inventory asks for no agent there") for _ in nodes]
    wanted = [n for n in extent.involved() if nodes[n].connection is not Connection.NONE]
    for n in wanted:
        states[n] = AgentInfo(AgentState.FAILED, "interrupted before its agent had started")
    progress.phase("connecting", len(wanted))
    fleet.start(((n, nodes[n]) for n in wanted), connector, _setup(extent, key))
    hellos: Hellos = {}
    waiting = set(wanted)
    end = time.monotonic() + _HELLO_LIMIT_S
    while waiting and not stop.is_set() and time.monotonic() < end:
        try:
            event = fleet.events.get(timeout=0.5)
        except queue.Empty:
            progress.waiting([nodes[n].name for n in sorted(waiting)])
            continue
        if event.node not in waiting:
            continue
        waiting.discard(event.node)
        states[event.node] = info = _greet(nodes[event.node], event)
        if info.state is AgentState.OK and event.frame is not None:
            hellos[event.node] = event.frame
            progress.advance(nodes[event.node].name)
        else:
            fleet.drop(event.node)
            progress.note(f"{nodes[event.node].name}: {info.reason}")
    for n in () if stop.is_set() else waiting:
        fleet.drop(n)
        states[n] = AgentInfo(AgentState.UNREACHABLE, f"no agent within {_HELLO_LIMIT_S:.0f} s")
    return states, hellos


def _setup(extent: Scope, key: bytes) -> Callable[[int], Mapping[str, Any]]:
    from preflight.core.offsets import tag_offset

    udp = {str(p.port): tag_offset(p) for p in extent.probes if p.protocol == "udp"}
    tcp = [p.port for p in extent.probes if p.protocol == "tcp"]
    echo = any(p.protocol == "icmp" for p in extent.probes)

    def setup(number: int) -> Mapping[str, Any]:
        node = extent.nodes[number]
        own = {_FAMILIES[f]: a for f in extent.families if (a := node.address_in(f))}
        return {
            "t": "setup", "key": key.hex(), "me": number, "own": own,
            "udp": udp, "tcp": tcp, "echo": echo,
        }  # fmt: skip

    return setup


def _greet(node: Node, event: Event) -> AgentInfo:
    """What a node's first event says of it."""
    frame = event.frame
    if frame is None:
        return AgentInfo(event.state, event.reason)
    python, kernel = str(frame.get("python")), str(frame.get("kernel"))
    if frame.get("state") == "no-privilege":
        reason = (
            "the agent is neither root nor has CAP_NET_RAW: log in as root, "
            "or set `become: sudo` for this node"
        )
        return AgentInfo(AgentState.NO_PRIVILEGE, reason, python, kernel)
    absent = [str(a) for a in frame.get("absent", ())]
    if absent:
        reason = f"{', '.join(absent)} is not on the machine that {node.host} led to"
        return AgentInfo(AgentState.WRONG_ADDRESS, reason, python, kernel)
    return AgentInfo(AgentState.OK, None, python, kernel)


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
