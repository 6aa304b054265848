"""Where the head begins: the newest minutes, and never more samples than it may hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from store.backends.duckdb import samples, schema
from store.backends.duckdb.database import Connection
from store.backends.duckdb.head import EVERYTHING, Head
from store.backends.duckdb.ingest import NEVER_MS
from store.backends.duckdb.limits import StoreLimits
from store.model import Int64Array

_SINCE = "SELECT count(*) FROM samples WHERE ts >= ?"
_NEWEST = "SELECT max(ts) FROM samples"
_HOUR_MS = 3_600_000
_FULL_SHARE = 0.25
_TYPICAL = 0.75

_EMPTY = pa.table(
    {
        "series": pa.array([], pa.int32()),
        "ts": pa.array([], pa.int64()),
        "value": pa.array([], pa.float64()),
    }
)


def place_head(
    connection: Connection, head: Head, last_ms: Int64Array, limits: StoreLimits
) -> None:
    """Load the newest minutes; `last_ms` has the last time of each series, by id."""
    if not limits.head_window_ms:
        return
    last_ms = last_ms[last_ms != -NEVER_MS]
    if not len(last_ms):
        head.reload(samples.columns_of(_EMPTY), EVERYTHING, EVERYTHING)
        return
    newest_ms = _typical_newest(last_ms)
    floor_ms = _bounded_floor(connection, newest_ms, limits)
    query = "SELECT series, ts, value FROM samples WHERE ts >= ?"
    table = connection.sql(query, params=[floor_ms]).to_arrow_table()
    head.reload(samples.columns_of(table), floor_ms, newest_ms)


def _typical_newest(last_ms: Int64Array) -> int:
    """When most series that still live were written last.

    Those lie close together; series that ended are spread over all the time before, and a few
    senders whose clocks are ahead after it. So the last hour counts in which about as many series
    end as in any other. Too early costs only room: the next rounds raise the floor.
    """
    hours, counts = np.unique(last_ms // _HOUR_MS, return_counts=True)
    hour = hours[counts >= _FULL_SHARE * counts.max()][-1]
    return int(np.quantile(last_ms[last_ms // _HOUR_MS == hour], _TYPICAL, method="lower"))


def _bounded_floor(connection: Connection, newest_ms: int, limits: StoreLimits) -> int:
    """A window before the newest, or less of it where that is more than the head may hold."""
    floor_ms = newest_ms - limits.head_window_ms
    while (schema.scalar(connection, _SINCE, [floor_ms]) or 0) > limits.head_max_samples:
        end_ms = newest_ms
        if floor_ms >= end_ms:  # as much lies after it
            end_ms = schema.scalar(connection, _NEWEST) or 0
        floor_ms += max(1, (end_ms - floor_ms) // 2)
    return floor_ms
