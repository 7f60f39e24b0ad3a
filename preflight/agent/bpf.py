"""Classic BPF: what the kernel lets up to the agent's sockets. Pure: tables in, programs out.

A node may carry a million GENEVE packets a second; only packets that can be ours may cost it a
wake-up. What passes a filter is a candidate, and the token decides.
"""

import struct

from preflight.agent.packets import ICMP, ICMPV6, IDENT_MASK, TCP, TCP_PORTS, UDP

# linux/bpf_common.h
LD_W_ABS, LD_H_ABS, LD_B_ABS = 0x20, 0x28, 0x30
LD_W_IND, LD_H_IND, LD_B_IND = 0x40, 0x48, 0x50
LDX_IMM, LDX_MSH = 0x01, 0xB1
AND_K = 0x54
JA, JEQ, JGT, JGE, JSET = 0x05, 0x15, 0x25, 0x35, 0x45
RET = 0x06

SNAP = 512  # bytes of a packet that come up: headers, token, and a quoted packet in an ICMP error

ICMP_ERRORS = (3, 11, 12)
ICMPV6_ERRORS = (1, 2, 3)


class Program:
    """Instructions with named jump targets; two targets always exist: `pass` and `fail`.

    A conditional jump reaches 255 instructions far, so returns are strewn among the code (`ends`).
    """

    def __init__(self) -> None:
        self._code: list[tuple[int, str | None, str | None, int]] = []
        self._labels: dict[str, int] = {}
        self._ends: list[int] = []
        self._fresh = 0

    def label(self, name: str) -> None:
        """The next instruction is `name`."""
        self._labels[name] = len(self._code)

    def fresh(self) -> str:
        """A label name that nobody else uses."""
        self._fresh += 1
        return "_%d" % self._fresh

    def add(self, code: int, k: int) -> None:
        """A load, a calculation or a return."""
        self._code.append((code, None, None, k))

    def jump(self, code: int, k: int, yes: "str | None" = None, no: "str | None" = None) -> None:
        """A conditional jump; None is the next instruction."""
        self._code.append((code, yes, no, k))

    def go(self, name: str) -> None:
        """An unconditional jump, however far."""
        self._code.append((JA, name, None, 0))

    def ends(self) -> None:
        """`pass` and `fail` for the jumps before this place, which nothing else may run into."""
        self._ends.append(len(self._code))
        self.add(RET, SNAP)
        self.add(RET, 0)

    def assemble(self) -> bytes:
        """An array of struct sock_filter."""
        self.ends()
        out = b""
        for i, (code, yes, no, k) in enumerate(self._code):
            if code == JA:
                out += struct.pack("HBBI", code, 0, 0, self._distance(i, yes))
            else:
                out += struct.pack("HBBI", code, self._distance(i, yes), self._distance(i, no), k)
        return out

    def _distance(self, i: int, name: "str | None") -> int:
        if name is None:
            return 0
        if name in ("pass", "fail"):
            return next(at for at in self._ends if at > i) + (name == "fail") - i - 1
        return self._labels[name] - i - 1


