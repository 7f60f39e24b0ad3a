"""Which pairs are tested, with how many packets, over how many flows, and at what pace. Pure.

A look is one round of probing: the first decides the healthy cells by the proof alone, a later one
asks again, with every vantage point watched, about the cells that the first left undecided.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from preflight.core.model import Between, Family, Node, Probe, ProbeKind, Protocol
from preflight.errors import UsageError

DEFAULT_RATE = 5000  # probes a second from each node
DEFAULT_MAX_FLOWS = 50_000  # new flows of all nodes together in FLOW_WINDOW_S
FLOW_WINDOW_S = 30.0  # how long a firewall is thought to keep a session of one packet

Pairs = Sequence[Sequence[int]]  # for each source the destinations, as indices of nodes


@dataclass(frozen=True, slots=True)
class Volley:
    """What one cell is sent in one look."""

    count: int  # packets to each destination
    full: int  # how many of them, the last ones, at the device's full MTU
    flows: int  # source ports that the packets are spread over
    gap_s: float  # least time between two packets to one destination


# The kernel spreads one pair's GENEVE over up to 65,535 source ports. Each one more finds a dead
# member of a link bundle more surely: of four members, 20 ports miss a dead one in 0.3 % of cells,
# 8 ports in 10 %. Each is also a flow that firewalls remember, so large runs have to do with fewer.
_MOST_PORTS, _LEAST_PORTS = 20, 8
_PORTS_TO_SPARE_A_WAVE = 6  # rather two ports fewer than a wait of FLOW_WINDOW_S
_FULL_SIZE_KINDS = (ProbeKind.GENEVE, ProbeKind.VXLAN)
_KEPT_FOR_SECOND_LOOKS = 0.2  # of the flow budget


# A real `GET /hello`, after the installation: one connection for each cell.
GET_VOLLEY = Volley(count=1, full=0, flows=1, gap_s=0.0)
GET_PARALLEL = 64  # open at once from one node
_GET_PACKETS = 8  # of one connection, as the rate counts
_OVERLAY_FIRST = Volley(count=3, full=1, flows=1, gap_s=0.0)
_OVERLAY_AGAIN = Volley(count=8, full=3, flows=1, gap_s=0.05)


def volley(probe: Probe, *, ports: int, first: bool) -> Volley:
    """How one probe is sent; a later look asks more often, and answered probes more slowly."""
    if probe.kind is ProbeKind.OVERLAY_HEALTH:
        return GET_VOLLEY
    if probe.kind is ProbeKind.OVERLAY_ECHO:
        return _OVERLAY_FIRST if first else _OVERLAY_AGAIN
    if probe.protocol is Protocol.UDP:
        full = 2 if probe.kind in _FULL_SIZE_KINDS else 0
        if first:
            return Volley(count=20, full=full, flows=ports, gap_s=0.002)
        return Volley(count=40, full=2 * full, flows=ports, gap_s=0.002)
    if first:
        return Volley(count=3, full=0, flows=_flows(probe, 3), gap_s=0.010)
    return Volley(count=5, full=0, flows=_flows(probe, 5), gap_s=0.050)


def get_rate(rate: float) -> float:
    """Connections a second from each node, where that many packets a second are allowed."""
    return rate / _GET_PACKETS


def _flows(probe: Probe, count: int) -> int:
    return count if probe.protocol is Protocol.TCP else 1  # one ICMP identifier is one flow


def udp_ports(cells: Iterable[tuple[Probe, int]], max_flows: int) -> int:
    """Source ports for each UDP cell: as many as the flow budget allows, within bounds.

    `cells` says of each probe how many cells it has, each family of a pair for itself.
    """
    udp = others = 0
    for probe, count in cells:
        udp += count if probe.protocol is Protocol.UDP else 0
        others += volley(probe, ports=0, first=True).flows * count
    if not udp:
        return _LEAST_PORTS
    ample = int((max_flows * (1 - _KEPT_FOR_SECOND_LOOKS) - others) / udp)
    if ample >= _LEAST_PORTS:
        return min(ample, _MOST_PORTS)
    tight = int((max_flows - others) / udp)
    return min(tight, _LEAST_PORTS) if tight >= _PORTS_TO_SPARE_A_WAVE else _LEAST_PORTS


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One probe over one family in one look, for all pairs."""

    probe: int  # index into the run's probes
    family: Family
    one_way: bool
    volley: Volley
    pairs: Pairs

    @property
    def flows(self) -> int:
        """Source ports, or ICMP identifiers, times pairs."""
        return self.volley.flows * sum(map(len, self.pairs))

    @property
    def packets(self) -> int:
        """How many packets all nodes send."""
        return self.volley.count * sum(map(len, self.pairs))


