"""The rules that ended traced packets, as the node's admin would see them.

In nft's own words, or in iptables' for its tables, where the node has those tools; else what
nf_tables itself tells.
"""

from time import monotonic

from preflight.agent.firewall import commands, queues
from preflight.agent.firewall.commands import CommandError
from preflight.agent.firewall.nfnetlink import Nfnetlink
from preflight.agent.firewall.nftrules import Rule, base_chain, generation, rules
from preflight.agent.firewall.nftwords import words
from preflight.agent.firewall.xtwords import option, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

PATIENCE_S = 3.0  # for all tools together
_MOST_RULES, _LONGEST = 32, 2000
_XT_TABLES = ("filter", "nat", "mangle", "raw", "security")
_XT_TOOLS = {"ip": "iptables", "ip6": "ip6tables"}
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_NAME = frozenset(_LETTERS + "0123456789/-_.")
_KEY = ("family", "table", "chain", "handle", "turn")


def describe(
    hits: "Iterable[dict[str, Any]]", seconds: float = PATIENCE_S
) -> "list[dict[str, Any]]":
    """What `RuleTrace.hits` names, each rule or policy once, in their order.

    family, table, chain, handle, policy, turn as there; text; comment; tool: nft, or by the name of
    the program that speaks to nf_tables iptables, ip6tables, iptables-nft or ip6tables-nft;
    position in the chain from 1, of a policy that of `turn`, 0 where not known; base: type, hook,
    priority and policy of the base chain; rejects; chain_rules: how many, -1 where not known;
    set_by: empty; queue, reader: of one that hands packets to queues, see `queues.told`. What goes
    on for want of a reader has not ended. `seconds` bounds the tools' time; without them, and
    without an answer, `text` says less.
    """
    distinct: dict[Any, dict[str, Any]] = {}
    readers = queues.readers()
    spans: dict[Any, list[int]] = {}
    for hit in hits:
        if "queue" in hit:
            number = hit["queue"]
            if hit["bypass"] and queues.reader((number, number), readers) == queues.NOBODY:
                continue
            spans.setdefault(tuple(hit.get(name, 0) for name in _KEY), []).append(number)
        if len(distinct) < _MOST_RULES:
            distinct.setdefault(tuple(hit.get(name, 0) for name in _KEY), hit)
    try:
        netlink = Nfnetlink()
    except OSError:
        return []
    wanted: dict[tuple[str, str, str], set[int]] = {}
    for key in distinct:
        wanted.setdefault(key[:3], set()).add(key[3])
    try:
        tools = _Tools(netlink, monotonic() + seconds)
        chains = {key: tools.chain(key, handles) for key, handles in wanted.items()}
        out = []
        for key, hit in distinct.items():
            told = chains[key[:3]].told(hit["handle"])
            if hit.get("turn"):
                told["position"] = chains[key[:3]].position(hit["turn"])
            told.update(zip(_KEY, key), policy=hit["policy"])
            if key in spans:
                told.update(queues.told((min(spans[key]), max(spans[key])), readers))
            told["base"] = base_chain(netlink, hit["family"], hit["table"], hit["base"])
            out.append(told)
        return out
    finally:
        netlink.close()


class _Chain:
    """One chain's rules, as each source shows them."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.rules: "list[Rule] | None" = None
        self.iptables: list[str] = []  # -P or -N, then one line for each rule
        self.tool = ""  # what wrote these
        self.nft: dict[int, str] = {}  # handle -> its text

    def position(self, handle: int) -> int:
        """That of one rule, from 1; 0 where it is not known."""
        known = enumerate(self.rules or [], 1)
        return next((i for i, rule in known if rule.handle == handle), 0)

    def told(self, handle: int) -> "dict[str, Any]":
        """What is known of one rule, or of the chain's policy: handle 0."""
        known = self.rules or []
        position = self.position(handle)
        rule = known[position - 1] if position else None
        out: dict[str, Any] = {"comment": "", "tool": "nft", "position": position, "set_by": []}
        out["text"] = "rule handle %d" % handle if handle else "policy drop"
        if rule is not None:
            out["comment"] = rule.comment
            decoded = "" if handle in self.nft else words(self.family, rule.expressions)
            out["text"] = self.nft.get(handle) or decoded or out["text"]
        if self.iptables and (rule is not None or not handle):
            line = self.iptables[position]
            out.update(tool=self.tool, text=line)
            out["comment"] = option(split(line), "--comment") or out["comment"]
        out["text"] = out["text"][:_LONGEST]
        out["rejects"] = rule is not None and rule.rejects
        out["chain_rules"] = -1 if self.rules is None else len(self.rules)
        return out


