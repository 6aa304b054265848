"""Indexes that nothing reads, and indexes that another one makes needless."""

from __future__ import annotations

from collector.polling.contract import Reading
from collector.polling.mysql_client import Connection
from collector.polling.mysql_values import number_of

_WAITS = (
    "SELECT OBJECT_SCHEMA AS `schema`, OBJECT_NAME AS name, IFNULL(INDEX_NAME, 'NONE') AS `index`, "
    "COUNT_FETCH AS `fetch`, COUNT_INSERT AS `insert`, COUNT_UPDATE AS `update`, "
    "COUNT_DELETE AS `delete` "
    "FROM performance_schema.table_io_waits_summary_by_index_usage "
    "WHERE OBJECT_SCHEMA NOT IN ('mysql', 'performance_schema', 'information_schema', 'sys') "
    "AND COUNT_STAR > 0 ORDER BY COUNT_STAR DESC LIMIT 500"
)
_UNUSED = (
    "SELECT object_schema AS `schema`, object_name AS `table`, index_name AS `index` "
    "FROM sys.schema_unused_indexes LIMIT 500"
)
_REDUNDANT = (
    "SELECT table_schema AS `schema`, table_name AS `table`, redundant_index_name AS `index`, "
    "dominant_index_name AS dominant_index "
    "FROM sys.schema_redundant_indexes LIMIT 500"
)


def read_indexes(connection: Connection, reading: Reading) -> None:
    """How each index is used, by the exporter's name, and two series of Warroom's own.

    `mysql_index_unused{schema,table,index}` and `mysql_index_redundant{…,dominant_index}` are 1.
    Unused is what nothing has read since the server's start; without performance_schema: none.
    """
    for row in connection.query(_WAITS):
        labels = {name: row[name] or "" for name in ("schema", "name", "index")}
        for operation in ("fetch", "insert", "update", "delete"):
            value = number_of(row[operation])
            if value is not None:
                reading.counter(
                    "mysql_perf_schema_index_io_waits_total",
                    value,
                    {**labels, "operation": operation},
                )
    for name, sql in (("mysql_index_unused", _UNUSED), ("mysql_index_redundant", _REDUNDANT)):
        for row in connection.query(sql):
            reading.gauge(name, 1, {label: text or "" for label, text in row.items()})
