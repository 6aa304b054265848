"""Compiles every kernel before the first user waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from store.model import Labels, Matcher, SeriesSet
from store.ports import SeriesReader
from store.promql.engine import Engine
from store.promql.points_text import write_points
from store.promql.testing import MemoryReader

_STEP_MS = 15_000
_QUERIES = (
    "m",
    "m smoothed",
    "rate(m[1m])",
    "irate(m[1m])",
    "rate(m[1m] smoothed)",
    "changes(m[1m] anchored)",
    "sum_over_time(m[1m])",
    "double_exponential_smoothing(m[1m], 0.5, 0.5)",
    "sum(m)",
    "avg(m)",
    "max(m)",
    "count(m)",
    "stddev(m)",
    "quantile(0.5, m)",
    "topk(1, m)",
    "limitk(1, m)",
    "histogram_quantile(0.5, m)",
    "histogram_fraction(0, 1, m)",
)
# One point's time and value as text, in columns of the types that Arrow gives.
_TEXT = np.frombuffer(b"1", dtype=np.uint8)
_ENDS = np.frombuffer(b"\x00\x00\x00\x00\x01\x00\x00\x00", dtype=np.int32)
_ONE_POINT = (
    *(_TEXT, _ENDS, np.zeros(1, dtype=np.int64)),
    *(_TEXT, _ENDS, np.arange(2, dtype=np.int64)),
)


def warm(progress: Callable[[int, int], None] | None = None) -> None:
    """Run one query of each kind; `progress` is told how many of how many are done.

    The machine code stays on disk, so only the first start after an installation takes long.
    Columns come writable from some backends and read-only from others, and each is compiled.
    """
    memory = MemoryReader()
    ts = np.arange(8, dtype=np.int64) * _STEP_MS
    for bound in ("1", "+Inf"):
        memory.put(Labels.of(__name__="m", le=bound), ts, np.arange(8.0))
    readers: tuple[SeriesReader, ...] = (memory, _ReadOnly(memory))
    write_points(*_ONE_POINT)
    done = 0
    for reader in readers:
        engine = Engine(reader)
        for query in _QUERIES:
            engine.range(query, 0, 7 * _STEP_MS, _STEP_MS)
            done += 1
            if progress is not None:
                progress(done, len(readers) * len(_QUERIES))


class _ReadOnly:
    """The same samples in columns that cannot be written to, as Arrow's are."""

    def __init__(self, reader: SeriesReader) -> None:
        self._reader = reader

    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        found = self._reader.select(matchers, start_ms, end_ms, max_samples=max_samples)
        for column in (found.offsets, found.ts_ms, found.values):
            column.flags.writeable = False
        return found