class Filters:
    """The run's filters. `udp` maps destination ports to the tag's offset in the payload."""

    def __init__(
        self, udp: "dict[int, int]", tcp: "list[int]", echo: bool, tag: bytes, ident: int
    ) -> None:
        self._udp = udp
        self._tcp = tcp
        self._echo = echo
        self._tag = int.from_bytes(tag, "big")
        self._ident = ident

    def raw(self, protocol: int, v6: bool) -> bytes:
        """For a raw socket of `protocol`: IPv4 ones see the IP header, IPv6 ones do not."""
        program = Program()
        if v6:
            program.add(LDX_IMM, 0)
        else:
            program.add(LDX_MSH, 0)
        self._body(program, protocol, v6, errors=True)
        return program.assemble()

    def tap(self) -> bytes:
        """For a cooked packet socket, which sees every packet from its network header on."""
        p = Program()
        self._before_ip(p)
        p.add(LD_B_ABS, 0)
        p.add(AND_K, 0xF0)
        self._dispatch(p, ((0x60, "v6"),))
        p.jump(JEQ, 0x40, None, "fail")
        p.add(LDX_MSH, 0)
        p.add(LD_H_ABS, 6)
        p.jump(JSET, 0x1FFF, "fail")  # a later fragment has no ports
        p.add(LD_B_ABS, 9)
        self._dispatch(p, ((UDP, "udp"), (TCP, "tcp"), (ICMP, "icmp")))
        p.add(RET, 0)
        p.ends()
        p.label("v6")
        p.add(LDX_IMM, 40)
        p.add(LD_B_ABS, 6)
        self._dispatch(p, ((UDP, "udp"), (TCP, "tcp"), (ICMPV6, "icmp6")))
        p.add(RET, 0)
        p.ends()
        for name, protocol, v6 in (
            ("udp", UDP, False),
            ("tcp", TCP, False),
            ("icmp", ICMP, False),
            ("icmp6", ICMPV6, True),
        ):
            p.label(name)
            self._body(p, protocol, v6, errors=False)
        return p.assemble()

    def _before_ip(self, p: Program) -> None:
        """What else is to pass, without an IP header."""

    def _dispatch(self, p: Program, targets: "tuple[tuple[int, str], ...]") -> None:
        for number, name in targets:
            other = p.fresh()
            p.jump(JEQ, number, None, other)
            p.go(name)
            p.label(other)

    def _body(self, p: Program, protocol: int, v6: bool, errors: bool) -> None:
        if protocol == UDP:
            self._udp_body(p)
        elif protocol == TCP:
            self._tcp_body(p)
        else:
            self._icmp_body(p, v6, errors)
        p.add(RET, 0)
        p.ends()

    def _udp_body(self, p: Program) -> None:
        for port, tag_at in sorted(self._udp.items()):
            other = p.fresh()
            p.add(LD_H_IND, 2)
            p.jump(JEQ, port, None, other)
            p.add(LD_W_IND, 8 + tag_at)
            p.jump(JEQ, self._tag, "pass", other)
            p.ends()
            p.label(other)

    def _tcp_body(self, p: Program) -> None:
        for port in sorted(self._tcp):
            answer, other = p.fresh(), p.fresh()
            p.add(LD_H_IND, 2)
            p.jump(JEQ, port, None, answer)
            p.add(LD_B_IND, 13)
            p.add(AND_K, 0x17)
            p.jump(JEQ, 0x02, "pass")  # SYN alone
            p.label(answer)
            p.add(LD_H_IND, 0)
            p.jump(JEQ, port, None, other)
            p.add(LD_H_IND, 2)
            p.jump(JGE, TCP_PORTS[0], None, other)
            p.jump(JGT, TCP_PORTS[1], other)
            p.add(LD_B_IND, 13)
            p.jump(JSET, 0x04, "pass")  # RST
            p.add(AND_K, 0x12)
            p.jump(JEQ, 0x12, "pass", other)  # SYN-ACK
            p.ends()
            p.label(other)

    def _icmp_body(self, p: Program, v6: bool, errors: bool) -> None:
        error, request, reply = (ICMPV6_ERRORS, 128, 129) if v6 else (ICMP_ERRORS, 8, 0)
        p.add(LD_B_IND, 0)
        if self._echo:
            probe, other = p.fresh(), p.fresh()
            p.jump(JEQ, request, probe)
            p.jump(JEQ, reply, None, other)
            p.label(probe)
            p.add(LD_W_IND, 8)
            p.jump(JEQ, self._tag, "pass", "fail")
            p.label(other)
        if not errors:
            return
        quoted = p.fresh()
        for number in error:
            p.jump(JEQ, number, quoted)
        p.add(RET, 0)
        p.label(quoted)
        if not v6:
            p.add(LD_H_IND, 8 + 4)  # our identification, in the quoted IP header
            p.add(AND_K, IDENT_MASK)
            p.jump(JEQ, self._ident, "pass", "fail")
            return
        p.add(LD_B_IND, 8 + 6)  # no identification on IPv6: our ports, in the quoted packet
        tcp, icmp = p.fresh(), p.fresh()
        p.jump(JEQ, TCP, tcp)
        p.jump(JEQ, ICMPV6, icmp)
        p.jump(JEQ, UDP, None, "fail")
        p.add(LD_H_IND, 8 + 40 + 2)
        for port in sorted(self._udp):
            p.jump(JEQ, port, "pass")
        p.add(RET, 0)
        p.ends()
        p.label(tcp)
        p.add(LD_H_IND, 8 + 40 + 2)
        for port in sorted(self._tcp):
            p.jump(JEQ, port, "pass")
        p.add(RET, 0)
        p.ends()
        p.label(icmp)
        p.add(LD_H_IND, 8 + 40 + 4)
        p.jump(JEQ, self._ident, "pass", "fail")
