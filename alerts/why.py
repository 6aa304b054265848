"""Why an alert paged, or did not: every stage's decision, worked out from what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alerts.dispatch import Members, Snapshot, inhibitor_of, members_of, pass_stages
from alerts.engine import AlertEngine
from alerts.grouping import Group
from alerts.ledger.repository import OutboxRepository, OutboxRow
from alerts.model import AlertState
from alerts.notification import NotificationEntry, lane_of
from alerts.route_tree import Routing
from alerts.state import AlertRecord
from store.timestamps import rfc3339


@dataclass(frozen=True, slots=True)
class Reason:
    """One stage's decision: of state, route, inhibit, mute, silence, group, dedup or delivery."""

    stage: str
    decision: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """`paged`: some receiver was told that it fires. The next look is RFC 3339, or None."""

    paged: bool
    reasons: tuple[Reason, ...]
    next_notification_at: str | None


def why(
    identity: str,
    snapshot: Snapshot,
    routing: Routing,
    now_ms: int,
    outbox: Sequence[OutboxRow] = (),
) -> Why | None:
    """Every decision about one alert, in order; None when the alert is not known.

    Args:
        identity: The alert's fingerprint.
        snapshot: What is kept, from `AlertEngine.snapshot`.
        routing: The configuration in force.
        now_ms: The instant asked about.
        outbox: Recent outbox rows, for the delivery's fate.
    """
    record = snapshot.records.get(identity)
    if record is None:
        return None
    reasons = [Reason("state", str(record.state), str(record.reason), record.unit)]
    if record.state is AlertState.PENDING:
        return Why(paged=False, reasons=tuple(reasons), next_notification_at=None)
    members = members_of(snapshot, routing, now_ms)
    inhibitor = inhibitor_of(snapshot.records, routing)
    told, next_ms = False, None
    for route in routing.route.match(record.labels):
        member = _member(members, route.id, record)
        reasons.append(Reason("route", "taken", f"receiver {route.receiver}", route.key))
        if member is None:
            reasons.append(Reason("group", "left", "resolved_and_told", ""))
            continue
        _, held = pass_stages(member, routing, snapshot, inhibitor, now_ms)
        mine = [h for h in held if h.fingerprint == identity]
        reasons += [Reason(h.stage, "held", h.reason, ", ".join(h.by)) for h in mine]
        group = member.group
        decided = "flushed" if group.last_flush_ms is not None else "waits"
        reasons.append(Reason("group", decided, _due(group, now_ms), group.key))
        entries = _entries(snapshot.entries, group, routing)
        told = told or any(identity in entry.firing for entry in entries)
        if routing.receivers[group.receiver].integrations:
            reasons += _told(entries, identity)
        else:
            reasons.append(Reason("dedup", "not_sent", "receiver_without_integrations"))
        reasons += _deliveries(outbox, entries)
        if not mine and record.firing:
            next_ms = group.next_flush_ms if next_ms is None else min(next_ms, group.next_flush_ms)
    return Why(
        paged=told,
        reasons=tuple(reasons),
        next_notification_at=None if next_ms is None else rfc3339(next_ms),
    )


def _member(members: Mapping[str, Members], route_id: str, record: AlertRecord) -> Members | None:
    for member in members.values():
        if member.route.id == route_id and record in member.alerts:
            return member
    return None


def _due(group: Group, now_ms: int) -> str:
    if group.last_flush_ms is None:
        return "group_wait_running" if group.next_flush_ms > now_ms else "due_now"
    return "group_interval_running" if group.next_flush_ms > now_ms else "due_now"


def _entries(
    entries: Mapping[str, NotificationEntry], group: Group, routing: Routing
) -> list[NotificationEntry]:
    count = len(routing.receivers[group.receiver].integrations)
    lanes = (lane_of(group.id, group.receiver, index) for index in range(count))
    return [entries[lane] for lane in lanes if lane in entries]


def _told(entries: Sequence[NotificationEntry], identity: str) -> list[Reason]:
    if not entries:
        return [Reason("dedup", "not_sent", "nothing_sent_yet", "")]
    return [
        Reason(
            "dedup",
            "notified" if identity in entry.firing | entry.resolved else "not_in_last_notice",
            entry.reason,
            entry.lane,
        )
        for entry in entries
    ]


def _deliveries(outbox: Sequence[OutboxRow], entries: Sequence[NotificationEntry]) -> list[Reason]:
    lanes = {entry.lane for entry in entries}
    return [
        Reason(
            "delivery",
            row.state,
            row.last_error or f"{row.notice.action} after {row.attempts} attempts",
            row.notice.id,
        )
        for row in outbox
        if row.notice.lane in lanes
    ][:20]


def why_paged(
    engine: AlertEngine, outbox: OutboxRepository, identity: str, now_ms: int
) -> Why | None:
    """`why` over what the engine and the outbox keep now."""
    return why(identity, engine.snapshot(), engine.routing, now_ms, outbox.rows(limit=500))
