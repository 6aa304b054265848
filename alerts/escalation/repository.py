"""Rows of escalations that have not ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from alerts.escalation.steps import Escalation, EscalationState
from alerts.notification import Notice
from store.sql import Base

ESCALATIONS = sa.Table(
    "alert_escalations",
    Base.metadata,
    sa.Column("lane", sa.String(512), primary_key=True),
    sa.Column("policy", sa.String(128), nullable=False),
    sa.Column("first_id", sa.String(64), nullable=False),
    sa.Column("first", sa.JSON, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("turn", sa.Integer, nullable=False),
    sa.Column("next_ms", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(32), nullable=False),
    sa.Column("told", sa.JSON, nullable=False),
    sa.Column("incidents", sa.JSON, nullable=False),
)


def load(session: Session) -> dict[str, Escalation]:
    """All of them, by lane."""
    rows = session.execute(sa.select(ESCALATIONS).order_by(ESCALATIONS.c.lane))
    return {row.lane: _escalation(row) for row in rows}


def save(session: Session, kept: Iterable[Escalation], ended: Collection[str]) -> None:
    """Write those that changed, and drop those that ended."""
    kept = tuple(kept)
    for lane in (*(one.lane for one in kept), *sorted(ended)):
        session.execute(sa.delete(ESCALATIONS).where(ESCALATIONS.c.lane == lane))
    for one in kept:
        session.execute(
            sa.insert(ESCALATIONS).values(
                lane=one.lane,
                policy=one.policy,
                first_id=one.first.id,
                first=one.first.to_json(),
                step=one.step,
                turn=one.turn,
                next_ms=one.next_ms,
                state=str(one.state),
                told=list(one.told),
                incidents=list(one.incidents),
            )
        )


def _escalation(row: Any) -> Escalation:
    return Escalation(
        lane=row.lane,
        policy=row.policy,
        first=Notice.from_json(row.first_id, row.lane, row.first),
        step=row.step,
        turn=row.turn,
        next_ms=row.next_ms,
        state=EscalationState(row.state),
        told=tuple(row.told),
        incidents=tuple(row.incidents),
    )
