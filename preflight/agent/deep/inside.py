"""What a node's own firewall and kernel say while shots are on their way.

Each piece may be missing on a node, or fail: that costs what it would have told, never the look.
Their modules are imported where they are used, and their absence is one more way to fail.
"""

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from preflight.agent.deep.losses import Loss
    from preflight.agent.deep.marks import Mark

    Hit = dict[str, Any]

_TOOLS_S = 2.0  # for the tools that put rules into words
_LONGEST = 200


class MissingError(Exception):
    """A piece that this node does not have; `args[0]` says why in one short phrase."""


class Piece:
    """One thing to watch; `name` is what its failure is told under. All may raise anything."""

    name = ""

    def open(self) -> None:
        """Begin to watch."""

    def read(self) -> None:
        """Take what is waiting."""

    def settle(self) -> None:
        """The idle window is over: what moved in it moves without us."""

    def tell(self, node: "dict[str, Any]") -> None:
        """Put what was seen into the report's `node`."""

    def close(self) -> None:
        """Give everything back; also after a failure, and more than once."""


class Inside:
    """All pieces. `breathe` is called between two of them: each may take its time."""

    def __init__(self, pieces: "list[Piece]", breathe: "Callable[[], None]") -> None:
        self._pieces = pieces
        self._breathe = breathe
        self._failed: dict[str, str] = {}

    def open(self) -> None:
        """Begin to watch."""
        self._each(lambda piece: piece.open(), self._breathe)

    def read(self) -> None:
        """Take what is waiting."""
        self._each(lambda piece: piece.read())

    def settle(self) -> None:
        """The idle window is over."""
        self._each(lambda piece: piece.settle(), self._breathe)

    def tell(self) -> "dict[str, Any]":
        """The report's `node`. `failed` says of each piece that told nothing, why."""
        self.read()
        node: dict[str, Any] = {"rules": [], "counters": {}, "drops": [], "idle_drops": []}
        self._each(lambda piece: piece.tell(node), self._breathe)
        node["trace"] = self._failed.get("trace", "")
        node["failed"] = dict(self._failed)
        return node

    def close(self) -> None:
        """Give everything back."""
        for piece in self._pieces:
            self._close(piece)

    def _close(self, piece: Piece) -> None:
        try:
            piece.close()
        except Exception as error:  # noqa: BLE001 - the others are to be closed as well
            self._note(piece, error)

    def _each(
        self, does: "Callable[[Piece], None]", between: "Callable[[], None] | None" = None
    ) -> None:
        for piece in self._pieces:
            if piece.name in self._failed:
                continue
            try:
                does(piece)
            except Exception as error:  # noqa: BLE001 - whatever a node has in store
                self._note(piece, error)
                self._close(piece)
            if between is not None:
                between()

    def _note(self, piece: Piece, error: Exception) -> None:
        missing = isinstance(error, ImportError)
        words = "not available" if missing else getattr(error, "strerror", None) or str(error)
        self._failed.setdefault(piece.name, (words or type(error).__name__)[:_LONGEST])


# --- the pieces ----------------------------------------------------------------------------------


class Rules(Piece):
    """Which nf_tables rule ended a packet. `hits` are those of `RuleTrace`, each with the position
    of its rule in the report; there once it was told.
    """

    name = "trace"

    def __init__(self, run: str, marks: "list[Mark]", devices: "list[str]") -> None:
        self.hits: list[tuple[int, Hit]] = []
        self._arguments = run, marks, devices
        self._trace: Any = None

    def open(self) -> None:
        from preflight.agent.firewall.nftrace import RuleTrace

        self._trace = RuleTrace(*self._arguments)
        reason = self._trace.open()
        if reason:
            raise MissingError(reason)

    def read(self) -> None:
        self._trace.read()

    def tell(self, node: "dict[str, Any]") -> None:
        from preflight.agent.firewall.rewriting import culprits, words
        from preflight.agent.firewall.ruletext import describe

        trace = self._trace
        self.close()  # what was heard stays; the node's tools need not be waited for with it on
        rewritten = culprits(trace.rewrites())
        hits = [*trace.hits(), *rewritten]
        rules = describe(hits, _TOOLS_S)
        first = len(node["rules"])
        places = {_key(rule): first + i for i, rule in enumerate(rules)}
        for hit in hits:
            place = places.get(_key(hit))
            if place is not None:
                self.hits.append((place, hit))
                rules[place - first].setdefault("path", hit["path"])
        for rule in rules:
            became = [hit for hit in rewritten if _key(hit) == _key(rule)]
            if became:
                rule["rewrites"] = became[0]["rewrites"]
                rule["becomes"] = words((hit["becomes"][0], hit["becomes"][1]) for hit in became)
        node["rules"] += rules
        if trace.untraced:
            raise MissingError("; ".join(sorted(set(trace.untraced.values()))))
        if trace.lost:
            raise MissingError("the kernel told more than could be read")

    def close(self) -> None:
        if self._trace is not None:
            self._trace.close()
            self._trace = None


