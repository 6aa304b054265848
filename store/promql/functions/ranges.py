"""Functions of range vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from store.errors import QueryError
from store.model import METRIC_NAME, Float64Array, Int64Array
from store.promql import kernels, over_time
from store.promql.context import Run
from store.promql.functions import histogram_ranges
from store.promql.functions.elementwise import Function, scalar_at
from store.promql.functions.histogram_extended import anchored_fold, extended_rate
from store.promql.functions.histogram_ranges import with_histograms
from store.promql.label_columns import label_column
from store.promql.numbers import format_g, quoted
from store.promql.syntax import Call
from store.promql.values import Value, Vector, Windows

_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")

FOLDS = {
    "avg_over_time": over_time.AVG,
    "changes": over_time.CHANGES,
    "count_over_time": over_time.COUNT,
    "deriv": over_time.DERIV,
    "first_over_time": over_time.FIRST,
    "last_over_time": over_time.LAST,
    "mad_over_time": over_time.MAD,
    "max_over_time": over_time.MAX,
    "min_over_time": over_time.MIN,
    "predict_linear": over_time.PREDICT,
    "present_over_time": over_time.PRESENT,
    "quantile_over_time": over_time.QUANTILE,
    "resets": over_time.RESETS,
    "stddev_over_time": over_time.STDDEV,
    "stdvar_over_time": over_time.STDVAR,
    "sum_over_time": over_time.SUM,
    "ts_of_first_over_time": over_time.TS_FIRST,
    "ts_of_last_over_time": over_time.TS_LAST,
    "ts_of_max_over_time": over_time.TS_MAX,
    "ts_of_min_over_time": over_time.TS_MIN,
}
_MODES = {
    "anchored": ("changes", "delta", "increase", "rate", "resets"),
    "smoothed": ("delta", "increase", "rate"),
}
_KEEP_NAME = frozenset({"first_over_time", "last_over_time"})


def windows_at(run: Run, call: Call, place: int, times_ms: Int64Array) -> Windows:
    """A range vector argument, and room for its result accounted for."""
    windows = cast(Windows, run.eval(call.args[place], times_ms))
    _check_mode(windows.mode, call.name)
    run.hold(len(windows.series) * len(times_ms))
    return windows


def _check_mode(mode: str, name: str) -> None:
    allowed = _MODES.get(mode)
    if allowed is not None and name not in allowed:
        raise QueryError(
            f"{mode} modifier can only be used with: {', '.join(allowed)} - not with {name}"
        )


def _vector(
    windows: Windows, fill: Callable[[Float64Array, np.ndarray], None], *, keep_name: bool = False
) -> Vector:
    shape = (len(windows.series), windows.steps)
    values, present = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    if shape[0] and shape[1]:
        fill(values, present)
    drop = windows.drop_name if keep_name else np.ones(shape[0], dtype=np.bool_)
    return Vector(windows.series, values, present, drop)


def fold(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """Any function that makes one number of each window."""
    place = 1 if call.name == "quantile_over_time" else 0
    windows = windows_at(run, call, place, times_ms)
    parameters = np.zeros(len(times_ms))
    if len(call.args) > 1:
        parameters = scalar_at(run, call, 1 - place, times_ms)
    operation = FOLDS[call.name]
    floats = windows.only_floats()

    def fill(values: Float64Array, present: np.ndarray) -> None:
        columns = (floats.ts_ms, floats.values, floats.offsets)
        edges = (floats.starts_ms, floats.ends_ms)
        if windows.mode == "anchored":
            reach = run.options.lookback_ms
            over_time.anchored_fold(operation, *columns, *edges, reach, values, present)
        else:
            over_time.fold(operation, *columns, *edges, parameters, times_ms, values, present)

    vector = _vector(windows, fill, keep_name=call.name in _KEEP_NAME)
    if windows.mode == "anchored":
        vector = anchored_fold(run, call, windows, vector)
    else:
        judge = histogram_ranges.FOLDS.get(call.name, histogram_ranges.ignore)
        vector = with_histograms(run, call, place, windows, vector, judge)
    if call.name == "quantile_over_time" and vector.present.any():
        warn_quantiles(run, call, 0, parameters)
    return vector


def warn_quantiles(run: Run, call: Call, place: int, q: Float64Array) -> None:
    """A warning for each quantile outside 0 to 1."""
    for bad in dict.fromkeys(q[~((q >= 0) & (q <= 1))].tolist()):
        run.annotations.warn(
            f"quantile value should be between 0 and 1, got {format_g(bad)}", call.args[place]
        )


def rate(*, is_counter: bool, per_second: bool) -> Function:
    """rate, increase or delta, extrapolated to the window's edges."""

    def apply(run: Run, call: Call, times_ms: Int64Array) -> Value:
        windows = windows_at(run, call, 0, times_ms)
        seconds = windows.range_ms / 1000 if per_second else 0.0
        floats = windows.only_floats()

        def fill(values: Float64Array, present: np.ndarray) -> None:
            columns = (floats.ts_ms, floats.values, floats.offsets)
            edges = (floats.starts_ms, floats.ends_ms)
            if windows.mode:
                reach, smoothed = run.options.lookback_ms, windows.mode == "smoothed"
                kernels.extended(
                    *columns, *edges, reach, smoothed, is_counter, seconds, values, present
                )
            else:
                kernels.extrapolated(*columns, *edges, is_counter, seconds, values, present)

        vector = _vector(windows, fill)
        if windows.mode:
            vector = extended_rate(
                run, call, windows, vector, is_counter=is_counter, seconds=seconds
            )
        else:
            judge = histogram_ranges.rate(is_counter=is_counter, seconds=seconds)
            vector = with_histograms(run, call, 0, windows, vector, judge)
        if is_counter:
            note_non_counters(run, call, vector.only_floats())
        return vector

    return apply


