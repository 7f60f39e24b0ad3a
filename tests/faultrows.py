"""Scenarios of `test_diagnose`: what is wrong in a lab, and what a check must find out about it."""

from __future__ import annotations

from faultbench import Fault, Find, Row, Shut, fw

from preflight.core.diagnosis.conclusions import ContentPattern, FlowPattern
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.findings.model import Cause
from preflight.core.model import Severity

GENEVE = "udp dport 6081"
A_TO_B, B_TO_A = (f'iifname "rack-{x}" oifname "rack-{y}"' for x, y in ("ab", "ba"))
LESS = Severity.RECOMMENDED
STATEFUL = "ct state established,related accept"

# --- rules of nodes ------------------------------------------------------------------------------

NODES = (
    Row(
        "four nodes, each with a rule at another hook",
        (
            Fault("n1", fw("output", "icmp type echo-request drop")),
            Fault("n2", fw("inet prerouting raw", f"{GENEVE} drop")),
            Fault(
                "n3",
                fw(
                    "input",
                    "tcp dport 22 accept",
                    "jump corp",
                    more="chain corp {\ntcp dport 4000-5000 counter reject\n}",
                ),
            ),
            Fault("n4", fw("netdev egress", f'{GENEVE} drop comment "egress"')),
        ),
        (
            Find(
                Cause.RULE,
                "n4 → all",
                3,
                ("n4 itself drops UDP 6081",),
                "n4",
                "nft netdev egressing egress",
                mends=True,
            ),
            Find(
                Cause.RULE,
                "n1, n3 → n2",
                2,
                ("from n1, n3",),
                "n2",
                "nft inet preroutinging prerouting",
                mends=True,
            ),
            Find(
                Cause.RULE,
                "n1 → all",
                3,
                ("n1 itself drops ICMP echo",),
                "n1",
                "nft inet outputing output",
                severity=LESS,
                mends=True,
            ),
            Find(
                Cause.RULE,
                "all → n3",
                3,
                ("rejects TCP 4240", "tcp dport 4000-5000"),
                "n3",
                "nft inet inputing corp",
                severity=LESS,
                mends=True,
            ),
        ),
        shut=(Shut("fw", "n2"),),
    ),
    Row(
        "one node, and a rule of another kind for each sender",
        (
            Fault(
                "n2",
                fw(
                    "input",
                    "ip saddr $n1 tcp dport 4240 drop",
                    "ip saddr $n3 tcp dport 4240 counter jump corp",
                    more="chain corp {\nreject with icmpx admin-prohibited\n}",
                ),
            ),
            Fault(
                "n2",
                "iptables -A INPUT -s $n4 -p tcp --dport 4240 -j DROP",
                "iptables -F; iptables -X; nft delete table ip filter",
            ),
        ),
        (
            Find(
                Cause.RULE,
                "n1 → n2",
                1,
                ("n2 itself drops TCP 4240 from n1", "ip saddr $n1 tcp"),
                "n2",
                "nft inet inputing input",
                severity=LESS,
                mends=True,
            ),
            Find(
                Cause.RULE,
                "n3 → n2",
                1,
                ("n2 itself rejects TCP 4240 from n3",),
                "n2",
                "nft inet inputing corp",
                severity=LESS,
                mends=True,
            ),
            Find(
                Cause.RULE,
                "n4 → n2",
                1,
                ("n2 itself drops TCP 4240 from n4",),
                "n2",
                "iptables ip filter INPUT",
                severity=LESS,
                mends=True,
            ),
        ),
    ),
    Row(
        "two rules of one chain, and a policy that drops answers too",
        (
            Fault("n3", fw("input", f"{GENEVE} drop", "tcp dport 4240 reject with tcp reset")),
            Fault("n1", fw("output", "tcp sport 22 accept", policy="drop")),
        ),
        (
            Find(
                Cause.RULE,
                "n1 → all (UDP 6081); n1 ↔ all (TCP 4240 and ICMP echo)",
                15,
                (
                    "policy of chain",
                    "n1 itself drops UDP 6081, TCP 4240 and ICMP echo: ",
                    "answers to",
                ),
                "n1",
                "nft inet outputing output",
                mends=True,
            ),
            Find(Cause.RULE, "role=worker → n3", 2, ("drops UDP 6081 from",), "n3", mends=True),
            Find(
                Cause.RULE,
                "role=worker → n3",
                2,
                ("rejects TCP 4240 from",),
                "n3",
                severity=LESS,
                mends=True,
            ),
        ),
        shut=(Shut("fw", "n3"), Shut("n1", "fw")),
    ),
    Row(
        "policies that a goto and a return lead to, past the end of the chain",
        (
            Fault(
                "n2",
                fw(
                    "input",
                    "tcp dport 22 accept",
                    "meta l4proto udp goto corp",
                    "accept",
                    policy="drop",
                    more="chain corp {\nudp dport 53 accept\n}",
                ),
            ),
            Fault(
                "n3",
                "iptables -A INPUT -p tcp --dport 22 -j ACCEPT; "
                "iptables -A INPUT -p tcp --dport 4240 -j RETURN; "
                "iptables -A INPUT -j ACCEPT; iptables -P INPUT DROP",
                "iptables -P INPUT ACCEPT",
            ),
        ),
        (
            Find(
                Cause.RULE,
                "all → n2",
                3,
                ("policy of chain",),
                "n2",
                "nft inet inputing input",
                mends=True,
            ),
            Find(
                Cause.RULE,
                "all → n3",
                3,
                ("policy of chain",),
                "n3",
                "iptables ip filter INPUT",
                severity=LESS,
                mends=True,
            ),
        ),
        shut=(Shut("fw", "n2"),),
    ),
    Row(
        "a sender's own translation of destinations",
        (
            Fault(
                "n1",
                "table ip lead { chain out { type nat hook output priority -100; policy accept; "
                f"ip daddr $n3 {GENEVE} dnat to $n4; }}; }}",
            ),
        ),
        (
            Find(
                Cause.TRANSLATION,
                "n1 → n3",
                1,
                ("n1 itself sends UDP 6081 for n3 on to $n4 (n4)",),
                "n1",
                "nft ip lead out",
                mends=True,
            ),
        ),
    ),
    Row(
        "iptables-legacy: a policy that a goto leads to",
        (
            Fault(
                "n4",
                "iptables-legacy -N corp; iptables-legacy -A corp -p tcp --dport 22 -j ACCEPT; "
                "iptables-legacy -A INPUT -p udp -g corp; iptables-legacy -A INPUT -j ACCEPT; "
                "iptables-legacy -P INPUT DROP",
                "iptables-legacy -P INPUT ACCEPT; iptables-legacy -F; iptables-legacy -X",
            ),
        ),
        (
            Find(
                Cause.RULE,
                "all → n4",
                3,
                ("policy of chain filter INPUT",),
                "n4",
                "iptables-legacy ip filter INPUT",
                mends=True,
            ),
        ),
        shut=(Shut("fw", "n4"),),
    ),
    Row(
        "iptables: a chain of somebody's, and the last rule that RHEL once came with",
        (
            Fault(
                "n2",
                "iptables -N corp; iptables -A corp -p udp -m comment --comment "
                "'no tunnels' -j DROP; iptables -A INPUT -j corp",
            ),
            Fault(
                "n3",
                "iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; "
                "iptables -A INPUT -p tcp --dport 22 -j ACCEPT; "
                "iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited",
            ),
        ),
        (
            Find(
                Cause.RULE,
                "all → n3",
                9,
                ("rejects UDP 6081, TCP 4240 and ICMP echo",),
                "n3",
                "iptables ip filter INPUT",
                mends=True,
            ),
            Find(
                Cause.RULE,
                "all → n2",
                3,
                ('"no tunnels"', "corp rule 1"),
                "n2",
                "iptables ip filter corp",
                mends=True,
            ),
        ),
        shut=(Shut("fw", "n2"), Shut("fw", "n3")),
    ),
    Row(
        "one baseline on two nodes, and another rule on a third",
        (
            Fault("n1", fw("input", f'{GENEVE} drop comment "cis"')),
            Fault("n2", fw("input", "tcp dport 80 drop", f'{GENEVE} drop comment "cis"')),
            Fault("n4", fw("netdev ingress", "udp dport 6000-7000 drop")),
        ),
        (
            Find(
                Cause.RULE,
                "all → rack=a",
                6,
                ("rack=a: each node itself drops", "cis"),
                "n1 n2",
                mends=True,
            ),
            Find(
                Cause.RULE,
                "all → n4",
                3,
                ("6000-7000",),
                "n4",
                "nft netdev ingressing ingress",
                mends=True,
            ),
        ),
        shut=(Shut("fw", "n1"), Shut("fw", "n4", 6082)),
    ),
    Row(
        "iptables and ip6tables with one rule each",
        (
            Fault(
                "n3",
                "for t in iptables ip6tables; do $$t -A INPUT -p udp --dport 6081 -j DROP; done",
            ),
        ),
        (Find(Cause.RULE, "all → n3", 6, ("1 rule more", "ip6tables rule"), "n3", mends=True),),
        family=None,
    ),
    Row(
        "a node that limits a rate, and one that limits sizes",
        (
            Fault("n1", fw("input", f"{GENEVE} limit rate over 20/second burst 5 packets drop")),
            Fault("n3", fw("input", f"{GENEVE} meta length > 1300 drop")),
        ),
        (
            Find(
                Cause.RULE,
                "all → n1",
                3,
                ("drops some UDP 6081", "what exceeds a rate"),
                "n1",
                flows=FlowPattern.LIMITED,
                mends=True,
            ),
            Find(Cause.RULE, "all → n3", 3, ("drops some UDP 6081", "1300"), "n3", mends=True),
        ),
    ),
    Row(
        "queues that no program reads, one that may be passed by, and a count of connections",
        (
            Fault(
                "n3",
                "iptables -t mangle -A PREROUTING -p udp --dport 6081 -j NFQUEUE --queue-num 7; "
                "iptables -A INPUT -p icmp -j NFQUEUE --queue-num 7 --queue-bypass",
            ),
            Fault(
                "n4",
                "iptables-legacy -A INPUT -p udp --dport 6081 -j NFQUEUE --queue-balance 2:3; "
                "iptables-legacy -A INPUT -p tcp -j NFQUEUE --queue-num 9 --queue-bypass",
                "iptables-legacy -F",
            ),
            Fault(
                "n1",
                fw(
                    "input",
                    f"{GENEVE} add @met {{ ip saddr ct count over 4 }} drop",
                    more="set met { type ipv4_addr; flags dynamic; }",
                ),
            ),
        ),
        (
            Find(
                Cause.RULE,
                "all → n1",
                3,
                ("drops some UDP 6081", "counts connections", "over 4 at once from one source"),
                "n1",
                mends=True,
            ),
            Find(
                Cause.RULE,
                "all → n3",
                3,
                ("n3 itself drops UDP 6081", "no program reads queue 7"),
                "n3",
                "iptables ip mangle PREROUTING",
                mends=True,
            ),
            Find(
                Cause.RULE,
                "all → n4",
                3,
                ("n4 itself drops UDP 6081", "no program reads queues 2-3"),
                "n4",
                "iptables-legacy ip filter INPUT",
                mends=True,
            ),
        ),
    ),
)

