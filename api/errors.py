"""One error body for every failure of our own API: `{"error": {"code", "message", "hint"}}`."""

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
_STATUS: tuple[tuple[type[WarroomError], int, str], ...] = (
    (BadInput, 400, "bad_input"),
    (ConfigError, 400, "bad_configuration"),
    (LimitExceeded, 422, "limit_exceeded"),
    (Overloaded, 429, "overloaded"),
    (StoreUnavailable, 503, "store_unavailable"),
    (QueryError, 422, "query_failed"),
)


class NotFound(WarroomError):
    """What was asked for does not exist."""


def error_response(
    status: int, code: str, message: str, *, hint: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    """The one shape of an error."""
    body = {"error": {"code": code, "message": message, "hint": hint}}
    return JSONResponse(body, status, headers=headers)


def install(app: FastAPI) -> None:
    """Turn errors into answers. Grafana's probes depend on the plain text of an unknown path."""

    @app.exception_handler(WarroomError)
    async def _own(_request: Request, exc: WarroomError) -> Response:
        if isinstance(exc, NotFound):
            return error_response(404, "not_found", exc.message, hint=exc.hint)
        for kind, status, code in _STATUS:
            if isinstance(exc, kind):
                wait = getattr(exc, "retry_after_s", None)
                headers = {"Retry-After": str(wait)} if wait else None
                return error_response(status, code, exc.message, hint=exc.hint, headers=headers)
        return error_response(500, "internal", exc.message, hint=exc.hint)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, exc: RequestValidationError) -> Response:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return error_response(400, "bad_input", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def _http(request: Request, exc: HTTPException) -> Response:
        if request.url.path.startswith(OWN_PREFIX):
            return error_response(exc.status_code, "http_error", str(exc.detail))
        if exc.status_code == 404:
            return PlainTextResponse("404 page not found\n", 404)
        return PlainTextResponse(f"{exc.detail}\n", exc.status_code, headers=exc.headers)
