"""pgbouncer's console, by the names of pgbouncer_exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collector.polling.contract import PollFailed, Reading
from collector.polling.fields import Fields
from collector.polling.postgres import Account, PostgresClient, Row, read_account

CONSOLE = "pgbouncer"
# Column of SHOW POOLS -> the exporter's name.
_POOLS: Mapping[str, str] = {
    "cl_active": "client_active_connections",
    "cl_waiting": "client_waiting_connections",
    "sv_active": "server_active_connections",
    "sv_idle": "server_idle_connections",
    "sv_used": "server_used_connections",
    "sv_tested": "server_testing_connections",
    "sv_login": "server_login_connections",
}
# Column of SHOW STATS -> the exporter's name and what one is in the series' unit.
_STATS: Mapping[str, tuple[str, float]] = {
    "total_query_count": ("queries_pooled_total", 1.0),
    "total_xact_count": ("sql_transactions_pooled_total", 1.0),
    "total_wait_time": ("client_wait_seconds_total", 1e-6),
    "total_query_time": ("queries_duration_seconds_total", 1e-6),
    "total_xact_time": ("server_in_transaction_seconds_total", 1e-6),
    "total_received": ("received_bytes_total", 1.0),
    "total_sent": ("sent_bytes_total", 1.0),
}
_DATABASES = ("pool_size", "reserve_pool", "max_connections", "current_connections")
_LISTS = frozenset(
    {
        "databases",
        "users",
        "pools",
        "free_clients",
        "used_clients",
        "login_clients",
        "free_servers",
        "used_servers",
    }
)


@dataclass(frozen=True, slots=True)
class PgbouncerSettings:
    """Where and as whom: a user of `stats_users` is enough."""

    account: Account


def read_pgbouncer(fields: Fields) -> PgbouncerSettings:
    """The fields of a `pgbouncer` entry."""
    return PgbouncerSettings(read_account(fields, port=6432, database=CONSOLE))


class PgbouncerPoller:
    """Keeps one connection to the console."""

    def __init__(self, settings: PgbouncerSettings, timeout_s: float) -> None:
        self._client = PostgresClient(settings.account, timeout_s, console=True)

    async def poll(self, now_ms: int) -> Reading:
        del now_ms
        reading = Reading()
        for row in await self._client.query("SHOW POOLS"):
            _pool(reading, row)
        for row in await self._client.query("SHOW STATS"):
            labels = {"database": str(row["database"])}
            for column, (name, scale) in _STATS.items():
                if column in row:
                    value = float(row[column]) * scale
                    reading.counter(f"pgbouncer_stats_{name}", value, labels)
        for row in await self._client.query("SHOW DATABASES"):
            _database(reading, row)
        for row in await self._client.query("SHOW LISTS"):
            if row["list"] in _LISTS:
                reading.gauge(f"pgbouncer_{row['list']}", float(row["items"]))
        await self._config(reading)
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _config(self, reading: Reading) -> None:
        try:
            rows = await self._client.query("SHOW CONFIG")
        except PollFailed:
            # Only an admin may, and only the limit of clients is lost.
            return
        limits = {row["key"]: row["value"] for row in rows}
        if "max_client_conn" in limits:
            limit = float(limits["max_client_conn"])
            reading.gauge("pgbouncer_config_max_client_connections", limit)


def _pool(reading: Reading, row: Row) -> None:
    labels = {"database": str(row["database"]), "user": str(row["user"])}
    for column, name in _POOLS.items():
        if column in row:
            reading.gauge(f"pgbouncer_pools_{name}", float(row[column]), labels)
    waited_s = float(row["maxwait"]) + float(row.get("maxwait_us", 0)) / 1e6
    reading.gauge("pgbouncer_pools_client_maxwait_seconds", waited_s, labels)


def _database(reading: Reading, row: Row) -> None:
    labels = {
        name: str(row.get(name) or "")
        for name in ("name", "host", "port", "database", "force_user", "pool_mode")
    }
    for column in _DATABASES:
        if row.get(column) is not None:
            reading.gauge(f"pgbouncer_databases_{column}", float(row[column]), labels)
