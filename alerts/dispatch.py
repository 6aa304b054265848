"""From alert states to notices: routing, grouping and the stages, in one pure step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from alerts.grouping import Group, joined, new_group
from alerts.inhibition import Inhibitor
from alerts.model import AlertState
from alerts.notification import (
    EventAction,
    Held,
    Notice,
    NoticeAlert,
    NotificationEntry,
    lane_of,
)
from alerts.places import Places
from alerts.route_tree import ESCALATION, Integration, Route, Routing
from alerts.silences import Silence
from alerts.stages import dedup, inhibit, mute, silence
from alerts.stages.dedup import DedupReason
from alerts.state import AlertRecord, in_incident
from alerts.storm import Before, collapse, released

_UPDATES = frozenset(
    {
        DedupReason.NEW_ALERTS_IN_GROUP,
        DedupReason.NEW_RESOLVED_ALERTS,
        DedupReason.REPEAT_INTERVAL_ELAPSED,
    }
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known before the step, all from one transaction."""

    records: Mapping[str, AlertRecord]
    groups: Mapping[str, Group]
    entries: Mapping[str, NotificationEntry]
    silences: Sequence[Silence] = ()


@dataclass(slots=True)
class Dispatch:
    """What the step decided. `waiting` are resolved alerts whose group was not looked at yet."""

    groups: dict[str, Group] = field(default_factory=dict)
    ended_groups: set[str] = field(default_factory=set)
    entries: dict[str, NotificationEntry] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Members:
    """A group with its route and the alerts that are in it now."""

    group: Group
    route: Route
    alerts: list[AlertRecord]


def dispatch(
    snapshot: Snapshot,
    routing: Routing,
    now_ms: int,
    *,
    external_url: str = "",
    places: Places | None = None,
) -> Dispatch:
    """Decide what every receiver must be told at `now_ms`.

    `places` remembers where alerts went under this routing.
    """
    result = Dispatch()
    known = Before(snapshot.entries, snapshot.records, now_ms, external_url)
    freed = released(known, routing)
    if freed:
        snapshot = replace(snapshot, entries={**snapshot.entries, **freed})
        known = replace(known, entries=snapshot.entries)
        result.entries.update(freed)
    due_now = {entry.group_id for entry in freed.values()}
    inhibitor = inhibitor_of(snapshot.records, routing)
    members = members_of(snapshot, routing, now_ms, places)
    _keep_empty(snapshot, members, routing, now_ms, result)
    for member in members.values():
        group = member.group
        if group.next_flush_ms > now_ms and group.id not in due_now:
            result.waiting |= {a.fingerprint for a in member.alerts if not a.firing}
        else:
            flush = _Flush(member, routing, snapshot, inhibitor, now_ms, external_url)
            flush.run(result)
            group = group.flushed(member.route, now_ms)
        if snapshot.groups.get(group.id) != group:
            result.groups[group.id] = group
    collapsed = collapse(result.notices, result.entries, routing, known)
    result.notices, result.entries = collapsed.notices, collapsed.entries
    return result


def _keep_empty(
    snapshot: Snapshot,
    members: Mapping[str, Members],
    routing: Routing,
    now_ms: int,
    result: Dispatch,
) -> None:
    """Groups with nothing in them go on until maintenance comes by; without a route they end."""
    routes = {route.id: route for route in routing.route.walk()}
    for group in snapshot.groups.values():
        if group.id in members:
            continue
        route = routes.get(group.route_id)
        kept = None if route is None else group.empty(route, now_ms)
        if kept is None:
            result.ended_groups.add(group.id)
        elif kept != group:
            result.groups[group.id] = kept


def inhibitor_of(records: Mapping[str, AlertRecord], routing: Routing) -> Inhibitor:
    """The inhibit rules over what fires."""
    firing = ((r.fingerprint, r.labels) for r in records.values() if r.firing)
    return Inhibitor(routing.inhibit_rules, firing)


def members_of(
    snapshot: Snapshot, routing: Routing, now_ms: int, places: Places | None = None
) -> dict[str, Members]:
    """Every group that has something in it, old and new, by id.

    A resolved alert stays in its group until the group has been looked at once more.
    """
    members: dict[str, Members] = {}
    if places is None or places.routing is not routing:
        places = Places(routing)
    for record in snapshot.records.values():
        if record.state is AlertState.PENDING:
            continue
        for route, labels, identity in places.of(record.fingerprint, record.labels):
            member = members.get(identity)
            group = member.group if member else snapshot.groups.get(identity)
            if record.resolved_ms is not None and _told(group, record.resolved_ms):
                continue
            group = joined(
                group or new_group(route, labels, now_ms), route, record.starts_ms, now_ms
            )
            if member is None:
                members[identity] = Members(group, route, [record])
            else:
                member.group = group
                member.alerts.append(record)
    return members


