"""Rows of findings, of their history and of the detectors' cursors; the oldest give way."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, Text, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from detectors.finding import FindingStatus
from store.sql import Base

MOST_FINDINGS = 50_000
MOST_ENTRIES = 500_000
"""Of the history of all findings."""
_MOST_FINDINGS_AT_ONCE = 5_000
_MOST_ENTRIES_AT_ONCE = 20_000
_AT_ONCE = 500


class FindingRow(Base):
    """One fault, by fingerprint. `body` holds the finding as last seen."""

    __tablename__ = "findings"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    priority: Mapped[str] = mapped_column(String(2))
    status: Mapped[str] = mapped_column(String(12))
    service: Mapped[str] = mapped_column(String(256))
    route: Mapped[str] = mapped_column(String(512))
    occurrences: Mapped[int] = mapped_column(BigInteger)
    repetitions: Mapped[int] = mapped_column(BigInteger)
    first_seen_ms: Mapped[int] = mapped_column(BigInteger)
    last_seen_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    active: Mapped[bool] = mapped_column(index=True)
    active_since_ms: Mapped[int] = mapped_column(BigInteger)
    suppress_reason: Mapped[str] = mapped_column(String(1024))
    suppress_until_ms: Mapped[int | None] = mapped_column(BigInteger, index=True)
    suppress_budget: Mapped[int | None] = mapped_column(BigInteger)
    fixed_ms: Mapped[int | None] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[str] = mapped_column(Text)


class FindingHistoryRow(Base):
    """One change of a finding: opened, ended, returned, suppressed, expired, regressed, fixed."""

    __tablename__ = "finding_history"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    finding_id: Mapped[str] = mapped_column(String(64), index=True)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    event: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str] = mapped_column(String(1024))
    actor: Mapped[str] = mapped_column(String(256), server_default="")


class CursorRow(Base):
    """How far a reader came. `body` is JSON of its owner."""

    __tablename__ = "detector_cursor"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[str] = mapped_column(Text)
    updated_ms: Mapped[int] = mapped_column(BigInteger)


def make_room(session: Session, findings: int, entries: int) -> None:
    """Forget what was not seen for longest, down to these numbers.

    What holds, and what somebody accepted, stays. A state that grew far beyond them comes down to
    them over several calls: one that takes minutes would hold the tick, and whoever writes.
    """
    _forget(session, session.scalar(select(func.count()).select_from(FindingRow)) or 0, findings)
    # Asked for apart: of both at once SQLite would read every entry.
    oldest = session.scalar(select(func.min(FindingHistoryRow.id))) or 0
    newest = session.scalar(select(func.max(FindingHistoryRow.id))) or 0
    if newest - oldest >= entries:
        gone = min(newest - entries, oldest + _MOST_ENTRIES_AT_ONCE)
        session.execute(delete(FindingHistoryRow).where(FindingHistoryRow.id <= gone))


def _forget(session: Session, count: int, most: int) -> None:
    if count <= most:
        return
    # A little more than needed: not each new finding has to make room again.
    excess = min(count - most + most // 100, _MOST_FINDINGS_AT_ONCE)
    over = (~FindingRow.active, FindingRow.status != FindingStatus.SUPPRESSED.value)
    oldest = select(FindingRow.id).where(*over).order_by(FindingRow.last_seen_ms).limit(excess)
    # Locked: PostgreSQL would let somebody accept one meanwhile, and lose that.
    keys = session.scalars(oldest.with_for_update(skip_locked=True)).all()
    for place in range(0, len(keys), _AT_ONCE):
        some = keys[place : place + _AT_ONCE]
        session.execute(delete(FindingHistoryRow).where(FindingHistoryRow.finding_id.in_(some)))
        session.execute(delete(FindingRow).where(FindingRow.id.in_(some)))
