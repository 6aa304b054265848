"""Five-minute roll-ups: made of closed hours, made again where a write came late, and read.

The hour's samples are read beside the writer; only the rows that come of them are written between
its rounds. How far it came is written in the same transaction, so a crash repeats no bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from store.backends.duckdb import kernels, rollup_kernels, rollup_table, samples, schema
from store.backends.duckdb.database import Connection, Database, arrow
from store.backends.duckdb.ingest import insert_table, rollback
from store.backends.duckdb.rollup_table import Progress
from store.backends.duckdb.series_index import SeriesIndex
from store.backends.duckdb.tail import Tail
from store.changes import ChangeLog
from store.errors import QueryError
from store.model import Int32Array, Int64Array, Matcher, SeriesSet
from store.ports import ROLLUP_MS, RollupSet, RollupSpan

OnWriter = Callable[[Callable[[Connection], Any]], Any]

_HOUR_MS = 12 * ROLLUP_MS
# What is still under way when an hour ends: a write after that makes its bucket again.
GRACE_MS = 60_000
_MOST_ROWS = 4_000_000
_MOST_SLICES = 10_000
_LATE_AT_ONCE = 20_000

_NEXT = "SELECT min(ts) FROM samples WHERE ts > ?"
_COUNT = "SELECT count(*) FROM samples WHERE ts > ? AND ts <= ?"
_RANGE = "SELECT series, ts, value FROM samples WHERE ts > ? AND ts <= ?"
_OF_SERIES = _RANGE + " AND series IN (FROM late_series)"
_LATE = """
    SELECT DISTINCT series, bucket FROM rollups_late WHERE bucket =
    (SELECT min(bucket) FROM rollups_late) LIMIT ?"""
_OLDEST_LATE = "SELECT min(bucket) FROM rollups_late WHERE bucket > ?"
_INSERT = """
    INSERT INTO rollups SELECT series, bucket, first_at, first, last_at, last, low, high, total,
    rest, count, resets, stale_at FROM incoming"""
_DELETE = """
    DELETE FROM rollups WHERE bucket = ? AND series IN (SELECT series FROM late_series)"""
_FORGET_LATE = """
    DELETE FROM rollups_late WHERE bucket = ? AND series IN (SELECT series FROM late_series)"""
_WHOLE = ("series", "bucket", "first_at", "last_at", "count", "stale_at")
_PARTS = ("first", "last", "low", "high", "total", "rest", "resets")
_COLUMNS = frozenset(_WHOLE[2:] + _PARTS)


@dataclass(frozen=True, slots=True)
class Rolled:
    """What one run made: rows of new buckets, rows made again, and the end of the last bucket."""

    rows: int
    again: int
    until_ms: int


class Rollups:
    """Implements `RollupReader`, and makes what it reads."""

    def __init__(
        self, database: Database, index: SeriesIndex, tail: Tail, changes: ChangeLog
    ) -> None:
        self._database = database
        self._index = index
        self._tail = tail
        self._changes = changes
        rollup_table.create(database.writer)
        self.progress: Progress = rollup_table.read_progress(database.writer)
        self._deletions = 0

    # -- making --------------------------------------------------------------

    def keep_believable(self, newest_ms: int | None, oldest_raw_ms: int | None) -> None:
        """At a start: take back what a wrong clock claimed."""
        kept = rollup_table.believable(self.progress, newest_ms, oldest_raw_ms)
        if kept != self.progress:
            rollup_table.restore(self._database.writer, self.progress, kept)
            self.progress = kept

    def roll(self, on_writer: OnWriter, now_ms: int) -> Rolled:
        """Roll every closed hour that is not rolled yet, and the buckets that were late."""
        until_ms = (now_ms - GRACE_MS) // _HOUR_MS * _HOUR_MS
        if until_ms > self.progress.done_ms:
            on_writer(lambda connection: self._claim(connection, until_ms))
        rows = 0
        for _ in range(_MOST_SLICES):
            made = self._roll_slice(on_writer, until_ms)
            if made is None:
                break
            rows += made
        return Rolled(rows, self._roll_late(on_writer), self.progress.done_ms)

    def _claim(self, connection: Connection, until_ms: int) -> None:
        rollup_table.write_claimed(connection, until_ms)
        self.progress = replace(self.progress, claimed_ms=until_ms)

    def _roll_slice(self, on_writer: OnWriter, until_ms: int) -> int | None:
        """One hour, or less of it where it holds much; None when all is done."""
        done_ms = self.progress.done_ms
        if done_ms >= until_ms:
            return None
        first_ms = self._number(_NEXT, [max(done_ms, self.progress.raw_floor_ms)])
        if first_ms is None or first_ms > until_ms:
            begin_ms = end_ms = until_ms
        else:
            begin_ms = max(done_ms, (first_ms - 1) // _HOUR_MS * _HOUR_MS)
            end_ms = min(until_ms, (begin_ms // _HOUR_MS + 1) * _HOUR_MS)
            count = self._number(_COUNT, [begin_ms, end_ms]) or 0
            if count > _MOST_ROWS:
                end_ms = begin_ms + ROLLUP_MS * max(1, _MOST_ROWS * 12 // count)
        deletions = self._deletions
        table = self._rolled(self._database.table(_RANGE, [begin_ms, end_ms]))
        return int(on_writer(lambda c: self._write(c, table, end_ms, deletions)))

    def _number(self, query: str, params: list[Any]) -> int | None:
        value = self._database.table(query, params).column(0)[0].as_py()
        return None if value is None else int(value)

    def _rolled(self, raw: pa.Table) -> pa.Table:
        """The buckets of these rows, ordered by series and time."""
        columns = samples.columns_of(raw)
        highest = int(columns.series.max()) + 1 if len(columns) else 0
        slots = np.arange(highest, dtype=np.int32)
        offsets, ts, bits = kernels.scatter_by_slot(
            columns.series, columns.ts_ms, columns.bits, slots, 0, highest
        )
        kernels.ascend_and_keep_last(offsets, ts, bits)
        buckets = rollup_kernels.count_buckets(offsets, ts, ROLLUP_MS)
        whole, parts, _ = rollup_kernels.roll(offsets, ts, bits, ROLLUP_MS, buckets)
        return pa.table(
            dict(zip(_WHOLE, whole, strict=True)) | dict(zip(_PARTS, parts, strict=True))
        )

    def _write(self, connection: Connection, table: pa.Table, end_ms: int, deletions: int) -> int:
        if deletions != self._deletions:
            return 0  # samples were deleted since they were read: read again
        connection.execute("BEGIN")
        try:
            insert_table(connection, _INSERT, table)
            rollup_table.write_done(connection, end_ms)
            connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            raise
        self.progress = replace(self.progress, done_ms=end_ms)
        return int(table.num_rows)

    def _roll_late(self, on_writer: OnWriter) -> int:
        again = 0
        for _ in range(_MOST_SLICES):
            made = int(on_writer(self._roll_late_bucket))
            if made < 0:
                break
            again += made
        return again

    def _roll_late_bucket(self, connection: Connection) -> int:
        """Make one bucket of the series that were late again; -1 when there is none.

        On the writing thread, so that no row comes between reading and writing. A bucket whose
        raw samples are gone stays as it is: what is left of it would be wrong.
        """
        late = arrow(connection, _LATE, [_LATE_AT_ONCE])
        if not late.num_rows:
            return -1
        bucket = int(late.column("bucket")[0].as_py())
        connection.register("late_series", late.select(["series"]))
        connection.execute("BEGIN")
        try:
            made = 0
            if self.progress.raw_floor_ms < bucket <= self.progress.done_ms:
                raw = arrow(connection, _OF_SERIES, [bucket - ROLLUP_MS, bucket])
                table = self._rolled(raw)
                connection.execute(_DELETE, [bucket])
                insert_table(connection, _INSERT, table)
                made = int(table.num_rows)
            connection.execute(_FORGET_LATE, [bucket])
            connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            raise
        finally:
            connection.unregister("late_series")
        self._changes.note_span(bucket - ROLLUP_MS, bucket)
        return made

    # -- taking away ---------------------------------------------------------

    def raise_floor(self, connection: Connection, floor_ms: int) -> None:
        """Within an open transaction: no raw sample at or before the floor will be left.

        Readers see roll-ups below it from now on, so that no answer falls into the gap.
        """
        rollup_table.write_raw_floor(connection, floor_ms)
        self.progress = replace(self.progress, raw_floor_ms=floor_ms)

    def keep_floor(self, floor_ms: int) -> None:
        """The transaction failed: the raw samples are still there."""
        self.progress = replace(self.progress, raw_floor_ms=floor_ms)

    def note_deletion(self) -> None:
        """What is being made of samples that were read before now is thrown away."""
        self._deletions += 1

    def delete(self, connection: Connection, start_ms: int, end_ms: int) -> int:
        """Within an open transaction, for the series in `chosen`: what lies in the range.

        A bucket that still has its raw samples is made again of what is left of them; one that
        has not goes as a whole, for it tells of the range.
        """
        self.note_deletion()
        first, last = rollup_table.bucket_of(start_ms), rollup_table.bucket_of(end_ms)
        floor_ms = self.progress.raw_floor_ms
        connection.execute(
            "INSERT INTO rollups_late SELECT series, bucket FROM rollups WHERE bucket BETWEEN ?"
            " AND ? AND bucket > ? AND series IN (SELECT series FROM chosen)",
            [first, last, floor_ms],
        )
        gone = schema.scalar(
            connection,
            "DELETE FROM rollups WHERE bucket BETWEEN ? AND ?"
            " AND series IN (SELECT series FROM chosen)",
            [first, last],
        )
        return gone or 0

    # -- reading -------------------------------------------------------------

    def rollup_span(self) -> RollupSpan:
        progress = self.progress
        # The tail before the table: what moves in between is found in one of the two.
        found = [self._late_ahead(progress), self._number(_OLDEST_LATE, [progress.raw_floor_ms])]
        late = [bucket - ROLLUP_MS for bucket in found if bucket is not None]
        return RollupSpan(min([progress.done_ms, *late]), progress.raw_floor_ms)

    def _late_ahead(self, progress: Progress) -> int | None:
        """The first bucket that lacks a sample which is durable but not in the database yet."""
        oldest: list[int] = []
        for ahead in self._tail.samples():
            if ahead.oldest_ms > progress.claimed_ms:
                continue
            ts_ms = ahead.columns.ts_ms
            late = ts_ms[(ts_ms <= progress.claimed_ms) & (ts_ms > progress.raw_floor_ms)]
            if len(late):
                oldest.append(int(late.min()))
        return rollup_table.bucket_of(min(oldest)) if oldest else None

    def rollups(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        columns: Sequence[str],
        max_samples: int,
    ) -> RollupSet:
        """Buckets with `start_ms < bucket <= end_ms`."""
        ids = self._index.select(matchers)
        if not len(ids) or start_ms >= end_ms:
            return RollupSet((), np.zeros(1, np.int64), np.empty(0, np.int64), {})
        table = self._fetch(ids, (start_ms, end_ms), columns, max_samples)
        offsets, order = _grouped(ids, table)
        present = np.flatnonzero(np.diff(offsets))
        series = self._index.labels_of(ids[present].tolist())
        if len(series) != len(present):  # retention removed one just now: it is asked for anew
            return self.rollups(
                matchers, start_ms, end_ms, columns=columns, max_samples=max_samples
            )
        return RollupSet(
            tuple(series),
            np.append(offsets[present], offsets[-1]),
            table.column("bucket").to_numpy()[order],
            {name: table.column(name).to_numpy()[order] for name in columns},
        )

    def _fetch(
        self, ids: Int32Array, edges_ms: tuple[int, int], columns: Sequence[str], most: int
    ) -> pa.Table:
        wanted = ", ".join(name for name in columns if name in _COLUMNS)
        query = (
            f"SELECT series, bucket, {wanted} FROM rollups"  # noqa: S608  # names of our own
            " WHERE bucket > ? AND bucket <= ? AND series BETWEEN ? AND ?"
        )
        low, high = int(ids[0]), int(ids[-1])
        whole = high - low + 1 == len(ids)
        params = [*edges_ms, low, high, most + 1]
        with self._database.reader() as cursor:
            if whole:
                table = arrow(cursor, query + " LIMIT ?", params)
            else:
                cursor.register("chosen", pa.table({"series": ids}))
                try:
                    table = arrow(cursor, query + " AND series IN (FROM chosen) LIMIT ?", params)
                finally:
                    cursor.unregister("chosen")
        if table.num_rows > most:
            raise QueryError(
                "query processing would load too many samples into memory in query execution",
                kind="execution",
                hint=f"more than {most} roll-ups; ask for a shorter range or fewer series",
            )
        return table

    def select(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, max_samples: int
    ) -> SeriesSet:
        """One sample a bucket, its last, where the raw samples are gone."""
        names = ("last", "last_at", "count", "stale_at")
        found = self.rollups(
            matchers,
            start_ms - 1,
            rollup_table.bucket_of(end_ms),
            columns=names,
            max_samples=max_samples,
        )
        if not found.series:
            return SeriesSet((), found.offsets, found.bucket_ms, np.empty(0))
        columns = found.columns
        whole = np.stack([found.bucket_ms, *(columns[name].astype(np.int64) for name in names[1:])])
        offsets, ts, bits = rollup_kernels.last_of_buckets(
            found.offsets, whole, columns["last"], (start_ms, end_ms)
        )
        return SeriesSet(found.series, offsets, ts, bits.view(np.float64))

    def times(self) -> tuple[Int32Array, Int64Array, Int64Array]:
        """Of each series with roll-ups: its id, and the first and the last time that they tell."""
        table = self._database.table(
            "SELECT series, min(bucket) - ? AS a, max(bucket) AS b FROM rollups GROUP BY series",
            [ROLLUP_MS],
        )
        return (
            table.column("series").to_numpy().astype(np.int32),
            table.column("a").to_numpy().astype(np.int64),
            table.column("b").to_numpy().astype(np.int64),
        )


def _grouped(ids: Int32Array, table: pa.Table) -> tuple[Int64Array, npt.NDArray[np.int64]]:
    first = int(ids[0])
    slot_of = np.full(int(ids[-1]) - first + 1, -1, dtype=np.int32)
    slot_of[ids - first] = np.arange(len(ids), dtype=np.int32)
    offsets, order = rollup_kernels.order_by_slot(
        table.column("series").to_numpy().astype(np.int32, copy=False),
        table.column("bucket").to_numpy().astype(np.int64, copy=False),
        slot_of,
        first,
        len(ids),
    )
    return offsets, order


def joined(coarse: SeriesSet, raw: SeriesSet) -> SeriesSet:
    """The older samples before the newer, series by series."""
    if not coarse.series:
        return raw
    if not raw.series:
        return coarse
    places = {labels: slot for slot, labels in enumerate(coarse.series)}
    for labels in raw.series:
        places.setdefault(labels, len(places))
    slots = len(places)
    old = (_by_slot(coarse, places, slots), coarse.ts_ms, coarse.values.view(np.int64))
    # Raw series come in an order of their own: rows are brought into slot order first.
    order = sorted(range(len(raw.series)), key=lambda row: places[raw.series[row]])
    pieces = [np.arange(raw.offsets[row], raw.offsets[row + 1]) for row in order]
    rows = np.concatenate(pieces)
    new = (
        _by_slot(raw, places, slots),
        np.ascontiguousarray(raw.ts_ms[rows]),
        np.ascontiguousarray(raw.values[rows]).view(np.int64),
    )
    offsets, ts, bits = kernels.join_slots(old, new, slots)
    values = bits.view(np.float64)
    if raw.histograms is None:
        return SeriesSet(tuple(places), offsets, ts, values)
    from_raw = (*new[:2], rows.astype(np.int64))
    _, _, source = kernels.join_slots((*old[:2], np.full(len(old[1]), -1)), from_raw, slots)
    histograms = raw.histograms[source]
    histograms[source < 0] = None
    return SeriesSet(tuple(places), offsets, ts, values, histograms)


def _by_slot(found: SeriesSet, places: dict[Any, int], slots: int) -> Int64Array:
    counts = np.zeros(slots + 1, dtype=np.int64)
    slot_of = np.fromiter((places[labels] for labels in found.series), np.int64)
    counts[slot_of + 1] = np.diff(found.offsets)
    offsets: Int64Array = np.cumsum(counts, dtype=np.int64)
    return offsets
