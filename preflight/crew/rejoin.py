"""Nodes without an agent that should have one: tried again between rounds, later and later."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from preflight.core.model import AgentInfo, AgentState, Connection
from preflight.core.watch_pace import retry_s
from preflight.core.watch_round import News
from preflight.crew.crew import Crew
from preflight.crew.muster import greet, setup
from preflight.transport.fleet import CONNECTED, Event

_START_LIMIT_S = 20.0  # from the login to the agent's first word
_STEADY_S = 60.0  # an agent that is lost sooner keeps dying, and is tried later each time
_LOGIN_LIMIT_S = 180.0  # beyond a connection's own timeouts together


class Lobby:
    """Where nodes wait to have part in the next round. Used from the crew's thread alone."""

    def __init__(
        self,
        crew: Crew,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self._crew = crew
        self._clock = clock
        self._today = today
        self._due: dict[int, float] = {}  # when to try
        self._limits: dict[int, float] = {}  # being tried: when to give that up
        self._ready: dict[int, AgentInfo] = {}
        self._given_up: set[int] = set()
        self._failures: Counter[int] = Counter()  # in a row
        self._there_since: dict[int, float] = {}  # of those that ever were
        self._gone_since: dict[int, float] = {}
        self._told: dict[int, tuple[AgentState, str | None]] = {}
        self._news: list[News] = []

    def begin(self) -> None:
        """After the muster, which has told why some nodes have no agent."""
        agents, alive = self._crew.agents(), self._crew.chorus.alive
        self._there_since = dict.fromkeys(alive, self._clock())
        for n in self._crew.extent.involved():
            if n not in alive and self._crew.extent.nodes[n].connection is not Connection.NONE:
                self._told[n] = (agents[n].state, agents[n].reason)
                self._failed(n, agents[n])

    def news(self) -> list[News]:
        """What has become of nodes since last asked."""
        self._notice()
        news, self._news = self._news, []
        return news

    @property
    def hopeless(self) -> bool:
        """Nobody will come any more."""
        self._notice()
        return not (self._due or self._limits or self._ready)

    def hear(self, event: Event) -> None:
        """Something that a node says whose agent has no part in the round."""
        node, nodes = event.node, self._crew.extent.nodes
        if node in self._ready and event.frame is None:
            del self._ready[node]
            self._failed(node, AgentInfo(event.state, event.reason))
        elif node not in self._limits:
            return
        elif event.frame is CONNECTED:
            self._limits[node] = self._clock() + _START_LIMIT_S
        else:
            del self._limits[node]
            info = greet(nodes[node], event)
            if info.state is not AgentState.OK:
                self._crew.fleet.drop(node)
                self._failed(node, info)
                return
            self._ready[node] = info
            self._there_since[node] = self._clock()
            self._told.pop(node, None)
            self._news.append(News(node, info, self._today(), self._gone_since.pop(node, None)))

    def tend(self) -> None:
        """Try whoever is due. To be called where no event is left to hear."""
        self._notice()
        now, crew = self._clock(), self._crew
        for node in [n for n, limit in self._limits.items() if now > limit]:
            del self._limits[node]
            crew.fleet.drop(node)
            why = "it is reached, but its agent has not come up in time"
            self._failed(node, AgentInfo(AgentState.FAILED, why))
        due = [node for node, at in self._due.items() if now >= at]
        for node in due:
            del self._due[node]
            self._limits[node] = now + _LOGIN_LIMIT_S
        if due:
            pairs = [(node, crew.extent.nodes[node]) for node in due]
            crew.fleet.start(pairs, crew.connector, setup(crew.extent, crew.key))

    def admit(self) -> None:
        """Let those that are ready have part in the next round."""
        for node in self._ready:
            self._crew.admit(node)
        self._ready.clear()

    def _notice(self) -> None:
        """Agents that were lost, in a round or between two."""
        known = {*self._due, *self._limits, *self._ready, *self._given_up}
        for node, event in self._crew.chorus.lost.items():
            if node not in known:
                if self._clock() - self._there_since.get(node, 0) > _STEADY_S:
                    self._failures[node] = 0
                self._gone_since.setdefault(node, self._today())
                self._failed(node, AgentInfo(event.state, event.reason))

    def _failed(self, node: int, info: AgentInfo) -> None:
        self._failures[node] += 1
        was_there = node in self._there_since
        wait = retry_s(info.state, self._failures[node], was_there=was_there)
        if wait is None:
            self._given_up.add(node)
        else:
            self._due[node] = self._clock() + wait
        told = (info.state, info.reason)
        if self._told.get(node) != told or wait is None:
            self._told[node] = told
            clean = replace(info, python=None, kernel=None)
            self._news.append(News(node, clean, self._today(), None, again=wait is not None))
