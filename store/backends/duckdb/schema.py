"""Tables of the DuckDB store, and the version that says which code wrote them.

Samples, spans, events and logs are only ever appended in commit order, so their row order is their
age: zone maps make a time range cheap, and the later row of a (series, time) pair is the later
write.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from store.errors import StoreUnavailable

VERSION = 3  # since 2 an append log lies beside the file; since 3 there are logs
FLUSHED = "flushed_round"  # the last round of the log that the tables hold

TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (key VARCHAR PRIMARY KEY, value BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS series (id INTEGER NOT NULL, labels VARCHAR NOT NULL)",
    """CREATE TABLE IF NOT EXISTS samples (
        series INTEGER NOT NULL, ts BIGINT NOT NULL, value DOUBLE NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS histograms (
        series INTEGER NOT NULL, ts BIGINT NOT NULL, payload BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS metadata (
        family VARCHAR NOT NULL, type VARCHAR NOT NULL, help VARCHAR NOT NULL,
        unit VARCHAR NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS exemplars (
        series INTEGER NOT NULL, ts BIGINT NOT NULL, value DOUBLE NOT NULL,
        labels VARCHAR NOT NULL)""",
    # A dictionary of span ids, each of them another, costs 0.15 µs a span and saves two bytes.
    """CREATE TABLE IF NOT EXISTS spans (
        trace_id BLOB NOT NULL, span_id BLOB NOT NULL USING COMPRESSION uncompressed,
        parent_span_id BLOB,
        start_ns BIGINT NOT NULL, end_ns BIGINT NOT NULL, service VARCHAR NOT NULL,
        name VARCHAR NOT NULL, kind TINYINT NOT NULL, status TINYINT NOT NULL,
        status_message VARCHAR, scope VARCHAR, http_method VARCHAR, http_route VARCHAR,
        http_status SMALLINT, url VARCHAR, server_address VARCHAR, db_system VARCHAR,
        statement VARCHAR, code_file VARCHAR, code_line INTEGER, code_function VARCHAR,
        attributes VARCHAR, resource VARCHAR, events VARCHAR, links VARCHAR,
        received_ms BIGINT NOT NULL, seq BIGINT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS events (
        event_id VARCHAR NOT NULL, source VARCHAR NOT NULL, type VARCHAR NOT NULL,
        ts_ms BIGINT NOT NULL, session_id VARCHAR, checkout_id VARCHAR, order_id VARCHAR,
        amount DECIMAL(18, 4), currency VARCHAR, bot BOOLEAN NOT NULL, test BOOLEAN NOT NULL,
        device VARCHAR, channel VARCHAR, country VARCHAR, "returning" BOOLEAN, trace_id BLOB,
        data VARCHAR, received_ms BIGINT NOT NULL, seq BIGINT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS logs (
        ts_ns BIGINT NOT NULL, severity TINYINT NOT NULL, severity_text VARCHAR,
        service VARCHAR NOT NULL, event_name VARCHAR, body VARCHAR, trace_id BLOB, span_id BLOB,
        scope VARCHAR, attributes VARCHAR, resource VARCHAR, received_ms BIGINT NOT NULL,
        seq BIGINT NOT NULL)""",
)


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables that are missing.

    Raises:
        StoreUnavailable: A newer version of Warroom wrote the file.
    """
    connection.execute("BEGIN")
    for statement in TABLES:
        connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", [VERSION])
    connection.execute("COMMIT")
    found = read_meta(connection, "version")
    if found > VERSION:
        raise StoreUnavailable(
            f"the store was written by a newer Warroom (layout {found}, known is {VERSION})",
            hint="install the newer Warroom again, or point it at another data directory",
        )
    if found < VERSION:
        write_meta(connection, "version", VERSION)


def read_meta(connection: duckdb.DuckDBPyConnection, key: str) -> int:
    """A stored counter; 0 when it was never written."""
    return scalar(connection, "SELECT value FROM meta WHERE key = ?", [key]) or 0


def scalar(
    connection: duckdb.DuckDBPyConnection, statement: str, params: Sequence[object] = ()
) -> int | None:
    """The one number that a statement answers with, or None for none.

    Fetches all: a result with a row left would block the connection.
    """
    rows = connection.execute(statement, list(params)).fetchall()
    return int(rows[0][0]) if rows and rows[0][0] is not None else None


def write_meta(connection: duckdb.DuckDBPyConnection, key: str, value: int) -> None:
    """Store a counter."""
    connection.execute("DELETE FROM meta WHERE key = ?", [key])
    connection.execute("INSERT INTO meta VALUES (?, ?)", [key, value])
