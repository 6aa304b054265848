"""Business events: each (source, event id) once, over restarts too.

A Bloom filter of every stored key tells most new events apart without a look at the table.
What it may have seen is looked up exactly: first near in time, then in all of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.backends.duckdb.bloom import Bloom
from store.backends.duckdb.database import Connection, Database
from store.backends.duckdb.rounds import numbered
from store.backends.duckdb.spans import conform
from store.backends.duckdb.tail import Tail, keys_of, rows_after, without_repeats
from store.model import EVENT_READ_SCHEMA, EVENT_SCHEMA, Int64Array

_COLUMNS = ", ".join(f'"{name}"' for name in EVENT_READ_SCHEMA.names)
_BETWEEN = " FROM events WHERE ts_ms >= ? AND ts_ms < ?"
_ORDER = " ORDER BY ts_ms, seq"
_AFTER = f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_STORED_HASHES = "SELECT hash(source, event_id)::UBIGINT AS key FROM events"
_HASHES = "SELECT hash(source, event_id)::UBIGINT AS key FROM incoming_events"
_KNOWN_NEAR = """
    SELECT i.place FROM incoming_events i SEMI JOIN events e
    ON i.event_id = e.event_id AND i.source = e.source AND e.ts_ms BETWEEN ? AND ?"""
_KNOWN = """
    SELECT i.place FROM incoming_events i SEMI JOIN events e
    ON i.event_id = e.event_id AND i.source = e.source"""
_NEAR_MS = 3_600_000


def checked(table: pa.Table) -> pa.Table:
    """The table with exactly the columns of `EVENT_SCHEMA`.

    Raises:
        BadInput: A column is missing, of another type, or null where it must not be.
    """
    return conform(table, EVENT_SCHEMA)


class NewEvents:
    """Tells new events from repeated ones. Belongs to the writing thread."""

    def __init__(self, database: Database, tail: Tail) -> None:
        self._database = database
        self._tail = tail
        self._seen = Bloom()
        reader = database.writer.sql(_STORED_HASHES).to_arrow_reader(100_000)
        for batch in reader:
            self._seen.add(batch.column(0).to_numpy())

    def among(self, table: pa.Table, first_seq: int) -> pa.Table | None:
        """The rows that were never stored, with their `seq`; None when there is none.

        Looks at what is ahead of the database first: an event that moves there in between is
        found in one of the two.
        """
        fresh = self._not_ahead(table)
        if not fresh:
            return None
        if len(fresh) < table.num_rows:
            table = table.take(fresh)
        with self._database.reader_at_once() as cursor:
            new = self._not_stored(cursor, table)
        if not len(new):
            return None
        return numbered(table if len(new) == table.num_rows else table.take(new), first_seq)

    def _not_ahead(self, table: pa.Table) -> list[int]:
        """Places of the first of each key that is not ahead of the database."""
        ahead = self._tail.known_events()
        first: dict[tuple[str, str], int] = {}
        for place, key in enumerate(keys_of(table)):
            if not any(key in keys for keys in ahead):
                first.setdefault(key, place)
        return list(first.values())

    def _not_stored(self, cursor: Connection, table: pa.Table) -> Int64Array:
        places = np.arange(table.num_rows, dtype=np.int64)
        rows = table.select(["source", "event_id", "ts_ms"]).append_column(
            "place", pa.array(places)
        )
        cursor.register("incoming_events", rows)
        try:
            keys = cursor.sql(_HASHES).to_arrow_table().column("key").to_numpy()
        finally:
            cursor.unregister("incoming_events")
        maybe = places[self._seen.may_hold(keys)]
        if len(maybe):
            places = places[~np.isin(places, _known(cursor, rows.take(maybe)))]
        # A key of a round that then fails only costs one exact look-up later.
        self._seen.add(keys[places])
        return places


def _known(connection: Connection, rows: pa.Table) -> Int64Array:
    """Places of the rows whose key is stored already."""
    times = rows.column("ts_ms").to_numpy()
    span = [int(times.min()) - _NEAR_MS, int(times.max()) + _NEAR_MS]
    near = _matches(connection, rows, _KNOWN_NEAR, span)
    left = rows.filter(pa.array(~np.isin(rows.column("place").to_numpy(), near)))
    if not left.num_rows:
        return near
    return np.concatenate([near, _matches(connection, left, _KNOWN, [])])


def _matches(
    connection: Connection, rows: pa.Table, statement: str, params: list[int]
) -> Int64Array:
    connection.register("incoming_events", rows.select(["place", "source", "event_id"]))
    try:
        found = connection.sql(statement, params=params).to_arrow_table()
    finally:
        connection.unregister("incoming_events")
    places: Int64Array = found.column("place").to_numpy()
    return places


class EventReaderOfTable:
    """Implements `EventReader` over the table and what is ahead of it."""

    def __init__(self, database: Database, tail: Tail) -> None:
        self._database = database
        self._tail = tail

    def events(
        self, start_ms: int, end_ms: int, types: Sequence[str], columns: Sequence[str] = ()
    ) -> pa.Table:
        """All columns in the order of time, or some columns in no order: much cheaper."""
        ahead = _chosen(self._tail.events(), start_ms, end_ms, types)
        names = list(dict.fromkeys((*columns, "seq"))) if columns else EVENT_READ_SCHEMA.names
        schema = pa.schema([EVENT_READ_SCHEMA.field(name) for name in names])
        query, params = _query(schema.names, start_ms, end_ms, types)
        table = self._database.table(query if columns else query + _ORDER, params).cast(schema)
        if ahead:
            table = without_repeats(table, pa.concat_tables(ahead).select(schema.names))
            if not columns:
                table = table.sort_by([("ts_ms", "ascending"), ("seq", "ascending")])
        return table.select(list(columns)) if columns else table

    def events_after(self, seq: int, limit: int) -> pa.Table:
        return rows_after(self._database, self._tail.events(), _AFTER, seq, limit).cast(
            EVENT_READ_SCHEMA
        )


def _query(
    names: Sequence[str], start_ms: int, end_ms: int, types: Sequence[str]
) -> tuple[str, list[Any]]:
    """The statement that reads columns of the schema, and its parameters."""
    query = "SELECT " + ", ".join(f'"{name}"' for name in names) + _BETWEEN
    if not types:
        return query, [start_ms, end_ms]
    chosen = " AND type IN (SELECT unnest(?::VARCHAR[]))"
    return query + chosen, [start_ms, end_ms, list(types)]


def _chosen(
    tables: list[pa.Table], start_ms: int, end_ms: int, types: Sequence[str]
) -> list[pa.Table]:
    if not tables:
        return []
    table = pa.concat_tables(tables)
    found = table.filter((pc.field("ts_ms") >= start_ms) & (pc.field("ts_ms") < end_ms))
    if types:
        found = found.filter(pc.field("type").isin(list(types)))
    return [found] if found.num_rows else []