# --- the path ------------------------------------------------------------------------------------

PATH = (
    Row(
        "a router with a rule for one way and one for both",
        (Fault("fw", fw("forward", f"{A_TO_B} {GENEVE} drop", "tcp dport 4240 drop")),),
        (
            Find(
                Cause.NETWORK,
                "rack=a → rack=b",
                8,
                ("the network drops UDP 6081 and TCP 4240",),
                hop="$gw_a 1",
                content=ContentPattern.PORT,
                asks=2,
            ),
            Find(
                Cause.NETWORK,
                "rack=b → rack=a",
                4,
                ("the network drops TCP 4240",),
                hop="$gw_b 1",
                severity=LESS,
                asks=1,
            ),
        ),
    ),
    Row(
        "a stateful firewall that lets one way in, and a switch that drops within racks",
        (
            Fault("fw", fw("forward", STATEFUL, 'iifname "rack-a" accept', policy="drop")),
            Fault("fw", fw("bridge forward", f"ip protocol udp {GENEVE} drop")),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=b → rack=a",
                12,
                ("UDP 6081, TCP 4240 and ICMP echo, after $gw_b (hop 1)",),
                asks=3,
            ),
            Find(
                Cause.NETWORK,
                "between nodes of the same rack",
                4,
                ("share a link",),
                content=ContentPattern.PORT,
                asks=2,
            ),
        ),
    ),
    Row(
        "a firewall that rejects all, however few errors it may send",
        (Fault("fw", fw("forward", STATEFUL, "reject with icmpx admin-prohibited")),),
        (Find(Cause.NETWORK, "rack=a ↔ rack=b", 48, ("rejects", "refused by", "$gw_a"), asks=12),),
        family=None,
    ),
    Row(
        "a firewall that drops one port without a word, and rejects another",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    f"{GENEVE} drop",
                    "tcp dport 4240 reject with icmpx admin-prohibited",
                ),
            ),
        ),
        (
            Find(Cause.NETWORK, "rack=a ↔ rack=b", 8, ("the network drops UDP 6081",), asks=2),
            Find(
                Cause.NETWORK,
                "rack=a ↔ rack=b",
                8,
                ("rejects TCP 4240, refused by", "$gw_a", "$gw_b"),
                severity=LESS,
                asks=2,
            ),
        ),
    ),
    Row(
        "a port that is dropped over both families, and one pair's echo that is rejected",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    "tcp dport 4240 drop",
                    "ip saddr $n1 ip daddr $n4 icmp type echo-request "
                    "reject with icmp admin-prohibited",
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a ↔ rack=b",
                16,
                ("the network drops TCP 4240",),
                severity=LESS,
                asks=4,
            ),
            Find(
                Cause.NETWORK,
                "n1 → n4",
                1,
                ("rejects ICMP echo, refused by $gw_a",),
                severity=LESS,
                asks=1,
            ),
        ),
        family=None,
    ),
    Row(
        "resets in the destination's name, and a pair that nothing passes",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    "ip saddr $n2 ip daddr $n4 drop",
                    f"{B_TO_A} tcp dport 4240 reject with tcp reset",
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "n2 → n4 (UDP 6081 and TCP 4240); n2 ↔ n4 (ICMP echo)",
                4,
                ("drops UDP 6081, TCP 4240 and ICMP echo",),
                hop="$gw_a 1",
                asks=4,
            ),
            Find(
                Cause.NETWORK,
                "rack=b → rack=a",
                4,
                ("an RST in the destination's name",),
                severity=LESS,
                asks=1,
            ),
        ),
    ),
    Row(
        "answers that a router drops, over both families",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    "tcp sport 4240 drop",
                    f"{B_TO_A} icmp type echo-reply drop",
                    f"{B_TO_A} icmpv6 type echo-reply drop",
                    STATEFUL,
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a → rack=b",
                16,
                ("answers to TCP 4240, ICMP echo and", "after $gw_b (hop 1 on the way back)"),
                hop="$gw_b 1",
                severity=LESS,
                asks=4,
            ),
            Find(
                Cause.NETWORK,
                "rack=b → rack=a",
                8,
                ("RSTs that answer TCP 4240, after $gw_a (hop 1 on the way back)", "$gw_a_6"),
                hop="$gw_a 1",
                severity=LESS,
                asks=2,
            ),
        ),
        family=None,
    ),
    Row(
        "too small a link that says so, and a filter of lengths that does not",
        (
            Fault("fw", "ip link set dev rack-b mtu 1400", "ip link set dev rack-b mtu 1500"),
            Fault("fw", fw("forward", f"{B_TO_A} meta length > 1450 drop")),
            *(Fault(f"n{n}", "true", "ip route flush cache") for n in (1, 2)),
        ),
        (
            Find(
                Cause.SIZE,
                "rack=a → rack=b",
                4,
                ("larger than 1400", "MTU=1400"),
                largest=1400,
                told_by="$gw_a",
            ),
            Find(
                Cause.SIZE,
                "rack=b → rack=a",
                4,
                ("larger than 1450", "silently"),
                largest=1450,
                told_by="nobody",
            ),
        ),
    ),
    Row(
        "two nodes of one rack behind links of unlike size",
        (
            *(
                Fault("fw", f"ip route add ${n}/32 dev rack-b mtu lock {mtu}", f"ip route del ${n}")
                for n, mtu in (("n3", 1400), ("n4", 1300))
            ),
            *(Fault(f"n{n}", "true", "ip route flush cache") for n in (1, 2)),
        ),
        tuple(
            Find(
                Cause.SIZE,
                f"rack=a → {node}",
                2,
                (f"larger than {largest} bytes are lost, as $gw_a says", "MTU=1300 (bytes"),
                largest=largest,
                told_by="$gw_a",
            )
            for node, largest in (("n3", 1400), ("n4", 1300))
        ),
    ),
    Row(
        "packets with DF set one way, a band of lengths the other",
        (
            Fault("fw", fw("ip forward", f"{A_TO_B} {GENEVE} ip frag-off & 0x4000 != 0 drop")),
            Fault(
                "fw",
                fw(
                    "inet forward",
                    f"{B_TO_A} {GENEVE} meta length 60-100 drop",
                    "ip daddr $n4 tcp dport 4240 drop",
                ),
            ),
        ),
        (
            Find(
                Cause.SIZE,
                "rack=a → rack=b",
                4,
                ("with DF set is lost, whatever its size", "DF not set: it gets through"),
                asks=1,
            ),
            Find(
                Cause.SIZE,
                "rack=b → rack=a",
                8,
                ("of 62 to 100 bytes are lost", "no packet of 82 to 100 bytes"),
                asks=2,
            ),
            Find(Cause.NETWORK, "rack=a → n4", 2, severity=LESS, asks=1),
        ),
        family=None,
    ),
    Row(
        "packets with DF not set to one node, and to another of all lengths but some",
        (
            Fault("fw", fw("ip forward", f"ip daddr $n3 {GENEVE} ip frag-off & 0x4000 == 0 drop")),
            Fault("fw", fw("inet forward", f"ip daddr $n1 {GENEVE} meta length != 257-576 drop")),
        ),
        (
            Find(
                Cause.SIZE,
                "rack=a → n3",
                2,
                ("with DF not set is lost", "Cilium's tunnel sends with DF not set: all of it"),
                asks=1,
            ),
            Find(
                Cause.SIZE,
                "rack=b → n1",
                2,
                ("of 62 to 256 and", "to 1500 bytes are lost"),
                asks=1,
            ),
        ),
    ),
    Row(
        "a node's own DSCP that the path drops, and refusals in the names of others",
        (
            Fault("n1", fw("output mangle", f"{GENEVE} ip dscp set 46")),
            Fault("fw", fw("ip forward", "ip dscp 46 drop")),
            Fault(
                "fw",
                fw("inet forward", f"ip saddr $n3 ip daddr $n1 {GENEVE} reject")
                + fw(
                    "ip output",
                    "icmp type destination-unreachable ip daddr $n3 ip saddr set $n4",
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "n1 → rack=b",
                2,
                ("n1 itself marks UDP 6081 with DSCP 46", "drops what is so marked", "to UDP 6082"),
                nodes="n1",
                asks=1,
            ),
            Find(
                Cause.NETWORK, "n3 → n1", 1, ("rejects", "refused in the name of n4 ($n4)"), asks=1
            ),
        ),
    ),
    Row(
        "loss at random one way, dead flows the other",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    f"{A_TO_B} {GENEVE} numgen random mod 100 < 50 drop",
                    f"{B_TO_A} {GENEVE} jhash udp sport mod 2 seed 0x5eed == 1 drop",
                ),
            ),
        ),
        (
            Find(Cause.LOSS, "rack=a → rack=b", 4, ("lost at random",), flows=FlowPattern.RANDOM),
            Find(
                Cause.FLOWS,
                "rack=b → rack=a",
                4,
                ("always the same ones",),
                flows=FlowPattern.SOME_DEAD,
            ),
        ),
    ),
    Row(
        "high source ports alone one way, a limiter the other",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    f"{A_TO_B} {GENEVE} udp sport < 1024 drop",
                    f"{B_TO_A} {GENEVE} limit rate over 20/second burst 5 packets drop",
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a → rack=b",
                4,
                ("only from source ports of 1024 and above",),
                flows=FlowPattern.HIGH_ONLY,
                asks=1,
            ),
            Find(Cause.RATE_LIMIT, "rack=b → rack=a", 4, (), flows=FlowPattern.LIMITED, asks=1),
        ),
    ),
    Row(
        "what looks like a reply alone one way, an inspection the other",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    f"{A_TO_B} {GENEVE} udp sport != 6081 drop",
                    f"{B_TO_A} meta l4proto udp @ih,160,16 0x88b5 drop",
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a → rack=b",
                4,
                ("only where it looks like a reply",),
                flows=FlowPattern.REPLIES_ONLY,
                asks=1,
            ),
            Find(
                Cause.INSPECTION,
                "rack=b → rack=a",
                4,
                ("for its bytes",),
                content=ContentPattern.TUNNEL,
                asks=1,
            ),
        ),
    ),
    Row(
        "a router that drops what a sender's own rule has left of it",
        (
            Fault("fw", fw("forward", f"{A_TO_B} {GENEVE} drop")),
            Fault("n1", fw("output", f"{GENEVE} udp sport 32768-49151 drop")),
        ),
        (
            Find(Cause.NETWORK, "rack=a → rack=b", 4, ("the network drops UDP 6081,",), asks=1),
            Find(Cause.RULE, "n1 → n2", 1, ("n1 itself drops some",), "n1", mends=True),
        ),
        after=("rack=a → rack=b: the network drops UDP 6081, after $gw_a (hop 1)",),
    ),
    Row(
        "a way back without a route, from a node whose policy drops more than that",
        (
            Fault(
                "fw",
                "ip rule add from $n4 to $n1 pref 100 blackhole",
                "ip rule del from $n4 to $n1 pref 100 blackhole",
            ),
            Fault(
                "n4",
                fw(
                    "output",
                    STATEFUL,
                    "tcp sport 22 accept",
                    "icmp type echo-request accept",
                    "tcp dport 4240 accept",
                    policy="drop",
                ),
            ),
        ),
        (
            Find(Cause.RULE, "n4 → all", 3, ("n4 itself drops UDP 6081",), "n4", mends=True),
            Find(Cause.NETWORK, "n1 ↔ n4", 4, ("the network drops",), severity=LESS, asks=4),
        ),
        after=(
            (
                "n4 → n1 (UDP 6081); n4 ↔ n1 (TCP 4240 and ICMP echo): the network drops UDP 6081, "
                "TCP 4240 and ICMP echo"
            ),
        ),
    ),
    Row(
        "an inspection of the tunnel's header",
        (Fault("fw", fw("forward", f"{GENEVE} @ih,16,16 0x6558 drop")),),
        (
            Find(
                Cause.INSPECTION,
                "rack=a ↔ rack=b",
                8,
                ("as a tunnel of Ethernet frames",),
                content=ContentPattern.INNER,
                asks=2,
            ),
        ),
    ),
    Row(
        "a translated destination of TCP, and a sender whose packets live too short",
        (
            Fault("fw", fw("ip prerouting dstnat", "ip daddr $n3 tcp dport 4240 dnat to $n4")),
            Fault(
                "fw",
                "sysctl -qw net.ipv4.icmp_ratelimit=0",
                "sysctl -qw net.ipv4.icmp_ratelimit=1000",
            ),
            Fault(
                "n4",
                "table ip short { chain out { type filter hook output priority -150; "
                f"policy accept; ip daddr $n1 {GENEVE} ip ttl set 1; }}; }}",
            ),
        ),
        (
            Find(
                Cause.TRANSLATION,
                "rack=a → n3",
                2,
                ("rewrites the destination address of TCP 4240 (a router answers in n3's name)",),
                severity=LESS,
            ),
            Find(
                Cause.NETWORK,
                "n4 → n1",
                1,
                ("runs out at $gw_b: it leaves n4 with TTL 1",),
                "n4",
            ),
        ),
    ),
    Row(
        "one sender dropped and another rejected by one router",
        (
            Fault(
                "fw",
                "sysctl -qw net.ipv4.icmp_ratelimit=0",
                "sysctl -qw net.ipv4.icmp_ratelimit=1000",
            ),
            Fault(
                "fw",
                fw(
                    "forward",
                    f"{B_TO_A} ip saddr $n3 {GENEVE} drop",
                    f"{B_TO_A} ip saddr $n4 {GENEVE} reject with icmpx admin-prohibited",
                ),
            ),
        ),
        (
            Find(Cause.NETWORK, "n3 → rack=a", 2, ("drops UDP 6081, after $gw_b",), asks=1),
            Find(Cause.NETWORK, "n4 → rack=a", 2, ("rejects UDP 6081, refused by",), asks=1),
        ),
    ),
    Row(
        "two ranges of source ports for one sender, another range for another",
        (
            Fault(
                "fw",
                fw(
                    "forward",
                    f"{A_TO_B} ip saddr $n1 {GENEVE} udp sport {{ 1024-9999, 58000-65535 }} drop",
                    f"{A_TO_B} ip saddr $n2 {GENEVE} udp sport 30000-45000 drop",
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "n1 → rack=b",
                2,
                ("only from some ranges of source ports", "none from 102"),
                flows=FlowPattern.RANGE,
                asks=1,
            ),
            Find(
                Cause.NETWORK,
                "n2 → rack=b",
                2,
                ("only from some ranges of source ports", "those from 1-2", "none from 3"),
                flows=FlowPattern.RANGE,
                asks=1,
            ),
        ),
    ),
    Row(
        "a translated source, a translated destination and a redirection",
        (
            Fault("fw", fw("ip postrouting srcnat", f"{B_TO_A} {GENEVE} snat to 198.18.200.1")),
            Fault(
                "fw",
                fw(
                    "ip prerouting dstnat",
                    'iifname "rack-a" tcp dport 4240 redirect to :1',
                    f'iifname "rack-a" ip daddr $n4 {GENEVE} dnat to $n3',
                ),
            ),
        ),
        (
            Find(Cause.TRANSLATION, "rack=a → n4", 2, ("delivered to n3 instead",)),
            Find(
                Cause.NETWORK,
                "rack=a → rack=b",
                4,
                ("an RST in the destination's name",),
                severity=LESS,
                asks=1,
            ),
            Find(
                Cause.TRANSLATION,
                "rack=b → rack=a",
                0,
                ("198.18.200.1 instead of",),
                "n3 n4",
                severity=LESS,
            ),
        ),
    ),
    Row(
        "a router's block behind which a node hides a rule, and another node's before it",
        (
            Fault("fw", fw("forward", f"{GENEVE} drop")),
            Fault("n3", fw("input", f"{GENEVE} drop")),
            Fault("n1", fw("output", f"{GENEVE} drop")),
        ),
        (
            Find(Cause.NETWORK, "rack=b → rack=a; n2 → rack=b", 6, ("drops UDP 6081",), asks=2),
            Find(Cause.RULE, "n1 → all", 3, ("n1 itself",), "n1", mends=True),
            Find(Cause.RULE, "n4 → n3", 1, ("n3 itself drops UDP 6081 from n4",), "n3", mends=True),
        ),
        after=("rack=a ↔ rack=b: the network drops UDP 6081, after $gw_a (hop 1)",),
    ),
)

