"""The delivery ledger: every attempt to tell somebody, and what came of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from alerts.ledger.repository import Delivery, DeliveryFilter, OutboxRepository
from api.shapes import Json
from store.timestamps import rfc3339

Text = Annotated[str, Query(max_length=256)]


def router(ledger: OutboxRepository) -> APIRouter:
    """`/deliveries`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["alerts"])

    @routes.get("/deliveries")
    async def deliveries(
        incident_id: Text = "",
        receiver: Text = "",
        ok: bool | None = None,  # noqa: FBT001
        limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
        after: Annotated[int | None, Query(ge=0)] = None,
    ) -> Json:
        wanted = DeliveryFilter(incident_id, receiver, ok, after)
        found = await run_in_threadpool(ledger.ledger, wanted, limit=limit)
        states = await run_in_threadpool(ledger.counts)
        more = len(found) == limit
        return {
            "deliveries": [_delivery(one) for _, one in found],
            "messages": states,
            "next": found[-1][0] if more else None,
        }

    return routes


def _delivery(one: Delivery) -> Json:
    return {
        "at": rfc3339(one.at_ms),
        "notice_id": one.notice_id,
        "receiver": one.receiver,
        "kind": one.kind,
        "action": one.action,
        "dedup_key": one.dedup_key,
        "incident_id": one.incident_id,
        "attempt": one.attempt,
        "ok": one.ok,
        "status": one.status,
        "detail": one.detail,
    }
