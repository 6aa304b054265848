"""Errors of JavaScript in real browsers, counted by page and device: `rum_errors_total`."""

from __future__ import annotations

from collector.web_vitals import PageNames
from store.model import METRIC_NAME, Labels, MetricMetadata, MetricType, SampleBatch

FAMILY = "rum_errors_total"
_METADATA = MetricMetadata(FAMILY, MetricType.COUNTER, "Errors of JavaScript in real browsers")
# Without a zero before it, rate() would not see a series' first count.
_ZERO_BEFORE_MS = 1000


class PageErrors:
    """Cumulative counts. Not thread-safe: used from the event loop alone."""

    def __init__(self) -> None:
        self._pages = PageNames()
        self._counts: dict[Labels, int] = {}
        self._told: set[Labels] = set()
        self._changed: set[Labels] = set()

    def add(self, page: str, device: str, count: int) -> None:
        if not count:
            return
        labels = {METRIC_NAME: FAMILY, "page": self._pages.bounded(page), "device": device}
        series = Labels(labels.items())
        self._counts[series] = self._counts.get(series, 0) + count
        self._changed.add(series)

    def due(self, now_ms: int) -> SampleBatch:
        """A sample of each count that changed since the last time."""
        rows: list[tuple[Labels, int, float]] = []
        for series in sorted(self._changed):
            if series not in self._told:
                rows.append((series, now_ms - _ZERO_BEFORE_MS, 0.0))
                self._told.add(series)
            rows.append((series, now_ms, float(self._counts[series])))
        self._changed.clear()
        return SampleBatch.of_rows(rows, metadata=(_METADATA,) if rows else ())
