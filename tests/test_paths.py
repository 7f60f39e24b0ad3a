"""What is wrong between and around firewalls: routes, neighbours, loss, size, liars, odd nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from scenarios import (
    HOOKS,
    NO_AGENT,
    OPEN,
    PROBES,
    Expected,
    Rule,
    Spot,
    Told,
    address,
    assert_matrix,
    blocked,
    change,
    check,
    gateway,
    ip_commands,
    ip_match,
    load,
    lossy,
    match,
    probe_match,
    spots,
    sysctl,
    told,
)
from scenarios_actors import RST_ACK, SYN_ACK, answering_syns, listening, witness, xdp_drop

from preflight.core.findings.model import Cause as Blame
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    AgentState,
    Cause,
    Connection,
    Family,
    Leg,
    Place,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.lab import Lab
from preflight.lab.topology import ROUTER, LabNode

pytestmark = pytest.mark.lab

FORWARD, REPLY = Leg.FORWARD, Leg.REPLY
SOURCE, PATH, DESTINATION = Place.SOURCE, Place.PATH, Place.DESTINATION
NO_ANSWER_LEAVES = blocked(REPLY, DESTINATION, Cause.DROPPED)
IPV4, IPV6 = (Family.IPV4,), (Family.IPV6,)
ANSWERED = (HEALTH, ECHO)


def ip(family: Family) -> str:
    """iproute2's option."""
    return "-4" if family is Family.IPV4 else "-6"


def routes_to(where: str, kind: str, *targets: LabNode) -> Iterator[tuple[str, str, str]]:
    """Commands that give `where` a route of `kind` to these nodes, over both families."""
    for target in targets:
        for family in Family:
            route = f"route add {kind} {address(target, family)}"
            yield where, f"{ip(family)} {route}", f"{ip(family)} {route.replace(' add ', ' del ')}"


# --- routes ------------------------------------------------------------------------------------


def test_a_source_without_a_route_is_told_and_so_is_who_cannot_answer(lab4: Lab) -> None:
    """One peer each is unreachable, prohibited, black-holed; what it sends cannot be answered."""
    _, n2, n3, n4 = lab4.nodes
    commands = [
        *routes_to("n1", "unreachable", n3),
        *routes_to("n2", "prohibit", n4),
        *routes_to("n3", "blackhole", n2),
    ]
    with ip_commands(lab4, *commands):
        snapshot = check(lab4)
    expected: dict[Spot, Told] = {}
    for here, there in (("n1", "n3"), ("n2", "n4"), ("n3", "n2")):
        no_route = blocked(FORWARD, SOURCE, Cause.NO_ROUTE)
        expected |= dict.fromkeys(spots(lab4, here, there), no_route)
        expected |= dict.fromkeys(spots(lab4, there, here, ANSWERED), NO_ANSWER_LEAVES)
    assert_matrix(snapshot, expected)


def test_a_node_without_a_default_route_reaches_its_rack_alone(lab4: Lab) -> None:
    """n1 has lost IPv4's, n4 IPv6's; n3 filters by reverse path and has no way back to n2."""
    n1, n2, _, n4 = lab4.nodes
    defaults = [
        (node.name, f"{ip(f)} route {{}} default via {gateway(node, f)}")
        for node, f in ((n1, Family.IPV4), (n4, Family.IPV6))
    ]
    commands = [(where, c.format("del"), c.format("add")) for where, c in defaults]
    with (
        ip_commands(lab4, *commands, *routes_to("n3", "unreachable", n2)),
        sysctl(lab4, "n3", "net/ipv4/conf/eth0/rp_filter", "1"),
    ):
        snapshot = check(lab4)
    no_route = blocked(FORWARD, SOURCE, Cause.NO_ROUTE)
    expected = dict.fromkeys(spots(lab4, "n1", "n3 n4", families=IPV4), no_route)
    expected |= dict.fromkeys(spots(lab4, "n3 n4", "n1", ANSWERED, IPV4), NO_ANSWER_LEAVES)
    expected |= dict.fromkeys(spots(lab4, "n4", "n1 n2", families=IPV6), no_route)
    expected |= dict.fromkeys(spots(lab4, "n1 n2", "n4", ANSWERED, IPV6), NO_ANSWER_LEAVES)
    expected |= dict.fromkeys(spots(lab4, "n3", "n2"), no_route)
    expected |= dict.fromkeys(spots(lab4, "n2", "n3", ANSWERED, IPV6), NO_ANSWER_LEAVES)
    filtered = blocked(FORWARD, DESTINATION, Cause.DROPPED)
    expected |= dict.fromkeys(spots(lab4, "n2", "n3", families=IPV4), filtered)
    assert_matrix(snapshot, expected)


