"""What a rule of a node does to whose traffic, in words."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.core.diagnosis.trial import SOURCE, Rule, RuleHit
from preflight.core.findings import queues
from preflight.core.findings.extents import Extent, named
from preflight.core.findings.owners import owner
from preflight.core.findings.subject import Subject, answers
from preflight.core.groups import Group
from preflight.core.model import Leg, Verdict
from preflight.core.terms import plural

_RULESETS = {
    "nft": "nftables",
    "iptables": "iptables",
    "ip6tables": "ip6tables",
    "iptables-legacy": "iptables (legacy)",
    "ip6tables-legacy": "ip6tables (legacy)",
    "iptables-nft": "iptables",
    "ip6tables-nft": "ip6tables",
}


def rule_in_words(rule: Rule) -> str:
    """`nftables rule "udp dport 6081 drop" (inet filter input handle 12)`, and whose it is."""
    ruleset = _RULESETS.get(rule.tool, rule.tool)
    whose = str(owner(rule))
    if whose:
        ruleset = f"{whose}: {ruleset}"
    chain = " ".join(filter(None, (rule.family if rule.tool == "nft" else "", rule.table)))
    place = f"{chain} {rule.chain}"
    if rule.policy:
        return f"{ruleset} policy of chain {place}"
    number = f" rule {rule.position}" if rule.position else ""
    if rule.tool == "nft":
        number = f" handle {rule.handle}" if rule.handle else ""
    text = f' "{rule.text}"' if rule.text else ""
    return f"{ruleset} rule{text} ({place}{number})"


def of_rule(subject: Subject) -> str:
    """`n2 itself drops UDP 6081 from all: nftables rule ...`."""
    hit = subject.hits[0]
    group = subject.group
    verb = "sends" if hit.rule.rewrites else queues.verb(hit.rule)
    if group.kind.verdict is Verdict.LOSSY:
        verb += " some"
    what = _ended(subject, hit)
    rules = list(dict.fromkeys(rule_in_words(h.rule._replace(handle=0)) for h in subject.hits))
    more = f", and {plural(len(rules) - 1, 'rule')} more" if len(rules) > 1 else ""
    nodes = {h.node for h in subject.hits}
    told = rule_in_words(hit.rule) if len(nodes) == 1 else rules[0]
    who = f"{subject.names[hit.node]} itself {verb}"
    if forwards(hit, group):
        who = f"{subject.names[hit.node]} forwards and {verb}"
    if len(nodes) > 1:
        who = f"{subject.guilty}: each node itself {verb}"
    name = subject.names[hit.node]
    several = len(subject.extents) > 1 and not hit.rule.rewrites
    unlike = not all(_with_everybody(name, one.where) for one in subject.extents)
    if several and unlike and not (hit.of_discovery or _also_discovery(subject)):
        each = ", and ".join(_of_extent(subject, hit, one) for one in subject.extents)
        return f"{who} {each}{queues.end(hit.rule)}: {told}{more}"
    peers = ("" if several else _peers(subject, hit)) + queues.end(hit.rule)
    if hit.rule.rewrites:
        there = goes_to(hit.rule, subject.owners)
        if len({h.rule.becomes for h in subject.hits}) > 1:
            there = "elsewhere"
        peers = f"{peers.replace(' to ', ' for ', 1)} {there}"
        if hit.rule.rewrites == SOURCE:
            peers += ", and gets no answers there"
    return f"{who} {what}{peers}: {told}{more}"


def goes_to(rule: Rule, owners: Mapping[str, str]) -> str:
    """Where a rule that translates sends packets: `on to 198.51.100.7 (n4)`; or whence."""
    if rule.rewrites == SOURCE:
        return f"from {rule.becomes or 'another address'}"
    address, _, more = rule.becomes.partition(" ")
    if address in owners:
        return " ".join(filter(None, ("on to", f"{address} ({owners[address]})", more)))
    return f"on to {rule.becomes}" if rule.becomes else "elsewhere"


def _ended(subject: Subject, hit: RuleHit) -> str:
    """What the rules end; of a packet that dies for want of a neighbour, that is not itself."""
    if hit.of_discovery:
        return "IPv6 neighbour discovery"
    what = f"{subject.carried}{subject.what}"
    if hit.leg == Leg.REPLY:
        what = f"{answers(subject)}{what}"
    return f"{what}, and IPv6 neighbour discovery" if _also_discovery(subject) else what


def _also_discovery(subject: Subject) -> bool:
    hits = (hit for diagnosis in subject.diagnoses for hit in diagnosis.hits)
    return any(hit.of_discovery and hit.rule.sure for hit in hits)


def forwards(hit: RuleHit, group: Group) -> bool:
    """Whether the rule's node is another one on the way."""
    ends = {*group.sources, *group.destinations}
    return hit.node not in ends and hit.rule.hook not in ("input", "output")


def _of_extent(subject: Subject, hit: RuleHit, one: Extent) -> str:
    """`UDP 6081 from n1`: a part of what a rule ends, always with whose it is."""
    own = subject._replace(what=one.what, where=one.where)
    peers = _peers(own, hit, always=True)
    return f"{_ended(own, hit)}{peers}" if peers else named(one)


def _with_everybody(name: str, where: str) -> bool:
    """Whether it is one node's traffic with all others, in whichever direction."""
    ends = where.replace(" ↔ ", " → ").split(" → ")
    others = {"all", "all tested", f"all except {name}"}
    return len(ends) == 2 and name in ends and bool(others & set(ends))


def _peers(subject: Subject, hit: RuleHit, *, always: bool = False) -> str:
    """Whose traffic it is, where that is not everybody's."""
    group = subject.group
    there, arrow, back = subject.where.partition(" → ")
    if forwards(hit, subject.group):
        between = subject.where.replace(" ↔ ", " and ")
        return f" from {there} to {back}" if arrow else f" between {between}"
    name = subject.names[hit.node]
    ends = subject.where.split(" ↔ ")
    if always and len(ends) > 1 and name in ends and not hit.of_discovery:
        return f" to and from {ends[ends[0] == name]}"
    if not arrow or group.both_ways or hit.of_discovery:
        return ""
    if back == name and (always or there not in ("all", "all tested")):
        return f" from {there}"
    if there == name and (always or back not in ("all", "all tested")):
        return f" to {back}"
    return ""
