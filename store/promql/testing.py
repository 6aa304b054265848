"""A reader of samples held in memory: for tests of the engine, and to warm it up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from store.errors import QueryError
from store.histograms import NativeHistogram, hinted
from store.model import (
    Float64Array,
    HistogramArray,
    Int64Array,
    Labels,
    Matcher,
    SeriesSet,
)
from store.promql.selectors import matcher_passes


class MemoryReader:
    """Implements `SeriesReader` over whole series; later samples of one time win."""

    def __init__(self, series: Iterable[tuple[Labels, Int64Array, Float64Array]] = ()) -> None:
        self._series: dict[Labels, tuple[Int64Array, Float64Array]] = {}
        self._histograms: dict[Labels, dict[int, NativeHistogram]] = {}
        for labels, ts_ms, values in series:
            self.put(labels, ts_ms, values)

    def put(
        self,
        labels: Labels,
        ts_ms: Sequence[int] | Int64Array,
        values: Sequence[float] | Float64Array,
    ) -> None:
        old_ts, old_values = self._series.get(labels, (np.empty(0, np.int64), np.empty(0)))
        ts = np.concatenate((old_ts, np.asarray(ts_ms, dtype=np.int64)))
        merged = np.concatenate((old_values, np.asarray(values, dtype=np.float64)))
        reversed_unique = np.unique(ts[::-1], return_index=True)[1]
        places = len(ts) - 1 - reversed_unique
        self._series[labels] = (ts[places], merged[places])

    def put_histograms(
        self, labels: Labels, samples: Iterable[tuple[int, NativeHistogram]]
    ) -> None:
        """Native histograms of a series, which may have floats at other times."""
        added = dict(samples)
        self._histograms.setdefault(labels, {}).update(added)
        self.put(labels, list(added), [0.0] * len(added))

    def _cells(self, labels: Labels, ts_ms: Int64Array) -> HistogramArray:
        found = self._histograms.get(labels, {})
        cells = np.full(len(ts_ms), None, dtype=np.object_)
        previous: NativeHistogram | None = None
        for place, at in enumerate(ts_ms.tolist()):
            current = found.get(at)
            cells[place] = None if current is None else hinted(current, previous)
            previous = current
        return cells

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        labels: list[Labels] = []
        stamps: list[Int64Array] = []
        values: list[Float64Array] = []
        histograms: list[HistogramArray] = []
        for series, (ts, column) in self._series.items():
            if not all(passes(matcher, series) for matcher in matchers):
                continue
            low, high = np.searchsorted(ts, start_ms), np.searchsorted(ts, end_ms, side="right")
            if high > low:
                labels.append(series)
                stamps.append(ts[low:high])
                values.append(column[low:high])
                if self._histograms:
                    histograms.append(self._cells(series, ts)[low:high])
        sizes = np.array([0, *(len(piece) for piece in stamps)], dtype=np.int64)
        if sizes.sum() > max_samples:
            raise QueryError(
                "query processing would load too many samples into memory in query execution"
            )
        return SeriesSet(
            tuple(labels),
            np.cumsum(sizes),
            np.concatenate(stamps) if stamps else np.empty(0, dtype=np.int64),
            np.concatenate(values) if values else np.empty(0, dtype=np.float64),
            np.concatenate(histograms) if histograms else None,
        )


def passes(matcher: Matcher, labels: Labels) -> bool:
    """Whether a label set passes a matcher."""
    return matcher_passes(matcher, labels.get(matcher.name))
