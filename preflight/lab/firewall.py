"""nftables rulesets, as text for `Lab.nft`, and the connections that netfilter tracks."""

from pyroute2 import NFCTSocket

from preflight.core.model import Protocol
from preflight.lab.topology import Rack

FLUSH = "flush ruleset\n"


def host_input_drop(protocol: Protocol, port: int, comment: str) -> str:
    """A node's own firewall that drops what comes in for `port`. It meets both families."""
    return f"""\
table inet host_firewall {{
    chain input {{
        type filter hook input priority filter; policy accept;
        {protocol} dport {port} counter drop comment "{comment}"
    }}
}}
"""


def forward_drop(protocol: Protocol, port: int, between: tuple[Rack, Rack], comment: str) -> str:
    """The router's firewall that drops traffic to `port` between two racks, in each direction."""
    a, b = (rack.bridge for rack in between)
    what = f'{protocol} dport {port} counter drop comment "{comment}"'
    rules = "\n".join(f'        iifname "{i}" oifname "{o}" {what}' for i, o in ((a, b), (b, a)))
    return f"""\
table inet network_firewall {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
{rules}
    }}
}}
"""


def flush_connections() -> None:
    """Empty the connection tracking table of the calling thread's namespace, of all families."""
    with NFCTSocket() as netlink:
        netlink.flush()
