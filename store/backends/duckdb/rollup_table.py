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
HOUR_MS = 12 * ROLLUP_MS
_SHOWN_AGAIN = """
    INSERT INTO rollups_late SELECT DISTINCT series, ((ts + ? - 1) // ?) * ?
    FROM samples WHERE ts > ? AND ts <= ?"""
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


def believable(progress: Progress, newest_ms: int | None, oldest_raw_ms: int | None) -> Progress:
    """The same, but nothing in it lies after the newest sample: a clock was wrong once."""
    if newest_ms is None:
        return Progress()
    end_ms = hour_end(newest_ms)
    floor_ms = progress.raw_floor_ms
    if floor_ms > bucket_of(newest_ms):
        known_ms = newest_ms if oldest_raw_ms is None else oldest_raw_ms
        floor_ms = max(0, bucket_of(known_ms) - ROLLUP_MS)
    return Progress(min(progress.claimed_ms, end_ms), min(progress.done_ms, end_ms), floor_ms)


def restore(connection: duckdb.DuckDBPyConnection, old: Progress, new: Progress) -> None:
    """Store a progress that lies before the old one, in one transaction."""
    connection.execute("BEGIN")
    if new.raw_floor_ms < old.raw_floor_ms:  # what the old floor hid was not rolled
        connection.execute(_SHOWN_AGAIN, [*[ROLLUP_MS] * 3, new.raw_floor_ms, new.claimed_ms])
    write_claimed(connection, new.claimed_ms)
    write_done(connection, new.done_ms)
    write_raw_floor(connection, new.raw_floor_ms)
    connection.execute("COMMIT")


def hour_end(ts_ms: int) -> int:
    """The end of the hour that a time belongs to."""
    return -(-ts_ms // HOUR_MS) * HOUR_MS


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
    # Of what lies at or below the floor the raw samples are gone: nothing is made of it again.
    floor_ms = schema.read_meta(connection, _FLOOR)
    late = (columns.ts_ms <= claimed_ms) & (columns.ts_ms > floor_ms)
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
