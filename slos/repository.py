"""What SLOs keep in the state store: maintenance, and spans of error-budget policies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Float, Integer, Select, String, Text, delete, select, update
from sqlalchemy.orm import Mapped, mapped_column

from slos.policy import PolicyChanges, PolicySpan
from store.errors import BadInput
from store.sql import Base, SessionFactory

EVERY_SLO = ""
_MAX_SPAN_MS = 31 * 86_400_000
_MAX_SPANS = 1_000
# Of policies: what a post-mortem a year later asks for.
_POLICY_SPANS_KEPT_MS = 400 * 86_400_000


class MaintenanceRow(Base):
    """One span. An empty `slo_id` stands for every SLO."""

    __tablename__ = "slo_maintenance"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    slo_id: Mapped[str] = mapped_column(String(512))
    start_ms: Mapped[int] = mapped_column(BigInteger)
    end_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    reason: Mapped[str] = mapped_column(Text)


class PolicySpanRow(Base):
    """A time for which a policy's action held; `until_ms` is null while it does."""

    __tablename__ = "slo_policy_spans"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    policy: Mapped[str] = mapped_column(String(512))
    slo_id: Mapped[str] = mapped_column(String(512))
    service: Mapped[str] = mapped_column(String(512))
    action: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text)
    since_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    until_ms: Mapped[int | None] = mapped_column(BigInteger)
    remaining: Mapped[float] = mapped_column(Float)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """One span as it was entered; an empty `slo_id` stands for every SLO."""

    id: int
    slo_id: str
    start_ms: int
    end_ms: int
    reason: str


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

    def remove(self, span_id: int) -> bool:
        """Forget a span; False when there is none of that id."""
        with self._sessions.begin() as session:
            found = session.get(MaintenanceRow, span_id)
            if found is not None:
                session.delete(found)
            return found is not None

    def list(self) -> Sequence[Maintenance]:
        """Every span that is kept, the latest to begin first."""
        query = select(MaintenanceRow).order_by(MaintenanceRow.start_ms.desc()).limit(_MAX_SPANS)
        with self._sessions() as session:
            return [
                Maintenance(row.id, row.slo_id, row.start_ms, row.end_ms, row.reason)
                for row in session.scalars(query)
            ]

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


class PolicyRepository:
    """Keeps since when, and until when, a policy's action held."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def open(self) -> Sequence[PolicySpan]:
        """What holds now."""
        return self._listed(select(PolicySpanRow).where(PolicySpanRow.until_ms.is_(None)))

    def between(self, start_ms: int, end_ms: int, *, limit: int = 500) -> Sequence[PolicySpan]:
        """What held at any time of a range, the latest to begin first."""
        ended = PolicySpanRow.until_ms
        return self._listed(
            select(PolicySpanRow)
            .where(PolicySpanRow.since_ms <= end_ms, ended.is_(None) | (ended >= start_ms))
            .order_by(PolicySpanRow.since_ms.desc(), PolicySpanRow.id.desc())
            .limit(limit)
        )

    def apply(self, changes: PolicyChanges, now_ms: int) -> None:
        """Write what a tick changed, in one transaction."""
        with self._sessions.begin() as session:
            for span in changes.ended:
                session.execute(
                    update(PolicySpanRow)
                    .where(PolicySpanRow.policy == span.policy)
                    .where(PolicySpanRow.slo_id == span.slo_id, PolicySpanRow.until_ms.is_(None))
                    .values(until_ms=span.until_ms)
                )
            session.add_all(_rows(changes.begun))
            oldest_ms = now_ms - _POLICY_SPANS_KEPT_MS
            session.execute(delete(PolicySpanRow).where(PolicySpanRow.until_ms < oldest_ms))

    def _listed(self, query: Select[PolicySpanRow]) -> Sequence[PolicySpan]:
        with self._sessions() as session:
            return [
                PolicySpan(
                    policy=row.policy,
                    slo_id=row.slo_id,
                    service=row.service,
                    action=row.action,
                    message=row.message,
                    since_ms=row.since_ms,
                    remaining=row.remaining,
                    until_ms=row.until_ms,
                )
                for row in session.scalars(query)
            ]


def _rows(spans: Iterable[PolicySpan]) -> list[PolicySpanRow]:
    return [
        PolicySpanRow(
            policy=span.policy,
            slo_id=span.slo_id,
            service=span.service,
            action=span.action,
            message=span.message,
            since_ms=span.since_ms,
            until_ms=span.until_ms,
            remaining=span.remaining,
        )
        for span in spans
    ]
