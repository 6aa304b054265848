"""Functions of native histograms: their count, sum, mean and spread, quantiles and fractions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import numpy as np

from store.histogram_statistics import (
    NanEffect,
    fraction_of,
    mean_of,
    quantile_of,
    variance_of,
)
from store.histograms import NativeHistogram
from store.model import METRIC_NAME, Float64Array, Int64Array
from store.promql import histogram_notes as notes
from store.promql.context import Run
from store.promql.syntax import Call, Expr
from store.promql.values import Value, Vector, empty_vector

_NUMBERS: dict[str, Callable[[NativeHistogram], float]] = {
    "histogram_avg": mean_of,
    "histogram_count": lambda histogram: histogram.count,
    "histogram_stddev": lambda histogram: float(np.sqrt(variance_of(histogram))),
    "histogram_stdvar": variance_of,
    "histogram_sum": lambda histogram: histogram.sum,
}
NAMES = tuple(_NUMBERS)


def number_of(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """histogram_count and its kin: one number of each native histogram, floats left out."""
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    if vector.histograms is None:
        return empty_vector(len(times_ms))
    out = _room(vector)
    for row, step, histogram in cells(vector):
        out.values[row, step] = _NUMBERS[call.name](histogram)
        out.present[row, step] = True
    return out


def cells(vector: Vector) -> Iterator[tuple[int, int, NativeHistogram]]:
    """Every histogram of a vector with its row and step."""
    if vector.histograms is None:
        return
    for row, step in zip(*(place.tolist() for place in np.nonzero(vector.is_histogram)),
                         strict=True):  # fmt: skip
        yield row, step, cast(NativeHistogram, vector.histograms[row, step])


def _room(vector: Vector) -> Vector:
    shape = vector.values.shape
    drop = np.ones(len(vector), dtype=np.bool_)
    return Vector(vector.series, np.zeros(shape), np.zeros(shape, dtype=np.bool_), drop)


def quantiles(run: Run, vector: Vector, q: Float64Array, argument: Expr) -> Vector:
    """The q[t]-quantile of each native histogram."""
    out = _room(vector)
    for row, step, histogram in cells(vector):
        found = quantile_of(histogram, float(q[step]))
        out.values[row, step] = found.value
        out.present[row, step] = True
        if found.nan_effect is not NanEffect.NONE:
            name = vector.series[row].get(METRIC_NAME)
            notes.nan_in_quantile(run, found.nan_effect, name, argument)
    return out


def fractions(
    run: Run, vector: Vector, lower: Float64Array, upper: Float64Array, argument: Expr
) -> Vector:
    """The share of each native histogram's observations between lower[t] and upper[t]."""
    out = _room(vector)
    for row, step, histogram in cells(vector):
        found = fraction_of(histogram, float(lower[step]), float(upper[step]))
        out.values[row, step] = found.value
        out.present[row, step] = True
        if found.nan_effect is not NanEffect.NONE:
            notes.nan_in_fraction(run, vector.series[row].get(METRIC_NAME), argument)
    return out
