"""Compiles every kernel of this store by using it once, in memory."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.store import DuckDBStore
from store.model import EVENT_SCHEMA, EventBatch, Labels, SampleBatch

_SECOND_MS = 1_000
_HOUR_MS = 3_600_000


def warm_kernels() -> None:
    """Run each kernel with the types it meets at run time; Numba keeps the results on disk.

    A short head makes one select read the table, the head, and both joined; an hour's roll-ups
    are made and read, together with a newer sample.
    """
    series = [Labels.of(__name__="warm", n=str(n)) for n in range(3)]
    event: dict[str, Any] = {
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
        for event_id in ("first", "second"):
            table = pa.Table.from_pylist([event | {"event_id": event_id}], schema=EVENT_SCHEMA)
            store.append(EventBatch(table)).result(timeout=120)
        store.retain(3 * _HOUR_MS, _HOUR_MS, rollup_ms=4 * _HOUR_MS)
        store.append(SampleBatch.of_rows([(series[0], 3 * _HOUR_MS, 1.0)])).result(timeout=120)
        store.select([], 0, 3 * _HOUR_MS)
