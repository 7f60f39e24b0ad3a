"""What goes out: each template as scapy and the RFCs see it, and what a receiver makes of it."""

import pytest
from scapy.contrib import geneve as geneve_layer
from scapy.layers import vxlan as vxlan_layer
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from preflight.agent.packets import TAG, TOKEN
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe, ProbeKind, Protocol, Severity
from preflight.core.offsets import tag_offset
from preflight.craft.templates import template

VXLAN = Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED)
PLAIN = Probe("wireguard", ProbeKind.UDP, Protocol.UDP, 51871, Severity.RECOMMENDED)
KUBELET = Probe("kubelet", ProbeKind.TCP, Protocol.TCP, 10250, Severity.REQUIRED)
OTHER_PORT = Probe("tunnel", ProbeKind.GENEVE, Protocol.UDP, 9999, Severity.REQUIRED)
EVERY_FAMILY = pytest.mark.parametrize("family", Family)
BOTH_FORMS = pytest.mark.parametrize("harmless", [False, True], ids=["plain", "inert"])


def wire(probe: Probe, family: Family, *, harmless: bool = False) -> bytes:
    return bytes.fromhex(str(template(probe, family, harmless=harmless)["packet"]))


def dissect(probe: Probe, family: Family, *, harmless: bool = False):  # type: ignore[no-untyped-def]
    data = wire(probe, family, harmless=harmless)
    return IP(data) if family is Family.IPV4 else IPv6(data)


def payload(probe: Probe, family: Family, *, harmless: bool) -> bytes:
    header = 20 if family is Family.IPV4 else 40
    return wire(probe, family, harmless=harmless)[header + 8 :]


@EVERY_FAMILY
@pytest.mark.parametrize("probe", [GENEVE, OTHER_PORT], ids=lambda probe: probe.name)
def test_plain_geneve_is_what_middleboxes_see_of_cilium(probe: Probe, family: Family) -> None:
    """RFC 8926: version 0, no options, no O and C bits, an Ethernet frame inside, an inert one."""
    packet = dissect(probe, family)
    assert packet[UDP].dport == probe.port
    geneve = geneve_layer.GENEVE(payload(probe, family, harmless=False))
    assert (geneve.version, geneve.optionlen, geneve.oam, geneve.critical) == (0, 0, 0, 0)
    assert geneve.proto == 0x6558
    assert geneve.vni == 0
    inner = Ether(payload(probe, family, harmless=False)[8:])
    assert inner.type == 0x88B5
    assert inner.dst == "02:00:00:00:00:02"  # local, unicast: no bridge floods it for a group
    assert len(inner) >= 14 + TAG + TOKEN


@EVERY_FAMILY
def test_inert_geneve_is_nothing_that_a_tunnel_device_takes(family: Family) -> None:
    data = payload(GENEVE, family, harmless=True)
    geneve = geneve_layer.GENEVE(data)
    assert geneve.version == 0
    assert geneve.proto not in (0x6558, 0x0800, 0x86DD)
    assert geneve.vni == 0
    assert not data[0] & 0x08  # a VXLAN device would take it for its I flag
    assert not data[1] & 0xC0  # neither a control packet nor critical options
    assert int.from_bytes(data[2:4], "big") >= 0x0600  # an EtherType, not a length


@EVERY_FAMILY
@BOTH_FORMS
def test_no_tunnel_probe_reads_as_another_tunnels(family: Family, harmless: bool) -> None:
    """A GENEVE probe in front of a VXLAN device has no I flag, in either form."""
    assert not payload(GENEVE, family, harmless=harmless)[0] & 0x08


@EVERY_FAMILY
def test_plain_vxlan_has_its_i_flag_and_an_inert_frame(family: Family) -> None:
    data = payload(VXLAN, family, harmless=False)
    vxlan = vxlan_layer.VXLAN(data)
    assert data[0] == 0x08  # RFC 7348: I alone
    assert vxlan.vni == 0
    assert Ether(data[8:]).type == 0x88B5


