"""Tokens, source ports and the patching of probes. Pure: bytes in, bytes out.

A token names run, look, probe, source, destination and sequence, and only those who hold the run's
key can make one: a stranger's, another run's or an old packet never counts. Tokens of one pair are
slices of keyed BLAKE2b digests, eight to a digest.
"""

import struct

try:
    from _blake2 import blake2b  # hashlib would load OpenSSL
except ImportError:  # pragma: no cover
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKEN = 8  # bytes
IDENT_MASK = 0xFFF0
TAG = 4  # bytes in the clear before the token, for the kernel's filter
_PER_DIGEST = 64 // TOKEN
_MAX_BLOCKS = 8

UDP, TCP, ICMP, ICMPV6 = 17, 6, 1, 58
SYN, RST, ACK = 0x02, 0x04, 0x10

# TCP probes leave from above Linux's default ephemeral range, so that they meet no live connection.
TCP_PORTS = (61000, 64999)
_TUNNEL_PORTS = (4789, 6081, 8472)  # a stateful firewall takes these for replies
_LOW_PORT, _FIRST_HIGH_PORT, _LAST_PORT = 704, 1024, 65535

_TOKEN_SEED = struct.Struct("!HBBBHH")
_SHORT = struct.Struct("!H").pack_into
_FIXED = 0xFFFF  # in place of a look's number: the same in every look of the run


