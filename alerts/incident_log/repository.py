"""Rows of incidents, of their alerts and of their timelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from alerts.incidents import Incident, IncidentAlert, IncidentEvent, IncidentState
from store.model import Labels
from store.sql import Base, SessionFactory, json_text, write_rows

INCIDENTS = sa.Table(
    "incidents",
    Base.metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("severity", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("detected_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("acknowledged_ms", sa.BigInteger),
    sa.Column("acknowledged_by", sa.String(256), nullable=False),
    sa.Column("resolved_ms", sa.BigInteger),
)
INCIDENT_ALERTS = sa.Table(
    "incident_alerts",
    Base.metadata,
    sa.Column("incident_id", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.String(32), primary_key=True),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("annotations", sa.JSON, nullable=False),
    sa.Column("fired_ms", sa.BigInteger, nullable=False),
    sa.Column("resolved_ms", sa.BigInteger),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
)
INCIDENT_EVENTS = sa.Table(
    "incident_events",
    Base.metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("incident_id", sa.String(64), nullable=False, index=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("ref", sa.String(256), nullable=False),
)

_BATCH = 500


def load(session: Session, *where: Any, limit: int = 500) -> list[Incident]:
    """Incidents with their alerts, newest first."""
    rows = session.execute(
        sa.select(INCIDENTS)
        .where(*where)
        .order_by(INCIDENTS.c.detected_ms.desc(), INCIDENTS.c.id)
        .limit(limit)
    ).all()
    parts: dict[str, list[IncidentAlert]] = {row.id: [] for row in rows}
    found = session.execute(
        sa.select(INCIDENT_ALERTS)
        .where(INCIDENT_ALERTS.c.incident_id.in_(list(parts)))
        .order_by(INCIDENT_ALERTS.c.fired_ms, INCIDENT_ALERTS.c.fingerprint)
    )
    for row in found:
        parts[row.incident_id].append(
            IncidentAlert(
                row.fingerprint,
                Labels(row.labels.items()),
                row.annotations,
                row.fired_ms,
                row.resolved_ms,
                row.reason,
            )
        )
    return [_incident(row, parts[row.id]) for row in rows]


def unresolved(session: Session) -> list[Incident]:
    """Incidents that still run."""
    return load(session, INCIDENTS.c.state != str(IncidentState.RESOLVED), limit=10_000)


def save(
    session: Session,
    incidents: Sequence[Incident],
    events: Sequence[IncidentEvent],
    parts: Mapping[str, Sequence[IncidentAlert]] | None = None,
) -> None:
    """Write incidents, and add lines to their timelines.

    Args:
        session: The transaction.
        incidents: Those that changed.
        events: New lines.
        parts: Of an incident's alerts only these changed; without them all are written.
    """
    for incident in incidents:
        write_rows(session, INCIDENTS, [_row_of(incident)], key=["id"])
        _save_parts(session, incident.id, (parts or {}).get(incident.id, incident.alerts))
    rows = [
        {
            "incident_id": event.incident_id,
            "at_ms": event.at_ms,
            "kind": event.kind,
            "title": event.title,
            "ref": event.ref,
        }
        for event in events
    ]
    if rows:
        session.execute(sa.insert(INCIDENT_EVENTS), rows)


def _save_parts(session: Session, incident_id: str, parts: Sequence[IncidentAlert]) -> None:
    rows = [
        (
            incident_id,
            part.fingerprint,
            json_text(part.labels.to_dict()),
            json_text(part.annotations),
            part.fired_ms,
            part.resolved_ms,
            str(part.reason),
        )
        for part in parts
    ]
    write_rows(session, INCIDENT_ALERTS, rows, key=["incident_id", "fingerprint"])


class IncidentRepository:
    """Incidents for readers."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def incidents(self, *, state: str = "", limit: int = 100) -> list[Incident]:
        """Newest first, of one state if given."""
        where = [INCIDENTS.c.state == state] if state else []
        with self._sessions() as session:
            return load(session, *where, limit=limit)

    def unresolved(self) -> list[Incident]:
        """Those that still run."""
        with self._sessions() as session:
            return unresolved(session)

    def incident(self, incident_id: str) -> Incident | None:
        with self._sessions() as session:
            found = load(session, INCIDENTS.c.id == incident_id)
        return found[0] if found else None

    def between(self, start_ms: int, end_ms: int, *, limit: int = 5_000) -> list[Incident]:
        """Those that ran at some time between, newest first."""
        over = sa.or_(INCIDENTS.c.resolved_ms.is_(None), INCIDENTS.c.resolved_ms >= start_ms)
        with self._sessions() as session:
            return load(session, INCIDENTS.c.detected_ms <= end_ms, over, limit=limit)

    def events(self, incident_id: str) -> list[IncidentEvent]:
        """The timeline of one incident, oldest first."""
        with self._sessions() as session:
            return _events(session, INCIDENT_EVENTS.c.incident_id == incident_id)

    def lines(
        self, incident_ids: Sequence[str], *, limit: int = 100_000
    ) -> dict[str, list[IncidentEvent]]:
        """The timelines of several incidents, oldest line first; at most `limit` lines in all."""
        left = limit
        found: dict[str, list[IncidentEvent]] = {}
        with self._sessions() as session:
            for start in range(0, len(incident_ids), _BATCH):
                some = INCIDENT_EVENTS.c.incident_id.in_(incident_ids[start : start + _BATCH])
                events = _events(session, some, limit=left)
                left -= len(events)
                for event in events:
                    found.setdefault(event.incident_id, []).append(event)
        return found

    def events_between(
        self, start_ms: int, end_ms: int, *, limit: int = 500
    ) -> list[IncidentEvent]:
        """The timelines of all incidents together, oldest first; the newest `limit` lines."""
        window = INCIDENT_EVENTS.c.at_ms.between(start_ms, end_ms)
        with self._sessions() as session:
            return _events(session, window, limit=limit)


def _events(session: Session, where: Any, *, limit: int = 2000) -> list[IncidentEvent]:
    rows = session.execute(
        sa.select(INCIDENT_EVENTS).where(where).order_by(INCIDENT_EVENTS.c.seq.desc()).limit(limit)
    ).all()
    return [
        IncidentEvent(row.incident_id, row.at_ms, row.kind, row.title, row.ref)
        for row in reversed(rows)
    ]


def _row_of(incident: Incident) -> tuple[Any, ...]:
    return (
        incident.id,
        incident.title,
        incident.severity,
        incident.state.value,
        incident.started_ms,
        incident.detected_ms,
        incident.acknowledged_ms,
        incident.acknowledged_by,
        incident.resolved_ms,
    )


def _incident(row: Any, parts: list[IncidentAlert]) -> Incident:
    return Incident(
        id=row.id,
        title=row.title,
        severity=row.severity,
        state=IncidentState(row.state),
        started_ms=row.started_ms,
        detected_ms=row.detected_ms,
        acknowledged_ms=row.acknowledged_ms,
        acknowledged_by=row.acknowledged_by,
        resolved_ms=row.resolved_ms,
        alerts=tuple(parts),
    )
