"""The filters of a deep look: what its sockets let up. Pure: numbers in, programs out.

Looser than those of a look, since a shot may go to any port, come out of an address translation
with other ones, and be quoted by a router that cuts it short: one trial is a few hundred packets.
"""

from preflight.agent.bpf import (
    AND_K,
    JEQ,
    JGE,
    JGT,
    JSET,
    LD_B_IND,
    LD_H_IND,
    LD_W_ABS,
    LD_W_IND,
    RET,
    Filters,
    Program,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ICMP_ERRORS = (3, 11, 12)
ICMPV6_ERRORS = (1, 2, 3, 4)
ARP = 0x00010800  # how it begins: Ethernet, IPv4
DISCOVERY = (135, 136)  # neighbour solicitation and advertisement
_MOST_NEIGHBOURS = 64
_MOST_PORTS = 24  # a program has 4,096 instructions at most, and each packet waits for all of them


class ShotFilters(Filters):
    """`tag_ats` are offsets of the run's tag in UDP payloads, whatever the port; `ports` and
    `source_ports` are what TCP shots go to and come from. Of ARP and IPv6 neighbour discovery the
    tap sees what is about `neighbours` (packed).
    """

    def __init__(
        self,
        tag_ats: "list[int]",
        ports: "list[int]",
        source_ports: "list[int]",
        tag: bytes,
        neighbours: "Iterable[bytes]" = (),
    ) -> None:
        super().__init__({}, [], True, tag, 0)
        self._tag_ats = sorted(set(tag_ats))
        self._ports = _ranges(sorted(set(ports)))
        self._source_ports = _ranges(sorted(set(source_ports)))
        # Of an IPv6 address the last four bytes: it is a filter, and not yet the judgement.
        ends = sorted({(len(one), int.from_bytes(one[-4:], "big")) for one in neighbours})
        self._arp = [end for size, end in ends[:_MOST_NEIGHBOURS] if size == 4]
        self._discovery = [end for size, end in ends[:_MOST_NEIGHBOURS] if size == 16]

    def _before_ip(self, p: Program) -> None:
        if self._arp:
            other = p.fresh()
            p.add(LD_W_ABS, 0)
            p.jump(JEQ, ARP, None, other)
            for at in (14, 24):  # who sends it, who is asked for
                p.add(LD_W_ABS, at)
                for address in self._arp:
                    p.jump(JEQ, address, "pass")
            p.add(RET, 0)
            p.label(other)

    def _udp_body(self, p: Program) -> None:
        # A load beyond a packet's end refuses it, so the nearest place comes first.
        for tag_at in self._tag_ats:
            p.add(LD_W_IND, 8 + tag_at)
            p.jump(JEQ, self._tag, "pass")

    def _tcp_body(self, p: Program) -> None:
        request, answer = p.fresh(), p.fresh()
        p.add(LD_B_IND, 13)
        p.add(AND_K, 0x17)
        p.jump(JEQ, 0x02, request)  # SYN alone
        p.jump(JSET, 0x04, answer)  # RST
        p.jump(JEQ, 0x12, answer, "fail")  # SYN-ACK
        p.ends()
        for name, theirs, ours in ((request, 2, 0), (answer, 0, 2)):
            p.label(name)
            _port_within(p, theirs, self._ports)
            _port_within(p, ours, self._source_ports)
            p.go("refused")
        p.label("refused")

    def _icmp_body(self, p: Program, v6: bool, errors: bool) -> None:
        kinds, echo = (ICMPV6_ERRORS, (128, 129)) if v6 else (ICMP_ERRORS, (8, 0))
        tagged = p.fresh()
        p.add(LD_B_IND, 0)
        for kind in kinds:  # at the tap too: the node's own firewall may keep them from its sockets
            p.jump(JEQ, kind, "pass")
        if self._discovery and v6 and not errors:
            target, other = p.fresh(), p.fresh()
            p.jump(JEQ, DISCOVERY[0], target)
            p.jump(JEQ, DISCOVERY[1], None, other)
            p.label(target)
            p.add(LD_W_IND, 20)
            for end in self._discovery:
                p.jump(JEQ, end, "pass")
            p.add(RET, 0)
            p.label(other)
        p.jump(JEQ, echo[0], tagged)
        p.jump(JEQ, echo[1], None, "fail")
        p.label(tagged)
        p.add(LD_W_IND, 8)
        p.jump(JEQ, self._tag, "pass")


def _ranges(ports: "list[int]") -> "list[tuple[int, int]]":
    """Each port by itself, or all that lies between where there are many."""
    if len(ports) > _MOST_PORTS:
        return [(ports[0], ports[-1])]
    return [(port, port) for port in ports]


def _port_within(p: Program, at: int, ranges: "list[tuple[int, int]]") -> None:
    """Pass where the 16 bits at `at` of the transport header are in one of `ranges`."""
    p.add(LD_H_IND, at)
    for low, high in ranges:
        beyond = p.fresh()
        p.jump(JGE, low, None, beyond)
        p.jump(JGT, high, beyond, "pass")
        p.label(beyond)
