"""Samples: columns in, series sets out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from store.backends.duckdb import kernels, rollup_table, schema
from store.backends.duckdb.database import Connection, Database, arrow
from store.backends.duckdb.head import Columns, Grouped, Head
from store.backends.duckdb.series_index import SeriesIndex
from store.backends.duckdb.tail import SamplesAhead, Tail
from store.errors import QueryError
from store.model import (
    STALE_NAN_BITS,
    Float64Array,
    Int32Array,
    Int64Array,
    Labels,
    Matcher,
    SeriesSet,
)

_COLUMNS, _COUNT = "SELECT series, ts, value ", "SELECT count(*) "
_SOME = "FROM samples WHERE ts BETWEEN ? AND ? AND series BETWEEN ? AND ?"
_CHOSEN = _SOME + " AND series IN (FROM chosen)"
# What could be more than the limit at one sample in so much time is counted before it is read.
_DENSE_MS = 5_000
_NONE = np.empty(0, dtype=np.int64)
# What stands for a staleness marker in the table, a number near 1e-306 that nobody measures: where
# all values of a column segment are NaN, DuckDB keeps one of them for all.
_STALE_MARK_BITS = 0x0048_4953_544F_4753


def insert(connection: Connection, columns: Columns) -> None:
    """Insert samples within the transaction that is open."""
    table = pa.table(
        {
            "series": columns.series,
            "ts": columns.ts_ms,
            "value": _replaced(columns.bits, STALE_NAN_BITS, _STALE_MARK_BITS).view(np.float64),
        }
    )
    connection.from_arrow(table).insert_into("samples")
    rollup_table.note_late(connection, columns)


def columns_of(table: pa.Table) -> Columns:
    """Columns of a (series, ts, value) table, without a copy where it has one chunk."""
    bits = table.column("value").to_numpy().view(np.int64)
    return Columns(
        table.column("series").to_numpy().astype(np.int32, copy=False),
        table.column("ts").to_numpy().astype(np.int64, copy=False),
        _replaced(bits, _STALE_MARK_BITS, STALE_NAN_BITS),
    )


def _replaced(bits: Int64Array, old: int, new: int) -> Int64Array:
    found = bits == old
    return np.where(found, np.int64(new), bits) if found.any() else bits


class SampleReader:
    """Implements `SeriesReader` over the head, what is ahead of the table, and the table.

    The head answers at and above its floor. Below, the table answers and what is ahead of it,
    which is looked at first: what moves into the table in between is left out by the number of
    the last round that the table has, read in the same transaction.
    """

    def __init__(self, database: Database, index: SeriesIndex, head: Head, tail: Tail) -> None:
        self._database = database
        self._index = index
        self._head = head
        self._tail = tail

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
            grouped = _before(stored, ids, grouped)
        return self._finish(ids, grouped)

    def _stored(self, ids: Int32Array, start_ms: int, end_ms: int, most: int) -> Columns:
        ahead = [
            found
            for part in self._tail.samples()
            if part.oldest_ms <= end_ms
            and len((found := _chosen(part, ids, start_ms, end_ms)).columns)
        ]
        table, flushed = self._fetch(ids, start_ms, end_ms, most + 1, with_flushed=bool(ahead))
        rows = [columns_of(table), *(part.columns for part in ahead if part.last > flushed)]
        _within(sum(map(len, rows)), most)
        return rows[0] if len(rows) == 1 else _chained(rows)

    def _fetch(
        self, ids: Int32Array, start_ms: int, end_ms: int, limit: int, *, with_flushed: bool
    ) -> tuple[pa.Table, int]:
        """Stored samples; and, if asked for, the last round that the table had at that time."""
        with self._database.reader() as cursor:
            if not with_flushed:
                return _rows(cursor, ids, start_ms, end_ms, limit), 0
            cursor.execute("BEGIN")
            flushed = schema.read_meta(cursor, schema.FLUSHED)
            table = _rows(cursor, ids, start_ms, end_ms, limit)
            cursor.execute("COMMIT")
            return table, flushed

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


def _rows(cursor: Connection, ids: Int32Array, start_ms: int, end_ms: int, limit: int) -> pa.Table:
    bounds = [start_ms, end_ms, int(ids[0]), int(ids[-1])]
    may_be_many = len(ids) * (end_ms - start_ms) > limit * _DENSE_MS
    if int(ids[-1]) - int(ids[0]) + 1 == len(ids):
        return _bounded(cursor, _SOME, bounds, limit, count_first=may_be_many)
    cursor.register("chosen", pa.table({"series": ids}))
    try:
        return _bounded(cursor, _CHOSEN, bounds, limit, count_first=may_be_many)
    finally:
        cursor.unregister("chosen")


def _bounded(
    cursor: Connection, rows: str, bounds: list[int], limit: int, *, count_first: bool
) -> pa.Table:
    """At most so many rows; far too many of them never come into memory."""
    if count_first:
        _within(int(schema.scalar(cursor, _COUNT + rows, bounds) or 0), limit - 1)
    return arrow(cursor, f"{_COLUMNS}{rows} LIMIT ?", [*bounds, limit])


def _chosen(part: SamplesAhead, ids: Int32Array, start_ms: int, end_ms: int) -> SamplesAhead:
    """The rows within the range, of series between the first and the last id."""
    series, ts_ms, bits = part.columns.series, part.columns.ts_ms, part.columns.bits
    keep = (ts_ms >= start_ms) & (ts_ms <= end_ms) & (series >= ids[0]) & (series <= ids[-1])
    columns = Columns(series[keep], ts_ms[keep], bits[keep])
    return SamplesAhead(part.last, part.oldest_ms, columns)


def _chained(parts: Sequence[Columns]) -> Columns:
    return Columns(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.ts_ms for part in parts]),
        np.concatenate([part.bits for part in parts]),
    )


def _before(stored: Columns, ids: Int32Array, head: Grouped) -> Grouped:
    """Both by the place of their series among `ids`, what is stored before what is in the head."""
    if not len(stored):
        return head
    first = int(ids[0])
    slot_of = np.full(int(ids[-1]) - first + 1, -1, dtype=np.int32)
    slot_of[ids - first] = np.arange(len(ids), dtype=np.int32)
    # One type for the kernel, whether Arrow owns the columns or they were put together here.
    rows = tuple(map(_read_only, (stored.series, stored.ts_ms, stored.bits)))
    newer = (head.offsets, head.ts_ms, head.bits)
    return Grouped(*kernels.scatter_before(rows, slot_of, first, newer))


def _read_only(column: Any) -> Any:
    view = column.view()
    view.flags.writeable = False
    return view


def _within(count: int, most: int) -> None:
    if count > most:
        raise QueryError(
            "query processing would load too many samples into memory in query execution",
            kind="execution",
            hint=f"more than {most} samples; ask for a shorter range or fewer series",
        )
