"""Upkeep on the writing thread: old rows out in slices, dead series out, the head put in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from store.backends.duckdb import samples, schema
from store.backends.duckdb.database import Connection, Database
from store.backends.duckdb.head import EVERYTHING, Head
from store.backends.duckdb.ingest import NEVER_MS, Ingest, rollback
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.series_index import SeriesIndex
from store.backends.duckdb.writer import Writer
from store.model import Int32Array

_HOUR_MS = 3_600_000
_NS_A_MS = 1_000_000
# How many slices one call makes at most, so that it always ends.
_MOST_SLICES = 10_000
_IDS_A_DELETE = 100_000

_TYPICAL_OF_LATEST = (
    "SELECT quantile_disc(ts, 0.5) FROM"
    " (SELECT ts FROM samples WHERE rowid > (SELECT max(rowid) - 10000 FROM samples))"
)
_USED_BYTES = "SELECT block_size * used_blocks FROM pragma_database_size()"

# Each table's time column, and its unit in milliseconds.
_TIMES = {
    "samples": ("ts", 1),
    "exemplars": ("ts", 1),
    "spans": ("start_ns", _NS_A_MS),
    "events": ("ts_ms", 1),
}
_EVENTS = "events"
_BULKY = tuple(table for table in _TIMES if table != _EVENTS)


@dataclass(frozen=True, slots=True)
class Retained:
    """What one run of retention took away.

    Attributes:
        rows: Deleted rows by table.
        series: Series that had no sample left.
        cutoff_ms: Every older sample and span is gone.
        used_bytes: Bytes in use afterwards; the file keeps what is free for later rows.
    """

    rows: dict[str, int]
    series: int
    cutoff_ms: int
    used_bytes: int


class Upkeep:
    """Deletions. Every method but the constructor runs on the writing thread."""

    def __init__(
        self,
        database: Database,
        index: SeriesIndex,
        ingest: Ingest,
        head: Head,
        limits: StoreLimits,
    ) -> None:
        self._database = database
        self._index = index
        self._ingest = ingest
        self._head = head
        self._limits = limits

    def place_head(self, connection: Connection) -> None:
        """Load the newest minutes into memory."""
        if not self._limits.head_window_ms:
            return
        newest_ms = schema.scalar(connection, _TYPICAL_OF_LATEST)
        if newest_ms is None:
            self._head.reload(samples.columns_of(_EMPTY), EVERYTHING, EVERYTHING)
            return
        floor_ms = newest_ms - self._limits.head_window_ms
        query = "SELECT series, ts, value FROM samples WHERE ts >= ?"
        table = connection.sql(query, params=[floor_ms]).to_arrow_table()
        self._head.reload(samples.columns_of(table), floor_ms, newest_ms)

    def delete(self, connection: Connection, ids: Int32Array, start_ms: int, end_ms: int) -> int:
        """Delete these series' samples in a range; returns how many rows went."""
        connection.register("chosen", pa.table({"series": ids}))
        connection.execute("BEGIN")
        try:
            gone = schema.scalar(
                connection,
                "DELETE FROM samples WHERE ts BETWEEN ? AND ?"
                " AND series IN (SELECT series FROM chosen)",
                [start_ms, end_ms],
            )
            connection.execute(
                "DELETE FROM exemplars WHERE ts BETWEEN ? AND ?"
                " AND series IN (SELECT series FROM chosen)",
                [start_ms, end_ms],
            )
            connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            raise
        finally:
            connection.unregister("chosen")
        self._measure_times(connection)
        self.place_head(connection)
        return gone or 0

    def delete_slice(self, connection: Connection, table: str, cutoff_ms: int) -> int:
        """Delete the oldest hour of a table that lies before the cutoff, in one transaction."""
        column, unit = _TIMES[table]
        oldest = self.oldest_ms(connection, table)
        if oldest is None or oldest >= cutoff_ms:
            return 0
        until = min(cutoff_ms, oldest + _HOUR_MS) * unit
        connection.execute("BEGIN")
        try:
            # Numbers must not be given again when the newest rows go.
            schema.write_meta(connection, "next_span_seq", self._ingest.next_span_seq)
            schema.write_meta(connection, "next_event_seq", self._ingest.next_event_seq)
            gone = schema.scalar(
                connection,
                f"DELETE FROM {table} WHERE {column} < ?",  # noqa: S608  # names of our own
                [until],
            )
            connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            raise
        return gone or 0

    def oldest_ms(self, connection: Connection, table: str) -> int | None:
        column, unit = _TIMES[table]
        query = f"SELECT min({column}) FROM {table}"  # noqa: S608  # names of our own
        oldest = schema.scalar(connection, query)
        return None if oldest is None else oldest // unit

    def finish(self, connection: Connection) -> int:
        """After deletions: forget what is gone. Returns how many series went."""
        connection.execute("CHECKPOINT")
        self._measure_times(connection)
        self._ingest.spans.forget_operations()
        removed = self._remove_dead_series(connection)
        self.place_head(connection)
        return removed

    def used_bytes(self, connection: Connection) -> int:
        """Bytes of blocks in use, plus the log."""
        used = schema.scalar(connection, _USED_BYTES) or 0
        return used + self._database.wal_bytes()

    def fold(self, connection: Connection) -> int:
        """Give the blocks of deleted rows back; returns the bytes that are in use now."""
        connection.execute("CHECKPOINT")
        return self.used_bytes(connection)

    def _measure_times(self, connection: Connection) -> None:
        times = self._ingest.times
        ranges = connection.sql(
            "SELECT series, min(ts) AS a, max(ts) AS b FROM samples GROUP BY series"
        ).to_arrow_table()
        first = np.full_like(times.first_ms, NEVER_MS)
        last = np.full_like(times.last_ms, -NEVER_MS)
        ids = ranges.column("series").to_numpy()
        first[ids] = ranges.column("a").to_numpy()
        last[ids] = ranges.column("b").to_numpy()
        times.first_ms, times.last_ms = first, last

    def _remove_dead_series(self, connection: Connection) -> int:
        alive = self._ingest.times.first_ms
        known = self._index.select(())
        dead = known[alive[known] == NEVER_MS]
        for begin in range(0, len(dead), _IDS_A_DELETE):
            self._remove(connection, dead[begin : begin + _IDS_A_DELETE])
        return len(dead)

    def _remove(self, connection: Connection, dead: Int32Array) -> None:
        connection.register("chosen", pa.table({"series": dead}))
        connection.execute("BEGIN")
        try:
            schema.write_meta(connection, "next_series_id", self._index.next_id)
            connection.execute("DELETE FROM series WHERE id IN (SELECT series FROM chosen)")
            connection.execute("DELETE FROM exemplars WHERE series IN (SELECT series FROM chosen)")
            connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            raise
        finally:
            connection.unregister("chosen")
        self._index.remove(dead.tolist())