class _Tools:
    """Asks each source once for a chain."""

    def __init__(self, netlink: Nfnetlink, end: float) -> None:
        self._netlink = netlink
        self._end = end
        self._xt: dict[str, tuple[str, str]] = {}

    def chain(self, where: "tuple[str, str, str]", handles: "set[int]") -> _Chain:
        """The chain `where` (family, table, chain), with the text of these rules of it."""
        family, table, name = where
        out = _Chain(family)
        try:
            # Rule and text are matched by position, which a change meanwhile would shift.
            before = generation(self._netlink)
            out.rules = rules(self._netlink, family, table, name)
            lines = self._iptables(family, table, name)
            if len(lines) == 1 + len(out.rules) and generation(self._netlink) == before:
                out.iptables, out.tool = lines, self._iptables_tool(_XT_TOOLS[family])[1]
        except (OSError, IndexError):
            pass  # the chain is gone, or changes all the time
        if not out.iptables and handles - {0}:
            out.nft = self._listed(family, table, name, handles)
        return out

    def _run(self, *argv: str) -> str:
        left = self._end - monotonic()
        try:
            return commands.run(argv, left) if argv[0] and left > 0 else ""
        except CommandError:
            return ""

    def _iptables(self, family: str, table: str, chain: str) -> "list[str]":
        """The chain as iptables shows it, if this is a chain of its: the head, then each rule."""
        if family not in _XT_TOOLS or table not in _XT_TABLES or chain[:1] in ("-", "!", ""):
            return []
        tool, _ = self._iptables_tool(_XT_TOOLS[family])
        if not tool:
            return []
        return self._run(tool, "-t", table, "-S", chain).splitlines()

    def _iptables_tool(self, name: str) -> "tuple[str, str]":
        """The path of the `name` that speaks to nf_tables, "" for none, and what to call it."""
        if name not in self._xt:
            plain = commands.find(name)
            if plain and "nf_tables" not in self._run(plain, "--version"):
                plain = ""
            path = commands.find(name + "-nft") or plain
            self._xt[name] = path, name if plain else name + "-nft"
        return self._xt[name]

    def _listed(self, family: str, table: str, chain: str, handles: "set[int]") -> "dict[int, str]":
        nft = commands.find("nft")
        # nft reads its arguments as one text: a name may hold more commands.
        if not nft or not all(_plain(name) for name in (table, chain)):
            return {}
        where = ("list", "chain", family, table, chain)
        # Without what counters say (-s), or equal rules would not look it, and without the elements
        # of named sets (-t), which may be many; old versions do not know these.
        said = self._run(nft, "-ast", *where) or self._run(nft, "-a", *where)
        return listed(said, handles)


def _plain(name: str) -> bool:
    return bool(name) and name[0] in _LETTERS and _NAME.issuperset(name)


def listed(text: str, handles: "set[int]") -> "dict[int, str]":
    """The rules with these handles out of one chain as `nft -a` lists it."""
    wanted = {str(handle): handle for handle in handles}
    out = {}
    pieces: list[str] = []  # of one rule: it has several lines where a chain stands in it
    for line in text.splitlines():
        if not line.startswith("\t\t"):
            continue
        body, mark, last = line.strip().rpartition(" # handle ")
        if not mark and not pieces and not line.endswith("{"):
            continue  # the chain's type, or its comment
        pieces.append(body if mark else last)
        if mark and not line.startswith("\t\t\t"):
            if last in wanted:
                out[wanted[last]] = " ".join(pieces)
            pieces = []
    return out
