"""The private tables that switch tracing on for packets of ours, and their certain end.

They change no packet's fate. They end with the socket that made them; where the kernel is too old
for that (before Linux 5.12) a guardian process outlives the agent for as long as it takes to delete
them.
"""

import errno
import struct

from preflight.agent.firewall import guardian
from preflight.agent.firewall.nfnetlink import (
    FAMILIES,
    GETTABLE,
    META_L4PROTO,
    META_NFPROTO,
    META_PROTOCOL,
    TABLE_OWNED,
    Change,
    Nfnetlink,
    accept,
    delete_table,
    equals,
    meta,
    new_chain,
    new_rule,
    new_table,
    payload,
    set_trace,
    text,
)
from preflight.agent.netlink import RTM_GETLINK, RTM_NEWLINK, Netlink, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    # family 4 or 6, protocol number, [(base, offset, bytes)]: a packet is ours where all hold
    Mark = tuple[int, int, Sequence[tuple[str, int, bytes]]]

_FIRST = -0x7FFFFFFF  # before everybody else's; the very lowest is the kernel's own
_LAST = 0x7FFFFFFE  # after everybody else's
_WIDTH = 16  # bytes that one register holds
_NFPROTO = {4: b"\x02", 6: b"\x0a"}
_ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
_HOOKS = {"prerouting": 0, "output": 3}  # the same numbers for inet, ip, ip6 and bridge
# Where a traced packet shows what it has become: their ends are told, too.
_ENDS = {"input": 1, "postrouting": 4}
_INGRESS = 0
_IP = {"ip": 4, "ip6": 6}
_IFLA_LINKINFO, _IFLA_INFO_KIND = 18, 1
# How kernels of all ages say that they do not know a flag, a family or a hook.
_UNKNOWN = (
    errno.EINVAL,
    errno.ENOENT,
    errno.EOPNOTSUPP,
    errno.EAFNOSUPPORT,
    errno.EPROTONOSUPPORT,
)


def tests(mark: "Mark", family: str) -> "list[bytes]":
    """The expressions that hold for a packet of `mark` alone, in a table of `family`."""
    version, protocol, wanted = mark
    out = []
    if family == "inet":
        out += [meta(META_NFPROTO), equals(_NFPROTO[version])]
    elif family not in _IP:
        out += [meta(META_PROTOCOL), equals(_ETHERTYPE[version])]
    out += [meta(META_L4PROTO), equals(struct.pack("B", protocol))]
    for base, offset, value in wanted:
        for at in range(0, len(value), _WIDTH):
            piece = value[at : at + _WIDTH]
            out += [payload(base, offset + at, len(piece)), equals(piece)]
    return out


def _chain(
    family: str, table: str, chain: str, hook: int, marks: "Iterable[Mark]", device: str = ""
) -> "list[Change]":
    out = [new_chain(family, table, chain, hook, _FIRST, device)]
    for mark in marks:
        if _IP.get(family, mark[0]) == mark[0]:
            # Accepting here saves a second message for each packet.
            rule = [*tests(mark, family), set_trace(), accept()]
            out.append(new_rule(family, table, chain, *rule))
    return out


def whole_table(family: str, table: str, flags: int, marks: "Sequence[Mark]") -> "list[Change]":
    """A table that traces what comes in and what leaves, and shows it again at its end."""
    out = [new_table(family, table, flags)]
    for chain, hook in _HOOKS.items():
        out += _chain(family, table, chain, hook, marks)
    for chain, hook in _ENDS.items() if family != "bridge" else ():
        out.append(new_chain(family, table, chain, hook, _LAST))
    return out


class PrivateTables:
    """Our tables of one name. Raises OSError where the kernel has none to give."""

    def __init__(self, table: str, marks: "Sequence[Mark]", devices: "Iterable[str]") -> None:
        self.table = table
        self._marks = marks
        self._devices = devices
        self._made: list[str] = []
        self._guardian: guardian.Guardian | None = None
        self._netlink = Nfnetlink()

    def make(self, owned: bool = True) -> None:
        """All that this kernel knows of. `owned` False is for kernels that have no such tables."""
        self._refuse_strangers()
        for flags in (TABLE_OWNED, 0) if owned else (0,):
            if not flags:
                self._guardian = guardian.Guardian(self.table)
            if self._ip(flags):
                self._ingress(flags)
                if bridges():
                    self._try("bridge", whole_table("bridge", self.table, flags, self._marks))
                return
        raise OSError(errno.EOPNOTSUPP, "nf_tables")

    def _refuse_strangers(self) -> None:
        """Somebody else's table of that name is not ours to delete, the guardian's neither."""
        for family in FAMILIES:
            try:
                self._netlink.ask(GETTABLE, family, text(1, self.table))
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    raise
            else:
                raise OSError(errno.EEXIST, "nf_tables")

    def _ip(self, flags: int) -> bool:
        """The table that the others only add to; False where the kernel does not know its like."""
        if self._try("inet", whole_table("inet", self.table, flags, self._marks), _UNKNOWN):
            return True
        families = [f for f, v in _IP.items() if any(mark[0] == v for mark in self._marks)]
        for family in families:
            self._try(family, whole_table(family, self.table, flags, self._marks), _UNKNOWN)
        return bool(self._made)

    def _ingress(self, flags: int) -> None:
        """What arrives at a device: a drop there comes after the taps and before all else."""
        family = "netdev"
        chains = []
        for i, device in enumerate(self._devices):
            chains.append(
                _chain(family, self.table, "ingress_%d" % i, _INGRESS, self._marks, device)
            )
        if chains and self._try(family, [new_table(family, self.table, flags)]):
            for changes in chains:
                self._try(family, changes)

    def _try(
        self, family: str, changes: "list[Change]", excused: "tuple[int, ...] | None" = None
    ) -> bool:
        """Whether the kernel took them. Raises OSError for what is not `excused`; None is all."""
        try:
            self._netlink.commit(*changes)
        except OSError as error:
            if excused is not None and error.errno not in excused:
                raise
            return False
        if family not in self._made:
            self._made.append(family)
        return True

    @property
    def families(self) -> "tuple[str, ...]":
        """Those that a table was made for."""
        return tuple(self._made)

    def close(self) -> None:
        """Delete them."""
        for family in self._made:
            try:
                self._netlink.commit(delete_table(family, self.table))
            except OSError:
                pass  # somebody flushed the ruleset meanwhile
        self._made = []
        self._netlink.close()
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None


def bridges() -> bool:
    """True where the node has a bridge."""
    try:
        netlink = Netlink()
    except OSError:
        return False
    try:
        links = netlink.ask(RTM_GETLINK, bytes(16), dump=True)
    except OSError:
        return False
    finally:
        netlink.close()
    for kind, body in links:
        info = attributes(attributes(body[16:]).get(_IFLA_LINKINFO, b""))
        if kind == RTM_NEWLINK and info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0") == b"bridge":
            return True
    return False
