"""What earlier weeks say of a run of minutes, before it is brought to today's level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from business_metrics.dispersion import Dispersion
from business_metrics.reference_days import width_min
from store.model import Float64Array

# What ends a smaller promotion is no drop by half.
_WEEKS_APART = 1.5
# In the very window that says that orders are missing, weeks this far apart are a reason to doubt.
DOUBT_APART = 1.25
# Days differ by about a tenth: what the last days were like tells as much as a hundred orders.
SETTLED_ORDERS = 100.0
_UNLIKELY = 2.0
_USUAL_LEAST_H = 12
_SALE_LEAST_H = 4
_YOUNG_SALE_H = 6
_APART_BY_CHANCE = 3.0
_LATELY_MIN = (15, 60)


@dataclass(frozen=True, slots=True)
class Usual:
    """How some hours compared with their own season.

    Attributes:
        factor: The median of the hours.
        least: The lowest hour of a young sale; infinite else.
        settled: Enough of the hours are known.
    """

    factor: float = 1.0
    least: float = math.inf
    settled: bool = False


UNKNOWN = Usual()


def alike(seen: float, due: float) -> bool:
    """Whether so many may come on a day like the last few."""
    return abs(seen - due) <= _UNLIKELY * math.sqrt(due + due * due / SETTLED_ORDERS)


def usual_of(levels: Float64Array, known_h: float, least: float, *, sale: bool) -> Usual:
    """What blocks of hours say, each by its level; together they tell of so many hours.

    A promotion may lie on most hours of a young sale: there the lowest counts too, also that of
    shorter blocks.
    """
    if sale and 0 < known_h < _YOUNG_SALE_H:
        least = min(least, float(levels.min()))
    if known_h < (_SALE_LEAST_H if sale else _USUAL_LEAST_H):
        return Usual(least=least)
    return Usual(float(np.median(levels)), least, settled=True)


@dataclass(frozen=True, slots=True)
class Season:
    """Last weeks' orders a minute on a run of minutes, before they are brought to today's level.

    Attributes:
        per_minute: NaN where nothing is known.
        lowest: The same of the week in which least was sold.
        source: What it rests on; see `Expectation`.
        learned: How many reference days it rests on.
        dispersion: How much the counts of the last days vary.
        usual: How the last days, or the hours of this sale, compared with their own season.
        sale: The minutes end on a sale day.
    """

    start_minute: int
    per_minute: Float64Array
    lowest: Float64Array
    source: str
    learned: int
    dispersion: Dispersion
    usual: Usual
    sale: bool

    def covers(self, start_minute: int, end_minute: int) -> bool:
        """Whether it holds all of these minutes."""
        end = self.start_minute + len(self.per_minute)
        return self.start_minute <= start_minute and end_minute <= end

    def above_lowest(
        self,
        end_minute: int,
        spans_min: Sequence[int] = _LATELY_MIN,
        apart: float = _WEEKS_APART,
    ) -> float:
        """How many times the least of the weeks is expected in the minutes before; 1 by chance.

        A promotion that fell on most of the weeks is not to be expected for sure.
        """
        end, most = end_minute - self.start_minute, 1.0
        for minutes in spans_min:
            span = slice(max(end - minutes, 0), end)
            middle, least = float(self.per_minute[span].sum()), float(self.lowest[span].sum())
            # Each minute is a mean over the minutes around it, so more orders stand behind it.
            orders = least * (1 + width_min(least / minutes) / minutes)
            if least and middle / least > apart + _APART_BY_CHANCE / np.sqrt(orders):
                most = max(most, middle / least)
        return most
