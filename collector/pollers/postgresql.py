"""PostgreSQL, by the names of postgres_exporter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.polling.contract import Absent, Denied, PollFailed, Reading, TimedOut
from collector.polling.fields import Fields
from collector.polling.postgres import Account, PostgresClient, Row, read_account

CATALOGUE_EVERY_MS = 300_000
_GRANT = "GRANT pg_monitor to the account: see docs/sources/postgresql.md."


@dataclass(frozen=True, slots=True)
class PostgresqlSettings:
    """What is asked of one server: all databases' figures, and the tables of one."""

    account: Account
    statements: int = 100


@dataclass(frozen=True, slots=True)
class _View:
    """One statement: the prefix of its series, its label columns; every other column is a value.

    What costs much and changes seldom is asked every `every_ms`, and told at every poll.
    """

    part: str
    prefix: str
    sql: str
    labels: tuple[str, ...] = ()
    counters: bool = False
    every_ms: int = 0


_VIEWS = (
    _View(
        "server",
        "pg_",
        "SELECT extract(epoch FROM pg_postmaster_start_time()) AS postmaster_start_time_seconds, "
        "current_setting('max_connections')::float AS settings_max_connections, "
        "current_setting('superuser_reserved_connections')::float "
        "AS settings_superuser_reserved_connections",
    ),
    _View(
        "databases",
        "pg_stat_database_",
        "SELECT datid::text, datname, numbackends::float, xact_commit::float, "
        "xact_rollback::float, blks_read::float, blks_hit::float, tup_returned::float, "
        "tup_fetched::float, tup_inserted::float, tup_updated::float, tup_deleted::float, "
        "conflicts::float, temp_files::float, temp_bytes::float, deadlocks::float, "
        "blk_read_time::float, blk_write_time::float "
        "FROM pg_stat_database WHERE datname IS NOT NULL LIMIT 500",
        ("datid", "datname"),
        counters=True,
    ),
    _View(
        "sizes",
        "pg_database_",
        "SELECT datname, pg_database_size(oid)::float AS size_bytes FROM pg_database "
        "WHERE datallowconn AND NOT datistemplate LIMIT 500",
        ("datname",),
    ),
    _View(
        "connections",
        "pg_stat_activity_",
        "SELECT coalesce(datname, '') AS datname, coalesce(state, '') AS state, "
        "coalesce(usename, '') AS usename, count(*)::float AS count, "
        "coalesce(extract(epoch FROM max(now() - xact_start)), 0)::float AS max_tx_duration "
        "FROM pg_stat_activity WHERE backend_type = 'client backend' "
        "GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 500",
        ("datname", "state", "usename"),
    ),
    _View(
        "locks",
        "pg_locks_",
        "SELECT coalesce(d.datname, '') AS datname, lower(l.mode) AS mode, "
        "count(*)::float AS count FROM pg_locks l LEFT JOIN pg_database d ON d.oid = l.database "
        "GROUP BY 1, 2 LIMIT 500",
        ("datname", "mode"),
    ),
    # The exporter's formula says 0 when the receiver is gone, for then nothing new is received;
    # and a replica that has applied nothing since its start has no time to subtract.
    _View(
        "replication",
        "pg_",
        "SELECT pg_is_in_recovery()::int::float AS replication_is_replica, "
        "CASE WHEN NOT pg_is_in_recovery() THEN 0 "
        "WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() "
        "AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0 "
        "ELSE greatest(0, extract(epoch FROM now() - "
        "coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()))) "
        "END::float AS replication_lag_seconds, "
        "(SELECT count(*) FROM pg_stat_wal_receiver)::float AS wal_receivers",
    ),
    _View(
        "replicas",
        "pg_stat_replication_",
        "SELECT coalesce(application_name, '') AS application_name, "
        "coalesce(host(client_addr), '') AS client_addr, coalesce(state, '') AS state, "
        "coalesce(extract(epoch FROM replay_lag), 0)::float AS replay_lag_seconds, "
        "pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() "
        "ELSE pg_current_wal_lsn() END, replay_lsn)::float AS pg_wal_lsn_diff "
        "FROM pg_stat_replication LIMIT 100",
        ("application_name", "client_addr", "state"),
    ),
    _View(
        "tables",
        "pg_stat_user_tables_",
        "SELECT current_database() AS datname, schemaname, relname, seq_scan::float, "
        "seq_tup_read::float, idx_scan::float, idx_tup_fetch::float, n_tup_ins::float, "
        "n_tup_upd::float, n_tup_del::float, n_live_tup::float, n_dead_tup::float "
        "FROM pg_stat_user_tables ORDER BY seq_tup_read DESC NULLS LAST LIMIT 300",
        ("datname", "schemaname", "relname"),
        counters=True,
    ),
    _View(
        "indexes",
        "pg_stat_user_indexes_",
        "SELECT current_database() AS datname, schemaname, s.relname, indexrelname, "
        "idx_scan::float, idx_tup_read::float, idx_tup_fetch::float, "
        "i.indisunique::int::float AS is_unique "
        "FROM pg_stat_user_indexes s JOIN pg_index i USING (indexrelid) "
        "ORDER BY idx_scan LIMIT 300",
        ("datname", "schemaname", "relname", "indexrelname"),
        counters=True,
    ),
    # Plain columns of whole tables alone: an expression or a condition serves its own statements.
    _View(
        "index columns",
        "pg_index_",
        "SELECT current_database() AS datname, s.schemaname, s.relname, s.indexrelname, "
        "(SELECT string_agg(a.attname, ',' ORDER BY k.place) "
        "FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(number, place) "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number) AS columns_text, "
        "1::float AS columns "
        "FROM pg_stat_user_indexes s JOIN pg_index i USING (indexrelid) "
        "WHERE i.indexprs IS NULL AND i.indpred IS NULL AND i.indisvalid LIMIT 1000",
        ("datname", "schemaname", "relname", "indexrelname", "columns_text"),
        every_ms=CATALOGUE_EVERY_MS,
    ),
    # One index whose columns, operators and method begin another's; of two alike the older stays.
    _View(
        "redundant indexes",
        "pg_index_",
        "SELECT current_database() AS datname, s.schemaname, s.relname, s.indexrelname, "
        "min(t.indexrelname) AS dominant_index, 1::float AS redundant "
        "FROM pg_index a JOIN pg_index b ON b.indrelid = a.indrelid "
        "AND b.indexrelid <> a.indexrelid "
        "JOIN pg_class ca ON ca.oid = a.indexrelid JOIN pg_class cb ON cb.oid = b.indexrelid "
        "JOIN pg_stat_user_indexes s ON s.indexrelid = a.indexrelid "
        "JOIN pg_stat_user_indexes t ON t.indexrelid = b.indexrelid "
        "WHERE NOT a.indisunique AND b.indisvalid AND ca.relam = cb.relam "
        "AND a.indexprs IS NULL AND b.indexprs IS NULL "
        "AND a.indpred IS NULL AND b.indpred IS NULL AND a.indnatts = a.indnkeyatts "
        "AND b.indkey::text || ' ' LIKE a.indkey::text || ' %' "
        "AND b.indclass::text || ' ' LIKE a.indclass::text || ' %' "
        "AND b.indoption::text || ' ' LIKE a.indoption::text || ' %' "
        "AND (a.indkey::text <> b.indkey::text OR b.indisunique OR b.indexrelid < a.indexrelid) "
        "GROUP BY 1, 2, 3, 4 LIMIT 200",
        ("datname", "schemaname", "relname", "indexrelname", "dominant_index"),
        every_ms=CATALOGUE_EVERY_MS,
    ),
)
_GAUGES = frozenset({"numbackends", "n_live_tup", "n_dead_tup", "is_unique"})
# Words for the labels that a column must not share its name with.
_LABELS = {"columns_text": "columns"}
_STATEMENTS = (
    "SELECT pg_get_userbyid(userid) AS user, coalesce(d.datname, '') AS datname, "
    "queryid::text AS queryid, sum(calls)::float AS calls_total, "
    "(sum(total_exec_time) / 1000)::float AS seconds_total, sum(rows)::float AS rows_total "
    "FROM pg_stat_statements s LEFT JOIN pg_database d ON d.oid = s.dbid "
    "WHERE queryid IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 5 DESC LIMIT {limit}"
)
# A statement that is none of these is kept with its literals, a new password among them.
_TEXTS = (
    "SELECT queryid::text AS queryid, min(left(query, 1024)) AS query, 1::float AS query_id "
    "FROM pg_stat_statements WHERE queryid IS NOT NULL "
    "AND query ~* '^\\s*(select|insert|update|delete|with)\\M' "
    "GROUP BY 1 ORDER BY sum(total_exec_time) DESC LIMIT {limit}"
)


