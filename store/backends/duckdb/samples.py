"""Samples: columns in, series sets out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from store.backends.duckdb import kernels
from store.backends.duckdb.database import Connection, Database, arrow
from store.backends.duckdb.head import Columns, Grouped, Head
from store.backends.duckdb.series_index import SeriesIndex
from store.errors import QueryError
from store.model import Float64Array, Int32Array, Int64Array, Labels, Matcher, SeriesSet

_RANGE = "SELECT series, ts, value FROM samples WHERE ts BETWEEN ? AND ?"
_SOME = _RANGE + " AND series BETWEEN ? AND ? LIMIT ?"
_CHOSEN = _RANGE + " AND series BETWEEN ? AND ? AND series IN (FROM chosen) LIMIT ?"
_NONE = np.empty(0, dtype=np.int64)


def insert(connection: Connection, columns: Columns) -> None:
    """Insert samples within the transaction that is open."""
    table = pa.table(
        {
            "series": columns.series,
            "ts": columns.ts_ms,
            "value": columns.bits.view(np.float64),
        }
    )
    connection.register("incoming_samples", table)
    try:
        connection.execute("INSERT INTO samples SELECT series, ts, value FROM incoming_samples")
    finally:
        connection.unregister("incoming_samples")


def columns_of(table: pa.Table) -> Columns:
    """Columns of a (series, ts, value) table, without a copy where it has one chunk."""
    return Columns(
        table.column("series").to_numpy().astype(np.int32, copy=False),
        table.column("ts").to_numpy().astype(np.int64, copy=False),
        table.column("value").to_numpy().view(np.int64),
    )


class SampleReader:
    """Implements `SeriesReader` over the head and the table."""

    def __init__(self, database: Database, index: SeriesIndex, head: Head) -> None:
        self._database = database
        self._index = index
        self._head = head

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, max_samples: int
    ) -> SeriesSet:
        ids = self._index.select(matchers)
        if not len(ids) or start_ms > end_ms:
            return SeriesSet((), np.zeros(1, dtype=np.int64), _NONE, np.empty(0))
        floor_ms, grouped = self._head.read(ids, start_ms, end_ms)
        _within(len(grouped.ts_ms), max_samples)
        if start_ms < floor_ms:
            left = max_samples - len(grouped.ts_ms)
            stored = self._stored(ids, start_ms, min(end_ms, floor_ms - 1), left)
            grouped = _join(stored, grouped, len(ids))
        return self._finish(ids, grouped)

    def _stored(self, ids: Int32Array, start_ms: int, end_ms: int, most: int) -> Grouped:
        table = self._fetch(ids, start_ms, end_ms, most + 1)
        _within(table.num_rows, most)
        columns = columns_of(table)
        first = int(ids[0])
        slot_of = np.full(int(ids[-1]) - first + 1, -1, dtype=np.int32)
        slot_of[ids - first] = np.arange(len(ids), dtype=np.int32)
        return Grouped(
            *kernels.scatter_by_slot(
                columns.series, columns.ts_ms, columns.bits, slot_of, first, len(ids)
            )
        )

    def _fetch(self, ids: Int32Array, start_ms: int, end_ms: int, limit: int) -> pa.Table:
        bounds = [start_ms, end_ms, int(ids[0]), int(ids[-1])]
        with self._database.reader() as cursor:
            if int(ids[-1]) - int(ids[0]) + 1 == len(ids):
                return arrow(cursor, _SOME, [*bounds, limit])
            cursor.register("chosen", pa.table({"series": ids}))
            try:
                return arrow(cursor, _CHOSEN, [*bounds, limit])
            finally:
                cursor.unregister("chosen")

    def _finish(self, ids: Int32Array, grouped: Grouped) -> SeriesSet:
        offsets, ts_ms, bits = grouped.offsets, grouped.ts_ms, grouped.bits
        kept = kernels.ascend_and_keep_last(offsets, ts_ms, bits)
        present = np.flatnonzero(np.diff(offsets))
        series = self._index.labels_of(ids[present].tolist())
        if len(series) != len(present):  # one was removed by retention just now
            return self._without_removed(ids, Grouped(offsets, ts_ms, bits))
        bounds: Int64Array = np.append(offsets[present], kept)
        values: Float64Array = bits[:kept].view(np.float64)
        return SeriesSet(tuple(series), bounds, ts_ms[:kept], values)

    def _without_removed(self, ids: Int32Array, grouped: Grouped) -> SeriesSet:
        series: list[Labels] = []
        rows: list[Int64Array] = []
        lengths = [0]
        for slot, place in enumerate(ids.tolist()):
            labels = self._index.labels_of([place])
            begin, end = int(grouped.offsets[slot]), int(grouped.offsets[slot + 1])
            if labels and end > begin:
                series.extend(labels)
                rows.append(np.arange(begin, end))
                lengths.append(end - begin)
        chosen = np.concatenate(rows) if rows else _NONE
        return SeriesSet(
            tuple(series),
            np.cumsum(np.asarray(lengths, dtype=np.int64)),
            grouped.ts_ms[chosen],
            grouped.bits[chosen].view(np.float64),
        )


def _join(stored: Grouped, head: Grouped, slots: int) -> Grouped:
    if not len(head.ts_ms):
        return stored
    if not len(stored.ts_ms):
        return head
    old = (stored.offsets, stored.ts_ms, stored.bits)
    new = (head.offsets, head.ts_ms, head.bits)
    return Grouped(*kernels.join_slots(old, new, slots))


def _within(count: int, most: int) -> None:
    if count > most:
        raise QueryError(
            "query processing would load too many samples into memory in query execution",
            kind="execution",
            hint=f"more than {most} samples; ask for a shorter range or fewer series",
        )
