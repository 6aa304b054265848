"""Business events: each (source, event id) once, over restarts too.

A Bloom filter of every stored key tells most new events apart without a look at the table.
What it may have seen is looked up exactly: first near in time, then in all of the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from store.backends.duckdb.bloom import Bloom
from store.backends.duckdb.database import Connection, Database
from store.backends.duckdb.spans import conform
from store.model import EVENT_READ_SCHEMA, EVENT_SCHEMA, Int64Array

_COLUMNS = ", ".join(f'"{name}"' for name in EVENT_READ_SCHEMA.names)
_INSERT = f"INSERT INTO events ({_COLUMNS}) SELECT {_COLUMNS} FROM incoming_events"  # noqa: S608
_BETWEEN = f"SELECT {_COLUMNS} FROM events WHERE ts_ms >= ? AND ts_ms < ?"  # noqa: S608
_ORDER = " ORDER BY ts_ms, seq"
_AFTER = f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
_STORED_HASHES = "SELECT hash(source, event_id)::UBIGINT AS key FROM events"
_FIRST_OF_EACH = """
    SELECT place, hash(source, event_id)::UBIGINT AS key FROM incoming_events
    QUALIFY row_number() OVER (PARTITION BY source, event_id ORDER BY place) = 1 ORDER BY place"""
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


class EventWriter:
    """Inserts what is new. Belongs to the writing thread."""

    def __init__(self, connection: Connection) -> None:
        self._seen = Bloom()
        reader = connection.sql(_STORED_HASHES).to_arrow_reader(100_000)
        for batch in reader:
            self._seen.add(batch.column(0).to_numpy())

    def insert(self, connection: Connection, table: pa.Table, first_seq: int) -> int:
        """Insert within the open transaction; returns how many events were new."""
        places = pa.array(np.arange(table.num_rows, dtype=np.int64))
        numbered = table.append_column("place", places)
        fresh, keys = self._first_of_each(connection, numbered)
        maybe = fresh[self._seen.may_hold(keys)]
        if len(maybe):
            known = _known(connection, numbered.take(maybe))
            is_new = ~np.isin(fresh, known)
            fresh, keys = fresh[is_new], keys[is_new]
        if len(fresh):
            seq = np.arange(first_seq, first_seq + len(fresh), dtype=np.int64)
            rows = table.take(fresh).append_column("seq", pa.array(seq))
            _with_incoming(connection, rows, _INSERT)
            # A key of a transaction that then fails only costs one exact look-up later.
            self._seen.add(keys)
        return len(fresh)

    def _first_of_each(
        self, connection: Connection, numbered: pa.Table
    ) -> tuple[Int64Array, np.ndarray[tuple[int], np.dtype[np.uint64]]]:
        keys = numbered.select(["place", "source", "event_id"])
        connection.register("incoming_events", keys)
        try:
            found = connection.sql(_FIRST_OF_EACH).to_arrow_table()
        finally:
            connection.unregister("incoming_events")
        return found.column("place").to_numpy(), found.column("key").to_numpy()


def _with_incoming(connection: Connection, rows: pa.Table, statement: str) -> None:
    connection.register("incoming_events", rows)
    try:
        connection.execute(statement)
    finally:
        connection.unregister("incoming_events")


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
    """Implements `EventReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(self, start_ms: int, end_ms: int, types: Sequence[str]) -> pa.Table:
        if types:
            query = _BETWEEN + " AND type IN (SELECT unnest(?::VARCHAR[]))" + _ORDER
            table = self._database.table(query, [start_ms, end_ms, list(types)])
        else:
            table = self._database.table(_BETWEEN + _ORDER, [start_ms, end_ms])
        return table.cast(EVENT_READ_SCHEMA)

    def events_after(self, seq: int, limit: int) -> pa.Table:
        return self._database.table(_AFTER, [seq, limit]).cast(EVENT_READ_SCHEMA)
