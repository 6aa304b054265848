"""From a receiver to the store: processors, a durable append, and an account of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import anyio.to_thread
import numpy as np
import pyarrow.compute as pc
from prometheus_client import CollectorRegistry, Counter, Histogram

from collector.processors.contract import Processor
from collector.source_health import SourceRegistry
from store.errors import LimitExceeded, Overloaded, StoreUnavailable, WarroomError
from store.model import Batch, EventBatch, SampleBatch, SpanBatch
from store.ports import Appender

# Below this a batch is processed where it is: a hop to a thread costs more than the work.
THREAD_ABOVE_ROWS = 1_000


class PipelineMetrics:
    """What the pipeline counts about itself, on a registry that the composition root owns."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.accepted = Counter(
            "warroom_collector_accepted",
            "Items that were accepted and are durable.",
            ("source", "signal"),
            registry=registry,
        )
        self.dropped = Counter(
            "warroom_collector_dropped",
            "Items that were refused, by reason.",
            ("source", "reason"),
            registry=registry,
        )
        self.append_seconds = Histogram(
            "warroom_collector_append_seconds",
            "Time from hand-over to durable acknowledgement.",
            ("signal",),
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )


class Pipeline:
    """Takes batches from receivers. Its `push` returns when the batch is durable."""

    def __init__(
        self,
        appender: Appender,
        processors: Sequence[Processor],
        sources: SourceRegistry,
        *,
        now_ms: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._appender = appender
        self._processors = tuple(processors)
        self._metrics = PipelineMetrics(registry)
        self.sources = sources
        self.now_ms = now_ms

    async def push(
        self, batch: Batch, source: str, *, by_source: Mapping[str, int] | None = None
    ) -> None:
        """Process and store a batch.

        Args:
            batch: What to store; an empty one only marks the source as heard.
            source: Who sent it; `by_source` splits the count where one body holds several.
            by_source: Items by source, where `source` alone is too coarse.

        Raises:
            Overloaded: The store sheds load; the sender should retry.
            LimitExceeded: The store refuses for good, for instance too many series.
            StoreUnavailable: The store cannot write now.
        """
        signal = _signal(batch)
        share = {source: len(batch)} if by_source is None else dict(by_source)
        # What processors drop is charged to the largest sender of the batch.
        largest = max(share, key=lambda name: share[name], default=source)
        started = time.perf_counter()
        try:
            if len(batch):
                future, dropped = await self._submit(batch, largest)
                share[largest] = max(0, share.get(largest, 0) - dropped)
                # A caller that goes away must not cancel a commit that others share.
                await asyncio.shield(asyncio.wrap_future(future))
        except WarroomError as error:
            self._count_failure(error, share)
            raise
        self._metrics.append_seconds.labels(signal).observe(time.perf_counter() - started)
        now_ms = self.now_ms()
        newest_ms = _newest_ms(batch)
        for name, count in share.items():
            self.sources.accepted(name, count, now_ms, newest_ms=newest_ms)
            self._metrics.accepted.labels(self.sources.name_of(name), signal).inc(count)

    def dropped(self, source: str, reason: str, count: int) -> None:
        """Account for items that a receiver refused before they became a batch."""
        if count:
            self.sources.dropped(source, reason, count, self.now_ms())
            self._metrics.dropped.labels(self.sources.name_of(source), reason).inc(count)

    def failed(self, source: str, error: str, remedy: str) -> None:
        """A sender's whole request was refused, or a target could not be read."""
        self.sources.failed(source, error, remedy, self.now_ms())

    async def _submit(self, batch: Batch, source: str) -> tuple[Future[None], int]:
        if len(batch) <= THREAD_ABOVE_ROWS:
            return self._process_and_append(batch, source)
        return await anyio.to_thread.run_sync(self._process_and_append, batch, source)

    def _process_and_append(self, batch: Batch, source: str) -> tuple[Future[None], int]:
        received = len(batch)
        for processor in self._processors:
            batch, dropped = processor(batch)
            for reason, count in dropped.items():
                self.dropped(source, reason, count)
        if len(batch):
            return self._appender.append(batch), received - len(batch)
        done: Future[None] = Future()
        done.set_result(None)
        return done, received

    def _count_failure(self, error: WarroomError, share: Mapping[str, int]) -> None:
        now_ms = self.now_ms()
        for name, count in share.items():
            counted = self.sources.name_of(name)
            if isinstance(error, Overloaded):
                self.sources.shed(name, count, now_ms)
                self._metrics.dropped.labels(counted, "overloaded").inc(count)
                continue
            reason = _reason(error)
            self.dropped(name, reason, count)
            self.sources.failed(name, error.message, error.hint, now_ms)


def _reason(error: WarroomError) -> str:
    if isinstance(error, LimitExceeded):
        return error.reason
    return "store_unavailable" if isinstance(error, StoreUnavailable) else "refused"


def _signal(batch: Batch) -> str:
    if isinstance(batch, SampleBatch):
        return "samples"
    return "spans" if isinstance(batch, SpanBatch) else "events"


def _newest_ms(batch: Batch) -> int | None:
    if not len(batch):
        return None
    if isinstance(batch, SampleBatch):
        return int(np.max(batch.ts_ms))
    if isinstance(batch, EventBatch):
        return int(pc.max(batch.table.column("ts_ms")).as_py())
    return int(pc.max(batch.table.column("end_ns")).as_py()) // 1_000_000
