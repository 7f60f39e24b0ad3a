"""The whole of `preflight node` on one page: inventory -> fleet -> facts -> risks."""

import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from preflight.core.facts.inspection import Inspection
from preflight.core.facts.model import NodeFacts
from preflight.core.facts.readiness import risks
from preflight.core.facts.risk import Network
from preflight.core.model import (
    BUILT_IN_PROBES,
    AgentState,
    Connection,
    Family,
    Inventory,
    Node,
    Phase,
    family_of,
)
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.crew.chorus import Chorus
from preflight.crew.gather import gather
from preflight.crew.muster import Progress, muster
from preflight.errors import UsageError
from preflight.interrupt import interruptible
from preflight.transport import libraries
from preflight.transport.base import Connector
from preflight.transport.fleet import Event, Fleet

_WAKE = -1
_CLOCK_ROUNDS = 2
# Facts do not take raw sockets: what a node without privileges can tell is worth having.
_USABLE = frozenset({AgentState.OK, AgentState.NO_PRIVILEGE})


def this_machine() -> Inventory:
    """The machine that we run on, as an inventory without a file."""
    name = socket.gethostname().partition(".")[0] or "localhost"
    node = Node(name, (), "localhost", Connection.LOCAL)
    return Inventory("", (node,), tuple(BUILT_IN_PROBES.values()))


def wanted(inventory: Inventory, names: Sequence[str], local: str | None) -> list[int]:
    """The positions of the nodes called so, all where no name is given. Raises UsageError."""
    known = {node.name: n for n, node in enumerate(inventory.nodes)}
    for name in names:
        if name not in known:
            raise UsageError(f"{name}: the inventory has no such node")
    if not names:
        names = [local] if local is not None else list(known)
    return sorted({known[name] for name in names})


def inspect(
    inventory: Inventory,
    asked: Sequence[int],
    phase: Phase,
    pod_ranges: Sequence[Network],
    service_ranges: Sequence[Network],
    connector: Callable[[Node], Connector],
    progress: Progress,
) -> Inspection:
    """The facts of the nodes in `asked`, and the risks of all that is known. Sends no probe."""
    extent = _extent(inventory.nodes, asked)
    packing = threading.Thread(
        target=libraries.parcels, daemon=True
    )  # while nodes are logged in to
    packing.start()
    fleet = Fleet(secrets.token_hex(8))
    with interruptible(lambda: fleet.events.put(Event(_WAKE, None))) as stop:
        try:
            options, key = CheckOptions(phase=phase), secrets.token_bytes(32)
            agents, hellos = muster(
                extent, options, fleet, key, connector, progress, stop, usable=_USABLE
            )
            names = [node.name for node in extent.nodes]
            chorus = Chorus(fleet, names, hellos, stop, lambda late: progress.waiting(list(late)))
            progress.phase("reading facts", 0)
            packing.join()
            gathered = gather(
                chorus,
                extent.nodes,
                sorted(hellos),
                inventory.probes,
                libraries=libraries.parcels(),
                clock_rounds=_CLOCK_ROUNDS,
            )
        finally:
            fleet.close()
        interrupted = stop.is_set()
    for n, reason in gathered.failed.items():
        agents[n] = replace(agents[n], state=AgentState.FAILED, reason=reason)
    facts = [gathered.facts.get(n) for n in range(len(extent.nodes))]
    nodes = [_addressed(*pair) for pair in zip(extent.nodes, facts, strict=True)]
    return Inspection(
        nodes,
        asked,
        agents,
        facts,
        gathered.clocks,
        risks(
            nodes,
            facts,
            probes=inventory.probes,
            phase=phase,
            pod_ranges=pod_ranges,
            service_ranges=service_ranges,
            clocks=gathered.clocks,
        ),
        phase,
        interrupted,
    )


def _extent(nodes: Sequence[Node], asked: Sequence[int]) -> Scope:
    # Who is paired with itself gets an agent, and nothing is probed.
    rows = [(n,) if n in asked else () for n in range(len(nodes))]
    families = tuple(Family)
    return Scope(tuple(nodes), (), families, (rows,) * len(families), 0)


def _addressed(node: Node, facts: NodeFacts | None) -> Node:
    """A node that the inventory gives no address has those that it sends from."""
    if node.addresses or facts is None:
        return node
    sources = [way.source for way in facts.defaults or () if way.source is not None]
    found = {family_of(address): address for address in sources}
    for link in facts.towards().values():
        for address in facts.addresses or ():
            if (address.device, address.scope) == (link.name, "global"):
                found.setdefault(address.family, address.address)
    return replace(node, addresses=tuple(found.values()))
