"""What mends a finding: commands for nodes, requests for the network's firewalls, or advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Diagnosis, FlowPattern
from preflight.core.diagnosis.hops import loop
from preflight.core.findings import advice
from preflight.core.findings.change import Facts, changes
from preflight.core.findings.hop_words import silent_hops
from preflight.core.findings.model import Block, Cause, Change, Request
from preflight.core.findings.remedy import Remedy
from preflight.core.findings.requests import requests
from preflight.core.findings.translation import borne, on_the_path
from preflight.core.findings.ttl_words import by_its_cells
from preflight.core.groups import FamilyProbe, Group
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Leg, Place
from preflight.core.naming import Naming
from preflight.core.terms import listed

_BY_THE_NETWORK = (Cause.NETWORK, Cause.INSPECTION, Cause.RATE_LIMIT, Cause.INTERCEPTED)
_IN_WORDS: Mapping[Cause, str] = {
    Cause.FLOWS: "Look for a dead link in the bundles (LACP, port channels) and for a dead next "
    "hop among equal-cost paths between these nodes, in this direction.",
    Cause.LOSS: "Look at the interface counters of every link between these nodes: errors, "
    "discards, a duplex mismatch, a full queue.",
    Cause.INSPECTION: "Exempt it from inspection: on NSX the distributed firewall and the overlay "
    "that itself speaks GENEVE, elsewhere an IPS. Or give Cilium another tunnel port "
    "(tunnelPort) that is not inspected.",
    Cause.RATE_LIMIT: "Take this traffic out of the rate limit, storm control or DoS protection "
    "between these nodes: it carries every pod's packets.",
    Cause.TRANSLATION: "Look for destination address translation (DNAT, a load balancer, a port "
    "forwarding) on the path, and exempt traffic between nodes from it.",
    Cause.INTERCEPTED: "Take this traffic out of the proxy or firewall that answers for others.",
    Cause.NOT_LISTENING: "Is Cilium's agent running there (kubectl -n kube-system get pods -o "
    "wide), and does another process or another address have the port?",
    Cause.NOT_CILIUM: "Stop whatever has the port there (ss -ltnp), so that Cilium's agent can "
    "have it, and see that the agent runs (kubectl -n kube-system get pods -o wide).",
    Cause.NOT_ANSWERING: "See whether Cilium's agent is well there (kubectl -n kube-system exec "
    "POD -- cilium-health status; its logs), who else has the port (ss -ltnp), or whether the "
    "node's own firewall ends what a connection carries (nft list ruleset, iptables-save).",
}


_USED_UP = (
    "A moment later, in the closer look, none of it got through any more. Look for what shuts once "
    "it has had its share: a limit on connections or sessions (each source port is one), a full "
    "session table, DoS protection that bans. Or a link between these nodes went down just then."
)
_THINNED = (
    "Whether a link loses them or something limits them is not known. Look at the interface "
    "counters of every link between these nodes (errors, discards, a duplex mismatch, a full "
    "queue), and for a limit on packets or on new connections (a policer, storm control, DoS "
    "protection)."
)
_TTL_RUNS_OUT = (
    "Follow the routes from there on (a loop to these destinations?), and look for what sets the "
    "TTL or the hop limit of packets on the way."
)


class Mending(NamedTuple):
    """All of it; any part may be empty."""

    changes: tuple[Change, ...] = ()
    requests: tuple[Request, ...] = ()
    advice: str = ""
    unknown: tuple[str, ...] = ()


def mend(
    matrix: Matrix,
    cause: Cause,
    group: Group,
    tests: tuple[FamilyProbe, ...],
    blocks: tuple[Block, ...],
    diagnoses: Sequence[Diagnosis],
    small: Mapping[int, int],
    blamed: tuple[int, ...],
    narrowest: int = 0,
) -> Mending:
    """What to do about one cause. `group` is the most important of its groups.

    `small` are the MTUs of destinations that take less than their sources send, `blamed` the nodes
    inside which its cells die, `narrowest` the smallest of all findings' paths in bytes.
    """
    facts = Facts.of(matrix, tests, blocks, diagnoses, blamed)
    of_rules = (Cause.NODE_FIREWALL, Cause.TRANSLATION)
    if cause is Cause.RULE or (cause in of_rules and any(d.hits for d in diagnoses)):
        return _of(changes(facts))
    if cause is Cause.KERNEL:
        parts = [
            advice.for_kernel(matrix.nodes[d.kernel_node].name, d.kernel)
            for d in diagnoses
            if d.kernel is not None and d.kernel_node is not None
        ]
        return _of(
            Remedy(
                tuple(dict.fromkeys(change for part in parts for change in part.changes)),
                tuple(dict.fromkeys(words for part in parts for words in part.advice)),
            )
        )
    if cause is Cause.SIZE:
        return _of_size(matrix, tests, blocks, diagnoses, small, narrowest)
    naming = Naming(matrix.nodes)
    who = naming.name(sum(1 << n for n in set(group.sources)))
    if cause is Cause.ROUTE:
        address = matrix.nodes[group.sample.destination].address_in(group.sample.family)
        return _of(advice.for_route(who, address or matrix.nodes[group.sample.destination].address))
    if cause is Cause.NEIGHBOUR:
        mute = {d.mute_node for d in diagnoses if d.mute_node is not None}
        if mute:
            return _of(advice.for_mute(naming.name(sum(1 << n for n in mute))))
        if group.kind.leg is Leg.REPLY:
            who = naming.name(sum(1 << n for n in set(group.destinations)))
        return _of(advice.for_neighbour(who, silent_hops(diagnoses), matrix.nodes))
    own = _own_rules(naming, cause, group, diagnoses)
    if own and cause is not Cause.NETWORK:
        return Mending(advice=own)
    return _between(matrix, cause, group, tests, blocks, diagnoses, own)


def _between(
    matrix: Matrix,
    cause: Cause,
    group: Group,
    tests: tuple[FamilyProbe, ...],
    blocks: tuple[Block, ...],
    diagnoses: Sequence[Diagnosis],
    own: str,
) -> Mending:
    """For what happens between the nodes, or where nobody knows. `own` is what nodes do to it."""
    asked: tuple[Request, ...] = ()
    around = next((turn for d in diagnoses if d.path and (turn := loop(d.path))), ())
    if cause is Cause.NETWORK and around:
        return Mending(advice=f"Correct the routes of {listed(around)} to these destinations.")
    expired = any(d.expired for d in diagnoses) or by_its_cells(group, diagnoses)
    if cause is Cause.NETWORK and expired:
        return Mending(advice=own or _TTL_RUNS_OUT)
    if cause in _BY_THE_NETWORK:
        known = borne(diagnoses, matrix.probes, tests)
        asked = requests(matrix.nodes, matrix.probes, tests, blocks, known)
    words = own or _IN_WORDS.get(cause, "")
    if cause is Cause.DATA:
        words = _of_data(Naming(matrix.nodes), group)
    flows = [d.flows.pattern for d in diagnoses if d.flows is not None]
    if cause is Cause.LOSS and FlowPattern.RANDOM not in flows:
        words = _THINNED
    if cause is Cause.LOSS and flows and set(flows) == {FlowPattern.NONE}:
        words = _USED_UP
    if cause is Cause.NETWORK and group.kind.place is None:
        words = (
            "Whether the destination itself or a firewall before it refuses is not known without "
            "an agent there: look at the destination's own firewall first."
        )
    if cause is Cause.TRANSLATION and any(d.shared_port for d in diagnoses):
        words = (
            "Look for source address translation to a fixed port on the path (SNAT, PAT), and "
            "exempt traffic between nodes from it."
        )
    if group.kind.place is Place.PATH:
        there = on_the_path(matrix.nodes, matrix.probes, tests, diagnoses)
        words = " ".join(filter(None, (words, *there.advice)))
        return Mending(there.changes, asked, words)
    return Mending(requests=asked, advice=words)


def _of_size(
    matrix: Matrix,
    tests: tuple[FamilyProbe, ...],
    blocks: tuple[Block, ...],
    diagnoses: Sequence[Diagnosis],
    small: Mapping[int, int],
    narrowest: int,
) -> Mending:
    """For packets that are lost for their size, or for their DF bit."""
    lengths = next((d.lengths for d in diagnoses if d.lengths is not None), None)
    if lengths is not None:
        asked = requests(matrix.nodes, matrix.probes, tests, blocks)
        return Mending(requests=asked, advice=advice.for_lengths(lengths))
    families: list[Family] = [test.family for test in tests]
    unlike = Naming(matrix.nodes).name(sum(1 << n for n in small)) if small else ""
    found = _at_most(diagnoses, small)
    return _of(advice.for_size(found, families, narrowest=narrowest, unlike=unlike))


def marks_itself(diagnosis: Diagnosis) -> bool:
    """Whether the node itself gives its packets what they may die of on the path."""
    return diagnosis.marking is not None and diagnosis.marking.dropped is not False


def expires_by_source(diagnosis: Diagnosis) -> bool:
    """Whether the node itself sends its packets with too low a TTL."""
    return diagnosis.expired is not None and diagnosis.expired.by_source


def _own_rules(naming: Naming, cause: Cause, group: Group, diagnoses: Sequence[Diagnosis]) -> str:
    """Where it is a node's own rules that lead packets elsewhere; else nothing."""
    if cause is Cause.INTERCEPTED and group.kind.place is Place.DESTINATION:
        who = naming.name(sum(1 << n for n in set(group.destinations)))
        return (
            f"{who}: look in its nat and mangle rules (nft list ruleset, iptables-save -t "
            "nat) for a redirect, DNAT or TPROXY that takes this port elsewhere."
        )
    if cause is Cause.INTERCEPTED and group.kind.place is Place.SOURCE:
        who = naming.name(sum(1 << n for n in set(group.sources)))
        return (
            f"{who}: this never leaves it, and something there answers: look for a local route to "
            "the destination (ip route show table local), and in its nat rules for what leaves it "
            "(nft list ruleset, iptables-save -t nat: OUTPUT) for a redirect or DNAT."
        )
    if cause is Cause.NETWORK and any(map(expires_by_source, diagnoses)):
        who = naming.name(sum(1 << n for n in set(group.sources)))
        return (
            f"{who}: look in its own rules for what sets the TTL or the hop limit of what leaves "
            "it (nft list ruleset, iptables-save -t mangle, tc filter show), and except the nodes."
        )
    if cause is Cause.NETWORK and any(map(marks_itself, diagnoses)):
        who = naming.name(sum(1 << n for n in set(group.sources)))
        return (
            f"{who}: look in its own rules for what sets DSCP on what leaves it (nft list ruleset, "
            "iptables-save -t mangle, tc filter show), and except the nodes; or have the network "
            "let through what is so marked."
        )
    if cause is Cause.TRANSLATION and any(d.readdressed for d in diagnoses):
        who = naming.name(sum(1 << n for n in set(group.sources)))
        return (
            f"{who}: look in its own nat rules for what leaves it (nft list ruleset, iptables-save "
            "-t nat: OUTPUT) for a DNAT or redirect of this port, and except the nodes."
        )
    return ""


def _of_data(naming: Naming, group: Group) -> str:
    """For connections that carry nothing."""
    if group.kind.place in (Place.SOURCE, Place.DESTINATION):
        inside = group.sources if group.kind.place is Place.SOURCE else group.destinations
        who = naming.name(sum(1 << n for n in set(inside)))
        return (
            f"{who}: look in its own firewall (nft list ruleset, iptables-save) for rules that a "
            "SYN does not meet: on established connections, on content, on source ports."
        )
    return (
        "Look for what inspects connections on the way (an application firewall, an IPS, a proxy) "
        "and for rules that a SYN does not meet: let HTTP between nodes on this port through."
    )


def _at_most(diagnoses: Sequence[Diagnosis], small: Mapping[int, int]) -> list[Diagnosis]:
    """Some drivers take a few bytes more than their device's MTU, which nobody may rely on."""
    most = min(small.values(), default=0)
    return [
        d._replace(size=d.size._replace(largest=min(d.size.largest, most)))
        if most and d.size is not None
        else d
        for d in diagnoses
    ]


def _of(remedy: Remedy) -> Mending:
    return Mending(changes=remedy.changes, advice=" ".join(remedy.advice))
