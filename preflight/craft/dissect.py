"""What an odd packet is, in scapy's words."""

from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Packet, Raw

from preflight.craft import templates  # noqa: F401 - sets scapy up, and teaches it GENEVE

_LONGEST = 160
_UDP, _ICMPV6 = 17, 58
_BY_NUMBER: dict[int, type[Packet]] = {1: ICMP, 6: TCP, _UDP: UDP}


def in_words(protocol: int, sender: str, data: bytes) -> str:
    """A packet from its transport header on, as one printable line; a node may send anything."""
    try:
        text = _summary(protocol, data)
    except Exception:
        text = f"{len(data)} bytes that cannot be dissected"
    line = f"{text[:_LONGEST]} from {sender}"
    return "".join(c if c.isprintable() else "?" for c in line)


def _summary(protocol: int, data: bytes) -> str:
    if protocol == _ICMPV6:
        from scapy.layers.inet6 import ICMPv6EchoRequest

        return str(ICMPv6EchoRequest(data).summary())
    packet = _BY_NUMBER.get(protocol, Raw)(data)
    ports = f"{packet.sport} > {packet.dport}, " if protocol == _UDP else ""
    return f"{ports}{packet.summary()}"
