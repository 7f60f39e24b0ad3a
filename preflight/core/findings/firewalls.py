"""The change to one node's firewall, in the words of the program that owns the rule to blame.

It lets the given packets pass and nothing else. Where no command can be trusted to do that, there
is advice in words and no command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings import accept, firewalld, limits, queues
from preflight.core.findings.accept import Spot, Traffic
from preflight.core.findings.model import Change
from preflight.core.findings.owners import Manager, owner
from preflight.core.findings.remedy import (
    INVALID,
    Remedy,
    forget,
    look,
    meets,
    outgoing,
    told_apart,
    what,
)
from preflight.core.model import Family, Protocol

_NFT_FILES = (
    "To make it last, write the same rule, before the one that drops, into the file that loads "
    "this table: /etc/nftables.conf on Debian and Ubuntu, a file that /etc/sysconfig/nftables.conf "
    "includes on RHEL."
)
_IPTABLES_FILES = (
    "To make it last: `netfilter-persistent save` where iptables-persistent is installed (Debian, "
    "Ubuntu), `service {service} save` where iptables-services is (RHEL); else add the command to "
    "what sets these rules at boot."
)
_UFW_KEEPS = "ufw keeps it by itself."
_UFW_FILE = (
    "To make it last, write `{rule}` into {file}, before the line that drops, and `ufw reload`."
)
_DOCKER_KEEPS = (
    "Docker leaves the rules of DOCKER-USER alone, but nothing brings them back after a restart: "
    "add the command to what sets rules at boot."
)
_MOST_UNBANNED = 64  # addresses, by one command each
_FAIL2BAN_KEEPS = "To make it last, add the addresses to ignoreip in /etc/fail2ban/jail.local."
# Programs that write their rules anew whenever they like: what to change is not a firewall rule.
ELSEWHERE: Mapping[Manager, str] = {
    Manager.LIBVIRT: "libvirt made this rule and makes it again whenever a network starts: change "
    "the libvirt network, or let /etc/libvirt/hooks/network accept {what} before it.",
    Manager.KUBERNETES: "kube-proxy or kubelet made this rule, for packets that bear a mark or a "
    "loopback address: find what makes {what} look like that.",
    Manager.CALICO: "Calico made this rule from a policy for host endpoints: allow {what} in a "
    "GlobalNetworkPolicy, or in failsafeInboundHostPorts and failsafeOutboundHostPorts of its "
    "FelixConfiguration. Where Cilium has replaced Calico, remove the rules that it left.",
    Manager.CILIUM: "Cilium made this rule: allow {what} in a CiliumClusterwideNetworkPolicy for "
    "the nodes if its host firewall is on, or remove what a former installation left.",
}
# The same, where a rule translates addresses.
_TRANSLATORS: Mapping[Manager, str] = {
    Manager.FIREWALLD: "firewalld made this rule: `firewall-cmd --zone={zone} --list-all` shows "
    "masquerade, forward-ports and rich rules; take {what} out of them.",
    Manager.DOCKER: "Docker made this rule for a published port or a network's way out: publish "
    "another port, or an address of its own, so that it is not for {what}.",
    Manager.KUBERNETES: "kube-proxy or the portmap plugin made this rule for a Service or a "
    "hostPort: give that another port, so that it is not for {what}.",
    Manager.CALICO: "Calico made this rule for its pools (natOutgoing): take the nodes' subnets "
    "out, or remove what it left where Cilium has replaced it.",
    Manager.CILIUM: "Cilium made this rule (masquerading): give it the nodes' subnets in "
    "ipv4NativeRoutingCIDR or ip-masq-agent, or remove what a former installation left.",
}
_UFW_CHAIN = re.compile(r"ufw6?-(?P<kind>.+)")
# Chains that what `ufw allow` adds comes after.
_UFW_EARLY = re.compile(r"(before-(?!logging).+|not-local|logging-deny)")


def mend(node: str, rule: Rule, packets: Sequence[Traffic]) -> Remedy:
    """How `node` lets `packets` pass that `rule` ended; those it never meets are left out."""
    wanted = [told_apart(rule, p) for p in packets if meets(rule, p.family)]
    if not wanted:
        return Remedy()
    if not rule.sure or not (rule.text or rule.policy):
        return look(node, rule, wanted)
    whose = owner(rule)
    if rule.rewrites and whose.manager in _TRANSLATORS:
        told = _TRANSLATORS[whose.manager].format(zone=whose.zone or "ZONE", what=what(wanted))
        done = Remedy(advice=(f"{node}: {told}",))
    elif whose.manager is Manager.FIREWALLD:
        done = firewalld.mend(node, rule, whose, wanted)
    elif whose.manager is Manager.UFW:
        done = _ufw(node, rule, wanted)
    elif whose.manager is Manager.FAIL2BAN:
        done = _fail2ban(node, wanted)
    elif whose.manager is Manager.DOCKER:
        done = _docker(node, rule, wanted)
    elif whose.manager in ELSEWHERE:
        done = Remedy(advice=(f"{node}: {ELSEWHERE[whose.manager].format(what=what(wanted))}",))
    else:
        done = _in_place(node, rule, wanted)
    notes = tuple(_notes(node, rule, wanted)) if done.changes else ()
    return done._replace(advice=(*done.advice, *notes))


def _notes(node: str, rule: Rule, packets: Sequence[Traffic]) -> Iterator[str]:
    if rule.rewrites:
        yield (
            "Flows that a node translates already stay so as long as their packets come: "
            f"{forget(packets)} there ends that."
        )
    yield from filter(None, (limits.advice(node, rule, packets), queues.advice(node, rule)))
    if INVALID.search(rule.text):
        yield (
            f"{node}: that rule drops what belongs to no connection that the node knows: look, "
            "too, for ways there and back that differ."
        )


def _in_place(node: str, rule: Rule, packets: Sequence[Traffic]) -> Remedy:
    """An accept in the same chain: before the rule or, for a policy, at the chain's end.

    At the end, because what came to the policy has passed every rule of the chain: one that drops
    others, spoofed addresses say, keeps its say.
    """
    # A policy bears a rule's number where that rule led past the chain's end: a goto, a return.
    before = rule.handle if rule.tool == "nft" else rule.position
    if not (before or rule.policy):
        return look(node, rule, packets)
    commands = _accepts(rule, before, packets)
    if not commands:
        return look(node, rule, packets)
    tool = rule.tool.partition("-")[0]
    kept = lasting(rule.tool)
    if rule.rewrites:
        kept = kept.replace("the one that drops", "the one that translates")
    change = Change(node, tool, commands, (kept,))
    return Remedy((change,), tuple(_past_the_end(node, rule, before)))


def _accepts(rule: Rule, before: int, packets: Sequence[Traffic]) -> tuple[str, ...]:
    """A command for each of `packets`; none at all where one cannot be given."""
    spot = Spot(rule.tool, rule.family, rule.table, rule.chain, before)
    commands = [accept.in_place(spot, p) for p in packets]
    return tuple(c for c in commands if c is not None) if None not in commands else ()


def _past_the_end(node: str, rule: Rule, before: int) -> Iterator[str]:
    walked = {chain for _, table, chain in rule.path if table == rule.table}
    if rule.policy and not before and walked - {rule.chain}:
        yield (
            f"{node}: if that does not help, a goto leads past the end of {rule.chain}: put the "
            "same rule at its beginning."
        )


def lasting(tool: str) -> str:
    """How what a command has set is made to last."""
    if tool == "nft":
        return _NFT_FILES
    return _IPTABLES_FILES.format(service=tool.partition("-")[0])


def _ufw(node: str, rule: Rule, packets: Sequence[Traffic]) -> Remedy:
    """ufw's own command, or, where its own rules come first, a rule among those."""
    chain = _UFW_CHAIN.fullmatch(rule.chain)
    kind = chain["kind"] if chain else ""
    early = _UFW_EARLY.fullmatch(kind) is not None
    first = kind.startswith("user")
    if rule.hook not in ("input", "output", "") or rule.table != "filter":
        return _in_place(node, rule, packets)
    changes = []
    for p in packets:
        if p.probe.protocol is Protocol.ICMP or early:
            spot, text = _before_rules(rule, p, early=early)
            command = accept.in_place(spot, p)
            if command is None:
                return look(node, rule, packets)
            changes.append(Change(node, "ufw", (command,), (text,)))
        else:
            commands = accept.ufw(p, outgoing=outgoing(rule), first=first)
            changes.append(Change(node, "ufw", tuple(commands), (_UFW_KEEPS,)))
    return Remedy((_joined(changes),))


