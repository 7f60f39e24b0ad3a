"""Which iptables-legacy rule ended our packets, by the counters that moved with them.

xtables' rules are not nf_tables' and cannot be traced without filling the kernel's log, but each
counts. Only tables that are in use already are asked for, so nothing is loaded.
"""

from time import monotonic

from preflight.agent.firewall import commands, queues, xtables
from preflight.agent.firewall.commands import CommandError
from preflight.agent.firewall.xtmatch import Lost, can_match
from preflight.agent.firewall.xtwords import option, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from preflight.agent.firewall.queues import Readers

PATIENCE_S = 2.0  # for one reading
_TOOLS = {4: "iptables", 6: "ip6tables"}
_FAMILY = {4: "ip", 6: "ip6"}
_ENDS = ("DROP", "REJECT", "TARPIT", "CHAOS", "DELUDE", "STEAL")
_STOPS = _ENDS + queues.TARGETS
_CHAINS = {True: ("PREROUTING", "INPUT"), False: ("OUTPUT", "POSTROUTING")}  # by Lost.incoming
_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
# Which targets rewrite what, in which chain of the nat table (by Lost.incoming).
_TRANSLATORS = {
    "destination": ("DNAT", "REDIRECT", "NETMAP"), "source": ("SNAT", "MASQUERADE", "NETMAP"),
}  # fmt: skip
_AT = {
    ("destination", True): ("PREROUTING",), ("destination", False): ("OUTPUT",),
    ("source", False): ("POSTROUTING",),
}  # fmt: skip
_LEAST = 4  # at least one flow in so many was not known
_LONGEST, _MOST = 2000, 16


class Rule:
    """One rule of iptables-save, or with `position` 0 a chain's policy, and its packet counter."""

    __slots__ = ("chain", "packets", "position", "text")

    def __init__(self, chain: str, text: str, packets: int, position: int) -> None:
        self.chain = chain
        self.text = text
        self.packets = packets
        self.position = position

    @property
    def words(self) -> "list[str]":
        """Its text in words; not kept, as few of many thousand rules are ever asked."""
        return split(self.text)

    @property
    def target(self) -> str:
        """Where it sends what it matches, "" where it only counts."""
        return option(self.words, "-j", "-g") if self.position else self.words[-1]


class Table:
    """One table of iptables-save: its chains' policies and rules."""

    def __init__(self) -> None:
        self.policies: dict[str, Rule] = {}
        self.chains: dict[str, list[Rule]] = {}

    def texts(self) -> "list[str]":
        """All of it but the counters."""
        known = [*self.policies.values(), *(r for rules in self.chains.values() for r in rules)]
        return [rule.text for rule in known]


def parse(saved: str) -> "dict[str, Table]":
    """The tables that `iptables-save -c` wrote."""
    out: dict[str, Table] = {}
    table = Table()
    for line in saved.splitlines():
        if line.startswith("*"):
            table = out.setdefault(line[1:].strip(), Table())
        elif line.startswith(":"):
            chain, policy, counts = line[1:].split(" ", 2)
            table.chains[chain] = []
            if policy != "-":  # a chain of the user's has none
                text = "-P %s %s" % (chain, policy)
                table.policies[chain] = Rule(chain, text, _count(counts), 0)
        elif line.startswith("["):
            counts, _, text = line.partition(" ")
            chain = text.split(" ", 2)[1]  # a chain's name holds no blanks
            rules = table.chains.setdefault(chain, [])
            rules.append(Rule(chain, text, _count(counts), len(rules) + 1))
    return out


def _count(counts: str) -> int:
    return int(counts.strip("[] ").partition(":")[0])


class _Movement:
    """What moved in one table, by rule: while nothing of ours went through, and while it did."""

    def __init__(
        self, table: Table, idle: "dict[str, int]", ours: "dict[str, int]", ratio: float
    ) -> None:
        self.table = table
        self.idle = idle
        self.ours = ours
        self.ratio = ratio

    def of(self, rule: Rule) -> int:
        """By how many packets it moved with ours."""
        return self.ours[_key(rule)]

    def noise(self, rule: Rule, known: int) -> float:
        """How many of them others may well have sent; `known` are those of the idle time that were
        seen to end there.
        """
        usual = max(self.idle[_key(rule)] - known, 0) * self.ratio
        return usual + 3 * usual**0.5 + 1 if usual else 0


def _key(rule: Rule) -> str:
    return "%s %d" % (rule.chain, rule.position)


class Reading:
    """The tables of one family at one moment."""

    def __init__(self, time: float, tables: "dict[str, Table]") -> None:
        self.time = time
        self.tables = tables


