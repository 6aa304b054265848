"""Kernels over groups of series: `index[row]` is the group of a row."""

# ruff: noqa: C901, PLR0912, PLR0913 -- compiled loops take columns one by
# one, have no keyword arguments, and read best in one piece.
# mypy: disable-error-code="no-any-return, return-value"

from __future__ import annotations

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array
from store.promql.kernels import compiled, kahan
from store.promql.over_time import nan_first, quantile_of_sorted

_MOST_KEPT_IN_ORDER = 64


@compiled
def group_sum(
    values: Float64Array,
    present: BoolArray,
    index: Int64Array,
    out: Float64Array,
    rest: Float64Array,
    counts: Int64Array,
) -> None:
    """Compensated sums; `rest` holds the compensation until it is added at the end."""
    for row in range(values.shape[0]):
        group = index[row]
        for step in range(values.shape[1]):
            if present[row, step]:
                out[group, step], rest[group, step] = kahan(
                    values[row, step], out[group, step], rest[group, step]
                )
                counts[group, step] += 1
    for group in range(out.shape[0]):
        for step in range(out.shape[1]):
            if not np.isinf(out[group, step]):
                out[group, step] += rest[group, step]


@compiled
def group_average(
    values: Float64Array,
    present: BoolArray,
    index: Int64Array,
    out: Float64Array,
    rest: Float64Array,
    counts: Int64Array,
    incremental: BoolArray,
) -> None:
    """Means; a group whose sum would overflow goes on with the incremental mean."""
    for row in range(values.shape[0]):
        group = index[row]
        for step in range(values.shape[1]):
            if not present[row, step]:
                continue
            value = values[row, step]
            counts[group, step] += 1
            count = counts[group, step]
            if count == 1:
                out[group, step] = value
                continue
            if not incremental[group, step]:
                total, compensation = kahan(value, out[group, step], rest[group, step])
                if not np.isinf(total):
                    out[group, step], rest[group, step] = total, compensation
                    continue
                incremental[group, step] = True
                out[group, step] /= count - 1
                rest[group, step] /= count - 1
            share = (count - 1) / count
            out[group, step], rest[group, step] = kahan(
                value / count, share * out[group, step], share * rest[group, step]
            )
    for group in range(out.shape[0]):
        for step in range(out.shape[1]):
            count = counts[group, step]
            if incremental[group, step]:
                out[group, step] += rest[group, step]
            elif count:
                out[group, step] = out[group, step] / count + rest[group, step] / count


@compiled
def group_extreme(
    values: Float64Array,
    present: BoolArray,
    index: Int64Array,
    sign: float,
    out: Float64Array,
    counts: Int64Array,
) -> None:
    """Max (sign 1) and min (-1); NaN only if there is nothing else."""
    for row in range(values.shape[0]):
        group = index[row]
        for step in range(values.shape[1]):
            if not present[row, step]:
                continue
            value, best = values[row, step], out[group, step]
            if counts[group, step] == 0 or value * sign > best * sign or np.isnan(best):
                out[group, step] = value
            counts[group, step] += 1


@compiled
def group_variance(
    values: Float64Array,
    present: BoolArray,
    index: Int64Array,
    out: Float64Array,
    mean: Float64Array,
    counts: Int64Array,
) -> None:
    """Population variances by Welford's recurrence."""
    for row in range(values.shape[0]):
        group = index[row]
        for step in range(values.shape[1]):
            if not present[row, step]:
                continue
            value = values[row, step]
            counts[group, step] += 1
            if counts[group, step] == 1:
                mean[group, step] = value
                if np.isnan(value) or np.isinf(value):
                    out[group, step] = np.nan
                continue
            delta = value - mean[group, step]
            mean[group, step] += delta / counts[group, step]
            out[group, step] += delta * (value - mean[group, step])
    for group in range(out.shape[0]):
        for step in range(out.shape[1]):
            if counts[group, step]:
                out[group, step] /= counts[group, step]


@compiled
def group_count(present: BoolArray, index: Int64Array, counts: Int64Array) -> None:
    """How many rows of each group are present at each step."""
    for row in range(present.shape[0]):
        for step in range(present.shape[1]):
            if present[row, step]:
                counts[index[row], step] += 1