@dataclass(frozen=True, slots=True)
class LookPlan:
    """One round of probing."""

    number: int  # 1 to 65534, part of every token
    cells: Sequence[CellPlan]
    rate: float  # probes a second from each node
    taps: bool  # watch the devices too
    wait_s: float  # for what is missing, from when everybody has sent

    @property
    def packets(self) -> int:
        """How many packets all nodes send."""
        return sum(cell.packets for cell in self.cells)

    @property
    def flows(self) -> int:
        """How many flows they open."""
        return sum(cell.flows for cell in self.cells)

    def sending_s(self) -> float:
        """How long the busiest node sends, in seconds; `agent.send.timetable` does the same."""
        nodes = max((len(cell.pairs) for cell in self.cells), default=0)
        return max((self._sending_s(source) for source in range(nodes)), default=0.0)

    def _sending_s(self, source: int) -> float:
        total = 0.0
        for one_way in (False, True):
            cells = [c for c in self.cells if c.one_way is one_way and c.pairs[source]]
            gap = max((c.volley.gap_s for c in cells), default=0.0)
            for sequence in range(max((c.volley.count for c in cells), default=0)):
                due = sum(len(c.pairs[source]) for c in cells if sequence < c.volley.count)
                total += max(due / self.rate, gap)
        return total


def select(
    nodes: Sequence[Node],
    sources: Sequence[str] = (),
    destinations: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> list[list[int]]:
    """The ordered pairs to test: for each node the destinations, by index.

    Only nodes of one cluster make pairs. `sources` and `destinations` are node names; `labels` are
    `key=value`, and a pair is kept where at least one of its nodes carries all of them. Raises
    UsageError for a name, a label or a selection that no pair answers to.
    """
    known = {node.name for node in nodes}
    for option, names in (("--source", sources), ("--destination", destinations)):
        for name in names:
            if name not in known:
                raise UsageError(f"{option} {name}: no such node; there are {_some(known)}")
    wanted = [_label(text, nodes) for text in labels]
    marked = [all(node.labels.get(k) == v for k, v in wanted) for node in nodes]
    pairs: list[list[int]] = [[] for _ in nodes]
    for s, source in enumerate(nodes):
        if sources and source.name not in sources:
            continue
        for d, destination in enumerate(nodes):
            if (
                s != d
                and source.cluster == destination.cluster
                and (not destinations or destination.name in destinations)
                and (marked[s] or marked[d])
            ):
                pairs[s].append(d)
    if not any(pairs):
        raise UsageError(_no_pair(nodes, sources, destinations, labels))
    return pairs


def _label(text: str, nodes: Sequence[Node]) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"--label {text}: write it as key=value, such as rack=a")
    values = {node.labels[key] for node in nodes if key in node.labels}
    if not values:
        keys = {k for node in nodes for k in node.labels}
        there_are = f"there are {_some(keys)}" if keys else "the inventory has no labels"
        raise UsageError(f"--label {text}: no node has a label {key!r}; {there_are}")
    if value not in values:
        raise UsageError(f"--label {text}: no node has it; {key} is {_some(values)}")
    return key, value


