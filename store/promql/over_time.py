"""The kernels of `*_over_time` and its kin: one fold of each window."""

# ruff: noqa: C901, FBT001, FBT003, PLR0911, PLR0913 -- compiled loops take columns one by
# one, have no keyword arguments, and read best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array
from store.promql.kernels import advance, compiled, first_after, kahan

# The operations that `fold` knows; the numbers are passed to compiled code.
SUM, AVG, MIN, MAX, COUNT, FIRST, LAST, PRESENT = range(8)
STDVAR, STDDEV, QUANTILE, MAD, CHANGES, RESETS = range(8, 14)
TS_FIRST, TS_LAST, TS_MIN, TS_MAX = range(14, 18)
DERIV, PREDICT = 18, 19


@compiled
def _sum(values: Float64Array) -> float:
    total, rest = 0.0, 0.0
    for value in values:
        total, rest = kahan(value, total, rest)
    return total if np.isinf(total) else total + rest


@compiled
def _average(values: Float64Array) -> float:
    """The mean; when the sum would overflow, the incremental mean from there on."""
    total, rest, mean = values[0], 0.0, 0.0
    incremental = False
    for place in range(1, len(values)):
        count = place + 1.0
        if not incremental:
            new_total, new_rest = kahan(values[place], total, rest)
            if not np.isinf(new_total):
                total, rest = new_total, new_rest
                continue
            incremental = True
            mean = total / (count - 1)
            rest /= count - 1
        share = (count - 1) / count
        mean, rest = kahan(values[place] / count, share * mean, share * rest)
    if incremental:
        return mean + rest
    return total / len(values) + rest / len(values)


@compiled
def _extreme(values: Float64Array, sign: float, ties: bool) -> int:
    """The place of the greatest (sign 1) or smallest (-1); NaN only if there is nothing else."""
    best = 0
    for place in range(len(values)):
        value, top = values[place] * sign, values[best] * sign
        if value > top or (ties and value == top) or np.isnan(top):
            best = place
    return best


@compiled
def _variance(values: Float64Array) -> float:
    count = mean = mean_rest = square = square_rest = 0.0
    for value in values:
        count += 1
        delta = value - (mean + mean_rest)
        mean, mean_rest = kahan(delta / count, mean, mean_rest)
        square, square_rest = kahan(delta * (value - (mean + mean_rest)), square, square_rest)
    return (square + square_rest) / count


@compiled
def quantile_of_sorted(ordered: Float64Array, q: float) -> float:
    """Linear interpolation between ranks; out of range gives an infinity. NaN sorts first."""
    count = len(ordered)
    if count == 0 or np.isnan(q):
        return np.nan
    if q < 0:
        return -np.inf
    if q > 1:
        return np.inf
    rank = q * (count - 1)
    lower = max(0, int(np.floor(rank)))
    upper = min(count - 1, lower + 1)
    weight = rank - np.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


@compiled
def nan_first(values: Float64Array) -> Float64Array:
    """A sorted copy with NaN before every number, as Prometheus's heap orders them."""
    ordered = np.sort(values)
    nans = 0
    while nans < len(ordered) and np.isnan(ordered[len(ordered) - 1 - nans]):
        nans += 1
    if nans:
        ordered = np.roll(ordered, nans)
    return ordered


@compiled
def _mad(values: Float64Array) -> float:
    middle = quantile_of_sorted(nan_first(values), 0.5)
    return quantile_of_sorted(nan_first(np.abs(values - middle)), 0.5)


@compiled
def _changes(values: Float64Array) -> float:
    count = 0.0
    for place in range(1, len(values)):
        now, before = values[place], values[place - 1]
        if now != before and not (np.isnan(now) and np.isnan(before)):
            count += 1
    return count


@compiled
def _resets(values: Float64Array) -> float:
    count = 0.0
    for place in range(1, len(values)):
        if values[place] < values[place - 1]:
            count += 1
    return count


