"""Rows of the outbox and of the delivery ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from alerts.notification import Notice
from store.sql import Base, SessionFactory

OUTBOX = sa.Table(
    "alert_outbox",
    Base.metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("lane", sa.String(512), nullable=False, index=True),
    sa.Column("dedup_key", sa.String(255), nullable=False, index=True),
    sa.Column("incident_id", sa.String(64), nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_attempt_ms", sa.BigInteger, nullable=False),
    sa.Column("lease_until_ms", sa.BigInteger, nullable=False),
    sa.Column("claimed_by", sa.String(64), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("finished_ms", sa.BigInteger),
    sa.Column("last_error", sa.Text, nullable=False),
)
DELIVERIES = sa.Table(
    "alert_deliveries",
    Base.metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("notice_id", sa.String(64), nullable=False, index=True),
    sa.Column("receiver", sa.String(256), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("dedup_key", sa.String(255), nullable=False),
    sa.Column("incident_id", sa.String(64), nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("detail", sa.Text, nullable=False),
)
OPEN = ("pending", "claimed")
_MAX_DETAIL = 2000


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A notice on its way. States: pending, claimed, sent, failed, superseded."""

    notice: Notice
    state: str
    attempts: int
    next_attempt_ms: int
    last_error: str
    finished_ms: int | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, written down after it was made."""

    notice_id: str
    receiver: str
    kind: str
    action: str
    dedup_key: str
    incident_id: str
    at_ms: int
    attempt: int
    ok: bool
    status: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which attempts are asked for; empty parts and None take all. `before_seq` pages on."""

    incident_id: str = ""
    receiver: str = ""
    ok: bool | None = None
    before_seq: int | None = None


def enqueue(session: Session, notices: Sequence[Notice]) -> None:
    """Put notices at the end of their lanes."""
    if not notices:
        return
    for notice in notices:
        _supersede(session, notice)
        session.execute(
            sa.insert(OUTBOX).values(
                id=notice.id,
                lane=notice.lane,
                dedup_key=notice.dedup_key,
                incident_id=notice.incident_id,
                payload=notice.to_json(),
                state="pending",
                attempts=0,
                next_attempt_ms=notice.created_ms,
                lease_until_ms=0,
                claimed_by="",
                created_ms=notice.created_ms,
                last_error="",
            )
        )


def _supersede(session: Session, notice: Notice) -> None:
    """Drop the last of the lane when no worker has tried it and the notice says it anew.

    That is: the same action to the same integration. Who else stands in the lane must hear of it.
    """
    newest = (
        sa.select(OUTBOX.c.seq, OUTBOX.c.payload)
        .where(OUTBOX.c.lane == notice.lane, OUTBOX.c.state.in_(OPEN))
        .order_by(OUTBOX.c.seq.desc())
        .limit(1)
    )
    last = session.execute(newest).first()
    if last is None:
        return
    says = last.payload
    told = (says["action"], says["receiver"], says["integration"])
    if told != (str(notice.action), notice.receiver, notice.integration):
        return
    session.execute(
        sa.update(OUTBOX)
        .where(OUTBOX.c.seq == last.seq, OUTBOX.c.state == "pending", OUTBOX.c.attempts == 0)
        .values(state="superseded", finished_ms=notice.created_ms)
    )


def lanes(session: Session, beginning: str) -> frozenset[str]:
    """Lanes that begin so and have something in them."""
    query = sa.select(OUTBOX.c.lane).where(OUTBOX.c.lane.startswith(beginning, autoescape=True))
    return frozenset(session.execute(query).scalars())


