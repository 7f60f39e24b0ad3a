"""What a packet's length, or its DF bit, has to do with its loss, where it is not only the large
ones that get lost.

Rules of this file:
1. A size of which one copy passes is not lost for its size. One is lost for it only where loss that
   treats all alike hardly ever takes as many copies.
2. Sizes, and DF set and not set, are compared in the same flows and in turn.
3. What was not asked is not told: a band goes from the smallest to the largest size that was seen
   to be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from preflight.core.diagnosis.arrivals import passed, shots_in, tried
from preflight.core.diagnosis.chance import RARE, cleanly_apart
from preflight.core.diagnosis.conclusions import Band, DontFragment, Lengths
from preflight.core.diagnosis.ports import shuffled
from preflight.core.diagnosis.trial import Observed, Purpose, Shot
from preflight.core.evidence import Errno
from preflight.core.model import Family

COPIES = 3  # of a size, each in another flow
_LADDER = (62, 70, 82, 100, 128, 192, 256, 384, 512, 576, 768, 1024, 1280, 1400)
_LEAST_LOST = 10  # packets as the looks send them, before their size is asked about
_MOST = 48  # packets of a round but the first
_MOST_COPIES = 9
_MOST_ROUNDS = 5
_MOST_EDGES = 4


class _Tally:
    """What became of the copies of one size."""

    def __init__(self) -> None:
        self.passed = self.lost = 0

    @property
    def copies(self) -> int:
        return self.passed + self.lost


class DfContrast:
    """The same sizes in the same flows, with DF set and not set."""

    def __init__(self) -> None:
        self._sorts: dict[bool, dict[int, _Tally]] = {False: {}, True: {}}

    def take(self, shot: Shot, size: int, *, passes: bool) -> None:
        """What became of one shot of that size."""
        tally = self._sorts[shot.dont_fragment].setdefault(size, _Tally())
        tally.passed += passes
        tally.lost += not passes

    def whole(self) -> list[_Tally]:
        """Those with DF set."""
        return list(self._sorts[True].values())

    def result(self) -> DontFragment | None:
        """Which of both passes, where the other does at no size."""
        both = self._sorts[True].keys() & self._sorts[False].keys()
        for df in (False, True):
            common = sorted(size for size in both if self._sorts[df][size].passed)
            if not common or any(t.passed for t in self._sorts[not df].values()):
                continue
            good, bad = ([self._sorts[x][size] for size in common] for x in (df, not df))
            through = sum(tally.passed for tally in good)
            sent = sum(tally.copies for tally in good)
            lost = sum(tally.lost for tally in bad)
            if cleanly_apart(lost, sent, through) < RARE:
                return DontFragment(df, common[0], common[-1], through, sent, lost)
        return None


def compared(sizes: Sequence[int], ports: Sequence[int], like: Shot) -> tuple[Shot, ...]:
    """Shots of each size with DF set and not set, in turn."""
    return tuple(
        like._replace(source_port=port, size=size, dont_fragment=df)
        for port in ports[:COPIES]
        for size in sizes
        for df in (False, True)
    )


class LengthSearch:
    """Asks, where not one small packet passes, which other sizes do.

    Beyond the trial that gives cause for it, two rounds to five of at most 100 packets, in flows
    that are there already.
    """

    def __init__(self, observed: Observed, mtu: int, least: int) -> None:
        """`observed` is the trial, `mtu` that of the source's device, `least` the size of a shot
        that has none of its own; in bytes of IP packet.
        """
        shots = observed.trial.shots
        self._family = observed.trial.family
        self._least, self._mtu = least, max(mtu, least)
        self._like = next((s for s in shots if s.purpose is Purpose.PLAIN), Shot(Purpose.PLAIN))
        asked = [s for s in shots if s.purpose is Purpose.SIZE]
        plain = [s for s in shots if s.purpose is Purpose.PLAIN]
        self._ports = list(dict.fromkeys(s.source_port for s in (*asked, *plain)))[:COPIES]
        self._bare: dict[int, _Tally] = {}
        self._contrast = DfContrast()
        self._rounds = 0
        self._take(observed)
        small = self._bare.get(least, _Tally())
        lost = small.lost >= _LEAST_LOST and not small.passed
        # Whether sizes that were asked in turn with small ones differ from them beyond chance.
        self._differ = lost and self._apart(self._bare, self._contrast.whole())
        # Whether there is anything to ask; where no other size was, that is not known.
        self.pays = bool(lost and self._ports) and (self._differ or not asked)

    def next_shots(self, observed: Observed | None) -> tuple[Shot, ...]:
        """The next round, or nothing where there is no more to ask; see `SizeSearch.next_shots`."""
        if observed is not None:
            self._take(observed)
            if self._rounds == 1 and not self._differ:
                self.pays = self._differ = self._ends_apart(observed)
        if not self.pays or self._rounds == _MOST_ROUNDS:
            return ()
        self._rounds += 1
        like = self._like._replace(purpose=Purpose.SIZE)
        if self._rounds == 1:
            return self._first(like)
        wanted = sorted({*self._edges(), *self._doubtful()})[: _MOST // COPIES]
        return tuple(like._replace(source_port=p, size=s) for p in self._ports for s in wanted)

    def result(self) -> Lengths | None:
        """What is proved so far."""
        if not self._differ or self._bare[self._least].passed:
            return None
        df = self._contrast.result() if self._family is Family.IPV4 else None
        bands = tuple(self._bands())
        return Lengths(bands, df) if bands or df else None

    def _first(self, like: Shot) -> tuple[Shot, ...]:
        """All over the range; the smallest and the largest most often, in an order that looks
        random.
        """
        small, large = self._least, self._mtu
        ladder = {small, *self._between(_LADDER), large}
        sizes = [*ladder, *[small] * 6, *[large] * 2 * (large > small)]
        asked = [like._replace(source_port=p, size=s) for p in self._ports for s in sizes]
        if self._family is Family.IPV4:
            asked += compared((small, min(512, large), large), self._ports, like)
            asked += [
                like._replace(source_port=p, size=large, dont_fragment=True)
                for p in self._ports * 2
            ]
        return tuple(asked[i] for i in shuffled(range(len(asked)), 0))

    def _ends_apart(self, observed: Observed) -> bool:
        """Whether the largest pass, with DF set or not, and the smallest do not, in one round."""
        through = passed(observed)
        if through is None:
            return False
        sorts: dict[tuple[int, bool], _Tally] = {}
        for i in shots_in(observed.mask(Purpose.SIZE) & tried(observed)):
            shot = observed.trial.shots[i]
            one = sorts.setdefault((shot.size, shot.dont_fragment), _Tally())
            one.passed += through >> i & 1
            one.lost += not through >> i & 1
        small = sorts.get((self._least, False), _Tally())
        large = [sorts.get((self._mtu, df), _Tally()) for df in (False, True)]
        apart = (cleanly_apart(small.lost, tally.copies, tally.passed) for tally in large)
        return not small.passed and 2 * min(apart) < RARE

    def _take(self, observed: Observed) -> None:
        through = passed(observed)
        if through is None:
            return
        like = self._like
        for i in shots_in(observed.mask(Purpose.SIZE) & tried(observed) | self._plain(observed)):
            shot = observed.trial.shots[i]
            if (shot.form, shot.port) != (like.form, like.port):
                continue
            if observed.send_errors.get(i) == Errno.EMSGSIZE:
                continue  # its own kernel's word, and nobody else's
            size = max(shot.size, self._least)
            passes = bool(through >> i & 1)
            if not shot.dont_fragment:
                tally = self._bare.setdefault(size, _Tally())
                tally.passed += passes
                tally.lost += not passes
            if shot.source_port in self._ports:
                self._contrast.take(shot, size, passes=passes)

    def _plain(self, observed: Observed) -> int:
        """Those that are as the looks send them; one that looks like a reply is another thing."""
        shots = observed.trial.shots
        mask = (observed.mask(Purpose.PLAIN) | observed.mask(Purpose.FLOW)) & tried(observed)
        return sum(1 << i for i in shots_in(mask) if shots[i].source_port != shots[i].port)

    def _apart(self, bare: Mapping[int, _Tally], whole: Sequence[_Tally]) -> bool:
        """Whether something else passes, where the small ones are all lost."""
        others = [tally for size, tally in bare.items() if size != self._least]
        others += whole
        lost = bare[self._least].lost
        together = sum(t.copies for t in others), sum(t.passed for t in others)
        one = [len(others) * cleanly_apart(lost, t.copies, t.passed) for t in others]
        chance = min(cleanly_apart(lost, *together), *one, 1.0)
        return 2 * chance < RARE

    @property
    def _loss(self) -> float:
        """The share of packets that get lost whatever their size, rather too high than too low."""
        passing = [tally for tally in self._bare.values() if tally.passed]
        return (sum(t.lost for t in passing) + 1) / (sum(t.copies for t in passing) + 2)

    def _between(self, sizes: Sequence[int]) -> list[int]:
        return [size for size in sizes if self._least < size < self._mtu]

    def _edges(self) -> Iterator[int]:
        """Sizes between two neighbours of which one passes and one does not."""
        sizes = sorted(self._bare)
        edges = [
            (a, b)
            for a, b in pairwise(sizes)
            if bool(self._bare[a].passed) is not bool(self._bare[b].passed) and b - a > 1
        ][:_MOST_EDGES]
        each = _MOST // COPIES // max(len(edges), 1)
        for a, b in edges:
            step = max((b - a) // (each + 1), 1)
            yield from range(a + step, b, step)

    def _doubtful(self) -> list[int]:
        """Sizes next to passing ones that loss may have taken."""
        return [
            size
            for size, tally in self._bare.items()
            if not tally.passed
            and tally.copies < _MOST_COPIES
            and self._loss**tally.copies >= RARE
            and any(self._bare[near].passed for near in self._near(size))
        ]

    def _near(self, size: int) -> list[int]:
        sizes = sorted(self._bare)
        at = sizes.index(size)
        return [sizes[i] for i in (at - 1, at + 1) if 0 <= i < len(sizes)]

    def _bands(self) -> Iterator[Band]:
        """Runs of sizes that are lost, as far as chance does not explain them."""
        sizes = sorted(self._bare)
        passing = [size for size in sizes if self._bare[size].passed]
        if not passing:
            return
        loss = self._loss
        for below, above in pairwise([0, *passing, 0]):
            run = [s for s in sizes if below < s and (not above or s < above)]
            sure = [s for s in run if loss ** self._bare[s].copies < RARE]
            if sure:
                yield Band(sure[0], sure[-1], below, above)
