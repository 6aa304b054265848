"""Why an alert paged, or did not: every stage's decision, worked out from what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alerts import why_words as words
from alerts.dispatch import Members, Snapshot, inhibitor_of, members_of, pass_stages
from alerts.engine import AlertEngine
from alerts.escalation.steps import Escalation
from alerts.grouping import Group
from alerts.incidents import Incident
from alerts.inhibition import Inhibitor
from alerts.ledger.repository import OutboxRepository, OutboxRow
from alerts.model import AlertState
from alerts.notification import EventAction, Held, NotificationEntry, lane_of
from alerts.route_tree import Routing
from alerts.state import AlertRecord
from store.timestamps import rfc3339


@dataclass(frozen=True, slots=True)
class Reason:
    """One stage's decision; `detail` names what did it, `explanation` is for people.

    Stages are state, incident, route, inhibit, mute, silence, group, dedup, escalation, delivery.
    """

    stage: str
    decision: str
    reason: str
    detail: str = ""
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """`paged`: a message that it fires went out to somebody, and was not refused for good.

    The next look is RFC 3339, or None.
    """

    paged: bool
    reasons: tuple[Reason, ...]
    next_notification_at: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """What was said beside the snapshot: recent messages, and escalations by lane."""

    outbox: Sequence[OutboxRow] = ()
    escalations: Mapping[str, Escalation] = field(default_factory=dict)
    incident: Incident | None = None


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
        ledger: Recent messages, the escalations that run, and the alert's incident.
    """
    record = snapshot.records.get(identity)
    if record is None:
        return None
    ledger = ledger or Told()
    state = words.of_state(record)
    reasons = [Reason("state", str(record.state), str(record.reason), record.unit, state)]
    reasons += _incident(ledger.incident, record)
    if record.state is AlertState.PENDING:
        return Why(paged=False, reasons=tuple(reasons), next_notification_at=None)
    members = members_of(snapshot, routing, now_ms)
    inhibitor = inhibitor_of(snapshot.records, routing)
    look = _Look(snapshot, routing, inhibitor, now_ms, ledger)
    told, next_ms = False, None
    for route in routing.route.match(record.labels):
        member = _member(members, route.id, record)
        taken = f"its labels lead to {route.receiver}"
        reasons.append(Reason("route", "taken", f"receiver {route.receiver}", route.key, taken))
        if member is None:
            rows = _told_of(look.ledger.outbox, record)
            left = "it ended, and whoever was told of it was told that"
            reasons.append(Reason("group", "left", "resolved_and_told", "", left))
            reasons += _deliveries(rows)
            told = told or _went_out(rows)
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
        due = _due(group, now_ms)
        reasons.append(Reason("group", decided, due, group.key, words.of_group(group, due)))
        entries = _entries(self.snapshot.entries, group, self.routing)
        if self.routing.receivers[group.receiver].integrations:
            reasons += _told(entries, record.fingerprint, member.route.repeat_interval_ms)
        else:
            nobody = f"nobody is behind the receiver {group.receiver}"
            without = "receiver_without_integrations"
            reasons.append(Reason("dedup", "not_sent", without, "", nobody))
        reasons += _escalated(self.ledger.escalations, entries)
        rows = {entry.lane: _about(self.ledger.outbox, entry) for entry in entries}
        reasons += _deliveries([row for some in rows.values() for row in some])
        paged = any(
            record.fingerprint in entry.firing and _went_out(rows[entry.lane], unknown=True)
            for entry in entries
        )
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
        if held.stage == "mute":
            return f"{held.reason.replace('_', ' ')} {', '.join(held.by)}"
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
            words.of_escalation(one),
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


def _told(entries: Sequence[NotificationEntry], identity: str, repeat_ms: int) -> list[Reason]:
    if not entries:
        nobody = "no receiver of this route was told of its group yet"
        return [Reason("dedup", "not_sent", "nothing_sent_yet", "", nobody)]
    return [
        Reason(
            "dedup",
            "notified" if told else "not_in_last_notice",
            entry.reason,
            entry.lane,
            words.of_dedup(entry, repeat_ms, told=told),
        )
        for entry in entries
        for told in (identity in entry.firing | entry.resolved,)
    ]


def _about(outbox: Sequence[OutboxRow], entry: NotificationEntry) -> list[OutboxRow]:
    """The messages of an entry; those of an escalation or a storm have its key."""
    return [
        row
        for row in outbox
        if row.notice.lane == entry.lane
        or (entry.dedup_key and row.notice.dedup_key == entry.dedup_key)
    ]


def _went_out(rows: Sequence[OutboxRow], *, unknown: bool = False) -> bool:
    """Some message that it fires was not refused for good; `unknown` where none is kept."""
    states = [row.state for row in rows if row.notice.action is EventAction.TRIGGER]
    return any(state != "failed" for state in states) if states else unknown


def _incident(incident: Incident | None, record: AlertRecord) -> list[Reason]:
    if incident is None:
        return []
    part = next((p for p in incident.alerts if p.fingerprint == record.fingerprint), None)
    belongs = part.reason if part is not None else ""
    told = words.of_incident(incident, belongs)
    return [Reason("incident", incident.state.value, belongs or "part_of_it", incident.id, told)]


def _told_of(outbox: Sequence[OutboxRow], record: AlertRecord) -> list[OutboxRow]:
    """Messages that named the alert: its group is gone, and what was noted of it there."""
    return [
        row
        for row in outbox
        if row.notice.created_ms >= record.active_ms
        and any(one.fingerprint == record.fingerprint for one in row.notice.alerts)
    ]


def _deliveries(outbox: Sequence[OutboxRow]) -> list[Reason]:
    return [
        Reason(
            "delivery",
            row.state,
            row.last_error or f"{row.notice.action} after {words.attempts(row.attempts)}",
            row.notice.id,
            words.of_delivery(row),
        )
        for row in outbox[:20]
    ]


def why_paged(
    engine: AlertEngine, outbox: OutboxRepository, identity: str, now_ms: int
) -> Why | None:
    """`why` over what the engine and the outbox keep now."""
    snapshot = engine.snapshot()
    record = snapshot.records.get(identity)
    with engine.repository.begin() as transaction:
        escalations = transaction.escalations()
        incident = transaction.incident(record.incident_id) if record else None
    told = Told(outbox.rows(limit=500), escalations, incident)
    return why(identity, snapshot, engine.routing, now_ms, told)
