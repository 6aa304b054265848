"""Incidents: alerts that belong together, with a timeline. Pure decisions; rows are kept elsewhere.

An alert joins the open incident that it belongs to by the strongest reason of
`alerts.belonging`. Infos open nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from alerts.belonging import JOIN_WINDOW_MS, RANK, Belongs, Traits
from alerts.state import AlertRecord
from detectors.topology import NO_CALLS, Topology
from store.model import Labels

_BELIEVED_MS = 6 * 3_600_000
MAX_TEXTS_A_TICK = 2_000
MAX_LINES_A_TICK = 100
_RANK = {"page": 0, "critical": 0, "ticket": 1, "warning": 1}


class IncidentState(StrEnum):
    """Open until someone takes it; resolved when every alert has ended."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class IncidentAlert:
    """An alert's part in an incident; `reason` says by what it belongs there (`Belongs`)."""

    fingerprint: str
    labels: Labels
    annotations: dict[str, str]
    fired_ms: int
    resolved_ms: int | None = None
    reason: str = ""


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
    """Incidents to save, events to add, and which incident each firing alert belongs to.

    `parts` are those alerts of the changed incidents that changed; `unresolved` is what still runs.
    """

    incidents: dict[str, Incident] = field(default_factory=dict)
    events: list[IncidentEvent] = field(default_factory=list)
    incident_of: dict[str, str] = field(default_factory=dict)
    parts: dict[str, tuple[IncidentAlert, ...]] = field(default_factory=dict)
    unresolved: tuple[Incident, ...] = ()


def follow(
    records: Mapping[str, AlertRecord],
    unresolved: Iterable[Incident],
    now_ms: int,
    *,
    turn: int = 0,
    topology: Topology = NO_CALLS,
) -> IncidentChanges:
    """Bring incidents up to the alert states of this tick.

    Args:
        records: Every alert state.
        unresolved: Incidents that are not resolved yet.
        now_ms: The tick.
        turn: Counts ticks: of very many alerts, each one's newest text has its turn to be kept.
        topology: Who calls whom.
    """
    current = {incident.id: _Running(incident, topology) for incident in unresolved}
    changes = IncidentChanges()
    firing = sorted(
        (r for r in records.values() if r.firing and r.severity != "info"),
        key=lambda r: (r.starts_ms, r.fingerprint),
    )
    turns = 1 + len(firing) // MAX_TEXTS_A_TICK
    for record in firing:
        if record.incident_id and record.incident_id not in current:
            continue  # resolved by hand, and nothing new: it must end and begin again first
        home, reason = _home(record, current, now_ms)
        if home is None:
            home = _Running(_opened(record, now_ms), topology, changed=True)
            current[home.incident.id] = home
            changes.events.append(
                IncidentEvent(
                    home.incident.id, now_ms, "opened", home.incident.title, record.fingerprint
                )
            )
        fresh = turns == 1 or int(record.fingerprint[:8], 16) % turns == turn % turns
        home.join(record, reason, changes, now_ms, fresh=fresh)
        changes.incident_of[record.fingerprint] = home.incident.id
    for running in current.values():
        running.end(records, now_ms, changes)
        if running.changed:
            changes.incidents[running.incident.id] = running.result()
            changes.parts[running.incident.id] = running.changed_parts()
    changes.events = _bounded(changes.events)
    changes.unresolved = tuple(
        changes.incidents.get(key, running.incident)
        for key, running in current.items()
        if running.incident.state is not IncidentState.RESOLVED
    )
    return changes


def open_ids(unresolved: Iterable[Incident]) -> frozenset[str]:
    """Incidents that nobody has taken yet."""
    return frozenset(one.id for one in unresolved if one.state is IncidentState.OPEN)


def acknowledged(incident: Incident, who: str, now_ms: int) -> Incident:
    """The incident taken by someone; the first acknowledgement stays."""
    if incident.state is not IncidentState.OPEN:
        return incident
    return replace(
        incident, state=IncidentState.ACKNOWLEDGED, acknowledged_by=who, acknowledged_ms=now_ms
    )


