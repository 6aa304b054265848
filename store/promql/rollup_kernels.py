"""The inner loops over five-minute roll-ups: what `over_time` and `kernels` make of samples.

A window takes the buckets with `starts[t] < bucket <= ends[t]`. Starts and ends never go down
from step to step. Each answer is that of the samples themselves, in the same order of additions.
"""

# ruff: noqa: C901, FBT001, PLR0912, PLR0913, PLR0915 -- compiled loops take columns one by one, have no
# keyword arguments, and read best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array
from store.promql.kernels import advance, compiled, first_after, kahan

MIN, MAX, COUNT, PRESENT, SUM, AVG = range(6)


@compiled
def fold(
    operation: int,
    buckets: Int64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    counts: Int64Array,
    first: Float64Array,
    second: Float64Array,
    out: Float64Array,
    present: BoolArray,
) -> bool:
    """Minimum or maximum (`first` holds it), count, sum and mean (`first` total, `second` rest).

    False when a sum left the range of floats: then only the samples themselves can tell.
    """
    finite = True
    for row in range(len(offsets) - 1):
        end = offsets[row + 1]
        low = first_after(buckets, offsets[row], end, starts[0])
        high = low
        for step in range(len(starts)):
            low = advance(buckets, low, end, starts[step])
            high = advance(buckets, max(high, low), end, ends[step])
            count = 0
            best = np.nan
            total, rest = 0.0, 0.0
            for place in range(low, high):
                if counts[place] == 0:
                    continue
                value = first[place]
                count += counts[place]
                if operation == MIN:
                    if value < best or np.isnan(best):
                        best = value
                elif operation == MAX:
                    if value > best or np.isnan(best):
                        best = value
                elif operation >= SUM:
                    total, rest = kahan(value, total, rest)
                    rest += second[place]
            if count == 0:
                continue
            present[row, step] = True
            if operation <= MAX:
                out[row, step] = best
            elif operation == COUNT:
                out[row, step] = count
            elif operation == PRESENT:
                out[row, step] = 1.0
            else:
                finite = finite and np.isfinite(total)
                out[row, step] = total + rest if operation == SUM else total / count + rest / count
    return finite


@compiled
def edge(
    is_last: bool,
    stale_ends: bool,
    buckets: Int64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    counts: Int64Array,
    stale_at: Int64Array,
    values: Float64Array,
    out: Float64Array,
    present: BoolArray,
) -> None:
    """The first or the last sample of each window; with `stale_ends` none after a marker."""
    for row in range(len(offsets) - 1):
        end = offsets[row + 1]
        low = first_after(buckets, offsets[row], end, starts[0])
        high = low
        for step in range(len(starts)):
            low = advance(buckets, low, end, starts[step])
            high = advance(buckets, max(high, low), end, ends[step])
            for nth in range(high - low):
                place = high - 1 - nth if is_last else low + nth
                if stale_ends and stale_at[place] <= 0:
                    break
                if counts[place] > 0:
                    out[row, step] = values[place]
                    present[row, step] = True
                    break


@compiled
def extrapolated(
    is_counter: bool,
    per_second_of: float,
    buckets: Int64Array,
    offsets: Int64Array,
    starts: Int64Array,
    ends: Int64Array,
    counts: Int64Array,
    places: tuple[Int64Array, Int64Array],
    edges: tuple[Float64Array, Float64Array, Float64Array],
    out: Float64Array,
    present: BoolArray,
) -> None:
    """rate, increase and delta as `kernels.extrapolated` has them.

    `places` are first_at and last_at, `edges` are first, last and resets.
    """
    first_at, last_at = places
    first, last, resets = edges
    for row in range(len(offsets) - 1):
        end = offsets[row + 1]
        low = first_after(buckets, offsets[row], end, starts[0])
        high = low
        for step in range(len(starts)):
            low = advance(buckets, low, end, starts[step])
            high = advance(buckets, max(high, low), end, ends[step])
            samples = 0
            begins = ended = np.int64(0)
            opening = previous = 0.0
            lost = 0.0
            for place in range(low, high):
                if counts[place] == 0:
                    continue
                if samples == 0:
                    begins = buckets[place] + first_at[place]
                    opening = first[place]
                elif first[place] < previous:
                    lost += previous
                lost += resets[place]
                previous = last[place]
                ended = buckets[place] + last_at[place]
                samples += counts[place]
            if samples < 2:
                continue
            change = previous - opening
            if is_counter:
                change += lost
            to_start = (begins - starts[step]) / 1000.0
            to_end = (ends[step] - ended) / 1000.0
            sampled = (ended - begins) / 1000.0
            average = sampled / (samples - 1)
            threshold = average * 1.1
            if to_start >= threshold:
                to_start = average / 2
            if is_counter:
                to_zero = to_start
                if change > 0 and opening >= 0:
                    to_zero = sampled * (opening / change)
                to_start = min(to_start, to_zero)
            if to_end >= threshold:
                to_end = average / 2
            factor = (sampled + to_start + to_end) / sampled
            if per_second_of > 0:
                factor /= per_second_of
            out[row, step] = change * factor
            present[row, step] = True
