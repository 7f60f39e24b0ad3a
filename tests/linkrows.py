"""Scenarios of `test_links`: what is wrong with nodes' addresses, neighbour entries and routes."""

from __future__ import annotations

from faultbench import Fault, Find, Row, fw

from preflight.core.findings.model import Cause
from preflight.core.model import Family, Severity

WRONG = "02:00:00:00:aa:aa"


def _entry(where: str, of: str, device: str = "eth0", ip: str = "ip") -> Fault:
    return Fault(
        where,
        f"{ip} neigh replace {of} lladdr {WRONG} dev {device} nud permanent",
        f"{ip} neigh del {of} dev {device} 2>/dev/null || true",
    )


def _address(where: str, of: str, device: str, ip: str = "ip") -> Fault:
    nodad = " nodad" if ip != "ip" else ""
    undo = f"{ip} addr del {of} dev {device} 2>/dev/null || true"
    return Fault(where, f"{ip} addr add {of} dev {device}{nodad}", undo)


def _route(where: str, route: str, ip: str = "ip") -> Fault:
    return Fault(where, f"{ip} route add {route}", f"{ip} route del {route} 2>/dev/null || true")


def _rule(where: str, rule: str, ip: str = "ip") -> Fault:
    return Fault(where, f"{ip} rule add {rule}", f"{ip} rule del {rule} 2>/dev/null || true")


def _way(source: str, destination: str, echo: str = "ICMP echo") -> str:
    """What is lost where nothing leaves one node for another: GENEVE alone is never answered."""
    one, both = f"{source} → {destination}", f"{source} ↔ {destination}"
    return f"{one} (UDP 6081); {both} (TCP 4240 and {echo})"


ADDRESSES = (
    Row(
        "a node has another rack's address on its loopback, beside an unrelated rule",
        (_address("n3", "$n1/32", "lo"), Fault("n2", fw("input", "udp dport 6081 drop"))),
        (
            Find(
                Cause.ADDRESS,
                "n1 ↔ n3",
                6,
                (
                    "n1's address $n1 is also configured on n3",
                    "n3 has $n1/32 on lo",
                ),
                "n3",
                mends=True,
            ),
            Find(Cause.RULE, "all → n2", 3, nodes="n2", mends=True),
        ),
    ),
    Row(
        "a duplicate, and a router that drops between the racks what the duplicate spares",
        (
            _address("n2", "$n4/32", "lo"),
            Fault("fw", fw("forward", "udp dport 6081 drop")),
        ),
        (
            Find(Cause.ADDRESS, "n2 ↔ n4", 6, ("n4's address $n4 is also",), "n2", mends=True),
            Find(Cause.NETWORK, "n3 → rack=a; n1 → rack=b; n4 → n1; n2 → n3", 6, asks=4),
        ),
        after=("rack=a ↔ rack=b: the network drops UDP 6081, after $gw_a (hop 1)",),
    ),
    Row(
        "both addresses of a node, at two others",
        (
            _address("n3", "$n1/32", "lo"),
            _address("n3", "$n1_6/128", "lo", "ip -6"),
            _address("n4", "$n1/32", "lo"),
            _address("n4", "$n1_6/128", "lo", "ip -6"),
        ),
        (
            Find(
                Cause.ADDRESS,
                "n1 ↔ rack=b (UDP 6081 over IPv4, TCP 4240, ICMP echo and ICMPv6 echo); "
                "rack=b → n1 (UDP 6081 over IPv6)",
                22,
                ("also configured on rack=b",),
                "n3 n4",
                mends=True,
            ),
        ),
        family=None,
    ),
)

_LOSE = """
sysctl -qw net.ipv6.conf.eth0.accept_dad=1
ip -6 addr del $n3_6/64 dev eth0
ip -6 addr add $n3_6/64 dev eth0
for i in $(seq 100); do
    ip -6 addr show dev eth0 | grep -q dadfailed && break
    sleep 0.1
done
sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip -6 addr show dev eth0 | grep -q dadfailed
"""
_REGAIN = "ip -6 addr del $n3_6/64 dev eth0; ip -6 addr add $n3_6/64 dev eth0 nodad"
# Who had a wrong MAC address keeps it for a while, longer than a test wants to wait.
FORGET = (("fw", "ip -6 neigh flush dev rack-b"), ("n4", "ip -6 neigh flush dev eth0"))

