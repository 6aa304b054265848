"""The inner loops over samples, compiled by Numba: no bounds checks, no GIL, one thread.

`ts`, `values` and `offsets` are a SeriesSet's columns. A window is left-open: the samples with
`starts[t] < ts <= ends[t]`; starts and ends never go down from step to step. Sums are Kahan's with
Neumaier's correction, as Prometheus's are.
"""

# ruff: noqa: C901, FBT001, FBT003, PLR0912, PLR0913 -- compiled loops take columns one by
# one, have no keyword arguments, and read best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from store.model import STALE_NAN_BITS, BoolArray, Float64Array, Int64Array

_STALE = np.int64(STALE_NAN_BITS)
Out = Float64Array


def compiled(function: Any) -> Any:
    """Compile on first use, keep on disk, release the GIL."""
    return njit(cache=True, nogil=True, error_model="numpy")(function)


@compiled
def kahan(increment: float, total: float, compensation: float) -> tuple[float, float]:
    """One step of a compensated sum."""
    added = total + increment
    if np.isinf(added):
        return added, 0.0
    if abs(total) >= abs(increment):
        compensation += (total - added) + increment
    else:
        compensation += (increment - added) + total
    return added, compensation


@compiled
def advance(ts: Int64Array, place: int, end: int, limit: int) -> int:
    """The first place whose time is past `limit`."""
    while place < end and ts[place] <= limit:
        place += 1
    return place


@compiled
def first_after(ts: Int64Array, low: int, high: int, limit: int) -> int:
    """As `advance`, by bisection: where a window begins far from the start of the data."""
    while low < high:
        middle = (low + high) // 2
        if ts[middle] <= limit:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def latest(
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    refs: Int64Array,
    lookback: int,
    out: Out,
    out_ts: Int64Array,
    present: BoolArray,
) -> None:
    """For each series and step the last sample in `(ref - lookback, ref]`, unless it is stale."""
    bits = values.view(np.int64)
    for row in range(len(offsets) - 1):
        first, end = offsets[row], offsets[row + 1]
        place = first_after(ts, first, end, refs[0]) if len(refs) else first
        for step in range(len(refs)):
            place = advance(ts, place, end, refs[step])
            found = place > first and ts[place - 1] > refs[step] - lookback
            if found and bits[place - 1] != _STALE:
                present[row, step] = True
                out[row, step] = values[place - 1]
                out_ts[row, step] = ts[place - 1]


@compiled
def extrapolated(
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    is_counter: bool,
    per_second_of: float,
    out: Out,
    present: BoolArray,
) -> None:
    """rate, increase (counters) and delta; `per_second_of` is the range in seconds, or 0.

    The extrapolation is that of Prometheus's functions.go: to the window's edge when it is within
    1.1 average sample distances, else by half a distance; never below a counter's zero.
    """
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        low = first_after(ts, begin, end, starts[0])
        high = low
        last_reset = begin  # the last place up to `high` where the counter went down
        seen = begin + 1
        for step in range(len(starts)):
            low = advance(ts, low, end, starts[step])
            high = advance(ts, max(high, low), end, ends[step])
            if high - low < 2:
                continue
            change = values[high - 1] - values[low]
            if is_counter:
                while seen < high:
                    if values[seen] < values[seen - 1]:
                        last_reset = seen
                    seen += 1
            if is_counter and last_reset > low:
                previous = values[low]
                for place in range(low + 1, high):
                    if values[place] < previous:
                        change += previous
                    previous = values[place]
            to_start = (ts[low] - starts[step]) / 1000.0
            to_end = (ends[step] - ts[high - 1]) / 1000.0
            sampled = (ts[high - 1] - ts[low]) / 1000.0
            average = sampled / (high - low - 1)
            threshold = average * 1.1
            if to_start >= threshold:
                to_start = average / 2
            if is_counter:
                to_zero = to_start
                if change > 0 and values[low] >= 0:
                    to_zero = sampled * (values[low] / change)
                to_start = min(to_start, to_zero)
            if to_end >= threshold:
                to_end = average / 2
            factor = (sampled + to_start + to_end) / sampled
            if per_second_of > 0:
                factor /= per_second_of
            out[row, step] = change * factor
            present[row, step] = True


@compiled
def _interpolated(
    ts: Int64Array, values: Float64Array, place: int, at: int, is_counter: bool
) -> float:
    """The value at `at` on the line from sample `place` to the next; a reset starts from 0."""
    left, right = values[place], values[place + 1]
    if is_counter and right < left:
        left = 0.0
    return left + (right - left) * (at - ts[place]) / (ts[place + 1] - ts[place])


@compiled
def extended(
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    reach: int,
    smoothed: bool,
    is_counter: bool,
    per_second_of: float,
    out: Out,
    present: BoolArray,
) -> None:
    """rate, increase and delta of `anchored` and `smoothed` ranges.

    Samples up to `reach` before the window (and, if smoothed, after it) are looked at: anchored
    takes the last sample before the window for its left edge, smoothed interpolates at both edges.
    """
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        for step in range(len(starts)):
            start, stop = starts[step], ends[step]
            low = first_after(ts, begin, end, start - reach)
            high = first_after(ts, low, end, stop + reach if smoothed else stop)
            if high == low or ts[high - 1] <= start:
                continue
            last = high - 1
            first = max(low, first_after(ts, low, last, start) - 1)
            if smoothed:
                last = first_after(ts, low, last, stop - 1)
            if ts[last] <= start or ts[first] > stop:
                continue
            left, right = values[first], values[last]
            if smoothed and ts[first] < start:
                left = _interpolated(ts, values, first, start, is_counter)
            if smoothed and last > low and ts[last] > stop:
                right = _interpolated(ts, values, last - 1, stop, is_counter)
            change = right - left
            if is_counter:
                inner_first = first + 1 if ts[first] <= start else first
                inner_last = last - 1 if ts[last] >= stop else last
                previous = left
                for place in range(inner_first, inner_last + 1):
                    if values[place] < previous:
                        change += previous
                    previous = values[place]
                if right < previous:
                    change += previous
            if per_second_of > 0:
                change /= per_second_of
            out[row, step] = change
            present[row, step] = True


@compiled
def smoothed_latest(
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    refs: Int64Array,
    lookback: int,
    out: Out,
    present: BoolArray,
) -> None:
    """A smoothed instant selector: the line between the samples before and after each step."""
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        for step in range(len(refs)):
            at = refs[step]
            low = first_after(ts, begin, end, at - lookback)
            place = first_after(ts, low, end, at)
            if place == low:
                continue
            value = values[place - 1]
            if ts[place - 1] < at and place < end and ts[place] <= at + lookback:
                value = _interpolated(ts, values, place - 1, at, False)
            out[row, step] = value
            present[row, step] = True


@compiled
def instant_change(
    ts: Int64Array,
    values: Float64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    is_rate: bool,
    out: Out,
    present: BoolArray,
) -> None:
    """Irate (`is_rate`) and idelta: the last two samples of each window."""
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        low = first_after(ts, begin, end, starts[0])
        high = low
        for step in range(len(starts)):
            low = advance(ts, low, end, starts[step])
            high = advance(ts, max(high, low), end, ends[step])
            if high - low < 2:
                continue
            last, previous = values[high - 1], values[high - 2]
            change = last
            if not is_rate or not last < previous:
                change = last - previous
            if is_rate:
                change /= (ts[high - 1] - ts[high - 2]) / 1000.0
            out[row, step] = change
            present[row, step] = True
