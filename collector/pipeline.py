"""From a receiver to the store: processors, a durable append, and an account of both."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import anyio.to_thread
import numpy as np
import pyarrow.compute as pc
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from collector.body import ClientGone
from collector.guards import Guard
from collector.processors.contract import Processor
from collector.refusal import reason_of
from collector.source_health import SourceRegistry
from collector.source_metrics import SourceMetrics
from store.errors import Overloaded, WarroomError
from store.model import Batch, EventBatch, LogBatch, SampleBatch, SpanBatch
from store.ports import Appender

# Below this a batch is processed where it is: a hop to a thread costs more than the work.
THREAD_ABOVE_ROWS = 1_000
# Samples of series that are known by their refs need no work a series.
THREAD_ABOVE_KNOWN_ROWS = 20_000

OnStored = Callable[[Batch, str], None]
"""Told of each batch that became durable, as processed, and of its source. Must return at once:
it runs on the event loop."""

Result = TypeVar("Result")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who is asked before a batch is processed, and who is told when it is durable."""

    guards: Sequence[Guard] = ()
    on_stored: Sequence[OnStored] = ()


class Pushed(NamedTuple):
    """What became of a batch: what of it is durable, and what processors dropped, by reason."""

    batch: Batch
    dropped: Mapping[str, int]


class _Submitted(NamedTuple):
    """A batch on its way: what processors left of it, and what they dropped by reason."""

    durable: Future[None]
    batch: Batch
    dropped: Mapping[str, int]


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
        self.listener_errors = Counter(
            "warroom_collector_listener_errors",
            "Stored batches that a listener, such as the forwarder, failed to take over.",
            ("signal",),
            registry=registry,
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
        hooks: Hooks = Hooks(),  # frozen value
    ) -> None:
        self._appender = appender
        self._guards = tuple(hooks.guards)
        self._processors = tuple(processors)
        self._on_stored = tuple(hooks.on_stored)
        self._metrics = PipelineMetrics(registry)
        registry.register(SourceMetrics(sources, now_ms))
        self.sources = sources
        self.now_ms = now_ms

    async def push(
        self,
        batch: Batch,
        source: str,
        *,
        by_source: Mapping[str, int] | None = None,
        processed: bool = False,
    ) -> Pushed:
        """Process and store a batch.

        Args:
            batch: What to store; an empty one only marks the source as heard.
            source: Who sent it; `by_source` splits the count where one body holds several.
            by_source: Items by source, where `source` alone is too coarse.
            processed: It comes from `process`, and has passed `check`.

        Raises:
            Overloaded: A guard or the store sheds load; the sender should retry.
            LimitExceeded: The store refuses for good, for instance too many series.
            StoreUnavailable: The store cannot write now.
        """
        signal = _signal(batch)
        share = {source: len(batch)} if by_source is None else dict(by_source)
        # What processors drop is charged to the largest sender of the batch.
        largest = max(share, key=lambda name: share[name], default=source)
        started = time.perf_counter()
        pushed = Pushed(batch, {})
        try:
            if _has_content(batch):
                if processed:
                    submitted = await _at_work(self._append, batch)
                else:
                    self.check(batch, share)
                    submitted = await _at_work(partial(self._process_and_append, largest), batch)
                pushed = Pushed(submitted.batch, submitted.dropped)
                lost = sum(submitted.dropped.values())
                share[largest] = max(0, share.get(largest, 0) - lost)
                await self._stored(submitted, source)
        except WarroomError as error:
            self._count_failure(error, share)
            raise
        self._metrics.append_seconds.labels(signal).observe(time.perf_counter() - started)
        now_ms = self.now_ms()
        newest_ms = _newest_ms(pushed.batch)
        for name, count in share.items():
            self.sources.accepted(name, count, now_ms, newest_ms=newest_ms)
            self._metrics.accepted.labels(self.sources.name_of(name), signal).inc(count)
        return pushed

    async def process(self, batch: Batch) -> Pushed:
        """What processors leave of a batch; what they drop is not counted here."""
        return await _at_work(self._process, batch)

    def check(self, batch: Batch, share: Mapping[str, int]) -> None:
        """Ask the guards whether a batch with content may pass; a refusal is not counted here.

        Raises:
            Overloaded: A guard sheds load.
        """
        for guard in self._guards:
            guard.check(_signal(batch), share)

    async def _stored(self, submitted: _Submitted, source: str) -> None:
        durable = asyncio.wrap_future(submitted.durable)
        if self._on_stored and _has_content(submitted.batch):
            durable.add_done_callback(lambda done: self._tell(done, submitted.batch, source))
        # A caller that goes away must not cancel a commit that others share.
        await asyncio.shield(durable)

    def _tell(self, durable: asyncio.Future[None], batch: Batch, source: str) -> None:
        if durable.cancelled() or durable.exception() is not None:
            return
        for listener in self._on_stored:
            try:
                listener(batch, source)
            except Exception as error:  # noqa: BLE001 -- the boundary: what is stored is acknowledged
                self._metrics.listener_errors.labels(_signal(batch)).inc()
                _log.warning("listener_failed", source=source, error=repr(error))

    def dropped(self, source: str, reason: str, count: int) -> None:
        """Account for items that a receiver refused before they became a batch."""
        if count:
            self.sources.dropped(source, reason, count, self.now_ms())
            self._metrics.dropped.labels(self.sources.name_of(source), reason).inc(count)

    @contextmanager
    def receiving(self, source: str) -> Iterator[None]:
        """Around all that happens to a request before its items are known.

        A request that is refused there counts as one item of the receiver, by its reason.
        """
        try:
            yield
        except WarroomError as error:
            self._count_failure(error, {source: 1})
            raise
        except (ClientGone, asyncio.CancelledError):
            self.dropped(source, "client_gone", 1)
            raise
        except Exception:
            self.dropped(source, "internal", 1)
            raise

    def failed(self, source: str, error: str, remedy: str) -> None:
        """A target could not be read."""
        self.sources.failed(source, error, remedy, self.now_ms())

    def _process(self, batch: Batch) -> Pushed:
        reasons: Tally[str] = Tally()
        for processor in self._processors:
            batch, dropped = processor(batch)
            reasons.update(dropped)
        return Pushed(batch, reasons)

    def _process_and_append(self, source: str, batch: Batch) -> _Submitted:
        left, dropped = self._process(batch)
        for reason, count in dropped.items():
            self.dropped(source, reason, count)
        return self._append(left)._replace(dropped=dropped)

    def _append(self, batch: Batch) -> _Submitted:
        if _has_content(batch):
            return _Submitted(self._appender.append(batch), batch, {})
        done: Future[None] = Future()
        done.set_result(None)
        return _Submitted(done, batch, {})

    def _count_failure(self, error: WarroomError, share: Mapping[str, int]) -> None:
        now_ms = self.now_ms()
        for name, count in share.items():
            counted = self.sources.name_of(name)
            if isinstance(error, Overloaded):
                self.sources.shed(name, count, now_ms, error)
                self._metrics.dropped.labels(counted, error.reason).inc(count)
                continue
            self.dropped(name, reason_of(error), count)
            self.sources.failed(name, error.message, error.hint, now_ms)


