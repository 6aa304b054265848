"""One endpoint of `remote_write`: hand-over, queue on disk, delivery, and an account of all."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import structlog

from collector.forward.catch_up import WINDOW_MS, missing
from collector.forward.config import RemoteWrite
from collector.forward.delivery import Delivery
from collector.forward.handover import HandOver
from collector.forward.metrics import ForwardMetrics
from collector.forward.request import Answer, Verdict, compressed, post
from collector.forward.segment_log import SegmentLog
from collector.forward.write_request import Encoder, metadata_request
from collector.source_health import SourceRegistry
from store.errors import StoreUnavailable, WarroomError
from store.model import Batch, MetricMetadata, SampleBatch
from store.ports import SeriesReader

MAX_METADATA = 50_000
MAX_HELP = 1_024
LATE_AFTER_S = 60.0
_HEARTBEAT_S = 5.0
_SYNC_S = 1.0
_JOIN_S = 10.0
_FINISH_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ForwardContext:
    """What every endpoint shares."""

    directory: Path
    sources: SourceRegistry
    metrics: ForwardMetrics
    now_ms: Callable[[], int]


class Forwarder:
    """Copies what is stored to one endpoint.

    `stored` may be called from any thread and never waits. Samples are at the endpoint at least
    once; those that cannot be are counted with a reason.

    Raises:
        StoreUnavailable: The queue's directory cannot be used.
    """

    def __init__(self, endpoint: RemoteWrite, context: ForwardContext) -> None:
        self.endpoint = endpoint
        self.source = f"forward:{endpoint.name}"
        self._context = context
        self._directory = context.directory / endpoint.name
        self._clean = self._directory / "clean"
        queue = endpoint.queue
        self._crashed = self._directory.exists() and not self._clean.exists()
        self._log = SegmentLog(
            self._directory, max_bytes=queue.max_disk_bytes, dropped=self.dropped
        )
        self._clean.unlink(missing_ok=True)
        self._encoder = Encoder(
            endpoint.relabel,
            shards=queue.shards,
            max_samples=queue.max_samples_per_send,
            send_exemplars=endpoint.send_exemplars,
        )
        self._handover = HandOver()
        self._metadata: dict[str, MetricMetadata] = {}
        self._newest_sent_ms = 0
        self._disk_error = ""
        self._closed = False
        self._delivery: Delivery | None = None
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=self._write_all, name=f"forward-{endpoint.name}", daemon=True
        )
        self._watch()

    def stored(self, batch: Batch, _source: str = "") -> None:
        """Take over a batch that became durable. Never waits, never raises."""
        if not isinstance(batch, SampleBatch) or not (len(batch) or batch.metadata):
            return
        if not self._handover.offer(batch):
            self.dropped("handover_full", len(batch))

    def catch_up(self, reader: SeriesReader) -> int:
        """Queue what a crash kept from the queue; before anything new arrives.

        Returns:
            How many samples that were.
        """
        if not self._crashed or not self._log.newest_ms:
            return 0
        # A sender whose clock is ahead must not hide the rest.
        since_ms = min(self._log.newest_ms, self._log.written_ms) - WINDOW_MS
        try:
            batch = missing(
                self._log.recent(since_ms),
                reader,
                self._encoder.final_labels,
                since_ms=since_ms,
                now_ms=self._context.now_ms(),
            )
        except WarroomError as error:
            # The queue itself is whole; only the last moment before the crash may lack samples.
            log.warning("forward queue not compared with the store", error=str(error))
            return 0
        if len(batch):
            self._write(batch)
        return len(batch)

    async def start(self) -> None:
        """Begin to write to the queue and to send from it."""
        self._loop = asyncio.get_running_loop()
        queue = self.endpoint.queue
        self._client = self.endpoint.http.client(max_connections=queue.shards + 1)
        self._delivery = Delivery(self._log, queue, self._send, self, self._context.now_ms)
        self._thread.start()
        self._task = asyncio.create_task(self._run(self._delivery))

    async def stop(self) -> None:
        """Bring everything handed over to disk; what is not sent is sent after the next start."""
        if self._task is not None and self._delivery is not None:
            await self._delivery.finish(_FINISH_S)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._handover.close()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, _JOIN_S)
        if self._client is not None:
            await self._client.aclose()
        if self._thread.is_alive():
            log.error("forward queue not written to its end", endpoint=self.endpoint.name)
            return
        self.close()

    def close(self) -> None:
        """Close the queue of a forwarder that was stopped, or never started; again is harmless."""
        if self._closed or self._thread.is_alive():
            return
        self._closed = True
        try:
            self._log.sync()
            self._clean.touch()
        except OSError as error:
            log.warning("forward queue not closed", error=str(error))
        self._log.close()

    # -- from ingest to disk, on a thread of its own ------------------------------

    def _write_all(self) -> None:
        synced_s = time.monotonic()
        unsynced = False
        while (batches := self._handover.take(_SYNC_S)) is not None:
            for batch in batches:
                self._write(batch)
            unsynced = unsynced or bool(batches)
            if unsynced and time.monotonic() - synced_s >= _SYNC_S:
                with contextlib.suppress(OSError):  # the next write tells
                    self._log.sync()
                unsynced, synced_s = False, time.monotonic()

    def _write(self, batch: SampleBatch) -> None:
        try:
            self._remember(batch.metadata)
            if batch.histograms:
                self.dropped("native_histogram", len(batch.histograms))
            pieces = self._encoder.pieces(batch)
            if pieces:
                self._log.append(pieces, [compressed(piece.payload) for piece in pieces])
                self._disk_error = ""
                self._wake()
        except OSError as error:
            self._disk_error = f"the queue cannot be written: {error.strerror}"
            self._tell_disk_error()
            self.dropped("disk", len(batch.ts_ms))
        except Exception:
            # The loop boundary: a batch that cannot be encoded must not end the thread.
            log.exception("batch not forwarded", endpoint=self.endpoint.name)
            self.dropped("fault", len(batch.ts_ms))

    def _tell_disk_error(self) -> None:
        remedy = f"Check the free space and the rights of {self._directory}."
        self._context.sources.failed(self.source, self._disk_error, remedy, self._context.now_ms())

    def _remember(self, metadata: tuple[MetricMetadata, ...]) -> None:
        if self.endpoint.metadata.send:
            for entry in metadata:
                if entry.family in self._metadata or len(self._metadata) < MAX_METADATA:
                    self._metadata[entry.family] = replace(entry, help=entry.help[:MAX_HELP])

    def _wake(self) -> None:
        loop, delivery = self._loop, self._delivery
        if loop is not None and delivery is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in between
                loop.call_soon_threadsafe(delivery.wake)

    # -- from disk to the endpoint, on the loop --------------------------------

    async def _run(self, delivery: Delivery) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(delivery.run())
            group.create_task(self._report(delivery))
            if self.endpoint.metadata.send:
                group.create_task(self._send_metadata())

    async def _send(self, block: bytes, retry: int) -> Answer:
        assert self._client is not None
        metrics, name = self._context.metrics, self.endpoint.name
        if retry:
            metrics.retries.labels(name).inc()
        started = time.perf_counter()
        answer = await post(self._client, self.endpoint, block, self._context.now_ms(), retry=retry)
        metrics.request_seconds.labels(name).observe(time.perf_counter() - started)
        return answer

    async def _send_metadata(self) -> None:
        """Every interval, all that is known; what fails is sent with the next round."""
        config = self.endpoint.metadata
        while True:
            await asyncio.sleep(config.interval_s)
            known = list(self._metadata.values())
            for first in range(0, len(known), config.max_per_send):
                payload = metadata_request(known[first : first + config.max_per_send])
                answer = await self._send(compressed(payload), 0)
                if answer.verdict is not Verdict.TAKEN:
                    log.warning("metadata not forwarded", error=answer.error)
                    break

    async def _report(self, delivery: Delivery) -> None:
        """Say among the sources how it stands, also when there is nothing to send."""
        sources, now_ms = self._context.sources, self._context.now_ms
        while True:
            sources.expect(self.source, now_ms(), interval_s=2 * _HEARTBEAT_S)
            lag_s = self._lag_s()
            if self._disk_error:
                self._tell_disk_error()
            elif lag_s > LATE_AFTER_S:
                self.failed(f"{self._pending()} samples wait, the oldest for {lag_s:.0f} s")
            elif not delivery.under_way:
                sources.accepted(self.source, 0, now_ms())
            await asyncio.sleep(_HEARTBEAT_S)

    # -- the account ------------------------------------------------------------

    def sent(self, samples: int, newest_ms: int) -> None:
        """The endpoint took these."""
        metrics, name = self._context.metrics, self.endpoint.name
        metrics.sent.labels(name).inc(samples)
        self._newest_sent_ms = max(self._newest_sent_ms, newest_ms)
        metrics.newest_sent.labels(name).set(self._newest_sent_ms / 1000)
        self._context.sources.accepted(self.source, samples, self._context.now_ms())

    def failed(self, error: str) -> None:
        """A request failed; it is tried again unless its data is dropped."""
        self._context.sources.failed(
            self.source,
            error,
            f"Check that the endpoint of remote_write {self.endpoint.name!r} is reachable and "
            "takes what it is sent.",
            self._context.now_ms(),
        )

    def dropped(self, reason: str, samples: int) -> None:
        """These will never reach the endpoint."""
        self._context.metrics.dropped.labels(self.endpoint.name, reason).inc(samples)
        self._context.sources.dropped(self.source, reason, samples, self._context.now_ms())

    def _watch(self) -> None:
        metrics, name = self._context.metrics, self.endpoint.name
        metrics.sent.labels(name)
        metrics.retries.labels(name)
        metrics.pending.labels(name).set_function(self._pending)
        metrics.bytes.labels(name).set_function(lambda: self._log.bytes_on_disk)
        metrics.newest_queued.labels(name).set_function(lambda: self._log.newest_ms / 1000)
        metrics.lag.labels(name).set_function(self._lag_s)

    def _pending(self) -> int:
        under_way = 0 if self._delivery is None else self._delivery.under_way
        return self._log.unread + under_way

    def _lag_s(self) -> float:
        oldest_ms = None if self._delivery is None else self._delivery.oldest_ms
        return 0.0 if oldest_ms is None else max(0, self._context.now_ms() - oldest_ms) / 1000


def open_forwarder(
    endpoint: RemoteWrite, context: ForwardContext, reader: SeriesReader
) -> Forwarder:
    """A forwarder whose queue lacks nothing; before anything new arrives.

    Raises:
        StoreUnavailable: The queue's directory cannot be used.
    """
    try:
        forwarder = Forwarder(endpoint, context)
    except OSError as error:
        raise StoreUnavailable(
            f"the queue of remote_write {endpoint.name!r} cannot be opened: {error.strerror}",
            hint="check the rights of the data directory",
        ) from error
    found = forwarder.catch_up(reader)
    if found:
        log.info("forward queue completed from the store", endpoint=endpoint.name, samples=found)
    return forwarder