@compiled
def group_quantile(
    values: Float64Array,
    present: BoolArray,
    rows: Int64Array,
    bounds: Int64Array,
    q: Float64Array,
    out: Float64Array,
    out_present: BoolArray,
) -> None:
    """Quantiles; group `g` owns `rows[bounds[g]:bounds[g + 1]]`, `q` has one number a step."""
    for group in range(len(bounds) - 1):
        scratch = np.empty(bounds[group + 1] - bounds[group])
        for step in range(values.shape[1]):
            count = 0
            for place in range(bounds[group], bounds[group + 1]):
                if present[rows[place], step]:
                    scratch[count] = values[rows[place], step]
                    count += 1
            if count:
                out[group, step] = quantile_of_sorted(nan_first(scratch[:count]), q[step])
                out_present[group, step] = True


@compiled
def _better(value: float, than: float, sign: float) -> bool:
    """Whether a value ranks before another; NaN ranks last."""
    if np.isnan(value):
        return False
    return value * sign > than * sign or np.isnan(than)


@compiled
def _top_by_sorting(
    values: Float64Array,
    present: BoolArray,
    rows: Int64Array,
    k: Int64Array,
    sign: float,
    chosen: BoolArray,
) -> None:
    """The k best of one group's rows, for a k so large that keeping them in order is slow."""
    size = len(rows)
    keys = np.empty(size)
    owner = np.empty(size, dtype=np.int64)
    for step in range(values.shape[1]):
        count = 0
        for place in range(size):
            row = rows[place]
            if present[row, step]:
                value = values[row, step]
                keys[count] = np.inf if np.isnan(value) else -value * sign
                owner[count] = row
                count += 1
        # A stable sort keeps the first of equals, and NaN after a true infinity of its rank.
        order = np.argsort(keys[:count], kind="mergesort")
        taken = 0
        for nans in range(2):
            for place in order:
                if taken >= k[step]:
                    break
                row = owner[place]
                if np.isnan(values[row, step]) == (nans == 1):
                    chosen[row, step] = True
                    taken += 1


@compiled
def group_top(
    values: Float64Array,
    present: BoolArray,
    rows: Int64Array,
    bounds: Int64Array,
    k: Int64Array,
    sign: float,
    chosen: BoolArray,
) -> None:
    """Topk (sign 1) and bottomk (-1): the k best of each group and step; NaN ranks last.

    Each step keeps its best rows in order while the rows go by; of equals the first is kept.
    """
    steps = values.shape[1]
    for group in range(len(bounds) - 1):
        most = min(k.max(), bounds[group + 1] - bounds[group])
        if most <= 0:
            continue
        if most > _MOST_KEPT_IN_ORDER:
            _top_by_sorting(
                values, present, rows[bounds[group] : bounds[group + 1]], k, sign, chosen
            )
            continue
        owner = np.empty((steps, most), dtype=np.int64)
        counts = np.zeros(steps, dtype=np.int64)
        for at in range(bounds[group], bounds[group + 1]):
            row = rows[at]
            for step in range(steps):
                if not present[row, step]:
                    continue
                limit = min(k[step], most)
                place = counts[step]
                value = values[row, step]
                if place == limit:
                    if limit == 0 or not _better(value, values[owner[step, place - 1], step], sign):
                        continue
                    place -= 1
                else:
                    counts[step] += 1
                low, high = 0, place
                while low < high:
                    middle = (low + high) // 2
                    if _better(value, values[owner[step, middle], step], sign):
                        high = middle
                    else:
                        low = middle + 1
                for moved in range(place, low, -1):
                    owner[step, moved] = owner[step, moved - 1]
                owner[step, low] = row
        for step in range(steps):
            for place in range(counts[step]):
                chosen[owner[step, place], step] = True


@compiled
def group_first(
    present: BoolArray, index: Int64Array, k: Int64Array, counts: Int64Array, chosen: BoolArray
) -> None:
    """limitk: the first k present rows of each group and step."""
    for row in range(present.shape[0]):
        group = index[row]
        for step in range(present.shape[1]):
            if present[row, step] and counts[group, step] < k[step]:
                counts[group, step] += 1
                chosen[row, step] = True
