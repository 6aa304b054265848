"""What the statements cost: the digests of performance_schema, the dearest and the new ones."""

from __future__ import annotations

from collector.polling.contract import Reading
from collector.polling.mysql_client import Connection, Row
from collector.polling.mysql_values import number_of

_FAMILY = "mysql_perf_schema_events_statements_"
_PICOSECONDS = 1e12
# Column -> the exporter's name; times are picoseconds.
_COUNTERS = {
    "COUNT_STAR": "total",
    "SUM_TIMER_WAIT": "seconds_total",
    "SUM_LOCK_TIME": "lock_time_seconds_total",
    "SUM_ERRORS": "errors_total",
    "SUM_WARNINGS": "warnings_total",
    "SUM_ROWS_AFFECTED": "rows_affected_total",
    "SUM_ROWS_SENT": "rows_sent_total",
    "SUM_ROWS_EXAMINED": "rows_examined_total",
    "SUM_CREATED_TMP_TABLES": "tmp_tables_total",
    "SUM_CREATED_TMP_DISK_TABLES": "tmp_disk_tables_total",
    "SUM_SORT_MERGE_PASSES": "sort_merge_passes_total",
    "SUM_SORT_ROWS": "sort_rows_total",
    "SUM_NO_INDEX_USED": "no_index_used_total",
}
_TIMES = frozenset({"SUM_TIMER_WAIT", "SUM_LOCK_TIME"})
_OWN_SCHEMAS = "('mysql', 'performance_schema', 'information_schema', 'sys')"
_SELECT = (
    "(SELECT SCHEMA_NAME AS `schema`, DIGEST AS digest, "
    "LEFT(DIGEST_TEXT, {length}) AS digest_text, " + ", ".join(_COUNTERS) + " "
    "FROM performance_schema.events_statements_summary_by_digest "
    f"WHERE SCHEMA_NAME NOT IN {_OWN_SCHEMAS} AND DIGEST IS NOT NULL "
)
# What is new and slow is not yet among the dearest of a server with totals of months.
_DIGESTS = (
    f"{_SELECT} ORDER BY SUM_TIMER_WAIT DESC LIMIT {{dearest}}) UNION ALL "
    f"{_SELECT} AND LAST_SEEN > NOW() - INTERVAL 10 MINUTE ORDER BY "
    "SUM_TIMER_WAIT / GREATEST(TIMESTAMPDIFF(SECOND, FIRST_SEEN, NOW()), 10) DESC LIMIT {new})"
)
_PART_OF_NEW = 5


def read_digests(connection: Connection, reading: Reading, *, limit: int, length: int) -> None:
    """`mysql_perf_schema_events_statements_*{schema,digest,digest_text}`.

    A server without performance_schema has none; MariaDB has it off unless told at its start.

    Args:
        connection: The server.
        reading: Where it goes.
        limit: At most so many digests, by their whole time; a fifth by their time a second since
            they were first seen.
        length: Characters of the digest's text that are kept.
    """
    new = limit // _PART_OF_NEW
    told: set[tuple[object, object]] = set()
    for row in connection.query(_DIGESTS.format(dearest=limit - new, new=new, length=length)):
        if (row["schema"], row["digest"]) in told:
            continue
        told.add((row["schema"], row["digest"]))
        labels = {name: row[name] or "" for name in ("schema", "digest", "digest_text")}
        for column, name in _COUNTERS.items():
            value = _value(row, column)
            if value is not None:
                reading.counter(_FAMILY + name, value, labels)


def _value(row: Row, column: str) -> float | None:
    value = number_of(row[column])
    if value is None or column not in _TIMES:
        return value
    return value / _PICOSECONDS
