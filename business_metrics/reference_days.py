"""Days of the past laid beside today: where they have holes, and what they say a minute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array

_SHUT_MIN = 30
# Of what the day sells on average; a late order of another day does not open the shop.
_SHUT_SHARE = 0.02
# How many minutes before and after tell of one, from which orders a minute on.
_REACHES = ((1, 60.0), (5, 15.0), (15, 0.5), (45, 0.0))
REACH_MIN = _REACHES[-1][0]
LEAST_BLOCK_ORDERS = 20.0
# No order where so many were due is no chance: e to the power of -12.
_HOLE_ORDERS = 12.0
# The deviation of a normal distribution by its median absolute deviation.
_SIGMA_OF_MAD = 1.4826
_TORN = 2.0


@dataclass(frozen=True, slots=True)
class Reference:
    """Orders by minute of one reference day, laid on today's minutes, and which of them count."""

    counts: Float64Array
    valid: BoolArray


def mean(days: Sequence[Reference]) -> Float64Array:
    """Orders a minute over those days that count; NaN where none does."""
    valid = np.vstack([day.valid for day in days])
    sums = np.where(valid, np.vstack([day.counts for day in days]), 0.0).sum(axis=0)
    known = valid.sum(axis=0)
    return np.where(known > 0, sums / np.maximum(known, 1), np.nan)


def lower_median(runs: Float64Array) -> Float64Array:
    """The median of each column, of two middle values the smaller; NaN where nothing is known.

    So a promotion that fell on half of the weeks is not expected again.

    >>> lower_median(np.asarray([[1.0, 5.0], [9.0, np.nan], [2.0, np.nan], [8.0, np.nan]])).tolist()
    [2.0, 5.0]
    """
    ascending = np.sort(runs, axis=0)
    known = (~np.isnan(runs)).sum(axis=0)
    place = np.maximum(known - 1, 0) // 2
    middle: Float64Array = np.take_along_axis(ascending, place[np.newaxis], axis=0)[0]
    return middle


def left_of(runs: Sequence[Float64Array], latest: Int64Array, wanted: slice) -> Float64Array:
    """How much of the rate of some minutes was left in the wanted ones of those days, 1 at most.

    A shop of some days knows no week yet, but its evenings. A day without an order just before
    tells nothing.
    """
    told = [(run[wanted], run[latest]) for run in runs]
    falls = [then / np.nanmean(before) for then, before in told if np.nansum(before) >= 1]
    if not falls:
        return np.ones(wanted.stop - wanted.start)
    return np.fmin(lower_median(np.vstack(falls)), 1.0)


def holes(day: Reference, witness: Float64Array) -> BoolArray:
    """Runs of minutes without an order in which, by the shape of the witness, many were due.

    Only the shape counts: the witness is brought to the day's own level first.
    """
    both = day.valid & ~np.isnan(witness)
    due, seen = float(witness[both].sum()), float(day.counts[both].sum())
    if due < _HOLE_ORDERS:
        return np.zeros(len(day.counts), dtype=np.bool_)
    if not seen:
        return both
    # An invalid minute stands between two runs: it must not join them.
    silent = (both & (day.counts == 0)).astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent, [0]])))
    sums = np.concatenate([[0.0], np.cumsum(np.where(both, witness, 0.0))])
    holes = np.zeros(len(day.counts), dtype=np.bool_)
    for begin, stop in edges.reshape(-1, 2).tolist():
        if (sums[stop] - sums[begin]) * seen / due > _HOLE_ORDERS:
            holes[begin:stop] = True
    return holes


def closed(day: Reference, valid: BoolArray, others: Float64Array) -> BoolArray:
    """Half an hour and more without an order, no hole: a shop that was shut. It has sharp edges.

    The other days say that it was: in a small shop's night half an hour passes without an order by
    chance. `others` are their orders a minute.
    """
    silent = holes(Reference(day.counts, valid), np.ones(len(valid)))
    rate = float(day.counts[valid].sum()) / max(int(valid.sum()), 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
    for begin, stop in edges.reshape(-1, 2).tolist():
        sold = float(np.nansum(others[begin:stop]))
        if stop - begin < _SHUT_MIN or sold > _SHUT_SHARE * rate * (stop - begin):
            silent[begin:stop] = False
    return silent


def smoothed(counts: Float64Array, valid: BoolArray) -> Float64Array:
    """The mean around each minute but the first and last `REACH_MIN`.

    Over as few minutes as tell something: a day has steep flanks, and a small shop's night few
    orders.
    """
    means = [_mean_around(counts, valid, reach) for reach, _ in _REACHES]
    wide = found = means[-1]
    for mean_around, (_, least_rate) in zip(means[-2::-1], _REACHES[-2::-1], strict=True):
        found = np.where((wide >= least_rate) & ~np.isnan(mean_around), mean_around, found)
    return found


def width_min(rate: float) -> int:
    """How many minutes a figure is a mean of, at so many orders a minute."""
    return 1 + 2 * next(reach for reach, least_rate in _REACHES if rate >= least_rate)


def _mean_around(counts: Float64Array, valid: BoolArray, reach: int) -> Float64Array:
    width, spare = 2 * reach + 1, REACH_MIN - reach
    totals = _moving_sum(np.where(valid, counts, 0.0), width)
    minutes = _moving_sum(valid.astype(np.float64), width)
    found = np.where(minutes >= width / 3, totals / np.maximum(minutes, 1.0), np.nan)
    return found[spare : len(found) - spare]


def ratio(expected: Float64Array, actual: Float64Array, valid: BoolArray) -> tuple[float, float]:
    """Actual by expected: the median of the shortest blocks that hold enough orders, or of all.

    And how far the blocks disagree, relative to it, where that is more than chance: half of them
    may lie in a promotion that is over.
    """
    for length in (15, 30, 60):
        blocks = expected.reshape(-1, length).sum(axis=1)
        seen = actual.reshape(-1, length).sum(axis=1)
        full = (valid.reshape(-1, length).mean(axis=1) >= 0.5) & (blocks > 0)
        if full.any() and np.median(blocks[full]) >= LEAST_BLOCK_ORDERS:
            full &= blocks >= LEAST_BLOCK_ORDERS / 2
            each = seen[full] / blocks[full]
            middle = float(np.median(each))
            apart = _SIGMA_OF_MAD * float(np.median(np.abs(each - middle)))
            chance = math.sqrt(middle / float(np.median(blocks[full])))
            return middle, apart / middle if apart > _TORN * chance > 0 else 0.0
    return float(actual.sum()) / float(expected.sum()), 0.0


def _moving_sum(values: Float64Array, width: int) -> Float64Array:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    moved: Float64Array = sums[width:] - sums[:-width]
    return moved
