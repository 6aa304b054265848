"""Counters to increases on a grid of steps, counter resets included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from store.model import METRIC_NAME, BoolArray, Float64Array, Int64Array, Labels, RangeMatrix
from store.ports import Querier

_SLIP = 0.9


@dataclass(frozen=True, slots=True)
class Increases:
    """Increases of counters: `values[labels][i]` is that of the step ending at `steps_ms[i]`.

    `lost[labels][i]` says that the counter, which was there before, has no value then.
    """

    steps_ms: Int64Array
    values: Mapping[Labels, Float64Array]
    lost: Mapping[Labels, BoolArray] = field(default_factory=dict)

    def of(self, labels: Labels) -> Float64Array:
        found = self.values.get(labels)
        return found if found is not None else np.zeros(len(self.steps_ms))


def read_increases(
    querier: Querier, expr: str, start_ms: int, end_ms: int, step_ms: int, by: Iterable[str]
) -> Increases:
    """Increases of every counter that `expr` selects, summed by the labels `by`.

    A counter that appears counts from its first value on, which is no increase. A value below the
    one before it is a restart: all of it is new (as in Prometheus's `increase`, not extrapolated).
    One that is less than a tenth below slipped: two counters of which one is the difference were
    not read at the same instant. Nothing of it is new.
    """
    return summed(querier.range(expr, start_ms, end_ms, step_ms), by)


def summed(matrix: RangeMatrix, by: Iterable[str], process: Iterable[str] = ()) -> Increases:
    """Increases of the counters of a range answer, summed by the labels `by`.

    With `process` (the labels that tell one process from another), a counter that appears in a
    process that was known before counts from zero: a process shows a count of failures only once
    there is one, and that one must count.
    """
    names = tuple(by)
    sums: dict[Labels, Float64Array] = {}
    there: dict[Labels, BoolArray] = {}
    known = matrix.present & np.isfinite(matrix.values)
    for series, increase, row in zip(matrix.series, of_each(matrix, process), known, strict=True):
        kept = series.drop((METRIC_NAME,)).keep(names)
        sums[kept] = sums[kept] + increase if kept in sums else increase
        there[kept] = there[kept] | row if kept in there else row
    lost = {
        labels: (np.logical_or.accumulate(row) & ~row)[1:]
        for labels, row in there.items()
        if not row.all()
    }
    return Increases(matrix.steps_ms[1:], sums, lost)


def of_each(matrix: RangeMatrix, process: Iterable[str] = ()) -> Float64Array:
    """Increases of each counter of a range answer by itself, a row a series; else as `summed`."""
    present: BoolArray = matrix.present & np.isfinite(matrix.values)
    if min(present.shape) == 0:
        return np.zeros((len(matrix.series), max(len(matrix.steps_ms) - 1, 0)))
    columns = np.arange(present.shape[1])
    # Where the last value up to each step is; -1: there is none yet.
    last = np.maximum.accumulate(np.where(present, columns, -1), axis=1)
    values = np.take_along_axis(matrix.values, np.maximum(last, 0), axis=1)
    now, before = values[:, 1:], values[:, :-1]
    step = np.where(now < _SLIP * before, now, np.maximum(now - before, 0.0))
    out: Float64Array = np.where(present[:, 1:] & (last[:, :-1] >= 0), step, 0.0)
    for place, first in _births(matrix, present, tuple(process)):
        out[place, first - 1] = matrix.values[place, first]
    return out


def _births(
    matrix: RangeMatrix, present: BoolArray, process: tuple[str, ...]
) -> Iterator[tuple[int, int]]:
    """Counters that appear in a process which was there a step before, and at which step.

    One that was no number (NaN) before was there.
    """
    firsts = np.argmax(present, axis=1)
    unseen = firsts == np.argmax(matrix.present, axis=1)
    born = np.flatnonzero((firsts > 0) & unseen & present.any(axis=1)) if process else ()
    if not len(born):
        return
    known: dict[Labels, BoolArray] = {}
    keys = [series.keep(process) for series in matrix.series]
    for key, row in zip(keys, matrix.present, strict=True):
        known[key] = known[key] | row if key in known else row
    for place in born:
        if known[keys[place]][firsts[place] - 1]:
            yield int(place), int(firsts[place])
