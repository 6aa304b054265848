"""What an expression evaluates to, over all steps of a query at once.

T is the number of steps, N the number of series. An instant query has one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from store.model import BoolArray, Float64Array, HistogramArray, Int64Array, Labels

RESERVED_LABELS = frozenset({"__name__", "__type__", "__unit__"})


@dataclass(frozen=True, slots=True)
class Vector:
    """Instant vectors of every step.

    Attributes:
        series: N label sets.
        values: N by T.
        present: N by T; False where the series has no value at the step.
        drop_name: N; True where the name goes when the query ends (delayed name removal).
        histograms: N by T, if any series has native histograms; None where a sample is a float.
            Where a sample is not present, what stands here means nothing.
    """

    series: Sequence[Labels]
    values: Float64Array
    present: BoolArray
    drop_name: BoolArray
    histograms: HistogramArray | None = None

    def __len__(self) -> int:
        return len(self.series)

    @property
    def steps(self) -> int:
        return int(self.values.shape[1])

    @property
    def floats(self) -> BoolArray:
        """N by T; True where a sample is present and a float."""
        return self.present if self.histograms is None else self.present & ~filled(self.histograms)

    @property
    def is_histogram(self) -> BoolArray:
        """N by T; True where a sample is present and a histogram."""
        if self.histograms is None:
            return np.zeros(self.present.shape, dtype=np.bool_)
        return self.present & filled(self.histograms)

    def only_floats(self) -> Vector:
        """Without its histograms."""
        if self.histograms is None:
            return self
        return replace(self, present=self.floats, histograms=None)

    def with_values(self, values: Float64Array) -> Vector:
        """New values of the float samples, by a function that drops the name and histograms."""
        drop = np.ones(len(self), dtype=np.bool_)
        return Vector(self.series, values, self.floats, drop)

    def take(self, rows: Int64Array) -> Vector:
        """These rows, in this order."""
        return Vector(
            [self.series[row] for row in rows.tolist()],
            self.values[rows],
            self.present[rows],
            self.drop_name[rows],
            None if self.histograms is None else self.histograms[rows],
        )


@dataclass(frozen=True, slots=True)
class Scalars:
    """One number a step."""

    values: Float64Array


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class Windows:
    """Range vectors of every step: raw samples and, for each step, the window to look at.

    Series `i` owns `ts_ms[offsets[i]:offsets[i + 1]]`. The window of step `t` is left-open:
    `starts_ms[t] < ts <= ends_ms[t]`. Staleness markers are left out. `histograms` is as in a
    `SeriesSet`.
    """

    series: Sequence[Labels]
    offsets: Int64Array
    ts_ms: Int64Array
    values: Float64Array
    starts_ms: Int64Array
    ends_ms: Int64Array
    drop_name: BoolArray
    range_ms: int
    mode: str = ""
    histograms: HistogramArray | None = None

    @property
    def steps(self) -> int:
        return len(self.ends_ms)

    def only_floats(self) -> Windows:
        """Without its histograms."""
        if self.histograms is None:
            return self
        keep = ~filled(self.histograms)
        before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(keep, dtype=np.int64)))
        return replace(
            self,
            offsets=before[self.offsets],
            ts_ms=self.ts_ms[keep],
            values=self.values[keep],
            histograms=None,
        )


Value = Vector | Scalars | Text | Windows


def filled(cells: HistogramArray) -> BoolArray:
    """Where a cell holds a histogram."""
    empty: Any = None
    return np.asarray(np.not_equal(cells, empty), dtype=np.bool_)


def no_histograms(shape: tuple[int, ...]) -> HistogramArray:
    """Cells without histograms."""
    return np.full(shape, None, dtype=np.object_)


def empty_vector(steps: int) -> Vector:
    """No series."""
    return Vector(
        (),
        np.empty((0, steps), dtype=np.float64),
        np.empty((0, steps), dtype=np.bool_),
        np.empty(0, dtype=np.bool_),
    )


def bare_vector(values: Float64Array, present: BoolArray, labels: Labels | None = None) -> Vector:
    """One series, without labels unless given."""
    return Vector(
        (labels or Labels(),),
        values.reshape(1, -1),
        present.reshape(1, -1),
        np.zeros(1, dtype=np.bool_),
    )


def stack(parts: Sequence[Vector], steps: int) -> Vector:
    """The rows of several vectors, one after the other."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty_vector(steps)
    return Vector(
        [labels for part in parts for labels in part.series],
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.drop_name for part in parts]),
        _stacked([part.histograms for part in parts], [part.values.shape for part in parts]),
    )


def _stacked(
    columns: Sequence[HistogramArray | None], shapes: Sequence[tuple[int, ...]]
) -> HistogramArray | None:
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [
            no_histograms(shape) if column is None else column
            for column, shape in zip(columns, shapes, strict=True)
        ]
    )


def relabelled(labels: Labels, changes: Mapping[str, str]) -> Labels:
    """Labels with some set anew; an empty value removes one. Any label name will do."""
    return Labels.of({**labels.to_dict(), **changes})
