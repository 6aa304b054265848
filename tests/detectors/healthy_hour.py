"""A shop in which nothing is wrong and much goes on: what must wake nobody.

Bursts of visitors, a night that falls, deploys without effect and restarts (counters begin anew),
a database that restarts for ten seconds, cron jobs that take the processor, the buffer pool, the
queue and the cache for half a minute, scrapes that fail for a minute, and a PostgreSQL pair scraped
every 15 s whose primary falls idle, so that the age of what its replica replayed last grows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from typing_extensions import override

from store.model import Labels, SampleBatch
from tests.detectors.simulated_shop import STEP_MS, Row, Shop

_MINUTE = 12
_SCRAPED = 3
_IDLE_AFTER = 0.4


@dataclass
class HealthyHour(Shop):
    """Attributes: `resets` and `gaps` say when which process restarts, and is not scraped."""

    resets: list[tuple[int, str]] = field(default_factory=list)
    gaps: list[tuple[slice, str]] = field(default_factory=list)

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self._visitors()
        self._cron()
        self._restarts()
        self._postgresql()

    def _visitors(self) -> None:
        """Everybody comes at once, three times, for up to two minutes."""
        for _ in range(3):
            begin = int(self.random.integers(0, self.steps - 2 * _MINUTE))
            burst = slice(begin, begin + int(self.random.integers(4, 2 * _MINUTE)))
            more = self.random.uniform(2.0, 4.0)
            for requests in self.requests.values():
                requests[burst] *= more
            for name in ("django_cache_get_hits_total", "django_cache_get_misses_total"):
                self.of(self.rates, name)[burst] *= more
            pending = self.of(self.gauges, "db_client_connection_pending_requests")
            pending[burst.start] += 6

    def _cron(self) -> None:
        """Every ten minutes, for half a minute."""
        pool = self.of(self.rates, "mysql_global_status_innodb_buffer_pool_reads", instance="db-2")
        for begin in range(10 * _MINUTE, self.steps - _MINUTE, 10 * _MINUTE):
            job = slice(begin, begin + 6)
            self.of(self.rates, "node_cpu_seconds_total")[job] = 0.06
            pool[job] *= 20
            self.of(self.rates, "redis_evicted_keys_total")[job] = 60.0
            self.of(self.gauges, "pgbouncer_pools_client_maxwait_seconds")[begin] = 1.2
            queue = self.of(self.gauges, "celery_queue_length")
            shrinks = np.linspace(6_000, 0, 24)
            queue[begin : begin + 24] += shrinks[: len(queue) - begin]
            lag = self.of(self.gauges, "mysql_heartbeat_stored_timestamp_seconds")
            lag[begin : begin + 2] -= 6.0

    def _restarts(self) -> None:
        for step, process in ((200, "web-1"), (430, "web-1"), (520, "cache-1")):
            self.resets.append((step, process))
            self.gaps.append((slice(step, step + 2), process))
        database = slice(600, 602)
        self.resets.append((database.start, "db-1"))
        self.gaps.append((database, "db-1"))
        up = np.ones(self.steps)
        up[database] = 0.0
        self.gauge("mysql_up", up, instance="db-1", scraped_by="poller")
        for begin, process in ((260, "db-2"), (330, "web-1"), (470, "cache-1"), (700, "db-1")):
            self.gaps.append((slice(begin, begin + _MINUTE), process))

    def _postgresql(self) -> None:
        """Writes all the time, then one each few minutes; read every third step."""
        step_s = STEP_MS / 1_000
        at_s = np.arange(self.steps) * step_s
        busy = at_s < _IDLE_AFTER * at_s[-1]
        writes = np.where(busy, 20.0, 0.0)
        writes[:: 8 * _MINUTE] = 2.0
        last_s = np.maximum.accumulate(np.where(writes > 0, at_s, 0.0))
        place = {"job": "pg"}
        scraped = np.arange(self.steps) % _SCRAPED == 0
        none = np.zeros(self.steps)
        for kind, row in (("inserted", np.cumsum(writes)), ("updated", none), ("deleted", none)):
            told = np.where(scraped, row, np.nan)
            metric = f"pg_stat_database_tup_{kind}"
            self.gauge(metric, told, **place, instance="pg-1", datname="shop")
        age = np.where(np.roll(scraped, 1), at_s - last_s, np.nan)
        self.gauge("pg_replication_lag_seconds", age, **place, instance="pg-2")
        self.gauge("pg_replication_is_replica", at_s * 0 + 1, **place, instance="pg-2")

    @override
    def batch(self) -> SampleBatch:
        whole = super().batch()
        steps = (whole.ts_ms - self.start_ms) // STEP_MS
        values = whole.values.copy()
        lost = np.zeros(len(values), dtype=np.bool_)
        counted = {labels for labels in whole.series if labels not in self.gauges}
        for number, labels in enumerate(whole.series):
            rows = np.flatnonzero(whole.series_index == number)
            if labels in counted:
                values[rows] = self._reset(labels, steps[rows], values[rows])
            for gap, process in self.gaps:
                if labels.get("instance") == process and "scraped_by" not in labels.to_dict():
                    lost[rows] |= (steps[rows] >= gap.start) & (steps[rows] < gap.stop)
        kept = ~lost
        return SampleBatch(whole.series, whole.series_index[kept], whole.ts_ms[kept], values[kept])

    def _reset(self, labels: Labels, steps: np.ndarray, values: Row) -> Row:
        """A process that restarts counts from zero."""
        out = values.copy()
        for step, process in self.resets:
            after = steps >= step
            if labels.get("instance") == process and after.any() and not after.all():
                out[after] -= out[after][0]
        return out
