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
    return summed(querier.range(expr, start_ms, end_ms, step_ms), by)


def summed(matrix: RangeMatrix, by: Iterable[str], process: Iterable[str] = ()) -> Increases:
    """Increases of the counters of a range answer, summed by the labels `by`.

    With `process` (the labels that tell one process from another), a counter that appears in a
    process that was known before counts from zero: a process shows a count of failures only once
    there is one, and that one must count.
    """
    names = tuple(by)
    born = _births(matrix, tuple(process))
    sums: dict[Labels, Float64Array] = {}
    for place, series in enumerate(matrix.series):
        kept = series.drop((METRIC_NAME,)).keep(names)
        increase = _increase(matrix, place)
        if place in born:
            first = born[place]
            increase[first - 1] += matrix.values[place][first]
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


def _births(matrix: RangeMatrix, process: tuple[str, ...]) -> dict[int, int]:
    """Counters that appear in a process which was there a step before, and at which step."""
    if not process or not matrix.series or not len(matrix.steps_ms):
        return {}
    known: dict[Labels, BoolArray] = {}
    keys = [series.keep(process) for series in matrix.series]
    for place, key in enumerate(keys):
        row = matrix.present[place]
        known[key] = known[key] | row if key in known else row
    firsts = np.argmax(matrix.present, axis=1)
    return {
        place: first
        for place, first in enumerate(firsts.tolist())
        if first > 0 and bool(known[keys[place]][first - 1])
    }
