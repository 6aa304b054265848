"""Which series, labels, families and exemplars exist."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pyarrow as pa

from store.backends.duckdb.database import Database
from store.backends.duckdb.ingest import Ingest
from store.backends.duckdb.series_index import SeriesIndex
from store.model import Exemplar, Int32Array, Labels, Matcher, MetricMetadata

_MOST_EXEMPLARS = 10_000
_EXEMPLARS = """
    SELECT series, ts, value, labels FROM exemplars
    WHERE ts BETWEEN ? AND ? AND series IN (SELECT series FROM chosen) ORDER BY ts LIMIT ?"""
_ROW_COUNTS = "SELECT table_name, estimated_size FROM duckdb_tables()"


class Catalog:
    """Implements `SeriesCatalog`, `MetadataReader` and `ExemplarReader`.

    A series is in a range when the range meets the time from its first to its last sample.
    """

    def __init__(self, database: Database, index: SeriesIndex, ingest: Ingest) -> None:
        self._database = database
        self._index = index
        self._ingest = ingest

    def _ids(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Int32Array:
        return self._ingest.times.overlapping(self._index.select(matchers), start_ms, end_ms)

    def series(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, limit: int
    ) -> list[Labels]:
        ids = self._ids(matchers, start_ms, end_ms)
        return sorted(self._index.labels_of(_first(ids, limit).tolist()))

    def label_names(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, limit: int
    ) -> list[str]:
        names = self._index.names_of(self._ids(matchers, start_ms, end_ms))
        return names[:limit] if limit else names

    def label_values(
        self,
        name_and_matchers: tuple[str, Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        limit: int,
    ) -> list[str]:
        name, matchers = name_and_matchers
        values = self._index.values_of(name, self._ids(matchers, start_ms, end_ms))
        return values[:limit] if limit else values

    def metadata(self, family: str | None) -> list[MetricMetadata]:
        known = self._ingest.metadata
        if family is not None:
            return [known[family]] if family in known else []
        return [found for _, found in sorted(known.copy().items())]

    def exemplars(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[Exemplar]:
        ids = self._index.select(matchers)
        chosen = set(ids.tolist())
        ahead = [
            found
            for place, found in self._ingest.tail.exemplars()
            if place in chosen and start_ms <= found.ts_ms <= end_ms
        ]
        with self._database.reader() as cursor:
            cursor.register("chosen", pa.table({"series": ids}))
            try:
                params = [start_ms, end_ms, _MOST_EXEMPLARS]
                rows = cursor.sql(_EXEMPLARS, params=params).fetchall()
            finally:
                cursor.unregister("chosen")
        stored = [
            Exemplar(series, Labels(orjson.loads(labels).items()), ts_ms, value)
            for place, ts_ms, value, labels in rows
            for series in self._index.labels_of([place])
        ]
        if not ahead:
            return stored
        # One that came into the database since is in both.
        both = list(dict.fromkeys([*stored, *ahead]))
        return sorted(both, key=lambda found: found.ts_ms)[:_MOST_EXEMPLARS]

    def row_counts(self) -> dict[str, int]:
        """DuckDB's own estimate of each table's rows."""
        table = self._database.table(_ROW_COUNTS)
        return {str(row["table_name"]): int(row["estimated_size"]) for row in table.to_pylist()}


def _first(ids: Int32Array, limit: int) -> Int32Array:
    return ids[:limit] if limit else ids
