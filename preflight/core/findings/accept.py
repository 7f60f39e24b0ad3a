"""Commands that let some packets pass, in each firewall's own words.

Names of tables, chains and zones come from nodes: whatever they hold, the shell and the tool get
them as names, or there is no command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from preflight.core.model import Family, Probe, ProbeKind, Protocol

_COMMENTS = {
    ProbeKind.GENEVE: "Cilium GENEVE",
    ProbeKind.VXLAN: "Cilium VXLAN",
    ProbeKind.HEALTH: "Cilium health",
    ProbeKind.ECHO: "Cilium health",
}
# What nft, which reads all its arguments as one text, takes for one name; iptables takes it too.
_NAME = re.compile(r"[A-Za-z_.][A-Za-z0-9_./-]{0,127}")
_XTABLES = re.compile(r"ip6?tables(-nft|-legacy)?")
_NFT_FAMILIES = frozenset({"inet", "ip", "ip6", "bridge", "netdev"})
_DISCOVERY = {"nd-neighbor-solicit": 135, "nd-neighbor-advert": 136}
_DISCOVERED = "IPv6 neighbour discovery"
_NOT_A_SYN = "tcp flags & (fin | syn | rst | ack) != syn"


class Traffic(NamedTuple):
    """Packets of one probe over one family, as one node's firewall meets them."""

    probe: Probe
    family: Family
    answers: bool  # they are the answers to the probe, not the probe itself
    sources: tuple[str, ...]  # CIDRs, as in the packets; empty: any
    destinations: tuple[str, ...]

    @property
    def comment(self) -> str:
        """What a rule made for them is called."""
        return _COMMENTS.get(self.probe.kind, "Kubernetes nodes")

    @property
    def port(self) -> int:
        """The probe's; of an answer it is the source port."""
        assert self.probe.port is not None  # only ICMP has none
        return self.probe.port


class Spot(NamedTuple):
    """Where in a firewall an accept belongs."""

    tool: str
    family: str  # of an nft table
    table: str
    chain: str
    before: int  # nft: a handle, iptables: a position; 0: at the chain's end


def is_name(text: str) -> bool:
    """Whether every tool takes `text` for one name, whatever else they could make of it."""
    return _NAME.fullmatch(text) is not None


def in_place(spot: Spot, traffic: Traffic) -> str | None:
    """The command for root's shell that puts an accept there; None where a name is not safe."""
    if not (is_name(spot.table) and is_name(spot.chain)):
        return None
    if _XTABLES.fullmatch(spot.tool):
        return _iptables(spot, traffic)
    if spot.tool == "nft" and spot.family in _NFT_FAMILIES:
        return _nft(spot, traffic)
    return None


def discovery(spot: Spot) -> tuple[str, ...]:
    """Commands that put an accept of IPv6 neighbour discovery there; none as with `in_place`."""
    if not (is_name(spot.table) and is_name(spot.chain)):
        return ()
    if _XTABLES.fullmatch(spot.tool):
        matches = (f"-p ipv6-icmp --icmpv6-type {number}" for number in _DISCOVERY.values())
        return tuple(_iptables_rule(spot, match, _DISCOVERED) for match in matches)
    if spot.tool == "nft" and spot.family in _NFT_FAMILIES:
        return (_nft_rule(spot, f"icmpv6 type {{ {', '.join(_DISCOVERY)} }}", _DISCOVERED),)
    return ()


def _nft(spot: Spot, traffic: Traffic) -> str:
    ip = "ip" if traffic.family is Family.IPV4 else "ip6"
    parts = [
        f"{ip} {side} {_set(cidrs)}"
        for side, cidrs in (("saddr", traffic.sources), ("daddr", traffic.destinations))
        if cidrs
    ]
    if traffic.probe.protocol is Protocol.ICMP:
        icmp = "icmp" if traffic.family is Family.IPV4 else "icmpv6"
        parts.append(f"{icmp} type {_echo(traffic)}")
    else:
        side = "sport" if traffic.answers else "dport"
        parts.append(f"{traffic.probe.protocol} {side} {traffic.port}")
        if traffic.answers and traffic.probe.protocol is Protocol.TCP:
            parts.append(_NOT_A_SYN)
    return _nft_rule(spot, " ".join(parts), traffic.comment)