# --- what is no firewall's doing -----------------------------------------------------------------

KERNEL = (
    Row(
        "strict filters over another way back and over none, and echoes that are ignored",
        (
            Fault(
                "fw",
                "ip link add x3 type veth peer name eth1 netns preflight-$lab-n3; "
                "ip link set x3 up; ip addr add 10.66.0.1/24 dev x3",
                "ip link del x3",
            ),
            Fault(
                "n3",
                "ip link set eth1 up; ip addr add 10.66.0.2/24 dev eth1; "
                "ip route add $n1/32 via 10.66.0.1 src $n3; "
                "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
                "sysctl -qw net.ipv4.conf.eth0.rp_filter=0",
            ),
            Fault(
                "n1",
                "sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
                "sysctl -qw net.ipv4.icmp_echo_ignore_all=0",
            ),
            Fault(
                "n4",
                "sysctl -qw net.ipv4.conf.eth0.rp_filter=1; ip route add blackhole $n2/32",
                "sysctl -qw net.ipv4.conf.eth0.rp_filter=0; ip route del blackhole $n2/32 || true",
            ),
        ),
        (
            Find(
                Cause.KERNEL,
                "n1 → n3 (UDP 6081 and ICMP echo); n1 ↔ n3 (TCP 4240)",
                4,
                ("reverse path filter", "rp_filter = 1 (strict)"),
                "n3",
                kernel=Reason.RP_FILTER,
                mends=True,
            ),
            Find(
                Cause.ROUTE,
                "n2 ↔ n4",
                6,
                ("n4: its own route `blackhole $n2` throws away what it sends to n2",),
                "n4",
                mends=True,
            ),
            Find(
                Cause.KERNEL,
                "all → n1",
                3,
                ("echo requests are ignored by sysctl",),
                "n1",
                kernel=Reason.ECHO_IGNORED,
                severity=LESS,
                mends=True,
            ),
        ),
    ),
)