def _key(rule: "Hit") -> "tuple[Any, ...]":
    return tuple(rule.get(name, 0) for name in ("family", "table", "chain", "handle", "turn"))


class Counted(Piece):
    """Which iptables-legacy rule ended packets, by its counter. `hits` are (position of the trial,
    leg, position of the rule, shot); there once it was told.
    """

    name = "legacy"

    def __init__(self, losses: "Callable[[], list[Loss]]") -> None:
        self.hits: list[tuple[int, str, int, int | None]] = []
        self._losses = losses
        self._counters: Any = None

    def open(self) -> None:
        from preflight.agent.firewall.legacy import LegacyCounters

        self._counters = LegacyCounters(_TOOLS_S)
        self._counters.before()

    def settle(self) -> None:
        self._counters.settle()

    def tell(self, node: "dict[str, Any]") -> None:
        if not self._counters.present:
            return
        self._counters.after()
        losses = self._losses()
        found = self._counters.suspects([loss.lost for loss in losses])
        places: dict[tuple[Any, ...], int] = {}
        for loss, rules in zip(losses, found):
            for rule in rules:
                key = (rule["tool"], *_key(rule), rule["position"], rule["sure"])
                if key not in places:
                    places[key] = len(node["rules"])
                    node["rules"].append(rule)
                self.hits += [
                    (trial, loss.leg, places[key], shot)
                    for trial in loss.trials
                    for shot in loss.shots
                ]
        if self._counters.reasons:
            raise MissingError("; ".join(sorted(set(self._counters.reasons.values()))))


class KernelDrops(Piece):
    """Why the kernel threw packets away."""

    name = "drops"

    def __init__(self) -> None:
        self._drops: Any = None
        self._idle: Any = None

    def open(self) -> None:
        from preflight.agent.kernel.drops import Drops

        self._drops = Drops()
        reason = self._drops.open()
        if reason:
            raise MissingError(reason)

    def settle(self) -> None:
        self._idle = self._drops.counts()

    def tell(self, node: "dict[str, Any]") -> None:
        rows = self._drops.counts()
        if rows is None or self._idle is None:
            raise MissingError("more was dropped than could be recorded")
        node["drops"], node["idle_drops"] = rows, self._idle

    def close(self) -> None:
        if self._drops is not None:
            self._drops.close()
            self._drops = None


class Counters(Piece):
    """The kernel's own counters, and the settings, routes and hooks by which it drops packets.

    `pairs` are (own address, peer's); `devices` the names of those that lead to the peers.
    """

    name = "counters"

    def __init__(self, pairs: "list[tuple[str, str]]", devices: "list[str]") -> None:
        self._pairs = pairs
        self._devices = devices
        self._counters: Any = None
        self._before: tuple[float, dict[str, int]] = (0.0, {})
        self._idle: tuple[float, dict[str, int]] = (0.0, {})

    def open(self) -> None:
        from preflight.agent.kernel import counters

        self._counters = counters
        self._before = self._now()

    def settle(self) -> None:
        self._idle = self._moved()

    def _now(self) -> "tuple[float, dict[str, int]]":
        return monotonic(), self._counters.read(self._devices)

    def _moved(self) -> "tuple[float, dict[str, int]]":
        """(seconds, what moved in them) since last asked."""
        before, self._before = self._before, self._now()
        moved = self._counters.moved(before[1], self._before[1])
        return self._before[0] - before[0], moved

    def tell(self, node: "dict[str, Any]") -> None:
        from preflight.agent.kernel import fib, hooks, sysctls

        # First: to ask for routes moves some of them.
        (idle_s, idle), (moved_s, moved) = self._idle, self._moved()
        settings: dict[str, Any] = dict(sysctls.read(self._devices))
        settings.update(fib.ask(self._pairs, self._devices))
        settings.update(hooks.read(self._devices))
        node["counters"] = {"settings": settings, "idle": idle, "moved": moved}
        node["counters"]["seconds"] = [idle_s, moved_s]
