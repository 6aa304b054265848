"""One round of batches: what goes into the log, and what memory learns once it is durable."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from store.backends.duckdb import histograms, kernels, schema, spans
from store.backends.duckdb.append_log import AppendLog, MemoryLog
from store.backends.duckdb.database import Connection, Database
from store.backends.duckdb.events import NewEvents
from store.backends.duckdb.head import Columns, Head
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.rounds import Room, Round, encode, last_seq, numbered
from store.backends.duckdb.series_index import NO_ID, SeriesIndex
from store.backends.duckdb.tail import Tail
from store.changes import ChangeLog
from store.errors import LimitExceeded
from store.model import (
    Batch,
    EventBatch,
    Int32Array,
    Int64Array,
    Labels,
    LogBatch,
    MetricMetadata,
    MetricType,
    SampleBatch,
    SpanBatch,
)

NEVER_MS = 2**62


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch in canonical form, with the ids of its series where all of them have one."""

    batch: Batch
    ids: Int32Array | None = None


class SeriesTimes:
    """First and last sample time of each series, by id. Grown by the writer, read by anyone."""

    def __init__(self) -> None:
        self.first_ms: Int64Array = np.full(1024, NEVER_MS, dtype=np.int64)
        self.last_ms: Int64Array = np.full(1024, -NEVER_MS, dtype=np.int64)

    def make_room(self, series: int) -> None:
        if series > len(self.first_ms):
            more = max(series, 2 * len(self.first_ms)) - len(self.first_ms)
            self.first_ms = np.append(self.first_ms, np.full(more, NEVER_MS))
            self.last_ms = np.append(self.last_ms, np.full(more, -NEVER_MS))

    def widen(self, columns: Columns) -> None:
        kernels.widen_ranges(columns.series, columns.ts_ms, self.first_ms, self.last_ms)

    def span(self) -> tuple[int | None, int | None]:
        """The oldest and the newest sample of all."""
        oldest, newest = int(self.first_ms.min()), int(self.last_ms.max())
        return (oldest, newest) if oldest != NEVER_MS else (None, None)

    def overlapping(self, ids: Int32Array, start_ms: int, end_ms: int) -> Int32Array:
        """Those whose samples reach into the range."""
        first_ms, last_ms = self.first_ms, self.last_ms
        known = ids[ids < min(len(first_ms), len(last_ms))]  # one may have grown before the other
        return known[(first_ms[known] <= end_ms) & (last_ms[known] >= start_ms)]


