"""`--dry-run`: what a check would send, for whoever has to approve it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TextIO

from preflight.core.diagnosis.plan import MOST_SHOTS, SAMPLES
from preflight.core.findings.brief import MOST
from preflight.core.model import Connection, Family, Phase, Probe, ProbeKind, Protocol
from preflight.core.offsets import INNER_FRAME, TUNNEL_HEADER
from preflight.core.options import CheckOptions
from preflight.core.plan import FLOW_WINDOW_S, GET_VOLLEY, CellPlan, LookPlan, get_rate, waves
from preflight.core.scope import Scope
from preflight.report.text import clean

_IP_HEADER = {Family.IPV4: 20, Family.IPV6: 40}
_TAG_AND_TOKEN = 12
_ECHO = 8 + 56
_SYN = 24
_UDP_PORTS = "704-65535"  # agent.packets draws from these
_TCP_PORTS = "61000-64999"


def render(scope: Scope, options: CheckOptions, file: TextIO) -> None:
    """Write the plan as text: a summary, then every flow."""
    for line in _lines(scope, options):
        file.write(line + "\n")


def _lines(scope: Scope, options: CheckOptions) -> Iterator[str]:
    first = scope.cells()
    parts = list(waves(first, len(scope.nodes), options.max_flows))
    plans = [LookPlan(1, part, options.rate, taps=False, wait_s=0) for part in parts]
    again = LookPlan(2, scope.cells(first=False), options.rate, taps=True, wait_s=0)
    packets = sum(plan.packets for plan in plans)
    flows = sum(plan.flows for plan in plans)
    sending = sum(plan.sending_s() for plan in plans) + FLOW_WINDOW_S * (len(plans) - 1)
    pairs = ", ".join(
        f"{sum(map(len, rows)):,} over {family.value.replace('ipv', 'IPv')}"
        for family, rows in zip(scope.families, scope.pairs, strict=True)
    )
    before = options.phase is Phase.BEFORE
    phase = "before Cilium is installed" if before else "with Cilium there"
    yield f"A check {phase} would send what follows. Nothing is sent now."
    yield ""
    yield f"  agents        {_agents(scope)}"
    yield f"  ordered pairs {pairs}"
    yield (
        f"  first look    {packets:,} packets in {flows:,} flows, "
        f"{options.rate:,.0f} packets/s from each node at most, about {sending:.1f} s"
    )
    yield (
        f"  second look   of cells that are not open alone: at most {again.packets:,} packets, "
        f"about {again.sending_s():.1f} s, UDP in the same flows"
    )
    asked = 0 if before else sum(c.packets for c in _asked(scope))
    if asked:
        yield (
            f"  GET /hello    over a TCP connection to each port 4240 that is open: {asked:,} at "
            f"most, {get_rate(options.rate):,.0f}/s from each node; once more where it is not "
            "answered as Cilium does, and then by the destination's own node too"
        )
    across = scope.overlay()
    if any(cell.packets for cell in across):
        yield from _overlay(scope, options, across)
    if options.diagnose:
        yield (
            f"  closer look   at one cell of each finding, {SAMPLES} at most: up to {MOST_SHOTS} "
            "packets each, with rising TTL, over other source ports and sizes, to other ports; at "
            f"up to {MOST} others that are blocked, 2 packets each, or 12 with rising TTL; once "
            "more where two of them contradict each other"
        )
    if len(plans) > 1:
        yield f"  in waves      {len(plans)}, {FLOW_WINDOW_S:.0f} s apart"
    window = f"in any {FLOW_WINDOW_S:.0f} s (--max-flows)"
    yield f"  new flows     at most {options.max_flows:,} {window}"
    yield "  answers       TCP: RST, or SYN-ACK and then RST; echo replies; ICMP port unreachable"
    yield ""
    named = max(10, *(len(probe.name) for probe in scope.probes))
    yield (
        f"  {'probe':<{named}} protocol     packets to each destination                    "
        "source ports"
    )
    told: set[int] = set()
    for cell in [*first, *across]:
        if cell.packets and cell.probe not in told:
            told.add(cell.probe)
            yield "  " + _probe(scope.probes[cell.probe], cell, named)
    for probe in scope.probes:
        if probe.between is not None:
            yield f"  {probe.name:<{named}} only {probe.between}"
    yield from _known(options)
    yield ""
    for cell in [*first, *across]:
        yield from _flows(scope, cell)


def _overlay(scope: Scope, options: CheckOptions, cells: list[CellPlan]) -> Iterator[str]:
    """What is sent to health endpoints."""
    packets, flows = sum(c.packets for c in cells), sum(c.flows for c in cells)
    gets = sum(c.packets for c in cells if scope.probes[c.probe].protocol is Protocol.TCP)
    times = len(list(waves(cells, len(scope.nodes), options.max_flows))) - 1
    later = f", in {times + 1} waves, {FLOW_WINDOW_S:.0f} s apart" if times else ""
    yield (
        f"  overlay       {packets - gets:,} echo requests and {gets:,} GET /hello to health "
        f"endpoints, {flows:,} flows inside the tunnel{later}; once more where it is not answered, "
        "and then by the endpoint's own node too"
    )


def _asked(scope: Scope) -> list[CellPlan]:
    """The cells that are asked `GET /hello` where all is well, a connection for each."""
    cells = [c for c in scope.cells() if scope.probes[c.probe].kind is ProbeKind.HEALTH]
    return [replace(cell, volley=GET_VOLLEY) for cell in cells]


def _known(options: CheckOptions) -> Iterator[str]:
    """What is known before anything is sent: a check's findings begin with it."""
    if options.remarks or options.notes:
        yield ""
    for remark in options.remarks:
        yield f"  {remark.severity}: {clean(remark.title)}."
        yield from (f"    - {clean(text)}" for text in remark.evidence)
        if remark.advice:
            yield f"    {clean(remark.advice)}"
    yield from (f"  note: {clean(note)}" for note in options.notes)