def _before_rules(rule: Rule, packets: Traffic, *, early: bool) -> tuple[Spot, str]:
    """Where an accept acts at once, and how it gets into ufw's file of first rules."""
    six = "6" if packets.family is Family.IPV6 else ""
    main = f"ufw{six}-before-{'output' if outgoing(rule) else 'input'}"
    tool = rule.tool if rule.tool != "nft" else f"ip{six}tables"
    if early and rule.position:
        spot = Spot(tool, rule.family, rule.table, rule.chain, rule.position)
    else:
        spot = Spot(tool, rule.family, rule.table, main, 1)
    line = f"-A {spot.chain} {accept.iptables_match(packets)} -j ACCEPT"
    return spot, _UFW_FILE.format(rule=line, file=f"/etc/ufw/before{six}.rules")


def _joined(changes: Sequence[Change]) -> Change:
    """Changes of one tool on one node as one, what they say twice said once."""
    return changes[0]._replace(
        commands=tuple(dict.fromkeys(c for change in changes for c in change.commands)),
        persist=tuple(dict.fromkeys(p for change in changes for p in change.persist)),
    )


def _fail2ban(node: str, packets: Sequence[Traffic]) -> Remedy:
    """It bans addresses, not ports: the peers' are freed."""
    networks = [ip_network(c) for p in packets for c in (p.destinations or p.sources)]
    if sum(network.num_addresses for network in networks) > _MOST_UNBANNED:
        told = f"{node}: fail2ban bans nodes: `fail2ban-client unban ADDRESS` frees one at a time."
        return Remedy(advice=(told, _FAIL2BAN_KEEPS))
    peers = dict.fromkeys(str(address) for network in networks for address in network)
    commands = tuple(f"fail2ban-client unban {peer}" for peer in peers)
    return Remedy((Change(node, "fail2ban", commands, (_FAIL2BAN_KEEPS,)),))


def _docker(node: str, rule: Rule, packets: Sequence[Traffic]) -> Remedy:
    """The chain that Docker leaves to admins, which is walked before its own."""
    if rule.tool == "nft" or rule.hook not in ("forward", "") or rule.table != "filter":
        return look(node, rule, packets)
    before = rule.position if rule.chain == "DOCKER-USER" else 1
    commands = _accepts(rule._replace(chain="DOCKER-USER"), before or 1, packets)
    if not commands:
        return look(node, rule, packets)
    return Remedy((Change(node, rule.tool.partition("-")[0], commands, (_DOCKER_KEEPS,)),))
