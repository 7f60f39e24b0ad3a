"""Scenarios of `test_diagnose` in which addresses or ports are translated, by nodes themselves."""

from __future__ import annotations

from faultbench import Fault, Find, Row, fw
from faultrows import GENEVE, LESS

from preflight.core.findings.model import Cause

HEALTH = "tcp dport 4240"
CLEAN = "; ".join(f"iptables-legacy -t nat -F {chain}" for chain in ("PREROUTING", "OUTPUT"))


def out(*rules: str) -> str:
    """A sender's own translation of destinations."""
    lines = "; ".join(rules)
    return f"table inet lead {{ chain out {{ type nat hook output priority -100; {lines}; }}; }}"


TRANSLATIONS = (
    Row(
        "destinations that send it on, each in another firewall's words, beside a rule that drops",
        (
            Fault("n3", "iptables -t nat -A PREROUTING -p udp --dport 6081 -j REDIRECT "
                  "--to-ports 6082"),
            Fault("n2", fw("ip prerouting dstnat", f"{GENEVE} dnat to $n1",
                           f"{HEALTH} redirect to :7")),
            Fault("n4", "iptables-legacy -t nat -A PREROUTING -p udp --dport 6081 -j REDIRECT "
                  "--to-ports 6083", CLEAN),
            Fault("n1", fw("input", "icmp type echo-request drop")),
        ),
        (
            Find(Cause.TRANSLATION, "all → n3", 3,
                 ("n3 itself sends UDP 6081 on to port 6082: iptables rule", "PREROUTING rule 1",
                  "conntrack -D -p udp --orig-port-dst 6081"),
                 "n3", "iptables ip nat PREROUTING", mends=True),
            Find(Cause.TRANSLATION, "all → n2", 3,
                 ("n2 itself sends UDP 6081 elsewhere: nftables rule",
                  "before the one that translates"),
                 "n2", "nft ip preroutinging prerouting", mends=True),
            Find(Cause.TRANSLATION, "all → n4", 3,
                 ("n4 itself sends UDP 6081 on to port 6083: iptables (legacy) rule",),
                 "n4", "iptables-legacy ip nat PREROUTING", mends=True),
            Find(Cause.TRANSLATION, "all → n2", 3,
                 ("n2 itself sends TCP 4240 on to port 7: nftables rule",),
                 "n2", severity=LESS, mends=True),
            Find(Cause.RULE, "all → n1", 3, ("n1 itself drops ICMP echo",), "n1", severity=LESS,
                 mends=True),
        ),
    ),
    Row(
        "over both families a redirection, over IPv6 a sender's own",
        (
            Fault("n3", fw("inet prerouting dstnat", f"{GENEVE} redirect to :6082",
                           "icmpv6 type echo-request dnat ip6 to $n4_6")),
            Fault("n1", out(f"ip6 daddr $n2_6 {HEALTH} dnat ip6 to $n4_6")),
        ),
        (
            Find(Cause.TRANSLATION, "all → n3", 6,
                 ("n3 itself sends UDP 6081 on to port 6082",), "n3", mends=True),
            Find(Cause.TRANSLATION, "all → n3", 3,
                 ("n3 itself sends ICMPv6 echo elsewhere: nftables rule",), "n3", severity=LESS,
                 mends=True),
            Find(Cause.TRANSLATION, "n1 → n2", 1,
                 ("n1 itself sends TCP 4240 for n2 on to $n4_6 (n4)",), "n1", severity=LESS,
                 mends=True),
        ),
        family=None,
    ),
    Row(
        "senders that lead their own packets elsewhere, one of them back to itself",
        (
            Fault("n1", out(f"ip daddr $n3 {GENEVE} dnat ip to $n4",
                            f"ip daddr $n2 {GENEVE} dnat ip to $n1:6082")),
            Fault("n4", "iptables-legacy -t nat -A OUTPUT -d $n1 -p udp --dport 6081 -j DNAT "
                  "--to-destination $n2", CLEAN),
        ),
        (
            Find(Cause.TRANSLATION, "n1 → n3", 1,
                 ("n1 itself sends UDP 6081 for n3 on to $n4 (n4): nftables rule",), "n1",
                 "nft inet lead out", mends=True),
            Find(Cause.TRANSLATION, "n1 → n2", 1,
                 ("n1 itself sends UDP 6081 for n2 on to $n1 (n1) port 6082: nftables rule",), "n1",
                 mends=True),
            Find(Cause.TRANSLATION, "n4 → n1", 1,
                 ("n4 itself sends UDP 6081 for n1 on to $n2 (n2): iptables (legacy) rule",), "n4",
                 mends=True),
        ),
    ),
    Row(
        "sources that nodes translate themselves, dropped on the way for that",
        (
            Fault("n1", "iptables -t nat -A POSTROUTING -p udp -j SNAT --to-source 198.18.200.1"),
            Fault("n2", "iptables-legacy -t nat -A POSTROUTING -p udp --dport 6081 -j SNAT "
                  "--to-source 198.18.200.2", "iptables-legacy -t nat -F POSTROUTING"),
            Fault("fw", fw("forward", "ip saddr 198.18.200.0/24 drop")),
        ),
        (
            Find(Cause.NETWORK, "n1 → rack=b", 2,
                 ("drops UDP 6081 that n1 sends from 198.18.200.1", "not from $n1: iptables rule"),
                 mends=True, asks=1),
            Find(Cause.NETWORK, "n2 → rack=b", 2,
                 ("drops UDP 6081 that n2 sends from 198.18.200.2",
                  "not from $n2: iptables (legacy) rule"), mends=True, asks=1),
        ),
    ),
    Row(
        "a source address that routes pick, dropped on the way, and one that a rule makes, let in",
        (
            Fault("n3", "ip address add 198.18.200.9/32 dev lo; "
                  "ip route change default via $gw_b dev eth0 src 198.18.200.9",
                  "ip route change default via $gw_b dev eth0; "
                  "ip address del 198.18.200.9/32 dev lo"),
            Fault("n2", fw("ip postrouting srcnat", f"{GENEVE} snat to 198.18.200.2")),
            Fault("fw", fw("forward", "ip saddr 198.18.200.9 drop")),
        ),
        (
            Find(Cause.NETWORK, "n3 → rack=a", 2,
                 ("that n3 sends from 198.18.200.9", "its routes pick that address",
                  "name $n3 (`src`)"), asks=1),
            Find(Cause.TRANSLATION, "n2 → all except n2", 0,
                 ("n2 sends tunnel packets from 198.18.200.2, not from $n2",
                  "nftables rule", "on n2 rewrites it"), "n2", severity=LESS, mends=True),
        ),
        after=("n3 → rack=a: the network drops UDP 6081 that n3 sends from 198.18.200.9",),
    ),
    Row(
        "a sender whose own translation leads answers elsewhere, and lets its tunnel through",
        (Fault("n1", fw("ip postrouting srcnat", 'oifname "eth0" snat to 198.18.200.3')),),
        (
            Find(Cause.TRANSLATION, "n1 → all", 6,
                 ("n1 itself sends TCP 4240 and ICMP echo from 198.18.200.3, and gets no answers",),
                 "n1", "nft ip postroutinging postrouting", severity=LESS, mends=True),
            Find(Cause.TRANSLATION, "n1 → role=worker", 0,
                 ("n1 sends tunnel packets from 198.18.200.3", "on n1 rewrites it"), "n1",
                 severity=LESS, mends=True),
        ),
    ),
    Row(
        "sources that the path translates, for a node that lets the nodes' own addresses pass",
        (
            Fault("fw", fw("ip postrouting srcnat",
                           'iifname "rack-a" oifname "rack-b" masquerade')),
            Fault("n3", fw("input", "ct state established,related accept",
                           "ip saddr { $n1, $n2, $n4 } accept", policy="drop")),
        ),
        (
            Find(Cause.RULE, "rack=a → n3", 6,
                 ("n3 itself drops UDP 6081, TCP 4240 and ICMP echo from rack=a: nftables policy",
                  "have it leave traffic between nodes as it is", "that alone mends this"),
                 "n3", "nft inet inputing input", mends=True),
            Find(Cause.TRANSLATION, "rack=a → n4", 0, ("$gw_b instead of $n1 and $n2",),
                 severity=LESS),
        ),
        after=(
            "rack=a: tunnel packets are translated on the path, $gw_b instead of $n1 and $n2",
        ),
    ),
    Row(
        "one source port for all flows, and a rule that knows what they have become",
        (
            Fault("fw", fw("ip postrouting srcnat", f"ip saddr $n1 {GENEVE} snat to $n1:5000")),
            Fault("n3", fw("input", f"udp sport 5000 {GENEVE} drop")),
        ),
        (
            Find(Cause.RULE, "n1 → n3", 1, ("n3 itself drops UDP 6081 from n1",), "n3",
                 "nft inet inputing input", mends=True),
            Find(Cause.TRANSLATION, "n1 → n4", 1,
                 ("gives all flows of UDP 6081 the source port 5000", "to a fixed port")),
        ),
        # A flow of the first check has the port still.
        after=("n1 → rack=b: the network drops UDP 6081, after $gw_a (hop 1)",),
    ),
)  # fmt: skip
