"""One template for each probe, family and form, as whole IP packets.

Three forms: `plain` is what middleboxes will see of Cilium's own traffic, `harmless` is what the
destination's kernel throws away should a tunnel device own the port there, `random` is of the same
size and no tunnel's packet at all.
"""

from hashlib import shake_128

from scapy.config import conf

conf.route_autoload = False  # or the import reads all of this machine's routes
conf.route6_autoload = False

from scapy.contrib.geneve import GENEVE  # noqa: E402
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.layers.vxlan import VXLAN  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402

from preflight.core.diagnosis.trial import Form  # noqa: E402
from preflight.core.model import Family, Probe, ProbeKind, Protocol  # noqa: E402
from preflight.core.offsets import tag_offset  # noqa: E402

TRANS_ETHER_BRIDGING = 0x6558
LOCAL_EXPERIMENTAL = 0x88B5  # IEEE 802: no protocol stack takes it
VNI = 0  # Cilium reads it as the sender's identity; 0 is nobody
TAG_AND_TOKEN = bytes(12)
_INNER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01", type=LOCAL_EXPERIMENTAL)
_ECHO_PADDING = bytes(44)  # an echo of 56 bytes, as ping sends it
_ICMP_HEADER = 8
_UDP_HEADER = 8
_SEQUENCE_AT = 4  # in the TCP header
_TAG = 4
_TTL = 64
_MSS = [("MSS", 1460)]
# Neither GENEVE's version 0 nor VXLAN's I flag, and in no protocol's range of RFC 7983.
_NO_HEADER = b"\x55"


def template(probe: Probe, family: Family, *, harmless: bool) -> dict[str, object]:
    """`form_of` for the two forms of a look."""
    return form_of(probe, family, Form.HARMLESS if harmless else Form.PLAIN)


def form_of(probe: Probe, family: Family, form: Form) -> dict[str, object]:
    """The packet in hexadecimal, its protocol number, and the offset of its token.

    TCP and ICMP have the `plain` form alone, and are that whatever is asked for. The `random` bytes
    are the same in every run, so that two runs can be compared.
    """
    v6 = family is Family.IPV6
    size = 40 if v6 else 20
    number: int
    if probe.protocol is Protocol.TCP:
        number, token = 6, size + _SEQUENCE_AT
        body = TCP(sport=1, dport=probe.port, flags="S", window=64240, options=_MSS)
    elif probe.protocol is Protocol.ICMP:
        number, token = (58 if v6 else 1), size + _ICMP_HEADER + _TAG
        body = _echo(v6=v6) / Raw(TAG_AND_TOKEN + _ECHO_PADDING)
    else:
        number, token = 17, size + _UDP_HEADER + tag_offset(probe) + _TAG
        body = UDP(sport=1, dport=probe.port, chksum=0) / _payload(probe, form)
    return {
        "packet": bytes(_header(number, v6=v6) / body).hex(),
        "protocol": number,
        "token": token,
    }


def _header(protocol: int, *, v6: bool) -> Packet:
    if v6:
        from scapy.layers.inet6 import IPv6

        return IPv6(src="::", dst="::", hlim=_TTL, nh=protocol)
    return IP(src="0.0.0.0", dst="0.0.0.0", ttl=_TTL, proto=protocol)  # noqa: S104 - left blank


def _echo(*, v6: bool) -> Packet:
    if v6:
        from scapy.layers.inet6 import ICMPv6EchoRequest

        return ICMPv6EchoRequest()
    return ICMP(type=8, code=0)


def _payload(probe: Probe, form: Form) -> Packet:
    made = _tunnelled(probe, harmless=form is Form.HARMLESS)
    if form is not Form.RANDOM:
        return made
    at = tag_offset(probe)
    noise = _NO_HEADER + shake_128(b"no tunnel").digest(at)
    return Raw(noise[:at] + bytes(made)[at:])


def _tunnelled(probe: Probe, *, harmless: bool) -> Packet:
    if probe.kind is ProbeKind.GENEVE:
        kind = LOCAL_EXPERIMENTAL if harmless else TRANS_ETHER_BRIDGING
        return GENEVE(proto=kind, vni=VNI) / Raw(bytes(_INNER)) / Raw(TAG_AND_TOKEN)
    if probe.kind is ProbeKind.VXLAN:
        flags = 0 if harmless else "Instance"
        return VXLAN(flags=flags, vni=VNI) / Raw(bytes(_INNER)) / Raw(TAG_AND_TOKEN)
    return Raw(TAG_AND_TOKEN)
