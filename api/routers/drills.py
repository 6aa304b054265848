"""Drills: a marked page through a chosen route, and what its receivers said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, StringConstraints

from alerts.drill import lanes_of
from alerts.engine import AlertEngine
from alerts.ledger.repository import Delivery, OutboxRepository, OutboxRow
from api.errors import NotFound
from api.shapes import Json

_DONE = frozenset({"sent", "failed", "superseded"})
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=128)]
Value = Annotated[str, StringConstraints(max_length=1_024)]


class DrillRequest(BaseModel):
    """Body of `POST /drills`: the labels choose the route, as an alert's would."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[Name, Value] = {}


def router(engine: AlertEngine, outbox: OutboxRepository, now: Callable[[], int]) -> APIRouter:
    """`/drills` and `/drills/{drill_id}`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["drills"])

    @routes.post("/drills", status_code=202)
    async def begin(body: DrillRequest) -> Json:
        drill = await run_in_threadpool(engine.drill, body.labels, now())
        taken = [dataclasses.asdict(route) for route in drill.routes]
        return {"id": drill.id, "routes": taken}

    @routes.get("/drills/{drill_id}")
    async def look(drill_id: str) -> Json:
        return await run_in_threadpool(_receipts, outbox, drill_id)

    return routes


def _receipts(outbox: OutboxRepository, drill_id: str) -> Json:
    found = outbox.receipts(lanes_of(drill_id)) if drill_id.isalnum() else []
    if not found:
        raise NotFound(f"there is no drill {drill_id!r}")
    return {
        "id": drill_id,
        "done": all(row.state in _DONE for row, _ in found),
        "ok": all(row.state == "sent" for row, _ in found),
        "deliveries": [_receipt(row, attempt) for row, attempt in found],
    }


def _receipt(row: OutboxRow, attempt: Delivery | None) -> Json:
    return {
        "receiver": row.notice.receiver,
        "integration": row.notice.integration,
        "kind": attempt.kind if attempt else "",
        "action": row.notice.action.value,
        "state": row.state,
        "attempts": row.attempts,
        "status": attempt.status if attempt else None,
        "detail": attempt.detail if attempt else "",
        "milliseconds": attempt.at_ms - row.notice.created_ms if attempt else None,
    }
