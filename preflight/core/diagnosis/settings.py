"""What can testify beside what counted: settings, routes, and what hangs in a packet's way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from preflight.core.diagnosis.witnesses import Case, SysctlChange, Word, count_of
from preflight.core.model import Family

_NO = Word(False)
_ERRORS = {
    "EXDEV": "Invalid cross-device link",
    "EINVAL": "Invalid argument",
    "ENETUNREACH": "Network is unreachable",
    "EHOSTUNREACH": "No route to host",
    "EACCES": "Permission denied",
}
REFUSED = tuple(_ERRORS)
_BITS = 32  # of icmp_ratemask
_USUAL = "0-1,3-127"  # Linux's own icmp.ratemask of IPv6: all errors but "packet too big"


@dataclass(frozen=True, slots=True)
class Switch:
    """A sysctl that drops where it is on; `words` say what its value means."""

    name: str
    on: int
    better: int
    words: str

    def hear(self, case: Case) -> Word | None:
        value = count_of(case.end.settings.get(self.name))
        if value is None:
            return None
        if value != self.on:
            return _NO
        return Word(
            True,
            f"{self.name} = {value} ({self.words})",
            (SysctlChange(self.name, str(value), str(self.better)),),
        )


@dataclass(frozen=True, slots=True)
class DeviceSwitch:
    """A sysctl of devices that drops where it is on; a * stands for the device."""

    name: str
    on: int
    better: int
    words: str

    def hear(self, case: Case) -> Word | None:
        found = of_devices(self.name, case)
        if not found:
            return None
        guilty = [self.name.replace("*", d) for d, value in found.items() if value == self.on]
        if not guilty:
            return _NO
        return Word(
            True,
            "; ".join(f"{name} = {self.on} ({self.words})" for name in guilty),
            tuple(SysctlChange(name, str(self.on), str(self.better)) for name in guilty),
        )


@dataclass(frozen=True, slots=True)
class ReversePathFilter:
    """rp_filter: the greater of a device's own value and that of `all` counts.

    Loose mends strict, but it too lets in nothing by a device without an IPv4 address (Linux,
    __fib_validate_source). Where no route at all leads back, no setting is to blame.
    """

    def hear(self, case: Case) -> Word | None:
        found = of_devices("net.ipv4.conf.*.rp_filter", case)
        if not found:
            return None
        everywhere = count_of(case.end.settings.get("net.ipv4.conf.all.rp_filter")) or 0
        guilty = {device: own for device, own in found.items() if max(own, everywhere) in (1, 2)}
        if not guilty:
            return _NO
        sentences: list[str] = []
        changes: list[SysctlChange] = []
        for device, own in guilty.items():
            name = f"net.ipv4.conf.{device}.rp_filter"
            value = max(own, everywhere)
            by_all = f", but net.ipv4.conf.all.rp_filter = {value} counts" if own < value else ""
            strict = "strict" if value == 1 else "loose"
            question = f"ip -4 address show dev {device.replace('/', '.')}"
            bare = case.end.settings.get(question) == 0
            sentences.append(f"{name} = {own}{by_all} ({strict})")
            if bare:
                sentences.append(f"`{question}` shows no address: there, loose is as strict")
                off = {name: own, "net.ipv4.conf.all.rp_filter": everywhere}
                changes += [SysctlChange(n, str(v), "0") for n, v in off.items() if v]
            elif value == 1:
                changes.append(SysctlChange(name, str(own), "2"))
        return Word(True, "; ".join(sentences), tuple(dict.fromkeys(changes)))


def of_devices(name: str, case: Case) -> dict[str, int]:
    """The values of a sysctl of devices, * in its name: of the case's, where that is known.

    By device, as sysctl(8) spells it.
    """
    before, _, after = name.partition("*")
    wanted = {device.replace(".", "/") for device in case.takers}
    found = {}
    for full, value in sorted(case.end.settings.items()):
        device = full.removeprefix(before).removesuffix(after)
        number = count_of(value)
        if f"{before}{device}{after}" != full or number is None or not device.isprintable():
            continue
        if device not in ("", "all", "default") and (not wanted or device in wanted):
            found[device] = number
    return found


@dataclass(frozen=True, slots=True)
class Full:
    """A table with as many entries as it may have, or nearly. It says no only where `strict`."""

    count: str
    limit: str
    times: int  # the limit that would do
    strict: bool = True

    def hear(self, case: Case) -> Word | None:
        settings = case.end.settings
        count, limit = count_of(settings.get(self.count)), count_of(settings.get(self.limit))
        if count is None or not limit:
            return None
        if count * 100 < limit * 95:
            return _NO if self.strict else None
        better = SysctlChange(self.limit, str(limit), str(limit * self.times))
        return Word(True, f"{self.count} = {count:,} of {self.limit} = {limit:,}", (better,))


@dataclass(frozen=True, slots=True)
class Mask:
    """A sysctl that is a set of ICMP types, and has one that it should not have.

    Written as a number, a bit for each type up to 31, or as a list like 0-1,3-127.
    """

    name: str
    member: int
    words: str

    def hear(self, case: Case) -> Word | None:
        value = case.end.settings.get(self.name)
        number = count_of(value)
        if self.member < _BITS:
            if number is None:
                return None
            has, better = bool(number >> self.member & 1), str(number & ~(1 << self.member))
        else:
            members = _members(str(value))  # one member alone was read as a number
            if members is None:
                return None
            has, better = self.member in members, _spans(members - {self.member})
        if not has:
            return _NO
        change = SysctlChange(self.name, str(value), better)
        return Word(True, f"{self.name} = {value} ({self.words})", (change,))


def _members(text: str) -> set[int] | None:
    members: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()) or len(part) > 7:
            return None
        members |= set(range(int(first), min(int(last or first), 255) + 1))
    return members


def _spans(members: set[int]) -> str:
    spans: list[list[int]] = []
    for member in sorted(members):
        if spans and member == spans[-1][1] + 1:
            spans[-1][1] = member
        else:
            spans.append([member, member])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans) or _USUAL


@dataclass(frozen=True, slots=True)
class Attached:
    """Something in a packet's way; `question` is the command that shows it, * any device.

    It never says no: what is not told may be there.
    """

    question: str
    words: str

    def hear(self, case: Case) -> Word | None:
        for question, answer in sorted(case.end.settings.items()):
            if not answer or not fnmatchcase(question, self.question) or not question.isprintable():
                continue
            device = question.rpartition(" ")[2]
            if "*" not in self.question or not case.devices or device in case.devices:
                return Word(True, f"`{question}` shows {self.words}: {_shown(answer)}")
        return None


def _shown(answer: Any) -> str:
    return f"{answer:,}" if isinstance(answer, int) else "".join(filter(str.isalnum, str(answer)))


class Direction(Enum):
    """What the kernel's routing is asked of a lost packet."""

    IN = "in"  # what becomes of it when it comes in
    OUT = "out"  # where it leaves
    BACK = "back"  # where an answer to it leaves


