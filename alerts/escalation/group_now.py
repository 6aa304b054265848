"""What an escalation's group is at a tick: what fires in it, and what nobody has taken. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from alerts.incidents import Incident, IncidentState
from alerts.notification import NoticeAlert, NotificationEntry
from alerts.state import AlertRecord

MAX_ALERTS = 20


@dataclass(frozen=True, slots=True)
class GroupNow:
    """The alerts that fire and that a lane was told of.

    Attributes:
        alerts: Those of open incidents first; at most `MAX_ALERTS`.
        open_incidents: Those that nobody has taken; "" for alerts without an incident.
        lead: The open incident of the first alert, if any.
        taken: Somebody has taken one of their incidents.
        dedup_key: Under which the lane speaks of them.
    """

    alerts: tuple[NoticeAlert, ...] = ()
    open_incidents: frozenset[str] = frozenset()
    lead: str = ""
    taken: bool = False
    dedup_key: str = ""


def groups_now(
    lanes: Iterable[str],
    entries: Mapping[str, NotificationEntry],
    records: Mapping[str, AlertRecord],
    unresolved: Collection[Incident],
) -> dict[str, GroupNow]:
    """The groups of these lanes; a lane that was told of nothing is left out."""
    states = {incident.id: incident.state for incident in unresolved}
    states[""] = IncidentState.OPEN
    return {lane: _group(entries[lane], records, states) for lane in set(lanes) if lane in entries}


def _group(
    entry: NotificationEntry,
    records: Mapping[str, AlertRecord],
    states: Mapping[str, IncidentState],
) -> GroupNow:
    known = [records[identity] for identity in entry.firing if identity in records]
    firing = [record for record in known if record.firing]
    is_open = {
        record.incident_id
        for record in firing
        if states.get(record.incident_id) is IncidentState.OPEN
    }
    firing.sort(key=lambda r: (r.incident_id not in is_open, r.starts_ms, r.fingerprint))
    return GroupNow(
        alerts=tuple(
            NoticeAlert.of(record, firing=True, ends_ms=None) for record in firing[:MAX_ALERTS]
        ),
        open_incidents=frozenset(is_open),
        lead=firing[0].incident_id if is_open else "",
        taken=any(states.get(r.incident_id) is IncidentState.ACKNOWLEDGED for r in firing),
        dedup_key=entry.dedup_key,
    )