LOST = (
    Row(
        "a node whose address a stranger had before it",
        (
            _address("fw", "$n3_6/128", "rack-b", "ip -6"),
            Fault("n3", _LOSE, _REGAIN),
        ),
        (
            Find(
                Cause.ADDRESS,
                "all → n3 and n3 → rack=a (UDP 6081); all ↔ n3 (TCP 4240 and ICMPv6 echo)",
                17,
                (
                    "n3 does not use its own address $n3_6: another machine has it, too",
                    "$n3_6/64 on eth0 dadfailed",
                    "`ip -6 addr add $n3_6/64 dev eth0`",
                ),
                "n3",
            ),
        ),
        family=None,
    ),
    Row(
        "a node whose address another one had before it",
        (
            _address("n4", "$n3_6/64", "eth0", "ip -6"),
            Fault("n3", _LOSE, _REGAIN),
        ),
        (
            Find(
                Cause.ADDRESS,
                "rack=a ↔ n3 and n4 → n3 (UDP 6081); n3 ↔ all (TCP 4240 and ICMPv6 echo)",
                17,
                (
                    "n3's address $n3_6 is also configured on n4",
                    "n4 has $n3_6/64 on eth0",
                    "$n3_6/64 on eth0 dadfailed",
                ),
                "n4",
                mends=True,
            ),
        ),
        family=None,
    ),
)

NEIGHBOURS = (
    Row(
        "wrong permanent entries for a node on the link, of both families",
        (
            _entry("n1", "$n2"),
            _entry("n1", "$n2_6", ip="ip -6"),
            # What n1 then advertises to n2 goes the same wrong way.
            Fault("n2", "ip -6 neigh flush dev eth0"),
        ),
        (
            Find(
                Cause.NEIGHBOUR,
                "n1 → n2 (UDP 6081 over IPv4); "
                "n1 ↔ n2 (TCP 4240, ICMP echo, UDP 6081 over IPv6 and ICMPv6 echo)",
                11,
                (
                    f"$n2 dev eth0 lladdr {WRONG} PERMANENT",
                    f"$n2_6 dev eth0 lladdr {WRONG} PERMANENT",
                    "n2 has no device with that MAC address",
                ),
                "n1",
                mends=True,
            ),
        ),
        family=None,
    ),
    Row(
        "of two nodes for each other, and a rule that drops something else",
        (
            _entry("n1", "$n2"),
            _entry("n2", "$n1"),
            Fault("n3", fw("input", "tcp dport 4240 drop")),
        ),
        (
            Find(Cause.NEIGHBOUR, "n1 → n2", 3, ("n1's neighbour entry for n2",), "n1", mends=True),
            Find(Cause.NEIGHBOUR, "n2 → n1", 3, ("n2's neighbour entry for n1",), "n2", mends=True),
            Find(Cause.RULE, "all → n3", 3, nodes="n3", severity=Severity.RECOMMENDED, mends=True),
        ),
    ),
    Row(
        "a wrong permanent entry for the gateway",
        (_entry("n1", "$gw_a"),),
        (
            Find(
                Cause.NEIGHBOUR,
                _way("n1", "rack=b"),
                10,
                (
                    "n1's neighbour entry for its gateway $gw_a is permanent",
                    "not the MAC address by which n2 gets through",
                    "VRRP",
                ),
                "n1",
                mends=True,
            ),
        ),
    ),
    Row(
        "wrong permanent entries for the gateways of two racks, over IPv6",
        (_entry("n1", "$gw_a_6", ip="ip -6"), _entry("n3", "$gw_b_6", ip="ip -6")),
        (
            Find(
                Cause.NEIGHBOUR,
                "n1 → rack=b (UDP 6081); n1 → rack=b and n4 → n1 (TCP 4240 and ICMPv6 echo)",
                8,
                ("n1's", "$gw_a_6"),
                "n1",
                mends=True,
            ),
            Find(
                Cause.NEIGHBOUR,
                "n3 → rack=a (UDP 6081); n3 → rack=a and n2 → n3 (TCP 4240 and ICMPv6 echo)",
                8,
                ("n3's", "$gw_b_6"),
                "n3",
                mends=True,
            ),
        ),
        family=Family.IPV6,
    ),
    Row(
        "a permanent entry for a gateway behind which nobody gets through accuses nobody",
        (_entry("n1", "$gw_a"), Fault("fw", fw("forward", 'iifname "rack-a" drop'))),
        (
            Find(
                Cause.NETWORK,
                "rack=a → rack=b (UDP 6081); rack=a ↔ rack=b (TCP 4240 and ICMP echo)",
                20,
                asks=5,
            ),
        ),
    ),
)

