"""Replication three ways: thread flags and lag of the server, a heartbeat table, GTID positions.

The server's own lag is NULL while a thread stands and 0 while the network is silent, so the other
two are needed to know. mysqld_exporter's names for the first two; the third is Warroom's own.
"""

from __future__ import annotations

import re

from collector.polling.contract import Absent, Reading, Sample, name_part
from collector.polling.mysql_client import Connection, Row
from collector.polling.mysql_values import number_of
from store.model import MetricMetadata, MetricType

_STATEMENTS = ("SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
_HEARTBEAT = (
    "SELECT UNIX_TIMESTAMP(MAX(ts)) AS stored, UNIX_TIMESTAMP({now}) AS now, "
    "server_id FROM {table} GROUP BY server_id LIMIT 100"
)
_TABLE = re.compile(r"[A-Za-z0-9_$-]{1,64}")
_GTID = re.compile(r"(\d+)-(\d+)-(\d+)")


def quoted_table(name: str) -> str:
    """`database.table`, quoted.

    >>> quoted_table("shop.heartbeat")
    '`shop`.`heartbeat`'

    Raises:
        ValueError: It is none.
    """
    parts = name.split(".")
    if len(parts) != 2 or not all(_TABLE.fullmatch(part) for part in parts):
        raise ValueError(f"{name[:80]!r} is no table; write database.table")
    return ".".join(f"`{part}`" for part in parts)


def read_replicas(connection: Connection, reading: Reading) -> None:
    """`mysql_slave_status_*` of every channel; nothing on a server that replicates from none.

    A NULL has no sample: a lag that nobody knows is no 0.
    """
    for row in _status(connection):
        labels = {
            "master_host": row.get("Master_Host") or row.get("Source_Host") or "",
            "master_uuid": row.get("Master_UUID") or row.get("Source_UUID") or "",
            "channel_name": row.get("Channel_Name") or "",
            "connection_name": row.get("Connection_name") or "",
        }
        for column, text in row.items():
            value = number_of(text)
            if value is not None:
                name = f"mysql_slave_status_{name_part(column)}"
                sample = Sample(name, labels, value)
                reading.add(MetricMetadata(name, MetricType.UNKNOWN), sample)
        _positions(reading, "io", row.get("Gtid_IO_Pos") or "")


def read_positions(connection: Connection, reading: Reading) -> None:
    """`mysql_gtid_sequence{position,domain_id}`: of a primary the binary log, of a replica more.

    A replica's distance in transactions is the primary's `binlog` less its own `io` (fetched) or
    `slave` (applied). MariaDB only; another server has none of these variables.
    """
    try:
        rows = connection.query("SELECT @@gtid_binlog_pos AS binlog, @@gtid_slave_pos AS slave")
    except Absent:
        return
    for row in rows:
        for position, text in row.items():
            _positions(reading, position, text or "")


def read_heartbeat(connection: Connection, reading: Reading, table: str, *, utc: bool) -> None:
    """`mysql_heartbeat_*`: what pt-heartbeat wrote, and the server's clock.

    Args:
        connection: The server.
        reading: Where it goes.
        table: `database.table`, quoted.
        utc: The table is written in UTC.
    """
    now = "UTC_TIMESTAMP(6)" if utc else "NOW(6)"
    rows = connection.query(_HEARTBEAT.format(now=now, table=table))
    if not rows:
        reading.lacks("heartbeat", "the table holds no row", "Start pt-heartbeat on the primary.")
    for row in rows:
        labels = {"server_id": row["server_id"] or ""}
        stored, current = number_of(row["stored"]), number_of(row["now"])
        if stored is not None and current is not None:
            reading.gauge("mysql_heartbeat_stored_timestamp_seconds", stored, labels)
            reading.gauge("mysql_heartbeat_now_timestamp_seconds", current, labels)


def _status(connection: Connection) -> list[Row]:
    for statement in _STATEMENTS[:-1]:
        try:
            return connection.query(statement)
        except Absent:
            continue
    return connection.query(_STATEMENTS[-1])


def _positions(reading: Reading, position: str, text: str) -> None:
    for domain, _server, sequence in _GTID.findall(text):
        labels = {"position": position, "domain_id": domain}
        reading.gauge("mysql_gtid_sequence", float(sequence), labels)
