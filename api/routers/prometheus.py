"""Prometheus's HTTP API: queries, series, labels, metadata, status. GET and POST forms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.routers import prometheus_catalog as catalog_routes
from api.routers import prometheus_status as status_routes
from api.routers.prometheus_json import encode, query_answer, success
from api.routers.prometheus_parameters import Parameters, bad_parameter
from api.routers.prometheus_queue import QueryQueue, Turn
from store.errors import LimitExceeded, QueryError, StoreUnavailable, WarroomError
from store.ports import ExemplarReader, MetadataReader, SeriesAdmin, SeriesCatalog
from store.promql.engine import Engine
from store.promql.parse import parse
from store.promql.printer import format_expr, tree

MAX_CONCURRENCY = 20
STATUS_OF = {
    "bad_data": 400,
    "execution": 422,
    "canceled": 499,
    "timeout": 503,
    "unavailable": 503,
    "internal": 500,
    "not_found": 404,
    "not_acceptable": 406,
}
_log = structlog.get_logger()
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the API reads.

    Attributes:
        engine: Evaluates queries; called in threads, at most `concurrency` at once.
        now_ms: The clock, for instant queries that name no time.
        rules: `{"groups": […]}` of /rules; likewise alerts, targets.
        config_text: The configuration as YAML, secrets left out.
        snapshot: Makes a backup and answers its name.
    """

    engine: Engine
    catalog: SeriesCatalog
    metadata: MetadataReader
    exemplars: ExemplarReader
    admin: SeriesAdmin
    now_ms: Callable[[], int]
    rules: Callable[[], Json] | None = None
    alerts: Callable[[], Json] | None = None
    targets: Callable[[], Json] | None = None
    config_text: Callable[[], str] = str
    runtime: Callable[[], Json] = dict
    flags: Mapping[str, str] = field(default_factory=dict)
    concurrency: int = MAX_CONCURRENCY
    snapshot: Callable[[], str] | None = None


Handler = Callable[[Request, Parameters], Awaitable[Response]]
Make = Callable[[Parameters], bytes]
Work = Callable[[Turn], bytes]


class _Routes:
    """Handlers under `/api/v1/`, their work done in threads, so many at once."""

    def __init__(self, source: Source) -> None:
        self.router = APIRouter()
        self._queue = QueryQueue(source.concurrency)
        self._timeout_s = source.engine.options.timeout_s

    async def threaded(
        self, request: Request, work: Work, timeout_s: float | None = None
    ) -> Response:
        most_s = self._timeout_s
        body = await self._queue.run(request, work, min(timeout_s or most_s, most_s))
        return _json(body) if body else Response(status_code=204)

    def on(self, path: str, handler: Handler, *methods: str) -> None:
        async def endpoint(request: Request) -> Response:
            return await _answered(request, handler)

        self.router.add_route(f"/api/v1/{path}", endpoint, list(methods) or ["GET", "POST"])

    def plain(self, path: str, make: Make, *methods: str) -> None:
        """A handler that needs the parameters only."""

        async def handler(request: Request, given: Parameters) -> Response:
            return await self.threaded(request, lambda _turn: make(given))

        self.on(path, handler, *methods)


def router(source: Source) -> APIRouter:
    """`/api/v1/…`. Unknown paths are left to the application's plain-text 404."""
    routes = _Routes(source)
    _add_queries(routes, source)
    _add_catalog(routes, source)
    _add_status(routes, source)
    return routes.router


def _add_queries(routes: _Routes, source: Source) -> None:
    async def query(request: Request, given: Parameters) -> Response:
        work = _instant(source, given)
        return await routes.threaded(request, work, _timeout_s(given))

    async def query_range(request: Request, given: Parameters) -> Response:
        work = _range(source, given)
        return await routes.threaded(request, work, _timeout_s(given))

    routes.on("query", query)
    routes.on("query_range", query_range)
    routes.plain("format_query", lambda given: success(encode(format_expr(_parsed(given)))))
    routes.plain("parse_query", lambda given: success(encode(tree(_parsed(given)))))


def _add_catalog(routes: _Routes, source: Source) -> None:
    catalog = source.catalog
    routes.plain("series", lambda given: catalog_routes.series(catalog, given))
    routes.plain("labels", lambda given: catalog_routes.label_names(catalog, given))
    routes.plain("metadata", lambda given: catalog_routes.metadata(source.metadata, given), "GET")
    routes.plain("query_exemplars", lambda given: catalog_routes.exemplars(source.exemplars, given))

    async def label_values(request: Request, given: Parameters) -> Response:
        name = request.path_params["name"]
        return await routes.threaded(
            request, lambda _turn: catalog_routes.label_values(catalog, name, given)
        )

    routes.on("label/{name}/values", label_values, "GET")
    routes.plain(
        "admin/tsdb/delete_series",
        lambda given: catalog_routes.delete(source.admin, given),
        "POST",
        "PUT",
    )
    routes.plain(
        "admin/tsdb/clean_tombstones",
        lambda _given: status_routes.clean_tombstones(source.admin),
        "POST",
        "PUT",
    )
    routes.plain("admin/tsdb/snapshot", lambda _given: _snapshot(source), "POST", "PUT")


