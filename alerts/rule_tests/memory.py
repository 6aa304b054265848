"""The store of one rule test: input series come into sight as time goes on, like scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future

import numpy as np

from alerts.rule_tests.spec import InputSeries
from store.model import Batch, Matcher, SampleBatch, SeriesSet
from store.promql.testing import MemoryReader


class TestMemory:
    """A reader and an appender. Nothing after `now_ms` can be seen yet."""

    __test__ = False  # pytest collects classes of this name otherwise

    def __init__(self, series: Iterable[InputSeries], start_ms: int, interval_ms: int) -> None:
        self.now_ms = start_ms
        self._reader = MemoryReader()
        for one in series:
            kept = [(i, value) for i, value in enumerate(one.values) if value is not None]
            stamps = np.array([start_ms + i * interval_ms for i, _ in kept], dtype=np.int64)
            self._reader.put(one.labels, stamps, np.array([v for _, v in kept], dtype=np.float64))

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        end_ms = min(end_ms, self.now_ms)
        return self._reader.select(matchers, start_ms, end_ms, max_samples=max_samples)

    def append(self, batch: Batch) -> Future[None]:
        assert isinstance(batch, SampleBatch)  # rules record nothing else
        for place, labels in enumerate(batch.series):
            mine = batch.series_index == place
            self._reader.put(labels, batch.ts_ms[mine], batch.values[mine])
        done: Future[None] = Future()
        done.set_result(None)
        return done
