"""Changes as PagerDuty's Events API v2 takes them: a CI integration needs another host, no more.

`routing_key` is a token of ours, or anything where none is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from api.bodies import read_body
from api.guard import bearer
from store.annotations.repository import KINDS, Annotation, AnnotationRepository
from store.errors import BadInput, LimitExceeded

PATH = "/v2/change/enqueue"
MAX_BODY_BYTES = 512 * 1024  # PagerDuty's own bound
MAX_SUMMARY = 1024
# An event without a time that is sent again within this time is the same event.
SAME_WITHIN_MS = 300_000
_MAX_TITLE, _MAX_FIELD, _MAX_URL = 512, 256, 2048
_MAX_AHEAD_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What CI integrations call these in `custom_details`, the first that is there counts.
_SERVICE = ("service", "service_name", "application", "app")
_VERSION = ("version", "release", "revision", "commit", "sha", "build_number")

Accepts = Callable[[str], Awaitable[bool]]
"""Whether this token may write."""


def router(
    annotations: AnnotationRepository, accepts: Accepts, now: Callable[[], int]
) -> APIRouter:
    """`POST /v2/change/enqueue`: 202 when it is kept, 400 as PagerDuty tells a bad event."""
    routes = APIRouter(tags=["changes"])

    @routes.post(PATH, status_code=202)
    async def enqueue(request: Request) -> JSONResponse:
        try:
            event = _event(await read_body(request, MAX_BODY_BYTES))
            key = event.get("routing_key")
            token = bearer(request.headers) or (key if isinstance(key, str) else "")
            if not await accepts(token):
                return _invalid(403, "routing_key is no token that may write here")
            await run_in_threadpool(_keep, annotations, event, now())
        except LimitExceeded as exc:
            return _invalid(413, exc.message)
        except BadInput as exc:
            return _invalid(400, exc.message)
        return JSONResponse({"status": "success", "message": "Change event processed"}, 202)

    return routes


def _invalid(status: int, problem: str) -> JSONResponse:
    body = {"status": "invalid event", "message": "Event object is invalid", "errors": [problem]}
    return JSONResponse(body, status)


def _event(body: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadInput(f"the body is not valid JSON: {exc}") from exc
    if not isinstance(event, dict):
        raise BadInput("the body must be a JSON object")
    return event


def _keep(annotations: AnnotationRepository, event: Mapping[str, Any], now_ms: int) -> None:
    change, at_ms = change_of(event, now_ms)
    if at_ms is None and repeats(change, annotations.between(now_ms - SAME_WITHIN_MS, now_ms)):
        return
    annotations.add(change)


def repeats(change: Annotation, recent: Sequence[Annotation]) -> bool:
    """Whether one of these is the same but for its time."""
    return any(replace(one, at_ms=change.at_ms).id == change.id for one in recent)


def change_of(event: Mapping[str, Any], now_ms: int) -> tuple[Annotation, int | None]:
    """The annotation of a change event, and the time that it tells itself.

    Raises:
        BadInput: It is no change event.
    """
    payload = event.get("payload")
    if not isinstance(payload, dict):
        raise BadInput("payload must be an object")
    summary = payload.get("summary")
    if not isinstance(summary, str) or not 0 < len(summary.strip()) <= MAX_SUMMARY:
        raise BadInput(f"payload.summary must be a text of 1 to {MAX_SUMMARY} characters")
    told = payload.get("custom_details")
    details = told if isinstance(told, dict) else {}
    at_ms = _time_ms(payload.get("timestamp"), now_ms)
    kind = details.get("kind")
    change = Annotation(
        at_ms=now_ms if at_ms is None else at_ms,
        kind=kind if isinstance(kind, str) and kind in KINDS else "deploy",
        title=_cut(summary.strip(), _MAX_TITLE),
        service=_first(details, _SERVICE),
        version=_first(details, _VERSION),
        url=_link(event.get("links")),
    )
    return change, at_ms


def _time_ms(value: Any, now_ms: int) -> int | None:
    if value is None or value == "":
        return None
    try:
        at = datetime.fromisoformat(value)
        moment = at if at.tzinfo else at.replace(tzinfo=UTC)
        at_ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    except (TypeError, ValueError, OverflowError):
        raise BadInput("payload.timestamp must be ISO 8601") from None
    if not 0 <= at_ms <= now_ms + _MAX_AHEAD_MS:
        raise BadInput("payload.timestamp is before 1970 or in the future")
    return at_ms


def _first(details: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        value = details.get(name)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
            return _cut(str(value), _MAX_FIELD)
    return ""


def _link(links: Any) -> str:
    """The first link that is a web address."""
    for link in links[:20] if isinstance(links, list) else ():
        href = link.get("href") if isinstance(link, dict) else None
        if isinstance(href, str) and href.startswith(("https://", "http://")):
            return href if len(href) <= _MAX_URL else ""
    return ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