# --- two routers: `farlab` -----------------------------------------------------------------------

HOPS = (
    Row(
        "answers alone, each at the second router of their way",
        (
            Fault("r2", fw("forward", 'iifname "core" tcp sport 4240 drop')),
            Fault("fw", fw("forward", 'iifname "core" icmp type echo-reply drop')),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=b → rack=a",
                4,
                ("drops RSTs that answer TCP 4240, after 10.99.0.2 (hop 2 on the way back)",),
                hop="10.99.0.2 2",
                severity=LESS,
                asks=1,
            ),
            Find(
                Cause.NETWORK,
                "rack=a → rack=b",
                4,
                ("drops answers to ICMP echo, after 10.99.0.1 (hop 2 on the way back)",),
                hop="10.99.0.1 2",
                severity=LESS,
                asks=1,
            ),
        ),
    ),
    Row(
        "a rule for a TCP port that comes before a router looks at the TTL",
        (Fault("r2", fw("inet prerouting raw", 'iifname "core" tcp dport 4240 drop')),),
        (
            Find(
                Cause.NETWORK,
                "rack=a → rack=b",
                4,
                (
                    "drops TCP 4240, after $gw_a (hop 1)",
                    "router 2, 10.99.0.2, answers to another port all the same",
                ),
                hop="$gw_a 1",
                severity=LESS,
                asks=1,
            ),
        ),
    ),
    Row(
        "unlike rules of two routers, and a rule that iptables-legacy holds",
        (
            Fault("r2", fw("forward", f"{GENEVE} drop")),
            Fault("fw", fw("forward", "tcp dport 4240 drop")),
            Fault(
                "n2",
                "iptables-legacy -A INPUT -i lo -j ACCEPT; "
                "iptables-legacy -A INPUT -p icmp --icmp-type 8 -j DROP",
                "iptables-legacy -F",
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a ↔ rack=b",
                8,
                ("drops UDP 6081, after 10.99.0.2 (hop 2)",),
                asks=2,
            ),
            Find(
                Cause.NETWORK,
                "rack=a ↔ rack=b",
                8,
                ("drops TCP 4240, after $gw_a (hop 1)",),
                severity=LESS,
                asks=2,
            ),
            Find(
                Cause.RULE,
                "all → n2",
                3,
                ("-A INPUT -p icmp",),
                "n2",
                "iptables-legacy ip filter INPUT",
                severity=LESS,
                mends=True,
            ),
        ),
    ),
    Row(
        "each router drops what goes between other nodes of the same two racks",
        (
            Fault("fw", fw("forward", f"ip saddr $n1 ip daddr $n3 {GENEVE} drop")),
            Fault(
                "r2",
                fw(
                    "forward",
                    f"ip saddr $n1 ip daddr $n4 {GENEVE} drop",
                    f"ip saddr $n2 {GENEVE} drop",
                ),
            ),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a → n4; n2 → n3",
                3,
                ("drops UDP 6081, after 10.99.0.2 (hop 2)",),
                asks=2,
            ),
            Find(
                Cause.NETWORK,
                "n1 → n3",
                1,
                ("drops UDP 6081, after $gw_a (hop 1)",),
                asks=1,
            ),
        ),
    ),
    Row(
        "each router drops what comes to it first",
        (
            Fault("fw", fw("forward", f'iifname "rack-a" {GENEVE} drop')),
            Fault("r2", fw("forward", f'iifname "rack-b" {GENEVE} drop')),
        ),
        (
            Find(Cause.NETWORK, "rack=a → rack=b", 4, (), hop="$gw_a 1", asks=1),
            Find(Cause.NETWORK, "rack=b → rack=a", 4, (), hop="$gw_b 1", asks=1),
        ),
    ),
    Row(
        "routers that do not answer, one of which drops",
        (
            Fault("fw", fw("forward", f"{GENEVE} drop") + fw("ip output", "icmp type 11 drop")),
            Fault("r2", fw("ip output", "icmp type 11 drop")),
        ),
        (
            Find(
                Cause.NETWORK,
                "rack=a ↔ rack=b",
                8,
                ("so the hop is not known", "2 routers lie between the nodes"),
                asks=2,
            ),
        ),
    ),
    Row(
        "routers that send it back and forth",
        (Fault("r2", "ip route add $n3 via 10.99.0.1", "ip route del $n3 via 10.99.0.1"),),
        (
            Find(
                Cause.NETWORK,
                "rack=a → n3 (UDP 6081); rack=a ↔ n3 (TCP 4240 and ICMP echo)",
                10,
                ("a routing loop", "$gw_a and 10.99.0.2"),
            ),
        ),
    ),
)
