"""ProxySQL's admin interface, by the names of its built-in exporter."""

from __future__ import annotations

from collections.abc import Mapping

from collector.polling.contract import Reading
from collector.polling.fields import Fields
from collector.polling.mysql_client import Account, Connection, MysqlClient, Row, read_account
from collector.polling.mysql_values import number_of

# Never the *_reset tables: reading one empties it for everybody.
_POOL = (
    "SELECT hostgroup, srv_host, srv_port, status, ConnUsed, ConnFree, ConnOK, ConnERR, Queries, "
    "Bytes_data_sent, Bytes_data_recv, Latency_us FROM stats.stats_mysql_connection_pool LIMIT 1000"
)
_GLOBAL = "SELECT Variable_Name, Variable_Value FROM stats.stats_mysql_global LIMIT 1000"
# Column -> the metric's rest and its further label; all but the last two kinds count up.
_COUNTERS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Queries": ("conns_queries_total", {}),
    "ConnOK": ("conns_total", {"status": "ok"}),
    "ConnERR": ("conns_total", {"status": "err"}),
    "Bytes_data_sent": ("data_bytes_total", {"traffic_flow": "sent"}),
    "Bytes_data_recv": ("data_bytes_total", {"traffic_flow": "recv"}),
}
_GAUGES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "ConnUsed": ("conns", {"status": "used"}),
    "ConnFree": ("conns", {"status": "free"}),
    "Latency_us": ("conns_latency_us", {}),
}
_STATES = {"ONLINE": 1.0, "SHUNNED": 2.0, "OFFLINE_SOFT": 3.0, "OFFLINE_HARD": 4.0}
_TOTALS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "Server_Connections_created": ("server_connections_total", {"status": "created"}),
    "Server_Connections_delayed": ("server_connections_total", {"status": "delayed"}),
    "Server_Connections_aborted": ("server_connections_total", {"status": "aborted"}),
    "Client_Connections_created": ("client_connections_total", {"status": "created"}),
    "Client_Connections_aborted": ("client_connections_total", {"status": "aborted"}),
    "max_connect_timeouts": ("max_connect_timeouts_total", {}),
    "Questions": ("questions_total", {}),
    "Slow_queries": ("slow_queries_total", {}),
}
_NOW: Mapping[str, str] = {
    "Client_Connections_connected": "client_connections_connected",
    "Client_Connections_non_idle": "client_connections_non_idle",
    "Server_Connections_connected": "server_connections_connected",
    "Active_Transactions": "active_transactions",
    "ProxySQL_Uptime": "uptime_seconds",
}


def read_proxysql(fields: Fields) -> Account:
    """The fields of a `proxysql` entry."""
    return read_account(fields, port=6032)


class ProxysqlPoller:
    """Keeps one connection to the admin interface; a stats account is enough."""

    def __init__(self, account: Account, timeout_s: float) -> None:
        self._client = MysqlClient(account, timeout_s, console=True)

    async def poll(self, now_ms: int) -> Reading:
        del now_ms
        return await self._client.run(_read)

    async def aclose(self) -> None:
        await self._client.aclose()


def _read(connection: Connection) -> Reading:
    reading = Reading()
    for row in connection.query(_POOL):
        _endpoint(reading, row)
    for row in connection.query(_GLOBAL):
        name, value = row["Variable_Name"] or "", number_of(row["Variable_Value"])
        if value is None:
            continue
        if name in _TOTALS:
            rest, labels = _TOTALS[name]
            reading.counter(f"proxysql_{rest}", value, labels)
        elif name in _NOW:
            reading.gauge(f"proxysql_{_NOW[name]}", value)
    return reading


def _endpoint(reading: Reading, row: Row) -> None:
    labels = {
        "hostgroup": row["hostgroup"] or "",
        "endpoint": f"{row['srv_host']}:{row['srv_port']}",
    }
    state = _STATES.get(row["status"] or "", 0.0)
    reading.gauge("proxysql_connpool_conns_status", state, labels)
    for column, (rest, more) in _COUNTERS.items():
        value = number_of(row[column])
        if value is not None:
            reading.counter(f"proxysql_connpool_{rest}", value, {**labels, **more})
    for column, (rest, more) in _GAUGES.items():
        value = number_of(row[column])
        if value is not None:
            reading.gauge(f"proxysql_connpool_{rest}", value, {**labels, **more})
