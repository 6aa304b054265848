"""The routes of paging, wired: hooks, on call, deliveries, recurring silences, reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter

from alerts.incident_log.repository import IncidentRepository
from alerts.recurring_silences import RecurringSilences
from api.routers import alert_quality, deliveries, inbound, on_call, recurring_silences
from warroom.clock import Clock
from warroom.paging import Paging


def paging_routes(
    paging: Paging, incidents: IncidentRepository, time_zone: str, now: Clock
) -> list[APIRouter]:
    """To be tried before the routes of single alerts and incidents, whose paths take any name."""
    engine, ledger = paging.engine, paging.ledger

    def secrets() -> Mapping[str, Sequence[str]]:
        return {name: [s.value for s in many] for name, many in engine.routing.inbound.items()}

    archive = alert_quality.Archive(engine, incidents, ledger, time_zone)
    return [
        inbound.router(inbound.Desk(engine, incidents, ledger), secrets, now),
        on_call.router(engine, now),
        deliveries.router(ledger),
        recurring_silences.router(RecurringSilences(paging.repository), now),
        alert_quality.router(archive, now),
    ]
