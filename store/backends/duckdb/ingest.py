"""One round of batches as one transaction: what is written, and what memory learns afterwards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from store.backends.duckdb import kernels, samples, schema, spans
from store.backends.duckdb.database import Connection, Database
from store.backends.duckdb.events import EventWriter
from store.backends.duckdb.head import Columns, Head
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.series_index import SeriesIndex
from store.errors import LimitExceeded
from store.model import (
    Batch,
    EventBatch,
    Exemplar,
    Int32Array,
    Int64Array,
    Labels,
    MetricMetadata,
    MetricType,
    SampleBatch,
    SpanBatch,
)

NEVER_MS = 2**62


@dataclass(slots=True)
class _Round:
    """What memory has to learn when the transaction is durable."""

    fresh: dict[Labels, int] = field(default_factory=dict)
    columns: Columns | None = None
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    spans: int = 0
    events: int = 0


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
        known = ids[ids < len(first_ms)]
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
        self.times = SeriesTimes()
        self.spans = spans.SpanStore(database)
        self.metadata: dict[str, MetricMetadata] = {}
        self.next_span_seq = 1
        self.next_event_seq = 1
        self.rows_written = {"samples": 0, "spans": 0, "events": 0}
        self._load()

    def _load(self) -> None:
        connection = self._database.writer
        self._load_series(connection)
        rows = connection.execute("SELECT family, type, help, unit FROM metadata").fetchall()
        for family, kind, text, unit in rows:
            self.metadata[family] = MetricMetadata(family, MetricType(kind), text, unit)
        self.next_span_seq = _next(connection, "SELECT max(seq) FROM spans", "next_span_seq")
        self.next_event_seq = _next(connection, "SELECT max(seq) FROM events", "next_event_seq")
        self.spans.last_seq = self.next_span_seq - 1
        self._events = EventWriter(connection)

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

    def apply(self, batches: Sequence[Batch]) -> None:
        """Commit the batches together; memory changes only once the commit is durable.

        Raises:
            LimitExceeded: They bring more new series than there may be.
            duckdb.Error: Nothing of them was written.
        """
        connection = self._database.writer
        connection.execute("BEGIN")
        try:
            done = self._write(connection, batches)
            connection.execute("COMMIT")
        except BaseException:
            rollback(connection)
            raise
        self._publish(done)

    def _write(self, connection: Connection, batches: Sequence[Batch]) -> _Round:
        done = _Round()
        of_samples = [batch for batch in batches if isinstance(batch, SampleBatch)]
        if of_samples:
            self._write_samples(connection, of_samples, done)
        tables = [batch.table for batch in batches if isinstance(batch, SpanBatch)]
        if tables:
            table = pa.concat_tables(tables)
            spans.insert(connection, table, self.next_span_seq)
            done.spans = table.num_rows
        tables = [batch.table for batch in batches if isinstance(batch, EventBatch)]
        if tables:
            merged = pa.concat_tables(tables)
            done.events = self._events.insert(connection, merged, self.next_event_seq)
        return done

    def _write_samples(
        self, connection: Connection, batches: Sequence[SampleBatch], done: _Round
    ) -> None:
        parts = [self._resolve(batch, done.fresh) for batch in batches]
        columns = Columns(
            np.concatenate(parts),
            np.concatenate([batch.ts_ms for batch in batches]),
            np.concatenate([batch.values for batch in batches]).view(np.int64),
        )
        exemplars = list(chain.from_iterable(batch.exemplars for batch in batches))
        for exemplar in exemplars:
            self._id_of(exemplar.series, done.fresh)
        if done.fresh:
            self._insert_series(connection, done.fresh)
        if len(columns):
            samples.insert(connection, columns)
            done.columns = columns
        if exemplars:
            self._insert_exemplars(connection, exemplars, done.fresh)
        for metadata in chain.from_iterable(batch.metadata for batch in batches):
            self._note_metadata(metadata, done.metadata)
        if done.metadata:
            _replace_metadata(connection, done.metadata)

    def _resolve(self, batch: SampleBatch, fresh: dict[Labels, int]) -> Int32Array:
        known = self._index.ids_of(batch.series)
        if known is not None:
            return known[batch.series_index]
        ids = np.fromiter(
            (self._id_of(labels, fresh) for labels in batch.series),
            dtype=np.int32,
            count=len(batch.series),
        )
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

    def _insert_series(self, connection: Connection, fresh: dict[Labels, int]) -> None:
        table = pa.table(
            {
                "id": np.fromiter(fresh.values(), dtype=np.int32, count=len(fresh)),
                "labels": [orjson.dumps(labels.to_dict()).decode() for labels in fresh],
            }
        )
        insert_table(connection, "INSERT INTO series SELECT id, labels FROM incoming", table)

    def _insert_exemplars(
        self, connection: Connection, exemplars: Sequence[Exemplar], fresh: dict[Labels, int]
    ) -> None:
        table = pa.table(
            {
                "series": [self._id_of(exemplar.series, fresh) for exemplar in exemplars],
                "ts": [exemplar.ts_ms for exemplar in exemplars],
                "value": pa.array([exemplar.value for exemplar in exemplars], pa.float64()),
                "labels": [orjson.dumps(e.labels.to_dict()).decode() for e in exemplars],
            }
        )
        statement = "INSERT INTO exemplars SELECT series, ts, value, labels FROM incoming"
        insert_table(connection, statement, table)

    def _note_metadata(self, found: MetricMetadata, changed: dict[str, MetricMetadata]) -> None:
        known = self.metadata.get(found.family)
        if known == found and found.family not in changed:
            return
        if known is None and len(self.metadata) + len(changed) >= self._limits.max_metadata:
            return
        changed[found.family] = found

    def _publish(self, done: _Round) -> None:
        if done.fresh:
            self.times.make_room(self._index.next_id + len(done.fresh))
            self._index.add([(place, labels) for labels, place in done.fresh.items()])
        self.metadata.update(done.metadata)
        self.next_span_seq += done.spans
        self.next_event_seq += done.events
        self.spans.last_seq = self.next_span_seq - 1
        self.rows_written["spans"] += done.spans
        self.rows_written["events"] += done.events
        if done.columns is not None:
            self.rows_written["samples"] += len(done.columns)
            self.times.widen(done.columns)
            self._head.push(done.columns)


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


def _replace_metadata(connection: Connection, changed: dict[str, MetricMetadata]) -> None:
    table = pa.table(
        {
            "family": list(changed),
            "type": [found.type.value for found in changed.values()],
            "help": [found.help for found in changed.values()],
            "unit": [found.unit for found in changed.values()],
        }
    )
    connection.execute(
        "DELETE FROM metadata WHERE family IN (SELECT unnest(?::VARCHAR[]))", [list(changed)]
    )
    statement = "INSERT INTO metadata SELECT family, type, help, unit FROM incoming"
    insert_table(connection, statement, table)


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