class _Running:
    """An incident while a tick works on it; alerts by fingerprint, so that thousands are quick."""

    def __init__(self, incident: Incident, topology: Topology, *, changed: bool = False) -> None:
        self.incident = incident
        self.changed = changed
        self._topology = topology
        self._parts = {part.fingerprint: part for part in incident.alerts}
        self._touched: dict[str, None] = {}
        self._latest_ms = max((a.fired_ms for a in incident.alerts), default=incident.detected_ms)
        self._traits: Traits | None = None

    def belongs(self, record: AlertRecord, now_ms: int) -> Belongs | None:
        recent = now_ms - self._latest_ms <= JOIN_WINDOW_MS
        # Worked out when it is asked for first: most ticks bring nothing new.
        if self._traits is None:
            self._traits = Traits(self._topology)
            for part in self._parts.values():
                self._traits.add(part.labels, part.annotations)
        return self._traits.belongs(record.labels, record.annotations, recent=recent)

    def join(
        self,
        record: AlertRecord,
        reason: Belongs,
        changes: IncidentChanges,
        now_ms: int,
        *,
        fresh: bool,
    ) -> None:
        """Take an alert in; `fresh`: one that is in already brings its newest text."""
        known = self._parts.get(record.fingerprint)
        if known is not None and known.resolved_ms is None:
            if fresh and known.annotations != record.annotations:
                self._put(replace(known, annotations=record.annotations))
            return
        told = known.reason if known is not None else str(reason)
        part = IncidentAlert(
            record.fingerprint, record.labels, record.annotations, now_ms, reason=told
        )
        self._parts.pop(record.fingerprint, None)
        self._put(part)
        self._latest_ms = max(self._latest_ms, now_ms)
        if self._traits is not None:
            self._traits.add(record.labels, record.annotations)
        incident = self.incident
        summary = record.annotations.get("summary") or record.name
        changes.events.append(
            IncidentEvent(incident.id, now_ms, "alert", summary, record.fingerprint)
        )
        worse = _RANK.get(record.severity, 0) < _RANK.get(incident.severity, 0)
        began_ms = _began_ms(record)
        if worse or began_ms < incident.started_ms:
            self.incident = replace(
                incident,
                severity=record.severity if worse else incident.severity,
                started_ms=min(incident.started_ms, began_ms),
            )

    def end(
        self, records: Mapping[str, AlertRecord], now_ms: int, changes: IncidentChanges
    ) -> None:
        """Close the parts whose alert ended, and the incident with the last of them."""
        identity = self.incident.id
        for part in list(self._parts.values()):
            record = records.get(part.fingerprint)
            if part.resolved_ms is None and (record is None or not record.firing):
                self._put(replace(part, resolved_ms=now_ms))
                title = part.labels.get("alertname")
                changes.events.append(
                    IncidentEvent(identity, now_ms, "resolved", title, part.fingerprint)
                )
        if self._parts and all(part.resolved_ms is not None for part in self._parts.values()):
            self.changed = True
            changes.events.append(IncidentEvent(identity, now_ms, "closed", self.incident.title))
            self.incident = replace(self.incident, state=IncidentState.RESOLVED, resolved_ms=now_ms)

    def result(self) -> Incident:
        return replace(self.incident, alerts=tuple(self._parts.values()))

    def changed_parts(self) -> tuple[IncidentAlert, ...]:
        return tuple(self._parts[fingerprint] for fingerprint in self._touched)

    def _put(self, part: IncidentAlert) -> None:
        self._parts[part.fingerprint] = part
        self._touched[part.fingerprint] = None
        self.changed = True


def reopened(incident: Incident, firing: Mapping[str, AlertRecord]) -> Incident:
    """The incident not taken any more; one that was ended by hand has those that still fire.

    One whose alerts have all ended stays as it is.
    """
    if incident.state is IncidentState.OPEN:
        return incident
    parts = tuple(
        replace(part, resolved_ms=None) if _still(part, incident.id, firing) else part
        for part in incident.alerts
    )
    if all(part.resolved_ms is not None for part in parts):
        return incident
    return replace(
        incident,
        state=IncidentState.OPEN,
        acknowledged_ms=None,
        acknowledged_by="",
        resolved_ms=None,
        alerts=parts,
    )


def _still(part: IncidentAlert, incident_id: str, firing: Mapping[str, AlertRecord]) -> bool:
    record = firing.get(part.fingerprint)
    return record is not None and record.firing and record.incident_id == incident_id


def resolved(incident: Incident, now_ms: int) -> Incident:
    """The incident ended by hand; alerts of it that still fire open no other one."""
    if incident.state is IncidentState.RESOLVED:
        return incident
    parts = tuple(
        replace(part, resolved_ms=now_ms) if part.resolved_ms is None else part
        for part in incident.alerts
    )
    return replace(incident, state=IncidentState.RESOLVED, resolved_ms=now_ms, alerts=parts)


def _bounded(events: Sequence[IncidentEvent]) -> list[IncidentEvent]:
    """The lines of one tick; of very many alerts at once the first are named, the rest counted."""
    counts: Counter[tuple[str, str]] = Counter()
    kept, last = [], {}
    for event in events:
        key = event.incident_id, event.kind
        counts[key] += 1
        if counts[key] <= MAX_LINES_A_TICK:
            kept.append(event)
        last[key] = event
    for (incident_id, kind), count in counts.items():
        if count > MAX_LINES_A_TICK:
            title = f"and {count - MAX_LINES_A_TICK:,} more at the same time"
            at_ms = last[incident_id, kind].at_ms
            kept.append(IncidentEvent(incident_id, at_ms, kind, title))
    return kept


def _home(
    record: AlertRecord, current: Mapping[str, _Running], now_ms: int
) -> tuple[_Running | None, Belongs]:
    """The incident that an alert belongs to by the strongest reason; of several the oldest."""
    if record.incident_id in current:
        return current[record.incident_id], Belongs.FIRST
    home, best = None, Belongs.FIRST
    for one in current.values():
        reason = one.belongs(record, now_ms)
        if reason is not None and (home is None or RANK[reason] < RANK[best]):
            home, best = one, reason
    return home, best


def _opened(record: AlertRecord, now_ms: int) -> Incident:
    seed = f"{record.fingerprint}\n{record.starts_ms}\n{now_ms}"
    return Incident(
        id=f"inc-{hashlib.sha256(seed.encode()).hexdigest()[:12]}",
        title=record.annotations.get("summary") or record.name,
        severity=record.severity or "page",
        state=IncidentState.OPEN,
        started_ms=_began_ms(record),
        detected_ms=now_ms,
    )


def _began_ms(record: AlertRecord) -> int:
    """When the fault began: by the data where the alert says so, else when its condition held.

    What was found long ago, as an old fault that shows again, says nothing of this incident.
    """
    seen_ms = min(record.active_ms, record.starts_ms)
    try:
        since = datetime.fromisoformat(record.annotations.get("since", ""))
    except ValueError:
        return seen_ms
    if since.tzinfo is None:
        return seen_ms
    since_ms = round(since.timestamp() * 1_000)
    return since_ms if 0 <= seen_ms - since_ms <= _BELIEVED_MS else seen_ms
