"""POST /rum (web-vitals beacons) and POST /collect (Grafana Faro): browsers report, 204 and 202.

Cross-origin use is off unless origins are listed or keys are given: it is refused here too, for a
page may send `text/plain` anywhere without asking. `Sec-GPC: 1` and `DNT: 1` are honoured: such a
beacon is answered like any other and not counted. A browser keeps no secret, so what protects the
receiver is a bound on its rate; an app key only tells one shop's beacons from strangers'.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collector.body import THREAD_ABOVE_BYTES, BodyReader, ClientGone, UnsupportedMedia, chunks
from collector.browser_sender import sender_of
from collector.faro import FaroPayload, decode_faro
from collector.overload import Lane
from collector.page_errors import PageErrors
from collector.pipeline import Pipeline
from collector.refusal import ForeignOrigin, UnknownSender, refusal_of
from collector.web_vitals import SETTLE_MS, Vital, WebVitals, decode_beacon
from store.errors import BadInput, Overloaded, WarroomError

SOURCE = "rum"
MAX_BODY_BYTES = 64 * 1024
# What Grafana Alloy, the usual receiver of Faro payloads, takes.
MAX_FARO_BYTES = 5 * 1024 * 1024
MAX_KNOWN_PAYLOADS = 20_000
_MAX_IN_FLIGHT_BYTES = 64 * 1024 * 1024
_MEDIA = frozenset({"", "text/plain", "application/json"})
# What the Faro SDK sends; without all of them its requests fail in the browser.
_ALLOWED_HEADERS = (
    "content-type, content-encoding, x-api-key, x-faro-session-id, idempotency-key, traceparent"
)

log = structlog.get_logger()
Take = Callable[[Request, bytes], Awaitable[None]]
TakeSpans = Callable[[bytes], Awaitable[object]]
"""Stores an OTLP/JSON body of spans."""


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


@dataclass(slots=True)
class _Receipt:
    """How far a payload has come: one that is sent again goes on from there.

    The lock makes the second of two requests with one key wait for the first.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    logs_stored: bool = False
    spans_stored: bool = False
    complete: bool = False