DELIVERY = (
    Row(
        "a router with wrong entries for one node, of both families",
        (
            _entry("fw", "$n3", "rack-b"),
            _entry("fw", "$n3_6", "rack-b", "ip -6"),
            # It has answers of the router's for as long as it knows the router.
            Fault("n3", "ip neigh flush dev eth0"),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a → n3 (UDP 6081 over IPv4); "
                "rack=a ↔ n3 (TCP 4240, ICMP echo, UDP 6081 over IPv6 and ICMPv6 echo)",
                22,
                (
                    "nothing that is sent to n3 gets there, after $gw_a (hop 1)",
                    "what is sent to n4, beside it, does",
                    "`ip neigh get $n3 dev DEVICE`",
                    "A rule is needed only if both are right",
                ),
                asks=8,
            ),
        ),
        family=None,
    ),
    Row(
        "a rule for one node alone, that drops what it sends, too, is the network's",
        (Fault("fw", fw("forward", "ip saddr $n3 drop", "ip daddr $n3 drop")),),
        (Find(Cause.NETWORK, "n3 ↔ rack=a", 12, ("the network drops",), asks=6),),
    ),
)

ROUTES = (
    Row(
        "three nodes with routes that forbid, each another one",
        (
            _route("n1", "blackhole $n3/32"),
            _route("n2", "prohibit $n3/32 metric 5 proto static"),
            _route("n4", "unreachable $n1/32"),
        ),
        (
            Find(
                Cause.ROUTE,
                _way("n1", "n3"),
                5,
                ("n1: its own route `blackhole $n3` throws away what it sends to n3",),
                "n1",
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                _way("n2", "n3"),
                5,
                ("n2: its own route `prohibit $n3 proto static metric 5` refuses",),
                "n2",
                mends=True,
            ),
            Find(Cause.ROUTE, _way("n4", "n1"), 5, ("`unreachable $n1`",), "n4", mends=True),
        ),
    ),
    Row(
        "one prefix over IPv6 at two nodes, and another table at a third",
        (
            _route("n1", "blackhole fd00::/8 metric 7", "ip -6"),
            _route("n2", "blackhole fd00::/8 metric 7", "ip -6"),
            _route("n3", "prohibit $n2_6 table 77", "ip -6"),
            _rule("n3", "pref 90 table 77", "ip -6"),
        ),
        (
            Find(
                Cause.ROUTE,
                "rack=a → rack=b (UDP 6081); "
                "rack=a → rack=b and n4 → rack=a and n3 → n1 (TCP 4240 and ICMPv6 echo)",
                18,
                ("rack=a: their own route `blackhole fd00::/8 dev lo metric 7` throws away",),
                "n1 n2",
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                "n3 → n2",
                3,
                ("`prohibit $n2_6 dev lo table 77 metric 1024` refuses what it sends to n2",),
                "n3",
                mends=True,
            ),
        ),
        family=Family.IPV6,
    ),
    Row(
        "a default route that leads nowhere, before the one that leads on",
        (_route("n2", "prohibit default metric 9", "ip -6"),),
        (
            Find(
                Cause.ROUTE,
                _way("n2", "rack=b", "ICMPv6 echo"),
                10,
                ("`prohibit default dev lo metric 9`", "if there is no other"),
                "n2",
                mends=True,
            ),
        ),
        family=Family.IPV6,
    ),
    Row(
        "routing rules for one port, and for a destination",
        (
            _rule("n1", "pref 90 ipproto udp dport 6081 to $n3 blackhole"),
            _rule("n4", "pref 91 to $n2 prohibit"),
        ),
        (
            Find(
                Cause.ROUTE,
                "n1 → n3",
                1,
                ("`90: from all to $n3 ipproto udp dport 6081 blackhole`", "UDP 6081"),
                "n1",
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                _way("n4", "n2"),
                5,
                ("`91: from all to $n2 prohibit`",),
                "n4",
                mends=True,
            ),
        ),
    ),
    Row(
        "routing rules for a protocol, answers included, and for a source, which tunnels lack",
        (
            _rule("n1", "pref 90 ipproto icmp prohibit"),
            _rule("n4", "pref 91 from $n4 to $n2 blackhole"),
            _rule("n3", "pref 92 from $n3_6/127 iif lo to $n2_6 unreachable", "ip -6"),
        ),
        (
            Find(
                Cause.ROUTE,
                "n1 ↔ all",
                6,
                ("`90: from all ipproto icmp prohibit` refuses ICMP echo to all",),
                "n1",
                severity=Severity.RECOMMENDED,
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                "n2 ↔ n4",
                4,
                ("`91: from $n4 to $n2 blackhole` throws away TCP 4240 and ICMP echo to n2",),
                "n4",
                severity=Severity.RECOMMENDED,
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                "n2 ↔ n3",
                4,
                ("to $n2_6 iif lo unreachable` refuses TCP 4240 and ICMPv6 echo to n2",),
                "n3",
                severity=Severity.RECOMMENDED,
                mends=True,
            ),
        ),
        family=None,
    ),
)