class OutboxRepository:
    """What a delivery worker does to the outbox; each call is one transaction."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def claim(
        self,
        worker: str,
        now_ms: int,
        *,
        lease_ms: int,
        limit: int,
        in_flight: Collection[str] = (),
    ) -> list[OutboxRow]:
        """Take the due heads of all lanes; a lane whose head is not due or leased gives nothing.

        Notices whose id is in `in_flight` are not taken, whatever became of their lease.
        """
        older = OUTBOX.alias()
        heads = (
            sa.select(sa.func.min(older.c.seq))
            .where(older.c.state.in_(OPEN))
            .group_by(older.c.lane)
            .scalar_subquery()
        )
        due = sa.or_(
            sa.and_(OUTBOX.c.state == "pending", OUTBOX.c.next_attempt_ms <= now_ms),
            sa.and_(OUTBOX.c.state == "claimed", OUTBOX.c.lease_until_ms <= now_ms),
        )
        claimed = []
        with self._sessions.begin() as session:
            rows = session.execute(
                sa.select(OUTBOX)
                .where(OUTBOX.c.seq.in_(heads), due, OUTBOX.c.id.not_in(in_flight))
                .order_by(OUTBOX.c.seq)
                .limit(limit)
            ).all()
            for row in rows:
                taken = session.execute(
                    sa.update(OUTBOX)
                    .where(
                        OUTBOX.c.seq == row.seq,
                        OUTBOX.c.state == row.state,
                        OUTBOX.c.attempts == row.attempts,
                        OUTBOX.c.lease_until_ms == row.lease_until_ms,
                    )
                    .values(
                        state="claimed",
                        attempts=row.attempts + 1,
                        lease_until_ms=now_ms + lease_ms,
                        claimed_by=worker,
                    )
                )
                if _count(taken) == 1:
                    found = _row(row, attempts=row.attempts + 1)
                    earlier = _earlier(session, row.lane, row.dedup_key)
                    notice = replace(found.notice, earlier=earlier)
                    claimed.append(replace(found, notice=notice))
        return claimed

    def finish(self, worker: str, delivery: Delivery, *, state: str, retry_ms: int) -> bool:
        """Write down what came of an attempt; False when the lease was lost meanwhile.

        What was sent was sent, whoever holds the lease now: it must not be sent once more.
        """
        pending = state == "pending"
        mine = sa.and_(
            OUTBOX.c.state == "claimed",
            OUTBOX.c.claimed_by == worker,
            OUTBOX.c.attempts == delivery.attempt,
        )
        with self._sessions.begin() as session:
            changed = session.execute(
                sa.update(OUTBOX)
                .where(
                    OUTBOX.c.id == delivery.notice_id,
                    OUTBOX.c.state.in_(OPEN) if state == "sent" else mine,
                )
                .values(
                    state=state,
                    next_attempt_ms=retry_ms,
                    finished_ms=None if pending else delivery.at_ms,
                    last_error="" if delivery.ok else delivery.detail[:_MAX_DETAIL],
                )
            )
            values = {name: getattr(delivery, name) for name in Delivery.__dataclass_fields__}
            session.execute(
                sa.insert(DELIVERIES).values(**{**values, "detail": delivery.detail[:_MAX_DETAIL]})
            )
            return _count(changed) == 1

    def rows(self, *, limit: int = 200) -> list[OutboxRow]:
        """The newest rows, for people."""
        with self._sessions() as session:
            found = session.execute(
                sa.select(OUTBOX).order_by(OUTBOX.c.seq.desc()).limit(limit)
            ).all()
            return [_row(row) for row in found]

    def deliveries(self, *, incident_id: str = "", limit: int = 200) -> list[Delivery]:
        """The newest attempts, of one incident if given."""
        query = sa.select(DELIVERIES).order_by(DELIVERIES.c.seq.desc()).limit(limit)
        if incident_id:
            query = query.where(DELIVERIES.c.incident_id == incident_id)
        with self._sessions() as session:
            return [_delivery(row) for row in session.execute(query)]

    def ledger(self, wanted: DeliveryFilter, *, limit: int) -> list[tuple[int, Delivery]]:
        """The newest attempts that pass the filter, each with its number."""
        query = sa.select(DELIVERIES).order_by(DELIVERIES.c.seq.desc()).limit(limit)
        if wanted.incident_id:
            query = query.where(DELIVERIES.c.incident_id == wanted.incident_id)
        if wanted.receiver:
            query = query.where(DELIVERIES.c.receiver == wanted.receiver)
        if wanted.ok is not None:
            query = query.where(DELIVERIES.c.ok == wanted.ok)
        if wanted.before_seq is not None:
            query = query.where(DELIVERIES.c.seq < wanted.before_seq)
        with self._sessions() as session:
            return [(row.seq, _delivery(row)) for row in session.execute(query)]

    def pages_between(self, start_ms: int, end_ms: int, *, limit: int = 50_000) -> list[Delivery]:
        """Triggers that were delivered between, oldest first; repeats among them."""
        query = (
            sa.select(DELIVERIES)
            .where(
                DELIVERIES.c.at_ms.between(start_ms, end_ms),
                DELIVERIES.c.ok,
                DELIVERIES.c.action == "trigger",
            )
            .order_by(DELIVERIES.c.seq)
            .limit(limit)
        )
        with self._sessions() as session:
            return [_delivery(row) for row in session.execute(query)]

    def receipts(self, lanes: str) -> list[tuple[OutboxRow, Delivery | None]]:
        """Rows whose lane begins so, oldest first, each with its last attempt."""
        query = (
            sa.select(OUTBOX)
            .where(OUTBOX.c.lane.startswith(lanes, autoescape=True))
            .order_by(OUTBOX.c.seq)
            .limit(200)
        )
        with self._sessions() as session:
            return [
                (_row(row), _last_attempt(session, row.id)) for row in session.execute(query).all()
            ]

    def last_sent(self, lanes: str) -> dict[str, int]:
        """When each receiver last took a message whose lane begins so, in milliseconds."""
        query = (
            sa.select(DELIVERIES.c.receiver, sa.func.max(DELIVERIES.c.at_ms))
            .join(OUTBOX, OUTBOX.c.id == DELIVERIES.c.notice_id)
            .where(OUTBOX.c.lane.startswith(lanes, autoescape=True), DELIVERIES.c.ok)
            .group_by(DELIVERIES.c.receiver)
        )
        with self._sessions() as session:
            return {str(name): int(at_ms) for name, at_ms in session.execute(query)}

    def about(self, dedup_key: str) -> tuple[str, frozenset[str]]:
        """The incident that a key was told of last ("" when none), and the alerts it spoke of."""
        query = (
            sa.select(OUTBOX)
            .where(OUTBOX.c.dedup_key == dedup_key, OUTBOX.c.incident_id != "")
            .order_by(OUTBOX.c.seq.desc())
            .limit(100)
        )
        with self._sessions() as session:
            rows = [_row(row) for row in session.execute(query)]
        if not rows:
            return "", frozenset()
        incident_id = rows[0].notice.incident_id
        told = (row.notice for row in rows if row.notice.incident_id == incident_id)
        return incident_id, frozenset(a.fingerprint for notice in told for a in notice.alerts)

    def oldest_open_ms(self) -> int | None:
        """When the oldest message was made that is not done with; None when all are."""
        query = sa.select(sa.func.min(OUTBOX.c.created_ms)).where(OUTBOX.c.state.in_(OPEN))
        with self._sessions() as session:
            found = session.execute(query).scalar_one()
        return None if found is None else int(found)

    def counts(self) -> dict[str, int]:
        """How many rows are in each state."""
        query = sa.select(OUTBOX.c.state, sa.func.count()).group_by(OUTBOX.c.state)
        with self._sessions() as session:
            return {str(state): int(count) for state, count in session.execute(query)}

    def forget(self, before_ms: int) -> None:
        """Drop what was finished before an instant."""
        with self._sessions.begin() as session:
            session.execute(sa.delete(OUTBOX).where(OUTBOX.c.finished_ms < before_ms))
            session.execute(sa.delete(DELIVERIES).where(DELIVERIES.c.at_ms < before_ms))


def _delivery(row: Any) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__})


def _last_attempt(session: Session, notice_id: str) -> Delivery | None:
    query = sa.select(DELIVERIES).where(DELIVERIES.c.notice_id == notice_id)
    row = session.execute(query.order_by(DELIVERIES.c.seq.desc()).limit(1)).first()
    return None if row is None else _delivery(row)


def _earlier(session: Session, lane: str, dedup_key: str) -> str:
    """What the receiver said of the lane's last notice under a key; empty when that resolved it."""
    last = session.execute(
        sa.select(DELIVERIES.c.action, DELIVERIES.c.detail)
        .join(OUTBOX, OUTBOX.c.id == DELIVERIES.c.notice_id)
        .where(OUTBOX.c.lane == lane, DELIVERIES.c.dedup_key == dedup_key, DELIVERIES.c.ok)
        .order_by(DELIVERIES.c.seq.desc())
        .limit(1)
    ).first()
    return "" if last is None or last.action == "resolve" else str(last.detail)


def _count(result: Any) -> int:
    return int(result.rowcount)


def _row(row: Any, *, attempts: int | None = None) -> OutboxRow:
    return OutboxRow(
        notice=Notice.from_json(row.id, row.lane, row.payload),
        state=row.state,
        attempts=row.attempts if attempts is None else attempts,
        next_attempt_ms=row.next_attempt_ms,
        last_error=row.last_error,
        finished_ms=row.finished_ms,
    )
