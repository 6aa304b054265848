"""Maintenance spans in the state store."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, Integer, String, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from store.errors import BadInput
from store.sql import Base, SessionFactory

EVERY_SLO = ""
_MAX_SPAN_MS = 31 * 86_400_000
_MAX_SPANS = 1_000


class MaintenanceRow(Base):
    """One span. An empty `slo_id` stands for every SLO."""

    __tablename__ = "slo_maintenance"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    slo_id: Mapped[str] = mapped_column(String(512))
    start_ms: Mapped[int] = mapped_column(BigInteger)
    end_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    reason: Mapped[str] = mapped_column(Text)


class MaintenanceRepository:
    """Keeps the spans whose events count against no budget."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def add(self, slo_id: str, start_ms: int, end_ms: int, reason: str) -> int:
        """Exclude a span for one SLO, or for all with `EVERY_SLO`; its id.

        Raises:
            BadInput: The span is empty or longer than a month, or has no reason.
        """
        if not 0 < end_ms - start_ms <= _MAX_SPAN_MS:
            raise BadInput("maintenance must last between 1 ms and 31 days", hint="correct the end")
        if not reason.strip():
            raise BadInput("maintenance needs a reason", hint="say what is done")
        row = MaintenanceRow(slo_id=slo_id, start_ms=start_ms, end_ms=end_ms, reason=reason)
        with self._sessions.begin() as session:
            session.add(row)
            session.flush()
            return row.id

    def spans(self, slo_id: str, start_ms: int, end_ms: int) -> Sequence[tuple[int, int]]:
        """The spans that touch a range, joined where they overlap, oldest first."""
        query = (
            select(MaintenanceRow.start_ms, MaintenanceRow.end_ms)
            .where(MaintenanceRow.slo_id.in_([slo_id, EVERY_SLO]))
            .where(MaintenanceRow.end_ms > start_ms, MaintenanceRow.start_ms < end_ms)
            .order_by(MaintenanceRow.start_ms)
            .limit(_MAX_SPANS)
        )
        with self._sessions() as session:
            rows = [(start, end) for start, end in session.execute(query)]
        joined: list[tuple[int, int]] = []
        for start, end in rows:
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return joined
