"""What can testify that a node's kernel itself threw probes away: what counted, and why it dropped.

A witness says yes, no, or nothing. What was not read, or cannot be read on this kernel, is nothing.
What comes from a node is not believed to have the form it should have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Protocol

from preflight.core.diagnosis.trial import End
from preflight.core.model import Family

_ETHERTYPES = {Family.IPV4: 0x0800, Family.IPV6: 0x86DD}
_NAMES = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


class SysctlChange(NamedTuple):
    """A setting and the value that would mend it.

    A dot in a device's name is spelled as a slash, as sysctl(8) takes it.
    """

    name: str
    value: str  # now
    better: str


@dataclass(frozen=True, slots=True)
class Case:
    """One loss inside one node, and what that node said of itself meanwhile."""

    family: Family
    lost: int  # probes
    came: int  # probes, the lost ones among them
    device: str  # through which the lost ones came in; empty: not known
    source: str  # address of the lost packets' sender, on whichever leg; empty: not known
    destination: str
    end: End

    @property
    def takers(self) -> frozenset[str]:
        """The devices whose IP layer may have taken the lost ones in; empty: not known.

        A bridge does it for its ports, a VLAN for its part of what comes in.
        """
        if not self.device:
            return frozenset()
        above = self.end.settings.get(f"above {self.device}")
        return frozenset(above.split(" ") if isinstance(above, str) and above else [self.device])

    @property
    def devices(self) -> frozenset[str]:
        """All that the lost ones came through; empty: not known."""
        return self.takers | {self.device} if self.device else frozenset()


class Word(NamedTuple):
    """What a witness says."""

    says: bool
    sentence: str = ""
    changes: tuple[SysctlChange, ...] = ()


class Witness(Protocol):
    """One source of evidence."""

    def hear(self, case: Case) -> Word | None:
        """None where it does not know."""


@dataclass(frozen=True, slots=True)
class Rise:
    """A counter that rose with the loss, by at least as much, and hardly without it.

    `names` are summed, less those of `but`; a name with a * stands for the device that counted
    most. `restless`: it may move in the idle window too, which is then taken off. It never says
    no: not every loss is counted everywhere.
    """

    names: tuple[str, ...]
    but: tuple[str, ...] = ()
    restless: bool = False

    def hear(self, case: Case) -> Word | None:
        rise, before = self._sum(case, case.end.moved), self._sum(case, case.end.idle)
        if rise is None or before is None:
            return None
        if rise - (before if self.restless else 0) < case.lost:
            return None
        if not self.restless and not _is_quiet(before, case):
            return None
        told = "did not move" if before == 0 else f"rose by {before:,}"
        moved = case.end.moved
        names = [n for name in self.names for n in _most(name, moved, case.devices)]
        return Word(
            True,
            f"{_risen(names, moved)}{_against(self.but, moved)} while {case.lost:,} of "
            f"{case.came:,} probes were lost there; just before, with none under way, "
            f"{_it(names)} {told}",
        )

    def _sum(self, case: Case, counts: Mapping[str, Any]) -> int | None:
        known = [n for name in self.names for n in _most(name, counts, case.devices)]
        if not known:
            return None
        less = sum(count_of(counts.get(n)) or 0 for n in self.but)
        return sum(count_of(counts[n]) or 0 for n in known) - less


def _most(name: str, counts: Mapping[str, Any], devices: Collection[str]) -> list[str]:
    """The counter that a name stands for: none, or one."""
    if "*" not in name:
        return [name] if count_of(counts.get(name)) is not None else []
    fitting = [
        n
        for n in counts
        if fnmatchcase(n, name)
        and n.isprintable()
        and count_of(counts[n]) is not None
        and (not devices or n.partition(" ")[0] in devices)
    ]
    return [max(fitting, key=lambda n: (counts[n], n))] if fitting else []


def _risen(names: Sequence[str], counts: Mapping[str, Any]) -> str:
    moved = [name for name in names if counts[name]] or list(names)
    return " and ".join(f"{name} rose by {counts[name]:,}" for name in moved)


def _against(names: Sequence[str], counts: Mapping[str, Any]) -> str:
    return "".join(f" and {name} by {count_of(counts.get(name)) or 0:,}" for name in names)


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "they"


@dataclass(frozen=True, slots=True)
class Dropped:
    """The kernel's own reason for dropping, at least as often as probes were lost.

    `functions` are where it drops for that reason, for kernels that give none. It never says no:
    the kernel may know no such reason, and the drops of the whole machine are not always told.
    """

    reasons: tuple[str, ...]
    functions: tuple[str, ...] = ()

    def hear(self, case: Case) -> Word | None:
        now = list(self._fitting(case, case.end.drops))
        count = sum(row[2] for row in now)
        before = sum(row[2] for row in self._fitting(case, case.end.idle_drops))
        if count < case.lost or not _is_quiet(before, case):
            return None
        what = " and ".join(dict.fromkeys(reason or f"in {place}" for reason, place, _ in now))
        return Word(
            True,
            f"the kernel dropped {count:,} {_NAMES[case.family]} packets meanwhile, and "
            f"{before or 'none'} before: {what} (tracepoint skb:kfree_skb)",
        )

    def _fitting(self, case: Case, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, str, int]]:
        for row in rows:
            if len(row) != 4:
                continue
            reason, place, ethertype, count = row
            named = reason in self.reasons or (not reason and place in self.functions)
            if named and ethertype == _ETHERTYPES[case.family] and count_of(count):
                yield reason, place, count


def _is_quiet(before: int, case: Case) -> bool:
    """A tenth of the loss may be somebody else's: a node is never quite still."""
    return before * 10 <= case.lost


def count_of(value: Any) -> int | None:
    """A number as the kernel counts, where it is one."""
    return value if type(value) is int and 0 <= value < 1 << 64 else None
