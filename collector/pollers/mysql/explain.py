"""EXPLAIN of the dearest statements, when somebody asks: read only, bounded, SELECT alone.

And of those that read without an index, every minute: which table they scan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from collector.polling.contract import Absent, PollFailed, Reading
from collector.polling.json_shapes import number
from collector.polling.mysql_client import Connection, Row

MAX_STATEMENTS = 10
MAX_PLAN = 20_000
_DEEPEST = 30
# The statement of a digest as it was last seen: MySQL keeps one beside the digest, MariaDB's is
# in the history of the threads, where that consumer is on.
_SAMPLES = (
    "SELECT SCHEMA_NAME AS `schema`, DIGEST AS digest, QUERY_SAMPLE_TEXT AS statement "
    "FROM performance_schema.events_statements_summary_by_digest "
    "WHERE QUERY_SAMPLE_TEXT LIKE 'SELECT%' AND SCHEMA_NAME IS NOT NULL{only} "
    "ORDER BY SUM_TIMER_WAIT DESC LIMIT {limit}",
    "SELECT d.SCHEMA_NAME AS `schema`, d.DIGEST AS digest, MAX(h.SQL_TEXT) AS statement "
    "FROM performance_schema.events_statements_summary_by_digest d "
    "JOIN performance_schema.events_statements_history h "
    "ON h.DIGEST = d.DIGEST AND h.CURRENT_SCHEMA = d.SCHEMA_NAME "
    "WHERE h.SQL_TEXT LIKE 'SELECT%'{only} GROUP BY 1, 2, d.SUM_TIMER_WAIT "
    "ORDER BY d.SUM_TIMER_WAIT DESC LIMIT {limit}",
)
_SCANS = " AND SUM_NO_INDEX_USED > 0 AND LAST_SEEN > NOW() - INTERVAL 10 MINUTE"
_MOST_SCANS = 3
_SELECT = re.compile(r"SELECT\b", re.IGNORECASE)
_WRITES = re.compile(
    r";|\bINTO\b|\bFOR\s+(UPDATE|SHARE)\b|\bLOCK\s+IN\b|\bSLEEP\s*\(|\bBENCHMARK\s*\(|"
    r"\bGET_LOCK\s*\(|\bLOAD_FILE\s*\(|:=",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Explained:
    """The plan of one statement.

    Attributes:
        schema: Its database.
        digest: Its digest in performance_schema.
        tables: For each table: its name, how it is reached (`ALL` is a full scan), rows examined.
        plan: The server's JSON; empty where it gave none.
        error: Why there is no plan, or the empty string.
    """

    schema: str
    digest: str
    tables: tuple[tuple[str, str, float], ...] = ()
    plan: str = ""
    error: str = ""


def may_be_explained(statement: str) -> bool:
    """Whether a text is one SELECT that neither writes, locks nor waits.

    >>> may_be_explained("SELECT 1"), may_be_explained("SELECT 1 INTO OUTFILE '/x'")
    (True, False)
    """
    return bool(_SELECT.match(statement)) and not _WRITES.search(statement)


def explain_worst(connection: Connection, limit: int = 5) -> tuple[Explained, ...]:
    """Plans of the dearest SELECTs whose text the server still has, the dearest first.

    Raises:
        PollFailed: The digests cannot be read.
    """
    rows = _samples(connection, max(1, min(limit, MAX_STATEMENTS)))
    return tuple(_explained(connection, row) for row in rows)


def read_plans(kept: Connection, apart: Connection, reading: Reading) -> None:
    """`mysql_explain_rows{schema,digest,table,access_type}` of the dearest that read without index.

    The table goes by its alias. Without a text of the statement, or the right to read its tables,
    there is none.

    Args:
        kept: Reads the digests, and never stands in a schema.
        apart: Makes the plans; it is opened where there are any to make, and left closed.
        reading: Where the figures go.

    Raises:
        PollFailed: The digests cannot be read.
    """
    worth = [
        row
        for row in _samples(kept, _MOST_SCANS, _SCANS)
        if may_be_explained(row["statement"] or "")
    ]
    if not worth or not _answers(apart):
        return
    for plan in [_explained(apart, row) for row in worth]:
        for table, access, rows in plan.tables:
            told = {"schema": plan.schema, "digest": plan.digest}
            labels = {**told, "table": table, "access_type": access}
            reading.gauge("mysql_explain_rows", rows, labels)


def _answers(apart: Connection) -> bool:
    """A full server has no second connection; what the digests say is enough then."""
    try:
        apart.query("START TRANSACTION READ ONLY")
    except PollFailed:
        return False
    return True


def _samples(connection: Connection, limit: int, only: str = "") -> list[Row]:
    try:
        return connection.query(_SAMPLES[0].format(limit=limit, only=only))
    except Absent:
        return connection.query(_SAMPLES[1].format(limit=limit, only=only))


def _explained(connection: Connection, row: Row) -> Explained:
    schema, digest, statement = row["schema"] or "", row["digest"] or "", row["statement"] or ""
    if not may_be_explained(statement):
        return Explained(schema, digest, error="it is not a plain SELECT")
    try:
        plan = _plan(connection, schema, statement)
    except PollFailed as error:
        # A text that was cut off, a table that is gone, a right that lacks.
        return Explained(schema, digest, error=error.message)
    if len(plan) > MAX_PLAN:
        return Explained(schema, digest, error="its plan is too large to be shown")
    return Explained(schema, digest, tuple(_tables(json.loads(plan))), plan)


def _plan(connection: Connection, schema: str, statement: str) -> str:
    connection.query("START TRANSACTION READ ONLY")
    try:
        connection.query(f"USE `{schema.replace('`', '``')}`")
        rows = connection.query(f"EXPLAIN FORMAT=JSON {statement}")
        return next(iter(rows[0].values())) or "" if rows else ""
    finally:
        # Also forgets the database: the next statement may be of one that is gone.
        connection.leave()


def _tables(node: Any, depth: int = 0) -> Iterator[tuple[str, str, float]]:
    """Every table of a plan, whatever the server's shape of it."""
    if depth > _DEEPEST:
        return
    if isinstance(node, dict):
        if "table_name" in node and "access_type" in node:
            rows = number(node.get("rows_examined_per_scan", node.get("rows"))) or 0.0
            yield str(node["table_name"]), str(node["access_type"]), rows
        for inner in node.values():
            yield from _tables(inner, depth + 1)
    elif isinstance(node, list):
        for inner in node:
            yield from _tables(inner, depth + 1)
