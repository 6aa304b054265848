"""A small real server for the front end: the mounted pages, a scripted stream, the APIs they read.

Run as a module it serves the story to look at: `python -m tests.dashboards.fixture 8601`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from dashboards.mount import routes
from tests.dashboards import story, story_pages

Json = dict[str, Any]
NO_BOARD = "no-such-board"


class ScriptedServer:
    """Serves on one port for its whole life, through stops and starts; ticks come when told."""

    def __init__(self, *, interval_ms: int = 500, static_dir: Path | None = None) -> None:
        self.interval_ms = interval_ms
        self.streams = 0
        self.posts: list[tuple[str, Json]] = []
        self.resumed: list[str] = []  # `Last-Event-ID` of each stream, in their order
        self.token = ""  # what a browser must give before anything else, if it is set
        self._static_dir = static_dir
        self._ticks = itertools.count(1)
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._socket_address = ("127.0.0.1", _free_port())
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        host, port = self._socket_address
        return f"http://{host}:{port}"

    def start(self) -> None:
        host, port = self._socket_address
        config = uvicorn.Config(
            self._app(),
            host=host,
            port=port,
            log_level="error",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        self._server = server
        self._thread = threading.Thread(target=self._serve, args=(server,), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "the scripted server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._publish(b"")
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()

    def cut_off(self) -> None:
        """Ends every open stream; who comes back is served."""
        self._publish(b"")

    def tick(self, panels: Json | None = None, **more: Any) -> int:
        """Sends one delta to every open stream; answers its number."""
        tick = next(self._ticks)
        delta = {"tick": tick, "now_ms": int(time.time() * 1000), "panels": panels or {}, **more}
        self._publish(_message("delta", tick, delta))
        return tick

    def _serve(self, server: uvicorn.Server) -> None:
        async def run() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve()

        asyncio.run(run())

    def _publish(self, message: bytes) -> None:
        assert self._loop is not None

        def put() -> None:
            for queue in self._queues:
                queue.put_nowait(message)

        self._loop.call_soon_threadsafe(put)

    def _app(self) -> Starlette:
        now_ms = int(time.time() * 1000)
        own = "/api/warroom/v1"
        answers: dict[str, Json] = {
            **story_pages.answers(now_ms),
            f"{own}/slos": {"slos": story.slos(now_ms), "next": None},
            f"{own}/alerts": {"alerts": story.alerts(now_ms), "next": None},
            f"{own}/alerts/{story.FINGERPRINT}/why": _why(now_ms),
            f"{own}/findings": {"findings": story.findings(now_ms), "next": None},
            f"{own}/findings/{story.FINDING_ID}": story.finding(now_ms),
            f"{own}/sources": {"sources": story.sources(now_ms), "next": None},
            f"{own}/traces/{story.TRACE_ID}/explain": {
                "findings": [story.finding(now_ms)],
                "not_reported": [
                    {
                        "shape": "SELECT shop_product",
                        "gate": "repetitions",
                        "value": 1,
                        "threshold": 5,
                    }
                ],
            },
            f"{own}/business/funnel": _funnel(),
            f"{own}/business/pace": _pace(),
            f"{own}/business/abandonment": _abandonment(now_ms),
            f"{own}/business/orders": {
                "step_seconds": 60,
                "points": [],
                "revenue_at_risk": {
                    "amount": "58200.00",
                    "currency": "EUR",
                    "low": "41000.00",
                    "high": "73100.00",
                    "orders_missing": True,
                },
            },
            f"/jaeger/api/traces/{story.TRACE_ID}": story.trace(now_ms * 1000 - 30_000_000),
            "/api/v1/labels": {"status": "success", "data": ["job", "http_route"]},
            "/api/v1/label/__name__/values": {
                "status": "success",
                "data": ["http_server_request_duration_seconds_count", "up"],
            },
            "/api/v1/series": {"status": "success", "data": [{"__name__": "up", "job": "shop"}]},
            "/api/v1/metadata": {"status": "success", "data": {}},
        }

        async def answer(request: Request) -> Response:
            if request.url.path == "/api/v1/query_range":
                return JSONResponse(_matrix(request))
            special = self._special(request, request.url.path.removeprefix(own), now_ms)
            if special is not None:
                return special
            if request.method == "POST" and request.url.path.startswith(own):
                self.posts.append((request.url.path, orjson.loads(await request.body() or b"{}")))
                return JSONResponse({})
            body = answers.get(request.url.path)
            if body is None:
                error = {"code": "not_found", "message": "There is nothing here.", "hint": ""}
                return JSONResponse({"error": error}, 404)
            return JSONResponse(body)

        return Starlette(
            routes=[
                Route(f"{own}/live", self._live),
                Route("/api/{path:path}", answer, methods=["GET", "POST", "PUT"]),
                Route("/jaeger/{path:path}", answer),
                *routes(self._static_dir),
            ]
        )

    def _special(self, request: Request, path: str, now_ms: int) -> Response | None:
        """Answers that are more than a JSON that stands still."""
        if path == "/session" and self.token:
            return self._session(request)
        if path == "/boards/war-room":
            return PlainTextResponse(story_pages.BOARD_YAML, headers={"ETag": '"t1"'})
        if path in {"/replay", "/boards/preview"}:
            return JSONResponse(story.snapshot(0, now_ms, self.interval_ms))
        return None

    def _session(self, request: Request) -> Response:
        """As the service's own: a token once, a cookie from then on."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        known = self.token in {given, request.cookies.get("warroom_token")}
        if request.method == "POST" and not known:
            return JSONResponse({"error": {"message": "no such token"}}, 401)
        answer = JSONResponse({"role": "display" if known else None, "tokens_required": True})
        if known:
            answer.set_cookie("warroom_token", self.token, httponly=True, samesite="strict")
        return answer

    async def _live(self, request: Request) -> Response:
        board = request.query_params["board"]
        if board == NO_BOARD:
            return JSONResponse({"error": {"message": "there is no such board"}}, 404)
        self.resumed.append(request.headers.get("last-event-id", ""))
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.add(queue)

        async def body() -> AsyncIterator[bytes]:
            self.streams += 1
            try:
                yield b"retry: 300\n\n"
                tick = next(self._ticks)
                first = story.snapshot(tick, int(time.time() * 1000), self.interval_ms)
                if board != "war-room":
                    first["board"] = first["board"] | {"name": board}
                yield _message("snapshot", tick, first)
                while message := await queue.get():
                    yield message
            finally:
                self.streams -= 1
                self._queues.discard(queue)

        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(body(), media_type="text/event-stream", headers=headers)