# --- neighbours --------------------------------------------------------------------------------


def deaf_to(node: LabNode, peer: LabNode) -> Iterator[Rule]:
    """`node` hears none of `peer`'s ARP and neighbour discovery."""
    yield Rule(node.name, "arp input", f"arp saddr ip {address(peer, Family.IPV4)} drop")
    talk = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
    yield Rule(node.name, "input", f"ip6 saddr {address(peer, Family.IPV6)} {talk} drop")


def forget_neighbours(lab: Lab, *where: str) -> None:
    for name in where:
        lab.run(name, "ip", "neigh", "flush", "dev", "eth0")


def test_a_next_hop_that_does_not_answer_is_not_the_sources_fault(lab4: Lab) -> None:
    n1, n2, *_ = lab4.nodes
    load(lab4, [*deaf_to(n1, n2), *deaf_to(n2, n1)])
    forget_neighbours(lab4, "n1", "n2")
    snapshot = check(lab4)
    silent = blocked(FORWARD, PATH, Cause.NO_NEIGHBOUR)
    assert_matrix(
        snapshot,
        dict.fromkeys([*spots(lab4, "n1", "n2"), *spots(lab4, "n2", "n1")], silent),
    )


def test_a_node_whose_cable_is_pulled_has_no_neighbours(lab4: Lab) -> None:
    """Its management network still carries the agent; others know its MAC address from before."""
    assert_matrix(check(lab4), {})
    with ip_commands(lab4, (ROUTER, "link set n4 down", "link set n4 up")):
        snapshot = check(lab4)
    expected = dict.fromkeys(spots(lab4, "n4"), blocked(FORWARD, PATH, Cause.NO_NEIGHBOUR))
    expected |= dict.fromkeys(spots(lab4, "n1 n2 n3", "n4"), blocked(FORWARD, PATH, Cause.DROPPED))
    assert_matrix(snapshot, expected)


def test_an_address_that_is_not_on_its_node_costs_that_node_alone(lab4: Lab) -> None:
    """Nobody has the address given for n2: its rack finds no neighbour, the others cannot tell."""
    nobody = address(lab4.node("n2"), Family.IPV4).removesuffix("12") + "99"
    snapshot = check(lab4, among=change("n2", addresses=(nobody,)))
    expected = dict.fromkeys(spots(lab4, "n1 n3 n4", "n2", families=IPV4), NO_AGENT)
    expected |= dict.fromkeys(spots(lab4, "n2", "n1 n3 n4", families=IPV4), NO_AGENT)
    silent = blocked(FORWARD, PATH, Cause.NO_NEIGHBOUR)
    expected |= dict.fromkeys(spots(lab4, "n1", "n2", families=IPV4), silent)
    assert_matrix(snapshot, expected)
    states = {n.name: a for n, a in zip(snapshot.matrix.nodes, snapshot.agents, strict=True)}
    assert states["n2"].state is AgentState.WRONG_ADDRESS
    assert nobody in (states["n2"].reason or "")
    assert {a.state for name, a in states.items() if name != "n2"} == {AgentState.OK}


def test_an_address_that_is_not_on_its_node_costs_that_family_alone(lab4: Lab) -> None:
    four = address(lab4.node("n2"), Family.IPV4)
    nobody = address(lab4.node("n2"), Family.IPV6) + "99"
    snapshot = check(lab4, among=change("n2", addresses=(four, nobody)))
    expected = dict.fromkeys(spots(lab4, "n1 n3 n4", "n2", families=IPV6), NO_AGENT)
    expected |= dict.fromkeys(spots(lab4, "n2", "n1 n3 n4", families=IPV6), NO_AGENT)
    silent = blocked(FORWARD, PATH, Cause.NO_NEIGHBOUR)
    expected |= dict.fromkeys(spots(lab4, "n1", "n2", families=IPV6), silent)
    assert_matrix(snapshot, expected)
    assert {agent.state for agent in snapshot.agents} == {AgentState.OK}
    assert not any(nobody in note for note in snapshot.notes)  # the finding says it
    (one,) = snapshot.findings
    assert one.title == f"n2 does not have its own address {nobody}"