def _nft_rule(spot: Spot, match: str, comment: str) -> str:
    rule = f'{match} accept comment "{comment}"'
    where = f"rule {spot.family} {spot.table} {spot.chain}"
    if spot.before:
        return f"nft insert {where} position {spot.before} {shlex.quote(rule)}"
    return f"nft add {where} {shlex.quote(rule)}"


def _set(cidrs: Sequence[str]) -> str:
    """Addresses as nft takes them: one as it is, several as a set."""
    return bare(cidrs[0]) if len(cidrs) == 1 else f"{{ {', '.join(map(bare, cidrs))} }}"


def _iptables(spot: Spot, traffic: Traffic) -> str:
    return _iptables_rule(spot, iptables_match(traffic), traffic.comment)


def _iptables_rule(spot: Spot, match: str, comment: str) -> str:
    place = f"-I {spot.chain} {spot.before}" if spot.before else f"-A {spot.chain}"
    return (
        f"{spot.tool} -w -t {spot.table} {place} {match}"
        f" -m comment --comment {shlex.quote(comment)} -j ACCEPT"
    )


def iptables_match(traffic: Traffic) -> str:
    """`-s 10.0.1.11,10.0.1.12 -p udp --dport 6081`."""
    sides = (("-s", traffic.sources), ("-d", traffic.destinations))
    addresses = [f"{option} {','.join(map(bare, cidrs))}" for option, cidrs in sides if cidrs]
    return " ".join((*addresses, _protocol(traffic)))


def _protocol(traffic: Traffic) -> str:
    if traffic.probe.protocol is Protocol.ICMP:
        if traffic.family is Family.IPV4:
            return f"-p icmp --icmp-type {_echo(traffic)}"
        return f"-p ipv6-icmp --icmpv6-type {_echo(traffic)}"
    side = "--sport" if traffic.answers else "--dport"
    no_syn = " ! --syn" if traffic.answers and traffic.probe.protocol is Protocol.TCP else ""
    return f"-p {traffic.probe.protocol} {side} {traffic.port}{no_syn}"


def ufw(traffic: Traffic, *, outgoing: bool, first: bool) -> Iterator[str]:
    """ufw's commands, one for each pair of CIDRs; `first` before its other rules. Not for ICMP."""
    verb = f"ufw {'prepend ' if first else ''}allow {'out ' if outgoing else ''}".rstrip()
    port = f" port {traffic.port}"
    for source, destination in _pairs(traffic):
        near, far = (port, "") if traffic.answers else ("", port)
        yield (
            f"{verb} proto {traffic.probe.protocol} from {source}{near} to {destination}{far}"
            f" comment {shlex.quote(traffic.comment)}"
        )


def rich_rules(traffic: Traffic, priority: int) -> Iterator[str]:
    """firewalld's rich rules, one for each pair of CIDRs; 0 is the priority without its name."""
    rank = f' priority="{priority}"' if priority else ""
    for source, destination in _pairs(traffic):
        yield "".join(
            (
                f'rule{rank} family="{traffic.family}"',
                f' source address="{source}"' if source != "any" else "",
                f' destination address="{destination}"' if destination != "any" else "",
                f" {_element(traffic)} accept",
            )
        )


def _element(traffic: Traffic) -> str:
    if traffic.probe.protocol is Protocol.ICMP:
        return f'icmp-type name="{_echo(traffic)}"'
    element = "source-port" if traffic.answers else "port"
    return f'{element} port="{traffic.port}" protocol="{traffic.probe.protocol}"'


def _pairs(traffic: Traffic) -> Iterator[tuple[str, str]]:
    """Source and destination of each rule, where a rule takes one of both; `any` for no matter."""
    sides = (traffic.sources or ("any",), traffic.destinations or ("any",))
    for source, destination in product(*sides):
        yield bare(source), bare(destination)


def _echo(traffic: Traffic) -> str:
    return "echo-reply" if traffic.answers else "echo-request"


def bare(cidr: str) -> str:
    """A CIDR, or its address where it holds but one."""
    address, _, length = cidr.partition("/")
    return address if length == ("128" if ":" in address else "32") else cidr
