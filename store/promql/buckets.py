"""Kernels over classic histograms; the arithmetic is that of Prometheus's quantile.go."""

# ruff: noqa: PLR0911, PLR0913 -- compiled loops take columns one by
# one, have no keyword arguments, and read best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array
from store.promql.kernels import compiled

_SMALL_DELTA = 1e-12
_MIN_NORMAL = 2.2250738585072014e-308


@compiled
def _almost_equal(a: float, b: float) -> bool:
    if np.isnan(a) or np.isnan(b):
        return np.isnan(a) and np.isnan(b)
    if a == b:
        return True
    total, difference = abs(a) + abs(b), abs(a - b)
    if a == 0 or b == 0 or total < _MIN_NORMAL:
        return difference < _SMALL_DELTA * _MIN_NORMAL
    return difference / min(total, np.finfo(np.float64).max) < _SMALL_DELTA


@compiled
def _gather(
    values: Float64Array,
    present: BoolArray,
    rows: Int64Array,
    upper: Float64Array,
    step: int,
    bounds: Float64Array,
    counts: Float64Array,
) -> int:
    """The buckets of one histogram at one step; equal bounds are summed."""
    size = 0
    for place in range(len(rows)):
        if not present[rows[place], step]:
            continue
        count = values[rows[place], step]
        if size and bounds[size - 1] == upper[place]:
            counts[size - 1] += count
        else:
            bounds[size] = upper[place]
            counts[size] = count
            size += 1
    return size


@compiled
def _make_monotonic(
    bounds: Float64Array, counts: Float64Array, size: int, forced: Float64Array
) -> None:
    """Counts never fall; `forced` collects how often, from and to which bucket, and how far."""
    previous = counts[0]
    touched = False
    for place in range(1, size):
        count = counts[place]
        if count == previous:
            continue
        if _almost_equal(previous, count):
            counts[place] = previous
            continue
        if count < previous:
            if forced[0] == 0 and not touched:
                forced[1], forced[2] = bounds[place], bounds[place]
            forced[1] = min(forced[1], bounds[place])
            forced[2] = max(forced[2], bounds[place])
            forced[3] = max(forced[3], previous - count)
            counts[place] = previous
            touched = True
            continue
        previous = count
    if touched:
        forced[0] += 1


@compiled
def _quantile(
    bounds: Float64Array, counts: Float64Array, size: int, q: float, forced: Float64Array
) -> float:
    if np.isnan(q):
        return np.nan
    if q < 0:
        return -np.inf
    if q > 1:
        return np.inf
    if bounds[size - 1] != np.inf:
        return np.nan
    _make_monotonic(bounds, counts, size, forced)
    observations = counts[size - 1]
    if size < 2 or observations == 0 or np.isnan(observations):
        return np.nan
    rank = q * observations
    found = 0
    while found < size - 1 and not counts[found] >= rank:
        found += 1
    if found == size - 1:
        return bounds[size - 2]
    if found == 0 and bounds[0] <= 0:
        return bounds[0]
    start, count = 0.0, counts[found]
    if found > 0:
        start = bounds[found - 1]
        count -= counts[found - 1]
        rank -= counts[found - 1]
    return start + (bounds[found] - start) * (rank / count)


@compiled
def quantiles(
    values: Float64Array,
    present: BoolArray,
    rows: Int64Array,
    starts: Int64Array,
    upper: Float64Array,
    q: Float64Array,
    out: Float64Array,
    out_present: BoolArray,
    forced: Float64Array,
) -> None:
    """The q[t]-quantile of each histogram; `forced[h]` is as `_make_monotonic` leaves it."""
    for place in range(len(starts) - 1):
        low, high = starts[place], starts[place + 1]
        bounds, counts = np.empty(high - low), np.empty(high - low)
        for step in range(values.shape[1]):
            size = _gather(values, present, rows[low:high], upper[low:high], step, bounds, counts)
            if size:
                out[place, step] = _quantile(bounds, counts, size, q[step], forced[place])
                out_present[place, step] = True


@compiled
def _rank_at(bounds: Float64Array, counts: Float64Array, size: int, value: float) -> float:
    """How many observations lie below a value, linear within a bucket."""
    below = 0.0
    for place in range(size):
        low = -np.inf
        if place > 0:
            low = bounds[place - 1]
        elif bounds[0] > 0:
            low = 0.0
        if low >= value:
            return below
        if bounds[place] > value:
            if np.isinf(low):
                return counts[place]
            share = (value - low) / (bounds[place] - low)
            return below + (counts[place] - below) * share
        below = counts[place]
    return counts[size - 1]


@compiled
def _fraction(
    bounds: Float64Array, counts: Float64Array, size: int, lower: float, upper: float
) -> float:
    if bounds[size - 1] != np.inf:
        return np.nan
    _make_monotonic(bounds, counts, size, np.zeros(4))
    total = counts[size - 1]
    if total == 0 or np.isnan(total) or np.isnan(lower) or np.isnan(upper):
        return np.nan
    if lower >= upper:
        return 0.0
    low = min(_rank_at(bounds, counts, size, lower), total)
    high = min(_rank_at(bounds, counts, size, upper), total)
    return (high - low) / total


@compiled
def fractions(
    values: Float64Array,
    present: BoolArray,
    rows: Int64Array,
    starts: Int64Array,
    upper_bounds: Float64Array,
    lower: Float64Array,
    upper: Float64Array,
    out: Float64Array,
    out_present: BoolArray,
) -> None:
    """The share of each histogram's observations between lower[t] and upper[t]."""
    for place in range(len(starts) - 1):
        low, high = starts[place], starts[place + 1]
        bounds, counts = np.empty(high - low), np.empty(high - low)
        for step in range(values.shape[1]):
            size = _gather(
                values, present, rows[low:high], upper_bounds[low:high], step, bounds, counts
            )
            if size:
                out[place, step] = _fraction(bounds, counts, size, lower[step], upper[step])
                out_present[place, step] = True
