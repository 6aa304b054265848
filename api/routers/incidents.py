"""Incidents, and what people do to them: acknowledge, note, resolve, write up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from alerts.cause import ProbableCause
from alerts.engine import AlertEngine
from alerts.incident_log.repository import IncidentRepository
from alerts.incidents import Incident, IncidentAlert
from alerts.ledger.repository import OutboxRepository
from api.alert_shapes import incident_json, probable_cause_json
from api.damage import Damage, DamageOf, damage_json
from api.errors import NotFound
from api.postmortem import LOOK_BACK_MS, postmortem
from api.shapes import Json
from store.errors import BadInput
from store.model import Labels

# Kinds of the timeline that incidents write themselves: the incident's own events are exact.
_OWN_KINDS = frozenset({"opened", "alert", "resolved", "page", "ack", "note", "closed"})

# What an incident cost may take long to read: a page shows what is known, a write-up waits.
_SHOWN_WITHIN_S = 1.0
_WRITTEN_WITHIN_S = 30.0


class Acknowledgement(BaseModel):
    """Body of `POST /incidents/{id}/ack`."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(default="someone", max_length=256)


class Resolution(BaseModel):
    """Body of `POST /incidents/{id}/resolve`."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(default="someone", max_length=256)


class Note(BaseModel):
    """Body of `POST /incidents/{id}/notes`."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=4_000)
    by: str = Field(default="someone", max_length=256)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known beside the incident: other events, deliveries, candidates for its cause.

    Attributes:
        candidates: The likeliest causes of what began then, best first: labels, then the time.
        damage: What it cost.
    """

    timeline: Callable[[int, int], list[Json]]
    deliveries: OutboxRepository
    candidates: Callable[[Labels, int], Sequence[ProbableCause]] = lambda _labels, _started: ()
    damage: DamageOf = lambda _incident, _within_s: Damage()


def router(
    incidents: IncidentRepository, engine: AlertEngine, now: Callable[[], int], record: Record
) -> APIRouter:
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
        return await run_in_threadpool(_ranked, incidents, record, incident_id, now())

    @routes.post("/incidents/{incident_id}/ack")
    async def acknowledge(incident_id: str, body: Acknowledgement) -> Json:
        await _known(engine.acknowledge, incident_id, body.by, now())
        return await run_in_threadpool(_incident, incidents, incident_id)

    @routes.post("/incidents/{incident_id}/resolve")
    async def resolve(incident_id: str, body: Resolution) -> Json:
        await _known(engine.resolve, incident_id, body.by, now())
        return await run_in_threadpool(_incident, incidents, incident_id)

    @routes.get("/incidents/{incident_id}/postmortem.md")
    async def write_up(incident_id: str) -> Response:
        text = await run_in_threadpool(_postmortem, incidents, record, incident_id, now())
        headers = {"Content-Disposition": 'inline; filename="postmortem.md"'}
        return Response(text, headers=headers, media_type="text/markdown")

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


def _postmortem(
    incidents: IncidentRepository, record: Record, incident_id: str, now_ms: int
) -> str:
    incident = incidents.incident(incident_id)
    if incident is None:
        raise NotFound(f"there is no incident {incident_id!r}")
    deliveries = record.deliveries.deliveries(incident_id=incident_id)
    around = _around(incident, record, now_ms)
    damage = record.damage(incident, _WRITTEN_WITHIN_S)
    return postmortem(incident, incidents.events(incident_id), around, deliveries, damage)


def _around(incident: Incident, record: Record, now_ms: int) -> list[Json]:
    """What else happened: faults that were found, deploys, flags, sales."""
    end_ms = incident.resolved_ms or now_ms
    found = record.timeline(incident.started_ms - LOOK_BACK_MS, end_ms)
    return [event for event in found if event["kind"] not in _OWN_KINDS]


def _ranked(incidents: IncidentRepository, record: Record, incident_id: str, now_ms: int) -> Json:
    """One incident with what it cost, and the candidates for the cause of its first alert."""
    shown = _incident(incidents, incident_id)
    incident = incidents.incident(incident_id)
    if incident is None:
        raise NotFound(f"there is no incident {incident_id!r}")
    first = _first(incident)
    causes = record.candidates(first.labels, incident.started_ms) if first else ()
    timeline = [*shown["timeline"], *_around(incident, record, now_ms)]
    return {
        **shown,
        "timeline": sorted(timeline, key=lambda event: str(event["at"])),
        "candidates": [probable_cause_json(cause) for cause in causes],
        "impact": damage_json(record.damage(incident, _SHOWN_WITHIN_S)),
    }


def _first(incident: Incident) -> IncidentAlert | None:
    return min(incident.alerts, key=lambda alert: alert.fired_ms, default=None)


def _incident(incidents: IncidentRepository, incident_id: str) -> Json:
    incident = incidents.incident(incident_id)
    if incident is None:
        raise NotFound(f"there is no incident {incident_id!r}")
    return incident_json(incident, incidents.events(incident_id))
