"""Log records: appended in commit order, searched by time, service, severity, trace and text."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from store.backends.duckdb.database import Database, arrow
from store.backends.duckdb.spans import conform
from store.backends.duckdb.tail import Tail, without_repeats
from store.model import LOG_READ_SCHEMA, LOG_SCHEMA
from store.ports import LogQuery

_COLUMNS = ", ".join(f'"{name}"' for name in LOG_READ_SCHEMA.names)
_FOUND = "SELECT {columns} FROM {rows} WHERE {where} ORDER BY ts_ns DESC, seq DESC LIMIT ?"
_NEWEST_FIRST: list[tuple[str, Literal["ascending", "descending"]]] = [
    ("ts_ns", "descending"),
    ("seq", "descending"),
]
_SEARCHED = ("body", "attributes", "event_name")
# The signs of a LIKE pattern; what has none of them is searched twice as fast by one.
_PATTERN_SIGNS = frozenset("%_\\")


def checked(table: pa.Table) -> pa.Table:
    """The table with exactly the columns of `LOG_SCHEMA`.

    Raises:
        BadInput: A column is missing, of another type, or null where it must not be.
    """
    return conform(table, LOG_SCHEMA)


class LogReaderOfTable:
    """Implements `LogReader` over the table and what is ahead of it.

    What is ahead is looked at first: a row that moves into the table in between is then found
    twice and told once, never missed.
    """

    def __init__(self, database: Database, tail: Tail) -> None:
        self._database = database
        self._tail = tail

    def logs(self, query: LogQuery) -> pa.Table:
        where, params = _conditions(query)
        params.append(max(query.limit, 0))
        ahead = self._tail.logs()
        with self._database.reader() as cursor:
            found = [self._ask(cursor, "logs", where, params)]
            if ahead:
                cursor.register("ahead", pa.concat_tables(ahead))
                try:
                    found.append(self._ask(cursor, "ahead", where, params))
                finally:
                    cursor.unregister("ahead")
        if len(found) == 1:
            return found[0]
        return without_repeats(*found).sort_by(_NEWEST_FIRST).slice(0, query.limit)

    def _ask(self, cursor: Any, rows: str, where: str, params: list[Any]) -> pa.Table:
        text = _FOUND.format(columns=_COLUMNS, rows=rows, where=where)  # holds no input
        return arrow(cursor, text, params).cast(LOG_READ_SCHEMA)


def _conditions(query: LogQuery) -> tuple[str, list[Any]]:
    """The search as SQL with its parameters."""
    where = ["ts_ns BETWEEN ? AND ?"]
    params: list[Any] = [query.start_ns, query.end_ns]
    for condition, value in (
        ("service = ?", query.service),
        ("severity >= ?", query.min_severity or None),
        ("trace_id = ?", query.trace_id),
    ):
        if value is not None:
            where.append(condition)
            params.append(value)
    if query.text:
        holds, text = _holds(query.text)
        where.append("(" + " OR ".join(holds.format(column) for column in _SEARCHED) + ")")
        params += [text] * len(_SEARCHED)
    if query.before is not None:
        where.append("(ts_ns < ? OR (ts_ns = ? AND seq < ?))")
        ts_ns, seq = query.before
        params += [ts_ns, ts_ns, seq]
    return " AND ".join(where), params


def _holds(text: str) -> tuple[str, str]:
    """The condition that a column holds a text, in any case; and its parameter."""
    if _PATTERN_SIGNS.isdisjoint(text):
        return "{} ILIKE ?", f"%{text}%"
    return "contains(lower({}), lower(?))", text
