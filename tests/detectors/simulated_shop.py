"""An hour of a shop as its exporters tell it: bursts, a quiet night that falls, and faults.

Every series is a row of values on one grid of five seconds; a fault changes some rows between two
times. Counters are cumulative sums, so that a fault changes what is counted, not what was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from store.model import METRIC_NAME, Labels, SampleBatch

STEP_MS = 5_000
_DAY = 24 * 720
Row = npt.NDArray[np.floating[Any]]
ROUTES = {"products/": 30.0, "cart/": 8.0, "checkout/purchase/": 3.0, "search/": 12.0}
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# Parts of the requests in each bucket of BOUNDS, and beyond.
FAST = (0.62, 0.25, 0.09, 0.03, 0.008, 0.0015, 0.0004, 0.0001)
SLOW = (0.02, 0.03, 0.1, 0.15, 0.3, 0.3, 0.09, 0.01)


Apply = Callable[["Shop", slice], None]


@dataclass(frozen=True)
class Fault:
    """What goes wrong, which finding says so, and how soon it must.

    Attributes:
        kind: The finding's kind.
        title: What its title says.
        apply: Changes the rows of a shop at the places between the fault's begin and its end.
        within_s: From when the first sample shows it.
    """

    kind: str
    title: str
    apply: Apply
    within_s: float = 10.0


@dataclass
class Shop:
    """Rows a second (counters) and rows of values (gauges), before they become samples."""

    start_ms: int
    steps: int
    seed: int = 1
    daily: bool = False
    rates: dict[Labels, Row] = field(default_factory=dict)
    gauges: dict[Labels, Row] = field(default_factory=dict)
    mix: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    failing: dict[str, Row] = field(default_factory=dict)
    requests: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self._traffic()
        self._caches()
        self._databases()
        self._hosts()

    # -- what is healthy -------------------------------------------------

    def level(self) -> Row:
        """Falls to a third, as at the end of an evening (or by the hour), with bursts on top."""
        falling = np.linspace(1.0, 0.35, self.steps)
        if self.daily:
            falling = 0.55 + 0.45 * np.cos(np.arange(self.steps) * 2 * np.pi / _DAY)
        noise = np.exp(self.random.normal(0, 0.12, self.steps))
        for place in self.random.integers(0, self.steps, max(self.steps // 60, 1)).tolist():
            noise[place : place + 6] *= self.random.uniform(1.5, 3.0)
        return falling * noise

    def _traffic(self) -> None:
        level = self.level()
        for route, per_second in ROUTES.items():
            self.requests[route] = per_second * level
            self.failing[route] = np.full(self.steps, 0.002)
            self.mix[route] = np.tile(np.array(FAST), (self.steps, 1))

    def _caches(self) -> None:
        level = self.level()
        for result, rate in (("hits", 90.0), ("misses", 8.0)):
            self.counter(f"django_cache_get_{result}_total", rate * level, backend="default")
            self.counter(f"redis_keyspace_{result}_total", rate * level, instance="cache-1")
        self.counter("redis_evicted_keys_total", 0.5 * level, instance="cache-1")
        self.counter("redis_rejected_connections_total", 0 * level, instance="cache-1")
        self.gauge("redis_connected_clients", 40 + 5 * level, instance="cache-1")
        self.gauge("redis_config_maxclients", 1_000 + 0 * level, instance="cache-1")
        for name, rate in (("cached", 40.0), ("total", 50.0)):
            self.counter(f"cloudflare_zone_requests_{name}", rate * level, zone="shop.example")
        node = {"cluster": "search", "name": "es-1"}
        for name, rate in (
            ("search_query_total", 20.0),
            ("search_query_time_seconds", 0.8),
            ("request_cache_count", 12.0),
            ("request_miss_count", 6.0),
        ):
            self.counter(f"elasticsearch_indices_{name}", rate * level, **node)

    def _databases(self) -> None:
        level, flat = self.level(), np.ones(self.steps)
        status = "mysql_global_status_"
        for server, share in (("db-1", 1.0), ("db-2", 0.7)):
            self.gauge(
                f"{status}threads_connected", 70 + 30 * np.minimum(level, 2), instance=server
            )
            self.gauge("mysql_global_variables_max_connections", 200 * flat, instance=server)
            self.gauge(f"{status}uptime", 9e5 + np.arange(self.steps) * 5.0, instance=server)
            self.counter(
                f"{status}commands_total", 90 * share * level, instance=server, command="select"
            )
            for name, rate in (("read_requests", 40_000.0), ("reads", 20.0)):
                self.counter(f"{status}innodb_buffer_pool_{name}", rate * level, instance=server)
        errors = f"{status}connection_errors_total"
        self.counter(errors, 0 * flat, instance="db-1", error="max_connections")
        channel = {"instance": "db-2", "channel_name": "", "connection_name": ""}
        for thread in ("io", "sql"):
            self.gauge(f"mysql_slave_status_slave_{thread}_running", flat, **channel)
        now_s = self.start_ms / 1_000 + np.arange(self.steps) * 5.0
        lag = np.minimum(np.abs(self.random.normal(0, 1.2, self.steps)), 4.0)
        self.gauge("mysql_heartbeat_now_timestamp_seconds", now_s, instance="db-2")
        self.gauge("mysql_heartbeat_stored_timestamp_seconds", now_s - lag, instance="db-2")
        self.gauge("mysql_slave_status_seconds_behind_master", np.floor(lag), **channel)
        self.gauge("mysql_slave_status_sql_delay", 0 * flat, **channel)
        self.statement("d1", "SELECT `a` FROM `cart` WHERE `id` = ?", 40 * level)
        wait = np.where(self.random.random(self.steps) < 0.02, 0.8, 0.01)
        self.gauge(
            "pgbouncer_pools_client_maxwait_seconds", wait, instance="pool-1", database="shop"
        )
        pool = {"db_client_connection_pool_name": "default"}
        pending = self.random.poisson(0.3, self.steps).astype(np.float64)
        self.gauge("db_client_connection_pending_requests", pending, **pool)

    def _hosts(self) -> None:
        idle = np.clip(1 - 0.35 * self.level(), 0.05, 1.0)
        self.counter("node_cpu_seconds_total", idle, instance="web-1", mode="idle", cpu="0")
        flat = np.ones(self.steps)
        self.gauge("node_memory_MemTotal_bytes", 16e9 * flat, instance="web-1")
        self.gauge("node_memory_MemAvailable_bytes", 6e9 - 1e9 * flat, instance="web-1")
        disk = {"instance": "db-1", "mountpoint": "/var", "fstype": "ext4"}
        self.gauge("node_filesystem_size_bytes", 1e11 * flat, **disk)
        self.gauge("node_filesystem_avail_bytes", 3e10 - 4e5 * np.arange(self.steps), **disk)
        waves = 220 * (1 + np.sin(np.arange(self.steps) / 40.0))
        self.gauge("celery_queue_length", waves, queue_name="mail")
        for name, size in (("desired_capacity", 8), ("max_size", 20), ("min_size", 4)):
            self.gauge(f"aws_autoscaling_group_{name}", size * flat, group_name="web")

    # -- rows ------------------------------------------------------------

    def counter(self, name: str, per_second: Row, /, **labels: str) -> None:
        self.rates[Labels.of({METRIC_NAME: name, "job": "shop", **labels})] = per_second.copy()

    def gauge(self, name: str, values: Row, /, **labels: str) -> None:
        self.gauges[Labels.of({METRIC_NAME: name, "job": "shop", **labels})] = values.copy()

    def statement(
        self, digest: str, text: str, calls: Row, rows: float = 2.0, ms: float = 1.0
    ) -> None:
        """One digest of performance_schema: calls a second, rows that a call reads."""
        labels = {"instance": "db-1", "schema": "shop", "digest": digest, "digest_text": text}
        scans = float(rows > 100)
        for name, each in (
            ("total", 1.0),
            ("seconds_total", ms / 1e3),
            ("rows_examined_total", rows),
            ("rows_sent_total", 1.0),
            ("no_index_used_total", scans),
        ):
            self.counter(f"mysql_perf_schema_events_statements_{name}", calls * each, **labels)

    def of(self, rows: dict[Labels, Row], name: str, /, **labels: str) -> Row:
        """The one row with this name and these labels."""
        (found,) = (
            row
            for series, row in rows.items()
            if series.metric == name and all(series.get(k) == v for k, v in labels.items())
        )
        return found

    # -- samples ---------------------------------------------------------

    def batch(self) -> SampleBatch:
        """Every sample of the hour; a gauge that is NaN has none."""
        rows = dict(self._samples())
        times = self.start_ms + np.arange(self.steps, dtype=np.int64) * STEP_MS
        values = np.concatenate(list(rows.values()))
        index = np.repeat(np.arange(len(rows), dtype=np.int32), self.steps)
        kept = np.isfinite(values)
        return SampleBatch(tuple(rows), index[kept], np.tile(times, len(rows))[kept], values[kept])

    def _samples(self) -> Iterator[tuple[Labels, Row]]:
        yield from self.gauges.items()
        for labels, per_second in self.rates.items():
            counted = self.random.poisson(np.maximum(per_second, 0) * 5 * 100) / 100
            yield labels, np.cumsum(counted)
        for route, per_second in self.requests.items():
            yield from self._requests(route, per_second)

    def _requests(self, route: str, per_second: Row) -> Iterator[tuple[Labels, Row]]:
        came = self.random.poisson(np.maximum(per_second, 0) * 5)
        failed = self.random.binomial(came, self.failing[route])
        for status, counts in (("200", came - failed), ("500", failed)):
            parts = np.stack(
                [
                    self.random.multinomial(count, mix / mix.sum())
                    for count, mix in zip(counts.tolist(), self.mix[route], strict=True)
                ]
            )
            labels = {
                "job": "shop",
                "instance": "web-1",
                "http_route": route,
                "http_response_status_code": status,
            }
            name = "http_server_request_duration_seconds"
            yield Labels.of({METRIC_NAME: f"{name}_count", **labels}), np.cumsum(counts) * 1.0
            up_to = np.cumsum(parts, axis=1)
            for place, bound in enumerate([*map(str, BOUNDS), "+Inf"]):
                bucket = {METRIC_NAME: f"{name}_bucket", **labels, "le": bound}
                yield Labels.of(bucket), np.cumsum(up_to[:, place]) * 1.0
