"""What chance alone would do: the sceptic's part in every conclusion. Pure arithmetic.

Each function gives a probability, or a bound above it, under the dullest explanation. A conclusion
is drawn only where that explanation is RARE.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil, comb, erfc, floor, sqrt
from operator import sub

RARE = 1e-3


def cleanly_apart(lost: int, tried: int, passed: int) -> float:
    """At most this chance, at whatever rate of loss, that `lost` packets of one sort are all lost
    while `passed` of the `tried` of another sort arrive, though loss treats both alike.

    The rate that favours it most is taken, so nothing need be known of the loss.
    """
    if not lost or not passed:
        return 1.0
    both = lost + passed
    return float(comb(tried, passed) * (passed / both) ** passed * (lost / both) ** lost)


def lost_every_round(flows: int, rounds: Sequence[int], dead: int) -> float:
    """At most this chance that `dead` or more of `flows` flows are lost in every round.

    Each round sends every flow once, in an order drawn anew, and `rounds` are the numbers lost.
    Whatever depends on time alone (random loss, bursts, a rate limiter, an outage) then hits a
    random set of flows in each round. The bound is the expected number of sets of `dead` flows
    that are lost in all rounds.
    """
    return min(float(comb(flows, dead) * _in_all(flows, rounds, dead)), 1.0) if dead else 1.0


def these_every_round(flows: int, rounds: Sequence[int], those: int) -> float:
    """The same chance for `those` flows that were named before anything was sent."""
    return float(_in_all(flows, rounds, those))


def _in_all(flows: int, rounds: Sequence[int], those: int) -> Fraction:
    chance = Fraction(1)
    for lost in rounds:
        chance *= (
            Fraction(comb(flows - those, lost - those), comb(flows, lost)) if lost >= those else 0
        )
    return chance


def unlike_flows(lost: Sequence[int], rounds: Sequence[int]) -> float:
    """The chance that flows differ as much in what they lose, though loss treats them alike.

    `lost` counts for each flow, `rounds` for each round as above. Cochran's Q test, with Wilson's
    and Hilferty's approximation of the chi-squared distribution.
    """
    flows, total = len(lost), sum(lost)
    spread = flows * total - sum(n * n for n in rounds)
    if flows < 2 or spread <= 0:
        return 1.0
    q = (flows - 1) * (flows * sum(n * n for n in lost) - total * total) / spread
    degrees = flows - 1
    width = 2 / (9 * degrees)
    return _tail(((q / degrees) ** (1 / 3) - (1 - width)) / sqrt(width))


def _tail(z: float) -> float:
    return erfc(z / sqrt(2)) / 2


def all_first(first: int, passed: int, sent: int) -> float:
    """The chance that the `first` packets of `sent` all pass, where any `passed` of them do."""
    if first > passed:
        return 0.0
    return comb(sent - first, passed - first) / comb(sent, passed)


def few_runs(sequence: Sequence[bool]) -> float:
    """The chance of so few changes between passing and lost, where their order is random."""
    ones = sum(sequence)
    zeros = len(sequence) - ones
    if not ones or not zeros:
        return 1.0
    runs = 1 + sum(a is not b for a, b in pairwise(sequence))
    ways = 0
    for count in range(2, runs + 1):
        half = count // 2
        if count % 2:
            ways += comb(ones - 1, half) * comb(zeros - 1, half - 1)
            ways += comb(ones - 1, half - 1) * comb(zeros - 1, half)
        else:
            ways += 2 * comb(ones - 1, half - 1) * comb(zeros - 1, half - 1)
    return ways / comb(ones + zeros, ones)


def few_blocks(flows: int, dead: int, blocks: int) -> float:
    """The chance that `dead` of `flows` flows lie in so few blocks, the last port being next to the
    first, where each is as likely to be dead as any other: what a hash does.
    """
    if not 0 < dead < flows:
        return 1.0
    alive = flows - dead
    # Where a circle is cut into as many blocks of either sort.
    ways = sum(
        flows * comb(dead - 1, n - 1) * comb(alive - 1, n - 1) // n for n in range(1, blocks + 1)
    )
    return ways / comb(flows, dead)


def as_even(sequence: Sequence[bool]) -> float:
    """The chance that passing packets are spread at least as evenly, where their order is random
    behind the first.

    A limiter that refills steadily is never a token ahead of its mean rate and never two behind:
    what is measured is the farthest that the count of passing packets ever is from half a token
    behind.
    """
    sent, total = len(sequence), sum(sequence)
    if not total or total == sent:
        return 1.0
    rate = total / sent
    counts = list(accumulate(map(int, sequence)))
    behind = [at * rate - 0.5 for at in range(1, sent + 1)]  # half a token behind the mean
    farthest = max(map(abs, map(sub, counts, behind))) + 1e-9
    chances: dict[int, float] = {counts[0]: 1.0}
    for at in range(1, sent):
        within = range(ceil(behind[at] - farthest), floor(behind[at] + farthest) + 1)
        left = sent - at
        chances = {
            count: chances.get(count, 0.0) * (1 - (total - count) / left)
            + chances.get(count - 1, 0.0) * (total - count + 1) / left
            for count in within
        }
    return min(max(chances.get(total, 0.0), 0.0), 1.0)
