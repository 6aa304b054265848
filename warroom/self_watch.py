"""Warroom's own metrics as series in its own store, so that its rules and boards see them."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from store.errors import WarroomError
from store.model import METRIC_NAME, Labels, SampleBatch
from store.ports import Appender

log = structlog.get_logger()

INTERVAL_S = 15.0
JOB = "warroom"
# Of each unit by itself there may be thousands; `warroom_units_unhealthy` counts them.
_NOT_KEPT = (f"{JOB}_unit_", "python_", "process_start")
MAX_SERIES = 2_000


class SelfWatch:
    """Reads the registry as a scrape would, without a port."""

    def __init__(self, registry: CollectorRegistry, appender: Appender) -> None:
        self._registry = registry
        self._appender = appender

    async def run(self, now_ms: int) -> None:
        """Store the figures of this instant; a full queue is logged, and shows as a gap."""
        batch = await asyncio.to_thread(self.read, now_ms)
        try:
            await asyncio.wrap_future(self._appender.append(batch))
        except WarroomError as exc:
            log.warning("own_metrics_not_kept", error=str(exc))

    def read(self, now_ms: int) -> SampleBatch:
        """What is kept of the registry, at most `MAX_SERIES` series."""
        series: list[Labels] = []
        values: list[float] = []
        for family in self._registry.collect():
            if family.name.startswith(_NOT_KEPT):
                continue
            for sample in family.samples:
                kept = not sample.name.endswith("_created") and not math.isnan(sample.value)
                if kept and len(series) < MAX_SERIES:
                    labels = {**sample.labels, METRIC_NAME: sample.name, "job": JOB}
                    series.append(Labels.of(labels))
                    values.append(float(sample.value))
        count = len(series)
        return SampleBatch(
            series=tuple(series),
            series_index=np.arange(count, dtype=np.int32),
            ts_ms=np.full(count, now_ms, dtype=np.int64),
            values=np.asarray(values, dtype=np.float64),
        )
