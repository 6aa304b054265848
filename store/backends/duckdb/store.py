"""The DuckDB store: every port of `store.ports` over one file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pyarrow as pa
from typing_extensions import override

from store.backends.duckdb import retention
from store.backends.duckdb.admission import Admission
from store.backends.duckdb.catalog import Catalog
from store.backends.duckdb.database import Database, DirectoryLock
from store.backends.duckdb.events import EventReaderOfTable
from store.backends.duckdb.head import Head
from store.backends.duckdb.histograms import HistogramReader
from store.backends.duckdb.ingest import Ingest
from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.logs import LogReaderOfTable
from store.backends.duckdb.place import FILE_NAME, file_of, lock_of
from store.backends.duckdb.recovery import Recovery, open_loaded
from store.backends.duckdb.replay import Replayed, take_over_log
from store.backends.duckdb.rollups import joined
from store.backends.duckdb.samples import SampleReader
from store.backends.duckdb.series_index import SeriesIndex
from store.backends.duckdb.snapshot import copy_database
from store.backends.duckdb.writer import Writer
from store.changes import ChangeLog
from store.model import Batch, Exemplar, Labels, Matcher, MetricMetadata, SeriesSet
from store.ports import (
    Appender,
    EventReader,
    ExemplarReader,
    LogQuery,
    LogReader,
    MetadataReader,
    RequestReader,
    RollupReader,
    RollupSet,
    RollupSpan,
    SeriesAdmin,
    SeriesCatalog,
    SeriesReader,
    Snapshotter,
    SpaceReclaimer,
    SpanReader,
    TraceQuery,
    TsdbReader,
    TsdbStatus,
)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What `/metrics` and `status/tsdb` tell of the store.

    Counts of rows are estimates that DuckDB keeps; `*_written` count since the start.
    """

    series: int
    samples: int
    spans: int
    events: int
    logs: int
    samples_written: int
    spans_written: int
    events_written: int
    logs_written: int
    head_samples: int
    disk_bytes: int
    log_bytes: int
    queued_batches: int
    queued_bytes: int
    commits: int
    failed_commits: int
    last_commit_s: float
    last_checkpoint_s: float
    oldest_sample_ms: int | None
    newest_sample_ms: int | None
    error: str


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is loaded from the file: reading it shows whether the file is sound."""

    database: Database
    index: SeriesIndex
    head: Head
    ingest: Ingest
    upkeep: retention.Upkeep
    limits: StoreLimits
    replayed: Replayed


def _load(database: Database, limits: StoreLimits) -> _Parts:
    index = SeriesIndex()
    head = Head(limits)
    ingest = Ingest(database, index, head, limits)
    replayed = take_over_log(database, index, ingest, limits)
    upkeep = retention.Upkeep(database, index, ingest, head, limits)
    upkeep.place_head(database.writer)
    return _Parts(database, index, head, ingest, upkeep, limits, replayed)


class DuckDBStore(
    Appender,
    SeriesReader,
    SeriesCatalog,
    MetadataReader,
    ExemplarReader,
    SeriesAdmin,
    RollupReader,
    Snapshotter,
    SpaceReclaimer,
    TsdbReader,
    SpanReader,
    RequestReader,
    EventReader,
    LogReader,
):
    """Telemetry in one DuckDB file, or in memory. Safe to use from any thread.

    Attributes:
        recovery: What opening found.
    """

    def __init__(self, parts: _Parts, recovery: Recovery, lock: DirectoryLock | None) -> None:
        self.recovery = recovery
        self._lock = lock
        self._database = parts.database
        self._index = parts.index
        self._head = parts.head
        self._ingest = parts.ingest
        self._upkeep = parts.upkeep
        self._catalog = Catalog(parts.database, parts.index, parts.ingest)
        self._samples = SampleReader(parts.database, parts.index, parts.head, parts.ingest.tail)
        self._histograms = HistogramReader(
            parts.database, parts.index.id_of, parts.ingest.tail.histograms
        )
        self._events = EventReaderOfTable(parts.database, parts.ingest.tail)
        self._logs = LogReaderOfTable(parts.database, parts.ingest.tail)
        admission = Admission(parts.index, parts.limits)
        self._writer = Writer(parts.database, parts.ingest, admission, parts.limits)
        self._writer.wants_upkeep = parts.head.misses
        self._writer.upkeep = parts.upkeep.place_head
        self._writer.start()

    @classmethod
    def open(cls, path: Path | None, *, limits: StoreLimits | None = None) -> Self:
        """Open or make a store.

        Args:
            path: A directory (the file is `telemetry.duckdb` in it), a `*.duckdb` file, or
                None for a store in memory.
            limits: Its bounds.

        Raises:
            StoreUnavailable: Another process has it, or the directory cannot be written.
        """
        bounds = limits or StoreLimits()
        file = file_of(path) if path is not None else None
        lock = DirectoryLock(lock_of(file)) if file is not None else None
        try:
            parts, recovery = open_loaded(file, bounds, lambda db: _load(db, bounds))
            return cls(parts, recovery, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """Write what waits, fold the log into the file, and let go of it."""
        self._writer.close()
        self._database.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def changes(self) -> ChangeLog:
        """Which times' samples were written or deleted, for caches of answers."""
        return self._ingest.changes

    @override
    def append(self, batch: Batch) -> Future[None]:
        return self._writer.append(batch)

    @override
    def select(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        max_samples: int = 50_000_000,
    ) -> SeriesSet:
        """Raw samples; where those are gone, the last sample of each five minutes."""
        while True:
            floor_ms = self._upkeep.rollups.progress.raw_floor_ms
            raw_ms = max(start_ms, floor_ms + 1) if floor_ms else start_ms
            raw = self._raw(matchers, raw_ms, end_ms, max_samples)
            # Retention raises the floor before rows go: a floor that stands saw none of them go.
            if floor_ms == self._upkeep.rollups.progress.raw_floor_ms:
                break
        if not floor_ms or start_ms > floor_ms:
            return raw
        left = max_samples - len(raw.ts_ms)
        until_ms = min(end_ms, floor_ms)
        return joined(self._upkeep.rollups.select(matchers, start_ms, until_ms, left), raw)

    def _raw(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, most: int) -> SeriesSet:
        raw = self._samples.select(matchers, start_ms, end_ms, max_samples=most)
        return self._histograms.filled(raw) if self._ingest.histogram_series else raw

    @override
    def raw_after_ms(self) -> int:
        return self._upkeep.rollups.progress.raw_floor_ms

    @override
    def rollup_span(self) -> RollupSpan:
        return self._upkeep.rollups.rollup_span()

    @override
    def rollups(
        self,
        matchers: Sequence[Matcher],
        start_ms: int,
        end_ms: int,
        *,
        columns: Sequence[str],
        max_samples: int = 50_000_000,
    ) -> RollupSet:
        found = self._upkeep.rollups.rollups(
            matchers, start_ms, end_ms, columns=columns, max_samples=max_samples
        )
        native = self._ingest.histogram_series
        if native and not native.isdisjoint(self._index.select(matchers).tolist()):
            return replace(found, complete=False)
        return found

    @override
    def series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[Labels]:
        return self._catalog.series(matchers, start_ms, end_ms, limit)

    @override
    def label_names(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]:
        return self._catalog.label_names(matchers, start_ms, end_ms, limit)

    @override
    def label_values(
        self, name: str, matchers: Sequence[Matcher], start_ms: int, end_ms: int, *, limit: int = 0
    ) -> list[str]:
        return self._catalog.label_values((name, matchers), start_ms, end_ms, limit)

    def cardinality(self, limit: int = 10) -> dict[str, list[tuple[str, int]]]:
        """The largest metrics, labels and label pairs, for `status/tsdb`."""
        return self._index.cardinality(limit)

    @override
    def tsdb_status(self, limit: int) -> TsdbStatus:
        found = self.cardinality(limit)
        oldest_ms, newest_ms = self._ingest.times.span()
        return TsdbStatus(
            series=len(self._index),
            label_pairs=self._index.label_pairs(),
            chunks=self._head.blocks,
            oldest_ms=oldest_ms,
            newest_ms=newest_ms,
            by_metric=found["seriesCountByMetricName"],
            values_by_label=found["labelValueCountByLabelName"],
            bytes_by_label=found["memoryInBytesByLabelName"],
            by_pair=found["seriesCountByLabelValuePair"],
        )

    @override
    def metadata(self, family: str | None = None) -> list[MetricMetadata]:
        return self._catalog.metadata(family)

    @override
    def exemplars(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[Exemplar]:
        return self._catalog.exemplars(matchers, start_ms, end_ms)

    @override
    def delete_series(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> int:
        """Delete samples in the range; returns how many rows went."""
        ids = self._index.select(matchers)
        done = self._writer.run(
            lambda connection: self._upkeep.delete(connection, ids, start_ms, end_ms)
        )
        return int(done.result())

    def retain(
        self,
        now_ms: int,
        raw_ms: int,
        max_bytes: int = 0,
        *,
        events_ms: int | None = None,
        rollup_ms: int = 0,
    ) -> retention.Retained:
        """Roll up, delete what is older than its age, then the oldest until `max_bytes` holds.

        Business events are kept `events_ms` (`raw_ms` where it is not given), five-minute
        roll-ups `rollup_ms` (0: none are made). `max_bytes` 0 takes any size.

        Works in slices between the writer's rounds; call it from a worker thread.
        """
        kept_ms = raw_ms if events_ms is None else events_ms
        ages = retention.Ages(raw_ms, rollup_ms, kept_ms, max_bytes)
        return retention.retain(self._writer, self._upkeep, now_ms, ages)

    @override
    def reclaim(self) -> int:
        return int(self._writer.run(self._upkeep.fold).result())

    @override
    def snapshot(self, directory: Path) -> Path:
        return copy_database(self._writer, self._database, directory / FILE_NAME)

    @override
    def spans_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        return self._ingest.spans.spans_after(seq, limit=limit)

    @override
    def traces(self, trace_ids: Sequence[bytes]) -> pa.Table:
        return self._ingest.spans.traces(trace_ids)

    @override
    def find_traces(self, query: TraceQuery) -> list[bytes]:
        return self._ingest.spans.find_traces(query)

    @override
    def troubled_requests(self, start_ms: int, end_ms: int, slow_s: float) -> pa.Table:
        return self._ingest.spans.troubled_requests(start_ms, end_ms, slow_s)

    @override
    def services(self, *, kind: int | None = None) -> dict[str, list[str]]:
        return self._ingest.spans.services(kind)

    @override
    def events(
        self, start_ms: int, end_ms: int, *, types: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> pa.Table:
        return self._events.events(start_ms, end_ms, types, columns)

    @override
    def events_after(self, seq: int, *, limit: int = 100_000) -> pa.Table:
        return self._events.events_after(seq, limit)

    @override
    def logs(self, query: LogQuery) -> pa.Table:
        return self._logs.logs(query)

    def stats(self) -> StoreStats:
        """Counts, sizes and health, cheap enough for every scrape."""
        writer = self._writer.stats()
        rows = self._catalog.row_counts()
        ahead = self._ingest.tail.rows()
        log_bytes = self._database.wal_bytes() + self._ingest.log.bytes_used()
        oldest, newest = self._ingest.times.span()
        return StoreStats(
            series=len(self._index),
            samples=rows.get("samples", 0) + ahead["samples"],
            spans=rows.get("spans", 0) + ahead["spans"],
            events=rows.get("events", 0) + ahead["events"],
            logs=rows.get("logs", 0) + ahead["logs"],
            samples_written=self._ingest.rows_written["samples"],
            spans_written=self._ingest.rows_written["spans"],
            events_written=self._ingest.rows_written["events"],
            logs_written=self._ingest.rows_written["logs"],
            head_samples=self._head.rows,
            disk_bytes=self._database.disk_bytes() + self._ingest.log.bytes_used(),
            log_bytes=log_bytes,
            queued_batches=writer.queued_batches,
            queued_bytes=writer.queued_bytes,
            commits=writer.commits,
            failed_commits=writer.failed_commits,
            last_commit_s=writer.last_commit_s,
            last_checkpoint_s=writer.last_checkpoint_s,
            oldest_sample_ms=oldest,
            newest_sample_ms=newest,
            error=writer.error,
        )
