"""Gets an agent onto every node that is to have one, and hears from each.

Whoever cannot be used costs its own row and column, with the reason said, and nothing else.
"""

import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from preflight.core.meeting import tag as meeting_tag
from preflight.core.model import AgentInfo, AgentState, Connection, Family, Node
from preflight.core.offsets import tag_offset
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.transport.base import Connector
from preflight.transport.fleet import CONNECTED, Event, Fleet
from preflight.transport.narrow import narrow

_START_LIMIT_S = 20.0  # from the login to the agent's first word
_HELLO_LIMIT_S = 180.0  # for all, beyond a connection's own timeouts together
_SERVED = {"udp", "tcp", "unsure"}
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


def muster(
    extent: Scope,
    options: CheckOptions,
    fleet: Fleet,
    key: bytes,
    connector: Callable[[Node], Connector],
    progress: Progress,
    stop: threading.Event,
    usable: Collection[AgentState] = (AgentState.OK,),
) -> tuple[list[AgentInfo], Hellos]:
    """What became of each node's agent, and the first words of those in a `usable` state."""
    nodes = extent.nodes
    involved = extent.involved()
    wanted = [n for n in involved if nodes[n].connection is not Connection.NONE]
    states = [_absent(n in involved, options) for n in range(len(nodes))]
    for n in wanted:
        states[n] = AgentInfo(AgentState.FAILED, "interrupted before its agent had started")
    progress.phase("connecting", len(wanted))
    tag = b"" if options.meeting is None else meeting_tag(options.meeting)
    fleet.start(((n, nodes[n]) for n in wanted), connector, setup(extent, key, tag))
    hellos: Hellos = {}
    waiting: dict[int, float] = dict.fromkeys(wanted, time.monotonic() + _HELLO_LIMIT_S)
    while waiting and not stop.is_set():
        event = _next(fleet, waiting, nodes)
        if event is None:
            progress.waiting([nodes[n].name for n in sorted(waiting)])
            continue
        if event.frame is CONNECTED:
            waiting[event.node] = time.monotonic() + _START_LIMIT_S
            continue
        del waiting[event.node]
        whole = options.meeting is not None  # its other end cannot be told what is lacking
        states[event.node] = info = greet(nodes[event.node], event, whole=whole)
        if info.state in usable and event.frame is not None:
            hellos[event.node] = event.frame
            progress.advance(nodes[event.node].name)
        else:
            fleet.drop(event.node)
            progress.note(f"{nodes[event.node].name}: {info.reason}")
    return states, hellos


def _next(fleet: Fleet, waiting: Mapping[int, float], nodes: Sequence[Node]) -> Event | None:
    """The next event of a node that is waited for; one that is overdue is lost."""
    try:
        event = fleet.events.get(timeout=0.5)
        if event.node in waiting:
            return event
    except queue.Empty:
        pass
    now = time.monotonic()
    for node, end in waiting.items():
        if now > end:
            reason = (
                f"it is logged in, but its agent has said nothing for {_START_LIMIT_S:.0f} s: "
                f"is the node overloaded, its python stopped or very slow?"
            )
            said = fleet.words(node)
            if said:
                reason = (
                    f"it is logged in, but no agent has begun within {_START_LIMIT_S:.0f} s. It "
                    f"said: {said}. Does a forced command, or a login shell of its own, run in its "
                    "place? If not, is the node overloaded, its python stopped or very slow?"
                )
            if nodes[node].connection is Connection.SSH:
                reason += f" Or {narrow(nodes[node].host, nodes[node].address)}"
            return Event(node, None, AgentState.FAILED, reason)
    return None


def _absent(involved: bool, options: CheckOptions) -> AgentInfo:
    if not involved:
        return AgentInfo(AgentState.NONE, "not needed for the pairs that were asked for")
    if options.local is not None:
        return AgentInfo(AgentState.NONE, f"--local {options.local}: no other node has an agent")
    return AgentInfo(AgentState.NONE, "the inventory asks for no agent there")


def setup(extent: Scope, key: bytes, tag: bytes = b"") -> Callable[[int], Mapping[str, Any]]:
    """The first frame of each node's agent; a later one begins another round with it.

    `tag` is that of all packets, where it is not to follow from the key.
    """
    udp = {str(p.port): tag_offset(p) for p in extent.probes if p.protocol == "udp"}
    tcp = [p.port for p in extent.probes if p.protocol == "tcp"]
    echo = any(p.protocol == "icmp" for p in extent.probes)

    def frame(number: int) -> Mapping[str, Any]:
        node = extent.nodes[number]
        own = {_FAMILIES[f]: a for f in extent.families if (a := node.address_in(f))}
        return {
            "t": "setup", "key": key.hex(), "tag": tag.hex(), "me": number, "own": own,
            "udp": udp, "tcp": tcp, "echo": echo,
        }  # fmt: skip

    return frame


def greet(node: Node, event: Event, *, whole: bool = False) -> AgentInfo:
    """What a node's first event says of it; `whole`: it must have all its addresses."""
    frame = event.frame
    if frame is None:
        return AgentInfo(event.state, event.reason)
    if not _makes_sense(frame):
        return AgentInfo(AgentState.FAILED, "its agent's first words make no sense")
    python, kernel = frame["python"], frame["kernel"]
    if frame.get("state") == "no-privilege":
        reason = (
            "the agent is neither root nor has CAP_NET_RAW: log in as root, "
            "or set `become: sudo` for this node"
        )
        return AgentInfo(AgentState.NO_PRIVILEGE, reason, python, kernel)
    absent = [str(a) for a in frame.get("absent", ())]
    if absent and (
        whole or len(absent) >= len(frame["served"])
    ):  # else it is the node, and lacks one family
        reason = f"{', '.join(absent)} is not on the machine that {node.host} led to"
        if node.connection is Connection.LOCAL:
            reason = f"{', '.join(absent)} is not on this machine: run it on {node.name}"
        return AgentInfo(AgentState.WRONG_ADDRESS, reason, python, kernel)
    return AgentInfo(AgentState.OK, None, python, kernel)


def _makes_sense(hello: Mapping[str, Any]) -> bool:
    """A node's first words are of the shape that the run relies on: a node may be anything."""
    words = (hello.get("python"), hello.get("kernel"))
    if hello.get("t") != "hello" or not all(isinstance(w, str) and w.isprintable() for w in words):
        return False
    if hello.get("state") == "no-privilege":
        return True
    served = hello.get("served")
    return (
        hello.get("state") == "ok"
        and isinstance(served, dict)
        and all(isinstance(of, dict) and of.keys() >= _SERVED for of in served.values())
        and all(_numbers(ports) for of in served.values() for ports in of.values())
        and all(_numbers(hello.get(key)) for key in ("udp", "tcp", "echo_ignored"))
        and isinstance(hello.get("absent"), list)
        and isinstance(hello.get("mtu"), dict)
        and _numbers(list(hello["mtu"].values()))
        and isinstance(hello.get("drivers"), list)
        and all(isinstance(driver, str) for driver in hello["drivers"])
    )


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(n, int) for n in value)
