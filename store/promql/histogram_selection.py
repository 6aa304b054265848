"""Native histograms of selectors: which one stands at each step, and what its hint says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from store.histogram_sums import add, subtract
from store.histograms import IncompatibleHistogramsError, NativeHistogram, ResetHint
from store.model import METRIC_NAME, HistogramArray, Int64Array, SeriesSet
from store.promql import histogram_notes as notes
from store.promql.context import Run
from store.promql.syntax import Binary, Call, Expr, VectorSelector, children
from store.promql.values import Vector, filled, no_histograms

_COUNTS_ONLY = frozenset({"histogram_count", "histogram_sum", "histogram_avg"})
_BUCKETS_TOO = frozenset({"histogram_quantile", "histogram_quantiles", "histogram_fraction"})


def counted_only(node: Expr, inside: bool = False) -> frozenset[int]:  # noqa: FBT001, FBT002 -- walks the tree
    """The selectors (by id) of whose histograms only counts and sums are used.

    Prometheus decodes such histograms with a shortcut that works out counter resets on the way;
    what it says of them shows in warnings, so the same selectors do it here.
    """
    if isinstance(node, VectorSelector):
        return frozenset([id(node)]) if inside else frozenset()
    if isinstance(node, Call) and node.name in _COUNTS_ONLY | _BUCKETS_TOO:
        inside = node.name in _COUNTS_ONLY
    if isinstance(node, Binary):
        inside = False
    return frozenset().union(*(counted_only(child, inside) for child in children(node)))


def with_detected_resets(found: SeriesSet) -> SeriesSet:
    """Hints that are unknown are worked out from the sample before, as far as one was read."""
    if found.histograms is None:
        return found
    cells = found.histograms.copy()
    for row in range(len(found.series)):
        previous: NativeHistogram | None = None
        for place in range(int(found.offsets[row]), int(found.offsets[row + 1])):
            current = found.histograms[place]
            if current is not None and previous is not None:
                cells[place] = _with_detected(current, previous)
            previous = current if current is not None else previous
    return replace(found, histograms=cells)


def _with_detected(current: NativeHistogram, previous: NativeHistogram) -> NativeHistogram:
    if current.reset_hint is not ResetHint.UNKNOWN:
        return current
    reset = current.is_reset_of(previous)
    return current.with_hint(ResetHint.RESET if reset else ResetHint.NOT_RESET)


def rows_with_histograms(histograms: HistogramArray, offsets: Int64Array) -> list[int]:
    """The series that have a histogram anywhere."""
    before: Int64Array = np.append(0, np.cumsum(filled(histograms), dtype=np.int64))
    return [int(row) for row in np.flatnonzero(np.diff(before[offsets]))]


def with_latest(found: SeriesSet, vector: Vector, stamps: Int64Array) -> Vector:
    """A vector of latest samples with its histograms, looked up by the samples' times."""
    if found.histograms is None:
        return vector
    cells = no_histograms(vector.values.shape)
    for row in rows_with_histograms(found.histograms, found.offsets):
        begin, end = int(found.offsets[row]), int(found.offsets[row + 1])
        there = vector.present[row]
        places = begin + np.searchsorted(found.ts_ms[begin:end], stamps[row, there])
        cells[row, there] = found.histograms[places]
    return replace(vector, histograms=cells)


def without_resets(cells: HistogramArray) -> HistogramArray:
    """Between the steps of a subquery nothing is known of resets; gauges stay gauges."""
    out = cells.copy()
    for place in np.nonzero(filled(cells))[0].tolist():
        if not cells[place].is_gauge:
            out[place] = cells[place].with_hint(ResetHint.UNKNOWN)
    return out


# -- smoothed selectors -----------------------------------------------------


def between(
    before: NativeHistogram, after: NativeHistogram, share: float, *, is_counter: bool
) -> NativeHistogram:
    """The histogram a share of the way from one to the next; a reset counter starts from zero.

    Raises:
        IncompatibleHistogramsError: One is exponential, the other custom.
    """
    if before.is_custom != after.is_custom:
        raise IncompatibleHistogramsError
    if is_counter and after.is_reset_of(before):
        return after.times(share)
    change = subtract(after, before).histogram.times(share)
    return add(before, change).histogram.with_hint(after.reset_hint)


def smoothed(run: Run, node: VectorSelector, found: SeriesSet, refs: Int64Array,
             vector: Vector) -> Vector:  # fmt: skip
    """A smoothed vector with its histograms; a step between a float and a histogram is empty."""
    if found.histograms is None:
        return vector
    cells = no_histograms(vector.values.shape)
    for row in rows_with_histograms(found.histograms, found.offsets):
        for step, ref in enumerate(refs.tolist()):
            answer = _smoothed_at(run, node, found, row, ref)
            if isinstance(answer, _Floats):
                continue
            vector.present[row, step] = answer is not None
            cells[row, step] = answer
    return replace(vector, histograms=cells)


class _Floats:
    """Says: only floats are near, and they have been dealt with."""


_FLOATS = _Floats()


def _smoothed_at(
    run: Run, node: VectorSelector, found: SeriesSet, row: int, ref: int
) -> NativeHistogram | _Floats | None:
    begin, end = int(found.offsets[row]), int(found.offsets[row + 1])
    times = found.ts_ms[begin:end]
    lookback = run.options.lookback_ms
    place = int(np.searchsorted(times, ref, side="right"))
    near = []
    if place and times[place - 1] > ref - lookback:
        near.append(place - 1)
    exact = bool(near) and times[place - 1] == ref
    if not exact and place < len(times) and times[place] <= ref + lookback:
        near.append(place)
    cells = [] if found.histograms is None else [found.histograms[begin + at] for at in near]
    if all(cell is None for cell in cells):
        return _FLOATS
    if len(near) == 1:
        cell: NativeHistogram = cells[0]
        return cell if near[0] < place else None
    metric = found.series[row].get(METRIC_NAME)
    if None in cells:
        notes.mixed_in_range(run, metric, node)
        return None
    share = (ref - times[near[0]]) / (times[near[1]] - times[near[0]])
    try:
        before, after = cells
        return between(before, after, float(share), is_counter=not after.is_gauge)
    except IncompatibleHistogramsError:
        notes.mixed_schemas(run, metric, node)
        return None
