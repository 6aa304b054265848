"""What may go wrong in the simulated shop, and which finding says so."""

from __future__ import annotations

import numpy as np

from tests.detectors.simulated_shop import SLOW, Apply, Fault, Shop


def set_gauge(name: str, value: float, **labels: str) -> Apply:
    def apply(shop: Shop, when: slice) -> None:
        shop.of(shop.gauges, name, **labels)[when] = value

    return apply


def set_rate(name: str, per_second: float, **labels: str) -> Apply:
    def apply(shop: Shop, when: slice) -> None:
        shop.of(shop.rates, name, **labels)[when] = per_second

    return apply


def lag(shop: Shop, when: slice) -> None:
    stored = shop.of(shop.gauges, "mysql_heartbeat_stored_timestamp_seconds")
    stored[when] -= 45.0


def stopped(shop: Shop, when: slice) -> None:
    """The thread stands; the heartbeat still comes by the other channel, so that lag stays out."""
    shop.of(shop.gauges, "mysql_slave_status_slave_sql_running")[when] = 0.0
    shop.of(shop.gauges, "mysql_slave_status_seconds_behind_master")[when] = np.nan


def exhausted(shop: Shop, when: slice) -> None:
    shop.of(shop.gauges, "mysql_global_status_threads_connected", instance="db-1")[when] = 200.0


def lost_cache(shop: Shop, when: slice) -> None:
    hits = shop.of(shop.rates, "django_cache_get_hits_total")
    misses = shop.of(shop.rates, "django_cache_get_misses_total")
    misses[when] += hits[when]
    hits[when] = 0.0


def cold_pool(shop: Shop, when: slice) -> None:
    name = "mysql_global_status_innodb_buffer_pool_reads"
    shop.of(shop.rates, name, instance="db-2")[when] = 9_000.0


def failing(shop: Shop, when: slice) -> None:
    shop.failing["checkout/purchase/"][when] = 1.0


def slow(shop: Shop, when: slice) -> None:
    shop.mix["products/"][when] = SLOW


def gone(shop: Shop, when: slice) -> None:
    for requests in shop.requests.values():
        requests[when] = 0.0


def one_route_gone(shop: Shop, when: slice) -> None:
    shop.requests["products/"][when] = 0.0


def scanning(shop: Shop, when: slice) -> None:
    calls = np.zeros(shop.steps)
    calls[when] = 6.0
    text = "SELECT `id` FROM `shop_order` WHERE `email` = ?"
    shop.statement("d2", text, calls, rows=400_000.0, ms=300.0)


def busy(shop: Shop, when: slice) -> None:
    """For four minutes: what lasts is told by the average of a minute then."""
    longer = slice(when.start, when.start + 48)
    shop.of(shop.rates, "node_cpu_seconds_total")[longer] = 0.0


def idle_replica(shop: Shop, when: slice) -> None:
    shop.of(shop.rates, "mysql_global_status_commands_total", instance="db-2")[when.start :] = 0.2


FAULTS = {
    "replica": Fault("replica_underused", "Replica db-2 serves", idle_replica),
    "lag": Fault("replica_lag", "Replica db-2 is", lag),
    "stopped": Fault("replication_broken", "Replication to db-2 has stopped", stopped),
    "exhausted": Fault("connection_saturation", "db-1 uses 100% of its connections", exhausted),
    "refused": Fault(
        "connection_wait",
        "db-1 refuses",
        set_rate("mysql_global_status_connection_errors_total", 20.0),
    ),
    "pooler": Fault(
        "connection_wait",
        "Clients of pool-1 shop wait 3.0 s",
        set_gauge("pgbouncer_pools_client_maxwait_seconds", 3.0),
    ),
    "pool": Fault(
        "connection_wait",
        "80.0 requests of shop wait",
        set_gauge("db_client_connection_pending_requests", 80.0),
    ),
    "evictions": Fault(
        "evictions", "Cache cache-1 evicts", set_rate("redis_evicted_keys_total", 900.0), 20.0
    ),
    "cache": Fault("hit_rate_drop", "Hit rate of cache default fell", lost_cache),
    "buffer pool": Fault("hit_rate_drop", "Hit rate of cache buffer pool of db-2 fell", cold_pool),
    "errors": Fault("error_regression", "checkout/purchase/ fails", failing),
    "latency": Fault("latency_regression", "products/ became slow", slow, 30.0),
    "silence": Fault("throughput_drop", "shop gets 0 requests a second", gone),
    "one route": Fault("throughput_drop", "products/ gets 0 requests a second", one_route_gone),
    "index": Fault(
        "missing_index", " rows read for 1 sent: SELECT `id` FROM `shop_order`", scanning
    ),
    "disk": Fault(
        "resource_saturation",
        "db-1 /var is 99% full",
        set_gauge("node_filesystem_avail_bytes", 1e9),
        35.0,
    ),
    "cpu": Fault("resource_saturation", "web-1 uses", busy),
}


def heartbeat_gone(shop: Shop, when: slice) -> None:
    """pt-heartbeat stops: the primary's own row grows old."""
    at_s = shop.start_ms / 1_000 + np.arange(shop.steps) * 5.0
    stored = np.minimum(at_s, at_s[when.start])
    row = {"instance": "db-1", "server_id": "1"}
    shop.gauge("mysql_heartbeat_now_timestamp_seconds", at_s, **row)
    shop.gauge("mysql_heartbeat_stored_timestamp_seconds", stored, **row)


# Faults of what no fault above touches: these last until the end.
def rest(shop: Shop, when: slice) -> None:
    """Queues, machines, search, visitors, heartbeats, locks and indexes."""
    heartbeat_gone(shop, when)
    waits = "mysql_global_status_innodb_row_lock_current_waits"
    shop.gauge(waits, np.full(shop.steps, 12.0), instance="db-1")
    until_end = slice(when.start, shop.steps)
    at = np.arange(shop.steps) * 5.0
    shop.of(shop.gauges, "celery_queue_length")[:] = 2_000 + 10 * at
    shop.of(shop.gauges, "aws_autoscaling_group_desired_capacity")[:] = 20.0
    shop.of(shop.rates, "elasticsearch_indices_search_query_time_seconds")[until_end] = 60.0
    shop.gauge(
        "mysql_index_unused",
        np.ones(shop.steps),
        instance="db-1",
        schema="shop",
        table="shop_order",
        index="ix_status",
    )
    visits = np.full(shop.steps, 1.0)
    page = {"page": "/products", "device": "mobile"}
    vital = "browser_web_vital_lcp_seconds"
    shop.counter(f"{vital}_count", visits, **page)
    for bound, part in (("2.5", 0.05), ("4", 0.1), ("6", 1.0), ("+Inf", 1.0)):
        shop.counter(f"{vital}_bucket", part * visits, **page, le=bound)
