"""Why an alert paged, or did not: every stage's decision, worked out from what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alerts.dispatch import Members, Snapshot, inhibitor_of, members_of, pass_stages
from alerts.engine import AlertEngine
from alerts.escalation.steps import Escalation
from alerts.grouping import Group
from alerts.inhibition import Inhibitor
from alerts.ledger.repository import OutboxRepository, OutboxRow
from alerts.model import AlertState
from alerts.notification import Held, NotificationEntry, lane_of
from alerts.route_tree import Routing
from alerts.state import AlertRecord
from store.timestamps import rfc3339


@dataclass(frozen=True, slots=True)
class Reason:
    """One stage's decision; `detail` names what did it, `explanation` is for people.

    Stages are state, route, inhibit, mute, silence, group, dedup, escalation and delivery.
    """

    stage: str
    decision: str
    reason: str
    detail: str = ""
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """`paged`: some receiver was told that it fires. The next look is RFC 3339, or None."""

    paged: bool
    reasons: tuple[Reason, ...]
    next_notification_at: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """What was said beside the snapshot: recent messages, and escalations by lane."""

    outbox: Sequence[OutboxRow] = ()
    escalations: Mapping[str, Escalation] = field(default_factory=dict)


def why(
    identity: str,
    snapshot: Snapshot,
    routing: Routing,
    now_ms: int,
    ledger: Told | None = None,
) -> Why | None:
    """Every decision about one alert, in order; None when the alert is not known.

    Args:
        identity: The alert's fingerprint.
        snapshot: What is kept, from `AlertEngine.snapshot`.
        routing: The configuration in force.
        now_ms: The instant asked about.
        ledger: Recent messages and the escalations that run.
    """
    record = snapshot.records.get(identity)
    if record is None:
        return None
    reasons = [Reason("state", str(record.state), str(record.reason), record.unit)]
    if record.state is AlertState.PENDING:
        return Why(paged=False, reasons=tuple(reasons), next_notification_at=None)
    members = members_of(snapshot, routing, now_ms)
    inhibitor = inhibitor_of(snapshot.records, routing)
    look = _Look(snapshot, routing, inhibitor, now_ms, ledger or Told())
    told, next_ms = False, None
    for route in routing.route.match(record.labels):
        member = _member(members, route.id, record)
        reasons.append(Reason("route", "taken", f"receiver {route.receiver}", route.key))
        if member is None:
            reasons.append(Reason("group", "left", "resolved_and_told", ""))
            continue
        here = look.at(member, record)
        reasons += here.reasons
        told = told or here.paged
        next_ms = min(filter(None, (next_ms, here.next_ms)), default=None)
    return Why(
        paged=told,
        reasons=tuple(reasons),
        next_notification_at=None if next_ms is None else rfc3339(next_ms),
    )


@dataclass(frozen=True, slots=True)
class _Here:
    """What holds of an alert at one route."""

    reasons: list[Reason]
    paged: bool
    next_ms: int | None


@dataclass(frozen=True, slots=True)
class _Look:
    snapshot: Snapshot
    routing: Routing
    inhibitor: Inhibitor
    now_ms: int
    ledger: Told

    def at(self, member: Members, record: AlertRecord) -> _Here:
        group, now_ms = member.group, self.now_ms
        _, held = pass_stages(member, self.routing, self.snapshot, self.inhibitor, now_ms)
        mine = [h for h in held if h.fingerprint == record.fingerprint]
        reasons = [
            Reason(h.stage, "held", h.reason, ", ".join(h.by), self._by(h, record)) for h in mine
        ]
        decided = "flushed" if group.last_flush_ms is not None else "waits"
        reasons.append(Reason("group", decided, _due(group, now_ms), group.key))
        entries = _entries(self.snapshot.entries, group, self.routing)
        if self.routing.receivers[group.receiver].integrations:
            reasons += _told(entries, record.fingerprint)
        else:
            reasons.append(Reason("dedup", "not_sent", "receiver_without_integrations"))
        reasons += _escalated(self.ledger.escalations, entries)
        reasons += _deliveries(self.ledger.outbox, entries)
        paged = any(record.fingerprint in entry.firing for entry in entries)
        next_ms = self._next_ms(member, record, entries, mine) if record.firing else None
        return _Here(reasons, paged, next_ms)

    def _by(self, held: Held, record: AlertRecord) -> str:
        """Who holds it back: the inhibitor by its name, a silence by its author and its end."""
        if held.stage == "inhibit":
            found = self.inhibitor.inhibition(record.fingerprint, record.labels)
            source = self.snapshot.records.get(held.by[0])
            name = source.name if source else ""
            rule = f" by the rule {found[1].name}" if found and found[1].name else ""
            return f"{name}{rule}".strip()
        if held.stage == "silence":
            return "; ".join(
                f"by {one.created_by} until {rfc3339(one.ends_ms)}: {one.comment}"
                for one in self.snapshot.silences
                if one.id in held.by
            )
        return ""

    def _next_ms(
        self,
        member: Members,
        record: AlertRecord,
        entries: Sequence[NotificationEntry],
        held: Sequence[Held],
    ) -> int | None:
        """When it is told next if nothing changes; None while something without an end holds it."""
        if not self.routing.receivers[member.group.receiver].integrations:
            return None
        earliest_ms = self.now_ms
        for one in held:
            if one.stage != "silence":
                return None
            ends = [s.ends_ms for s in self.snapshot.silences if s.id in one.by]
            earliest_ms = max([earliest_ms, *ends])
        repeat_ms = member.route.repeat_interval_ms
        if entries and all(record.fingerprint in entry.firing for entry in entries):
            earliest_ms = max(earliest_ms, min(entry.at_ms for entry in entries) + repeat_ms + 1)
        flush_ms = max(member.group.next_flush_ms, self.now_ms)
        late = max(0, -(-(earliest_ms - flush_ms) // member.route.group_interval_ms))
        return flush_ms + late * member.route.group_interval_ms


def _escalated(
    escalations: Mapping[str, Escalation], entries: Sequence[NotificationEntry]
) -> list[Reason]:
    found = [escalations[entry.lane] for entry in entries if entry.lane in escalations]
    return [
        Reason(
            "escalation",
            one.state.value,
            f"step {one.step + 1} of {one.policy} at {rfc3339(one.next_ms)}"
            if one.running
            else f"policy {one.policy}",
            f"told {', '.join(one.told) or 'nobody'}",
        )
        for one in found
    ]


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
    escalations = {one.lane: one for one in engine.escalations()}
    told = Told(outbox.rows(limit=500), escalations)
    return why(identity, engine.snapshot(), engine.routing, now_ms, told)
