"""Rows of alert states, groups, the notification log, silences and posted alerts.

One `AlertTransaction` holds everything that one tick reads and writes, so that a crash leaves
either all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from alerts.alert_rows import entry_of, group_of, record_of, row_of, silence_of
from alerts.dispatch import Snapshot
from alerts.escalation import repository as escalations
from alerts.escalation.steps import Escalation, EscalationChanges
from alerts.grouping import Group
from alerts.incident_log import repository as incident_log
from alerts.incidents import Incident, IncidentAlert, IncidentEvent
from alerts.ledger import repository as ledger
from alerts.model import Alert
from alerts.notification import Notice, NotificationEntry
from alerts.on_call import repository as overrides
from alerts.on_call.stand_ins import StandIn
from alerts.posted import Post
from alerts.recurring import repository as recurring
from alerts.recurring.silences import RecurringSilence
from alerts.silences import Silence
from alerts.state import AlertRecord
from store.model import Labels
from store.sql import Base, SessionFactory, write_rows

_META = Base.metadata
# One row: the lock that several replicas take, and the instant of the last tick.
ENGINE = sa.Table(
    "alert_engine",
    _META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("last_tick_ms", sa.BigInteger, nullable=False),
)
STATES = sa.Table(
    "alert_states",
    _META,
    sa.Column("fingerprint", sa.String(32), primary_key=True),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("annotations", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("active_ms", sa.BigInteger, nullable=False),
    sa.Column("starts_ms", sa.BigInteger, nullable=False),
    sa.Column("resolved_ms", sa.BigInteger),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("value", sa.Float),  # null is NaN
    sa.Column("source", sa.String(32), nullable=False),
    sa.Column("unit", sa.String(1024), nullable=False),
    sa.Column("generator_url", sa.String(4096), nullable=False),
    sa.Column("keep_firing_s", sa.Float, nullable=False),
    sa.Column("incident_id", sa.String(64), nullable=False),
)
POSTED = sa.Table(
    "alert_posted",
    _META,
    sa.Column("fingerprint", sa.String(32), primary_key=True),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("annotations", sa.JSON, nullable=False),
    sa.Column("starts_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_ms", sa.BigInteger, nullable=False),
    sa.Column("generator_url", sa.String(4096), nullable=False),
)
GROUPS = sa.Table(
    "alert_groups",
    _META,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("route_id", sa.Text, nullable=False),
    sa.Column("receiver", sa.String(256), nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("next_flush_ms", sa.BigInteger, nullable=False),
    sa.Column("last_flush_ms", sa.BigInteger),
)
LOG = sa.Table(
    "alert_notification_log",
    _META,
    sa.Column("lane", sa.String(512), primary_key=True),
    sa.Column("group_id", sa.String(64), nullable=False, index=True),
    sa.Column("receiver", sa.String(256), nullable=False),
    sa.Column("integration", sa.Integer, nullable=False),
    sa.Column("firing", sa.JSON, nullable=False),
    sa.Column("resolved", sa.JSON, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("dedup_key", sa.String(255), nullable=False),
)
SILENCES = sa.Table(
    "alert_silences",
    _META,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("matchers", sa.JSON, nullable=False),
    sa.Column("starts_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
)
_BATCH = 500


class AlertTransaction:
    """Everything of alerting within one database transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock(self) -> int:
        """Keep other replicas out until the end; answers with the instant of the last tick."""
        row = sa.select(ENGINE.c.last_tick_ms).where(ENGINE.c.id == 1).with_for_update()
        found = self._session.execute(row).scalar_one_or_none()
        if found is None:
            self._session.execute(sa.insert(ENGINE).values(id=1, last_tick_ms=0))
            return 0
        return int(found)

    def generation(self) -> int:
        """What `lock` answers, without taking the lock; 0 before the first tick."""
        row = sa.select(ENGINE.c.last_tick_ms).where(ENGINE.c.id == 1)
        return int(self._session.execute(row).scalar_one_or_none() or 0)

    def ticked(self, now_ms: int) -> int:
        """Note the instant of this tick, or of another change; answers with what was noted.

        It always grows, be it by a millisecond: whoever finds the number that he noted himself
        knows that nobody changed anything since.
        """
        noted = sa.case((ENGINE.c.last_tick_ms < now_ms, now_ms), else_=ENGINE.c.last_tick_ms + 1)
        self._session.execute(sa.update(ENGINE).where(ENGINE.c.id == 1).values(last_tick_ms=noted))
        return self.generation()

    def snapshot(self) -> Snapshot:
        """All that a decision needs."""
        states = (record_of(row) for row in self._session.execute(sa.select(STATES)))
        groups = (group_of(row) for row in self._session.execute(sa.select(GROUPS)))
        entries = (entry_of(row) for row in self._session.execute(sa.select(LOG)))
        return Snapshot(
            records={record.fingerprint: record for record in states},
            groups={group.id: group for group in groups},
            entries={entry.lane: entry for entry in entries},
            silences=tuple(self.silences()),
        )

    def silences(self) -> list[Silence]:
        """Every silence that is kept, the latest to end first."""
        rows = self._session.execute(sa.select(SILENCES).order_by(SILENCES.c.ends_ms.desc()))
        return [silence_of(row) for row in rows]

    def posted(self, now_ms: int) -> list[Post]:
        """Alerts that others posted and that began, those that ended a while ago among them."""
        rows = self._session.execute(
            sa.select(POSTED).where(POSTED.c.starts_ms <= now_ms).order_by(POSTED.c.fingerprint)
        )
        return [
            Post(
                Alert(
                    labels=Labels.of(row.labels),
                    annotations=row.annotations,
                    since_ms=row.starts_ms,
                    source="api",
                    generator_url=row.generator_url,
                ),
                row.ends_ms,
            )
            for row in rows
        ]

    def posted_times(self, wanted: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Start and end of these posted alerts, by fingerprint."""
        found: dict[str, tuple[int, int]] = {}
        columns = (POSTED.c.fingerprint, POSTED.c.starts_ms, POSTED.c.ends_ms)
        for start in range(0, len(wanted), _BATCH):
            some = POSTED.c.fingerprint.in_(wanted[start : start + _BATCH])
            rows = self._session.execute(sa.select(*columns).where(some))
            found |= {row.fingerprint: (row.starts_ms, row.ends_ms) for row in rows}
        return found

    def post(self, spans: Mapping[str, tuple[Alert, int, int]]) -> None:
        """Keep posted alerts with start and end, by fingerprint, over earlier ones."""
        rows = [
            {
                "fingerprint": identity,
                "labels": alert.labels.to_dict(),
                "annotations": alert.annotations,
                "starts_ms": starts_ms,
                "ends_ms": ends_ms,
                "generator_url": alert.generator_url,
            }
            for identity, (alert, starts_ms, ends_ms) in spans.items()
        ]
        self._replace(POSTED, "fingerprint", rows)

    def forget_posted(self, before_ms: int) -> None:
        self._session.execute(sa.delete(POSTED).where(POSTED.c.ends_ms < before_ms))

    def save_states(self, records: Sequence[AlertRecord], gone: Iterable[str]) -> None:
        """Write changed alert states, and drop those that are no more."""
        self._delete(STATES.c.fingerprint, gone)
        rows = [row_of(record) for record in records]
        write_rows(self._session, STATES, rows, key=["fingerprint"])

    def save_groups(self, groups: Iterable[Group], gone: Iterable[str]) -> None:
        self._delete(GROUPS.c.id, gone)
        rows = [
            {
                "id": group.id,
                "key": group.key,
                "route_id": group.route_id,
                "receiver": group.receiver,
                "labels": group.labels.to_dict(),
                "created_ms": group.created_ms,
                "next_flush_ms": group.next_flush_ms,
                "last_flush_ms": group.last_flush_ms,
            }
            for group in groups
        ]
        self._replace(GROUPS, "id", rows)

    def save_entries(self, entries: Iterable[NotificationEntry]) -> None:
        """Write what receivers are told from now on."""
        rows = [
            {
                "lane": entry.lane,
                "group_id": entry.group_id,
                "receiver": entry.receiver,
                "integration": entry.integration,
                "firing": sorted(entry.firing),
                "resolved": sorted(entry.resolved),
                "at_ms": entry.at_ms,
                "reason": entry.reason,
                "dedup_key": entry.dedup_key,
            }
            for entry in entries
        ]
        self._replace(LOG, "lane", rows)

    def forget_entries(self, lanes: Iterable[str]) -> None:
        self._delete(LOG.c.lane, lanes)

    def save_silences(self, silences: Iterable[Silence]) -> None:
        rows = [
            {
                "id": silence.id,
                "matchers": [[m.name, str(m.op), m.value] for m in silence.matchers],
                "starts_ms": silence.starts_ms,
                "ends_ms": silence.ends_ms,
                "created_by": silence.created_by,
                "comment": silence.comment,
                "updated_ms": silence.updated_ms,
            }
            for silence in silences
        ]
        self._replace(SILENCES, "id", rows)

    def forget_silences(self, before_ms: int) -> None:
        self._session.execute(sa.delete(SILENCES).where(SILENCES.c.ends_ms < before_ms))

    def enqueue(self, notices: Sequence[Notice]) -> None:
        ledger.enqueue(self._session, notices)

    def escalations(self) -> dict[str, Escalation]:
        """Escalations that have not ended, by lane."""
        return escalations.load(self._session)

    def save_escalations(self, changes: EscalationChanges) -> None:
        escalations.save(self._session, changes.kept.values(), changes.ended)

    def recurring(self) -> list[RecurringSilence]:
        return recurring.load(self._session)

    def save_recurring(self, silence: RecurringSilence) -> None:
        recurring.save(self._session, silence)

    def delete_recurring(self, silence_id: str) -> bool:
        """False when there is none of that id."""
        return recurring.delete(self._session, silence_id)

    def stand_ins(self) -> tuple[StandIn, ...]:
        return overrides.load(self._session)

    def save_stand_in(self, stand_in: StandIn) -> None:
        overrides.save(self._session, stand_in)

    def delete_stand_in(self, stand_in_id: str) -> bool:
        """False when there is none of that id."""
        return overrides.delete(self._session, stand_in_id)

    def forget_stand_ins(self, before_ms: int) -> None:
        overrides.forget(self._session, before_ms)

    def lanes(self, beginning: str) -> frozenset[str]:
        """Lanes of the outbox that begin so."""
        return ledger.lanes(self._session, beginning)

    def unresolved_incidents(self) -> list[Incident]:
        return incident_log.unresolved(self._session)

    def incident(self, incident_id: str) -> Incident | None:
        found = incident_log.load(self._session, incident_log.INCIDENTS.c.id == incident_id)
        return found[0] if found else None

    def save_incidents(
        self,
        incidents: Sequence[Incident],
        events: Sequence[IncidentEvent],
        parts: Mapping[str, Sequence[IncidentAlert]] | None = None,
    ) -> None:
        incident_log.save(self._session, incidents, events, parts)

    def _delete(self, column: Any, keys: Iterable[str]) -> None:
        ordered = sorted(keys)
        for start in range(0, len(ordered), _BATCH):
            batch = ordered[start : start + _BATCH]
            self._session.execute(sa.delete(column.table).where(column.in_(batch)))

    def _replace(self, table: sa.Table, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._delete(table.c[key], [row[key] for row in rows])
            self._session.execute(sa.insert(table), list(rows))


class AlertRepository:
    """Opens transactions over the alerting tables."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    @contextmanager
    def begin(self) -> Iterator[AlertTransaction]:
        """A transaction: committed at the end, rolled back when anything is raised."""
        with self._sessions.begin() as session:
            yield AlertTransaction(session)
