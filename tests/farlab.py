"""A lab whose second rack is behind a router of its own: two routers lie between the racks."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from preflight.lab import Lab

FAR = "r2"
_SYSCTLS = (
    "net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=0 "
    "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0"
)


class FarLab(Lab):
    """Where a name of a namespace is wanted, `r2` is the second router."""

    def _namespace(self, where: str) -> str:
        return f"preflight-{self.name}-{FAR}" if where == FAR else super()._namespace(where)


@contextmanager
def far_lab(name: str) -> Iterator[FarLab]:
    """n1 and n2, router fw, 10.99.0.0/30, router r2, n3 and n4. IPv4 alone."""
    with Lab.up(name, nodes=4, racks=2, ipv6=False) as near:
        lab = FarLab(near.plan, near.run_dir)
        namespace = f"preflight-{name}-{FAR}"
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        try:
            _move(lab, namespace)
            yield lab
        finally:
            subprocess.run(["ip", "netns", "del", namespace], check=True)


def _move(lab: FarLab, namespace: str) -> None:
    rack = lab.plan.racks[1]
    gateway, nodes = rack.gateways[0], [node for node in lab.nodes if node.rack == rack.name]
    _shell(
        lab, "fw",
        *(f"ip link set {node.name} netns {namespace}" for node in nodes),
        f"ip link del {rack.bridge}",
        f"ip link add core type veth peer name core netns {namespace}",
        "ip link set core up",
        "ip addr add 10.99.0.1/30 dev core",
        f"ip route add {gateway.network} via 10.99.0.2",
    )  # fmt: skip
    _shell(
        lab, FAR,
        f"sysctl -qw {_SYSCTLS}",
        f"ip link add {rack.bridge} address {rack.mac} type bridge mcast_snooping 0",
        "ip link set core up",
        "ip addr add 10.99.0.2/30 dev core",
        f"ip link set {rack.bridge} up",
        f"ip addr add {gateway} dev {rack.bridge}",
        "ip route add default via 10.99.0.1",
        *(f"ip link set {n.name} master {rack.bridge} up" for n in nodes),
    )  # fmt: skip
    for node in nodes:
        _shell(lab, node.name, f"ip route replace default via {gateway.ip}")


def _shell(lab: Lab, where: str, *commands: str) -> None:
    lab.run(where, "sh", "-ec", "\n".join(commands))