def tokens(
    key: bytes, look: int, family: int, probe: int, pair: "tuple[int, int]", count: int
) -> "list[bytes]":
    """The tokens of one cell in one look, in the order of their sequence numbers; at most 2,048."""
    out = b""
    for block in range((count + _PER_DIGEST - 1) // _PER_DIGEST):
        seed = _TOKEN_SEED.pack(look, family, probe, block, pair[0], pair[1])
        out += blake2b(seed, key=key).digest()
    return [out[i : i + TOKEN] for i in range(0, count * TOKEN, TOKEN)]


def token_width(protocol: int) -> int:
    """How many bytes of a token a probe has room for: a SYN carries it as its sequence number."""
    return 4 if protocol == TCP else TOKEN


def run_tag(key: bytes) -> bytes:
    """The four bytes that the kernel's filters look for in this run's UDP and ICMP payloads."""
    return blake2b(b"tag", key=key, digest_size=TAG).digest()


def run_ident(key: bytes) -> int:
    """The run's ICMP identifier, and its IPv4 identification but for the last four bits."""
    drawn = int.from_bytes(blake2b(b"ident", key=key, digest_size=2).digest(), "big")
    return (drawn | 0x10) & IDENT_MASK  # never 0: the kernel would replace it


def identification(ident: int, look: int) -> int:
    """The IPv4 identification of one look's probes: an ICMP error quotes little else."""
    return ident | (look & ~IDENT_MASK & 0xFFFF)


def udp_ports(
    key: bytes,
    family: int,
    probe: int,
    pair: "tuple[int, int]",
    count: int,
    within: "tuple[int, int] | None" = None,
) -> "list[int]":
    """The UDP source ports of one cell, the same in every look, so that a flow is one flow.

    `within` are the lowest and the highest that the real sender uses; it may have fewer than asked.

    The kernel's GENEVE draws from 1 to 65535 (include/net/udp.h, udp_flow_src_port), so one of them
    is privileged and the others are spread evenly over the rest; their low bits run through every
    residue, because link bundles choose a member by them.
    """
    seed = _TOKEN_SEED.pack(_FIXED, family, probe, 0, pair[0], pair[1])
    draw = blake2b(seed, key=key).digest()
    turn = draw[0]
    if within is not None:
        first, span = within[0], within[1] - within[0] + 1
        start = int.from_bytes(draw[1:3], "big")
        rest = max(span - count, 0)  # so that none comes twice while there is room
        return [first + (start + i * rest // count + i) % span for i in range(count)]
    ports = [_LOW_PORT + (draw[1] % 16) * 16 + (turn & 15)]
    width = (_LAST_PORT - _FIRST_HIGH_PORT) // max(count - 1, 1)
    for i in range(1, count):
        start = _FIRST_HIGH_PORT + (i - 1) * width
        offset = int.from_bytes(draw[(2 * i) % 62 :][:2], "big")
        port = start + offset % max(width - 32, 1)
        port = ((port + 15) & ~15) | ((i + turn) & 15)
        ports.append(port + 16 if port in _TUNNEL_PORTS else port)
    return ports[:count]


def tcp_ports(
    key: bytes, look: int, family: int, probe: int, pair: "tuple[int, int]", count: int
) -> "list[int]":
    """The TCP source ports of one cell in one look.

    Fresh ones for each look: some firewalls drop a second SYN of one flow that has another
    sequence number.
    """
    seed = _TOKEN_SEED.pack(look, family, probe, _MAX_BLOCKS, pair[0], pair[1])
    first = int.from_bytes(blake2b(seed, key=key, digest_size=4).digest(), "big")
    span = TCP_PORTS[1] - TCP_PORTS[0] + 1
    return [TCP_PORTS[0] + (first + 997 * i) % span for i in range(count)]


def checksum(data: bytes, start: int = 0) -> int:
    """The Internet checksum (RFC 1071) of `data`, with `start` added in."""
    if len(data) & 1:
        data += b"\0"
    total = start + int(sum(struct.unpack("!%dH" % (len(data) // 2), data)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Template:
    """A whole IP packet with everything that differs from probe to probe left blank.

    `token` is the offset of the token's place, or of the sequence number for TCP.
    """

    def __init__(self, packet: bytes, protocol: int, token: int) -> None:
        self.packet = packet
        self.protocol = protocol
        self.token = token
        self.header = 40 if packet[0] >> 4 == 6 else 20

    @classmethod
    def of(cls, fields: "dict[str, Any]") -> "Template":
        """From a frame's {packet: hexadecimal, protocol, token}."""
        return cls(bytes.fromhex(fields["packet"]), fields["protocol"], fields["token"])

    def full(self, size: int) -> "Template":
        """The same, `size` bytes long as an IP packet, and not to be fragmented."""
        packet = bytearray(self.packet) + bytes(max(size - len(self.packet), 0))
        if self.header == 20:
            packet[6] |= 0x40  # DF
        return Template(bytes(packet), self.protocol, self.token)


class Patcher:
    """Turns one template into probe after probe, all from one source.

    `aim` prepares a destination once; `patch` then writes destination, port and token in place.
    """

    def __init__(
        self, template: Template, tag: bytes, ident: int, source: bytes, look: int = 0
    ) -> None:
        packet = bytearray(template.packet)
        l4, size, protocol = template.header, len(packet), template.protocol
        if l4 == 40:
            struct.pack_into("!H", packet, 4, size - 40)
            packet[8:40] = source + bytes(16)
        else:
            struct.pack_into("!HH", packet, 2, size, identification(ident, look))
            packet[12:20] = source + bytes(4)
        first = l4  # the port, or for ICMP the sequence number
        self._checksum = l4 + {UDP: 6, TCP: 16, ICMP: 2, ICMPV6: 2}[protocol]
        if protocol != TCP:
            packet[template.token - TAG : template.token] = tag
        if protocol == UDP:
            struct.pack_into("!H", packet, l4 + 4, size - l4)
            if l4 == 20:
                self._checksum = 0  # none on IPv4, as Cilium sends it
        elif protocol != TCP:
            first = l4 + 6
            struct.pack_into("!H", packet, l4 + 4, ident)
        for blank in {first, self._checksum} - {0}:
            packet[blank : blank + 2] = bytes(2)
        self._pseudo = protocol != ICMP  # which is the only one not to sum the addresses up
        pseudo = source + struct.pack("!HH", protocol, size - l4) if self._pseudo else b""
        self._base = ~checksum(pseudo + bytes(packet[l4:])) & 0xFFFF
        self._lead = bytes(packet[l4:first])
        self._to = 24 if l4 == 40 else 16
        self._aim = struct.Struct("!%dsH" % (first - self._to)).pack_into
        self._token = slice(template.token, template.token + token_width(protocol))
        self._buffer = packet

    def aim(self, destination: bytes) -> "tuple[bytes, int]":
        """What `patch` has to know of a destination (packed)."""
        address = int.from_bytes(destination, "big") if self._pseudo else 0
        return destination + self._lead, self._base + address % 0xFFFF

    def patch(self, aim: "tuple[bytes, int]", first: int, token: bytes) -> bytearray:
        """The probe with that source port (ICMP: sequence number) and token.

        The buffer is the same each time: send it before asking for the next.
        """
        lead, total = aim
        buffer = self._buffer
        self._aim(buffer, self._to, lead, first)
        buffer[self._token] = token
        if self._checksum:
            # A sum of 16-bit words with carry is the number that they spell, modulo 65535.
            total = (total + first + int.from_bytes(token, "big")) % 0xFFFF
            _SHORT(buffer, self._checksum, 0xFFFF - total)
        return buffer
