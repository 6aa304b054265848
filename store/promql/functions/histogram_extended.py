"""Anchored and smoothed ranges of native histograms.

An anchored range begins with the last sample before the window. A smoothed one is interpolated at
both edges; there a reset between two samples counts as a rise from zero after the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from store.histograms import IncompatibleHistogramsError, NativeHistogram, ResetHint
from store.model import METRIC_NAME
from store.promql import histogram_notes as notes
from store.promql.context import Run
from store.promql.functions import histogram_ranges
from store.promql.functions.histogram_ranges import Sample
from store.promql.histogram_selection import between, rows_with_histograms
from store.promql.syntax import Call
from store.promql.values import Vector, Windows, no_histograms


@dataclass(frozen=True, slots=True)
class _Points:
    """What a range looks at: its samples with those next to its edges, and the edges."""

    ts_ms: Sequence[int]
    samples: Sequence[Sample]
    start_ms: int
    end_ms: int


def extended_rate(
    run: Run, call: Call, windows: Windows, floats: Vector, *, is_counter: bool, seconds: float
) -> Vector:
    """rate, increase and delta of an anchored or smoothed range."""
    if windows.histograms is None:
        return floats
    values, present = floats.values.copy(), floats.present.copy()
    cells = no_histograms(values.shape)
    argument = call.args[0]
    for row in rows_with_histograms(windows.histograms, windows.offsets):
        metric = windows.series[row].get(METRIC_NAME)
        for step, points in _points(windows, row, run.options.lookback_ms):
            found = [point for point in points.samples if isinstance(point, NativeHistogram)]
            if not found:
                continue
            present[row, step] = False
            if len(found) < len(points.samples):
                notes.mixed_in_range(run, metric, argument)
                continue
            try:
                inside = _edges(points, found, windows.mode, is_counter=is_counter)
            except IncompatibleHistogramsError:
                notes.mixed_schemas(run, metric, argument)
                continue
            change = histogram_ranges.increase(run, argument, metric, inside, is_counter=is_counter)
            if change is not None:
                present[row, step] = True
                cells[row, step] = change.over(seconds) if seconds else change
    return replace(floats, values=values, present=present, histograms=cells)


def anchored_fold(run: Run, call: Call, windows: Windows, floats: Vector) -> Vector:
    """Changes and resets of an anchored range."""
    if windows.histograms is None:
        return floats
    values, present = floats.values.copy(), floats.present.copy()
    judge = histogram_ranges.FOLDS[call.name]
    for row in rows_with_histograms(windows.histograms, windows.offsets):
        present[row] = False
        for step, points in _points(windows, row, run.options.lookback_ms):
            window = histogram_ranges.Window(
                "", points.ts_ms, points.samples, points.start_ms, points.end_ms
            )
            answer = judge(run, call, call.args[0], window)
            if isinstance(answer, float):
                values[row, step], present[row, step] = answer, True
    return replace(floats, values=values, present=present)


def _points(windows: Windows, row: int, reach_ms: int) -> Iterator[tuple[int, _Points]]:
    begin, end = int(windows.offsets[row]), int(windows.offsets[row + 1])
    ts = windows.ts_ms[begin:end]
    cells = no_histograms(ts.shape) if windows.histograms is None else windows.histograms[begin:end]
    samples: list[Sample] = [
        float(value) if cell is None else cell
        for value, cell in zip(windows.values[begin:end].tolist(), cells.tolist(), strict=True)
    ]
    edges = zip(windows.starts_ms.tolist(), windows.ends_ms.tolist(), strict=True)
    for step, (start, stop) in enumerate(edges):
        first = int(np.searchsorted(ts, start, side="right"))
        last = int(np.searchsorted(ts, stop, side="right"))
        if windows.mode == "anchored" and first == last:
            continue
        if first and ts[first - 1] > start - reach_ms:
            first -= 1
        exact = last > 0 and ts[last - 1] == stop
        ahead = last < len(ts) and ts[last] <= stop + reach_ms
        if windows.mode == "smoothed" and ahead and not exact:
            last += 1
        times = ts[first:last].tolist()
        if times and times[-1] > start and times[0] <= stop:
            yield step, _Points(times, samples[first:last], start, stop)


def _edges(
    points: _Points, found: Sequence[NativeHistogram], mode: str, *, is_counter: bool
) -> list[NativeHistogram]:
    """The histograms that count, interpolated at the edges where the range is smoothed."""
    inside = list(found)
    if mode == "anchored" or len(inside) < 2:
        return [*inside, inside[0]] if len(inside) < 2 else inside
    times = points.ts_ms
    left = times[0] < points.start_ms
    if left:
        share = (points.start_ms - times[0]) / (times[1] - times[0])
        inside[0] = between(found[0], found[1], share, is_counter=is_counter)
    if times[-1] > points.end_ms:
        share = (points.end_ms - times[-2]) / (times[-1] - times[-2])
        same_gap = left and len(found) == 2
        was_reset = is_counter and found[-1].is_reset_of(found[-2]) and not same_gap
        inside[-1] = _hinted(
            between(found[-2], found[-1], share, is_counter=is_counter), reset=was_reset
        )
    if left and times[1] <= points.end_ms:
        inside[1] = _hinted(inside[1], reset=False)
    return inside


def _hinted(histogram: NativeHistogram, *, reset: bool) -> NativeHistogram:
    if histogram.is_gauge:
        return histogram
    return histogram.with_hint(ResetHint.RESET if reset else ResetHint.NOT_RESET)
