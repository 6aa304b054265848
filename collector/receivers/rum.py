"""POST /rum (web-vitals beacons) and POST /collect (Grafana Faro): browsers report, 204 and 202.

Cross-origin use is off unless origins are listed. `Sec-GPC: 1` and `DNT: 1` are honoured: such a
beacon is answered like any other and not counted. A browser keeps no secret, so what protects the
receiver is a bound on its rate; an app key only tells one shop's beacons from strangers'.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.body import BodyReader, UnsupportedMedia
from collector.pipeline import Pipeline
from collector.refusal import UnknownSender, refusal_of
from collector.web_vitals import SETTLE_MS, Vital, WebVitals, decode_beacon, decode_faro
from store.errors import Overloaded, WarroomError

SOURCE = "rum"
MAX_BODY_BYTES = 64 * 1024
_MEDIA = frozenset({"", "text/plain", "application/json"})
# What the Faro SDK sends; without all of them its requests fail in the browser.
_ALLOWED_HEADERS = (
    "content-type, content-encoding, x-api-key, x-faro-session-id, idempotency-key, traceparent"
)

log = structlog.get_logger()
Decoder = Callable[[bytes], tuple[list[Vital], int]]


@dataclass(frozen=True, slots=True)
class RumSettings:
    """Who may report, and how much.

    Attributes:
        allowed_origins: Origins of pages that may report from elsewhere, such as
            `https://shop.example`.
        app_keys: Public, write-only keys; empty asks for none.
        max_per_second: Beacons that are taken a second; ten seconds of them may come at once.
    """

    allowed_origins: frozenset[str] = frozenset()
    app_keys: frozenset[str] = frozenset()
    max_per_second: float = 500.0


class Bucket:
    """A token bucket: `rate` a second, `burst` at once. Time is in seconds, of any clock."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more may pass now."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def app_key(path: str, headers: Mapping[str, str]) -> str:
    """The key that a beacon carries: in its path or, as the Faro SDK sends it, in `x-api-key`.

    >>> app_key("/collect/shop-1", {})
    'shop-1'
    """
    return path.strip("/").partition("/")[2] or headers.get("x-api-key", "")


class RumReceiver:
    """Takes beacons and stores what has settled, a few seconds after its first report."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        vitals: WebVitals | None = None,
        settings: RumSettings = RumSettings(),  # frozen value
        settle_ms: int = SETTLE_MS,
    ) -> None:
        self._pipeline = pipeline
        self._vitals = vitals or WebVitals(settle_ms=settle_ms)
        self._settings = settings
        self._bucket = Bucket(settings.max_per_second, 10 * settings.max_per_second)
        self._settle_s = settle_ms / 1000
        self._bodies = BodyReader(max_body_bytes=MAX_BODY_BYTES, max_in_flight_bytes=64 << 20)
        self._settling: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        found = []
        for path, decoder, status in (
            ("/rum", decode_beacon, 204),
            ("/rum/{app_key}", decode_beacon, 204),
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
        """Store what waits for further reports: its beacons have been answered."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        self._vitals.settle_all()
        try:
            await self.settle()
        except WarroomError as error:
            log.warning("web vitals not stored", error=str(error))

    def _handler(self, decoder: Decoder, status: int) -> Callable[[Request], Awaitable[Response]]:
        async def post(request: Request) -> Response:
            try:
                _check_media(request)
                self._admit(request)
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

    def _admit(self, request: Request) -> None:
        keys = self._settings.app_keys
        if keys and app_key(request.url.path, request.headers) not in keys:
            self._pipeline.dropped(SOURCE, "unknown_app_key", 1)
            raise UnknownSender("the app key is not known here", hint="use one of rum.app_keys")
        if not self._bucket.take(time.monotonic()):
            self._pipeline.dropped(SOURCE, "rate_limited", 1)
            raise Overloaded("more beacons a second than are taken", retry_after_s=10)

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
        if not origin or origin not in self._settings.allowed_origins:
            return {}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def _check_media(request: Request) -> None:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _MEDIA:
        raise UnsupportedMedia(
            f"the Content-Type {media[:60]!r} is not supported",
            hint="use text/plain or application/json",
        )


def _objects(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1" or request.headers.get("dnt") == "1"
