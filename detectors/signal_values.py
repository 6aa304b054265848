"""What the own series of a finding said in some time: read when it is to be proven gone.

The labels of a finding select its series among those of `Evidence.series`. Most series go on when
the fault is over, and their values say so. Some exist only while the fault does, such as that of an
unused index: of those the absence counts, while the server speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from store.model import BoolArray, Float64Array, Labels, RangeMatrix
from store.ports import Querier

_EMPTY: Float64Array = np.empty(0)
_INSTANCE = "instance"
# A series that exists only while the fault does, and the one by which its server speaks.
_SPEAKS_BY: Mapping[str, str] = {
    "sig:db_index_unused": "sig:db_uptime:seconds",
    "sig:db_index_redundant": "sig:db_uptime:seconds",
}


@dataclass(frozen=True, slots=True)
class Signal:
    """A series of a finding: an expression, and the labels that select one of its series."""

    series: str
    labels: Mapping[str, str] = field(default_factory=dict)


def has_clean_value(querier: Querier, signal: Signal, now_ms: int) -> bool:
    """The series says something now; one that ends with its fault is away, and its server is up.

    Raises:
        QueryError: The series cannot be read.
    """
    found = querier.instant(signal.series, now_ms)
    values = [value for labels, value in found.items() if _selects(signal.labels, labels)]
    speaks = _SPEAKS_BY.get(signal.series)
    if speaks is None:
        return bool(values)
    server = _server(signal)
    up = any(_selects(server, labels) for labels in querier.instant(speaks, now_ms).series)
    return up and not any(values)


def signal_values(
    querier: Querier, signal: Signal, start_ms: int, end_ms: int, step_ms: int
) -> Float64Array:
    """A value for each step at which there is one, several series added up; 0 when it is away.

    Raises:
        QueryError: The series cannot be read.
    """
    if not signal.series:
        return _EMPTY
    grid = (start_ms, end_ms, step_ms)
    values, known = _added(querier.range(signal.series, *grid), signal.labels)
    speaks = _SPEAKS_BY.get(signal.series)
    if speaks is not None:
        _, up = _added(querier.range(speaks, *grid), _server(signal))
        known = known | up
    return values[known]


def _added(matrix: RangeMatrix, labels: Mapping[str, str]) -> tuple[Float64Array, BoolArray]:
    """The selected series added up at each step, and where any of them has a value."""
    known = matrix.present & np.isfinite(matrix.values)
    rows = list(_rows(matrix, labels))
    values: Float64Array = np.where(known, matrix.values, 0.0)[rows].sum(axis=0)
    anywhere: BoolArray = np.any(known[rows], axis=0)
    return values, anywhere


def _rows(matrix: RangeMatrix, labels: Mapping[str, str]) -> Iterator[int]:
    for place, series in enumerate(matrix.series):
        if _selects(labels, series):
            yield place


def _server(signal: Signal) -> dict[str, str]:
    return {_INSTANCE: signal.labels.get(_INSTANCE, "")}


def _selects(labels: Mapping[str, str], series: Labels) -> bool:
    return all(series.get(name) == value for name, value in labels.items())
