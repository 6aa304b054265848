"""The table of five-minute roll-ups, what is known of its progress, and buckets to roll again.

A bucket holds the samples of one series with `bucket - 300,000 < ts <= bucket`: left-open, as the
windows of PromQL are, so that a window whose edges are multiples of five minutes is made of whole
buckets. Offsets of time are milliseconds before the bucket's end.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from store.backends.duckdb import schema
from store.backends.duckdb.head import Columns
from store.ports import ROLLUP_MS

TABLES = (
    """CREATE TABLE IF NOT EXISTS rollups (
        series INTEGER NOT NULL, bucket BIGINT NOT NULL,
        first_at INTEGER NOT NULL, first DOUBLE NOT NULL,
        last_at INTEGER NOT NULL, last DOUBLE NOT NULL,
        low DOUBLE NOT NULL, high DOUBLE NOT NULL,
        total DOUBLE NOT NULL, rest DOUBLE NOT NULL,
        count INTEGER NOT NULL, resets DOUBLE NOT NULL, stale_at INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS rollups_late (series INTEGER NOT NULL, bucket BIGINT NOT NULL)",
)
_CLAIMED = "rollup_claimed_ms"
_DONE = "rollup_done_ms"
_FLOOR = "raw_floor_ms"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far roll-ups and retention have come; 0 is never.

    Attributes:
        claimed_ms: Buckets up to here are rolled or being rolled: a later write to one is late.
        done_ms: Buckets up to here are rolled.
        raw_floor_ms: No raw sample at or before this time is left; a multiple of five minutes.
    """

    claimed_ms: int = 0
    done_ms: int = 0
    raw_floor_ms: int = 0


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables that are missing."""
    for statement in TABLES:
        connection.execute(statement)


def read_progress(connection: duckdb.DuckDBPyConnection) -> Progress:
    """What the database has."""
    return Progress(*(schema.read_meta(connection, key) for key in (_CLAIMED, _DONE, _FLOOR)))


def write_claimed(connection: duckdb.DuckDBPyConnection, until_ms: int) -> None:
    """Store `Progress.claimed_ms`."""
    schema.write_meta(connection, _CLAIMED, until_ms)


def write_done(connection: duckdb.DuckDBPyConnection, until_ms: int) -> None:
    """Store `Progress.done_ms`."""
    schema.write_meta(connection, _DONE, until_ms)


def write_raw_floor(connection: duckdb.DuckDBPyConnection, floor_ms: int) -> None:
    """Store `Progress.raw_floor_ms`."""
    schema.write_meta(connection, _FLOOR, floor_ms)


def bucket_of(ts_ms: int) -> int:
    """The bucket that a time belongs to, named by its end."""
    return -(-ts_ms // ROLLUP_MS) * ROLLUP_MS


def note_late(connection: duckdb.DuckDBPyConnection, columns: Columns) -> None:
    """Note buckets that were rolled before these rows came.

    Belongs into the transaction that inserts the rows: both are durable, or neither.
    """
    claimed_ms = schema.read_meta(connection, _CLAIMED)
    if not claimed_ms:
        return
    late = columns.ts_ms <= claimed_ms
    if not late.any():
        return
    table = pa.table(
        {
            "series": columns.series[late],
            "bucket": -(-columns.ts_ms[late] // ROLLUP_MS) * ROLLUP_MS,
        }
    )
    connection.register("incoming_late", table)
    try:
        connection.execute(
            "INSERT INTO rollups_late SELECT DISTINCT series, bucket FROM incoming_late"
        )
    finally:
        connection.unregister("incoming_late")
