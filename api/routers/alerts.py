"""Our own view of alerts: what is going on, and why somebody was paged or not."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from api.alert_reader import AlertReader
from api.errors import NotFound
from api.shapes import Json

Why = Callable[[str], Json | None]


def router(reader: AlertReader, why: Why) -> APIRouter:
    """`/alerts…`; `why` answers None for an unknown fingerprint."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["alerts"])

    @routes.get("/alerts")
    async def list_alerts() -> Json:
        return {"alerts": await run_in_threadpool(reader.all), "next": None}

    @routes.get("/alerts/{fingerprint}")
    async def one_alert(fingerprint: str) -> Json:
        for alert in await run_in_threadpool(reader.all):
            if alert["fingerprint"] == fingerprint:
                return alert
        raise NotFound(f"there is no alert {fingerprint!r}", hint="it may have ended long ago")

    @routes.get("/alerts/{fingerprint}/why")
    async def why_paged(fingerprint: str) -> Json:
        told = await run_in_threadpool(why, fingerprint)
        if told is None:
            raise NotFound(f"there is no alert {fingerprint!r}")
        return told

    return routes
