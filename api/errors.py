"""One error body for every failure of our own API: `{"error": {"code", "message", "hint"}}`.

Below Jaeger's paths the same failures are told in Jaeger's shape, which its clients show.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from store.errors import (
    BadInput,
    ConfigError,
    LimitExceeded,
    Overloaded,
    QueryError,
    StoreUnavailable,
    WarroomError,
)

OWN_PREFIX = "/api/warroom/"
_JAEGER_PREFIX = "/jaeger/api/"
_WHERE_TO_READ = "see /api/openapi.json"


class NotFound(WarroomError):
    """What was asked for does not exist."""


_STATUS: tuple[tuple[type[WarroomError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (BadInput, 400, "bad_input"),
    (ConfigError, 400, "bad_configuration"),
    (LimitExceeded, 422, "limit_exceeded"),
    (Overloaded, 429, "overloaded"),
    (StoreUnavailable, 503, "store_unavailable"),
    (QueryError, 422, "query_failed"),
)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


def error_response(
    status: int, code: str, message: str, *, hint: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    """The one shape of an error."""
    body = {"error": {"code": code, "message": message, "hint": hint}}
    return JSONResponse(body, status, headers=headers)


def jaeger_error(status: int, message: str) -> JSONResponse:
    """An error in the envelope of Jaeger's query API."""
    errors = [{"code": status, "msg": message}]
    return JSONResponse(
        {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": errors}, status
    )


def install(app: FastAPI) -> None:
    """Turn errors into answers. Grafana's probes depend on the plain text of an unknown path."""

    @app.exception_handler(WarroomError)
    async def _own(request: Request, exc: WarroomError) -> Response:
        status, code = next(
            ((status, code) for kind, status, code in _STATUS if isinstance(exc, kind)),
            (500, "internal"),
        )
        if request.url.path.startswith(_JAEGER_PREFIX):
            return jaeger_error(status, str(exc))
        wait = getattr(exc, "retry_after_s", None)
        headers = {"Retry-After": str(wait)} if wait else None
        return error_response(status, code, exc.message, hint=exc.hint, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, exc: RequestValidationError) -> Response:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}"
        if request.url.path.startswith(_JAEGER_PREFIX):
            return jaeger_error(400, message)
        return error_response(400, "bad_input", message, hint=_WHERE_TO_READ)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, exc: HTTPException) -> Response:
        headers = dict(exc.headers) if exc.headers else None
        if request.url.path.startswith(OWN_PREFIX):
            code = _HTTP_CODES.get(exc.status_code, "http_error")
            return error_response(
                exc.status_code, code, str(exc.detail), hint=_WHERE_TO_READ, headers=headers
            )
        if exc.status_code == 404:
            return PlainTextResponse("404 page not found\n", 404)
        return PlainTextResponse(f"{exc.detail}\n", exc.status_code, headers=headers)

    # The outermost handler: it answers, and the error goes on to the server's log.
    @app.exception_handler(Exception)
    async def _broken(_request: Request, _exc: Exception) -> Response:
        message = "something broke inside of Warroom"
        return error_response(500, "internal", message, hint="its log says what")