_REVERSE = """table inet firewalld { chain filter_PREROUTING {
type filter hook prerouting priority filter + 10;
icmpv6 type nd-neighbor-solicit accept;
meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }; }
"""

REVERSE = (
    Row(
        "rules that drop what a route gives no way back: they do their duty, and another does not",
        (
            Fault("n2", _REVERSE),
            Fault("n4", _REVERSE),
            _route("n2", "blackhole $n3_6", "ip -6"),
            _route("n4", "blackhole $n3_6", "ip -6"),
            Fault("n1", fw("ip6 input", "ip6 saddr $n2_6 udp dport 6081 drop")),
        ),
        (
            Find(
                Cause.ROUTE,
                "role=worker ↔ n3",
                12,
                (
                    "n2, n4: their own route `blackhole $n3_6 dev lo metric 1024` throws away",
                    'nftables rule "meta nfproto ipv6 fib saddr',
                    "it does its duty",
                ),
                "n2 n4",
                mends=True,
            ),
            Find(Cause.RULE, "n2 → n1", 1, nodes="n1", mends=True),
        ),
        family=Family.IPV6,
    ),
)

_OFF = "net.ipv4.conf.all.send_redirects={0} net.ipv4.conf.eth0.send_redirects={0}"
_FORWARDS = f"sysctl -qw net.ipv4.ip_forward=1 {_OFF.format(0)}"
_FORWARDS_NOT = f"sysctl -qw net.ipv4.ip_forward=0 {_OFF.format(1)}"
_CONTAINERS = Fault(
    "n2",
    "ip link add br-4f2a type bridge; ip link set br-4f2a up; ip addr add $gw_b/24 dev br-4f2a",
    "ip link del br-4f2a",
)

_SEVERAL = "has several next hops, and"


def _mask(was: int, now: int) -> str:
    """Another length of n1's prefix, with the route that goes with the old one kept."""
    return (
        f"ip addr add $n1/{now} dev eth0; ip addr del $n1/{was} dev eth0 2>/dev/null || true; "
        "ip route replace default via $gw_a proto static"
    )


def _dummy(where: str, *routes: str) -> Fault:
    """A second device, with nobody on its link."""
    added = "; ".join(f"ip route add {route} dev dmz" for route in routes)
    make = "ip link add dmz type bridge; ip link set dmz up; ip addr add 10.5.5.5/24 dev dmz"
    return Fault(where, f"{make}; {added}", "ip link del dmz")