class Ingest:
    """Applies rounds of batches. Belongs to the writing thread, but for what it publishes."""

    def __init__(
        self, database: Database, index: SeriesIndex, head: Head, limits: StoreLimits
    ) -> None:
        self._database = database
        self._index = index
        self._head = head
        self._limits = limits
        self.log: AppendLog = MemoryLog()
        self.tail = Tail()
        self._room = Room()
        self.times = SeriesTimes()
        self.changes = ChangeLog()
        self.spans = spans.SpanStore(database, self.tail)
        self.metadata: dict[str, MetricMetadata] = {}
        self.next_span_seq = 1
        self.next_event_seq = 1
        self.next_log_seq = 1
        self.histogram_series: set[int] = set()
        self.rows_written = {"samples": 0, "spans": 0, "events": 0, "logs": 0}
        self._load()

    def _load(self) -> None:
        connection = self._database.writer
        self._load_series(connection)
        rows = connection.execute("SELECT family, type, help, unit FROM metadata").fetchall()
        for family, kind, text, unit in rows:
            self.metadata[family] = MetricMetadata(family, MetricType(kind), text, unit)
        self.next_span_seq = _next(connection, "SELECT max(seq) FROM spans", "next_span_seq")
        self.next_event_seq = _next(connection, "SELECT max(seq) FROM events", "next_event_seq")
        self.next_log_seq = _next(connection, "SELECT max(seq) FROM logs", "next_log_seq")
        self.spans.last_seq = self.next_span_seq - 1
        self.histogram_series |= histograms.series_of(connection)
        self.learn_events()

    def learn_events(self) -> None:
        """Take the keys of the stored events in."""
        self._new_events = NewEvents(self._database, self.tail)

    def _load_series(self, connection: Connection) -> None:
        table = connection.sql("SELECT id, labels FROM series ORDER BY id").to_arrow_table()
        for batch in table.to_batches(max_chunksize=10_000):
            pairs = zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
            self._index.add([(place, _labels_of_json(labels)) for place, labels in pairs if labels])
        self._index.skip_to(_next(connection, "SELECT max(id) FROM series", "next_series_id", 0))
        ranges = connection.sql(
            "SELECT series, min(ts) AS a, max(ts) AS b FROM samples GROUP BY series"
        ).to_arrow_table()
        self.times.make_room(self._index.next_id)
        ids = ranges.column("series").to_numpy()
        self.times.first_ms[ids] = ranges.column("a").to_numpy()
        self.times.last_ms[ids] = ranges.column("b").to_numpy()

    def apply(self, entries: Sequence[Entry]) -> None:
        """Write the batches to the log together; memory changes only once they are durable.

        Raises:
            LimitExceeded: They bring more new series than there may be.
            StoreUnavailable: Nothing of them was written.
        """
        done = self._round(entries)
        if done.is_empty():
            return
        self._room.clear()
        number = self.log.append(encode(done, self._room) if self.log.keeps else ())
        self.publish(number, done)
        self._count(done)

    def _round(self, entries: Sequence[Entry]) -> Round:
        done = Round()
        of_samples = [entry for entry in entries if isinstance(entry.batch, SampleBatch)]
        if of_samples:
            self._take_samples(of_samples, done)
        if tables := _tables(entries, SpanBatch):
            # One chunk: its dictionaries are then written, looked at and joined once, not for each.
            whole = _joined(tables).combine_chunks()
            done.spans = numbered(whole, self.next_span_seq)
        if tables := _tables(entries, EventBatch):
            done.events = self._new_events.among(_joined(tables), self.next_event_seq)
        if tables := _tables(entries, LogBatch):
            done.logs = numbered(_joined(tables), self.next_log_seq)
        return done

    def _take_samples(self, entries: Sequence[Entry], done: Round) -> None:
        batches = [entry.batch for entry in entries if isinstance(entry.batch, SampleBatch)]
        parts = [
            self._resolve(batch, entry.ids, done.fresh)
            for entry, batch in zip(entries, batches, strict=True)
        ]
        if any(map(len, parts)):
            done.columns = Columns(
                _chained(parts),
                _chained([batch.ts_ms for batch in batches]),
                _chained([batch.values for batch in batches]).view(np.int64),
            )
        for batch, ids in zip(batches, parts, strict=True):
            done.histograms += histograms.rows(batch, ids)
            for exemplar in batch.exemplars:
                done.exemplars.append((self._id_of(exemplar.series, done.fresh), exemplar))
            for metadata in batch.metadata:
                self._note_metadata(metadata, done.metadata)

    def _resolve(
        self, batch: SampleBatch, ids: Int32Array | None, fresh: dict[Labels, int]
    ) -> Int32Array:
        if ids is None:
            ids = self._index.ids_of_batch(batch)
            missing = np.flatnonzero(ids == NO_ID).tolist()
            if missing:
                ids = ids.copy()
                for place in missing:
                    ids[place] = self._id_of(batch.series[place], fresh)
        return ids[batch.series_index]

    def _id_of(self, labels: Labels, fresh: dict[Labels, int]) -> int:
        place = self._index.id_of(labels)
        if place is None:
            place = fresh.get(labels)
        if place is None:
            if len(self._index) + len(fresh) >= self._limits.max_series:
                raise too_many_series(self._limits.max_series)
            place = fresh[labels] = self._index.next_id + len(fresh)
        return place

    def _note_metadata(self, found: MetricMetadata, changed: dict[str, MetricMetadata]) -> None:
        known = self.metadata.get(found.family)
        if known == found and found.family not in changed:
            return
        if known is None and len(self.metadata) + len(changed) >= self._limits.max_metadata:
            return
        changed[found.family] = found

    def publish(self, number: int, done: Round) -> None:
        """Make a round visible that is durable."""
        if done.fresh:
            self._index.add([(place, labels) for labels, place in done.fresh.items()])
        self.times.make_room(self._index.next_id)
        self.metadata.update(done.metadata)
        if done.columns is not None:
            self.times.widen(done.columns)
        self.tail.add(number, done)
        if done.columns is not None:
            self._head.push(done.columns)
        self.histogram_series.update(place for place, _, _ in done.histograms)
        if done.spans is not None:
            self.next_span_seq = last_seq(done.spans) + 1
            self.spans.last_seq = self.next_span_seq - 1
        if done.events is not None:
            self.next_event_seq = last_seq(done.events) + 1
        if done.logs is not None:
            self.next_log_seq = last_seq(done.logs) + 1
        if done.columns is not None:  # once readers see them, before they are acknowledged
            self.changes.note(done.columns.ts_ms)

    def _count(self, done: Round) -> None:
        for name, rows in (
            ("samples", done.columns),
            ("spans", done.spans),
            ("events", done.events),
            ("logs", done.logs),
        ):
            if rows is not None:
                self.rows_written[name] += len(rows)


def _tables(
    entries: Sequence[Entry], kind: type[SpanBatch | EventBatch | LogBatch]
) -> list[pa.Table]:
    """Tables of one kind, but for those without rows."""
    batches = [entry.batch for entry in entries if isinstance(entry.batch, kind)]
    return [batch.table for batch in batches if len(batch)]


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables)


def _chained(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _labels_of_json(text: str) -> Labels:
    pairs = orjson.loads(text).items()
    return Labels((sys.intern(name), sys.intern(value)) for name, value in pairs)


def insert_table(connection: Connection, statement: str, table: pa.Table) -> None:
    """Run an INSERT that selects from `incoming`."""
    connection.register("incoming", table)
    try:
        connection.execute(statement)
    finally:
        connection.unregister("incoming")


def _next(connection: Connection, query: str, key: str, least: int = 1) -> int:
    highest = schema.scalar(connection, query)
    after = least if highest is None else highest + 1
    return max(least, after, schema.read_meta(connection, key))


def rollback(connection: Connection) -> None:
    """Undo the open transaction, if there still is one."""
    with suppress(duckdb.Error):
        connection.rollback()


def too_many_series(most: int) -> LimitExceeded:
    """The store is full of series."""
    return LimitExceeded(
        f"the store holds {most} series, as many as it may",
        reason="max_series",
        hint="drop labels with many values at the source, or raise the store's max_series",
    )
