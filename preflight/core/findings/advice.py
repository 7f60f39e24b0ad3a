"""What to do about causes that are no firewall's rule: the kernel, sizes, routes, neighbours."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from preflight.core.diagnosis.conclusions import Diagnosis, Lengths, NextHop, Size
from preflight.core.diagnosis.kernel import KernelReason
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.facts.mtu import OVERHEAD
from preflight.core.findings.model import Change
from preflight.core.findings.remedy import Remedy
from preflight.core.findings.size_words import LEAST_MTU
from preflight.core.model import Family, Node
from preflight.core.terms import listed, plural

# helmValues replace, and do not extend, what EKS Anywhere gives Cilium: a lone MTU there would
# leave Cilium at its default, VXLAN (eks-anywhere, pkg/networking/cilium/templater.go).
_EKS_ANYWHERE = (
    "In EKS Anywhere: spec.clusterNetwork.cniConfig.cilium.helmValues of the cluster's spec, with "
    "MTU: {mtu} beside routingMode: tunnel, tunnelProtocol: geneve and all else that is needed: "
    "helmValues replace EKS Anywhere's own, and without them Cilium takes VXLAN on UDP 8472."
)
_OTHERS = (
    "Elsewhere: helm upgrade cilium cilium/cilium --namespace kube-system --reuse-values --set "
    "MTU={mtu}, and restart Cilium's agents; pods keep their MTU until they are restarted, too."
)

_SYSCTL_FILE = "/etc/sysctl.d/98-cilium-nodes.conf"  # after what distributions set, before Cilium's
_KERNEL: Mapping[Reason, str] = {
    Reason.RP_FILTER: "Or let the route back to the senders leave by the device that their packets "
    "come in by: `ip route get ADDRESS` shows the one it takes.",
    Reason.OWN_ADDRESS: "Two machines have one address: `ip address` on both, and correct one.",
    Reason.NOT_LOCAL: "See `ip address`, `ip rule` and `ip route show table local`; and what "
    "rewrites the destination before the node.",
    Reason.ROUTE_REFUSES: "See `ip rule` and `ip route show table all`, and remove the blackhole, "
    "prohibit or unreachable entry where the network's settings are kept.",
    Reason.FORWARDED: "The address is not the node's own where the packet comes in: see `ip "
    "address`, `ip rule` and `ip route show table local`, and what rewrites it before the node.",
    Reason.NO_ROUTE_BACK: "Add a route to these nodes, or the default route if there is none (`ip "
    "route show default`, for IPv6 `ip -6 route show default`), or remove the blackhole, prohibit "
    "or unreachable one (`ip route show table all`, `ip rule`), where the network's settings are "
    "kept.",
    Reason.CONNTRACK_FULL: "See what fills the table: `conntrack -S` and `conntrack -L`.",
    Reason.CHECKSUM: "A sender's network card or its hypervisor makes wrong checksums: switch its "
    "offloads off there (`ethtool -K DEVICE tx off`) and see whether it ends.",
    Reason.IPSEC: "See `ip xfrm policy` for one that blocks or demands encryption, and its owner.",
    Reason.QUEUE: "See `tc -s qdisc show` for the queue whose `dropped` grows.",
    Reason.TC: "See `tc filter show dev DEVICE ingress` (and egress), `bpftool net`, and who "
    "attached it.",
    Reason.XDP: "See `ip -d link` and `bpftool net` for the program, and who attached it.",
}


def for_kernel(node: str, reason: KernelReason) -> Remedy:
    """For a packet that the kernel of `node` threw away by itself."""
    pairs = list(dict.fromkeys((s.name, s.better) for s in reason.settings))
    told = _KERNEL.get(reason.reason)
    advice = (f"{node}: {told}",) if told else ()
    if not pairs:
        return Remedy(advice=advice)
    change = Change(
        node,
        "sysctl",
        # Devices may be called what a shell would run.
        tuple(f"sysctl -w {shlex.quote(f'{name}={value}')}" for name, value in pairs),
        tuple(f"echo {shlex.quote(f'{n} = {value}')} >>{_SYSCTL_FILE}" for n, value in pairs),
    )
    return Remedy((change,), advice)


def for_size(
    diagnoses: Sequence[Diagnosis],
    families: Sequence[Family],
    *,
    narrowest: int = 0,
    unlike: str = "",
) -> Remedy:
    """For packets that are too big for the path: a greater MTU there, or a smaller one for Cilium.

    The MTU for Cilium is that of the smallest path that was measured, or `narrowest` where another
    finding's is smaller still: the agents of all nodes share one setting. `unlike` are the nodes
    whose own device takes less than the others'.
    """
    sizes = [d.size for d in diagnoses if d.size is not None and d.size.largest > 0]
    if not sizes:
        return Remedy()
    smallest = min(sizes, key=lambda size: size.largest)
    mtu = min(smallest.largest, narrowest or smallest.largest)
    if smallest.largest < max(LEAST_MTU[family] for family in families):
        told = "no link has so small an MTU: look for a rule that drops packets by their length."
        return Remedy(advice=(f"Between these nodes {told}",))
    left = listed(
        f"{mtu - OVERHEAD[family]:,} over {family.replace('ipv', 'IPv')}"
        for family in dict.fromkeys(families)
    )
    network = _network(smallest)
    if unlike:
        network = (
            f"Give all nodes one MTU, and every link between them: {unlike}'s device takes less "
            f"than {smallest.device_mtu:,} bytes;"
        )
    asked = f"{network} or tell Cilium the MTU of the path, as below."
    whole = "" if mtu == smallest.largest else ", by the narrowest path of all findings"
    told = f"Helm value MTU={mtu} (bytes{whole}): its tunnel then leaves pods {left}."
    change = Change(
        "", "cilium", (), (told, _EKS_ANYWHERE.format(mtu=mtu), _OTHERS.format(mtu=mtu))
    )
    return Remedy((change,), (asked,))


def _network(size: Size) -> str:
    whole = f"packets of {size.device_mtu:,} bytes, the nodes' own MTU"
    if size.reported_by is None:
        rule = ""
        if size.largest_fragmented is not None and size.largest_fragmented <= size.largest:
            rule = " (or find the rule that drops by length)"
        return f"Make every link between these nodes take {whole}{rule},"
    mtu = f", whose next link takes {size.reported_mtu:,} bytes," if size.reported_mtu else ""
    return f"Make the path take {whole}: {size.reported_by}{mtu} refuses them;"


def for_lengths(lengths: Lengths) -> str:
    """For packets that are dropped for their length or their DF bit."""
    if lengths.dont_fragment is not None:
        return (
            "Look for a rule or a policy on IPv4's flags (DF, fragments) between these nodes, and "
            "let this traffic through whatever its DF bit says."
        )
    return (
        "No MTU does this: look for a rule, an IPS or a policer between these nodes that drops "
        "packets by their length, and let this traffic through whatever its length."
    )


def for_route(who: str, address: str) -> Remedy:
    """For sources without a route; `address` is one that they cannot send to."""
    told = (
        f"{who}: `ip route get {address}` shows what the kernel says, `ip route show table all` "
        "and `ip rule` why: add the route that is missing, or remove the unreachable, prohibit or "
        "blackhole one, where the network's settings are kept (netplan, NetworkManager, "
        "systemd-networkd)."
    )
    return Remedy(advice=(told,))


def for_neighbour(who: str, hops: Sequence[NextHop] = (), nodes: Sequence[Node] = ()) -> Remedy:
    """For sources whose next hop is silent; `hops` are those that are known, of `nodes`."""
    if not hops:
        told = (
            f"{who}: the next hop does not answer ARP or neighbour discovery. `ip neigh` shows "
            "which (FAILED, INCOMPLETE): see whether its address is right, whether both are in one "
            "VLAN and subnet, and whether a firewall drops ARP, or ICMPv6 types 135 and 136."
        )
        return Remedy(advice=(told,))
    return Remedy(advice=tuple(_for_hops(nodes, list(dict.fromkeys(hops)))))


def _for_hops(nodes: Sequence[Node], hops: Sequence[NextHop]) -> Iterator[str]:
    for family in Family:
        own = [hop for hop in hops if (":" in hop.address) is (family is Family.IPV6)]
        if not own:
            continue
        ip, drops = "ip", "ARP"
        if family is Family.IPV6:
            ip, drops = "ip -6", "ICMPv6 types 135 and 136"
        first = own[0]
        device = f" dev {first.device}" if first.device else ""
        more = f", and {plural(len(own) - 1, 'next hop')} more likewise" if len(own) > 1 else ""
        yield (
            f"{nodes[first.node].name}: `{ip} neigh show {first.address}{device}` shows FAILED or "
            f"INCOMPLETE{more}. See whether {first.address} is up and the right address, whether "
            "both are in one VLAN and subnet on that device, and whether a firewall on either "
            f"drops {drops}."
        )


def for_mute(who: str) -> Remedy:
    """For nodes that are asked for and do not answer."""
    told = (
        f"{who}: something on it keeps it from answering who asks for its address. Over IPv4: `nft "
        "list ruleset` for tables of the family arp, `arptables -L`, the sysctls arp_ignore and "
        "arp_filter. Over IPv6: firewall rules on ICMPv6 types 135 and 136, `ip -6 address` for "
        "tentative and dadfailed."
    )
    return Remedy(advice=(told,))
