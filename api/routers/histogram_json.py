"""Query answers in which native histograms stand, in Prometheus's JSON.

A series has `histogram` instead of `value`, or `histograms` beside `values`. A bucket is
`[boundaries, lower, upper, count]`; boundaries 0 includes the upper bound, 1 the lower one, 2 none
and 3 both. Empty buckets are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

import numpy as np
import orjson

from store.histograms import Bucket, NativeHistogram
from store.model import HistogramArray, InstantVector, Labels, RangeMatrix
from store.promql.engine import RawSeries
from store.promql.numbers import format_float

Point = tuple[int, float, NativeHistogram | None]


def histogram_object(histogram: NativeHistogram) -> dict[str, object]:
    """A histogram as its JSON object."""
    found: dict[str, object] = {
        "count": _number(histogram.count),
        "sum": _number(histogram.sum),
    }
    buckets = [_bucket(bucket) for bucket in histogram.buckets() if bucket.count != 0]
    if buckets:
        found["buckets"] = buckets
    return found


def _bucket(bucket: Bucket) -> list[object]:
    if bucket.lower_inclusive:
        boundaries = 3 if bucket.upper_inclusive else 1
    else:
        boundaries = 0 if bucket.upper_inclusive else 2
    numbers = (bucket.lower, bucket.upper, bucket.count)
    return [boundaries, *map(_number, numbers)]


def _number(value: float) -> str:
    """Go's encoding/json goes over to exponents at 1e21."""
    wide = abs(value) >= 1e21 and not math.isinf(value)
    return repr(value) if wide else format_float(value)


def mixed_vector(result: InstantVector, ts_ms: int, count: int) -> bytes:
    """The rows of an instant answer."""
    cells = _column(result.histograms)
    points = zip(result.series[:count], result.values.tolist(), cells, strict=False)
    rows = []
    for labels, value, histogram in points:
        row: dict[str, object] = {"metric": labels.to_dict()}
        if histogram is None:
            row["value"] = [_seconds(ts_ms), _number(value)]
        else:
            row["histogram"] = [_seconds(ts_ms), histogram_object(histogram)]
        rows.append(row)
    return _encoded(rows)


def mixed_grid(result: RangeMatrix, count: int) -> bytes:
    """The rows of a range answer."""
    steps = result.steps_ms

    def points(row: int) -> Iterator[Point]:
        there = np.nonzero(result.present[row])[0]
        cells = [] if result.histograms is None else _column(result.histograms[row, there])
        return zip(steps[there].tolist(), result.values[row, there].tolist(), cells, strict=True)

    return _matrix((labels, points(row)) for row, labels in enumerate(result.series[:count]))


def mixed_raw(result: RawSeries, count: int) -> bytes:
    """The rows of a range selector's answer: samples as they are stored."""

    def points(row: int) -> Iterator[Point]:
        place = slice(int(result.offsets[row]), int(result.offsets[row + 1]))
        cells = [] if result.histograms is None else _column(result.histograms[place])
        return zip(result.ts_ms[place].tolist(), result.values[place].tolist(), cells, strict=True)

    return _matrix((labels, points(row)) for row, labels in enumerate(result.series[:count]))


def _matrix(series: Iterable[tuple[Labels, Iterator[Point]]]) -> bytes:
    rows = []
    for labels, points in series:
        values: list[object] = []
        histograms: list[object] = []
        for ts_ms, value, histogram in points:
            if histogram is None:
                values.append([_seconds(ts_ms), _number(value)])
            else:
                histograms.append([_seconds(ts_ms), histogram_object(histogram)])
        row: dict[str, object] = {"metric": labels.to_dict()}
        if values:
            row["values"] = values
        if histograms:
            row["histograms"] = histograms
        rows.append(row)
    return _encoded(rows)


def _column(cells: HistogramArray | None) -> list[NativeHistogram | None]:
    return [] if cells is None else list(cells.tolist())


def _seconds(ts_ms: int) -> float | int:
    return ts_ms // 1000 if ts_ms % 1000 == 0 else ts_ms / 1000


def _encoded(rows: list[dict[str, object]]) -> bytes:
    try:
        return orjson.dumps(rows)
    except (orjson.JSONEncodeError, UnicodeError):
        text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")