async def _at_work(work: Callable[[Batch], Result], batch: Batch) -> Result:
    """Do it where we are or, for a large batch, in a thread."""
    if len(batch) <= _most_at_once(batch):
        return work(batch)
    return await anyio.to_thread.run_sync(work, batch)


def _most_at_once(batch: Batch) -> int:
    by_ref = isinstance(batch, SampleBatch) and batch.known_refs is not None
    return THREAD_ABOVE_KNOWN_ROWS if by_ref else THREAD_ABOVE_ROWS


def _has_content(batch: Batch) -> bool:
    # Prometheus sends metadata in requests of its own, without a sample.
    if isinstance(batch, SampleBatch):
        return bool(len(batch) or batch.metadata or batch.exemplars)
    return len(batch) > 0


def _signal(batch: Batch) -> str:
    if isinstance(batch, SampleBatch):
        return "samples"
    if isinstance(batch, LogBatch):
        return "logs"
    return "spans" if isinstance(batch, SpanBatch) else "events"


def _newest_ms(batch: Batch) -> int | None:
    if not len(batch):
        return None
    if isinstance(batch, SampleBatch):
        newest_ms = [int(np.max(batch.ts_ms))] if len(batch.ts_ms) else []
        return max([*newest_ms, *(sent.ts_ms for sent in batch.histograms)])
    if isinstance(batch, EventBatch):
        return int(pc.max(batch.table.column("ts_ms")).as_py())
    time_ns = "ts_ns" if isinstance(batch, LogBatch) else "end_ns"
    return int(pc.max(batch.table.column(time_ns)).as_py()) // 1_000_000