def movements(
    idle: "tuple[Reading, Reading]", ours: "tuple[Reading, Reading]"
) -> "dict[str, _Movement]":
    """What moved in each table between two readings without and two with our packets.

    Tables whose rules changed meanwhile, or whose counters were set back, are left out.
    """
    span = max(idle[1].time - idle[0].time, 1e-3)
    ratio = (ours[1].time - ours[0].time) / span
    out = {}
    for name, last in ours[1].tables.items():
        seen = [reading.tables.get(name) for reading in (*idle, ours[0])]
        if any(table is None or table.texts() != last.texts() for table in seen):
            continue
        counts = [_counts(table) for table in seen if table is not None]
        now = _counts(last)
        usual = {key: counts[1][key] - counts[0][key] for key in now}
        moved = {key: now[key] - counts[2][key] for key in now}
        if min([*usual.values(), *moved.values()], default=0) >= 0:
            out[name] = _Movement(last, usual, moved, ratio)
    return out


def _counts(table: Table) -> "dict[str, int]":
    known = [*table.policies.values(), *(r for rules in table.chains.values() for r in rules)]
    return {_key(rule): rule.packets for rule in known}


def suspects(
    family: int,
    moved: "dict[str, _Movement]",
    lost: "Sequence[Lost]",
    readers: "Readers | None" = None,
) -> "list[list[dict[str, Any]]]":
    """For each of `lost` the rules that may have ended it: see `LegacyCounters.suspects`.

    `readers` are those of queues, as `queues.readers` has them.
    """
    out = []
    for one in lost:
        found = []
        for name, movement in moved.items():
            if one.rewrites and name != "nat":
                continue
            for rule, base in _reached(movement, one):
                known = _known(rule, one.incoming, lost)
                if one.packets and _ended(movement, rule, one, known):
                    told = _told(family, name, movement, rule, base, one)
                    if rule.target in queues.TARGETS:
                        told.update(queues.told(queues.span(rule.words), readers))
                        if queues.goes_on(rule.words, told["reader"]):
                            continue
                    found.append((told, _explained(movement, rule, lost, known)))
        for told, exact in found:
            # Whoever reads a queue decides.
            ends = told["verdict"] != "queue" or told["reader"] == queues.NOBODY
            told["sure"] = exact and len(found) == 1 and ends
        out.append([told for told, _ in found[:_MOST]])
    return out


def _reached(movement: _Movement, lost: Lost) -> "list[tuple[Rule, str]]":
    """The rules and policies that these packets can have met, with the built-in chain they are in.

    A chain of the user's is reached by a rule that can match them and that counted as many.
    """
    table = movement.table
    out = []
    ways = _AT.get((lost.rewrites, lost.incoming), ()) if lost.rewrites else _CHAINS[lost.incoming]
    for base in ways:
        if base not in table.policies:
            continue
        known, waiting = {base}, [base]
        while waiting:
            for rule in table.chains.get(waiting.pop(), []):
                if movement.of(rule) < _least(lost) or not can_match(rule.words, lost):
                    continue
                out.append((rule, base))
                if rule.target in table.chains and rule.target not in known:
                    known.add(rule.target)
                    waiting.append(rule.target)
        out.append((table.policies[base], base))
    return out


def _known(rule: Rule, incoming: bool, lost: "Sequence[Lost]") -> int:
    """How many packets are known to have ended there before any of ours left."""
    alike = [one for one in lost if one.idle and one.incoming is incoming]
    return sum(one.idle for one in alike if can_match(rule.words[2:], one))


def _least(lost: Lost) -> int:
    """By how much a counter moves at least that all of them meet."""
    return (lost.flows + _LEAST - 1) // _LEAST if lost.rewrites else lost.packets


def _ended(movement: _Movement, rule: Rule, lost: Lost, known: int) -> bool:
    """Whether it may have ended them, or made of them what they became."""
    if rule.target not in (_TRANSLATORS[lost.rewrites] if lost.rewrites else _STOPS):
        return False
    moved = movement.of(rule)
    return moved >= _least(lost) and moved > movement.noise(rule, known)


def _explained(movement: _Movement, rule: Rule, lost: "Sequence[Lost]", known: int) -> bool:
    """Did it move by no more than what we lost there and others usually send?"""
    # A flow whose packets are thrown away is a new one with each of them.
    translates = rule.target not in _STOPS
    alike = [one for one in lost if can_match(rule.words[2:], one)]
    ours = sum(one.packets + one.doubtful for one in alike if bool(one.rewrites) is translates)
    return movement.of(rule) <= ours + movement.noise(rule, known)


def _told(
    family: int, name: str, movement: _Movement, rule: Rule, base: str, lost: Lost
) -> "dict[str, Any]":
    policy = movement.table.policies[base].target
    return {
        "family": _FAMILY[family],
        "table": name,
        "chain": rule.chain,
        "handle": 0,
        "policy": not rule.position,
        "verdict": "queue" if rule.target in queues.TARGETS else "drop",
        "text": rule.text[:_LONGEST],
        "comment": option(rule.words, "--comment"),
        "tool": _TOOLS[family] + "-legacy",
        "position": rule.position or _turn(movement, base),
        "packets": movement.of(rule),
        "base": {
            "type": "nat" if name == "nat" else "filter",
            "hook": base.lower(),
            "priority": _PRIORITIES.get(name, 0),
            "policy": policy.lower(),
        },
        "rejects": rule.target == "REJECT",
        "rewrites": lost.rewrites,
        "becomes": _becomes(rule) if lost.rewrites else "",
        "chain_rules": len(movement.table.chains.get(rule.chain, [])),
        "set_by": [],
    }


