"""Silences that come again; each occurrence is a plain silence of the API v2 while it lasts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from alerts.matchers import format_matchers, parse_matchers
from alerts.recurring.silences import MAX_WINDOWS, RecurringSilence, closes_ms, windows_of
from alerts.recurring_silences import RecurringSilences
from api.errors import NotFound
from api.shapes import Json
from store.errors import BadInput
from store.timestamps import rfc3339

Text = Annotated[str, Field(min_length=1, max_length=1_024)]


class RecurringRequest(BaseModel):
    """Body of `POST /silences/recurring`: `time_intervals` as in an Alertmanager file."""

    model_config = ConfigDict(extra="forbid")

    matchers: list[Text] = Field(min_length=1, max_length=64)
    time_intervals: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_WINDOWS)
    comment: Text
    created_by: Text = "someone"
    until: datetime | None = None


def router(silences: RecurringSilences, now: Callable[[], int]) -> APIRouter:
    """`/silences/recurring…`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["alerts"])

    @routes.get("/silences/recurring")
    async def list_recurring() -> Json:
        found = await run_in_threadpool(silences.all)
        return {"silences": [_told(one, now()) for one in found], "next": None}

    @routes.post("/silences/recurring", status_code=201)
    async def make(body: RecurringRequest) -> Json:
        silence = _silence(body)
        await run_in_threadpool(silences.add, silence, now())
        return _told(silence, now())

    @routes.delete("/silences/recurring/{silence_id}", status_code=204)
    async def end(silence_id: str) -> Response:
        if not await run_in_threadpool(silences.end, silence_id, now()):
            raise NotFound(f"there is no recurring silence {silence_id!r}")
        return Response(status_code=204)

    return routes


def _silence(body: RecurringRequest) -> RecurringSilence:
    try:
        matchers = tuple(m for text in body.matchers for m in parse_matchers(text))
    except ValueError as exc:
        raise BadInput(str(exc), hint='write a matcher like service="shop"') from exc
    until = body.until
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return RecurringSilence(
        id=uuid4().hex[:12],
        matchers=matchers,
        windows=windows_of(body.time_intervals),
        source=tuple(body.time_intervals),
        created_by=body.created_by,
        comment=body.comment,
        until_ms=int(until.timestamp() * 1000) if until else 0,
    )


def _told(silence: RecurringSilence, now_ms: int) -> Json:
    active = silence.open_at(now_ms)
    return {
        "id": silence.id,
        "matchers": format_matchers(silence.matchers),
        "time_intervals": list(silence.source),
        "comment": silence.comment,
        "created_by": silence.created_by,
        "until": rfc3339(silence.until_ms) if silence.until_ms else None,
        "active": active,
        "active_until": rfc3339(closes_ms(silence, now_ms)) if active else None,
    }