def _agents(scope: Scope) -> str:
    kinds = [scope.nodes[n].connection for n in scope.involved()]
    names = {
        Connection.SSH: "over SSH",
        Connection.LOCAL: "on this machine",
        Connection.KUBERNETES: "in pods of a DaemonSet",
        Connection.NONE: "nodes without one (only the harmless form is sent there)",
    }
    counts = ((kinds.count(kind), text) for kind, text in names.items())
    return ", ".join(f"{count} {text}" for count, text in counts if count)


def _probe(probe: Probe, cell: CellPlan, named: int) -> str:
    volley = cell.volley
    small = volley.count - volley.full
    if probe.kind is ProbeKind.OVERLAY_HEALTH:
        return f"{probe.name:<{named}} TCP {probe.port:<8} {'a connection, GET /hello':<46} any"
    sizes = f"{small} of {_size(probe, cell.family)} bytes"
    if volley.full:
        whose = "route's" if probe.overlay else "device's"
        sizes += f", {volley.full} of the {whose} MTU with DF"
    port = f"{probe.protocol.upper()} {probe.port}" if probe.port else "ICMP echo"
    return f"{probe.name:<{named}} {port:<12} {sizes:<46} {_ports(probe, cell)}"


def _size(probe: Probe, family: Family) -> int:
    header = _IP_HEADER[family]
    if probe.protocol is Protocol.TCP:
        return header + _SYN
    if probe.protocol is Protocol.ICMP:
        return header + _ECHO
    tunnel = probe.kind in (ProbeKind.GENEVE, ProbeKind.VXLAN)
    return header + 8 + (TUNNEL_HEADER + INNER_FRAME if tunnel else 0) + _TAG_AND_TOKEN


def _ports(probe: Probe, cell: CellPlan) -> str:
    if probe.source_ports is not None:
        return f"{cell.volley.flows} of {probe.source_ports[0]}-{probe.source_ports[1]}"
    if probe.protocol is Protocol.UDP:
        return f"{cell.volley.flows} of {_UDP_PORTS}"
    if probe.protocol is Protocol.TCP:
        return f"{cell.volley.flows} of {_TCP_PORTS}"
    return "none"


def _flows(scope: Scope, cell: CellPlan) -> Iterator[str]:
    probe = scope.probes[cell.probe]
    port = f"udp/{probe.port}" if probe.protocol is Protocol.UDP else f"tcp/{probe.port}"
    what = port if probe.port else "icmp echo"
    nodes = scope.nodes
    width = max(len(n.address_in(cell.family) or "") for n in nodes)
    named = max(len(node.name) for node in nodes)
    for source, row in enumerate(cell.pairs):
        start = nodes[source].address_in(cell.family)
        for destination in row:
            end = nodes[destination].address_in(cell.family)
            if probe.overlay:
                end = nodes[destination].endpoint_in(cell.family)
            yield (
                f"{nodes[source].name:<{named}} {start:<{width}} -> "
                f"{nodes[destination].name:<{named}} {end:<{width}}  {what:<9}  "
                f"{cell.volley.flows} flows  {cell.volley.count} packets"
            )
