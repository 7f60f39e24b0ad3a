"""Can a rule in iptables' words match a packet? What is not understood counts as a yes."""

import _socket as socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_PROTOCOLS = {
    "icmp": ICMP, "tcp": TCP, "udp": UDP, "ipv6-icmp": ICMPV6, "icmpv6": ICMPV6, "icmp6": ICMPV6,
    "igmp": 2, "gre": 47, "esp": 50, "ah": 51, "sctp": 132, "udplite": 136, "vrrp": 112,
}  # fmt: skip
_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63, "NONE": 0}


class Lost:
    """Packets of one kind that went in at one end of the node's rules and not out at the other.

    `source` and `destination` are addresses as text, `ports` their source ports, `port` the
    destination's; `kind` the ICMP type; `flags` those of TCP; None is for any. `incoming` is from
    the device into the node, else it is the way out. `packets` is how many, `idle` how many went
    the same way before any of ours left, `doubtful` how many more while counters were read.
    `rewrites` is source or destination where they did not end but became something else, or may
    have: of each flow a rule counts the first packet then, and none that was known already.
    """

    def __init__(
        self,
        protocol: int,
        source: str,
        destination: str,
        packets: int,
        incoming: bool = True,
        ports: "Sequence[int] | None" = None,
        port: "int | None" = None,
        kind: "int | None" = None,
        flags: "int | None" = None,
        device: str = "",
        idle: int = 0,
        doubtful: int = 0,
        rewrites: str = "",
    ) -> None:
        self.rewrites = rewrites
        self.idle = idle
        self.doubtful = doubtful
        self.family = 6 if ":" in destination else 4
        self.protocol = protocol
        self.source = source
        self.destination = destination
        self.packets = packets
        self.incoming = incoming
        self.ports = ports
        self.port = port
        self.kind = kind
        self.flags = flags
        self.device = device

    @property
    def flows(self) -> int:
        """How many there are at most."""
        return min(self.packets, len(self.ports)) if self.ports else 1


def can_match(words: "Sequence[str]", lost: Lost) -> bool:
    """False where one of the rule's options excludes all of these packets."""
    inverted = False
    for i, word in enumerate(words):
        if word == "!":
            inverted = True
            continue
        test = _TESTS.get(word)
        if test is not None and i + 1 < len(words):
            try:
                answer = test(words[i + 1 :], lost)
            except (ValueError, OSError, KeyError, IndexError):
                answer = None
            if answer is not None and answer == inverted:
                return False
        inverted = False
    return True


# Each says True where the option holds for all of the packets, False where it does for none, None
# where it does for some or that is not known.


def _protocol(words: "Sequence[str]", lost: Lost) -> "bool | None":
    name = words[0]
    if name in ("all", "0"):
        return True
    return (_PROTOCOLS[name] if name in _PROTOCOLS else int(name)) == lost.protocol


def _address(pick: "Callable[[Lost], str]") -> "Callable[[Sequence[str], Lost], bool | None]":
    def test(words: "Sequence[str]", lost: Lost) -> "bool | None":
        network, _, mask = words[0].partition("/")
        return _number(network) & _mask(mask, lost) == _number(pick(lost)) & _mask(mask, lost)

    return test


def _between(pick: "Callable[[Lost], str]") -> "Callable[[Sequence[str], Lost], bool | None]":
    def test(words: "Sequence[str]", lost: Lost) -> "bool | None":
        low, _, high = words[0].partition("-")
        return _number(low) <= _number(pick(lost)) <= _number(high or low)

    return test


def _number(address: str) -> int:
    domain = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(domain, address), "big")


def _mask(mask: str, lost: Lost) -> int:
    width = 128 if lost.family == 6 else 32
    if mask.isdigit() or not mask:
        ones = int(mask) if mask else width
        return (1 << width) - (1 << (width - ones))
    return _number(mask)


def _ports(words: "Sequence[str]", ports: "Sequence[int]") -> "bool | None":
    ranges = []
    for part in words[0].split(","):
        low, colon, high = part.partition(":")
        ranges.append((int(low or 0), int(high or 65535) if colon else int(low)))
    inside = [any(low <= port <= high for low, high in ranges) for port in ports]
    return None if any(inside) and not all(inside) else any(inside)


def _source_port(words: "Sequence[str]", lost: Lost) -> "bool | None":
    return _ports(words, lost.ports) if lost.ports else None


def _destination_port(words: "Sequence[str]", lost: Lost) -> "bool | None":
    return _ports(words, [lost.port]) if lost.port is not None else None


def _either_port(words: "Sequence[str]", lost: Lost) -> "bool | None":
    answers = {_source_port(words, lost), _destination_port(words, lost)}
    return True if True in answers else None if None in answers else False


def _in_device(words: "Sequence[str]", lost: Lost) -> "bool | None":
    return _device(words[0], lost.device) if lost.incoming else False


def _out_device(words: "Sequence[str]", lost: Lost) -> "bool | None":
    return False if lost.incoming else _device(words[0], lost.device)


def _device(pattern: str, device: str) -> "bool | None":
    if not device:
        return None
    if pattern.endswith("+"):
        return device.startswith(pattern[:-1])
    return device == pattern


def _icmp_type(words: "Sequence[str]", lost: Lost) -> "bool | None":
    if words[0] == "any":
        return True
    return None if lost.kind is None else int(words[0].split("/")[0]) == lost.kind


def _tcp_flags(words: "Sequence[str]", lost: Lost) -> "bool | None":
    if lost.flags is None:
        return None
    mask, wanted = (sum({_FLAGS[name] for name in words[i].split(",")}) for i in (0, 1))
    return lost.flags & mask == wanted


_TESTS = {
    "-p": _protocol, "--protocol": _protocol,
    "-s": _address(lambda lost: lost.source), "-d": _address(lambda lost: lost.destination),
    "--src-range": _between(lambda lost: lost.source),
    "--dst-range": _between(lambda lost: lost.destination),
    "--sport": _source_port, "--sports": _source_port,
    "--dport": _destination_port, "--dports": _destination_port, "--ports": _either_port,
    "-i": _in_device, "-o": _out_device,
    "--icmp-type": _icmp_type, "--icmpv6-type": _icmp_type, "--tcp-flags": _tcp_flags,
}  # fmt: skip
