"""Upkeep on the writing thread: old rows out in slices, dead series out, the head put in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from store.backends.duckdb import rollup_table, schema
from store.backends.duckdb.database import Connection, Database
from store.backends.duckdb.head import Head
from store.backends.duckdb.head_placing import place_head
from store.backends.duckdb.ingest import NEVER_MS, Ingest, rollback
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.rollups import GRACE_MS, Rollups
from store.backends.duckdb.series_index import SeriesIndex
from store.backends.duckdb.writer import Writer
from store.changes import EVER_MS
from store.model import Int32Array
from store.ports import ROLLUP_MS

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_NS_A_MS = 1_000_000
# How many slices one call makes at most, so that it always ends.
_MOST_SLICES = 10_000
_IDS_A_DELETE = 100_000

_LATEST = (
    f"SELECT max(start_ns) // {_NS_A_MS} FROM spans",  # noqa: S608  # a number of our own
    "SELECT max(ts_ms) FROM events",
    f"SELECT max(ts_ns) // {_NS_A_MS} FROM logs",  # noqa: S608  # as above
)
_USED_BYTES = "SELECT block_size * used_blocks FROM pragma_database_size()"
_OF_CHOSEN = """
    SELECT series, min(ts) AS a, max(ts) AS b FROM samples
    WHERE series IN (SELECT series FROM chosen) GROUP BY series"""
_ROLLED_OF_CHOSEN = """
    SELECT series, min(bucket) - ? AS a, max(bucket) AS b FROM rollups
    WHERE series IN (SELECT series FROM chosen) GROUP BY series"""

# Each table's time column, and its unit in milliseconds.
_TIMES = {
    "samples": ("ts", 1),
    "exemplars": ("ts", 1),
    "histograms": ("ts", 1),
    "spans": ("start_ns", _NS_A_MS),
    "events": ("ts_ms", 1),
    "logs": ("ts_ns", _NS_A_MS),
    "rollups": ("bucket", 1),
}
_EVENTS, _ROLLUPS = "events", "rollups"
_BULKY = ("samples", "exemplars", "histograms", "spans", "logs")


@dataclass(frozen=True, slots=True)
class Ages:
    """How long what is kept, in milliseconds; and how many bytes in all (0: any).

    `rollup_ms` 0 makes no roll-ups.
    """

    raw_ms: int
    rollup_ms: int
    events_ms: int
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Retained:
    """What one run of retention took away.

    Attributes:
        rows: Deleted rows by table.
        series: Series that had no sample left.
        cutoff_ms: Every older sample and span is gone.
        used_bytes: Bytes in use afterwards; the file keeps what is free for later rows.
        rolled: Rows of roll-ups that were made.
    """

    rows: dict[str, int]
    series: int
    cutoff_ms: int
    used_bytes: int
    rolled: int = 0


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
        self.rollups = Rollups(database, index, ingest.tail, ingest.changes)
        self._widen_times()
        oldest_raw_ms = self.oldest_ms(database.writer, "samples")
        self.rollups.keep_believable(ingest.times.span()[1], oldest_raw_ms)

    def _widen_times(self) -> None:
        """A series is known for as long as its roll-ups are."""
        times = self._ingest.times
        ids, first_ms, last_ms = self.rollups.times()
        if len(ids):
            times.make_room(int(ids.max()) + 1)
            times.first_ms[ids] = np.minimum(times.first_ms[ids], first_ms)
            times.last_ms[ids] = np.maximum(times.last_ms[ids], last_ms)

    def place_head(self, connection: Connection) -> None:
        """Load the newest minutes into memory."""
        place_head(connection, self._head, self._ingest.times.last_ms, self._limits)

    def delete(self, connection: Connection, ids: Int32Array, start_ms: int, end_ms: int) -> int:
        """Delete these series' samples in a range; returns how many rows went."""
        connection.register("chosen", pa.table({"series": ids}))
        connection.execute("BEGIN")
        try:
            gone = self.rollups.delete(connection, start_ms, end_ms)
            for table in ("samples", "exemplars", "histograms"):
                deleted = schema.scalar(
                    connection,
                    f"DELETE FROM {table} WHERE ts BETWEEN ? AND ?"  # noqa: S608  # our own names
                    " AND series IN (SELECT series FROM chosen)",
                    [start_ms, end_ms],
                )
                gone += (deleted or 0) if table == "samples" else 0
            connection.execute("COMMIT")
            self._measure_chosen(connection, ids)
        except BaseException:
            rollback(connection)
            raise
        finally:
            connection.unregister("chosen")
            # Whoever read samples while the transaction was open read what is gone now.
            self.rollups.note_deletion()
            self._ingest.changes.note_span(start_ms, end_ms)
            self.place_head(connection)
        return gone

    def _measure_chosen(self, connection: Connection, ids: Int32Array) -> None:
        """First and last times anew, of the series in `chosen`."""
        times = self._ingest.times
        first, last = times.first_ms.copy(), times.last_ms.copy()
        first[ids], last[ids] = NEVER_MS, -NEVER_MS
        for query, params in ((_OF_CHOSEN, []), (_ROLLED_OF_CHOSEN, [ROLLUP_MS])):
            ranges = connection.sql(query, params=params).to_arrow_table()
            found = ranges.column("series").to_numpy()
            first[found] = np.minimum(first[found], ranges.column("a").to_numpy())
            last[found] = np.maximum(last[found], ranges.column("b").to_numpy())
        times.first_ms, times.last_ms = first, last

    def delete_slice(self, connection: Connection, table: str, cutoff_ms: int, now_ms: int) -> int:
        """Delete the oldest hour of a table that lies before the cutoff, in one transaction.

        Of samples whole five minutes go, so that what has a roll-up is gone or whole.
        """
        column, unit = _TIMES[table]
        oldest = self.oldest_ms(connection, table)
        if oldest is None or oldest >= cutoff_ms:
            return 0
        until = min(cutoff_ms, oldest + (_DAY_MS if table == _ROLLUPS else _HOUR_MS))
        if table == "samples":
            newest_ms = self._ingest.times.span()[1]
            if newest_ms is not None:
                until = min(until, rollup_table.bucket_of(newest_ms) + 1)
            until = _after_whole_buckets(until)
            if until <= oldest:
                return 0
        before_ms = self.rollups.progress.raw_floor_ms
        # A stamp from the future that size takes away must not hide what is written later.
        floor_ms = max(before_ms, min(until - 1, _after_whole_buckets(now_ms - _HOUR_MS) - 1))
        connection.execute("BEGIN")
        try:
            # Numbers must not be given again when the newest rows go.
            schema.write_meta(connection, "next_span_seq", self._ingest.next_span_seq)
            schema.write_meta(connection, "next_event_seq", self._ingest.next_event_seq)
            schema.write_meta(connection, "next_log_seq", self._ingest.next_log_seq)
            if table == "samples":
                self.rollups.raise_floor(connection, floor_ms)
            gone = schema.scalar(
                connection,
                f"DELETE FROM {table} WHERE {column} < ?",  # noqa: S608  # names of our own
                [until * unit],
            )
            connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            self.rollups.keep_floor(before_ms)
            raise
        if table in ("samples", _ROLLUPS):
            self._ingest.changes.note_span(-EVER_MS, until)
        return gone or 0

    def ageing_ms(self, connection: Connection, now_ms: int) -> int:
        """The time that rows are aged by: at most a day after the newest of them.

        A clock that jumps ahead then takes nothing away that it should not.
        """
        known = [schema.scalar(connection, query) for query in _LATEST]
        newest = [found for found in (*known, self._ingest.times.span()[1]) if found is not None]
        return min(now_ms, max(newest) + _DAY_MS) if newest else now_ms

    def rolling_ms(self, now_ms: int) -> int:
        """The time that roll-ups are made by: not long after the newest sample."""
        newest_ms = self._ingest.times.span()[1]
        return (
            now_ms
            if newest_ms is None
            else min(now_ms, rollup_table.hour_end(newest_ms) + GRACE_MS)
        )

    def aged(self, cutoff_ms: int) -> None:
        """Roll-ups were made: what is answered where raw samples are gone may have changed."""
        floor_ms = max(cutoff_ms, self.rollups.progress.raw_floor_ms)
        self._ingest.changes.note_span(-EVER_MS, floor_ms)

    def oldest_ms(self, connection: Connection, table: str) -> int | None:
        column, unit = _TIMES[table]
        query = f"SELECT min({column}) FROM {table}"  # noqa: S608  # names of our own
        oldest = schema.scalar(connection, query)
        return None if oldest is None else oldest // unit

    def finish(self, connection: Connection) -> int:
        """After deletions by age: forget what is gone. Returns how many series went."""
        self._database.checkpoint(connection)
        self._raise_times(connection)
        self._ingest.spans.forget_operations()
        removed = self._remove_dead_series(connection)
        if self._head.floor_ms <= self.rollups.progress.raw_floor_ms:
            self.place_head(connection)
        return removed

    def used_bytes(self, connection: Connection) -> int:
        """Bytes of blocks in use, plus the log."""
        used = schema.scalar(connection, _USED_BYTES) or 0
        return used + self._database.wal_bytes()

    def fold(self, connection: Connection) -> int:
        """Give the blocks of deleted rows back; returns the bytes that are in use now."""
        self._database.checkpoint(connection)
        return self.used_bytes(connection)

    def _raise_times(self, connection: Connection) -> None:
        """No series has a sample or a roll-up before the oldest of all."""
        times = self._ingest.times
        sampled = self.oldest_ms(connection, "samples")
        rolled = self.oldest_ms(connection, _ROLLUPS)
        known = [sampled, None if rolled is None else rolled - ROLLUP_MS]
        oldest = min((found for found in known if found is not None), default=NEVER_MS)
        gone = times.last_ms < oldest
        first = np.where(gone, NEVER_MS, np.maximum(times.first_ms, oldest))
        times.first_ms, times.last_ms = first, np.where(gone, -NEVER_MS, times.last_ms)

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


