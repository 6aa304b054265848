"""Each signal by the names of Warroom's pollers, of the usual exporters, and of a collector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import detectors.signals
from detectors.comparison import compare
from detectors.detector import SignalContext
from detectors.finding import Finding, Priority
from detectors.readings import Reading, Window, in_order
from detectors.registry import DetectorSettings
from detectors.signal_values import Signal, has_clean_value, signal_values
from detectors.two_samples import Verdict
from detectors.window_reading import Subject, WindowReader
from store.documents import parse_document
from store.model import METRIC_NAME, Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store
from tests.detectors.watched_shop import as_batch

START_MS = 1_700_000_000_000
STEP_MS = 15_000
MINUTES = 14
STEPS = MINUTES * 4 + 1
END_MS = START_MS + MINUTES * 60_000
RULES = Path(detectors.signals.__file__).with_name("signals.yml")
AT = np.arange(STEPS) * STEP_MS / 1_000
AT_END = np.arange(STEPS) == STEPS - 1
# The fault begins so many seconds after the start.
BREAKS_S = 480.0
Values = np.ndarray
Series = dict[str, Values]


def flat(value: float) -> Values:
    return np.full(STEPS, value)


def line(per_second: float, start: float = 0.0) -> Values:
    return start + per_second * AT


def bends(before: float, after: float) -> Values:
    """A counter that grows at one rate, then at another."""
    return before * np.minimum(AT, BREAKS_S) + after * np.maximum(AT - BREAKS_S, 0)


def lately(before: float, after: float, since_s: float = 30.0) -> Values:
    """As `bends`, so many seconds before the end."""
    bend_s = float(AT[-1]) - since_s
    grows: Values = before * np.minimum(AT, bend_s) + after * np.maximum(AT - bend_s, 0)
    return grows


def found(kind: str, series: Series) -> tuple[Finding, ...]:
    """What the detector says at the end."""
    with recorded(series) as engine:
        return judged(kind, engine)


def judged(kind: str, engine: Engine) -> tuple[Finding, ...]:
    return DetectorSettings().signal_detectors()[kind].evaluate(engine, SignalContext(END_MS))


def the_provable_one(kind: str, series: Series) -> Finding:
    """The only finding; its labels select one of its own series, else no fix of it is provable."""
    with recorded(series) as engine:
        (finding,) = judged(kind, engine)
        told = engine.instant(finding.evidence.series, END_MS).series
        values = signal_values(
            engine, Signal(finding.evidence.series, finding.labels), START_MS, END_MS, STEP_MS
        )
    labels = finding.labels.items()
    assert sum(all(one.get(name) == value for name, value in labels) for one in told) == 1
    assert len(values)
    return finding


@contextmanager
def recorded(series: Series) -> Iterator[Engine]:
    """A store of these series, the shipped rules recorded at every step."""
    names = {text.partition("{")[0] for text in series}
    data = parse_document(RULES.read_text(encoding="utf-8"), RULES.name).data
    rules = [rule for group in data["groups"] for rule in group["rules"]]
    times = (START_MS + AT * 1_000).astype(np.int64)
    labels = tuple(labels_of(text) for text in series)
    values = np.concatenate(list(series.values()))
    told = np.isfinite(values)
    index = np.repeat(np.arange(len(labels), dtype=np.int32), STEPS)[told]
    at_ms = np.tile(times, len(labels))[told]
    with open_store() as store:
        store.append(SampleBatch(labels, index, at_ms, values[told])).result(30)
        engine = Engine(store)
        for rule in rules:
            if "sig:" in rule["expr"] or any(name in rule["expr"] for name in names):
                matrix = engine.range(rule["expr"], START_MS, END_MS, 5_000)
                if matrix.series:
                    store.append(as_batch(rule["record"], matrix)).result(30)
        yield engine


def labels_of(text: str) -> Labels:
    name, _, inner = text.partition("{")
    pairs = dict(pair.split("=", 1) for pair in inner.rstrip("}").split(";") if pair)
    return Labels.of({METRIC_NAME: name, "job": "db", **pairs})


def pair(hits: str, misses: str, total: str = "") -> Series:
    """A cache that lost half of its hits; `total` counts both where there are no misses."""
    lost = {hits: bends(90.0, 30.0)}
    return lost | ({total: line(100.0)} if total else {misses: bends(10.0, 70.0)})


POOL = "mysql_global_status_innodb_buffer_pool"
CACHES: dict[str, tuple[Series, str]] = {
    "redis, exporter or collector": (
        pair("redis_keyspace_hits_total{instance=r}", "redis_keyspace_misses_total{instance=r}"),
        "cache r ",
    ),
    "memcached exporter": (
        pair(
            "memcached_commands_total{instance=m;command=get;status=hit}",
            "memcached_commands_total{instance=m;command=get;status=miss}",
        ),
        "cache m ",
    ),
    "memcached collector": (
        pair(
            "memcached_operations_total{instance=m;operation=get;type=hit}",
            "memcached_operations_total{instance=m;operation=get;type=miss}",
        ),
        "cache m ",
    ),
    "cloudflare": (
        pair(
            "cloudflare_zone_requests_cached{zone=z}", "", "cloudflare_zone_requests_total{zone=z}"
        ),
        "cache z ",
    ),
    "fastly": (
        pair("fastly_rt_hits_total{service_name=z}", "fastly_rt_miss_total{service_name=z}"),
        "cache z ",
    ),
    "varnish": (
        pair("varnish_main_cache_hit{instance=v}", "varnish_main_cache_miss{instance=v}"),
        "cache v ",
    ),
    "search request cache": (
        pair(
            "elasticsearch_indices_request_cache_count{cluster=s}",
            "elasticsearch_indices_request_miss_count{cluster=s}",
        ),
        "search request cache of db",
    ),
    "search query cache": (
        pair(
            "elasticsearch_indices_query_cache_count{cluster=s}",
            "elasticsearch_indices_query_miss_count{cluster=s}",
        ),
        "search query cache of db",
    ),
    "search collector": (
        pair(
            "elasticsearch_node_cache_count{cache_name=query;type=hit}",
            "elasticsearch_node_cache_count{cache_name=query;type=miss}",
        ),
        "cache query ",
    ),
    "buffer pool exporter": (
        pair(
            "",
            f"{POOL}_reads{{instance=db-1}}",
        )
        | {f"{POOL}_read_requests{{instance=db-1}}": line(100.0)},
        "buffer pool of db-1",
    ),
    "buffer pool collector": (
        {
            "mysql_buffer_pool_operations_total{instance=db-1;operation=read_requests}": line(1e4),
            "mysql_buffer_pool_operations_total{instance=db-1;operation=reads}": bends(5.0, 900.0),
        },
        "buffer pool of db-1",
    ),
    "postgresql exporter": (
        pair("pg_stat_database_blks_hit{instance=pg}", "pg_stat_database_blks_read{instance=pg}"),
        "buffer pool of pg",
    ),
    "postgresql collector": (
        pair(
            "postgresql_blocks_read_total{instance=pg;source=heap_hit}",
            "postgresql_blocks_read_total{instance=pg;source=heap_read}",
        ),
        "buffer pool of pg",
    ),
}
for case, _ in CACHES.values():
    case.pop("", None)


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_misses_more_is_found_by_each_name(name: str) -> None:
    series, words = CACHES[name]
    finding = the_provable_one("hit_rate_drop", series)
    assert words in finding.title
    detail = finding.evidence.detail
    assert float(detail["hit_rate"]) < float(detail["baseline_hit_rate"])


NOW_S = START_MS / 1_000 + AT
STOPS = np.minimum(NOW_S, START_MS / 1_000 + BREAKS_S)


def heartbeat(instance: str, stored: Values, server_id: str = "1") -> Series:
    """The row of pt-heartbeat that the primary wrote, read on one server."""
    labels = f"{{instance={instance};server_id={server_id}}}"
    return {
        f"mysql_heartbeat_now_timestamp_seconds{labels}": NOW_S,
        f"mysql_heartbeat_stored_timestamp_seconds{labels}": stored,
    }


def pg_writes(inserted: Values) -> Series:
    """What the primary of the same job counts."""
    name = "pg_stat_database_tup_{}{{instance=pg-1;datname=shop}}"
    rows = {"inserted": inserted, "updated": flat(0), "deleted": flat(0)}
    return {name.format(kind): values for kind, values in rows.items()}


def until_it_breaks(values: Values, later_s: float = 0.0) -> Values:
    """A series that is not told any more; `later_s` after the fault began."""
    return np.where(BREAKS_S + 60 + later_s >= AT, values, np.nan)


SLAVE = "mysql_slave_status_{}{{instance=db-2;channel_name=;connection_name=}}"
DIGEST = "{instance=db-1;schema=shop;digest=d1;digest_text=SELECT `a` FROM `t` WHERE `a` = ?}"
OTEL_DIGEST = "instance=db-1;schema=shop;digest=d1;digest_text=SELECT `a` FROM `t` WHERE `a` = ?"
OTEL_WAITS = (
    "mysql_index_io_wait_count_total{{instance=db-1;schema=shop;table=t;index={};operation=fetch}}"
)
PG_TABLE = "instance=pg;datname=shop;schemaname=public;relname=orders"
P95 = "mysql_perf_schema_events_statements_latency"
ENDPOINT = "proxysql_connpool_conns_{}{{instance=x;hostgroup={};endpoint={}:3306}}"
INDEX = "{{instance=db-1;schema=shop;{}=t;index={}{}}}"
WAITS = "mysql_perf_schema_index_io_waits_total"
PG_INDEX = (
    "pg_stat_user_indexes_idx_scan{{instance=pg;schemaname=public;relname=t;indexrelname={}}}"
)
OPERATIONS = "elasticsearch_node_operations_{}_total{{instance=es;operation=query}}"
CLIENT = "db_client_connection_{}{{db_client_connection_pool_name=p{}}}"
TRANSACTION = "pg_stat_activity_max_tx_duration{{instance=pg;datname=shop;state={}}}"
FAULTS: dict[str, tuple[str, Series, str]] = {
    "lag, MariaDB and MySQL before 8.4": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_master"): flat(50),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
        },
        "Replica db-2 is 50.0 s behind",
    ),
    "lag, MySQL 8.4": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_source"): flat(50),
            SLAVE.format("sql_delay"): flat(0),
        },
        "Replica db-2 is 50.0 s behind",
    ),
    "lag, collector": (
        "replica_lag",
        {"mysql_replica_time_behind_source_seconds{instance=db-2}": flat(50)},
        "Replica db-2 is 50.0 s behind",
    ),
    "file handles of a process": (
        "resource_saturation",
        {
            "process_open_fds{job=shop;instance=web-1}": 40 + bends(0, 2.5),
            "process_max_fds{job=shop;instance=web-1}": flat(1_024),
        },
        "shop on web-1 uses 92% of its file handles",
    ),
    "file handles of a host": (
        "resource_saturation",
        {
            "node_filefd_allocated{job=node;instance=web-1}": flat(9_800),
            "node_filefd_maximum{job=node;instance=web-1}": flat(10_000),
        },
        "web-1 uses 98% of its file handles",
    ),
    "a queue behind a row, and one behind a table": (
        "lock_wait",
        {
            "mysql_global_status_innodb_row_lock_current_waits{instance=db-1}": flat(4),
            "mysql_info_schema_processlist_threads{instance=db-1;"
            "state=waiting_for_table_metadata_lock}": flat(15),
        },
        "19.0 sessions of db-1 wait for a lock",
    ),
    "a queue behind a lock, PostgreSQL": (
        "lock_wait",
        {"pg_stat_activity_count{instance=pg;state=active;wait_event_type=Lock}": flat(9)},
        "9.0 sessions of pg wait for a lock",
    ),
    "a transaction that does nothing": (
        "lock_wait",
        {
            TRANSACTION.format("idle in transaction"): np.maximum(AT - 400, 0),
            TRANSACTION.format("active"): flat(2),
        },
        "A transaction of pg shop is 440.0 s old and does nothing",
    ),
    "a link that is silent, by GTID": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_master"): flat(0),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
            SLAVE.format("slave_sql_running"): flat(1),
            "mysql_gtid_sequence{instance=db-1;position=binlog;domain_id=0}": line(3),
            "mysql_gtid_sequence{instance=db-2;position=slave;domain_id=0}": bends(3, 0),
        },
        "Replica db-2 is 30.0 s behind",
    ),
    "a link that is silent, by positions in the binlog": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_master"): flat(0),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
            SLAVE.format("slave_sql_running"): flat(1),
            SLAVE.format("read_master_log_pos"): bends(900, 0),
            "mysql_global_status_binlog_bytes_written{instance=db-1}": line(900),
        },
        "Replica db-2 is 90.0 s behind",
    ),
    "a link that is silent, collector": (
        "replica_lag",
        {
            "mysql_replica_time_behind_source_seconds{instance=db-2}": flat(0),
            "mysql_row_operations_total{instance=db-1;operation=inserted}": line(9),
            "mysql_row_operations_total{instance=db-2;operation=inserted}": bends(9, 0),
        },
        "Replica db-2 has applied nothing for 90.0 s while the primary writes",
    ),
    "a link that is silent, by heartbeat": (
        "replica_lag",
        {
            **heartbeat("db-1", NOW_S - 0.5),
            **heartbeat("db-2", STOPS),
            SLAVE.format("seconds_behind_master"): flat(0),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
        },
        "Replica db-2 is 360.0 s behind",
    ),
    "a replica that is delayed, by its heartbeat": (
        "replica_lag",
        {
            **heartbeat("db-1", NOW_S - 0.5),
            **heartbeat("db-2", NOW_S - 3_660),
            SLAVE.format("sql_delay"): flat(3_600),
            SLAVE.format("slave_io_running"): flat(1),
        },
        "Replica db-2 is 3660.0 s behind",
    ),
    "pt-heartbeat has stopped, and the server is late": (
        "replica_lag",
        {
            **heartbeat("db-1", STOPS),
            **heartbeat("db-2", STOPS),
            SLAVE.format("seconds_behind_master"): flat(50),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
        },
        "Replica db-2 is 50.0 s behind",
    ),
    "lag, PostgreSQL poller": (
        "replica_lag",
        {
            "pg_replication_lag_seconds{instance=pg}": flat(50),
            "pg_replication_is_replica{instance=pg}": flat(1),
            "pg_wal_receivers{instance=pg}": flat(1),
        },
        "Replica pg is 50.0 s behind",
    ),
    "lag, PostgreSQL exporter, of a primary that is written": (
        "replica_lag",
        {
            "pg_replication_lag_seconds{instance=pg}": flat(50),
            "pg_replication_is_replica{instance=pg}": flat(1),
            **pg_writes(line(10)),
        },
        "Replica pg is 50.0 s behind",
    ),
    "lag, older PostgreSQL exporter": (
        "replica_lag",
        {"pg_replication_lag{instance=pg}": flat(50), **pg_writes(line(10))},
        "Replica pg is 50.0 s behind",
    ),
    "lag, PostgreSQL exporter, of a primary that nobody watches": (
        "replica_lag",
        {
            "pg_replication_lag_seconds{instance=pg}": flat(50),
            "pg_replication_is_replica{instance=pg}": flat(1),
        },
        "Replica pg has replayed nothing for 50.0 s",
    ),
    "lag, PostgreSQL collector": (
        "replica_lag",
        {
            "postgresql_wal_lag_seconds{instance=pg;operation=replay;"
            "replication_client=10.0.0.9}": flat(50)
        },
        "Replica 10.0.0.9 of pg is 50.0 s behind",
    ),
    "lag, collector, of a replica that is late on purpose": (
        "replica_lag",
        {
            "mysql_replica_time_behind_source_seconds{instance=db-2}": flat(3_650),
            "mysql_replica_sql_delay_seconds{instance=db-2}": flat(3_600),
        },
        "Replica db-2 is 50.0 s behind",
    ),
    "stopped, collector": (
        "replication_broken",
        {
            "mysql_replica_time_behind_source_seconds{instance=db-2}": until_it_breaks(flat(0)),
            "mysql_replica_sql_delay_seconds{instance=db-2}": until_it_breaks(flat(0), 240),
        },
        "Replication to db-2 has stopped",
    ),
    "pt-heartbeat has stopped": (
        "heartbeat_stopped",
        {
            **heartbeat("db-1", STOPS),
            **heartbeat("db-2", STOPS),
            # What the primary before this one wrote last.
            **heartbeat("db-1", STOPS - 9_000, server_id="7"),
            SLAVE.format("slave_io_running"): flat(1),
        },
        "Nobody has written the heartbeat on db-1 for 360.0 s",
    ),
    "lag, Redis": (
        "replica_lag",
        {
            "redis_connected_slave_lag_seconds{instance=r;slave_ip=10.0.0.9;slave_port=6379}": flat(
                50
            )
        },
        "Replica 10.0.0.9:6379 of r is 50.0 s behind",
    ),
    "stopped, MySQL 8.4": (
        "replication_broken",
        {
            SLAVE.format("replica_io_running"): flat(1),
            SLAVE.format("replica_sql_running"): flat(0),
        },
        "Replication to db-2 has stopped",
    ),
    "stopped, PostgreSQL": (
        "replication_broken",
        {
            "pg_wal_receivers{instance=pg}": flat(0),
            "pg_replication_is_replica{instance=pg}": flat(1),
        },
        "Replication to pg has stopped",
    ),
    "stopped, Redis": (
        "replication_broken",
        {"redis_master_link_up{instance=r2;master_host=r}": flat(0)},
        "Replication to r2 has stopped",
    ),
    "connections, PostgreSQL exporter": (
        "connection_saturation",
        {
            "pg_stat_activity_count{instance=pg;state=active}": flat(98),
            "pg_settings_max_connections{instance=pg}": flat(100),
        },
        "pg uses 98% of its connections",
    ),
    "connections, PostgreSQL, but for those that are kept for superusers": (
        "connection_saturation",
        {
            "pg_stat_activity_count{instance=pg;state=active}": flat(97),
            "pg_settings_max_connections{instance=pg}": flat(100),
            "pg_settings_superuser_reserved_connections{instance=pg}": flat(3),
        },
        "pg uses 100% of its connections",
    ),
    "connections, PostgreSQL collector": (
        "connection_saturation",
        {
            "postgresql_backends{instance=pg}": flat(98),
            "postgresql_connection_max{instance=pg}": flat(100),
        },
        "pg uses 98% of its connections",
    ),
    "connections, pgbouncer": (
        "connection_saturation",
        {
            "pgbouncer_pools_client_active_connections{instance=b;database=shop}": flat(60),
            "pgbouncer_pools_client_waiting_connections{instance=b;database=shop}": flat(38),
            "pgbouncer_config_max_client_connections{instance=b}": flat(100),
        },
        "Pooler b uses 98% of its client connections",
    ),
    "a client's pool, stable convention": (
        "connection_saturation",
        {
            CLIENT.format("count", ";db_client_connection_state=used"): flat(10),
            CLIENT.format("max", ""): flat(10),
        },
        "db uses 100% of its connection pool p",
    ),
    "a client's pool, old convention": (
        "connection_saturation",
        {
            "db_client_connections_usage{pool_name=p;state=used}": flat(10),
            "db_client_connections_max{pool_name=p}": flat(10),
        },
        "db uses 100% of its connection pool p",
    ),
    "waiting for HikariCP": (
        "connection_wait",
        {"hikaricp_connections_pending{pool=p}": flat(70)},
        "70.0 requests of db wait for pool p",
    ),
    "waiting, old convention": (
        "connection_wait",
        {"db_client_connections_pending_requests{pool_name=p}": flat(70)},
        "70.0 requests of db wait for pool p",
    ),
    "waiting at ProxySQL": (
        "connection_wait",
        {
            "proxysql_server_connections_total{instance=x;status=delayed}": line(30),
            "proxysql_max_connect_timeouts_total{instance=x}": line(1),
        },
        "x delays 31.0 connections a second",
    ),
    "refused by MySQL, collector": (
        "connection_wait",
        {"mysql_connection_errors_total{instance=db-1;error=max_connections}": line(3)},
        "db-1 refuses 3.0 connections a second",
    ),
    "refused by a full server after the login": (
        "connection_wait",
        {
            "mysql_global_status_aborted_connects{instance=db-1}": line(3),
            "mysql_global_status_threads_connected{instance=db-1}": flat(101),
            "mysql_global_variables_max_connections{instance=db-1}": flat(100),
        },
        "db-1 refuses 3.0 connections a second",
    ),
    "refused by Redis": (
        "connection_wait",
        {"redis_rejected_connections_total{instance=r}": line(3)},
        "Cache r refuses 3.0 connections a second",
    ),
    "logins refused, exporter": (
        "connection_wait",
        {"mysql_global_status_aborted_connects{instance=db-1}": line(3)},
        "db-1 refuses 3.0 logins a second",
    ),
    "logins refused by Redis": (
        "connection_wait",
        {"redis_errors_total{instance=r;err=WRONGPASS}": line(3)},
        "r refuses 3.0 logins a second",
    ),
    "logins refused, collector": (
        "connection_wait",
        {"mysql_connection_errors_total{instance=db-1;error=aborted}": line(3)},
        "db-1 refuses 3.0 logins a second",
    ),
    "an exporter that is let in no more": (
        "connection_wait",
        {"redis_up{instance=r}": np.where(AT < BREAKS_S, 1.0, 0.0)},
        "r (redis) takes no connection: it is down, or all of them are used",
    ),
    "a full cache that may not evict": (
        "resource_saturation",
        {"redis_errors_total{instance=r;err=OOM}": line(4)},
        "Cache r is full and refuses 4.0 writes a second",
    ),
    "a cache that cannot save": (
        "resource_saturation",
        {"redis_errors_total{instance=r;err=MISCONF}": line(4)},
        "Cache r refuses 4.0 writes a second: MISCONF",
    ),
    "a full cache, by its first errors": (
        "resource_saturation",
        {
            "redis_up{instance=r}": flat(1),
            "redis_errors_total{instance=r;err=OOM}": np.where(
                AT[-2] <= AT, lately(0, 4, 15) + 60, np.nan
            ),
        },
        "Cache r is full and refuses 4.0 writes a second",
    ),
    "evictions, collector": (
        "evictions",
        {"redis_keys_evicted_total{instance=r}": line(300)},
        "Cache r evicts 300.0 keys a second",
    ),
    "search, collector": (
        "search_latency",
        {
            OPERATIONS.format("time_milliseconds"): line(20_000),
            OPERATIONS.format("completed"): line(10),
        },
        "Search on db takes 2.0 s on average",
    ),
    "queue, Kafka": (
        "queue_growth",
        {"kafka_consumergroup_lag{consumergroup=mail;topic=orders}": line(10, 6_000)},
        "Queue mail/orders grows",
    ),
    "processor, collector": (
        "resource_saturation",
        {"system_cpu_time_seconds_total{instance=w;cpu=0;state=idle}": line(0.02)},
        "w uses 98% of its CPU",
    ),
    "slow statement, MySQL": (
        "missing_index",
        {
            f"mysql_perf_schema_events_statements_total{DIGEST}": line(0.5),
            f"mysql_perf_schema_events_statements_seconds_total{DIGEST}": line(1.0),
        },
        "A statement takes 2.0 s on average: SELECT `a` FROM `t`",
    ),
    "a scan that the collector counts by its executions without an index alone": (
        "missing_index",
        {
            **{
                f"mysql_statement_event_count{{{OTEL_DIGEST};kind={kind}}}": line(each)
                for kind, each in (("no_index_used", 2), ("rows_examined", 8e5), ("rows_sent", 2))
            },
            f"mysql_statement_event_wait_time_nanoseconds{{{OTEL_DIGEST}}}": line(2e8),
        },
        "400,000 rows read for 1 sent: SELECT `a` FROM `t` WHERE `a` = ?",
    ),
    "a table that PostgreSQL scans, exporter": (
        "missing_index",
        {
            f"pg_stat_user_tables_seq_scan{{{PG_TABLE}}}": line(2),
            f"pg_stat_user_tables_seq_tup_read{{{PG_TABLE}}}": line(100_000),
        },
        "Table public.orders of pg is read from end to end 2 times a second, 50,000 rows each",
    ),
    "a table that PostgreSQL scans, collector": (
        "missing_index",
        {
            "postgresql_sequential_scans_total{instance=pg;db_namespace=shop|public;"
            "db_collection_name=orders}": line(2),
            "postgresql_rows{instance=pg;db_namespace=shop|public;db_collection_name=orders;"
            "state=live}": flat(50_000),
        },
        "Table shop.public.orders of pg is read from end to end 2 times a second, 50,000 rows",
    ),
    "a statement that was fast until half a minute ago": (
        "missing_index",
        {
            f"mysql_perf_schema_events_statements_total{DIGEST}": lately(20, 1),
            f"mysql_perf_schema_events_statements_seconds_total{DIGEST}": lately(0.02, 1.5),
        },
        "A statement takes 1.5 s on average: SELECT `a` FROM `t`",
    ),
    "slow statement by its p95": (
        "missing_index",
        {
            f"mysql_perf_schema_events_statements_total{DIGEST}": line(2.0),
            f"mysql_perf_schema_events_statements_seconds_total{DIGEST}": line(1.0),
            f"{P95}{{instance=db-1;schema=shop;digest=d1;quantile=0.95}}": flat(2.4),
        },
        "A statement takes 2.4 s p95: SELECT",
    ),
    "slow statement, PostgreSQL": (
        "missing_index",
        {
            "pg_stat_statements_calls_total{instance=pg;datname=shop;queryid=77}": line(0.5),
            "pg_stat_statements_seconds_total{instance=pg;datname=shop;queryid=77}": line(1.0),
        },
        "A statement takes 2.0 s on average: 77",
    ),
    "unused index, poller": (
        "unused_index",
        {
            "mysql_index_unused{instance=db-1;schema=shop;table=t;index=ix_a}": flat(1),
            "mysql_global_status_uptime{instance=db-1}": line(1, 1e6),
        },
        "Index ix_a of shop.t was never read in 12 days",
    ),
    "unused index, exporter": (
        "unused_index",
        {
            WAITS + INDEX.format("name", "ix_a", ";operation=fetch"): flat(0),
            WAITS + INDEX.format("name", "PRIMARY", ";operation=fetch"): flat(0),
            "mysql_global_status_uptime{instance=db-1}": line(1, 1e6),
        },
        "Index ix_a of shop.t was never read in 12 days",
    ),
    "unused index, collector": (
        "unused_index",
        {
            OTEL_WAITS.format("ix_a"): flat(0),
            OTEL_WAITS.format("PRIMARY"): flat(0),
            "mysql_uptime_seconds_total{instance=db-1}": line(1, 1e6),
        },
        "Index ix_a of shop.t was never read in 12 days",
    ),
    "unused index, PostgreSQL collector": (
        "unused_index",
        {
            "postgresql_index_scans_total{instance=pg;db_namespace=shop|public;"
            "db_collection_name=t;postgresql_index_name=ix_a}": flat(0)
        },
        "Index ix_a of shop.public.t was never read",
    ),
    "unused index, PostgreSQL": (
        "unused_index",
        {
            PG_INDEX.format("ix_a"): flat(0),
            PG_INDEX.format("t_pkey"): flat(0),
            PG_INDEX.format("one_mail"): flat(0),
            PG_INDEX.format("one_mail").replace("idx_scan", "is_unique"): flat(1),
        },
        "Index ix_a of public.t was never read",
    ),
    "redundant index": (
        "unused_index",
        {
            "mysql_index_redundant" + INDEX.format("table", "ix_a", ";dominant_index=ix_a_b"): flat(
                1
            ),
            "mysql_index_unused{instance=db-1;schema=shop;table=t;index=ix_a}": flat(1),
        },
        "Index ix_a of shop.t repeats ix_a_b",
    ),
    "idle replica, exporter": (
        "replica_underused",
        {
            "mysql_global_status_commands_total{instance=db-1;command=select}": line(400),
            "mysql_global_status_commands_total{instance=db-2;command=select}": line(3),
            SLAVE.format("slave_io_running"): flat(1),
        },
        "Replica db-2 serves 1% of the reads: 3.0 of 403 a second",
    ),
    "idle replica, collector": (
        "replica_underused",
        {
            "mysql_commands_total{instance=db-1;command=select}": line(400),
            "mysql_commands_total{instance=db-2;command=select}": line(3),
            "mysql_replica_time_behind_source_seconds{instance=db-2}": flat(0),
        },
        "Replica db-2 serves 1% of the reads",
    ),
    "idle replica behind ProxySQL": (
        "replica_underused",
        {
            ENDPOINT.format("queries_total", 10, "a"): line(400),
            ENDPOINT.format("queries_total", 20, "b"): line(2),
            ENDPOINT.format("status", 10, "a"): flat(1),
            ENDPOINT.format("status", 20, "b"): flat(1),
        },
        "Replica b:3306 serves 0% of the reads: 2.0 of 402 a second",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_each_name(name: str) -> None:
    kind, series, title = FAULTS[name]
    finding = the_provable_one(kind, series)
    assert title in finding.title


def appears(calls: float, seconds: float) -> Series:
    """A digest that its server told of just now, beside one that it told of before."""
    known = "{instance=db-1;schema=shop;digest=d0}"
    name = "mysql_perf_schema_events_statements"
    return {
        f"{name}_total{known}": line(9),
        f"{name}_seconds_total{known}": line(0.1),
        f"{name}_total{DIGEST}": np.where(AT_END, calls, np.nan),
        f"{name}_seconds_total{DIGEST}": np.where(AT_END, seconds, np.nan),
    }


def test_a_slow_statement_that_nobody_ran_before_is_found_by_its_first_sample() -> None:
    (finding,) = found("missing_index", appears(6, 9))
    assert finding.kind == "slow_query"
    assert finding.title.startswith("A statement takes 1.5 s on average: SELECT `a` FROM `t`")
    assert finding.priority is Priority.P2


def test_a_slow_scan_that_is_run_seldom_is_told_as_a_scan_from_the_first() -> None:
    name = "mysql_perf_schema_events_statements"
    each = {"": 1, "_seconds": 2, "_no_index_used": 1, "_rows_examined": 120_000, "_rows_sent": 5}
    series = {
        f"{name}{part}_total{DIGEST}": lately(0, 0.2 * many, 20) for part, many in each.items()
    }
    (finding,) = found("missing_index", series)
    assert finding.kind == "missing_index"


def test_a_digest_that_comes_among_the_dearest_with_all_it_ever_did_is_nothing() -> None:
    assert found("missing_index", appears(1e6, 2e6)) == ()


@pytest.mark.parametrize(("per_second", "each_s", "pages"), [(2, 2, True), (0.2, 8, False)])
def test_a_slow_statement_pages_unless_it_is_a_report(
    per_second: float, each_s: float, pages: bool
) -> None:
    series = {
        f"mysql_perf_schema_events_statements_total{DIGEST}": line(per_second),
        f"mysql_perf_schema_events_statements_seconds_total{DIGEST}": line(per_second * each_s),
    }
    (finding,) = found("missing_index", series)
    assert (finding.priority is Priority.P1) is pages


QUIET: dict[str, tuple[str, Series]] = {
    "a few that wait their turn": (
        "lock_wait",
        {
            "mysql_global_status_innodb_row_lock_current_waits{instance=db-1}": flat(2),
            "mysql_info_schema_processlist_threads{instance=db-1;state=sending_data}": flat(40),
        },
    ),
    "a long report": ("lock_wait", {TRANSACTION.format("active"): AT}),
    "a replica that is late on purpose": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_master"): flat(3_602),
            SLAVE.format("sql_delay"): flat(3_600),
            SLAVE.format("slave_io_running"): flat(1),
            "mysql_gtid_sequence{instance=db-1;position=binlog;domain_id=0}": line(3),
            "mysql_gtid_sequence{instance=db-2;position=slave;domain_id=0}": line(3, -10_000),
        },
    ),
    "a pt-heartbeat that has stopped": (
        "replica_lag",
        {
            **heartbeat("db-1", STOPS),
            **heartbeat("db-2", STOPS),
            # What the primary before this one wrote last.
            **heartbeat("db-1", STOPS - 9_000, server_id="7"),
            **heartbeat("db-2", STOPS - 9_000, server_id="7"),
            SLAVE.format("seconds_behind_master"): flat(0),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
        },
    ),
    "two clusters in one domain": (
        "replica_lag",
        {
            SLAVE.format("slave_io_running"): flat(1),
            "mysql_gtid_sequence{instance=db-1;position=binlog;domain_id=0}": line(3),
            "mysql_gtid_sequence{instance=db-9;position=binlog;domain_id=0}": line(3, 10_000),
            "mysql_gtid_sequence{instance=db-2;position=slave;domain_id=0}": line(3),
        },
    ),
    "a PostgreSQL replica of an idle primary": (
        "replica_lag",
        {
            "pg_replication_lag_seconds{instance=pg}": np.maximum(AT - 60, 0),
            "pg_replication_is_replica{instance=pg}": flat(1),
            **pg_writes(np.minimum(AT, 60)),
        },
    ),
    "a health check that connects now and then": (
        "connection_wait",
        {"mysql_global_status_aborted_connects{instance=db-1}": line(0.2)},
    ),
    "a server that has been down all the time": (
        "connection_wait",
        {"mysql_up{instance=db-1}": flat(0)},
    ),
    "small tables that PostgreSQL rightly scans": (
        "missing_index",
        {
            f"pg_stat_user_tables_seq_scan{{{PG_TABLE}}}": line(20),
            f"pg_stat_user_tables_seq_tup_read{{{PG_TABLE}}}": line(20_000),
        },
    ),
    "a server that was started an hour ago": (
        "unused_index",
        {
            "mysql_index_unused{instance=db-1;schema=shop;table=t;index=ix_a}": flat(1),
            "mysql_global_status_uptime{instance=db-1}": line(1, 3_600),
        },
    ),
    "a server that is hardly read": (
        "replica_underused",
        {
            "mysql_global_status_commands_total{instance=db-1;command=select}": line(4),
            "mysql_global_status_commands_total{instance=db-2;command=select}": line(0),
            SLAVE.format("slave_io_running"): flat(1),
        },
    ),
    "a writer that only writes": (
        "replica_underused",
        {
            ENDPOINT.format("queries_total", 10, "a"): line(4),
            ENDPOINT.format("queries_total", 20, "b"): line(400),
            ENDPOINT.format("status", 10, "a"): flat(1),
            ENDPOINT.format("status", 20, "b"): flat(1),
        },
    ),
    "a link between an idle primary and its replica": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_master"): flat(0),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
            SLAVE.format("read_master_log_pos"): bends(900, 0),
            "mysql_global_status_binlog_bytes_written{instance=db-1}": bends(900, 0),
        },
    ),
    "a replica that is asked more seldom than its primary": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_master"): flat(0),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
            SLAVE.format("read_master_log_pos"): np.where(
                np.arange(STEPS)[::-1] % 8 == 7, line(900), np.nan
            ),
            "mysql_global_status_binlog_bytes_written{instance=db-1}": line(900),
        },
    ),
    "a link of one write in two minutes": (
        "replica_lag",
        {
            SLAVE.format("seconds_behind_master"): flat(0),
            SLAVE.format("sql_delay"): flat(0),
            SLAVE.format("slave_io_running"): flat(1),
            SLAVE.format("read_master_log_pos"): 500 * np.floor(AT / 120),
            "mysql_global_status_binlog_bytes_written{instance=db-1}": 500 * np.floor(AT / 120),
        },
    ),
    "a slow statement that runs once an hour": (
        "missing_index",
        {
            f"mysql_perf_schema_events_statements_total{DIGEST}": line(0.003),
            f"mysql_perf_schema_events_statements_seconds_total{DIGEST}": line(0.03),
        },
    ),
}


@pytest.mark.parametrize("name", QUIET)
def test_its_harmless_twin_is_nothing(name: str) -> None:
    kind, series = QUIET[name]
    assert found(kind, series) == ()


@pytest.mark.parametrize(
    ("name", "cured"),
    [
        (
            "idle replica, exporter",
            {"mysql_global_status_commands_total{instance=db-2;command=select}": bends(3, 390)},
        ),
        (
            "idle replica behind ProxySQL",
            {ENDPOINT.format("queries_total", 20, "b"): bends(2, 390)},
        ),
    ],
)
def test_a_replica_that_is_read_again_is_proven(name: str, cured: Series) -> None:
    kind, series, _ = FAULTS[name]
    (finding,) = found(kind, series)
    signal = Signal(finding.evidence.series, finding.labels)
    subject = Subject("", signal=signal.series, signal_labels=signal.labels)
    middle_ms = START_MS + int(BREAKS_S) * 1_000 + 300_000
    with recorded({**series, **cured}) as engine, open_store() as spans:
        assert judged(kind, engine) == ()
        read = WindowReader(engine, spans).read
        before = read(subject, Window(START_MS + 60_000, START_MS + int(BREAKS_S) * 1_000))
        after = read(subject, Window(middle_ms, END_MS))
        assert has_clean_value(engine, signal, END_MS)
    compared = compare(before, after, finding.kind)
    assert compared.judgement.verdict is Verdict.BETTER, compared.why


@pytest.mark.parametrize(
    "name", ["unused index, poller", "unused index, exporter", "redundant index"]
)
def test_an_index_is_proven_gone_while_its_server_is_up(name: str) -> None:
    kind, series, _ = FAULTS[name]
    (finding,) = found(kind, series)
    signal = Signal(finding.evidence.series, finding.labels)
    uptime: Series = {"mysql_global_status_uptime{instance=db-1}": line(1, 1e6)}
    other: Series = {"mysql_global_status_uptime{instance=db-2}": line(1, 1e6)}
    for state, clean in ((series, False), (uptime, True), (other, False)):
        with recorded({**state}) as engine:
            assert has_clean_value(engine, signal, END_MS) is clean
    with recorded(series | uptime) as engine:
        there = signal_values(engine, signal, START_MS, END_MS, STEP_MS)
        assert not has_clean_value(engine, signal, END_MS)
    with recorded(uptime) as engine:
        gone = signal_values(engine, signal, START_MS, END_MS, STEP_MS)
    before, after = (
        Reading(Window(START_MS, END_MS), signal=in_order(one)) for one in (there, gone)
    )
    compared = compare(before, after, finding.kind)
    assert compared.judgement.verdict is Verdict.BETTER, compared.why


def test_an_index_finding_ends_when_the_server_no_longer_says_so() -> None:
    fault = FAULTS["unused index, poller"][1]
    (finding,) = found("unused_index", fault)
    detector = DetectorSettings().signal_detectors()["unused_index"]
    now_ms = finding.last_seen_ms + 5_000
    context = SignalContext(now_ms, {finding.fingerprint: finding})
    with open_store() as store:
        assert detector.evaluate(Engine(store), context) == (finding,)
        uptime = Labels.of({METRIC_NAME: "sig:db_uptime:seconds", "instance": "db-1"})
        store.append(SampleBatch.of_rows([(uptime, now_ms, 1e6)])).result(30)
        assert detector.evaluate(Engine(store), context) == ()


@pytest.mark.parametrize("standing", ["proxysql_up", "pgbouncer_up", "redis_up"])
def test_a_server_that_is_down_is_found_though_another_of_its_name_stands(standing: str) -> None:
    down = np.where(AT > MINUTES * 60 - 60, 0.0, 1.0)
    series = {"mysql_up{instance=db-1}": down, f"{standing}{{instance=db-1;job=other}}": flat(1)}
    (finding,) = found("connection_wait", series)
    assert finding.title.startswith("db-1 (mysql) takes no connection")
