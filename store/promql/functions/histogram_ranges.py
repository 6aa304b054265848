"""Functions of range vectors in whose windows native histograms stand, window by window.

The rules are those of Prometheus's functions.go: what a function makes of histograms alone, of
histograms beside floats, and what it says then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from store.histogram_sums import mean, subtract, total
from store.histograms import IncompatibleHistogramsError, NativeHistogram, ResetHint
from store.model import METRIC_NAME
from store.promql import histogram_notes as notes
from store.promql.context import Run
from store.promql.histogram_selection import rows_with_histograms
from store.promql.syntax import Call, Expr
from store.promql.values import Vector, Windows, no_histograms

Sample = float | NativeHistogram


@dataclass(frozen=True, slots=True)
class Window:
    """The samples of one series in one window, at least one of them a histogram.

    `ts_ms` and `samples` are those inside; `start_ms` is left out, `end_ms` is inside.
    """

    metric: str
    ts_ms: Sequence[int]
    samples: Sequence[Sample]
    start_ms: int
    end_ms: int

    @property
    def histograms(self) -> list[NativeHistogram]:
        return [sample for sample in self.samples if isinstance(sample, NativeHistogram)]

    @property
    def mixed(self) -> bool:
        return len(self.histograms) < len(self.samples)


class _Keep:
    """Says: what was made of the floats alone is the answer."""


KEEP = _Keep()
Answer = Sample | _Keep | None
Judge = Callable[[Run, Call, Expr, Window], Answer]


def with_histograms(
    run: Run, call: Call, place: int, windows: Windows, floats: Vector, judge: Judge
) -> Vector:
    """A function's result for floats, completed where a window holds a histogram."""
    if windows.histograms is None:
        return floats
    values, present = floats.values.copy(), floats.present.copy()
    cells = no_histograms(values.shape)
    argument = call.args[place]
    for row in rows_with_histograms(windows.histograms, windows.offsets):
        run.check_time()
        for step, window in _windows(windows, row):
            answer = judge(run, call, argument, window)
            if isinstance(answer, _Keep):
                continue
            present[row, step] = answer is not None
            if isinstance(answer, NativeHistogram):
                cells[row, step] = answer
            elif answer is not None:
                values[row, step] = answer
    return replace(floats, values=values, present=present, histograms=cells)


def _windows(windows: Windows, row: int) -> list[tuple[int, Window]]:
    """The windows of one series that hold a histogram."""
    begin, end = int(windows.offsets[row]), int(windows.offsets[row + 1])
    ts, values = windows.ts_ms[begin:end], windows.values[begin:end]
    cells = no_histograms((0,)) if windows.histograms is None else windows.histograms[begin:end]
    samples: list[Sample] = [
        float(value) if cell is None else cell
        for value, cell in zip(values.tolist(), cells.tolist(), strict=True)
    ]
    lows = np.searchsorted(ts, windows.starts_ms, side="right").tolist()
    highs = np.searchsorted(ts, windows.ends_ms, side="right").tolist()
    metric = windows.series[row].get(METRIC_NAME)
    times = ts.tolist()
    found = []
    for step, (low, high) in enumerate(zip(lows, highs, strict=True)):
        inside = samples[low:high]
        if any(isinstance(sample, NativeHistogram) for sample in inside):
            edges = (int(windows.starts_ms[step]), int(windows.ends_ms[step]))
            found.append((step, Window(metric, times[low:high], inside, *edges)))
    return found


# -- folds ------------------------------------------------------------------


def ignore(run: Run, _call: Call, argument: Expr, window: Window) -> Answer:
    """For functions of floats only: says so where a window also holds histograms."""
    if window.mixed:
        notes.ignored_in_range(run, window.metric, argument)
    return KEEP


def combine(run: Run, call: Call, argument: Expr, window: Window) -> Answer:
    """sum_over_time and avg_over_time."""
    if window.mixed:
        notes.mixed_in_range(run, window.metric, argument)
        return None
    fold = total if call.name == "sum_over_time" else mean
    try:
        found = fold(window.histograms)
    except IncompatibleHistogramsError:
        notes.mixed_schemas(run, window.metric, argument)
        return None
    notes.of_combined(run, found, "aggregation", argument)
    return found.histogram


def changes(_run: Run, _call: Call, _argument: Expr, window: Window) -> Answer:
    """How often a sample differs from the one before it."""
    pairs = pairwise(window.samples)
    return float(sum(_changed(before, now) for before, now in pairs))


def _changed(before: Sample, now: Sample) -> bool:
    if isinstance(before, NativeHistogram) and isinstance(now, NativeHistogram):
        return not now.equals(before)
    if isinstance(before, NativeHistogram) or isinstance(now, NativeHistogram):
        return True
    return before != now and not (np.isnan(before) and np.isnan(now))


def resets(_run: Run, _call: Call, _argument: Expr, window: Window) -> Answer:
    """How often a counter was reset; a change between float and histogram is one."""
    pairs = pairwise(window.samples)
    return float(sum(_was_reset(before, now) for before, now in pairs))


def _was_reset(before: Sample, now: Sample) -> bool:
    if isinstance(before, NativeHistogram) and isinstance(now, NativeHistogram):
        return now.is_reset_of(before)
    if isinstance(before, NativeHistogram) or isinstance(now, NativeHistogram):
        return True
    return now < before


