"""Reads alerts for the API and the boards: one transaction, one shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alerts.incident_log.repository import IncidentRepository
from alerts.model import AlertState
from alerts.repository import AlertRepository
from api.alert_shapes import alerts_json, event_json

Json = dict[str, Any]


class AlertReader:
    """What is going on, as JSON."""

    def __init__(
        self, alerts: AlertRepository, incidents: IncidentRepository, now: Callable[[], int]
    ) -> None:
        self._alerts = alerts
        self._incidents = incidents
        self._now = now

    def all(self) -> list[Json]:
        """Every alert that is kept, the resolved of the last quarter of an hour among them."""
        with self._alerts.begin() as transaction:
            snapshot = transaction.snapshot()
            unresolved = {i.id: i for i in transaction.unresolved_incidents()}
        return alerts_json(snapshot.records.values(), snapshot.silences, unresolved, self._now())

    def active(self) -> list[Json]:
        """Without those that are resolved."""
        return [alert for alert in self.all() if alert["state"] != AlertState.RESOLVED.value]

    def timeline(self, start_ms: int, end_ms: int) -> list[Json]:
        """What happened to alerts: fired, paged, acknowledged, resolved."""
        return [event_json(event) for event in self._incidents.events_between(start_ms, end_ms)]