@dataclass(frozen=True, slots=True)
class Way:
    """The kernel's own answer to where it would send such a packet, or take it in.

    Yes where it is one of `answers`. With `denies` no, where it is another for these addresses.
    """

    direction: Direction
    answers: tuple[str, ...]
    denies: bool = False

    def hear(self, case: Case) -> Word | None:
        told = list(self._told(case))
        for question, answer in told:
            if answer in self.answers:
                return Word(True, f"`{question}` says {_ERRORS.get(answer, answer)}")
        return _NO if told and self.denies and case.source else None

    def _told(self, case: Case) -> Iterator[tuple[str, str]]:
        incoming = self.direction is Direction.IN
        asked = case.destination, case.source
        if self.direction is Direction.BACK:
            asked = asked[::-1]
        for question, answer in sorted(case.end.settings.items()):
            # `ip route get TO from FROM`, and `iif DEVICE` where it comes in.
            words = question.split(" ")
            if words[:3] != ["ip", "route", "get"] or len(words) != (8 if incoming else 6):
                continue
            to, sender = words[3], words[5]
            if case.source and (to, sender) != asked:
                continue
            if incoming and case.takers and words[7] not in case.takers:
                continue
            if (":" in to) == (case.family is Family.IPV6) and question.isprintable():
                yield question, str(answer)