TRAILS = (
    Row(
        "what is for another rack is sent to a node that does not forward",
        (
            _route("n1", "$n3/32 via $n2"),
            _route("n4", "$n1_6/128 via $n3_6", "ip -6"),
            Fault("n3", fw("input", "udp dport 6081 ip saddr $n2 drop")),
        ),
        (
            Find(
                Cause.ROUTE,
                _way("n1", "n3"),
                5,
                ("n1: its own route `$n3 via $n2 dev eth0` sends what is for n3 to n2, which",),
                "n1",
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                _way("n4", "n1", "ICMPv6 echo"),
                5,
                ("`$n1_6 via $n3_6 dev eth0 metric 1024` sends what is for n1 to n3, which",),
                "n4",
                mends=True,
            ),
            Find(Cause.RULE, "n2 → n3", 1, nodes="n3", mends=True),
        ),
        family=None,
    ),
    Row(
        "a node that forwards, and a router behind it that drops: its user is innocent",
        (
            Fault("n2", "sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.ip_forward=0"),
            _route("n1", "$n3/32 via $n2"),
            Fault("fw", fw("forward", "ip saddr $n1 ip daddr $n3 drop")),
        ),
        (Find(Cause.NETWORK, "n1 → n3 (UDP 6081); n1 ↔ n3 (TCP 4240 and ICMP echo)", 5, asks=5),),
    ),
    Row(
        "a node that forwards for another, and drops by a rule of its own",
        (
            Fault("n2", _FORWARDS, _FORWARDS_NOT),
            _route("n1", "$n3/32 via $n2"),
            Fault("n2", fw("forward", "ip daddr $n3 drop")),
        ),
        (
            Find(
                Cause.RULE,
                "n1 → n3 (UDP 6081); n1 ↔ n3 (TCP 4240 and ICMP echo)",
                5,
                (
                    "n2 forwards and drops UDP 6081 from n1 to n3, and TCP 4240 and ICMP echo",
                    "on n1 goes by n2: its route is `$n3 via $n2 dev eth0`",
                    "remove the route instead: `ip route del $n3/32 via $n2 dev eth0` on n1",
                ),
                "n2",
                "nft inet forwarding forward",
                mends=True,
            ),
        ),
    ),
    Row(
        "a container network has another rack's subnet",
        (_CONTAINERS,),
        (
            Find(
                Cause.ROUTE,
                _way("n2", "rack=b"),
                10,
                (
                    "dev br-4f2a proto kernel` sends what is for rack=b out of br-4f2a",
                    "nobody answers ARP",
                    "default-address-pools",
                ),
                "n2",
            ),
        ),
    ),
    Row(
        "routes by a second device, and by a gateway that is not there, at two nodes",
        (_dummy("n3", "$n1/32 via 10.5.5.1"), _route("n4", "$n2/32 via ${gw_b}99")),
        (
            Find(
                Cause.ROUTE,
                _way("n3", "n1"),
                5,
                ("`$n1 via 10.5.5.1 dev dmz`", "to 10.5.5.1 on dmz, which does not answer ARP"),
                "n3",
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                _way("n4", "n2"),
                5,
                ("which does not answer ARP", "see instead why it does not answer"),
                "n4",
                mends=True,
            ),
        ),
    ),
    Row(
        "local routes for others' addresses, and one out of the loopback",
        (
            _route("n3", "local $n1/32 dev lo"),
            _route("n4", "local $n2_6/128 dev lo", "ip -6"),
            _route("n4", "$n1/32 dev lo"),
        ),
        (
            Find(
                Cause.ADDRESS,
                "n1 ↔ n3",
                6,
                ("n3: its own route `local $n1 dev lo` keeps what is sent to n1",),
                "n3",
                mends=True,
            ),
            Find(
                Cause.ADDRESS,
                "n4 → n2 (UDP 6081); n2 ↔ n4 (TCP 4240 and ICMPv6 echo)",
                5,
                ("`local $n2_6 dev lo",),
                "n4",
                mends=True,
            ),
            Find(
                Cause.ADDRESS,
                _way("n4", "n1"),
                5,
                ("out of lo, which leads nowhere",),
                "n4",
                mends=True,
            ),
        ),
        family=None,
    ),
    Row(
        "next hops by a node's other address, by a nexthop object, and by a table of a rule",
        (
            Fault(
                "n2",
                "ip -6 addr add fe80::99/64 dev eth0 nodad",
                "ip -6 addr del fe80::99/64 dev eth0",
            ),
            _route("n1", "default via fe80::99 dev eth0 metric 9", "ip -6"),
            Fault(
                "n3",
                "ip nexthop add id 7 via $n4 dev eth0; ip route add $n1/32 nhid 7",
                "ip nexthop del id 7",
            ),
            _route("n4", "default via $n3 dev eth0 table 100"),
            _rule("n4", "pref 95 to $n2 lookup 100"),
        ),
        (
            Find(
                Cause.ROUTE,
                _way("n1", "rack=b", "ICMPv6 echo"),
                10,
                (
                    "`default via fe80::99 dev eth0 metric 9` sends what is for rack=b to n2",
                    "which is n2's own",
                ),
                "n1",
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                _way("n3", "n1"),
                5,
                ("`$n1 nhid 7 via $n4 dev eth0`",),
                "n3",
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                _way("n4", "n2"),
                5,
                (
                    "`default via $n3 dev eth0 table 100`",
                    "`95: from all to $n2 lookup 100`, which leads there",
                    "`ip rule del pref 95 to $n2/32 lookup 100`",
                ),
                "n4",
                mends=True,
            ),
        ),
        family=None,
    ),
    Row(
        "a prefix that is too wide",
        (Fault("n1", _mask(24, 16), _mask(16, 24)),),
        (
            Find(
                Cause.ADDRESS,
                _way("n1", "rack=b"),
                10,
                (
                    "n1: its own address $n1/16 makes it take rack=b for neighbours",
                    "n2 has $n2/24: without rack=b",
                ),
                "n1",
                mends=True,
            ),
        ),
    ),
    Row(
        "a node without a default route over IPv6",
        (
            Fault(
                "n2", "ip -6 route del default", "ip -6 route add default via $gw_a_6 proto static"
            ),
        ),
        (
            Find(
                Cause.KERNEL,
                "n2 → rack=b (UDP 6081); n2 ↔ rack=b (TCP 4240 and ICMPv6 echo)",
                10,
                (
                    "n2 has no IPv6 route to rack=b",
                    "the default route if there is none",
                ),
                "n2",
            ),
        ),
        family=Family.IPV6,
    ),
)
