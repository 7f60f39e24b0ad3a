"""The largest packet that arrives, by a search on the receiver's own word.

Rules of this file:
1. Packets get lost for other reasons too. One that arrived proves its size; a size is lost only
   where every copy was, and so many that the loss among smaller ones does not explain it.
2. A size that is lost below one that arrives is asked again. If it stays lost, nothing is told.
3. A fragment at the destination's device is no packet: without DF only what was accepted counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil, log
from typing import Self

from preflight.core.diagnosis.arrivals import passed, shots_in, source_reported, tried
from preflight.core.diagnosis.chance import RARE
from preflight.core.diagnosis.conclusions import Lengths, Size
from preflight.core.diagnosis.lengths import DfContrast, compared
from preflight.core.diagnosis.trial import Form, Observed, Purpose, Shot, ShotError
from preflight.core.evidence import Errno
from preflight.core.model import Family

# What the usual suspects leave: IPv6's least, tunnels in tunnels, WireGuard, VXLAN and GENEVE, GRE,
# IPsec, PPPoE, Ethernet; then the same of jumbo frames.
_USUAL = (1280, 1400, 1414, 1420, 1450, 1460, 1476, 1480, 1492, 1500, 8900, 8951, 9000)
_SIZES, _COPIES = 16, 3  # of a round
_SIZES_FRAGMENTED = 6
_MOST_COPIES = 9  # of a size that loss may have taken
_MOST_COPIES_OF_ALL = 32
_MOST_LOSS = 0.5  # where more is lost whatever its size, no size is told
_MOST_ROUNDS = 10
_TOO_BIG = {Family.IPV4: (3, 4), Family.IPV6: (2, 0)}


class _Tally:
    """What became of the copies of one size."""

    def __init__(self) -> None:
        self.passed = self.lost = 0
        self.refused = False  # by the source's own kernel, as too big

    @property
    def copies(self) -> int:
        return self.passed + self.lost


class SizeSearch:
    """Narrows down, round by round, between the largest size that arrives and the next.

    Usual sizes take two rounds or three, any other up to 9,000 bytes four, and IPv4 one more with
    DF not set. A round is at most 48 packets, in flows that are there already. IPv6 is never
    fragmented on its way, so for it DF is always set.
    """

    def __init__(
        self,
        mtu: int,
        floor: int,
        family: Family,
        *,
        port: int,
        source_ports: Sequence[int],
        form: Form = Form.PLAIN,
        least: int = 0,
    ) -> None:
        """`mtu` is the source's device's, `floor` a size that is thought to pass, both in bytes of
        IP packet. `source_ports` are those of flows that pass. Where not even `floor` passes,
        sizes from `least` on are asked; 0 for none.
        """
        self._mtu = mtu
        self._floor = floor
        self._least = least
        self._contrast = DfContrast()
        self._compared = family is Family.IPV6  # whether DF set and not set were
        self._family = family
        self._shot = Shot(Purpose.SIZE, form, port=port)
        self._source_ports = tuple(source_ports) or (0,)
        self._whole: dict[int, _Tally] = {}
        self._fragmented: dict[int, _Tally] = {}
        self._reports: list[ShotError] = []
        self._reported = False
        self._rounds = 0
        self._some_accepted = False  # in whatever round, or in the trial before
        self._refused_pieces = False
        self._cut = False  # whether shots that may be fragmented were asked for

    @classmethod
    def like(cls, observed: Observed, mtu: int, floor: int, least: int = 0) -> Self:
        """A search with the bytes and in the flows of an earlier trial, those that passed first."""
        shots = observed.trial.shots
        through = passed(observed) or 0
        probed = [i for i, s in enumerate(shots) if s.purpose in (Purpose.PLAIN, Purpose.FLOW)]
        probed.sort(key=lambda i: not through >> i & 1)
        ports = list(dict.fromkeys(shots[i].source_port for i in probed))[:_COPIES]
        first = next((s for s in shots if s.purpose is Purpose.PLAIN), Shot(Purpose.PLAIN))
        search = cls(
            mtu,
            floor,
            observed.trial.family,
            port=first.port,
            source_ports=ports,
            form=first.form,
            least=least,
        )
        search._some_accepted = bool(observed.seen.get("accepted"))
        return search

    def next_shots(self, observed: Observed | None) -> tuple[Shot, ...]:
        """The next round, or nothing where there is no more to ask.

        `observed` is what became of the last round; None at first, and where nobody knows: then
        much the same is asked again.
        """
        if observed is not None:
            self._take(observed)
        if self._rounds == _MOST_ROUNDS or self._floor > self._mtu or self.lengths():
            return ()
        self._rounds += 1
        if self._whole and not self._largest and not self._compared:
            self._compared = True
            ends = (self._floor, (self._floor + self._mtu) // 2, self._mtu)
            return compared(ends, self._source_ports, self._shot)
        whole, copies = self._wanted()
        if whole:
            return tuple(self._round(whole, copies, dont_fragment=True))
        if self._family is Family.IPV6 or self._cut or not 0 < self._largest < self._mtu:
            return ()
        self._cut = True
        ends = (self._largest, self._largest + 1, self._mtu)
        sizes = _between(self._largest - 1, self._mtu + 1, ends, _SIZES_FRAGMENTED)
        return tuple(self._round(sizes, _COPIES, dont_fragment=False))

    def result(self) -> Size | None:
        """What is proved so far; the source's silence counts only if it reported at all."""
        largest = self._largest
        if not largest or not self._reported or self._gaps() or self._loss > _MOST_LOSS:
            return None
        smallest_lost = 0
        if largest < self._mtu:
            sure = self._surely_lost()
            if sure is None:
                return None
            smallest_lost = sure
        report = min(self._reports, key=lambda error: error.mtu or self._mtu, default=None)
        refused = any(tally.refused for tally in self._whole.values())
        arrived = [size for size, tally in self._fragmented.items() if tally.passed]
        return Size(
            largest=largest,
            smallest_lost=smallest_lost,
            largest_fragmented=max(arrived, default=None),
            device_mtu=self._mtu,
            black_hole=bool(smallest_lost) and report is None and not refused,
            reported_by=report.sender if report else None,
            reported_mtu=report.mtu or None if report else None,
            fragments_refused=self._refused_pieces,
        )

    def lengths(self) -> Lengths | None:
        """What decides in place of the size, where no size arrives with DF set."""
        df = None if self._largest or self._reports else self._contrast.result()
        return Lengths((), df) if df else None

    def _take(self, observed: Observed) -> None:
        self._reported |= source_reported(observed)
        through = passed(observed)
        if through is None:
            return
        shots = observed.trial.shots
        mask = observed.mask(Purpose.SIZE) & tried(observed)
        accepts = observed.seen.get("accepted") is not None
        arrived = observed.seen.get("arrived") or 0
        self._some_accepted |= accepts and bool(through & mask)
        if not self._some_accepted and arrived & mask:
            accepts, through = False, arrived  # lost behind the device, whatever its size
        for i in shots_in(mask):
            shot = shots[i]
            if not shot.dont_fragment and not accepts:
                continue
            known = self._whole if shot.dont_fragment else self._fragmented
            tally = known.setdefault(shot.size, _Tally())
            passes = bool(through >> i & 1) and (accepts or _in_one_piece(observed, i))
            if observed.send_errors.get(i) != Errno.EMSGSIZE:
                self._contrast.take(shot, shot.size, passes=passes)
            if passes:
                tally.passed += 1
            else:
                tally.lost += 1
                piece = arrived >> i & 1 and not _in_one_piece(observed, i)
                self._refused_pieces |= bool(accepts and piece) and not shot.dont_fragment
                tally.refused |= observed.send_errors.get(i) == Errno.EMSGSIZE
        for error in observed.errors:
            whole = mask >> error.shot & 1 and shots[error.shot].dont_fragment
            if whole and (error.type, error.code) == _TOO_BIG[self._family]:
                self._reports.append(error)

    def _wanted(self) -> tuple[list[int], int]:
        """Sizes to send with DF, and how many copies of each."""
        if not self._whole:
            usual = [size for size in _USUAL if size <= self._mtu]
            hints = (self._floor, self._mtu, *usual)
            return _between(self._floor - 1, self._mtu + 1, hints, _SIZES), _COPIES
        again = [s for s, t in self._whole.items() if self._in_doubt(s, t)]
        largest = self._largest
        if not largest and 0 < self._least < self._floor:
            low, self._floor, self._least = self._least, self._least, 0
            return _between(low - 1, min(self._whole), (low,), _SIZES), _COPIES
        if not largest:
            return ([self._floor] if self._floor in again else []), _COPIES
        above = min((s for s, t in self._whole.items() if s > largest), default=None)
        if largest == self._mtu or self._gaps():
            return sorted(again)[:_SIZES], _COPIES
        if above is None:
            return [self._mtu], _COPIES
        if above - largest > 1:
            told = [e.mtu + more for e in self._reports for more in (0, 1)]
            hints = (largest + 1, *told, *_USUAL)
            return sorted({*again, *_between(largest, above, hints, _SIZES)})[:_SIZES], _COPIES
        return self._more_of(above)

    def _more_of(self, size: int) -> tuple[list[int], int]:
        """As many copies as it takes to tell that it is the size, and not loss."""
        tally = self._whole[size]
        enough = ceil(log(RARE) / log(self._loss))
        if tally.refused or tally.copies >= min(enough, _MOST_COPIES_OF_ALL):
            return [], 0
        return [size], min(enough - tally.copies, _SIZES)

    def _round(self, sizes: Sequence[int], copies: int, *, dont_fragment: bool) -> list[Shot]:
        """Each copy of a size in another flow, and apart from the others in time."""
        return [
            self._shot._replace(
                source_port=self._source_ports[copy % len(self._source_ports)],
                size=size,
                dont_fragment=dont_fragment,
            )
            for copy in range(copies)
            for size in sizes
        ]

    @property
    def _largest(self) -> int:
        """The largest size of which a copy arrived with DF; 0 for none."""
        return max((size for size, tally in self._whole.items() if tally.passed), default=0)

    @property
    def _loss(self) -> float:
        """The share of packets that get lost whatever their size, rather too high than too low."""
        below = [tally for size, tally in self._whole.items() if size <= self._largest]
        copies = sum(tally.copies for tally in below)
        return (sum(tally.lost for tally in below) + 1) / (copies + 2)

    def _in_doubt(self, size: int, tally: _Tally) -> bool:
        below = size < max(self._largest, self._floor + 1)
        return below and not tally.passed and not tally.refused and tally.copies < _MOST_COPIES

    def _gaps(self) -> bool:
        """Whether a size is surely lost below one that arrives."""
        return any(
            size < self._largest
            and not tally.passed
            and (tally.refused or self._loss**tally.lost < RARE)
            for size, tally in self._whole.items()
        )

    def _surely_lost(self) -> int | None:
        """The smallest size that is lost for its size, by all copies up to it together."""
        copies = 0
        for size in sorted(size for size in self._whole if size > self._largest):
            tally = self._whole[size]
            copies += tally.lost
            if tally.refused or self._loss**copies < RARE:
                return size
        return None


def _in_one_piece(observed: Observed, shot: int) -> bool:
    seen = observed.passages.get("arrived", {}).get(shot)
    return seen is None or seen.size == observed.trial.shots[shot].size


def _between(low: int, high: int, hints: Iterable[int], most: int) -> list[int]:
    """At most `most` sizes above `low` and below `high`: the hints, then what halves the gaps."""
    chosen = [hint for hint in dict.fromkeys(hints) if low < hint < high][:most]
    while len(chosen) < min(most, high - low - 1):
        ends = sorted({low, high, *chosen})
        below, above = max(pairwise(ends), key=lambda gap: gap[1] - gap[0])
        chosen.append((below + above) // 2)
    return sorted(chosen)
