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
    LD_W_IND,
    Filters,
    Program,
)

ICMP_ERRORS = (3, 11, 12)
ICMPV6_ERRORS = (1, 2, 3, 4)
_MOST_PORTS = 24  # a program has 4,096 instructions at most, and each packet waits for all of them


class ShotFilters(Filters):
    """`tag_ats` are offsets of the run's tag in UDP payloads, whatever the port; `ports` and
    `source_ports` are what TCP shots go to and come from.
    """

    def __init__(
        self, tag_ats: "list[int]", ports: "list[int]", source_ports: "list[int]", tag: bytes
    ) -> None:
        super().__init__({}, [], True, tag, 0)
        self._tag_ats = sorted(set(tag_ats))
        self._ports = _ranges(sorted(set(ports)))
        self._source_ports = _ranges(sorted(set(source_ports)))

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

    def _icmp_body(self, p: Program, v6: bool, errors: bool) -> None:  # noqa: ARG002 - always
        kinds, echo = (ICMPV6_ERRORS, (128, 129)) if v6 else (ICMP_ERRORS, (8, 0))
        tagged = p.fresh()
        p.add(LD_B_IND, 0)
        for kind in kinds:  # at the tap too: the node's own firewall may keep them from its sockets
            p.jump(JEQ, kind, "pass")
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