class RumReceiver:
    """Takes beacons and stores what has settled, a few seconds after its first report."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        vitals: WebVitals | None = None,
        settings: RumSettings = RumSettings(),  # frozen value
        settle_ms: int = SETTLE_MS,
        take_spans: TakeSpans | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._vitals = vitals or WebVitals(settle_ms=settle_ms)
        self._errors = PageErrors()
        self._settings = settings
        self._take_spans = take_spans
        # By key: the SDK sends a payload again that was refused, or whose answer was lost.
        self._receipts: OrderedDict[str, _Receipt] = OrderedDict()
        self._bucket = Bucket(settings.max_per_second, 10 * settings.max_per_second)
        self._settle_s = settle_ms / 1000
        self.lane = Lane()
        self._beacons = self._reader(MAX_BODY_BYTES)
        self._payloads = self._reader(MAX_FARO_BYTES)
        self._settling: asyncio.Task[None] | None = None

    def _reader(self, max_body_bytes: int) -> BodyReader:
        return BodyReader(
            max_body_bytes=max_body_bytes,
            max_in_flight_bytes=_MAX_IN_FLIGHT_BYTES,
            lane=self.lane,
        )

    def routes(self) -> list[Route]:
        beacon = self._handler(self._beacons, self._take_beacon, 204)
        payload = self._handler(self._payloads, self._take_payload, 202)
        return [
            route
            for path, handler in (("/rum", beacon), ("/collect", payload))
            for full in (path, f"{path}/{{app_key}}")
            for route in (
                Route(full, handler, methods=["POST"]),
                Route(full, self._preflight, methods=["OPTIONS"]),
            )
        ]

    def report(self, vitals: Sequence[Vital]) -> None:
        """Count vitals that came another way, such as by OTLP. Returns at once."""
        self._vitals.add(vitals, self._pipeline.now_ms())
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle_later())

    async def settle(self) -> None:
        """Store what has settled by now."""
        now_ms = self._pipeline.now_ms()
        for batch in (self._vitals.due(now_ms), self._errors.due(now_ms)):
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

    def _handler(
        self, bodies: BodyReader, take: Take, status: int
    ) -> Callable[[Request], Awaitable[Response]]:
        async def post(request: Request) -> Response:
            try:
                async with AsyncExitStack() as held:
                    with self._pipeline.receiving(SOURCE):
                        _check_media(request)
                        self._check_origin(request)
                        self._admit(request)
                        encoding = request.headers.get("content-encoding", "")
                        arriving = bodies.read(chunks(request.receive), encoding)
                        body = await held.enter_async_context(arriving)
                    if sender_of(request.headers).is_machine:
                        self._pipeline.dropped(SOURCE, "bot", 1)
                    elif not _objects(request):
                        await take(request, body)
            except ClientGone:
                return Response(status_code=400)
            except WarroomError as error:
                refusal = refusal_of(error)
                headers = {**refusal.headers, **self._cors(request)}
                return JSONResponse(refusal.body, refusal.status, headers)
            return Response(status_code=status, headers=self._cors(request))

        return post

    def _check_origin(self, request: Request) -> None:
        settings = self._settings
        if not settings.allowed_origins and settings.app_keys:
            return
        if request.headers.get("origin", "") in settings.allowed_origins or _is_own(request):
            return
        raise ForeignOrigin(
            "pages of this origin may not report here",
            hint="list it in rum.allowed_origins, or let the proxy pass Host or X-Forwarded-Host",
        )

    def _admit(self, request: Request) -> None:
        keys = self._settings.app_keys
        if keys and app_key(request.url.path, request.headers) not in keys:
            raise UnknownSender("the app key is not known here", hint="use one of rum.app_keys")
        if not self._bucket.take(time.monotonic()):
            raise Overloaded(
                "more beacons a second than are taken",
                retry_after_s=10,
                reason="rate_limited",
                hint="Raise rum.max_per_second if these are the shop's own pages.",
            )

    async def _take_beacon(self, request: Request, body: bytes) -> None:
        with self._pipeline.receiving(SOURCE):
            vitals, refused = decode_beacon(body, sender_of(request.headers))
        self.report(vitals)
        self._pipeline.dropped(SOURCE, "not_a_web_vital", refused)
        await self.settle()

    async def _take_payload(self, request: Request, body: bytes) -> None:
        receipt = self._receipt(request.headers.get("idempotency-key", "")[:200])
        async with receipt.lock:
            if receipt.complete:
                self._pipeline.dropped(SOURCE, "repeated_payload", 1)
                return
            decode = partial(decode_faro, body, self._pipeline.now_ms())
            with self._pipeline.receiving(SOURCE):
                threaded = len(body) > THREAD_ABOVE_BYTES
                payload = await self.lane.run(decode) if threaded else decode()
            await self._store(payload, receipt)
        await self.settle()

    def _receipt(self, key: str) -> _Receipt:
        """What is known of a payload; one without a key is always new."""
        if not key:
            return _Receipt()
        receipt = self._receipts.setdefault(key, _Receipt())
        if len(self._receipts) > MAX_KNOWN_PAYLOADS:
            self._receipts.popitem(last=False)
        return receipt

    async def _store(self, payload: FaroPayload, receipt: _Receipt) -> None:
        if not receipt.logs_stored:
            if len(payload.logs):
                await self._pipeline.push(payload.logs, SOURCE)
            receipt.logs_stored = True
            for reason, count in payload.not_kept.items():
                self._pipeline.dropped(SOURCE, reason, count)
        if payload.traces is not None and not receipt.spans_stored:
            await self._store_spans(payload.traces)
        receipt.spans_stored = receipt.complete = True
        self.report(payload.vitals)
        self._errors.add(payload.page, payload.device, payload.errors)

    async def _store_spans(self, body: bytes) -> None:
        if self._take_spans is None:
            self._pipeline.dropped(SOURCE, "spans_not_taken", 1)
            return
        try:
            await self._take_spans(body)
        except BadInput:
            # The rest of the payload is stored: to refuse all would make the SDK send it again.
            self._pipeline.dropped(SOURCE, "malformed_traces", 1)

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


def _is_own(request: Request) -> bool:
    """Whether no page of another origin sends it.

    Browsers tell that in `Sec-Fetch-Site`, where the page is on HTTPS or on loopback; else the
    origin is compared. No page may set any of these headers on its own.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    if origin is None:
        return True
    host = urlsplit(origin).netloc.lower()
    names = (request.headers.get("host", ""), request.headers.get("x-forwarded-host", ""))
    return bool(host) and host in {name.strip().lower() for name in names}


def _objects(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1" or request.headers.get("dnt") == "1"
