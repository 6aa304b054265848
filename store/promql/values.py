"""What an expression evaluates to, over all steps of a query at once.

T is the number of steps, N the number of series. An instant query has one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from store.model import BoolArray, Float64Array, Int64Array, Labels

RESERVED_LABELS = frozenset({"__name__", "__type__", "__unit__"})


@dataclass(frozen=True, slots=True)
class Vector:
    """Instant vectors of every step.

    Attributes:
        series: N label sets.
        values: N by T.
        present: N by T; False where the series has no value at the step.
        drop_name: N; True where the name goes when the query ends (delayed name removal).
    """

    series: Sequence[Labels]
    values: Float64Array
    present: BoolArray
    drop_name: BoolArray

    def __len__(self) -> int:
        return len(self.series)

    @property
    def steps(self) -> int:
        return int(self.values.shape[1])

    def with_values(self, values: Float64Array) -> Vector:
        """New values of the same samples, by a function that drops the name."""
        return replace(self, values=values, drop_name=np.ones(len(self), dtype=np.bool_))

    def take(self, rows: Int64Array) -> Vector:
        """These rows, in this order."""
        return Vector(
            [self.series[row] for row in rows.tolist()],
            self.values[rows],
            self.present[rows],
            self.drop_name[rows],
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
    `starts_ms[t] < ts <= ends_ms[t]`. Staleness markers are left out.
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

    @property
    def steps(self) -> int:
        return len(self.ends_ms)


Value = Vector | Scalars | Text | Windows


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
    )


def relabelled(labels: Labels, changes: Mapping[str, str]) -> Labels:
    """Labels with some set anew; an empty value removes one. Any label name will do."""
    return Labels.of({**labels.to_dict(), **changes})
