"""Quantiles and fractions: of cumulative buckets here, of native histograms by `native`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from store.model import METRIC_NAME, Float64Array, Int64Array, Labels
from store.promql import buckets
from store.promql import histogram_notes as notes
from store.promql.context import Run
from store.promql.functions import native
from store.promql.functions.elementwise import scalar_at
from store.promql.functions.ranges import warn_quantiles
from store.promql.matching import merge_same_rows
from store.promql.numbers import format_g, quoted
from store.promql.syntax import Call, Expr
from store.promql.values import Scalars, Text, Value, Vector, relabelled, stack

BUCKET_LABEL = "le"
_FORCED = (
    "input to histogram_quantile needed to be fixed for monotonicity (see "
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


@dataclass(frozen=True, slots=True)
class _Histograms:
    """Bucket rows grouped by histogram, ascending in their upper bound.

    Histogram `h` owns `rows[bounds[h]:bounds[h + 1]]`; `upper` is each row's upper bound.
    """

    labels: list[Labels]
    rows: Int64Array
    bounds: Int64Array
    upper: Float64Array


def _upper_bound(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _grouped(run: Run, vector: Vector, argument: Expr) -> _Histograms:
    places: dict[Labels, list[tuple[float, int]]] = {}
    present = vector.floats
    for row, series in enumerate(vector.series):
        bound = series.get(BUCKET_LABEL)
        upper = _upper_bound(bound)
        if upper is None:
            if present[row].any():
                _warn_bad_bucket(run, series, bound, argument)
            continue
        places.setdefault(series.drop((BUCKET_LABEL,)), []).append((upper, row))
    ordered = [sorted(members) for members in places.values()]
    flat = [member for members in ordered for member in members]
    sizes = np.array([0, *(len(members) for members in ordered)], dtype=np.int64)
    return _Histograms(
        labels=list(places),
        rows=np.array([row for _, row in flat], dtype=np.int64),
        bounds=np.cumsum(sizes),
        upper=np.array([upper for upper, _ in flat], dtype=np.float64),
    )


def _warn_bad_bucket(run: Run, series: Labels, bound: str, argument: Expr) -> None:
    name = series.get(METRIC_NAME)
    suffix = f" for metric name {quoted(name)}" if name else ""
    run.annotations.warn(
        f'bucket label "{BUCKET_LABEL}" is missing or has a malformed value of '
        f"{quoted(bound)}{suffix}",
        argument,
    )


def _result(histograms: _Histograms, steps: int) -> Vector:
    shape = (len(histograms.labels), steps)
    return Vector(
        histograms.labels,
        np.zeros(shape),
        np.zeros(shape, dtype=np.bool_),
        np.ones(shape[0], dtype=np.bool_),
    )


def _quantiles(
    run: Run, vector: Vector, histograms: _Histograms, q: Float64Array, argument: Expr
) -> Vector:
    out = _result(histograms, vector.steps)
    forced = np.zeros((len(histograms.labels), 4))
    if len(histograms.labels):
        buckets.quantiles(
            vector.values, vector.floats, histograms.rows, histograms.bounds, histograms.upper,
            q, out.values, out.present, forced,
        )  # fmt: skip
    for place in np.nonzero(forced[:, 0])[0].tolist():
        name = histograms.labels[place].get(METRIC_NAME)
        suffix = f" for metric name {quoted(name)}" if name else ""
        count, low, high, difference = forced[place].tolist()
        run.annotations.info(
            f"{_FORCED}{suffix}, from buckets {format_g(low)} to {format_g(high)}, with a max "
            f"diff of {difference:.2g}, over {int(count)} samples",
            argument,
        )
    if vector.histograms is None:
        return out
    return _joined(run, out, native.quantiles(run, vector, q, argument), argument)


def _joined(run: Run, classic: Vector, of_native: Vector, argument: Expr) -> Vector:
    """Answers of classic and native histograms; where both stand for one name, neither counts."""
    places = {labels: row for row, labels in enumerate(classic.series)}
    for row, labels in enumerate(of_native.series):
        other = places.get(labels)
        if other is None:
            continue
        both = of_native.present[row] & classic.present[other]
        if both.any():
            notes.classic_and_native(run, labels.get(METRIC_NAME), argument)
            of_native.present[row] &= ~both
            classic.present[other] &= ~both
    return merge_same_rows(stack([classic, of_native], classic.steps))


def histogram_quantile(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """The q-quantile of each histogram."""
    q = scalar_at(run, call, 0, times_ms)
    vector = cast(Vector, run.eval(call.args[1], times_ms))
    warn_quantiles(run, call, 0, q)
    return _quantiles(run, vector, _grouped(run, vector, call.args[1]), q, call.args[1])


def histogram_quantiles(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """Several quantiles of each histogram, told apart by a label."""
    vector = cast(Vector, run.eval(call.args[0], times_ms))
    label = cast(Text, run.eval(call.args[1], times_ms)).value
    histograms = _grouped(run, vector, call.args[0])
    parts: list[Vector] = []
    for place in range(2, len(call.args)):
        q = cast(Scalars, run.eval(call.args[place], times_ms)).values
        warn_quantiles(run, call, place, q)
        answer = _quantiles(run, vector, histograms, q, call.args[0])
        parts.extend(_labelled(answer, label, q))
    return stack(parts, len(times_ms))


def _labelled(answer: Vector, label: str, q: Float64Array) -> list[Vector]:
    parts = []
    for value in dict.fromkeys(_open_metrics(number) for number in q.tolist()):
        steps = np.array([_open_metrics(number) == value for number in q.tolist()])
        series = [relabelled(labels, {label: value}) for labels in answer.series]
        parts.append(Vector(series, answer.values, answer.present & steps, answer.drop_name))
    return parts


def _open_metrics(value: float) -> str:
    """OpenMetrics writes a whole number with `.0`."""
    text = format_g(value)
    return text if any(mark in text for mark in ".eINn") else f"{text}.0"


def histogram_fraction(run: Run, call: Call, times_ms: Int64Array) -> Value:
    """The share of each histogram's observations between two values."""
    lower, upper = (scalar_at(run, call, place, times_ms) for place in (0, 1))
    vector = cast(Vector, run.eval(call.args[2], times_ms))
    histograms = _grouped(run, vector, call.args[2])
    out = _result(histograms, vector.steps)
    if len(histograms.labels):
        buckets.fractions(
            vector.values, vector.floats, histograms.rows, histograms.bounds, histograms.upper,
            lower, upper, out.values, out.present,
        )  # fmt: skip
    if vector.histograms is None:
        return out
    of_native = native.fractions(run, vector, lower, upper, call.args[2])
    return _joined(run, out, of_native, call.args[2])