# --- loss --------------------------------------------------------------------------------------

# A cell in a thousand of 30 % loss, and three of one dead flow in four by a hash, look clean.
MOST_UNNOTICED = 2


def between_racks(what: str) -> Iterator[Rule]:
    """The same rule for both directions through the router, each with a state of its own."""
    for here, there in (("rack-a", "rack-b"), ("rack-b", "rack-a")):
        yield Rule(ROUTER, "forward", f'iifname "{here}" oifname "{there}" {what}')


def inside_racks(lab: Lab, what: str) -> Iterator[Rule]:
    """A rule in every node's own firewall for what comes from its neighbour in the rack."""
    for source in lab.nodes:
        for destination in lab.nodes:
            if source is not destination and source.rack == destination.rack:
                for family in Family:
                    ends = ip_match(address(source, family), address(destination, family))
                    yield Rule(destination.name, "input", f"{ends} {what}")


def on_the_router_and_in_nodes(lab: Lab, verdict: Callable[..., Told], cause: Cause) -> Expected:
    """What to expect of GENEVE where both of the above meet it."""
    racks = {node.name: node.rack for node in lab.nodes}
    return {
        spot: verdict(
            FORWARD, DESTINATION if racks[spot.source] == racks[spot.destination] else PATH, cause
        )
        for spot in spots(lab, probes=(GENEVE,))
    }


def assert_lossy(snapshot: Snapshot, expected: Expected, unnoticed: int) -> None:
    """As `assert_matrix`, but for so many cells at most that had the luck to lose nothing."""
    cells = told(snapshot)
    lucky = {spot for spot in expected if cells[spot][0] == OPEN}
    assert len(lucky) <= unnoticed
    assert_matrix(snapshot, {s: t for s, t in expected.items() if s not in lucky})