def read_postgresql(fields: Fields) -> PostgresqlSettings:
    """The fields of a `postgresql` entry."""
    database = fields.text("database", "postgres")
    return PostgresqlSettings(
        account=read_account(fields, port=5432, database=database),
        statements=fields.count("statements", 100, most=500),
    )


@dataclass(slots=True)
class _Kept:
    """What a costly view said last, or why it said nothing."""

    rows: list[Row] = field(default_factory=list)
    lack: PollFailed | None = None
    due_ms: int = 0


class PostgresqlPoller:
    """Keeps one connection; a view that may not be read is told and leaves the others."""

    def __init__(self, settings: PostgresqlSettings, timeout_s: float) -> None:
        self._settings = settings
        self._client = PostgresClient(settings.account, timeout_s)
        self._kept: dict[str, _Kept] = {}

    async def poll(self, now_ms: int) -> Reading:
        reading = Reading()
        (version,) = await self._client.query("SELECT current_setting('server_version') AS v")
        reading.gauge("pg_static", 1, {"short_version": str(version["v"]).split()[0]})
        for view in _VIEWS:
            try:
                rows = await self._rows(view, now_ms)
            except (Denied, Absent) as error:
                reading.lacks(view.part, error.message, _GRANT)
                continue
            except TimedOut as error:
                reading.lacks(view.part, error.message, error.hint)
                continue
            for row in rows:
                _add(reading, view, row)
        await self._statements(reading)
        return reading

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _rows(self, view: _View, now_ms: int) -> list[Row]:
        if not view.every_ms:
            return await self._client.query(view.sql)
        kept = self._kept.setdefault(view.part, _Kept())
        if now_ms >= kept.due_ms:
            # Also what fails waits for its time: it may be what costs too much.
            kept.due_ms = now_ms + view.every_ms
            kept.lack = None
            try:
                kept.rows = await self._client.query(view.sql)
            except (Denied, Absent, TimedOut) as error:
                kept.lack = error
        if kept.lack is not None:
            raise kept.lack.with_traceback(None)
        return kept.rows

    async def _statements(self, reading: Reading) -> None:
        """`pg_stat_statements_*` where the extension is; without it nothing is missing."""
        if not self._settings.statements:
            return
        sql = _STATEMENTS.format(limit=self._settings.statements)
        try:
            rows = await self._client.query(sql)
        except Absent:
            return
        except Denied as error:
            reading.lacks("statements", error.message, _GRANT)
            return
        view = _View("statements", "pg_stat_statements_", sql, _STATEMENT_LABELS, counters=True)
        for row in rows:
            _add(reading, view, row)
        texts = _View("texts", "pg_stat_statements_", _TEXTS, ("queryid", "query"))
        for row in await self._client.query(_TEXTS.format(limit=self._settings.statements)):
            _add(reading, texts, row)


_STATEMENT_LABELS = ("user", "datname", "queryid")


def _add(reading: Reading, view: _View, row: Row) -> None:
    labels: Mapping[str, str] = {_LABELS.get(name, name): str(row[name]) for name in view.labels}
    for column, value in row.items():
        if column in view.labels or value is None:
            continue
        counter = view.counters and column not in _GAUGES
        add = reading.counter if counter else reading.gauge
        add(f"{view.prefix}{column}", float(value), labels)
