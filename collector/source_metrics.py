"""The freshness of each source as metrics, so that rules can alert on a source that fell silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from collector.source_health import SourceRegistry, SourceState


class SourceMetrics(Collector):
    """Two series a source, read when scraped; sources are bounded in number."""

    def __init__(self, sources: SourceRegistry, now_ms: Callable[[], int]) -> None:
        self._sources = sources
        self._now_ms = now_ms

    @override
    def collect(self) -> Iterator[Metric]:
        silent = GaugeMetricFamily(
            "warroom_collector_source_silent",
            "1 while nothing has arrived for more than three of its intervals.",
            labels=["source"],
        )
        success = GaugeMetricFamily(
            "warroom_collector_source_last_success_timestamp_seconds",
            "When data of the source became durable last.",
            labels=["source"],
        )
        for status in self._sources.list(self._now_ms()):
            silent.add_metric([status.name], float(status.state is SourceState.SILENT))
            if status.last_success_at_ms is not None:
                success.add_metric([status.name], status.last_success_at_ms / 1000)
        yield silent
        yield success