def note_non_counters(run: Run, call: Call, vector: Vector) -> None:
    """An info for each metric whose name is not a counter's."""
    names = dict.fromkeys(label_column(vector.series, METRIC_NAME))
    if all(not name or name.endswith(_COUNTER_SUFFIXES) for name in names):
        return
    some = vector.present.any(axis=1)
    column = label_column(vector.take(np.flatnonzero(some)).series, METRIC_NAME)
    names = dict.fromkeys(column)
    for name in names:
        if name and not name.endswith(_COUNTER_SUFFIXES):
            run.annotations.info(
                "metric might not be a counter, name does not end in "
                f"_total/_sum/_count/_bucket: {quoted(name)}",
                call.args[0],
            )


def instant_rate(*, is_rate: bool) -> Function:
    """Irate or idelta: the last two samples of a window."""

    def apply(run: Run, call: Call, times_ms: Int64Array) -> Value:
        windows = windows_at(run, call, 0, times_ms)
        floats = windows.only_floats()
        columns = (floats.ts_ms, floats.values, floats.offsets)
        edges = (windows.starts_ms, windows.ends_ms)
        vector = _vector(
            windows,
            lambda values, present: kernels.instant_change(
                *columns, *edges, is_rate, values, present
            ),
        )
        judge = histogram_ranges.instant_rate(is_rate=is_rate)
        return with_histograms(run, call, 0, windows, vector, judge)

    return apply


def double_exponential_smoothing(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """Holt's smoothing; both factors lie strictly between 0 and 1."""
    windows = windows_at(run, call, 0, times_ms)
    factors = []
    for place, (name, symbol) in enumerate((("smoothing", "sf"), ("trend", "tf")), start=1):
        values = scalar_at(run, call, place, times_ms)
        bad = values[(values <= 0) | (values >= 1)]
        if len(bad) and len(windows.series):
            raise QueryError(f"invalid {name} factor. Expected: 0 < {symbol} < 1, got: {bad[0]:f}")
        factors.append(values)
    floats = windows.only_floats()
    columns = (floats.ts_ms, floats.values, floats.offsets)
    edges = (windows.starts_ms, windows.ends_ms)
    vector = _vector(
        windows,
        lambda values, present: over_time.double_exponential(
            *columns, *edges, *factors, values, present
        ),
    )
    return with_histograms(run, call, 0, windows, vector, histogram_ranges.ignore)
