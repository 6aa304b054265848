"""POST /rum (web-vitals beacons) and POST /collect (Grafana Faro): browsers report, 204 and 202.

Cross-origin use is off unless origins are listed. `Sec-GPC: 1` and `DNT: 1` are honoured: such a
beacon is answered like any other and not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.body import BodyReader, UnsupportedMedia
from collector.pipeline import Pipeline
from collector.refusal import refusal_of
from collector.web_vitals import SETTLE_MS, Vital, WebVitals, decode_beacon, decode_faro
from store.errors import WarroomError

SOURCE = "rum"
MAX_BODY_BYTES = 64 * 1024
_MEDIA = frozenset({"", "text/plain", "application/json"})
# What the Faro SDK sends; without all of them its requests fail in the browser.
_ALLOWED_HEADERS = (
    "content-type, content-encoding, x-api-key, x-faro-session-id, idempotency-key, traceparent"
)

log = structlog.get_logger()
Decoder = Callable[[bytes], tuple[list[Vital], int]]


class RumReceiver:
    """Takes beacons and stores what has settled, a few seconds after its first report."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        vitals: WebVitals | None = None,
        allowed_origins: frozenset[str] = frozenset(),
        settle_ms: int = SETTLE_MS,
    ) -> None:
        self._pipeline = pipeline
        self._vitals = vitals or WebVitals(settle_ms=settle_ms)
        self._origins = allowed_origins
        self._settle_s = settle_ms / 1000
        self._bodies = BodyReader(max_body_bytes=MAX_BODY_BYTES, max_in_flight_bytes=64 << 20)
        self._settling: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        found = []
        for path, decoder, status in (
            ("/rum", decode_beacon, 204),
            ("/collect", decode_faro, 202),
            ("/collect/{app_key}", decode_faro, 202),
        ):
            found.append(Route(path, self._handler(decoder, status), methods=["POST"]))
            found.append(Route(path, self._preflight, methods=["OPTIONS"]))
        return found

    async def settle(self) -> None:
        """Store what has settled by now."""
        batch = self._vitals.due(self._pipeline.now_ms())
        if len(batch):
            await self._pipeline.push(batch, SOURCE)

    async def aclose(self) -> None:
        """Stop waiting for further reports."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)

    def _handler(self, decoder: Decoder, status: int) -> Callable[[Request], Awaitable[Response]]:
        async def post(request: Request) -> Response:
            try:
                _check_media(request)
                encoding = request.headers.get("content-encoding", "")
                async with self._bodies.read(request.stream(), encoding) as body:
                    vitals, refused = decoder(body)
                if not _objects(request):
                    self._take(vitals, refused)
                    await self.settle()
            except ClientDisconnect:
                return Response(status_code=400)
            except WarroomError as error:
                refusal = refusal_of(error)
                headers = {**refusal.headers, **self._cors(request)}
                return JSONResponse(refusal.body, refusal.status, headers)
            return Response(status_code=status, headers=self._cors(request))

        return post

    def _take(self, vitals: list[Vital], refused: int) -> None:
        self._vitals.add(vitals, self._pipeline.now_ms())
        self._pipeline.dropped(SOURCE, "not_a_web_vital", refused)
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle_later())

    async def _settle_later(self) -> None:
        while self._vitals.waiting:
            await asyncio.sleep(self._settle_s)
            try:
                await self.settle()
            except WarroomError as error:
                log.warning("web vitals not stored", error=str(error))

    async def _preflight(self, request: Request) -> Response:
        headers = self._cors(request)
        if not headers:
            return Response(status_code=403)
        headers["Access-Control-Allow-Methods"] = "POST"
        headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
        headers["Access-Control-Max-Age"] = "86400"
        return Response(status_code=204, headers=headers)

    def _cors(self, request: Request) -> dict[str, str]:
        origin = request.headers.get("origin", "")
        if not origin or origin not in self._origins:
            return {}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def routes(pipeline: Pipeline, *, allowed_origins: frozenset[str] = frozenset()) -> list[Route]:
    """`/rum`, `/collect` and `/collect/{app_key}` of a receiver of their own."""
    return RumReceiver(pipeline, allowed_origins=allowed_origins).routes()


def _check_media(request: Request) -> None:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _MEDIA:
        raise UnsupportedMedia(
            f"the Content-Type {media[:60]!r} is not supported",
            hint="use text/plain or application/json",
        )


def _objects(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1" or request.headers.get("dnt") == "1"