LOSSES = {
    "thirty percent random loss": ("numgen random mod 100 < 30 drop", MOST_UNNOTICED),
    "one dead flow in four, by the low bits of its port": ("udp sport & 3 == 1 drop", 0),
    "one dead flow in four, by a hash": ("jhash udp sport mod 4 seed 0x5eed == 1 drop", 2),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_partial_loss_of_geneve_is_lossy_and_placed(lab4: Lab, loss: str) -> None:
    statement, unnoticed = LOSSES[loss]
    what = f"{probe_match(GENEVE, Family.IPV4)} {statement}"
    load(lab4, [*between_racks(what), *inside_racks(lab4, what)])
    assert_lossy(check(lab4), on_the_router_and_in_nodes(lab4, lossy, Cause.DROPPED), unnoticed)


def test_a_rate_limit_for_each_pair_is_lossy(lab4: Lab) -> None:
    """The first few packets of every pair pass, as a policer's bucket lets them."""
    limit = "limit rate over 20/second burst 5 packets drop"
    what = f"{probe_match(GENEVE, Family.IPV4)} {limit}"
    meters = {
        family: f"{ip_} saddr . {ip_} daddr"
        for family, ip_ in ((Family.IPV4, "ip"), (Family.IPV6, "ip6"))
    }
    chain = "".join(
        f"        {probe_match(GENEVE, f)} meter m_{f} {{ {key} {limit.removesuffix(' drop')} }} "
        "drop\n"
        for f, key in meters.items()
    )
    lab4.nft(ROUTER, f"table inet police {{ chain c {{ {HOOKS['forward'][1]};\n{chain}}}\n}}\n")
    load(lab4, inside_racks(lab4, what))
    assert_matrix(check(lab4), on_the_router_and_in_nodes(lab4, lossy, Cause.DROPPED))


def test_loss_on_one_leg_of_an_answered_probe_is_told_from_the_other(lab4: Lab) -> None:
    every_second = "numgen inc mod 2 == 0 drop"
    cases = (
        # (where the rule is, hook, leg that it meets, pair, place)
        ("n1", "egress", FORWARD, "n1 n2", SOURCE),
        (ROUTER, "forward", FORWARD, "n1 n3", PATH),
        ("n4", "input", FORWARD, "n1 n4", DESTINATION),
        ("n1", "output", REPLY, "n2 n1", DESTINATION),
        (ROUTER, "forward", REPLY, "n2 n3", PATH),
        ("n2", "input", REPLY, "n2 n4", SOURCE),
    )
    rules, expected = [], {}
    for where, hook, leg, pair, place in cases:
        source, destination = map(lab4.node, pair.split())
        for probe in ANSWERED:
            for family in Family:
                packets = match(source, destination, probe, family, leg)
                rules.append(Rule(where, hook, f"{packets} {every_second}"))
                spot = Spot(source.name, destination.name, probe.name, family)
                expected[spot] = lossy(leg, place, Cause.DROPPED)
    load(lab4, rules)
    assert_matrix(check(lab4), expected)


def test_loss_at_the_sources_own_device_is_lossy(lab4: Lab) -> None:
    """The kernel tells a socket of it (ENOBUFS), and Cilium's tunnel device would lose as much."""
    rules, expected = [], {}
    n3, n4 = lab4.node("n3"), lab4.node("n4")
    for family in Family:
        packets = match(n3, n4, GENEVE, family)
        rules.append(Rule("n3", "egress", f"{packets} numgen inc mod 10 < 3 drop"))
        expected[Spot("n3", "n4", "geneve", family)] = lossy(FORWARD, SOURCE, Cause.DROPPED)
    load(lab4, rules)
    assert_matrix(check(lab4), expected)


def test_a_rule_that_wants_high_source_ports_loses_some_flows(lab4: Lab) -> None:
    """The kernel's GENEVE draws its source port from 1 to 65535."""
    high_ports = f"{probe_match(GENEVE, Family.IPV4)} udp sport < 1024 drop"
    load(lab4, inside_racks(lab4, high_ports))
    racks = {node.name: node.rack for node in lab4.nodes}
    expected = {
        spot: lossy(FORWARD, DESTINATION, Cause.DROPPED)
        for spot in spots(lab4, probes=(GENEVE,))
        if racks[spot.source] == racks[spot.destination]
    }
    assert_matrix(check(lab4), expected)


# --- size --------------------------------------------------------------------------------------

TOO_BIG = lossy(FORWARD, PATH, Cause.SIZE)
BLACK_HOLE = (
    Rule(ROUTER, "output", "icmp type destination-unreachable icmp code frag-needed drop"),
    Rule(ROUTER, "output", "icmpv6 type packet-too-big drop"),
)


@contextmanager
def forgotten_paths(lab: Lab) -> Iterator[None]:
    """What nodes learn of their paths' MTUs is forgotten afterwards."""
    try:
        yield
    finally:
        for node in lab.nodes:
            for family in Family:
                lab.run(node.name, "ip", ip(family), "route", "flush", "cache")


@contextmanager
def mtu(lab: Lab, device: str, size: int) -> Iterator[None]:
    """Another MTU for a device of the router."""
    set_to = f"link set {device} mtu {{}}".format
    narrowed = (ROUTER, set_to(size), set_to(lab.plan.mtu))
    with forgotten_paths(lab), ip_commands(lab, narrowed):
        yield


@pytest.mark.parametrize("silent", [False, True], ids=["told", "black hole"])
def test_a_router_with_a_smaller_mtu_loses_full_size_packets(lab4: Lab, silent: bool) -> None:
    """Rack b's segment takes 1400 bytes; the router says so, or a firewall swallows that too."""
    load(lab4, BLACK_HOLE if silent else ())
    with mtu(lab4, "rack-b", 1400):
        assert_matrix(check(lab4), dict.fromkeys(spots(lab4, "n1 n2", "n3 n4", (GENEVE,)), TOO_BIG))


def test_a_switch_port_with_a_smaller_mtu_loses_full_size_packets(lab4: Lab) -> None:
    """A bridge takes its smallest port's MTU: n2's port also narrows the router's way into rack a.

    Inside the rack frames are lost without a word.
    """
    with mtu(lab4, "n2", 1400):
        snapshot = check(lab4)
    pairs = [("n2", ""), ("n1", "n2"), ("n3 n4", "n1 n2")]
    expected = {spot: TOO_BIG for s, d in pairs for spot in spots(lab4, s, d, (GENEVE,))}
    assert_matrix(snapshot, expected)


def test_nodes_of_different_mtus_lose_full_size_packets(lab4: Lab) -> None:
    """n1 sends jumbo frames into a network of 1500 bytes, n3 takes no more than 1400."""
    with (
        forgotten_paths(lab4),
        ip_commands(
            lab4,
            ("n1", "link set eth0 mtu 9000", "link set eth0 mtu 1500"),
            ("n3", "link set eth0 mtu 1400", "link set eth0 mtu 1500"),
        ),
    ):
        snapshot = check(lab4)
    pairs = [("n1", "n2 n3 n4"), ("n2 n4", "n3")]
    expected = {spot: TOO_BIG for s, d in pairs for spot in spots(lab4, s, d, (GENEVE,))}
    assert_matrix(snapshot, expected)


def test_a_filter_by_length_is_about_size(lab4: Lab) -> None:
    by_length = "udp length > 1300 drop"
    load(lab4, [*between_racks(by_length), *inside_racks(lab4, by_length)])
    assert_matrix(check(lab4), on_the_router_and_in_nodes(lab4, lossy, Cause.SIZE))


# --- liars -------------------------------------------------------------------------------------

INTERCEPTED = blocked(FORWARD, PATH, Cause.INTERCEPTED)


def dnat(family: Family, target: str) -> str:
    return f"dnat ip to {target}" if family is Family.IPV4 else f"dnat ip6 to {target}"


def test_answers_from_elsewhere_are_never_open(lab4: Lab) -> None:
    """Translated on the router: to the router itself, to another node with and without a server."""
    n1, n2, n3, n4 = lab4.nodes
    rules, expected = [], {}
    for family in Family:
        rejected = blocked(FORWARD, PATH, Cause.REJECTED)
        in_n1s_name = rejected._replace(rejected_by=address(n1, family))
        cases = (
            (n1, n3, HEALTH, dnat(family, gateway(n1, family)), INTERCEPTED),
            (n1, n4, HEALTH, dnat(family, address(n3, family)), INTERCEPTED),
            (n2, n3, HEALTH, dnat(family, address(n4, family)), rejected),
            (n2, n4, ECHO, dnat(family, gateway(n2, family)), INTERCEPTED),
            (n4, n2, ECHO, dnat(family, address(n1, family)), INTERCEPTED),
            (n4, n1, GENEVE, dnat(family, address(n2, family)), in_n1s_name),
        )
        for source, destination, probe, statement, outcome in cases:
            packets = match(source, destination, probe, family)
            rules.append(Rule(ROUTER, "dnat", f"{packets} {statement}"))
            expected[Spot(source.name, destination.name, probe.name, family)] = outcome
    load(lab4, rules)
    with listening(lab4, ROUTER, "n3"):
        assert_matrix(check(lab4), expected)


def test_a_syn_proxy_answers_in_the_servers_place(lab4: Lab) -> None:
    n1, n3 = lab4.node("n1"), lab4.node("n3")
    packets = match(n1, n3, HEALTH, Family.IPV4)
    load(
        lab4,
        [
            Rule(ROUTER, "prerouting", f"{packets} tcp flags syn notrack"),
            Rule(ROUTER, "forward", f"{packets} ct state untracked synproxy mss 1460 wscale 7"),
        ],
    )
    with listening(lab4, "n3"):
        assert_matrix(
            check(lab4), dict.fromkeys(spots(lab4, "n1", "n3", (HEALTH,), IPV4), INTERCEPTED)
        )


def test_answers_injected_after_the_syn_has_passed_are_told_from_true_ones(lab4: Lab) -> None:
    """The router drops the true answer and sends one of the other kind in the target's name.

    n3 serves the port, so its SYN-ACK becomes an RST; n4 does not, so its RST becomes a SYN-ACK.
    To n2 both the true SYN-ACK and the RST come.
    """
    n1, n2, n3, n4 = lab4.nodes
    cases = (
        (n1, n3, RST_ACK, Cause.REJECTED, "drop"),
        (n2, n4, SYN_ACK, Cause.INTERCEPTED, "drop"),
        (n2, n3, RST_ACK, Cause.REJECTED, "accept"),
    )
    rules, lies, expected = [], {}, {}
    for source, destination, flags, cause, truth in cases:
        for family in Family:
            answers = match(source, destination, HEALTH, family, REPLY)
            rules.append(Rule(ROUTER, "forward", f"{answers} {truth}"))
            lies[address(source, family), address(destination, family)] = flags
            spot = Spot(source.name, destination.name, HEALTH.name, family)
            expected[spot] = blocked(REPLY, PATH, cause)
    load(lab4, rules)
    with listening(lab4, "n3"), answering_syns(lab4, ROUTER, lies):
        snapshot = check(lab4)
    for spot, (found, _) in told(snapshot).items():
        # A look ends with the last true answer: the lie about that one may come too late.
        if spot[:3] == ("n2", "n3", HEALTH.name) and found.verdict is Verdict.LOSSY:
            expected[spot] = lossy(REPLY, PATH, Cause.REJECTED)
    assert_matrix(snapshot, expected)


def test_a_translated_source_is_open_and_noted(lab4: Lab) -> None:
    """The router hides n3 from n1: what comes is n3's, and rules by source address must know."""
    n1, n3 = lab4.node("n1"), lab4.node("n3")
    load(
        lab4,
        [
            Rule(ROUTER, "snat", f"{ip_match(address(n3, f), address(n1, f))} masquerade")
            for f in Family
        ],
    )
    snapshot = check(lab4)
    assert_matrix(snapshot, {})
    assert {finding.cause for finding in snapshot.findings} == {Blame.TRANSLATION}
    titles = {
        f"n3: tunnel packets are translated on the path, {gateway(n1, f)} instead of "
        f"{address(n3, f)}"
        for f in Family
    }
    assert {finding.title for finding in snapshot.findings} == titles
    assert all("seen so by n1" in finding.evidence for finding in snapshot.findings)
    assert snapshot.notes == []


ISN = 0x10203040


def test_what_a_path_rewrites_is_no_loss(lab4: Lab) -> None:
    """TTL, DSCP, and a SYN's sequence number, as firewalls do that draw their own."""
    rules = []
    for family, header, hops in ((Family.IPV4, "ip", "ttl"), (Family.IPV6, "ip6", "hoplimit")):
        for probe in PROBES:
            packets = f"meta nfproto {family} {probe_match(probe, family)}"
            rules += [
                Rule(ROUTER, "forward", f"{packets} {header} {hops} set 3"),
                Rule(ROUTER, "forward", f"{packets} {header} dscp set cs6"),
            ]
            if probe is HEALTH:
                rules.append(Rule(ROUTER, "forward", f"{packets} tcp sequence set {ISN:#x}"))
    load(lab4, rules)
    with witness(lab4, "n1") as seen:
        snapshot = check(lab4)
    assert_matrix(snapshot, {})
    rewritten = [data for data, _ in seen if data[0] == 0x45 and data[8] == 3]
    assert {data[9] for data in rewritten} == {1, 6, 17}
    assert {data[1] >> 2 for data in rewritten} == {48}
    assert {data[24:28] for data in rewritten if data[9] == 6} == {ISN.to_bytes(4, "big")}


# --- echo --------------------------------------------------------------------------------------


def test_a_node_that_ignores_echo_requests_is_told_by_its_sysctl(lab4: Lab) -> None:
    with (
        sysctl(lab4, "n2", "net/ipv4/icmp_echo_ignore_all", "1"),
        sysctl(lab4, "n3", "net/ipv6/icmp/echo_ignore_all", "1"),
    ):
        snapshot = check(lab4)
    ignored = blocked(REPLY, DESTINATION, Cause.ECHO_IGNORED)
    expected = dict.fromkeys(spots(lab4, "", "n2", (ECHO,), IPV4), ignored)
    expected |= dict.fromkeys(spots(lab4, "", "n3", (ECHO,), IPV6), ignored)
    assert_matrix(snapshot, expected)


def test_an_error_about_an_answer_is_not_laid_to_the_way_there(lab4: Lab) -> None:
    """The router rejects n3's echo replies to n1; n3's own requests n1's firewall drops."""
    n1, n3 = lab4.node("n1"), lab4.node("n3")
    rules, expected = [], {}
    for family in Family:
        answers = match(n1, n3, ECHO, family, REPLY)
        rules += [
            Rule(ROUTER, "forward", f"{answers} reject with icmpx admin-prohibited"),
            Rule("n1", "input", f"{match(n3, n1, ECHO, family)} drop"),
        ]
        expected[Spot("n1", "n3", "echo", family)] = blocked(REPLY, PATH, Cause.DROPPED)
        expected[Spot("n3", "n1", "echo", family)] = blocked(FORWARD, DESTINATION, Cause.DROPPED)
    load(lab4, rules)
    assert_matrix(check(lab4), expected)


# --- one-sided ---------------------------------------------------------------------------------

PROHIBITED = "reject with icmpx admin-prohibited"


def test_without_an_agent_there_only_positive_evidence_blocks(lab4: Lab) -> None:
    """n3 and n4 have no agent: what n1 and n2 cannot know of them is unknown."""
    n1, n2, n3, n4 = lab4.nodes
    rules, expected = [], dict.fromkeys(spots(lab4, "", "n3 n4"), NO_AGENT)
    expected |= dict.fromkeys(spots(lab4, "n3 n4"), NO_AGENT)
    for family in Family:
        by_router = {n: (PATH, Cause.REJECTED, gateway(n, family)) for n in (n1, n2)}
        cases = (
            ("n1", "output", n1, n3, GENEVE, "drop", (SOURCE, Cause.DROPPED, None)),
            ("n1", "egress", n1, n3, HEALTH, "drop", (SOURCE, Cause.DROPPED, None)),
            (ROUTER, "forward", n2, n4, HEALTH, PROHIBITED, by_router[n2]),
            (ROUTER, "forward", n1, n4, GENEVE, PROHIBITED, by_router[n1]),
            (ROUTER, "forward", n2, n3, ECHO, "drop", None),
            (ROUTER, "forward", n2, n3, GENEVE, "reject", None),  # as a closed port does
            (ROUTER, "forward", n2, n3, HEALTH, "reject with tcp reset", None),
            ("n4", "input", n2, n4, GENEVE, "reject", None),
        )
        for where, hook, source, destination, probe, statement, known in cases:
            packets = match(source, destination, probe, family)
            rules.append(Rule(where, hook, f"{packets} {statement}"))
            if known:
                spot = Spot(source.name, destination.name, probe.name, family)
                expected[spot] = blocked(FORWARD, *known)
    load(lab4, rules)
    assert_matrix(check(lab4, among=change("n3", "n4", connection=Connection.NONE)), expected)


def test_one_machines_own_row_tells_what_it_can(lab4: Lab) -> None:
    """`--local n1`: no route to n3, no neighbour n2, and nothing to be known of n4."""
    n1, n2, n3, _ = lab4.nodes
    load(lab4, deaf_to(n2, n1))
    forget_neighbours(lab4, "n1", "n2")
    with ip_commands(lab4, *routes_to("n1", "unreachable", n3)):
        snapshot = check(lab4, CheckOptions(local="n1"))
    expected = dict.fromkeys(spots(lab4), NO_AGENT)
    silent = blocked(FORWARD, PATH, Cause.NO_NEIGHBOUR)
    expected |= dict.fromkeys(spots(lab4, "n1", "n2"), silent)
    no_route = blocked(FORWARD, SOURCE, Cause.NO_ROUTE)
    expected |= dict.fromkeys(spots(lab4, "n1", "n3"), no_route)
    assert_matrix(snapshot, expected)


# --- other nodes than the lab's ----------------------------------------------------------------


def move_addresses(node: LabNode, device: str) -> Iterator[tuple[str, str, str]]:
    """Commands that move a node's addresses and default routes from eth0 to `device`."""
    for family, interface in zip(Family, node.interfaces, strict=True):
        yield node.name, f"addr del {interface} dev eth0", ""
        nodad = " nodad" if family is Family.IPV6 else ""
        yield node.name, f"addr add {interface} dev {device}{nodad}", ""
        yield node.name, f"{ip(family)} route replace default via {gateway(node, family)}", ""


@pytest.fixture
def stacked(lab_name: Callable[[], str]) -> Iterator[Lab]:
    """n1's addresses are on a bridge over eth0, n2's on a macvlan over eth0; n3 is plain."""
    with Lab.up(lab_name(), nodes=3, racks=1) as lab, ExitStack() as stack:
        n1, n2, _ = lab.nodes
        commands = [
            ("n1", f"link add br0 address {n1.mac} type bridge", ""),
            ("n1", "link set eth0 master br0", ""),
            ("n1", "link set br0 up", ""),
            *move_addresses(n1, "br0"),
            ("n2", "link add mac0 link eth0 type macvlan mode bridge", ""),
            ("n2", "link set mac0 up", ""),
            *move_addresses(n2, "mac0"),
        ]
        stack.enter_context(ip_commands(lab, *commands))
        yield lab


def test_what_a_stacked_device_sends_has_not_left_yet(stacked: Lab) -> None:
    """Each packet passes two taps at n1 and n2; what dies between them died inside the node."""
    assert_matrix(check(stacked), {})
    n1, n2, n3 = stacked.nodes
    cases = (
        ("n1", "bridge output", n1, n2, GENEVE, FORWARD, SOURCE),
        ("n1", "bridge output", n1, n3, HEALTH, FORWARD, SOURCE),
        ("n1", "bridge output", n3, n1, ECHO, REPLY, DESTINATION),
        ("n1", "bridge input", n3, n1, GENEVE, FORWARD, DESTINATION),
        ("n1", "bridge input", n1, n3, ECHO, REPLY, SOURCE),
        ("n2", "egress", n2, n3, GENEVE, FORWARD, SOURCE),
        ("n2", "egress", n3, n2, HEALTH, REPLY, DESTINATION),
        ("n2", "input", n3, n2, ECHO, FORWARD, DESTINATION),
    )
    rules, expected = [], {}
    for where, hook, source, destination, probe, leg, place in cases:
        for family in Family:
            packets = match(source, destination, probe, family, leg)
            rules.append(Rule(where, hook, f"{packets} drop"))
            spot = Spot(source.name, destination.name, probe.name, family)
            expected[spot] = blocked(leg, place, Cause.DROPPED)
    load(stacked, rules)
    assert_matrix(check(stacked), expected)


def test_what_a_driver_drops_before_any_tap_was_lost_on_the_path(lab4: Lab) -> None:
    """An XDP program on n4 drops IPv6: `path` includes what no tap at the ends can see."""
    assert_matrix(check(lab4), {})  # n4 knows its neighbours' MAC addresses from then on
    with xdp_drop(lab4, "n4", 0x86DD):
        snapshot = check(lab4)
    lost = blocked(FORWARD, PATH, Cause.DROPPED)
    expected = dict.fromkeys(spots(lab4, "n1 n2 n3", "n4", families=IPV6), lost)
    answers_lost = blocked(REPLY, PATH, Cause.DROPPED)
    expected |= dict.fromkeys(spots(lab4, "n4", "", ANSWERED, IPV6), answers_lost)
    assert_matrix(snapshot, expected)


def test_an_address_on_the_loopback_device_is_open_and_noted(lab4: Lab) -> None:
    """n1's inventory address is a routed one, as with BGP; its kernel sends GENEVE from eth0's."""
    n1 = lab4.node("n1")
    own = {Family.IPV4: "198.19.255.1", Family.IPV6: "fd70:7265:666c:ff::1"}
    commands = []
    for family, routed in own.items():
        route = f"{ip(family)} route {{}} {routed} via {address(n1, family)}".format
        commands += [
            ("n1", f"addr add {routed} dev lo", f"addr del {routed} dev lo"),
            (ROUTER, route("add"), route("del")),
            ("n2", route("add"), route("del")),
        ]
    with ip_commands(lab4, *commands):
        snapshot = check(lab4, among=change("n1", addresses=tuple(own.values())))
    assert_matrix(snapshot, {})
    titles = [finding.title for finding in snapshot.findings]
    assert titles == [
        f"n1 sends tunnel packets from {address(n1, f)}, not from {own[f]}" for f in Family
    ]