@EVERY_FAMILY
def test_inert_vxlan_has_no_i_flag(family: Family) -> None:
    data = payload(VXLAN, family, harmless=True)
    assert data[:8] == bytes(8)
    assert dissect(VXLAN, family, harmless=True)[UDP].dport == 8472


@EVERY_FAMILY
@pytest.mark.parametrize("probe", [GENEVE, VXLAN, PLAIN], ids=lambda probe: probe.name)
@BOTH_FORMS
def test_both_forms_differ_in_nothing_that_a_firewall_sees(
    probe: Probe, family: Family, harmless: bool
) -> None:
    """Same headers, same sizes, tag and token at the same place."""
    made = template(probe, family, harmless=harmless)
    plain = template(probe, family, harmless=False)
    assert (made["protocol"], made["token"]) == (plain["protocol"], plain["token"])
    header = 28 if family is Family.IPV4 else 48
    assert wire(probe, family, harmless=harmless)[:header] == wire(probe, family)[:header]
    assert len(wire(probe, family, harmless=harmless)) == len(wire(probe, family))


@EVERY_FAMILY
@pytest.mark.parametrize("probe", [GENEVE, VXLAN, PLAIN], ids=lambda probe: probe.name)
def test_tag_and_token_have_their_place(probe: Probe, family: Family) -> None:
    """Blank, at an even offset, and where the kernel's filter looks for them."""
    made = template(probe, family, harmless=False)
    token = made["token"]
    assert isinstance(token, int)
    header = 28 if family is Family.IPV4 else 48
    assert token == header + tag_offset(probe) + TAG
    assert token % 2 == 0
    assert wire(probe, family)[token - TAG : token + TOKEN] == bytes(TAG + TOKEN)


@EVERY_FAMILY
@pytest.mark.parametrize("probe", [HEALTH, KUBELET], ids=lambda probe: probe.name)
def test_tcp_probes_are_plain_syns(probe: Probe, family: Family) -> None:
    packet = dissect(probe, family)
    assert packet[TCP].flags == "S"
    assert packet[TCP].dport == probe.port
    assert packet[TCP].ack == 0
    assert packet[TCP].options == [("MSS", 1460)]
    assert not bytes(packet[TCP].payload)
    made = template(probe, family, harmless=False)
    assert made["token"] == (24 if family is Family.IPV4 else 44)
    assert wire(probe, family)[made["token"] :][:4] == bytes(4)


def test_echo_requests() -> None:
    four, six = dissect(ECHO, Family.IPV4), dissect(ECHO, Family.IPV6)
    assert (four[ICMP].type, four[ICMP].code) == (8, 0)
    assert (six[ICMPv6EchoRequest].type, six[ICMPv6EchoRequest].code) == (128, 0)
    assert len(four) == 20 + 8 + 56  # as ping sends it
    assert len(six) == 40 + 8 + 56
    assert template(ECHO, Family.IPV4, harmless=False)["token"] == 32
    assert template(ECHO, Family.IPV6, harmless=False)["token"] == 52


@EVERY_FAMILY
@pytest.mark.parametrize("probe", [GENEVE, HEALTH, ECHO, VXLAN, PLAIN], ids=lambda p: p.name)
def test_the_ip_header(probe: Probe, family: Family) -> None:
    made = template(probe, family, harmless=False)
    packet = dissect(probe, family)
    assert set(made) == {"packet", "protocol", "token"}
    if family is Family.IPV4:
        assert (packet.version, packet.ihl, packet.ttl, packet.tos) == (4, 5, 64, 0)
        assert packet.proto == made["protocol"]
        assert int(packet.flags) == 0  # small probes may be fragmented, as Cilium's may
    else:
        assert (packet.version, packet.hlim, packet.tc) == (6, 64, 0)
        assert packet.nh == made["protocol"]
