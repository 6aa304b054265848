"""An acknowledgement does not last for ever: what is not resolved in time is open again."""

from __future__ import annotations

from dataclasses import replace

from alerts.incidents import Incident, IncidentChanges, IncidentEvent, IncidentState

EVENT = "ack_timeout"


def expire(changes: IncidentChanges, now_ms: int, timeout_ms: int) -> tuple[Incident, ...]:
    """Open those again, in `changes`, whose acknowledgement is older than the time-out.

    Answers with the incidents as they were acknowledged; none when `timeout_ms` is 0.
    """
    if not timeout_ms:
        return ()
    late = tuple(one for one in changes.unresolved if _late(one, now_ms, timeout_ms))
    for incident in late:
        opened = replace(
            incident, state=IncidentState.OPEN, acknowledged_ms=None, acknowledged_by=""
        )
        changes.incidents[incident.id] = opened
        changes.parts.setdefault(incident.id, ())
        title = f"{incident.acknowledged_by} acknowledged it, and it was not resolved in time"
        changes.events.append(IncidentEvent(incident.id, now_ms, EVENT, title))
    changes.unresolved = tuple(changes.incidents.get(one.id, one) for one in changes.unresolved)
    return late


def _late(incident: Incident, now_ms: int, timeout_ms: int) -> bool:
    return (
        incident.state is IncidentState.ACKNOWLEDGED
        and incident.acknowledged_ms is not None
        and now_ms - incident.acknowledged_ms >= timeout_ms
    )