def _told(group: Group | None, resolved_ms: int) -> bool:
    # What ended before the group began was told, or not, by an earlier one.
    if group is None or resolved_ms < group.created_ms:
        return True
    return group.last_flush_ms is not None and resolved_ms <= group.last_flush_ms


@dataclass(frozen=True, slots=True)
class _Flush:
    member: Members
    routing: Routing
    snapshot: Snapshot
    inhibitor: Inhibitor
    now_ms: int
    external_url: str

    def run(self, result: Dispatch) -> None:
        passed, held = pass_stages(
            self.member, self.routing, self.snapshot, self.inhibitor, self.now_ms
        )
        result.held.extend(held)
        if not passed:
            return
        receiver = self.routing.receivers[self.member.group.receiver]
        for index, integration in enumerate(receiver.integrations):
            self._integration(index, integration, passed, result)

    def _integration(
        self, index: int, integration: Integration, passed: list[AlertRecord], result: Dispatch
    ) -> None:
        group = self.member.group
        lane = lane_of(group.id, group.receiver, index)
        firing = frozenset(a.fingerprint for a in passed if a.firing)
        resolved = frozenset(a.fingerprint for a in passed if not a.firing)
        reason = dedup.decide(
            self.snapshot.entries.get(lane),
            firing,
            resolved,
            self.now_ms,
            repeat_interval_ms=self.member.route.repeat_interval_ms,
            send_resolved=integration.send_resolved,
        )
        if not reason.notifies:
            return
        result.entries[lane] = NotificationEntry(
            lane=lane,
            group_id=group.id,
            receiver=group.receiver,
            integration=index,
            firing=firing,
            resolved=resolved,
            at_ms=self.now_ms,
            reason=str(reason),
            dedup_key=group.dedup_key,
        )
        told = passed if integration.send_resolved else [a for a in passed if a.firing]
        # Whether an update begins something is for the escalation to say.
        updates = integration.send_updates or integration.kind == ESCALATION
        if told and (updates or reason not in _UPDATES):
            result.notices.append(self._notice(lane, index, told, reason))

    def _notice(
        self, lane: str, index: int, told: list[AlertRecord], reason: DedupReason
    ) -> Notice:
        group = self.member.group
        firing = any(alert.firing for alert in told)
        identity = hashlib.sha256(f"{lane}\n{self.now_ms}\n{reason}".encode()).hexdigest()
        ordered = sorted(told, key=lambda a: (not a.firing, a.starts_ms, a.fingerprint))
        return Notice(
            id=f"msg_{identity[:32]}",
            lane=lane,
            action=EventAction.TRIGGER if firing else EventAction.RESOLVE,
            receiver=group.receiver,
            integration=index,
            group_key=group.key,
            dedup_key=group.dedup_key,
            group_labels=group.labels,
            alerts=tuple(
                NoticeAlert.of(alert, firing=alert.firing, ends_ms=alert.resolved_ms)
                for alert in ordered
            ),
            reason=str(reason),
            created_ms=self.now_ms,
            external_url=self.external_url,
            incident_id=next((a.incident_id for a in ordered if a.incident_id), ""),
        )


def pass_stages(
    member: Members,
    routing: Routing,
    snapshot: Snapshot,
    inhibitor: Inhibitor,
    now_ms: int,
) -> tuple[list[AlertRecord], list[Held]]:
    """Inhibit, then mute, then silence, as Alertmanager; with what was held back and why.

    One step away from Alertmanager, on purpose: the end of an alert that a receiver was told of
    passes every stage. Otherwise a silence would leave the page open for ever.
    """
    announced = announced_in(member, routing, snapshot) if routing.ends_pass else frozenset()
    ended = [a for a in member.alerts if not a.firing and a.fingerprint in announced]
    rest = [a for a in member.alerts if a.firing or a.fingerprint not in announced]
    rest, inhibited = inhibit.apply(rest, inhibitor)
    rest, muted = mute.apply(rest, member.route, routing.time_intervals, now_ms)
    rest, silenced = silence.apply(rest, snapshot.silences, now_ms)
    return rest + ended, [*inhibited, *muted, *silenced]


def announced_in(member: Members, routing: Routing, snapshot: Snapshot) -> frozenset[str]:
    """Fingerprints that some integration of the group's receiver was told to be firing."""
    group = member.group
    found: frozenset[str] = frozenset()
    for index in range(len(routing.receivers[group.receiver].integrations)):
        entry = snapshot.entries.get(lane_of(group.id, group.receiver, index))
        found |= entry.firing if entry else frozenset()
    return found


def with_incidents(
    records: Mapping[str, AlertRecord], incident_of: Mapping[str, str]
) -> dict[str, AlertRecord]:
    """The records, each with the incident that it belongs to."""
    return {
        fingerprint: in_incident(record, incident_of[fingerprint])
        if fingerprint in incident_of and record.incident_id != incident_of[fingerprint]
        else record
        for fingerprint, record in records.items()
    }
