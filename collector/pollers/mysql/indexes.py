"""Indexes that nothing reads, and indexes that another one makes needless."""

from __future__ import annotations

from collector.polling.contract import Absent, Reading
from collector.polling.mysql_client import Connection, Row
from collector.polling.mysql_values import number_of

_OPERATIONS = ("fetch", "insert", "update", "delete")
_WAITS = (
    "SELECT OBJECT_SCHEMA AS `schema`, OBJECT_NAME AS name, IFNULL(INDEX_NAME, 'NONE') AS `index`, "
    "COUNT_FETCH AS `fetch`, COUNT_INSERT AS `insert`, COUNT_UPDATE AS `update`, "
    "COUNT_DELETE AS `delete`, SUM_TIMER_FETCH AS fetch_ps, SUM_TIMER_INSERT AS insert_ps, "
    "SUM_TIMER_UPDATE AS update_ps, SUM_TIMER_DELETE AS delete_ps "
    "FROM performance_schema.table_io_waits_summary_by_index_usage "
    "WHERE OBJECT_SCHEMA NOT IN ('mysql', 'performance_schema', 'information_schema', 'sys') "
    "ORDER BY COUNT_STAR DESC LIMIT 500"
)
_FAMILY = "mysql_perf_schema_index_io_waits_"
_UNUSED = (
    "SELECT object_schema AS `schema`, object_name AS `table`, index_name AS `index` "
    "FROM sys.schema_unused_indexes LIMIT 500"
)
# MariaDB's own statistics, where performance_schema is off: they are on with userstat=1, and hold
# what was read alone. A unique index is needed although nothing reads it.
_BY_USERSTAT = (
    "SELECT s.TABLE_SCHEMA AS `schema`, s.TABLE_NAME AS `table`, s.INDEX_NAME AS `index` "
    "FROM information_schema.STATISTICS s LEFT JOIN information_schema.INDEX_STATISTICS i "
    "ON i.TABLE_SCHEMA = s.TABLE_SCHEMA AND i.TABLE_NAME = s.TABLE_NAME "
    "AND i.INDEX_NAME = s.INDEX_NAME WHERE s.SEQ_IN_INDEX = 1 AND s.NON_UNIQUE = 1 "
    "AND i.INDEX_NAME IS NULL AND s.TABLE_SCHEMA NOT IN "
    "('mysql', 'performance_schema', 'information_schema', 'sys') LIMIT 500"
)
_SWITCHES = "SELECT @@performance_schema AS performance_schema, @@userstat AS userstat"
# Only columns as they are: an index on an expression serves that expression alone.
_COLUMNS = (
    "SELECT TABLE_SCHEMA AS `schema`, TABLE_NAME AS `table`, INDEX_NAME AS `index`, "
    "GROUP_CONCAT(COLUMN_NAME ORDER BY SEQ_IN_INDEX) AS `columns` "
    "FROM information_schema.STATISTICS WHERE INDEX_TYPE = 'BTREE' AND TABLE_SCHEMA NOT IN "
    "('mysql', 'performance_schema', 'information_schema', 'sys') GROUP BY 1, 2, 3 "
    "HAVING COUNT(COLUMN_NAME) = COUNT(*) LIMIT 1000"
)
_REDUNDANT = (
    "SELECT table_schema AS `schema`, table_name AS `table`, redundant_index_name AS `index`, "
    "dominant_index_name AS dominant_index "
    "FROM sys.schema_redundant_indexes LIMIT 500"
)


def read_indexes(connection: Connection, reading: Reading) -> None:
    """How each index is used, by the exporter's name, and three series of Warroom's own.

    `mysql_index_unused{schema,table,index}`, `mysql_index_redundant{…,dominant_index}` and
    `mysql_index_columns{…,columns}` are 1.
    Unused is what nothing has read since the server's start. It takes performance_schema, or
    MariaDB's userstat; without both there are none.
    """
    for row in connection.query(_WAITS):
        _waits(row, reading)
    unused = _BY_USERSTAT if _by_userstat(connection) else _UNUSED
    for name, sql in (
        ("mysql_index_unused", unused),
        ("mysql_index_redundant", _REDUNDANT),
        ("mysql_index_columns", _COLUMNS),
    ):
        for row in connection.query(sql):
            reading.gauge(name, 1, {label: text or "" for label, text in row.items()})


def _waits(row: Row, reading: Reading) -> None:
    labels = {name: row[name] or "" for name in ("schema", "name", "index")}
    for operation in _OPERATIONS:
        if operation == "insert" and labels["index"] != "NONE":
            # A row is put into the table; the server counts it for no index.
            continue
        told = {**labels, "operation": operation}
        count, waited_ps = number_of(row[operation]), number_of(row[f"{operation}_ps"])
        if count is not None and waited_ps is not None:
            reading.counter(f"{_FAMILY}total", count, told)
            reading.counter(f"{_FAMILY}seconds_total", waited_ps / 1e12, told)


def _by_userstat(connection: Connection) -> bool:
    try:
        (switches,) = connection.query(_SWITCHES)
    except Absent:
        return False
    return number_of(switches["performance_schema"]) == 0 and number_of(switches["userstat"]) == 1
