"""What a tick writes, whom escalations tell at it, and what it forgets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from alerts.dispatch import Dispatch, Snapshot
from alerts.escalation import steps as escalation
from alerts.escalation.group_now import groups_now
from alerts.incidents import Incident, IncidentEvent
from alerts.notification import EventAction, Notice
from alerts.on_call.stand_ins import KEPT_MS as STAND_INS_KEPT_MS
from alerts.repository import AlertTransaction
from alerts.route_tree import Routing
from alerts.silences import RETENTION_MS
from alerts.state import RESOLVED_RETENTION_MS, AlertRecord
from alerts.working_memory import WorkingMemory, to_write

_TOLD = {
    EventAction.TRIGGER: "paged",
    EventAction.ACKNOWLEDGE: "told who took it",
    EventAction.RESOLVE: "told that it ended",
}
_LOG_RETENTION_MS = 120 * 3_600_000


def page_events(notices: Iterable[Notice], now_ms: int) -> list[IncidentEvent]:
    """A line in the timeline of its incident for each message."""
    return [
        IncidentEvent(
            notice.incident_id,
            now_ms,
            "page",
            f"{notice.receiver} {_TOLD[notice.action]}{_about(notice)}"
            f" ({notice.reason.replace('_', ' ')})",
            notice.id,
        )
        for notice in notices
        if notice.incident_id
    ]


def _about(notice: Notice) -> str:
    """The alerts that a message is about, by name."""
    names = sorted({alert.labels.get("alertname", "") for alert in notice.alerts} - {""})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f": {names[0]}{more}" if names else ""


def escalated(
    transaction: AlertTransaction,
    look: Snapshot,
    notices: Sequence[Notice],
    unresolved: Collection[Incident],
    routing: Routing,
    now_ms: int,
) -> list[Notice]:
    """The notices, with what escalations make of those that are meant for them."""
    running = transaction.escalations()
    lanes = (*running, *(one.lane for one in notices if escalation.is_escalation(one, routing)))
    groups = groups_now(lanes, look.entries, look.records, unresolved)
    told = escalation.follow(running, notices, groups, routing, now_ms)
    transaction.save_escalations(told)
    return told.notices


def retained(
    records: dict[str, AlertRecord], outcome: Dispatch, now_ms: int
) -> dict[str, AlertRecord]:
    """The records, without those that ended long ago and were told."""
    return {
        identity: record
        for identity, record in records.items()
        if record.resolved_ms is None
        or identity in outcome.waiting
        or now_ms - record.resolved_ms <= RESOLVED_RETENTION_MS
    }


def save(
    transaction: AlertTransaction,
    memory: WorkingMemory,
    records: dict[str, AlertRecord],
    outcome: Dispatch,
) -> frozenset[str]:
    """Write states, groups, the log and messages; answers with alerts whose text waits."""
    before = memory.snapshot.records
    changed, unsaved = to_write(before, records, memory)
    transaction.save_states(changed, set(before) - set(records))
    transaction.save_groups(outcome.groups.values(), outcome.ended_groups)
    transaction.save_entries(outcome.entries.values())
    transaction.enqueue(outcome.notices)
    return unsaved


def sweep(
    transaction: AlertTransaction, before: Snapshot, routing: Routing, now_ms: int
) -> frozenset[str]:
    """Forget what nobody will ask for; answers with the lanes that the log no longer has."""
    longest_ms = max(route.repeat_interval_ms for route in routing.route.walk())
    oldest_ms = now_ms - max(_LOG_RETENTION_MS, 2 * longest_ms)
    forgotten = frozenset(
        lane
        for lane, entry in before.entries.items()
        if entry.at_ms < oldest_ms and not entry.firing
    )
    transaction.forget_entries(forgotten)
    transaction.forget_silences(now_ms - RETENTION_MS)
    transaction.forget_posted(now_ms - RESOLVED_RETENTION_MS)
    transaction.forget_stand_ins(now_ms - STAND_INS_KEPT_MS)
    return forgotten
