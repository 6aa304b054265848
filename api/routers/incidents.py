"""Incidents, and what people do to them: acknowledge, note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from alerts.engine import AlertEngine
from alerts.incident_log.repository import IncidentRepository
from api.alert_shapes import incident_json
from api.errors import NotFound
from api.shapes import Json
from store.errors import BadInput


class Acknowledgement(BaseModel):
    """Body of `POST /incidents/{id}/ack`."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(default="someone", max_length=256)


class Note(BaseModel):
    """Body of `POST /incidents/{id}/notes`."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=4_000)
    by: str = Field(default="someone", max_length=256)


def router(incidents: IncidentRepository, engine: AlertEngine, now: Callable[[], int]) -> APIRouter:
    """`/incidents…`."""
    routes = APIRouter(prefix="/api/warroom/v1", tags=["incidents"])

    @routes.get("/incidents")
    async def list_incidents(
        state: Annotated[str, Query(max_length=32)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Json:
        found = await run_in_threadpool(lambda: incidents.incidents(state=state, limit=limit))
        return {"incidents": [incident_json(incident) for incident in found], "next": None}

    @routes.get("/incidents/{incident_id}")
    async def one_incident(incident_id: str) -> Json:
        return await run_in_threadpool(_incident, incidents, incident_id)

    @routes.post("/incidents/{incident_id}/ack")
    async def acknowledge(incident_id: str, body: Acknowledgement) -> Json:
        await _known(engine.acknowledge, incident_id, body.by, now())
        return await run_in_threadpool(_incident, incidents, incident_id)

    @routes.post("/incidents/{incident_id}/notes", status_code=201)
    async def note(incident_id: str, body: Note) -> Json:
        await _known(engine.note, incident_id, body.text, body.by, now())
        return await run_in_threadpool(_incident, incidents, incident_id)

    return routes


async def _known(act: Callable[..., None], incident_id: str, *arguments: object) -> None:
    try:
        await run_in_threadpool(act, incident_id, *arguments)
    except BadInput as exc:
        if exc.message.startswith("there is no incident"):
            raise NotFound(exc.message) from exc
        raise


def _incident(incidents: IncidentRepository, incident_id: str) -> Json:
    incident = incidents.incident(incident_id)
    if incident is None:
        raise NotFound(f"there is no incident {incident_id!r}")
    return incident_json(incident, incidents.events(incident_id))
