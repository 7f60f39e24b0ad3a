"""Proves that a firewall lets Cilium's GENEVE overlay through, for every ordered pair of nodes."""

__version__ = "0.1.0"
