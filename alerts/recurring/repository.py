"""Rows of recurring silences."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from alerts.recurring.silences import RecurringSilence, windows_of
from store.model import Matcher, MatchOp
from store.sql import Base

RECURRING = sa.Table(
    "alert_recurring_silences",
    Base.metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("matchers", sa.JSON, nullable=False),
    sa.Column("windows", sa.JSON, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False),
)


def load(session: Session) -> list[RecurringSilence]:
    """All of them, those that ended among them."""
    return [_silence(row) for row in session.execute(sa.select(RECURRING).order_by(RECURRING.c.id))]


def save(session: Session, silence: RecurringSilence) -> None:
    """Keep a new one."""
    session.execute(
        sa.insert(RECURRING).values(
            id=silence.id,
            matchers=[[m.name, str(m.op), m.value] for m in silence.matchers],
            windows=list(silence.source),
            created_by=silence.created_by,
            comment=silence.comment,
            until_ms=silence.until_ms,
        )
    )


def delete(session: Session, silence_id: str) -> bool:
    """Drop one; False when there is none of that id."""
    result: Any = session.execute(sa.delete(RECURRING).where(RECURRING.c.id == silence_id))
    return bool(result.rowcount)


def _silence(row: Any) -> RecurringSilence:
    return RecurringSilence(
        id=row.id,
        matchers=tuple(Matcher(name, MatchOp(op), value) for name, op, value in row.matchers),
        windows=windows_of(row.windows),
        source=tuple(row.windows),
        created_by=row.created_by,
        comment=row.comment,
        until_ms=row.until_ms,
    )
