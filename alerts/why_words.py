"""The reasons of `why` in plain words."""

from __future__ import annotations

from collections.abc import Mapping

from alerts.escalation.steps import Escalation
from alerts.grouping import Group
from alerts.incidents import Incident, IncidentState
from alerts.ledger.repository import OutboxRow
from alerts.model import AlertState
from alerts.notification import EventAction, NotificationEntry
from alerts.state import AlertRecord, Step
from store.timestamps import rfc3339

_DEDUP: Mapping[str, str] = {
    "first_notification": "the group was told for the first time",
    "new_alerts_in_group": "other alerts of the group began",
    "new_resolved_alerts": "alerts of the group ended",
    "all_alerts_resolved": "all alerts of the group ended",
    "repeat_interval_elapsed": "nothing changed, and repeat_interval was over",
    "collapsed_into_storm": "so many groups began at once that one page speaks for them",
}
_MESSAGES: Mapping[EventAction, str] = {
    EventAction.TRIGGER: "page",
    EventAction.ACKNOWLEDGE: "acknowledgement",
    EventAction.RESOLVE: "end",
}
_BELONGS: Mapping[str, str] = {
    "first_alert": "it opened the incident",
    "same_service": "the incident is about the same service",
    "same_slo": "the incident is about the same SLO",
    "same_kpi": "the incident is about the same business figure",
    "shared_cause": "it has the same probable cause",
    "topology": "its service calls one of the incident's, or is called by one",
    "time": "it began within minutes of the incident's last alert",
}


def of_state(record: AlertRecord) -> str:
    """As in `fires since …`."""
    if record.state is AlertState.PENDING:
        return f"its condition holds since {rfc3339(record.active_ms)}; `for` is not over yet"
    if record.state is AlertState.RESOLVED:
        return f"it ended at {rfc3339(record.resolved_ms or record.starts_ms)}"
    words = f"it fires since {rfc3339(record.starts_ms)}"
    if record.reason is Step.SOURCE_UNKNOWN:
        words += "; its source gives no data now, which ends nothing"
    return words


def of_incident(incident: Incident, belongs: str) -> str:
    """By what it belongs there, and who took it."""
    words = _BELONGS.get(belongs, f"it is part of {incident.id}")
    if incident.state is IncidentState.ACKNOWLEDGED and incident.acknowledged_ms is not None:
        when = rfc3339(incident.acknowledged_ms)
        words += f"; {incident.acknowledged_by} took it at {when}: nobody else is told"
    elif incident.resolved_ms is not None:
        words += f"; it ended at {rfc3339(incident.resolved_ms)}"
    return words


def of_group(group: Group, reason: str) -> str:
    """When the group is looked at next."""
    next_at = rfc3339(group.next_flush_ms)
    if reason == "group_wait_running":
        return f"group_wait runs: the group is told first at {next_at}"
    if reason == "group_interval_running":
        return f"changes of the group are told at {next_at}, after group_interval"
    return "the group is looked at with this tick"


def of_dedup(entry: NotificationEntry, repeat_ms: int, *, told: bool) -> str:
    """Why it was told last, and when it is told again."""
    words = f"{_DEDUP.get(entry.reason, entry.reason.replace('_', ' '))} at {rfc3339(entry.at_ms)}"
    if not told:
        return f"the last notice did not speak of it: {words}"
    return f"{words}; without a change it is told again after {rfc3339(entry.at_ms + repeat_ms)}"


def of_escalation(escalation: Escalation) -> str:
    """Who was told, and what comes next."""
    who = ", ".join(escalation.told) or "nobody"
    if escalation.running:
        next_at = rfc3339(escalation.next_ms)
        return f"told {who}; step {escalation.step + 1} at {next_at} unless somebody takes it"
    return f"told {who}; it goes no further: {escalation.state.value.replace('_', ' ')}"


def attempts(count: int) -> str:
    """So many attempts, in words."""
    return "1 attempt" if count == 1 else f"{count} attempts"


def of_delivery(row: OutboxRow) -> str:
    """What became of a message."""
    what, to = _MESSAGES[row.notice.action], row.notice.receiver
    match row.state:
        case "sent":
            at = f" at {rfc3339(row.finished_ms)}" if row.finished_ms else ""
            return f"{to} took the {what}{at}"
        case "failed":
            return f"the {what} to {to} was refused for good and is not tried again: mend {to}"
        case "superseded":
            return f"a newer message to {to} took the place of this {what}"
        case _:
            tried = f"{attempts(row.attempts)} failed, " if row.attempts else ""
            return f"the {what} to {to} is on its way: {tried}next {rfc3339(row.next_attempt_ms)}"
