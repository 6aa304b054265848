"""Unary and binary operators where a side is a native histogram, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from store.histogram_statistics import trim
from store.histogram_sums import add, subtract
from store.histograms import IncompatibleHistogramsError, NativeHistogram
from store.model import BoolArray, Float64Array, HistogramArray
from store.promql import histogram_notes as notes
from store.promql.context import Run
from store.promql.syntax import Binary
from store.promql.values import Vector, filled, no_histograms

Sample = float | NativeHistogram
_BY_NUMBER: dict[str, Callable[[NativeHistogram, float], NativeHistogram]] = {
    "*": lambda histogram, number: histogram.times(number).compact(),
    "/": lambda histogram, number: histogram.over(number).compact(),
    "</": lambda histogram, number: trim(histogram, number, keep_below=True),
    ">/": lambda histogram, number: trim(histogram, number, keep_below=False),
}
_COMBINE = {"+": (add, "addition"), "-": (subtract, "subtraction")}


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an operator: numbers, and histograms (of the same shape) where it has some."""

    values: Float64Array
    histograms: HistogramArray | None

    @property
    def is_histogram(self) -> BoolArray:
        if self.histograms is None:
            return np.zeros(self.values.shape, dtype=np.bool_)
        return filled(self.histograms)

    def sample(self, row: int, step: int) -> Sample:
        if self.histograms is not None and self.histograms[row, step] is not None:
            return _cell(self.histograms, row, step)
        return float(self.values[row, step])


@dataclass(frozen=True, slots=True)
class Cells:
    """Results of an operator, all of one shape.

    `keep` is True where there is a result; it is a histogram where one stands in `histograms`.
    """

    values: Float64Array
    histograms: HistogramArray | None
    keep: BoolArray


def negated_histograms(vector: Vector, negated: Vector) -> Vector:
    """`-v`: the negated floats, and the histograms as gauges of negative counts."""
    cells = no_histograms(vector.values.shape)
    mask = vector.is_histogram
    for row, step in zip(*np.nonzero(mask), strict=True):
        cells[row, step] = _cell(vector.histograms, row, step).times(-1.0)
    return replace(negated, present=vector.present, histograms=cells)


def _cell(cells: HistogramArray | None, row: int, step: int) -> NativeHistogram:
    found: object = None if cells is None else cells[row, step]
    if not isinstance(found, NativeHistogram):
        raise TypeError(f"no histogram in row {row} at step {step}")
    return found


def operate(
    run: Run,
    node: Binary,
    left: Side,
    right: Side,
    wanted: BoolArray,
) -> Cells:
    """An operator at the wanted samples, where at least one side is a histogram."""
    shape = wanted.shape
    histograms, keep = no_histograms(shape), np.zeros(shape, dtype=np.bool_)
    values = np.zeros(shape)
    for row, step in zip(*np.nonzero(wanted), strict=True):
        answer = _one(run, node, left.sample(row, step), right.sample(row, step))
        if answer is None:
            continue
        keep[row, step] = True
        if isinstance(answer, NativeHistogram):
            histograms[row, step] = answer
        else:
            values[row, step] = answer
    return Cells(values, histograms, keep)


def _one(run: Run, node: Binary, left: Sample, right: Sample) -> Sample | None:
    if isinstance(left, NativeHistogram) and isinstance(right, NativeHistogram):
        return _histograms(run, node, left, right)
    if isinstance(left, NativeHistogram):
        apply = _BY_NUMBER.get(node.op)
        if apply is not None and not isinstance(right, NativeHistogram):
            return apply(left, right)
        notes.incompatible_types(run, node.op, "histogram", "float", node)
        return None
    if node.op == "*" and isinstance(right, NativeHistogram):
        return right.times(left).compact()
    notes.incompatible_types(run, node.op, "float", "histogram", node)
    return None


def _histograms(
    run: Run, node: Binary, left: NativeHistogram, right: NativeHistogram
) -> Sample | None:
    if node.op in ("==", "!="):
        passed = left.equals(right) is (node.op == "==")
        if node.return_bool:
            return float(passed)
        return left if passed else None
    if node.op not in _COMBINE:
        notes.incompatible_types(run, node.op, "histogram", "histogram", node)
        return None
    combine, how = _COMBINE[node.op]
    try:
        found = combine(left, right)
    except IncompatibleHistogramsError:
        notes.incompatible_layouts(run, node.op, node)
        return None
    notes.of_combined(run, found, how, node)
    return found.histogram


def merged(floats: Vector, cells: Cells, either: BoolArray) -> Vector:
    """A vector computed for floats, with the results where a histogram took part."""
    values = np.where(either, cells.values, floats.values)
    present = np.where(either, cells.keep, floats.present)
    return replace(floats, values=values, present=present, histograms=cells.histograms)


def nan_filled(values: Float64Array, cells: HistogramArray | None) -> Float64Array:
    """Values as they leave the engine: NaN where a histogram stands."""
    return values if cells is None else np.where(filled(cells), math.nan, values)
