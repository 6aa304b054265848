"""Warroom's own logs and metrics."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from typing_extensions import override

from store.errors import StoreUnavailable
from store.model import UnitHealth
from store.promql.cache import CacheStats

_TICK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def configure_logs(*, level: str = "info", json: bool = False) -> None:
    """Structured logs on standard error: for people on a terminal, JSON lines elsewhere."""
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json
        # The default shows local variables, secrets among them, where `rich` is installed.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if json else _as_is,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _as_is(_logger: Any, _method: str, event: Any) -> Any:
    return event


class SelfMetrics:
    """The service's own figures, on a registry of its own: two services fit into one process."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        info = Gauge("warroom_build_info", "Version.", ["version"], registry=self.registry)
        info.labels(version).set(1)
        self.tick_seconds = Histogram(
            "warroom_tick_duration_seconds",
            "Time of each step of a tick.",
            ["step"],
            buckets=_TICK_BUCKETS,
            registry=self.registry,
        )
        self.last_tick = Gauge(
            "warroom_last_tick_timestamp_seconds",
            "Instant of the last finished tick.",
            registry=self.registry,
        )
        self.interval = Gauge(
            "warroom_evaluation_interval_seconds",
            "How often a tick is due.",
            registry=self.registry,
        )
        self.watchers = Gauge("warroom_live_watchers", "Open live streams.", registry=self.registry)
        self.config_ok = Gauge(
            "warroom_config_last_reload_successful",
            "1 when the last reload of the configuration succeeded.",
            registry=self.registry,
        )
        self.config_changed = Gauge(
            "warroom_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
            registry=self.registry,
        )
        self.deadman_ping = Gauge(
            "warroom_deadman_last_ping_timestamp_seconds",
            "When the dead-man's switch was pinged last.",
            registry=self.registry,
        )
        self._units = _UnitCollector()
        self.registry.register(self._units)

    def watch_store(
        self, figures: Callable[[], Any], outbox: Callable[[], Mapping[str, int]]
    ) -> None:
        self.registry.register(StoreCollector(figures, outbox))

    def watch_escalations(self, by_state: Callable[[], Mapping[str, int]]) -> None:
        self.registry.register(EscalationCollector(by_state))

    def watch_query_cache(self, figures: Callable[[], CacheStats]) -> None:
        self.registry.register(QueryCacheCollector(figures))

    def observe_units(self, health: tuple[UnitHealth, ...]) -> None:
        self._units.observe(health)


class QueryCacheCollector(Collector):
    """What the cache of range queries saves, read when scraped."""

    def __init__(self, figures: Callable[[], CacheStats]) -> None:
        self._figures = figures

    @override
    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        requests = CounterMetricFamily(
            "warroom_query_cache_requests", "Range queries by what they found.", labels=["result"]
        )
        for result in ("hits", "misses", "bypassed"):
            requests.add_metric([result], float(getattr(figures, result)))
        yield requests
        steps = CounterMetricFamily(
            "warroom_query_cache_steps", "Steps of cacheable range queries.", labels=["origin"]
        )
        steps.add_metric(["cache"], float(figures.steps_reused))
        steps.add_metric(["evaluation"], float(figures.steps_evaluated))
        yield steps
        yield GaugeMetricFamily(
            "warroom_query_cache_entries", "Answers held.", value=float(figures.entries)
        )
        yield GaugeMetricFamily(
            "warroom_query_cache_bytes", "Bytes of the answers held.", value=float(figures.bytes)
        )


class StoreCollector(Collector):
    """Figures of the store and the outbox, read when scraped.

    `figures` answers a frozen dataclass of numbers; `_written` names count since the start.
    """

    def __init__(self, figures: Callable[[], Any], outbox: Callable[[], Mapping[str, int]]) -> None:
        self._figures = figures
        self._outbox = outbox

    @override
    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        for field in dataclasses.fields(figures):
            value = getattr(figures, field.name)
            if isinstance(value, int | float):
                yield _store_metric(field.name, float(value))
        messages = GaugeMetricFamily(
            "warroom_alerts_outbox_messages", "Messages by state.", labels=["state"]
        )
        up = 1.0
        try:
            for state, count in self._outbox().items():
                messages.add_metric([state], float(count))
        except StoreUnavailable:
            # The page that tells of an outage must not be part of it.
            up = 0.0
        yield messages
        yield GaugeMetricFamily("warroom_state_up", "1 while the state database answers.", value=up)


class EscalationCollector(Collector):
    """How many escalations are in each state, read when scraped; states with none are 0."""

    def __init__(self, by_state: Callable[[], Mapping[str, int]]) -> None:
        self._by_state = by_state

    @override
    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(
            "warroom_alerts_escalations", "Escalations that have not ended.", labels=["state"]
        )
        # `warroom_state_up` tells of an outage.
        with suppress(StoreUnavailable):
            for state, count in self._by_state().items():
                found.add_metric([state], float(count))
        yield found


def _store_metric(name: str, value: float) -> Metric:
    if name.endswith(("_written", "commits")):
        text = name.replace("_", " ").capitalize()
        return CounterMetricFamily(f"warroom_store_{name}", f"{text}.", value=value)
    for suffix, unit, factor in (("_ms", "_timestamp_seconds", 0.001), ("_s", "_seconds", 1.0)):
        if name.endswith(suffix):
            stem = name.removesuffix(suffix)
            return GaugeMetricFamily(
                f"warroom_store_{stem}{unit}",
                f"{stem.replace('_', ' ').capitalize()}.",
                value=value * factor,
            )
    return GaugeMetricFamily(
        f"warroom_store_{name}", f"{name.replace('_', ' ').capitalize()}.", value=value
    )


class _UnitCollector(Collector):
    """Health of rules, detectors, SLOs and KPIs, read when scraped."""

    def __init__(self) -> None:
        self._latest: dict[str, UnitHealth] = {}
        self._failures: dict[str, int] = {}

    def observe(self, health: tuple[UnitHealth, ...]) -> None:
        for unit in health:
            self._latest[unit.unit] = unit
            if not unit.ok:
                self._failures[unit.unit] = self._failures.get(unit.unit, 0) + 1

    @override
    def collect(self) -> Iterator[Metric]:
        healthy = GaugeMetricFamily(
            "warroom_unit_healthy", "1 when its last run succeeded.", labels=["unit"]
        )
        duration = GaugeMetricFamily(
            "warroom_unit_duration_seconds", "Time of its last run.", labels=["unit"]
        )
        failures = CounterMetricFamily(
            "warroom_unit_failures_total", "Runs that failed.", labels=["unit"]
        )
        for name, unit in list(self._latest.items()):
            healthy.add_metric([name], float(unit.ok))
            duration.add_metric([name], unit.duration_s)
            failures.add_metric([name], float(self._failures.get(name, 0)))
        yield healthy
        yield duration
        yield failures
        bad = sum(not unit.ok for unit in list(self._latest.values()))
        yield GaugeMetricFamily(
            "warroom_units_unhealthy", "Units whose last run failed.", value=float(bad)
        )