def _after_whole_buckets(cutoff_ms: int) -> int:
    """The first instant after the last whole five minutes before a cutoff."""
    return (cutoff_ms - 1) // ROLLUP_MS * ROLLUP_MS + 1


class _Run:
    """One run of retention, one slice a job so that writing goes on in between."""

    def __init__(self, writer: Writer, upkeep: Upkeep, now_ms: int) -> None:
        self._writer = writer
        self._upkeep = upkeep
        self._now_ms = now_ms
        self.rows = dict.fromkeys(_TIMES, 0)

    def on_writer(self, work: Callable[[Connection], Any]) -> Any:
        return self._writer.run(work).result()

    def delete_before(self, table: str, cutoff_ms: int) -> None:
        for _ in range(_MOST_SLICES):
            gone = int(self.on_writer(self._slice_of(table, cutoff_ms)))
            self.rows[table] += gone
            if not gone:
                return

    def _slice_of(self, table: str, cutoff_ms: int) -> Callable[[Connection], int]:
        return lambda c: self._upkeep.delete_slice(c, table, cutoff_ms, self._now_ms)

    def oldest_ms(self, *tables: str) -> int | None:
        """The oldest row of these tables."""
        found = self.on_writer(lambda c: [self._upkeep.oldest_ms(c, table) for table in tables])
        known = [oldest for oldest in found if oldest is not None]
        return min(known) if known else None