FOLDS: dict[str, Judge] = {
    "avg_over_time": combine,
    "changes": changes,
    "count_over_time": lambda _run, _call, _argument, window: float(len(window.samples)),
    "first_over_time": lambda _run, _call, _argument, window: window.samples[0],
    "last_over_time": lambda _run, _call, _argument, window: window.samples[-1],
    "present_over_time": lambda *_: 1.0,
    "resets": resets,
    "sum_over_time": combine,
    "ts_of_first_over_time": lambda _run, _call, _argument, window: window.ts_ms[0] / 1000,
    "ts_of_last_over_time": lambda _run, _call, _argument, window: window.ts_ms[-1] / 1000,
}


# -- rates ------------------------------------------------------------------


def instant_rate(*, is_rate: bool) -> Judge:
    """Irate or idelta: the last two samples."""

    def judge(run: Run, _call: Call, argument: Expr, window: Window) -> Answer:
        if len(window.samples) < 2:
            return None
        before, now = window.samples[-2:]
        if not isinstance(before, NativeHistogram) and not isinstance(now, NativeHistogram):
            return KEEP
        if not (isinstance(before, NativeHistogram) and isinstance(now, NativeHistogram)):
            notes.mixed_in_range(run, window.metric, argument)
            return None
        if is_rate and (before.is_gauge or now.is_gauge):
            notes.not_a("counter", run, window.metric, argument)
        if not is_rate and not (before.is_gauge and now.is_gauge):
            notes.not_a("gauge", run, window.metric, argument)
        change: NativeHistogram | None = now
        if not is_rate or not now.is_reset_of(before):
            change = difference(run, argument, window.metric, now, before)
        if change is None:
            return None
        seconds = (window.ts_ms[-1] - window.ts_ms[-2]) / 1000
        change = change.over(seconds) if is_rate else change
        return change.with_hint(ResetHint.GAUGE).compact()

    return judge


def difference(
    run: Run, argument: Expr, metric: str, now: NativeHistogram, before: NativeHistogram
) -> NativeHistogram | None:
    """`now - before`; nothing, and a warning, where they cannot be brought together."""
    try:
        found = subtract(now, before)
    except IncompatibleHistogramsError:
        notes.mixed_schemas(run, metric, argument)
        return None
    if found.reconciled:
        notes.of_reconciled(run, "subtraction", argument)
    return found.histogram


def rate(*, is_counter: bool, seconds: float) -> Judge:
    """rate, increase or delta; `seconds` is the range of a rate, else 0."""

    def judge(run: Run, _call: Call, argument: Expr, window: Window) -> Answer:
        if window.mixed:
            notes.mixed_in_range(run, window.metric, argument)
            return None
        points = window.histograms
        if len(points) < 2:
            return None
        change = increase(run, argument, window.metric, points, is_counter=is_counter)
        if change is None:
            return None
        factor = _extrapolation(window, points[0].count, change.count, is_counter=is_counter)
        return change.times(factor / seconds if seconds else factor)

    return judge


def _extrapolation(window: Window, first: float, change: float, *, is_counter: bool) -> float:
    to_start = (window.ts_ms[0] - window.start_ms) / 1000
    to_end = (window.end_ms - window.ts_ms[-1]) / 1000
    sampled = (window.ts_ms[-1] - window.ts_ms[0]) / 1000
    average = sampled / (len(window.ts_ms) - 1)
    threshold = average * 1.1
    if to_start >= threshold:
        to_start = average / 2
    if is_counter and change > 0 and first >= 0:
        to_start = min(to_start, sampled * (first / change))
    if to_end >= threshold:
        to_end = average / 2
    return (sampled + to_start + to_end) / sampled


def increase(
    run: Run,
    argument: Expr,
    metric: str,
    points: Sequence[NativeHistogram],
    *,
    is_counter: bool,
) -> NativeHistogram | None:
    """Last minus first, counter resets made good; a gauge. One point or more."""
    first, last = points[0], points[-1]
    if is_counter:
        if any(point.is_gauge for point in points):
            notes.not_a("counter", run, metric, argument)
        if len(points) > 1 and points[1].is_reset_of(first):
            # What came before a reset does not count, nor does its layout.
            first = _empty_like(points[1])
    elif not (first.is_gauge and last.is_gauge):
        notes.not_a("gauge", run, metric, argument)
    seen = (first, *points[1:]) if is_counter else (first, last)
    if len({point.is_custom for point in seen}) > 1:
        notes.mixed_schemas(run, metric, argument)
        return None
    schema = min(point.schema for point in seen)
    change = difference(run, argument, metric, last.to_schema(schema), first)
    if change is None or not is_counter:
        return change
    return _resets_added(run, argument, change, seen)


def _resets_added(
    run: Run, argument: Expr, change: NativeHistogram, points: Sequence[NativeHistogram]
) -> NativeHistogram:
    lost = [before for before, now in pairwise(points) if now.is_reset_of(before)]
    if not lost:
        return change
    found = total((change, *lost))
    if found.reconciled:
        notes.of_reconciled(run, "addition", argument)
    return found.histogram.with_hint(ResetHint.GAUGE)


def _empty_like(histogram: NativeHistogram) -> NativeHistogram:
    return NativeHistogram(schema=histogram.schema, custom_values=histogram.custom_values)
