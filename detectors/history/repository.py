"""When faults began, read for timelines: bounded, however long the time."""

from __future__ import annotations

from sqlalchemy import select

from detectors.decision import WARROOM, HistoryEntry
from detectors.rows.repository import FindingHistoryRow
from store.sql import SessionFactory

_BEGAN = ("opened", "returned")
_MAX_ENTRIES = 500


def began(
    sessions: SessionFactory, start_ms: int, end_ms: int, *, limit: int = _MAX_ENTRIES
) -> tuple[HistoryEntry, ...]:
    """Findings that opened or came back between two instants, oldest first; the latest `limit`."""
    row = FindingHistoryRow
    query = select(row).where(row.at_ms.between(start_ms, end_ms), row.event.in_(_BEGAN))
    with sessions() as session:
        found = session.scalars(query.order_by(row.id.desc()).limit(limit)).all()
        return tuple(
            HistoryEntry(one.finding_id, one.at_ms, one.event, one.detail, one.actor or WARROOM)
            for one in reversed(found)
        )