@contextlib.contextmanager
def serving(*, interval_ms: int = 500) -> Iterator[ScriptedServer]:
    server = ScriptedServer(interval_ms=interval_ms)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _message(event: str, tick: int, data: Json) -> bytes:
    return b"event: %s\nid: %d\ndata: %s\n\n" % (event.encode(), tick, orjson.dumps(data))


def _why(now_ms: int) -> Json:
    steps = [
        (
            "routing",
            "route",
            "matched",
            {"receiver": "pagerduty", "matcher": 'severity="critical"'},
        ),
        ("silences", "pass", "no_silence", "none of 3 silences matches"),
        ("inhibition", "pass", "not_inhibited", None),
        ("grouping", "notify", "group_wait_over", {"waited_seconds": 0}),
        ("dedup", "send", "first_notification", None),
        ("delivery", "delivered", "accepted", {"status": 202, "dedup_key": "wr-9f8e7d6c"}),
    ]
    reasons = [{"stage": a, "decision": b, "reason": c, "detail": d} for a, b, c, d in steps]
    return {"paged": True, "reasons": reasons, "next_notification_at": now_ms + 14_000_000}


def _pace() -> Json:
    earlier = {"orders": 9_120, "revenue": "478800.00"}
    return {
        "day": "2026-11-27",
        "currency": "EUR",
        "so_far": {"orders": 21_480, "revenue": "1127700.00"},
        "expected_orders_so_far": 20_950.0,
        "ratio": 1.025,
        "forecast": {
            "orders": 48_210.0,
            "low": 44_100.0,
            "high": 52_400.0,
            "revenue": "2531025.00",
        },
        "last_week": {"day": "2026-11-20", "so_far": earlier, "total": earlier},
        "last_sale": {"day": "2025-11-28", "so_far": earlier, "total": earlier},
        "baseline": "sale",
    }


def _funnel() -> Json:
    steps = [
        ("view_item", 41_200, None, None),
        ("add_to_cart", 9_870, 0.2396, 74),
        ("begin_checkout", 4_410, 0.4468, 190),
        ("add_payment_info", 3_520, 0.7982, 61),
        ("purchase", 3_007, 0.8543, 24),
    ]
    return {
        "steps": [
            {
                "name": a,
                "sessions": b,
                "conversion_from_previous": c,
                "median_seconds_from_previous": d,
            }
            for a, b, c, d in steps
        ]
    }


def _abandonment(now_ms: int) -> Json:
    def points(rate: float) -> list[Json]:
        return [
            {
                "at": now_ms - (24 - i) * 900_000,
                "started": 180,
                "completed": round(180 * (1 - rate)),
                "abandoned": round(180 * rate),
                "rate": rate + (i % 5) * 0.01,
                "low": rate - 0.05,
                "high": rate + 0.05,
                "provisional": i >= 22,
            }
            for i in range(24)
        ]

    return {
        "matured_until": now_ms - 1_800_000,
        "timeout_seconds": 1800,
        "series": [
            {"labels": {"device": "mobile"}, "points": points(0.36)},
            {"labels": {"device": "desktop"}, "points": points(0.24)},
        ],
    }


def _matrix(request: Request) -> Json:
    query = request.query_params
    start, end, step = (float(query[key]) for key in ("start", "end", "step"))
    if "(" in query["query"] and ")" not in query["query"]:
        return {"status": "error", "errorType": "bad_data", "error": "unclosed parenthesis"}
    count = int((end - start) / step)
    result = [
        {
            "metric": {"http_route": route},
            "values": [[start + i * step, str(10.0 + n + (i % 7))] for i in range(count)],
        }
        for n, route in enumerate(story.ROUTES[:3])
    ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def main() -> None:
    interval_s = 5.0
    server = ScriptedServer(interval_ms=int(interval_s * 1000))
    if len(sys.argv) > 1:
        server._socket_address = ("127.0.0.1", int(sys.argv[1]))
    server.start()
    print(f"the story plays at {server.url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(interval_s)
            server.tick()
    server.stop()


if __name__ == "__main__":
    main()
