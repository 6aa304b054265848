"""When faults began, for timelines: within bounds, and no more than are shown."""

from __future__ import annotations

from detectors.history.repository import began
from detectors.rows.repository import FindingHistoryRow
from store.sql import open_engine, open_sessions, upgrade


def test_of_a_long_time_the_latest_beginnings_are_read_and_nothing_else() -> None:
    engine = open_engine("sqlite://")
    upgrade(engine)
    sessions = open_sessions(engine)
    with sessions.begin() as session:
        for at_ms in range(0, 100, 10):
            for event in ("opened", "ended", "returned", "suppressed"):
                session.add(
                    FindingHistoryRow(finding_id=f"f{at_ms}", at_ms=at_ms, event=event, detail="")
                )
    found = began(sessions, 20, 40)
    assert [(one.at_ms, one.event) for one in found] == [
        (at_ms, event) for at_ms in (20, 30, 40) for event in ("opened", "returned")
    ]
    assert [one.at_ms for one in began(sessions, 0, 1_000, limit=3)] == [80, 90, 90]
