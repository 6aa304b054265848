"""What receivers are told when a person takes or ends an incident."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from alerts.dispatch import Snapshot
from alerts.escalation.steps import ACKNOWLEDGING
from alerts.notification import EventAction, Notice, NoticeAlert, NotificationEntry
from alerts.route_tree import Integration, Routing
from alerts.storm import COLLAPSED

_WORDS = {
    EventAction.TRIGGER: ("again", "ack_timeout"),
    EventAction.ACKNOWLEDGE: ("ack", "acknowledged"),
    EventAction.RESOLVE: ("end", "resolved_by_hand"),
}


@dataclass(frozen=True, slots=True)
class IncidentMessage:
    """What became of an incident: `ACKNOWLEDGE` or `RESOLVE` by someone, `TRIGGER` by itself."""

    action: EventAction
    incident_id: str
    who: str
    now_ms: int
    external_url: str


def incident_messages(
    about: IncidentMessage, snapshot: Snapshot, routing: Routing, members: frozenset[str]
) -> list[Notice]:
    """A message to each receiver that was told of the incident's alerts.

    A group that holds alerts of other incidents, too, is acknowledged, and not resolved.
    """
    notices = []
    for entry in snapshot.entries.values():
        integration = _integration(entry, routing)
        told = entry.firing & members
        # A storm's own entry speaks for the groups that it took in.
        if integration is None or not told or entry.reason == COLLAPSED:
            continue
        if _wants(about.action, integration, alone=entry.firing <= members):
            notices.append(_notice(about, entry, snapshot, sorted(told)))
    return notices


def _integration(entry: NotificationEntry, routing: Routing) -> Integration | None:
    receiver = routing.receivers.get(entry.receiver)
    if receiver is None or entry.integration >= len(receiver.integrations):
        return None
    return receiver.integrations[entry.integration]


def _wants(action: EventAction, integration: Integration, *, alone: bool) -> bool:
    if action is EventAction.ACKNOWLEDGE:
        return integration.kind in ACKNOWLEDGING
    if action is EventAction.TRIGGER:
        return True
    return integration.send_resolved and alone


def _notice(
    about: IncidentMessage, entry: NotificationEntry, snapshot: Snapshot, told: list[str]
) -> Notice:
    group = snapshot.groups.get(entry.group_id)
    word, reason = _WORDS[about.action]
    records = [snapshot.records[f] for f in told if f in snapshot.records]
    ended = about.action is EventAction.RESOLVE
    seen = tuple(
        NoticeAlert.of(record, firing=not ended, ends_ms=about.now_ms if ended else None)
        for record in records[:20]
    )
    # Of the whole lane: the storms of two receivers have the same group.
    lane = hashlib.sha256(entry.lane.encode()).hexdigest()[:16]
    return Notice(
        id=f"msg_{word}_{about.incident_id}_{lane}_{about.now_ms}",
        lane=entry.lane,
        action=about.action,
        receiver=entry.receiver,
        integration=entry.integration,
        group_key=group.key if group else "",
        dedup_key=entry.dedup_key,
        group_labels=group.labels if group else records[0].labels,
        alerts=() if about.action is EventAction.ACKNOWLEDGE else seen,
        reason=reason,
        created_ms=about.now_ms,
        external_url=about.external_url,
        incident_id=about.incident_id,
        who=about.who,
    )
