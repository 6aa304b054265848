"""Incidents: alerts that belong together, with a timeline. Pure decisions; rows are kept elsewhere.

An alert joins an open incident when both touch the same service, or the same label of the shop
(slo, kpi), or when the incident's last alert began within `JOIN_WINDOW_MS`. Infos open nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from alerts.state import AlertRecord
from store.model import Labels

JOIN_WINDOW_MS = 5 * 60_000
_SHARED = ("service", "slo", "kpi")
_RANK = {"page": 0, "critical": 0, "ticket": 1, "warning": 1}


class IncidentState(StrEnum):
    """Open until someone takes it; resolved when every alert has ended."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class IncidentAlert:
    """An alert's part in an incident."""

    fingerprint: str
    labels: Labels
    annotations: dict[str, str]
    fired_ms: int
    resolved_ms: int | None = None


@dataclass(frozen=True, slots=True)
class IncidentEvent:
    """One line of an incident's timeline."""

    incident_id: str
    at_ms: int
    kind: str  # alert, resolved, page, ack, note
    title: str
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """What went wrong once, from the first alert to the end of the last."""

    id: str
    title: str
    severity: str
    state: IncidentState
    started_ms: int
    detected_ms: int
    acknowledged_ms: int | None = None
    acknowledged_by: str = ""
    resolved_ms: int | None = None
    alerts: tuple[IncidentAlert, ...] = ()


@dataclass(slots=True)
class IncidentChanges:
    """Incidents to save, events to add, and which incident each firing alert belongs to."""

    incidents: dict[str, Incident] = field(default_factory=dict)
    events: list[IncidentEvent] = field(default_factory=list)
    incident_of: dict[str, str] = field(default_factory=dict)


def follow(
    records: Mapping[str, AlertRecord], unresolved: Iterable[Incident], now_ms: int
) -> IncidentChanges:
    """Bring incidents up to the alert states of this tick.

    Args:
        records: Every alert state.
        unresolved: Incidents that are not resolved yet.
        now_ms: The tick.
    """
    before = {incident.id: incident for incident in unresolved}
    current = dict(before)
    changes = IncidentChanges()
    firing = sorted(
        (r for r in records.values() if r.firing and r.severity != "info"),
        key=lambda r: (r.starts_ms, r.fingerprint),
    )
    for record in firing:
        home = _home(record, current, now_ms)
        if home is None:
            home = _opened(record, now_ms)
            changes.events.append(
                IncidentEvent(home.id, now_ms, "opened", home.title, record.fingerprint)
            )
        current[home.id] = _joined(home, record, now_ms, changes)
        changes.incident_of[record.fingerprint] = home.id
    for incident in list(current.values()):
        current[incident.id] = _closed(incident, records, now_ms, changes)
    changes.incidents = {
        key: incident for key, incident in current.items() if before.get(key) != incident
    }
    return changes


def acknowledged(incident: Incident, who: str, now_ms: int) -> Incident:
    """The incident taken by someone; the first acknowledgement stays."""
    if incident.state is not IncidentState.OPEN:
        return incident
    return replace(
        incident, state=IncidentState.ACKNOWLEDGED, acknowledged_by=who, acknowledged_ms=now_ms
    )


def _home(record: AlertRecord, current: Mapping[str, Incident], now_ms: int) -> Incident | None:
    if record.incident_id in current:
        return current[record.incident_id]
    for incident in current.values():
        latest_ms = max((a.fired_ms for a in incident.alerts), default=incident.detected_ms)
        if now_ms - latest_ms <= JOIN_WINDOW_MS:
            return incident
        if any(_touches(record.labels, alert.labels) for alert in incident.alerts):
            return incident
    return None


def _touches(one: Labels, other: Labels) -> bool:
    return any(one.get(name) and one.get(name) == other.get(name) for name in _SHARED)


def _opened(record: AlertRecord, now_ms: int) -> Incident:
    seed = f"{record.fingerprint}\n{record.starts_ms}\n{now_ms}"
    return Incident(
        id=f"inc-{hashlib.sha256(seed.encode()).hexdigest()[:12]}",
        title=record.annotations.get("summary") or record.name,
        severity=record.severity or "page",
        state=IncidentState.OPEN,
        started_ms=record.starts_ms,
        detected_ms=now_ms,
    )


def _joined(
    incident: Incident, record: AlertRecord, now_ms: int, changes: IncidentChanges
) -> Incident:
    known = next((a for a in incident.alerts if a.fingerprint == record.fingerprint), None)
    if known is not None and known.resolved_ms is None:
        if known.annotations == record.annotations:
            return incident
        kept = tuple(
            replace(a, annotations=record.annotations) if a is known else a for a in incident.alerts
        )
        return replace(incident, alerts=kept)
    part = IncidentAlert(record.fingerprint, record.labels, record.annotations, now_ms)
    others = tuple(a for a in incident.alerts if a.fingerprint != record.fingerprint)
    summary = record.annotations.get("summary") or record.name
    changes.events.append(IncidentEvent(incident.id, now_ms, "alert", summary, record.fingerprint))
    worse = _RANK.get(record.severity, 0) < _RANK.get(incident.severity, 0)
    return replace(
        incident,
        alerts=(*others, part),
        severity=record.severity if worse else incident.severity,
        started_ms=min(incident.started_ms, record.starts_ms),
    )


def _closed(
    incident: Incident,
    records: Mapping[str, AlertRecord],
    now_ms: int,
    changes: IncidentChanges,
) -> Incident:
    parts = []
    for part in incident.alerts:
        record = records.get(part.fingerprint)
        if part.resolved_ms is None and (record is None or not record.firing):
            parts.append(replace(part, resolved_ms=now_ms))
            title = part.labels.get("alertname")
            changes.events.append(
                IncidentEvent(incident.id, now_ms, "resolved", title, part.fingerprint)
            )
        else:
            parts.append(part)
    current = replace(incident, alerts=tuple(parts))
    if parts and all(part.resolved_ms is not None for part in parts):
        changes.events.append(IncidentEvent(incident.id, now_ms, "closed", incident.title))
        return replace(current, state=IncidentState.RESOLVED, resolved_ms=now_ms)
    return current