def _no_pair(
    nodes: Sequence[Node],
    sources: Sequence[str],
    destinations: Sequence[str],
    labels: Sequence[str],
) -> str:
    if len(nodes) < 2:
        return "one node makes no pair: the inventory needs at least two nodes"
    if sources or destinations or labels:
        return "no pair of nodes is left after --source, --destination and --label"
    return "no two nodes are in one cluster: nothing to test"


def _some(names: set[str], most: int = 8) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def in_family(nodes: Sequence[Node], pairs: Pairs, family: Family) -> list[list[int]]:
    """The pairs of which both nodes have an address of `family`."""
    has = [node.address_in(family) is not None for node in nodes]
    return [[d for d in row if has[d]] if has[s] else [] for s, row in enumerate(pairs)]


def needed_by(nodes: Sequence[Node], pairs: Pairs, between: Between) -> list[list[int]]:
    """The pairs that `between` names."""
    sources, destinations = (
        [not terms or any(term.holds(node) for term in terms) for node in nodes]
        for terms in (between.source, between.destination)
    )
    return [
        [d for d in row if destinations[d]] if sources[s] else [] for s, row in enumerate(pairs)
    ]


def waves(cells: Sequence[CellPlan], nodes: int, max_flows: int) -> Iterator[list[CellPlan]]:
    """Cut one look into waves of at most `max_flows` flows each.

    Pairs are dealt by their distance in the inventory, so that every node has its share of every
    wave and no destination gets all its probes in one. A pair is never cut.
    """
    if sum(cell.flows for cell in cells) <= max_flows:
        yield list(cells)
        return
    cost: dict[tuple[int, int], int] = {}
    for cell in cells:
        for source, row in enumerate(cell.pairs):
            for destination in row:
                pair = (source, destination)
                cost[pair] = cost.get(pair, 0) + cell.volley.flows
    wave: set[tuple[int, int]] = set()
    flows = 0
    for pair in sorted(cost, key=lambda pair: ((pair[1] - pair[0]) % nodes, pair[0])):
        if wave and flows + cost[pair] > max_flows:
            yield [_only(cell, wave) for cell in cells]
            wave, flows = set(), 0
        wave.add(pair)
        flows += cost[pair]
    yield [_only(cell, wave) for cell in cells]


def _only(cell: CellPlan, wave: set[tuple[int, int]]) -> CellPlan:
    pairs = [[d for d in row if (s, d) in wave] for s, row in enumerate(cell.pairs)]
    return replace(cell, pairs=pairs)


class FlowBudget:
    """How many flows firewalls may be asked to remember: never more than `most` in any window.

    The clock is the caller's, in seconds.
    """

    def __init__(self, most: int, window_s: float = FLOW_WINDOW_S) -> None:
        self._most = most
        self._window_s = window_s
        self._spent: list[tuple[float, int]] = []

    def delay_s(self, flows: int, now: float) -> float:
        """How long to wait before that many flows may be opened."""
        recent = [(at, n) for at, n in self._spent if now - at < self._window_s]
        open_now = sum(n for _, n in recent)
        for at, count in recent:
            if open_now + flows <= self._most:
                return 0.0
            open_now -= count
            if open_now + flows <= self._most or not open_now:
                return at + self._window_s - now  # more than the budget has to go alone
        return 0.0

    def spend(self, flows: int, now: float) -> None:
        """That many flows are opened now."""
        self._spent = [(at, n) for at, n in self._spent if now - at < self._window_s]
        self._spent.append((now, flows))


def inert_destinations(
    probe: Probe, *, after: bool, owned: Mapping[int, Sequence[int]], agents: Sequence[bool]
) -> list[int]:
    """To whom only the harmless form of `probe` goes: whoever may have a tunnel device on its port.

    `owned` lists each node's UDP ports that somebody owns; without an agent nobody can tell.
    """
    if probe.kind not in _FULL_SIZE_KINDS:
        return []
    return [
        node
        for node, agent in enumerate(agents)
        if after or not agent or probe.port in owned.get(node, ())
    ]
