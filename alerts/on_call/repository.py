"""Rows of overrides that people made over the API."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from alerts.on_call.stand_ins import StandIn
from store.sql import Base

OVERRIDES = sa.Table(
    "on_call_overrides",
    Base.metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("user_name", sa.Text, nullable=False),
    sa.Column("starts_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)


def load(session: Session) -> tuple[StandIn, ...]:
    """All of them, the next to begin first."""
    rows = session.execute(sa.select(OVERRIDES).order_by(OVERRIDES.c.starts_ms, OVERRIDES.c.id))
    return tuple(
        StandIn(
            id=row.id,
            schedule=row.schedule,
            user=row.user_name,
            start_ms=row.starts_ms,
            end_ms=row.ends_ms,
            created_by=row.created_by,
            created_ms=row.created_ms,
        )
        for row in rows
    )


def save(session: Session, stand_in: StandIn) -> None:
    """Keep one, over what had its id."""
    delete(session, stand_in.id)
    session.execute(
        sa.insert(OVERRIDES).values(
            id=stand_in.id,
            schedule=stand_in.schedule,
            user_name=stand_in.user,
            starts_ms=stand_in.start_ms,
            ends_ms=stand_in.end_ms,
            created_by=stand_in.created_by,
            created_ms=stand_in.created_ms,
        )
    )


def delete(session: Session, stand_in_id: str) -> bool:
    """Drop one; False when there is none of that id."""
    result: Any = session.execute(sa.delete(OVERRIDES).where(OVERRIDES.c.id == stand_in_id))
    return bool(result.rowcount)


def forget(session: Session, before_ms: int) -> None:
    """Drop those that ended before."""
    session.execute(sa.delete(OVERRIDES).where(OVERRIDES.c.ends_ms < before_ms))