def _becomes(rule: Rule) -> str:
    """What a rule that translates makes of a packet, as `rewriting.words` has it; "" where it does
    not say so, or says several.
    """
    ports = option(rule.words, "--to-ports")
    if ports.isdigit():
        return "port %s" % ports
    to = option(rule.words, "--to-destination", "--to-source")
    v6, _, after = to[1:].partition("]") if to.startswith("[") else ("", "", "")
    address, _, port = (v6, "", after[1:]) if v6 else to.partition(":")
    if ":" in to and not v6 and to.count(":") > 1:
        address, port = to, ""
    if "-" in to or "/" in to:
        return ""
    return " ".join(filter(None, (address, "port %s" % port if port else "")))


def _turn(movement: _Movement, base: str) -> int:
    """The position of the goto or return by which packets came to a chain's policy, past all that
    comes after it; 0 where none moved, or several did.
    """
    turned = [
        rule.position
        for rule in movement.table.chains.get(base, [])
        if movement.of(rule) and (rule.target == "RETURN" or option(rule.words, "-g", "--goto"))
    ]
    return turned[0] if len(turned) == 1 else 0


class LegacyCounters:
    """Readings of the counters: `before` and `settle` around a time without packets of ours, then
    `begin` (if that time does not begin at once) and `after` around the time with them.
    """

    def __init__(self, seconds: float = PATIENCE_S) -> None:
        self.reasons: dict[int, str] = {}  # family -> why nothing is known, in one short phrase
        self._seconds = seconds
        self._families = [family for family in _TOOLS if xtables.tables(family)]
        self._readings: dict[str, dict[int, Reading]] = {}
        self._readers: list[Readers | None] = []  # at each reading

    @property
    def present(self) -> bool:
        """False where there are no such tables: nothing is to be read then."""
        return bool(self._families)

    def before(self) -> None:
        """The idle time begins."""
        self._read("before")

    def settle(self) -> None:
        """The idle time is over."""
        self._read("settle")

    def begin(self) -> None:
        """Our packets leave now."""
        self._read("begin")

    def after(self) -> None:
        """Our packets are through, or lost."""
        self._read("after")

    def suspects(self, lost: "Sequence[Lost]") -> "list[list[dict[str, Any]]]":
        """For each of `lost`, all sent in the same time, the rules that may have ended it.

        As `ruletext.describe` tells of a rule, with tool iptables-legacy or ip6tables-legacy, or
        iptables or ip6tables on a node old enough to have no other kind;
        packets: by how many its counter moved; sure: it is the only one and moved as it should;
        queue, reader: of one that hands them to a queue, see `queues.told`.
        """
        out: list[list[dict[str, Any]]] = [[] for _ in lost]
        for family in self._families:
            try:
                idle = self._pair("before", "settle", family)
                start = "begin" if "begin" in self._readings else "settle"
                moved = movements(idle, self._pair(start, "after", family))
            except KeyError:
                continue  # not read: see `reasons`
            places = [i for i, one in enumerate(lost) if one.family == family]
            here = [lost[i] for i in places]
            for i, found in zip(places, suspects(family, moved, here, queues.ever(self._readers))):
                out[i] = found
        for rule in (rule for rules in out for rule in rules):
            if not commands.find(rule["tool"]):
                rule["tool"] = rule["tool"].partition("-")[0]
        return out

    def _pair(self, first: str, second: str, family: int) -> "tuple[Reading, Reading]":
        return self._readings[first][family], self._readings[second][family]

    def _read(self, moment: str) -> None:
        end = monotonic() + self._seconds
        out = self._readings[moment] = {}
        self._readers.append(queues.readers())
        for family in self._families:
            tool = saver(family, end)
            if not tool:
                self.reasons[family] = "no %s-legacy-save on the node" % _TOOLS[family]
                continue
            try:
                saved = [
                    commands.run((tool, "-c", "-t", table), end - monotonic())
                    for table in xtables.tables(family)
                ]
                out[family] = Reading(monotonic(), parse("".join(saved)))
            except (CommandError, ValueError) as error:
                self.reasons[family] = "%s: %s" % (tool, error)


def saver(family: int, end: float) -> str:
    """The path of the iptables-save that speaks to xtables, "" for none."""
    name = _TOOLS[family]
    sure = commands.find(name + "-legacy-save")
    plain = commands.find(name)
    if sure or not plain:
        return sure
    try:
        # Before 1.8 there was no other kind, and the version said nothing of it.
        other = "nf_tables" in commands.run((plain, "--version"), end - monotonic())
    except CommandError:
        return ""
    return "" if other else commands.find(name + "-save")
