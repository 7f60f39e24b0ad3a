"""A controller's part of a deep look, in the fewest words, for agents spoken to by hand.

pair = Deep(lab4, agent)
seen = pair.look(trial(0, "n1", "n3", GENEVE, flow(40001), flow(40002, ttl=1)))
assert seen[0].seen["accepted"] & 1
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

from test_agent_kit import SYSTEM_PYTHON, Agent, setup

from preflight.core.diagnosis.trial import (
    Form,
    Observed,
    Purpose,
    Shot,
    Trial,
    observe,
)
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe, Protocol
from preflight.core.offsets import tag_offset
from preflight.craft.templates import form_of
from preflight.lab import Lab
from preflight.transport import bundle

PROBES = (GENEVE, HEALTH, ECHO)
FAMILIES = (Family.IPV4, Family.IPV6)
NUMBERS = {Protocol.UDP: (17, 17), Protocol.TCP: (6, 6), Protocol.ICMP: (1, 58)}
TRACE = "0123456789abcdef"


def names(lab: Lab) -> list[str]:
    """Those of its nodes, by position."""
    return [node.name for node in lab.nodes]


def shot(probe: Probe, source_port: int, **fields: Any) -> Shot:
    """A plain shot of a probe."""
    port = probe.port if probe.protocol is not Protocol.ICMP else 0
    return Shot(**{"purpose": Purpose.PLAIN, "source_port": source_port, "port": port, **fields})


def flows(probe: Probe, count: int, first: int = 61000) -> tuple[Shot, ...]:
    """Plain shots from so many source ports."""
    return tuple(shot(probe, first + i) for i in range(count))


@cache
def forms(probe: Probe, family: Family) -> dict[str, Any]:
    """A probe's bytes in every form."""
    return {str(form): form_of(probe, family, form) for form in Form}


class Deep:
    """Agents of a lab, each started when its node first has a part."""

    def __init__(
        self,
        lab: Lab,
        start: Callable[..., Agent],
        *,
        pythons: Sequence[Sequence[str]] = ((SYSTEM_PYTHON,),),
    ) -> None:
        self.lab = lab
        self.names = names(lab)
        self.agents: dict[int, Agent] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self._start = start
        self._pythons = pythons  # the beginning of each node's command line, in turn
        self._number = 0x8000

    def trial(
        self,
        number: int,
        source: str,
        destination: str,
        probe: Probe,
        shots: Sequence[Shot],
        family: Family = Family.IPV4,
    ) -> Trial:
        """One trial between two nodes."""
        ends = self.names.index(source), self.names.index(destination)
        return Trial(number, *ends, PROBES.index(probe), family, tuple(shots))

    def look(self, *trials: Trial, wait: float = 0.2, **fields: Any) -> dict[int, Observed]:
        """Have them made at once; what became of each, by its number."""
        part = self.order(*trials, **fields)
        return self.collect(trials, part, wait)

    def order(
        self, *trials: Trial, go: bool = True, without: Collection[int] = (), **fields: Any
    ) -> list[int]:
        """Everybody watches, and with `go` has been told to begin. The positions of those nodes;
        `without` are some that have no agent.
        """
        self._number += 1
        part = sorted({node for t in trials for node in (t.source, t.destination)} - set(without))
        for node in part:
            self.start(node).say(self.frame(node, trials, fields))
        for node in part:
            assert self.agents[node].hear() == {"t": "ready", "number": self._number}
        for node in part if go else ():
            self.agents[node].say({"t": "go"})
        return part

    def collect(
        self,
        trials: Sequence[Trial],
        part: Sequence[int],
        wait: float,
        *,
        already: Collection[int] = (),
    ) -> dict[int, Observed]:
        """When all have sent, wait for what is missing, and for the reports. `already` are nodes
        that have said that they sent.
        """
        for node in part:
            if node not in already:
                assert self.agents[node].hear() == {"t": "sent", "number": self._number}
        for node in part:
            self.agents[node].say({"t": "drain", "wait": wait})
        self.reports = {node: self.agents[node].hear() for node in part}
        return observe(trials, self.reports)

    def start(self, node: int) -> Agent:
        """That node's agent, set up for both families."""
        if node not in self.agents:
            name = self.names[node]
            one = self._start(name, self._pythons[node % len(self._pythons)])
            own = {str(4 + 2 * i): a for i, a in enumerate(self.lab.node(name).addresses)}
            one.say(setup(self.lab, name) | {"own": own})
            assert one.hear()["state"] == "ok"
            one.say(bundle.deep())
            self.agents[node] = one
        return self.agents[node]

    def frame(
        self, node: int, trials: Sequence[Trial], fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What that node is told of it."""
        mine = [self._part(node, t) for t in trials if node in (t.source, t.destination)]
        return {
            "t": "deep", "number": self._number, "rate": 1000, "settle": 0, "trace": "",
            "pcap": False, "trials": mine,
        } | fields  # fmt: skip

    def _part(self, node: int, trial: Trial) -> dict[str, Any]:
        probe, v6 = PROBES[trial.probe], trial.family is Family.IPV6
        source = node == trial.source
        far = trial.destination if source else trial.source
        own, peer = (self.lab.nodes[n].addresses[v6] for n in (node, far))
        return {
            "id": trial.number,
            "role": "source" if source else "destination",
            "source": trial.source,
            "destination": trial.destination,
            "own": own,
            "far": peer,
            "family": 6 if v6 else 4,
            "protocol": NUMBERS[probe.protocol][v6],
            "port": 0 if probe.protocol is Protocol.ICMP else probe.port,
            "tag_at": tag_offset(probe),
            "forms": forms(probe, trial.family),
            "shots": [list(s[1:]) for s in trial.shots],
            "again": trial.again,
        }
