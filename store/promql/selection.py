"""Selectors and subqueries: from the store's columns to vectors and windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from store.model import STALE_NAN_BITS, Int64Array, Matcher, SeriesSet
from store.promql import kernels
from store.promql.context import Run
from store.promql.histogram_selection import (
    smoothed,
    with_detected_resets,
    with_latest,
    without_resets,
)
from store.promql.parse import selector_matchers
from store.promql.planning import positive_ms, references
from store.promql.syntax import MatrixSelector, Subquery, VectorSelector
from store.promql.values import Vector, Windows, empty_vector


def read(run: Run, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> SeriesSet:
    """One select; the same one is asked of the store once a query."""
    key = (tuple(matchers), start_ms, end_ms)
    found = run.selected.get(key)
    if found is None:
        run.check_time()
        found = run.reader.select(matchers, start_ms, end_ms, max_samples=run.options.max_samples)
        run.selected[key] = found
        run.stats.selects += 1
        run.stats.series_read += len(found.series)
        run.stats.samples_read += len(found.ts_ms)
        run.hold(len(found.ts_ms))
    return cast(SeriesSet, found)


def select_vector(run: Run, node: VectorSelector, times_ms: Int64Array) -> Vector:
    """The latest sample of each series at each step."""
    return select_with_times(run, node, times_ms)[0]


def select_with_times(
    run: Run, node: VectorSelector, times_ms: Int64Array
) -> tuple[Vector, Int64Array]:
    """As `select_vector`, with the time of each sample (N by T); a smoothed sample has none."""
    refs = references(times_ms, node.offset, node.at, run.window)
    if node.mode != "smoothed":
        counted = id(node) in run.counted_only
        return latest_at(run, selector_matchers(node), refs, detect_resets=counted)
    lookback = run.options.lookback_ms
    low, high = int(refs.min()) - lookback + 1, int(refs.max()) + lookback
    found = without_stale(read(run, selector_matchers(node), low, high))
    vector, stamps = _room(run, found, len(refs))
    kernels.smoothed_latest(
        found.ts_ms, found.values, found.offsets, refs, lookback, vector.values, vector.present
    )
    return smoothed(run, node, found, refs, vector), stamps


def latest_at(
    run: Run, matchers: Sequence[Matcher], refs: Int64Array, *, detect_resets: bool = False
) -> tuple[Vector, Int64Array]:
    """The latest sample of each series within the lookback of each instant, and its time."""
    lookback = run.options.lookback_ms
    found = read(run, matchers, int(refs.min()) - lookback + 1, int(refs.max()))
    found = with_detected_resets(found) if detect_resets else found
    vector, stamps = _room(run, found, len(refs))
    kernels.latest(
        found.ts_ms, found.values, found.offsets, refs, lookback,
        vector.values, stamps, vector.present,
    )  # fmt: skip
    return with_latest(found, vector, stamps), stamps


def _room(run: Run, found: SeriesSet, steps: int) -> tuple[Vector, Int64Array]:
    """An empty matrix for these series, and another for times."""
    shape = (len(found.series), steps)
    run.hold(shape[0] * shape[1])
    vector = Vector(
        found.series,
        np.zeros(shape),
        np.zeros(shape, dtype=np.bool_),
        np.zeros(shape[0], dtype=np.bool_),
    )
    return vector, np.zeros(shape, dtype=np.int64)


def select_windows(run: Run, node: MatrixSelector, times_ms: Int64Array) -> Windows:
    """The raw samples of a range selector and the window of each step."""
    selector = node.selector
    range_ms = positive_ms(node.range, run.window)
    ends = references(times_ms, selector.offset, selector.at, run.window)
    starts = ends - range_ms
    lookback = run.options.lookback_ms
    before = lookback if selector.mode else 0
    after = lookback if selector.mode == "smoothed" else 0
    found = read(
        run,
        selector_matchers(selector),
        int(starts.min()) + 1 - before,
        int(ends.max()) + after,
    )
    found = without_stale(found)
    if id(selector) in run.counted_only:
        found = with_detected_resets(found)
    return Windows(
        series=found.series,
        offsets=found.offsets,
        ts_ms=found.ts_ms,
        values=found.values,
        starts_ms=starts,
        ends_ms=ends,
        drop_name=np.zeros(len(found.series), dtype=np.bool_),
        range_ms=range_ms,
        mode=selector.mode,
        histograms=found.histograms,
    )


def without_stale(found: SeriesSet) -> SeriesSet:
    """The same series without their staleness markers."""
    keep = found.values.view(np.int64) != STALE_NAN_BITS
    if keep.all():
        return found
    kept_before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(keep, dtype=np.int64)))
    return SeriesSet(
        found.series,
        kept_before[found.offsets],
        found.ts_ms[keep],
        found.values[keep],
        None if found.histograms is None else found.histograms[keep],
    )


def subquery_windows(run: Run, node: Subquery, times_ms: Int64Array) -> Windows:
    """An expression evaluated on its own grid, whose steps are multiples of the resolution."""
    range_ms = positive_ms(node.range, run.window)
    step_ms = (
        run.options.subquery_step_ms if node.step is None else positive_ms(node.step, run.window)
    )
    ends = references(times_ms, node.offset, node.at, run.window)
    edge = int(ends.min()) - range_ms
    first = (edge // step_ms + 1) * step_ms
    last = int(ends.max())
    count = max(0, (last - first) // step_ms + 1)
    run.hold(count)
    inner_times = first + step_ms * np.arange(count, dtype=np.int64)
    vector = cast(Vector, run.eval(node.expr, inner_times)) if count else empty_vector(0)
    counts = vector.present.sum(axis=1, dtype=np.int64)
    cells = vector.histograms
    _, steps = np.nonzero(vector.present)
    return Windows(
        series=vector.series,
        offsets=np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts))),
        ts_ms=inner_times[steps],
        values=vector.values[vector.present],
        starts_ms=ends - range_ms,
        ends_ms=ends,
        drop_name=vector.drop_name,
        range_ms=range_ms,
        histograms=None if cells is None else without_resets(cells[vector.present]),
    )
