"""Replication three ways: thread flags and lag of the server, a heartbeat table, GTID positions.

The server's own lag is NULL while a thread stands and 0 while the network is silent, so the other
two are needed to know. mysqld_exporter's names for the first two; the third is Warroom's own, for
MariaDB (a sequence number for each domain) and MySQL (a set of transactions for each source).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from collector.polling.contract import Absent, Reading, Sample, name_part
from collector.polling.mysql_client import Connection, Row
from collector.polling.mysql_values import number_of
from store.model import MetricMetadata, MetricType

_STATEMENTS = ("SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
_HEARTBEAT = (
    "SELECT UNIX_TIMESTAMP(MAX(ts)) AS stored, UNIX_TIMESTAMP({now}) AS now, "
    "server_id FROM {table} {only}GROUP BY server_id LIMIT 100"
)
_EXECUTED = "SELECT @@GLOBAL.gtid_executed AS executed"
_UNAPPLIED = "SELECT GTID_SUBTRACT(%s, @@GLOBAL.gtid_executed) AS unapplied"
WAITING = "mysql_gtid_waiting_transactions"
_TABLE = re.compile(r"[A-Za-z0-9_$-]{1,64}")
_GTID = re.compile(r"(\d+)-(\d+)-(\d+)")
_INTERVAL = re.compile(r"(\d{1,19})(?:-(\d{1,19}))?")


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
        waiting = _waiting(connection, row)
        if waiting is not None:
            channel = {name: labels[name] for name in ("channel_name", "connection_name")}
            reading.gauge(WAITING, waiting, channel)


def _waiting(connection: Connection, row: Row) -> float | None:
    """Transactions that are fetched and not applied, or None where there are no GTIDs.

    MariaDB's sequence numbers have no gaps where its GTIDs are strict; without that it is at most
    so many.
    """
    fetched = row.get("Gtid_IO_Pos")
    if fetched and row.get("Using_Gtid") not in (None, "No"):
        applied = {
            domain: int(last) for domain, _, last in _GTID.findall(row.get("Gtid_Slave_Pos") or "")
        }
        behind = (int(last) - applied.get(domain, 0) for domain, _, last in _GTID.findall(fetched))
        return float(sum(max(0, distance) for distance in behind))
    retrieved = row.get("Retrieved_Gtid_Set")
    if not retrieved:
        return None
    answer = connection.query(_UNAPPLIED, (retrieved.replace("\n", ""),))
    return float(sum(transactions(answer[0]["unapplied"] or "").values()))


def transactions(text: str) -> dict[str, int]:
    r"""How many transactions a set of MySQL's GTIDs holds, by source; a tag belongs to its source.

    >>> transactions("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7,\n4350f323-7565:1-3:deploy:1-2")
    {'3e11fa47-71ca-11e1-9e33-c80aa9429562': 6, '4350f323-7565': 5}
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        source, *intervals = part.strip().split(":")
        for interval in intervals:
            match = _INTERVAL.fullmatch(interval.strip())
            if match:
                count = int(match[2] or match[1]) - int(match[1]) + 1
                found[source] = found.get(source, 0) + max(0, count)
    return found


def read_positions(connection: Connection, reading: Reading) -> None:
    """Where a server is, so that a primary's and a replica's can be subtracted.

    MariaDB: `mysql_gtid_sequence{position,domain_id}`, of a primary the `binlog`, of a replica also
    `io` (fetched) and `slave` (applied). MySQL: `mysql_gtid_transactions{position,source_uuid}`,
    how many of each source are `executed`.
    """
    try:
        rows = connection.query("SELECT @@gtid_binlog_pos AS binlog, @@gtid_slave_pos AS slave")
    except Absent:
        _executed(connection, reading)
        return
    for row in rows:
        for position, text in row.items():
            _positions(reading, position, text or "")


def _executed(connection: Connection, reading: Reading) -> None:
    try:
        rows = connection.query(_EXECUTED)
    except Absent:
        return
    for row in rows:
        for source, count in transactions(row["executed"] or "").items():
            labels = {"position": "executed", "source_uuid": source}
            reading.gauge("mysql_gtid_transactions", count, labels)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Where pt-heartbeat writes.

    Attributes:
        table: `database.table`, quoted.
        utc: It is written in UTC.
        server_id: Only the row of this server counts; 0 is every row.
    """

    table: str
    utc: bool = False
    server_id: int = 0


def read_heartbeat(connection: Connection, reading: Reading, heartbeat: Heartbeat) -> None:
    """`mysql_heartbeat_*`: what pt-heartbeat wrote, and the server's clock."""
    now = "UTC_TIMESTAMP(6)" if heartbeat.utc else "NOW(6)"
    only = f"WHERE server_id = {heartbeat.server_id} " if heartbeat.server_id else ""
    rows = connection.query(_HEARTBEAT.format(now=now, table=heartbeat.table, only=only))
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
