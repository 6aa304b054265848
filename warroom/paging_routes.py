"""The routes of paging, wired: hooks, on call, deliveries, silences, reports, incidents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from alerts.incident_log.repository import IncidentRepository
from alerts.recurring_silences import RecurringSilences
from api.routers import alert_quality, deliveries, inbound, on_call, recurring_silences
from api.routers import incidents as incident_routes
from api.timeline import Timeline
from slos.model import SloStatus
from warroom.clock import Clock
from warroom.damage import Damages
from warroom.paging import Paging


@dataclass(frozen=True, slots=True)
class Around:
    """What is known beside alerting: all that happened, the SLOs now, what incidents cost."""

    timeline: Timeline
    slos: Callable[[], Sequence[SloStatus]]
    damages: Damages
    time_zone: str


def incident_route(
    paging: Paging, incidents: IncidentRepository, around: Around, now: Clock
) -> APIRouter:
    """`/incidents…`."""
    record = incident_routes.Record(
        around.timeline,
        paging.ledger,
        lambda labels, started: paging.suspects.ranked(labels, started, now()),
        around.damages.of,
    )
    return incident_routes.router(incidents, paging.engine, now, record)


def paging_routes(
    paging: Paging, incidents: IncidentRepository, around: Around, now: Clock
) -> list[APIRouter]:
    """To be tried before the routes of single alerts and incidents, whose paths take any name."""
    engine, ledger = paging.engine, paging.ledger

    def secrets() -> Mapping[str, Sequence[str]]:
        return {name: [s.value for s in many] for name, many in engine.routing.inbound.items()}

    archive = alert_quality.Archive(
        engine, incidents, ledger, around.time_zone, around.timeline, around.slos
    )
    return [
        inbound.router(inbound.Desk(engine, incidents, ledger), secrets, now),
        on_call.router(engine, now),
        deliveries.router(ledger),
        recurring_silences.router(RecurringSilences(paging.repository), now),
        alert_quality.router(archive, now),
    ]