_EMPTY = pa.table(
    {
        "series": pa.array([], pa.int32()),
        "ts": pa.array([], pa.int64()),
        "value": pa.array([], pa.float64()),
    }
)


def retain(
    writer: Writer, upkeep: Upkeep, cutoff_ms: int, events_cutoff_ms: int, max_bytes: int
) -> Retained:
    """Delete by time, then by size, one slice a job so that writing goes on in between.

    Business events are few and are what the next sale is compared with: they have a cut-off of
    their own, and size never takes them.
    """

    def on_writer(work: Callable[[Connection], Any]) -> Any:
        return writer.run(work).result()

    rows = dict.fromkeys(_TIMES, 0)
    for table in _TIMES:
        until_ms = events_cutoff_ms if table == _EVENTS else cutoff_ms
        rows[table] += _delete_before(on_writer, upkeep, table, until_ms)
    used = int(on_writer(upkeep.fold)) if any(rows.values()) else int(on_writer(upkeep.used_bytes))
    for _ in range(_MOST_SLICES):
        if not max_bytes or used <= max_bytes:
            break
        step = _step_ms(on_writer, upkeep)
        if step is None:
            break
        cutoff_ms = max(cutoff_ms, step)
        for table in _BULKY:
            rows[table] += _delete_before(on_writer, upkeep, table, cutoff_ms)
        used = int(on_writer(upkeep.fold))
    series = int(on_writer(upkeep.finish)) if any(rows.values()) else 0
    return Retained(rows, series, cutoff_ms, used)


def _delete_before(
    on_writer: Callable[[Callable[[Connection], Any]], Any],
    upkeep: Upkeep,
    table: str,
    cutoff_ms: int,
) -> int:
    total = 0
    for _ in range(_MOST_SLICES):
        gone = int(on_writer(lambda c: upkeep.delete_slice(c, table, cutoff_ms)))
        total += gone
        if not gone:
            break
    return total


def _step_ms(on_writer: Callable[[Callable[[Connection], Any]], Any], upkeep: Upkeep) -> int | None:
    """The end of the oldest hour that any bulky table still has."""
    oldest = on_writer(lambda c: [upkeep.oldest_ms(c, table) for table in _BULKY])
    known = [found for found in oldest if found is not None]
    return min(known) + _HOUR_MS if known else None
