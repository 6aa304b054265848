"""Compiles every kernel of this store by using it once, in memory."""

from __future__ import annotations

import pyarrow as pa

from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.store import DuckDBStore
from store.model import EVENT_SCHEMA, EventBatch, Labels, SampleBatch

_SECOND_MS = 1_000


def warm_kernels() -> None:
    """Run each kernel with the types it meets at run time; Numba keeps the results on disk.

    A short head makes one select read the table, the head, and both joined.
    """
    series = [Labels.of(__name__="warm", n=str(n)) for n in range(3)]
    event = {
        "event_id": "warm",
        "source": "warm",
        "type": "warm",
        "ts_ms": 0,
        "bot": False,
        "test": True,
        "received_ms": 0,
    }
    with DuckDBStore.open(None, limits=StoreLimits(head_window_ms=5 * _SECOND_MS)) as store:
        for second in range(12):
            rows = [(labels, second * _SECOND_MS, 1.0) for labels in series]
            store.append(SampleBatch.of_rows(rows)).result(timeout=120)
        store.select([], 0, 12 * _SECOND_MS)
        for _ in range(2):
            table = pa.Table.from_pylist([event], schema=EVENT_SCHEMA)
            store.append(EventBatch(table)).result(timeout=120)