def retain(writer: Writer, upkeep: Upkeep, now_ms: int, ages: Ages) -> Retained:
    """Roll up, delete by time, then by size.

    Business events are few and are what the next sale is compared with: size never takes them.
    Of the rest goes first what has used more of the time that it may stay.
    """
    now_ms = int(writer.run(lambda c: upkeep.ageing_ms(c, now_ms)).result())
    run = _Run(writer, upkeep, now_ms)
    rolled = 0
    if ages.rollup_ms:
        made = upkeep.rollups.roll(run.on_writer, upkeep.rolling_ms(now_ms))
        rolled = made.rows + made.again
    cutoff_ms = _after_whole_buckets(now_ms - ages.raw_ms)
    if rolled:
        upkeep.aged(cutoff_ms)
    # What came later than its time lived is below the floor, and has never been seen.
    floor_ms = upkeep.rollups.progress.raw_floor_ms
    run.delete_before("samples", max(cutoff_ms, floor_ms + 1) if floor_ms else cutoff_ms)
    for table in _BULKY:
        run.delete_before(table, cutoff_ms)
    run.delete_before(_EVENTS, now_ms - ages.events_ms)
    run.delete_before(_ROLLUPS, now_ms - ages.rollup_ms)
    used = int(run.on_writer(upkeep.fold if any(run.rows.values()) else upkeep.used_bytes))
    for _ in range(_MOST_SLICES):
        if not ages.max_bytes or used <= ages.max_bytes:
            break
        step = _step_ms(run, now_ms, ages)
        if step is None:
            break
        tables, until_ms = step
        for table in tables:
            run.delete_before(table, until_ms)
        if tables is _BULKY:
            cutoff_ms = max(cutoff_ms, until_ms)
        used = int(run.on_writer(upkeep.fold))
    series = int(run.on_writer(upkeep.finish)) if any(run.rows.values()) else 0
    return Retained(run.rows, series, cutoff_ms, used, rolled)


def _step_ms(run: _Run, now_ms: int, ages: Ages) -> tuple[tuple[str, ...], int] | None:
    """What to delete next for want of room, and up to when; None when nothing is left."""
    raw_ms, rolled_ms = run.oldest_ms(*_BULKY), run.oldest_ms(_ROLLUPS)
    if rolled_ms is not None and (
        raw_ms is None
        or (now_ms - rolled_ms) * ages.raw_ms > (now_ms - raw_ms) * max(ages.rollup_ms, 1)
    ):
        return (_ROLLUPS,), rolled_ms + _DAY_MS
    return None if raw_ms is None else (_BULKY, _after_whole_buckets(raw_ms + _HOUR_MS))
