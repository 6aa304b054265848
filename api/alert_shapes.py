"""Alerts, incidents and deliveries as our own API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alerts.cause import ProbableCause
from alerts.dispatch import Snapshot, inhibitor_of
from alerts.incidents import Incident, IncidentEvent
from alerts.model import AlertState
from alerts.route_tree import Routing
from alerts.silences import silenced_by
from alerts.state import AlertRecord
from api.shapes import number
from store.timestamps import rfc3339

Json = dict[str, Any]
_RANK = {"page": 0, "critical": 0, "ticket": 1, "warning": 1}
_STATE_RANK = {AlertState.FIRING: 0, AlertState.PENDING: 1, AlertState.RESOLVED: 2}


@dataclass(frozen=True, slots=True)
class Held:
    """What keeps an alert quiet."""

    silenced_by: tuple[str, ...] = ()
    inhibited_by: str | None = None


def alert_json(record: AlertRecord, incident: Incident | None, held: Held) -> Json:
    """Alertmanager's alert, with what people need of it."""
    notes = record.annotations
    quiet = bool(held.silenced_by or held.inhibited_by)
    inhibited = [held.inhibited_by] if held.inhibited_by else []
    return {
        "fingerprint": record.fingerprint,
        "labels": record.labels.to_dict(),
        "annotations": dict(notes),
        "startsAt": rfc3339(record.starts_ms),
        "endsAt": rfc3339(record.resolved_ms) if record.resolved_ms else None,
        "generatorURL": record.generator_url,
        "status": {
            "state": "suppressed" if quiet else "active",
            "silencedBy": list(held.silenced_by),
            "inhibitedBy": inhibited,
        },
        "name": record.name,
        "severity": record.severity,
        "state": record.state.value,
        "reason": record.reason.value,
        "summary": notes.get("summary", record.name),
        "cause": notes.get("cause", ""),
        "impact": notes.get("impact", ""),
        "fix": notes.get("fix", ""),
        "evidence_url": notes.get("evidence_url", ""),
        "since": notes.get("since") or rfc3339(record.active_ms),
        "fired_at": None if record.state is AlertState.PENDING else rfc3339(record.starts_ms),
        "resolved_at": rfc3339(record.resolved_ms) if record.resolved_ms else None,
        "value": number(record.value),
        "source": record.source,
        "incident_id": record.incident_id,
        "acknowledged_by": incident.acknowledged_by if incident else "",
        "silenced": bool(held.silenced_by),
        "silenced_by": list(held.silenced_by),
        "inhibited_by": inhibited,
    }


def alerts_json(
    snapshot: Snapshot, routing: Routing, incidents: Mapping[str, Incident], now_ms: int
) -> list[Json]:
    """Firing before pending before resolved, pages first, the latest first."""
    inhibitor = inhibitor_of(snapshot.records, routing)
    ordered = sorted(
        snapshot.records.values(),
        key=lambda r: (_STATE_RANK[r.state], _RANK.get(r.severity, 2), -r.starts_ms, r.fingerprint),
    )
    updated_at = rfc3339(now_ms)
    answer = []
    for record in ordered:
        held = Held(
            silenced_by(snapshot.silences, record.labels, now_ms),
            inhibitor.inhibited_by(record.fingerprint, record.labels),
        )
        routes = routing.route.match(record.labels)
        answer.append(
            {
                **alert_json(record, incidents.get(record.incident_id), held),
                "updatedAt": updated_at,
                "receivers": [{"name": route.receiver} for route in routes],
            }
        )
    return answer


def incident_json(incident: Incident, events: Iterable[IncidentEvent] = ()) -> Json:
    """One incident with its alerts and timeline."""
    causes: list[Json] = []
    for alert in incident.alerts:
        cause = alert.annotations.get("cause")
        if cause and all(known["why"] != cause for known in causes):
            notes = alert.annotations
            ref = notes.get("cause_ref") or notes.get("evidence_url", "")
            causes.append(
                {
                    "kind": notes.get("cause_kind")
                    or alert.labels.get("kind")
                    or alert.labels.get("alertname"),
                    "ref": ref,
                    "confidence": _figure(notes.get("cause_confidence", "")),
                    "why": cause,
                }
            )
    return {
        "id": incident.id,
        "title": incident.title,
        "severity": incident.severity,
        "state": incident.state.value,
        "started_at": rfc3339(incident.started_ms),
        "detected_at": rfc3339(incident.detected_ms),
        "acknowledged_at": rfc3339(incident.acknowledged_ms) if incident.acknowledged_ms else None,
        "acknowledged_by": incident.acknowledged_by,
        "resolved_at": rfc3339(incident.resolved_ms) if incident.resolved_ms else None,
        "mttd_s": _seconds(incident.started_ms, incident.detected_ms),
        "mtta_s": _seconds(incident.detected_ms, incident.acknowledged_ms),
        "mttr_s": _seconds(incident.started_ms, incident.resolved_ms),
        "alerts": [
            {
                "fingerprint": part.fingerprint,
                "name": part.labels.get("alertname"),
                "labels": part.labels.to_dict(),
                "summary": part.annotations.get("summary", ""),
                "fired_at": rfc3339(part.fired_ms),
                "resolved_at": rfc3339(part.resolved_ms) if part.resolved_ms else None,
                "reason": part.reason,
            }
            for part in incident.alerts
        ],
        "probable_causes": causes,
        "revenue_at_risk": _revenue_at_risk(incident),
        "timeline": [event_json(event) for event in events],
    }


def _seconds(start_ms: int, end_ms: int | None) -> float | None:
    return None if end_ms is None else max(end_ms - start_ms, 0) / 1000


def probable_cause_json(cause: ProbableCause) -> Json:
    """A candidate for the cause of an incident."""
    return {
        "kind": cause.kind,
        "ref": f"/findings/{cause.ref}" if cause.kind == "finding" else cause.ref,
        "title": cause.title,
        "at": rfc3339(cause.at_ms),
        "confidence": cause.confidence,
        "word": cause.word,
        "why": cause.why,
    }


def _figure(text: str) -> float | None:
    """A number out of an annotation; None where it does not say one."""
    try:
        return number(float(text))
    except ValueError:
        return None


def _revenue_at_risk(incident: Incident) -> Json | None:
    """The largest sum that an alert of it names: the alerts of one incident share their loss."""
    told = [
        (amount, notes)
        for notes in (part.annotations for part in incident.alerts)
        if (amount := _figure(notes.get("revenue_at_risk", ""))) is not None
    ]
    if not told:
        return None
    _, notes = max(told, key=lambda pair: pair[0])
    return {"amount": notes["revenue_at_risk"], "currency": notes.get("currency", "")}


def event_json(event: IncidentEvent) -> Json:
    """One line of the timeline."""
    return {
        "at": rfc3339(event.at_ms),
        "kind": event.kind,
        "title": event.title,
        "ref": event.ref or event.incident_id,
    }
