"""Counters to increases on a grid of steps, counter resets included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from store.model import METRIC_NAME, BoolArray, Float64Array, Int64Array, Labels, RangeMatrix
from store.ports import Querier


@dataclass(frozen=True, slots=True)
class Increases:
    """Increases of counters: `values[labels][i]` is that of the step ending at `steps_ms[i]`."""

    steps_ms: Int64Array
    values: Mapping[Labels, Float64Array]

    def of(self, labels: Labels) -> Float64Array:
        found = self.values.get(labels)
        return found if found is not None else np.zeros(len(self.steps_ms))


def read_increases(
    querier: Querier, expr: str, start_ms: int, end_ms: int, step_ms: int, by: Iterable[str]
) -> Increases:
    """Increases of every counter that `expr` selects, summed by the labels `by`.

    A counter that appears counts from its first value on, which is no increase. A value below the
    one before it is a restart: all of it is new (as in Prometheus's `increase`, not extrapolated).
    """
    matrix = querier.range(expr, start_ms, end_ms, step_ms)
    names = tuple(by)
    sums: dict[Labels, Float64Array] = {}
    for place, series in enumerate(matrix.series):
        kept = series.drop((METRIC_NAME,)).keep(names)
        increase = _increase(matrix, place)
        sums[kept] = sums[kept] + increase if kept in sums else increase
    return Increases(matrix.steps_ms[1:], sums)


def _increase(matrix: RangeMatrix, place: int) -> Float64Array:
    present: BoolArray = matrix.present[place] & np.isfinite(matrix.values[place])
    out = np.zeros(max(len(matrix.steps_ms) - 1, 0))
    at = np.flatnonzero(present)
    if len(at) < 2:
        return out
    values = matrix.values[place][at]
    step = np.diff(values)
    out[at[1:] - 1] = np.where(step < 0, values[1:], step)
    return out
