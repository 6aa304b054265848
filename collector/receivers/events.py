"""POST /events: business events as CloudEvents 1.0, single, batch, NDJSON or binary mode."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.body import THREAD_ABOVE_BYTES, BodyReader, ClientGone, UnsupportedMedia, chunks
from collector.cloudevents import (
    BATCH,
    JSON,
    NDJSON,
    STRUCTURED,
    DecodedEvents,
    decode_events,
    split_events,
)
from collector.pipeline import Pipeline
from collector.refusal import refusal_of
from store.errors import WarroomError

SOURCE = "events"
MAX_BODY_BYTES = 5 * 1024 * 1024
MAX_REJECTED_SHOWN = 100


def routes(pipeline: Pipeline, *, bodies: BodyReader | None = None) -> list[Route]:
    """The one route.

    202 with `{accepted, duplicates, rejected: [{index, reason}]}` when anything was taken (it is
    durable then), 400 with the same when nothing could be. `id` with `source` makes an event
    idempotent: sending it again is harmless.
    """
    reader = bodies or BodyReader(max_body_bytes=MAX_BODY_BYTES)

    async def post(request: Request) -> Response:
        try:
            with pipeline.receiving(SOURCE):
                decoded = await _received(request, reader, pipeline.now_ms())
            await pipeline.push(decoded.batch, SOURCE)
        except ClientGone:
            return Response(status_code=400)
        except WarroomError as error:
            refusal = refusal_of(error)
            return JSONResponse(refusal.body, refusal.status, refusal.headers)
        pipeline.dropped(SOURCE, "malformed", len(decoded.rejected))
        return _answer(decoded)

    return [Route("/events", post, methods=["POST"])]


def _content_type(request: Request) -> str:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in (STRUCTURED, BATCH, JSON) and content_type not in NDJSON:
        raise UnsupportedMedia(
            f"the Content-Type {content_type[:60]!r} is not supported",
            hint=f"use {STRUCTURED}, {BATCH}, application/x-ndjson or {JSON}",
        )
    return content_type


async def _received(request: Request, reader: BodyReader, now_ms: int) -> DecodedEvents:
    content_type, headers = _content_type(request), dict(request.headers)
    async with reader.read(chunks(request.receive), headers.get("content-encoding", "")) as body:

        def decode() -> DecodedEvents:
            return decode_events(split_events(body, content_type, headers), now_ms)

        if len(body) > THREAD_ABOVE_BYTES:
            return await reader.lane.run(decode)
        return decode()


def _answer(decoded: DecodedEvents) -> JSONResponse:
    accepted = len(decoded.batch)
    content: dict[str, Any] = {
        "accepted": accepted,
        "duplicates": decoded.duplicates,
        "rejected": [
            {"index": item.index, "reason": item.reason}
            for item in decoded.rejected[:MAX_REJECTED_SHOWN]
        ],
        "rejected_count": len(decoded.rejected),
    }
    if accepted or not decoded.rejected:
        return JSONResponse(content, 202)
    content["error"] = {
        "code": "bad_input",
        "message": f"none of the events can be taken: {decoded.rejected[0].reason}",
        "hint": "correct the events and send them again",
    }
    return JSONResponse(content, 400)