def _snapshot(source: Source) -> bytes:
    if source.snapshot is None:
        raise QueryError("snapshots are not available on this server", kind="unavailable")
    return success(encode({"name": source.snapshot()}))


def _add_status(routes: _Routes, source: Source) -> None:
    def listing(path: str, make: Callable[[], Json] | None, empty: Json) -> None:
        routes.plain(path, lambda _given: success(encode(make() if make else empty)), "GET")

    def all_rules() -> Json:
        return source.rules() if source.rules else {"groups": []}

    def all_targets() -> Json:
        return source.targets() if source.targets else {"activeTargets": [], "droppedTargets": []}

    routes.plain("rules", lambda given: catalog_routes.rules(all_rules(), given), "GET")
    routes.plain("targets", lambda given: catalog_routes.targets(all_targets(), given), "GET")
    listing("alerts", source.alerts, {"alerts": []})
    listing("status/runtimeinfo", source.runtime, {})
    listing("status/config", lambda: {"yaml": source.config_text()}, {})
    listing("status/flags", lambda: dict(source.flags), {})
    routes.plain("status/buildinfo", lambda _given: status_routes.build(), "GET")
    routes.plain("status/tsdb", lambda given: status_routes.tsdb(source.catalog, given), "GET")


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


async def _answered(
    request: Request, handler: Callable[[Request, Parameters], Awaitable[Response]]
) -> Response:
    """A handler's answer, or its failure in Prometheus's shape."""
    try:
        return await handler(request, await Parameters.of(request))
    except QueryError as error:
        return failure(error.kind, str(error))
    except StoreUnavailable as error:
        return failure("unavailable", str(error))
    except LimitExceeded as error:
        return failure("execution", str(error))
    except WarroomError as error:
        _log.error("prometheus_api_failed", path=request.url.path, error=str(error))
        return failure("internal", str(error))
    except Exception:  # noqa: BLE001 -- the boundary: a client gets JSON whatever happens
        _log.exception("prometheus_api_failed", path=request.url.path)
        return failure("internal", "an internal error occurred; the log has the details")


def failure(kind: str, message: str) -> Response:
    """`{"status":"error","errorType":…,"error":…}` with the status that belongs to the type."""
    body = {"status": "error", "errorType": kind, "error": message}
    return _json(encode(body), STATUS_OF.get(kind, 500))


def _parsed(given: Parameters) -> Any:
    try:
        return parse(given.text("query"))
    except QueryError as error:
        raise bad_parameter("query", error.message) from error


def _timeout_s(given: Parameters) -> float | None:
    """What a request asks for; a timeout of nothing is over at once."""
    timeout_ms = given.duration_ms("timeout", -1)
    return None if not given.text("timeout") else max(timeout_ms / 1000, 1e-9)


def _instant(source: Source, given: Parameters) -> Work:
    limit = given.limit()
    ts_ms = given.time_ms("time", source.now_ms())
    _timeout_s(given)
    lookback_ms = given.duration_ms("lookback_delta", 0) or None
    _parsed(given)
    text, stats = given.text("query"), bool(given.text("stats"))

    def work(turn: Turn) -> bytes:
        answer = source.engine.query(
            text, ts_ms, timeout_s=turn.left_s, lookback_ms=lookback_ms, stopped=turn.stopped
        )
        return query_answer(answer, limit=limit, stats=stats, waited_s=turn.waited_s)

    return work


def _range(source: Source, given: Parameters) -> Work:
    limit = given.limit()
    start_ms, end_ms = given.time_ms("start"), given.time_ms("end")
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    step_ms = given.duration_ms("step")
    if step_ms <= 0:
        raise bad_parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. "
            "Try a positive integer",
        )
    _timeout_s(given)
    lookback_ms = given.duration_ms("lookback_delta", 0) or None
    source.engine.check_points(start_ms, end_ms, step_ms)
    _parsed(given)
    text, stats = given.text("query"), bool(given.text("stats"))
    remembered = given.text("nocache") in ("", "0")

    def work(turn: Turn) -> bytes:
        answer = source.engine.query_range(
            text,
            start_ms,
            end_ms,
            step_ms,
            timeout_s=turn.left_s,
            lookback_ms=lookback_ms,
            stopped=turn.stopped,
            remembered=remembered,
        )
        return query_answer(answer, limit=limit, stats=stats, waited_s=turn.waited_s)

    return work
