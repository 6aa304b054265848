"""Breaches of the business rules in the state store."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, String, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from business_metrics.memory import Breach
from store.sql import Base, SessionFactory

_MAX_BREACHES = 1_000


class BreachRow(Base):
    """One span in which a rule was met; open while `end_ms` is null."""

    __tablename__ = "business_breaches"

    kpi: Mapped[str] = mapped_column(String(64), primary_key=True)
    start_ms: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    end_ms: Mapped[int | None] = mapped_column(BigInteger, index=True)
    severity: Mapped[str] = mapped_column(String(16))


class BreachRepository:
    """A `BreachMemory` that outlives the process."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def breaches(self, kpi: str, since_ms: int) -> Sequence[Breach]:
        """Those that had not ended at `since_ms`, oldest first."""
        query = (
            select(BreachRow)
            .where(BreachRow.kpi == kpi)
            .where(or_(BreachRow.end_ms.is_(None), BreachRow.end_ms > since_ms))
            .order_by(BreachRow.start_ms.desc())
            .limit(_MAX_BREACHES)
        )
        with self._sessions() as session:
            rows = list(session.scalars(query))
        return [Breach(r.kpi, r.start_ms, r.end_ms, r.severity) for r in reversed(rows)]

    def save(self, breach: Breach) -> None:
        """Write a breach, or what changed of it."""
        row = BreachRow(
            kpi=breach.kpi,
            start_ms=breach.start_ms,
            end_ms=breach.end_ms,
            severity=breach.severity,
        )
        with self._sessions.begin() as session:
            session.merge(row)
