"""Which times of the past are no measure of a plain day: incidents and sale days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from alerts.incidents import Incident
from business_metrics.calendar import SaleDay
from business_metrics.settings import BusinessSettings
from detectors.seasonal_history import Calendar

_LOOKED_BACK_MS = 35 * 86_400_000
_REFRESH_MS = 300_000
_MAX_INCIDENTS = 500
# What lasted for longer has become the normal state of things.
_LONGEST_MS = 86_400_000
_GRAVE = frozenset({"page", "critical"})


class IncidentLog(Protocol):
    """Past incidents, newest first."""

    def incidents(self, *, state: str = "", limit: int = 100) -> list[Incident]: ...


def past_trouble(business: BusinessSettings, log: IncidentLog) -> Callable[[int], Calendar]:
    """What the detectors leave out of what they learn from; read again every five minutes.

    An incident that still runs is left out by the finding that began it, not here: else the
    calendar would change at every tick.
    """
    sales = tuple(_span(sale, business.zone) for sale in business.calendar)
    known: dict[int, Calendar] = {}

    def calendar(now_ms: int) -> Calendar:
        step = now_ms // _REFRESH_MS
        if step not in known:
            since_ms = now_ms - _LOOKED_BACK_MS
            incidents = log.incidents(state="resolved", limit=_MAX_INCIDENTS)
            spans = sorted(span for incident in incidents if (span := _of(incident)))
            known.clear()
            known[step] = Calendar(
                business.zone,
                incidents=tuple(span for span in spans if span[1] > since_ms),
                sales=tuple(span for span in sales if span[1] > since_ms and span[0] <= now_ms),
            )
        return known[step]

    return calendar


def _of(incident: Incident) -> tuple[int, int] | None:
    """When a grave incident ran, if it is over and was none of days."""
    end_ms = incident.resolved_ms
    if end_ms is None or end_ms - incident.started_ms > _LONGEST_MS:
        return None
    return (incident.started_ms, end_ms) if incident.severity in _GRAVE else None


def _span(sale: SaleDay, zone: ZoneInfo) -> tuple[int, int]:
    return _midnight_ms(sale.first, zone), _midnight_ms(sale.last + timedelta(days=1), zone)


def _midnight_ms(day: date, zone: ZoneInfo) -> int:
    return round(datetime.combine(day, time.min, zone).astimezone(UTC).timestamp() * 1_000)
