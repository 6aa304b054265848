"""What one tick of alerting came to."""

from __future__ import annotations

from dataclasses import dataclass

from alerts.dispatch import Dispatch
from alerts.model import AlertState
from alerts.notification import Notice
from alerts.state import AlertRecord


@dataclass(frozen=True, slots=True)
class TickResult:
    """Alerts by state after the tick, and what is to be told."""

    now_ms: int
    pending: int
    firing: int
    resolved: int
    notices: tuple[Notice, ...]
    records: tuple[AlertRecord, ...]


def result_of(now_ms: int, records: tuple[AlertRecord, ...], outcome: Dispatch) -> TickResult:
    """The result of a tick that left these records and told this."""
    counts = dict.fromkeys(AlertState, 0)
    for record in records:
        counts[record.state] += 1
    return TickResult(
        now_ms=now_ms,
        pending=counts[AlertState.PENDING],
        firing=counts[AlertState.FIRING],
        resolved=counts[AlertState.RESOLVED],
        notices=tuple(outcome.notices),
        records=records,
    )
