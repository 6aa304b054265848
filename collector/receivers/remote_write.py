"""POST /api/v1/write: Prometheus remote write 1.0 and 2.0. A 204 says that all of it is durable.

A request with parts that may not be stored is answered with 400 and a sentence that counts them;
the rest is stored all the same, and no sender tries again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from collector.body import BodyReader, ClientGone, chunks
from collector.pipeline import Pushed
from collector.refusal import refusal_of
from collector.remote_write.decode import (
    MAX_DECODED_BYTES,
    Decoded,
    Memory,
    decode,
    decode_known,
    decode_v2,
    decompress,
    decompressed_size,
)
from collector.remote_write.media import Version, version_of
from store.errors import WarroomError
from store.model import Batch, SampleBatch

SOURCE = "remote_write"
PATH = "/api/v1/write"
# Below this a request of known series is decoded where it is: a hop to a thread costs more.
_THREAD_ABOVE_BYTES = 128 * 1024
# Decoded columns take about as much again as the bytes that they come from.
_HELD_A_BYTE = 2
_LOG_EVERY_S = 10.0
_DECODE = {Version.V1: decode, Version.V2: decode_v2}
_MEANINGS = {
    "exemplar": "of a refused series or time, or with labels that cannot be",
    "histogram_invalid": "buckets, counts and schema do not fit",
    "label_name_empty": "a label has no name",
    "label_not_utf8": "a label is no UTF-8",
    "label_twice": "a label name stands twice in one series",
    "no_labels": "a series has no labels",
    "no_metric_name": "a series has no __name__",
    "timestamp_in_future": "set the sender's clock",
    "too_old": "older than everything that is kept",
}
_log = structlog.get_logger()


class Sink(Protocol):
    """What the receiver needs of the pipeline."""

    async def push(self, batch: Batch, source: str) -> Pushed: ...

    def dropped(self, source: str, reason: str, count: int) -> None: ...

    def receiving(self, source: str) -> AbstractContextManager[None]: ...


def routes(pipeline: Sink, bodies: BodyReader | None = None, *, path: str = PATH) -> list[Route]:
    """The one route of remote write; `bodies` bounds what is read at once."""
    return [Route(path, RemoteWrite(pipeline, bodies or BodyReader()), methods=["POST"])]


class RemoteWrite:
    """The receiver, a plain ASGI application."""

    def __init__(self, pipeline: Sink, bodies: BodyReader) -> None:
        self._pipeline = pipeline
        self._bodies = bodies
        self._memory = Memory()
        self._log_again_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(scope, receive)
        except ClientGone:
            return
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        try:
            with self._pipeline.receiving(SOURCE):
                headers = dict(scope["headers"])
                version = version_of(
                    headers.get(b"content-type", b"").decode("latin-1"),
                    headers.get(b"content-encoding", b"").decode("latin-1"),
                )
                decoded = await self._read(version, receive)
        except WarroomError as error:
            return self._refused(error)
        try:
            pushed = await self._pipeline.push(decoded.batch, SOURCE)
        except WarroomError as error:
            # What was new in it may not be stored, so it has to be handed on again.
            self._memory.metadata.forget()
            return self._refused(error)
        return self._written(version, decoded, pushed)

    async def _read(self, version: Version, receive: Receive) -> Decoded:
        async with self._bodies.read(chunks(receive)) as body:
            size = min(decompressed_size(body), MAX_DECODED_BYTES)
            with self._bodies.holding(_HELD_A_BYTE * size):
                if size <= _THREAD_ABOVE_BYTES * 4 and len(body) <= _THREAD_ABOVE_BYTES:
                    data = decompress(body)
                    known = decode_known(data, self._memory, version)
                    if known is not None:
                        return known
                return await self._bodies.lane.run(partial(self._decoded, version, body))

    def _decoded(self, version: Version, body: bytes) -> Decoded:
        return _DECODE[version](decompress(body), self._memory)

    def _written(self, version: Version, decoded: Decoded, pushed: Pushed) -> Response:
        lost = _lost(decoded, pushed)
        for reason, count in decoded.dropped.items():
            self._pipeline.dropped(SOURCE, reason, count)
        headers = _counted(decoded, pushed) if version is Version.V2 else {}
        if not lost:
            return Response(status_code=204, headers=headers)
        stored = len(pushed.batch)
        reasons = ", ".join(_told(reason, count) for reason, count in sorted(lost.items()))
        sentence = (
            f"partial write: {sum(lost.values())} refused, for good: {reasons};"
            f" the other {stored} samples are stored"
        )
        self._warn(400, sentence)
        return PlainTextResponse(f"{sentence}\n", 400, headers)

    def _refused(self, error: WarroomError) -> Response:
        """4xx stops a sender, 429 and 5xx make it try again (remote-write specification)."""
        refusal = refusal_of(error)
        self._warn(refusal.status, str(error))
        return PlainTextResponse(f"{error}\n", refusal.status, headers=refusal.headers)

    def _warn(self, status: int, sentence: str) -> None:
        # A sender at fault is so many times a second; the counters have the rest.
        now_s = time.monotonic()
        if now_s >= self._log_again_s:
            self._log_again_s = now_s + _LOG_EVERY_S
            _log.warning("remote_write_refused", status=status, error=sentence)


def _lost(decoded: Decoded, pushed: Pushed) -> Counter[str]:
    """What of a request is not stored, by reason."""
    lost = Counter(decoded.dropped) + Counter(pushed.dropped)
    exemplars = len(decoded.batch.exemplars) - len(_stored(pushed).exemplars)
    lost["exemplar"] += decoded.exemplars_dropped + exemplars
    return +lost


def _told(reason: str, count: int) -> str:
    meaning = f" ({_MEANINGS[reason]})" if reason in _MEANINGS else ""
    return f"{reason}: {count}{meaning}"


def _stored(pushed: Pushed) -> SampleBatch:
    assert isinstance(pushed.batch, SampleBatch)
    return pushed.batch


def _counted(decoded: Decoded, pushed: Pushed) -> Mapping[str, str]:
    """The headers that 2.0 asks for with every answer to a request that was processed."""
    batch = _stored(pushed)
    # A histogram that ends its series is stored as a float, and was sent as a histogram.
    ended = min(decoded.ended, len(batch.ts_ms))
    return {
        "X-Prometheus-Remote-Write-Samples-Written": str(len(batch.ts_ms) - ended),
        "X-Prometheus-Remote-Write-Histograms-Written": str(len(batch.histograms) + ended),
        "X-Prometheus-Remote-Write-Exemplars-Written": str(len(batch.exemplars)),
    }
