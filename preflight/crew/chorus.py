"""The agents that are there, and waiting until each has said what it has to."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from preflight.core.model import AgentState
from preflight.transport.fleet import Event, Fleet

Keep = Callable[[int, Mapping[str, Any]], None]


class Chorus:
    """A fleet's usable agents. `watch` is told the names of those that are waited for.

    `others` is given the events of nodes that are not among them, or not yet.
    """

    def __init__(
        self,
        fleet: Fleet,
        names: Sequence[str],
        usable: Iterable[int],
        stop: threading.Event,
        watch: Callable[[Sequence[str]], None],
    ) -> None:
        self.alive = set(usable)
        self.lost: dict[int, Event] = {}
        self.others: Callable[[Event], None] = lambda _: None
        self._fleet = fleet
        self._names = names
        self._stop = stop
        self._watch = watch

    @property
    def interrupted(self) -> bool:
        """The user wants it to end."""
        return self._stop.is_set()

    def send(self, frames: Mapping[int, Mapping[str, Any]]) -> None:
        """To each its own."""
        for node, frame in frames.items():
            self._fleet.send(node, frame)

    def broadcast(self, nodes: Iterable[int], frame: Mapping[str, Any]) -> None:
        """The same to all of `nodes` that are still there."""
        self._fleet.broadcast(sorted(set(nodes) & self.alive), frame)

    def until(
        self,
        nodes: set[int],
        kind: str,
        number: int,
        limit_s: float,
        keep: Keep | None = None,
        *,
        last: bool = False,
        patient: bool = False,
    ) -> set[int]:
        """Until all of `nodes` have said `kind` about the look `number`, or are lost.

        Returns who had not when the time was over; they are lost, unless one is `patient`.

        A report, which `keep` is given, stands for all before it. `keep` may raise ValueError,
        TypeError, KeyError, AttributeError or OverflowError: then that node's agent is lost. An
        interruption ends the wait, unless these are the `last` words that it asks for.
        """
        waiting = nodes & self.alive
        for event in self._said(waiting, limit_s, last=last):
            if event.frame is None or event.frame.get("number") != number:
                continue
            if event.frame["t"] == "report" and keep is not None:
                self._keep(event.node, event.frame, keep)
                waiting.discard(event.node)
            elif event.frame["t"] == kind:
                waiting.discard(event.node)
        for node in () if self.interrupted or patient else waiting:
            reason = f"the agent was not done {limit_s:.0f} s after it should have been"
            self.lose(Event(node, None, AgentState.LOST, reason))
        return waiting

    def ask(
        self,
        frames: Mapping[int, Mapping[str, Any]],
        kind: str,
        number: int,
        limit_s: float,
        keep: Keep,
    ) -> dict[int, str]:
        """Send each its frame and give `keep` its answer, of that kind and number.

        Returns why, for each of those without an answer that makes sense. Unlike in `until`
        nobody is lost for that: what is asked here is not what the run is for.
        """
        failed = dict.fromkeys(frames.keys() - self.alive, "its agent is gone")
        waiting = frames.keys() & self.alive
        self.send({node: frames[node] for node in sorted(waiting)})
        for event in self._said(waiting, limit_s):
            if event.frame is None:
                if event.node in waiting:
                    failed[event.node] = event.reason or "its agent is gone"
            elif (event.frame["t"], event.frame.get("number")) == (kind, number):
                try:
                    keep(event.node, event.frame)
                except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                    failed[event.node] = f"its answer makes no sense ({error})"
                waiting.discard(event.node)
        late = "interrupted" if self.interrupted else f"no answer within {limit_s:.0f} s"
        return {**dict.fromkeys(waiting, late), **failed}

    def idle(self, limit_s: float) -> bool:
        """Hear what there is to hear while nobody was asked; False once there is nothing more.

        It returns after the first event, and at the latest after `limit_s`.
        """
        try:
            event = self._fleet.events.get(timeout=max(limit_s, 0))
        except queue.Empty:
            return False
        self._take(event)
        return True

    def _said(self, waiting: set[int], limit_s: float, *, last: bool = False) -> Iterator[Event]:
        """What our agents say, their loss too, until none of `waiting` is left.

        Who is lost is taken from `waiting` here; who has said all, by the caller.
        """
        end = time.monotonic() + limit_s
        while waiting and (last or not self.interrupted):
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                event = self._fleet.events.get(timeout=min(left, 0.5))
            except queue.Empty:
                self._watch([self._names[n] for n in sorted(waiting)])
                continue
            if self._take(event):
                yield event
                waiting &= self.alive

    def _take(self, event: Event) -> bool:
        """Whether it comes from one of ours; who is gone is noted."""
        if event.node not in self.alive:
            self.others(event)
            return False
        if event.frame is None:
            self.lose(event)
        return True

    def _keep(self, node: int, frame: Mapping[str, Any], keep: Keep) -> None:
        try:
            keep(node, frame)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = f"the agent's report makes no sense ({type(error).__name__})"
            self.lose(Event(node, None, AgentState.FAILED, reason))

    def lose(self, event: Event) -> None:
        """That node's agent is gone."""
        if event.node in self.alive:
            self.alive.discard(event.node)
            self.lost[event.node] = event
            self._fleet.drop(event.node)