@compiled
def _regression(ts: Int64Array, values: Float64Array, origin: int) -> tuple[float, float]:
    """Slope and intercept at `origin` of the least-squares line."""
    sum_x = sum_y = sum_xy = sum_xx = 0.0
    rest_x = rest_y = rest_xy = rest_xx = 0.0
    constant = True
    for place in range(len(values)):
        if values[place] != values[0]:
            constant = False
        x = (ts[place] - origin) / 1000.0
        sum_x, rest_x = kahan(x, sum_x, rest_x)
        sum_y, rest_y = kahan(values[place], sum_y, rest_y)
        sum_xy, rest_xy = kahan(x * values[place], sum_xy, rest_xy)
        sum_xx, rest_xx = kahan(x * x, sum_xx, rest_xx)
    if constant:
        if np.isinf(values[0]):
            return np.nan, np.nan
        return 0.0, values[0]
    count = len(values)
    sum_x, sum_y, sum_xy, sum_xx = (
        sum_x + rest_x,
        sum_y + rest_y,
        sum_xy + rest_xy,
        sum_xx + rest_xx,
    )
    covariance = sum_xy - sum_x * sum_y / count
    variance = sum_xx - sum_x * sum_x / count
    slope = covariance / variance
    return slope, sum_y / count - slope * sum_x / count


@compiled
def _plain(operation: int, ts: Int64Array, values: Float64Array) -> float:
    if operation == COUNT:
        return float(len(values))
    if operation == FIRST:
        return values[0]
    if operation == LAST:
        return values[-1]
    if operation == PRESENT:
        return 1.0
    if operation == TS_FIRST:
        return ts[0] / 1000.0
    if operation == TS_LAST:
        return ts[-1] / 1000.0
    if operation == TS_MIN:
        return ts[_extreme(values, -1.0, True)] / 1000.0
    if operation == TS_MAX:
        return ts[_extreme(values, 1.0, True)] / 1000.0
    if operation == CHANGES:
        return _changes(values)
    return _resets(values)


@compiled
def _statistic(
    operation: int, ts: Int64Array, values: Float64Array, parameter: float, at: int
) -> float:
    if operation == SUM:
        return _sum(values)
    if operation == AVG:
        return _average(values)
    if operation == MIN:
        return values[_extreme(values, -1.0, False)]
    if operation == MAX:
        return values[_extreme(values, 1.0, False)]
    if operation == STDVAR:
        return _variance(values)
    if operation == STDDEV:
        return np.sqrt(_variance(values))
    if operation == QUANTILE:
        return quantile_of_sorted(nan_first(values), parameter)
    if operation == MAD:
        return _mad(values)
    if operation == DERIV:
        return _regression(ts, values, ts[0])[0]
    if operation == PREDICT:
        slope, intercept = _regression(ts, values, at)
        return slope * parameter + intercept
    return _plain(operation, ts, values)


@compiled
def fold(
    operation: int,
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    parameters: Float64Array,
    times: Int64Array,
    out: Float64Array,
    present: BoolArray,
) -> None:
    """One operation over each window that holds a sample (two for regressions).

    `parameters` has one number a step (a quantile, a prediction's seconds); `times` are the steps.
    """
    least = 2 if operation in (DERIV, PREDICT) else 1
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        low = first_after(ts, begin, end, starts[0])
        high = low
        for step in range(len(starts)):
            low = advance(ts, low, end, starts[step])
            high = advance(ts, max(high, low), end, ends[step])
            if high - low >= least:
                out[row, step] = _statistic(
                    operation, ts[low:high], values[low:high], parameters[step], times[step]
                )
                present[row, step] = True


@compiled
def anchored_fold(
    operation: int,
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    reach: int,
    out: Float64Array,
    present: BoolArray,
) -> None:
    """Changes and resets of an anchored range: from the last sample before the window on."""
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        for step in range(len(starts)):
            low = first_after(ts, begin, end, starts[step] - reach)
            high = first_after(ts, low, end, ends[step])
            if high == low or ts[high - 1] <= starts[step]:
                continue
            first = max(low, first_after(ts, low, high - 1, starts[step]) - 1)
            out[row, step] = _plain(operation, ts[first:high], values[first:high])
            present[row, step] = True


@compiled
def double_exponential(
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    smoothing: Float64Array,
    trend: Float64Array,
    out: Float64Array,
    present: BoolArray,
) -> None:
    """Holt's linear smoothing of each window that holds two samples or more."""
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        low = first_after(ts, begin, end, starts[0])
        high = low
        for step in range(len(starts)):
            low = advance(ts, low, end, starts[step])
            high = advance(ts, max(high, low), end, ends[step])
            if high - low < 2:
                continue
            before, now = 0.0, values[low]
            slope = values[low + 1] - values[low]
            for place in range(low + 1, high):
                if place > low + 1:
                    slope = trend[step] * (now - before) + (1 - trend[step]) * slope
                weighted = smoothing[step] * values[place]
                carried = (1 - smoothing[step]) * (now + slope)
                before, now = now, weighted + carried
            out[row, step] = now
            present[row, step] = True
