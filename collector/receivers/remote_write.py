"""POST /api/v1/write: Prometheus remote write 1.0. A 204 says that every sample is durable."""

from __future__ import annotations

from typing import Protocol

import anyio.to_thread
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from collector.body import BodyReader, UnsupportedMedia
from collector.refusal import refusal_of
from collector.remote_write.decode import Decoded, LabelCache, decode, decompress
from store.errors import WarroomError
from store.model import Batch

SOURCE = "remote_write"
PATH = "/api/v1/write"
V2 = "io.prometheus.write.v2.Request"
_log = structlog.get_logger()
_THREAD_ABOVE_BYTES = 16 * 1024


class Sink(Protocol):
    """What the receiver needs of the pipeline."""

    async def push(self, batch: Batch, source: str) -> None: ...

    def dropped(self, source: str, reason: str, count: int) -> None: ...


def routes(pipeline: Sink, bodies: BodyReader | None = None, *, path: str = PATH) -> list[Route]:
    """The one route of remote write; `bodies` bounds what is read at once."""
    reader = bodies or BodyReader()
    cache = LabelCache()

    async def write(request: Request) -> Response:
        try:
            _check_headers(request)
            async with reader.read(request.stream()) as body:
                decoded = await _decoded(body, cache)
            pipeline.dropped(SOURCE, "native_histogram", decoded.histograms)
            await pipeline.push(decoded.batch, SOURCE)
        except ClientDisconnect:
            return PlainTextResponse("the client went away\n", 499)
        except WarroomError as error:
            return _refused(error)
        return Response(status_code=204)

    return [Route(path, write, methods=["POST"])]


async def _decoded(body: bytes, cache: LabelCache) -> Decoded:
    if len(body) < _THREAD_ABOVE_BYTES:
        return decode(decompress(body), cache)
    return await anyio.to_thread.run_sync(lambda: decode(decompress(body), cache))


def _check_headers(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "snappy").strip().lower()
    if encoding != "snappy":
        raise UnsupportedMedia(
            f"the Content-Encoding {encoding[:40]!r} is not supported: use snappy"
        )
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() not in ("", "application/x-protobuf"):
        raise UnsupportedMedia("the Content-Type is not supported: use application/x-protobuf")
    if V2 in parameters:
        raise UnsupportedMedia(
            "remote write 2.0 is not supported: use proto=prometheus.WriteRequest"
        )


def _refused(error: WarroomError) -> Response:
    """4xx stops a sender, 429 and 5xx make it try again (remote-write specification)."""
    refusal = refusal_of(error)
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    _log.warning("remote_write_refused", status=refusal.status, error=str(error))
    return PlainTextResponse(f"{error}\n", refusal.status, headers=headers)
