"""The agents on the nodes of one scope, ready for one round of looks or for many."""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from preflight.core.meeting import identity
from preflight.core.model import AgentInfo, AgentState, Family, Node
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.crew.chorus import Chorus
from preflight.crew.muster import Hellos, Progress, greet, muster, setup
from preflight.interrupt import interruptible
from preflight.transport.base import Connector
from preflight.transport.fleet import Event, Fleet

_WAKE = -1
_RENEW_LIMIT_S = 20.0  # for what takes an agent some milliseconds


class Crew:
    """The agents of one command.

    A round has a key of its own, so that no packet and no ICMP error of an earlier one can count
    in it, or look like a stray; its UDP flows are new to every firewall.
    """

    def __init__(
        self,
        extent: Scope,
        options: CheckOptions,
        connector: Callable[[Node], Connector],
        progress: Progress,
        stop: threading.Event,
        fleet: Fleet,
        run: str,
    ) -> None:
        self.extent = extent
        self.options = options
        self.connector = connector
        self.progress = progress
        self.stop = stop
        self.fleet = fleet
        self.run = run
        self.key = secrets.token_bytes(32)
        if options.meeting is not None:
            _, self.key = identity(options.meeting, extent, options.phase)
        self.templates = Templates(extent)
        self.hellos: Hellos = {}  # of this round
        names = [node.name for node in extent.nodes]
        self.chorus = Chorus(fleet, names, (), stop, lambda who: progress.waiting(list(who)))
        self._states: list[AgentInfo] = []
        self._round = 0

    def muster(self) -> None:
        """Get an agent onto every node that is to have one."""
        self._states, self.hellos = muster(
            self.extent, self.options, self.fleet, self.key, self.connector, self.progress,
            self.stop,
        )  # fmt: skip
        self.chorus.alive |= self.hellos.keys()

    def agents(self) -> list[AgentInfo]:
        """What became of each node's agent by now."""
        states = list(self._states)
        for node, event in self.chorus.lost.items():
            known, reason = states[node], event.reason
            if event.state is AgentState.LOST and node in self.hellos:  # it had part in the round
                reason = f"{reason or 'lost'}: what it had told by then counts"
            states[node] = AgentInfo(event.state, reason, known.python, known.kernel)
        return states

    # --- many rounds

    def stand_down(self) -> None:
        """Until the next round the agents hold no socket that packets would have to be held to."""
        self.chorus.broadcast(self.chorus.alive, {"t": "rest"})

    def admit(self, node: int) -> None:
        """Its agent is there now, and has part in the next round."""
        self.chorus.lost.pop(node, None)
        self.chorus.alive.add(node)

    def renew(self) -> None:
        """Begin another round: all take a new key, and say anew who owns the ports, and so on.

        Whoever does not, or has lost the address that is probed, is lost.
        """
        self.key = secrets.token_bytes(32)
        self._round += 1
        first_words = setup(self.extent, self.key)
        frames = {node: {**first_words(node), "number": self._round} for node in self.chorus.alive}
        hellos: Hellos = {}
        refused: dict[int, AgentInfo] = {}

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            info = greet(self.extent.nodes[node], Event(node, frame))
            if info.state is AgentState.OK:
                hellos[node] = frame
                self._states[node] = info
            else:
                refused[node] = info

        failed = self.chorus.ask(frames, "hello", self._round, _RENEW_LIMIT_S, keep)
        for node, reason in failed.items():
            refused.setdefault(node, AgentInfo(AgentState.LOST, reason))
        if not self.chorus.interrupted:
            for node, info in refused.items():
                self.chorus.lose(Event(node, None, info.state, info.reason))
        self.hellos = hellos


@contextmanager
def crewed(
    extent: Scope,
    options: CheckOptions,
    connector: Callable[[Node], Connector],
    progress: Progress,
) -> Iterator[Crew]:
    """A crew, not mustered yet. Ctrl-C and its like end whatever it waits for; main thread only."""
    run = secrets.token_hex(8)
    fleet = Fleet(run)
    with interruptible(lambda: fleet.events.put(Event(_WAKE, None))) as stop:
        try:
            yield Crew(extent, options, connector, progress, stop, fleet, run)
        finally:
            fleet.close()


class Templates:
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
