"""Reads alerts for the API and the boards: one transaction, one shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alerts.engine import AlertEngine
from alerts.incident_log.repository import IncidentRepository
from alerts.model import AlertState
from api.alert_shapes import alerts_json, event_json

Json = dict[str, Any]


class AlertReader:
    """What is going on, as JSON."""

    def __init__(
        self, engine: AlertEngine, incidents: IncidentRepository, now: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._incidents = incidents
        self._now = now

    def all(self) -> list[Json]:
        """Every alert that is kept, the resolved of the last quarter of an hour among them."""
        unresolved = {i.id: i for i in self._incidents.unresolved()}
        engine = self._engine
        return alerts_json(engine.snapshot(), engine.routing, unresolved, self._now())

    def active(self) -> list[Json]:
        """For the wall: without those that are resolved, or that another alert speaks for."""
        resolved = AlertState.RESOLVED.value
        return [a for a in self.all() if a["state"] != resolved and not a["inhibited_by"]]

    def timeline(self, start_ms: int, end_ms: int) -> list[Json]:
        """What happened to alerts: fired, paged, acknowledged, resolved."""
        return [event_json(event) for event in self._incidents.events_between(start_ms, end_ms)]
