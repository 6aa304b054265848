"""What share of checkouts a shop usually loses, and whether more than that is chance.

The rule looks every few seconds, so the level of one look is what a month may cost in false tickets
over the looks of a month. The usual share is pooled over the last week, without the times in which
the rule was met; that hours differ by more than chance (the night, a campaign) is measured there
too, and shrinks what a count proves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from business_metrics.significance import level_of_a_look, wilson
from store.model import Float64Array

BUCKET_MS = 300_000
_WEEK_BUCKETS = 7 * 288
# Fewer say too little of what is usual.
_LEAST_DECIDED = 200
_LEAST_BLOCKS = 12
_LEAST_IN_BLOCK = 5
_FALSE_A_MONTH = 0.25
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class UsualShare:
    """The share that is usually abandoned, from 0 to 1.

    Attributes:
        share: Pooled over the last week.
        high: Its upper bound (Wilson, 99 %).
        alike: How alike the checkouts of one hour end, beyond chance: 0 not at all, 1 all the same.
    """

    share: float
    high: float
    alike: float = 0.0

    def exceeded(self, abandoned: int, decided: int, window_s: float, limit: float) -> bool:
        """Whether so many abandoned of those decided in a window are more than usual, proven.

        Usual is no more than the limit: a shop that is always above it is no healthy one.
        """
        if not decided:
            return False
        level = level_of_a_look(window_s, _FALSE_A_MONTH)
        spread = 1 + (decided - 1) * self.alike
        least = wilson(abandoned / spread, decided / spread, _NORMAL.inv_cdf(1 - level))[0]
        return least > min(self.high, limit)


class UsualAbandonment:
    """Remembers the matured checkouts of a week, five minutes of starts at a time."""

    def __init__(self, window_s: int) -> None:
        self._block = max(window_s * 1_000 // BUCKET_MS, 1)
        self._buckets: deque[tuple[int, int]] = deque(maxlen=_WEEK_BUCKETS)
        self._known: UsualShare | None = None

    def add(self, abandoned: int, decided: int) -> None:
        """Take in the next bucket; none decided where a ticket was open, or nobody counted."""
        self._buckets.append((abandoned, decided))
        self._known = self._now()

    def usual(self) -> UsualShare | None:
        """None while too few checkouts were seen."""
        return self._known

    def _now(self) -> UsualShare | None:
        counts = np.asarray(self._buckets, dtype=np.float64)
        abandoned, decided = counts.sum(axis=0).tolist()
        if decided < _LEAST_DECIDED:
            return None
        share = abandoned / decided
        whole = len(counts) // self._block * self._block
        blocks = counts[len(counts) - whole :].reshape(-1, self._block, 2).sum(axis=1)
        high = wilson(abandoned, decided)[1]
        return UsualShare(share, high, _alike(blocks[:, 0], blocks[:, 1], share))


def _alike(abandoned: Float64Array, decided: Float64Array, share: float) -> float:
    """The correlation of checkouts within a block, from the variance between blocks."""
    told = decided >= _LEAST_IN_BLOCK
    chance = share * (1 - share)
    if told.sum() < _LEAST_BLOCKS or not chance:
        return 0.0
    squares = (abandoned[told] - share * decided[told]) ** 2
    beyond = float((squares - chance * decided[told]).sum())
    pairs = float((decided[told] * (decided[told] - 1)).sum())
    return min(max(beyond / (chance * pairs), 0.0), 1.0)
