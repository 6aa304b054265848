"""Storm collapse: beyond so many first pages a minute, a target gets one page that counts the rest.

A group that was collapsed is told nothing of its own; its entry in the notification log carries the
storm's `dedup_key`. The storm's page ends when the last of its groups has, or when so few are left
that each can be told on its own (`released`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from alerts.cause import NONE_FOUND
from alerts.notification import EventAction, Notice, NoticeAlert, NotificationEntry
from alerts.route_tree import Routing
from alerts.stages.dedup import DedupReason
from alerts.state import AlertRecord
from store.model import Labels

COLLAPSED = "collapsed_into_storm"
_KEY = "storm-"
_GROUP = "storm"
_MAX_CAUSES = 8
_MAX_LISTED = 20
_MAX_CAUSE = 120

Target = tuple[str, int]
Entries = Mapping[str, NotificationEntry]


@dataclass(frozen=True, slots=True)
class Collapsed:
    """What is left to tell: notices, and log entries to write."""

    notices: list[Notice]
    entries: dict[str, NotificationEntry]


@dataclass(frozen=True, slots=True)
class Before:
    """What is known at the tick: the log before it, alerts by fingerprint, the instant."""

    entries: Entries
    records: Mapping[str, AlertRecord]
    now_ms: int
    external_url: str = ""


def collapse(
    notices: Sequence[Notice], entries: Entries, routing: Routing, before: Before
) -> Collapsed:
    """Keep what a target may be told at this tick, and put the rest into its storm's page."""
    result = Collapsed([], dict(entries))
    by_target: dict[Target, list[Notice]] = {}
    for notice in notices:
        by_target.setdefault((notice.receiver, notice.integration), []).append(notice)
    running = {
        (e.receiver, e.integration): e
        for e in before.entries.values()
        if e.group_id == _GROUP and e.firing
    }
    for target in dict.fromkeys([*by_target, *running]):
        if not _configured(target, routing):
            # A reload took the receiver away: nobody is left to be told of the storm's end.
            result.entries.update(_cleared(before.entries, running[target].dedup_key))
            continue
        storm = _Storm(target, running.get(target), routing, before)
        result.notices.extend(storm.pass_on(by_target.get(target, []), result.entries))
    return result


def released(before: Before, routing: Routing) -> dict[str, NotificationEntry]:
    """Log entries of the groups that leave a storm: they are told anew at this tick, alone.

    They leave when the storm was last told of a window ago and no more of them fire than its
    target may be told of at once.
    """
    freed: dict[str, NotificationEntry] = {}
    for storm in before.entries.values():
        if storm.group_id != _GROUP or not storm.firing:
            continue
        if before.now_ms - storm.at_ms < routing.storm.window_ms:
            continue
        target = (storm.receiver, storm.integration)
        members = _cleared(before.entries, storm.dedup_key)
        members.pop(storm.lane, None)
        live = sum(1 for lane in members if _live(before.entries[lane], before.records))
        if 0 < live <= _room_for(target, before, routing, members):
            freed.update(members)
    return freed


def _configured(target: Target, routing: Routing) -> bool:
    receiver, index = target
    known = routing.receivers.get(receiver)
    return known is not None and index < len(known.integrations)


def _cleared(entries: Entries, key: str) -> dict[str, NotificationEntry]:
    """The entries under a storm's key, told of nothing any more."""
    return {
        lane: replace(entry, firing=frozenset(), resolved=frozenset())
        for lane, entry in entries.items()
        if entry.dedup_key == key and entry.firing
    }


def _live(entry: NotificationEntry, records: Mapping[str, AlertRecord]) -> frozenset[str]:
    return frozenset(f for f in entry.firing if f in records and records[f].firing)


def _room_for(target: Target, before: Before, routing: Routing, decided: Container[str]) -> int:
    """How many first pages the target may still get in this window."""
    since_ms = before.now_ms - routing.storm.window_ms
    recent = sum(
        1
        for lane, entry in before.entries.items()
        if lane not in decided
        and (entry.receiver, entry.integration) == target
        and entry.group_id != _GROUP
        and entry.at_ms > since_ms
        and entry.reason == DedupReason.FIRST_NOTIFICATION
    )
    return max(0, routing.storm.max_pages - recent)


class _Storm:
    def __init__(
        self,
        target: Target,
        last: NotificationEntry | None,
        routing: Routing,
        before: Before,
    ) -> None:
        self._target = target
        self._last = last
        self._routing = routing
        self._before = before
        seed = f"{target}{before.now_ms}"
        fresh = _KEY + hashlib.sha256(seed.encode()).hexdigest()[:32]
        self._key = last.dedup_key if last else fresh

    def pass_on(
        self, notices: Sequence[Notice], entries: dict[str, NotificationEntry]
    ) -> list[Notice]:
        """The notices that go out on their own, and the storm's page when it is due."""
        own = [n for n in notices if not self._member(n.lane)]
        self._keep_members(entries)
        firsts = [n for n in own if n.reason == DedupReason.FIRST_NOTIFICATION]
        others = [n for n in own if n.reason != DedupReason.FIRST_NOTIFICATION]
        room = _room_for(self._target, self._before, self._routing, entries) if firsts else 0
        if self._last is None and len(firsts) == room + 1:
            room += 1  # a page about a single further page would save nothing
        ordered = sorted(firsts, key=_rank)
        for notice in ordered[room:]:
            entry = entries[notice.lane]
            entries[notice.lane] = replace(entry, reason=COLLAPSED, dedup_key=self._key)
        passed = others + ordered[:room]
        if self._last is None and len(ordered) <= room:
            return passed
        return passed + self._page(entries)

    def _member(self, lane: str) -> bool:
        entry = self._before.entries.get(lane)
        return entry is not None and entry.dedup_key.startswith(_KEY) and bool(entry.firing)

    def _keep_members(self, entries: dict[str, NotificationEntry]) -> None:
        for lane, entry in entries.items():
            if self._mine(entry) and self._member(lane):
                known = self._before.entries[lane].dedup_key
                entries[lane] = replace(entry, reason=COLLAPSED, dedup_key=known)

    def _mine(self, entry: NotificationEntry) -> bool:
        return (entry.receiver, entry.integration) == self._target and entry.group_id != _GROUP

    def _page(self, entries: dict[str, NotificationEntry]) -> list[Notice]:
        merged = {**self._before.entries, **entries}
        lanes = [e for e in merged.values() if self._mine(e) and e.dedup_key == self._key]
        # What ended counts no more, even where no group is left that would say so.
        live = [found for e in lanes if (found := _live(e, self._before.records))]
        firing = frozenset(identity for found in live for identity in found)
        groups = len(live)
        if not firing:
            # One that comes back before its group is looked at is told as a new one.
            entries.update(_cleared(merged, self._key))
        receiver, index = self._target
        now_ms = self._before.now_ms
        told = self._last.resolved if self._last else frozenset()
        last_ms = self._last.at_ms if self._last else 0
        integration = self._routing.receivers[receiver].integrations[index]
        waited_ms = now_ms - last_ms
        news = not firing <= told and waited_ms >= self._routing.storm.window_ms
        again = news or waited_ms > self._routing.route.repeat_interval_ms
        due = not firing or self._last is None or (again and integration.send_updates)
        lane = f"{_GROUP}/{index}/{receiver}"
        entries[lane] = NotificationEntry(
            lane=lane,
            group_id=_GROUP,
            receiver=receiver,
            integration=index,
            firing=firing,
            resolved=firing if due else told,
            at_ms=now_ms if due else last_ms,
            reason="alert_storm",
            dedup_key=self._key,
        )
        if not due or (not firing and not integration.send_resolved):
            return []
        return [self._notice(lane, sorted(firing), groups)]

    def _notice(self, lane: str, firing: Sequence[str], groups: int) -> Notice:
        records = [self._before.records[f] for f in firing if f in self._before.records]
        lead = _lead(records, groups, self._before.now_ms, self._key)
        listed = [
            NoticeAlert.of(record, firing=True, ends_ms=None) for record in records[:_MAX_LISTED]
        ]
        identity = hashlib.sha256(f"{lane}\n{self._before.now_ms}".encode()).hexdigest()
        return Notice(
            id=f"msg_{identity[:32]}",
            lane=lane,
            action=EventAction.TRIGGER if firing else EventAction.RESOLVE,
            receiver=self._target[0],
            integration=self._target[1],
            group_key=lane,
            dedup_key=self._key,
            group_labels=Labels.of(alertname="AlertStorm"),
            alerts=(lead, *listed),
            reason="alert_storm",
            created_ms=self._before.now_ms,
            external_url=self._before.external_url,
            incident_id=next((r.incident_id for r in records if r.incident_id), ""),
        )


def _rank(notice: Notice) -> tuple[bool, int, str]:
    worst = any(alert.labels.get("severity") in {"page", "critical"} for alert in notice.alerts)
    return not worst, min((a.starts_ms for a in notice.alerts), default=0), notice.lane


def causes(records: Iterable[AlertRecord]) -> str:
    """How many alerts name which cause, the most frequent first; else their names count."""
    counts = Counter(_cause(record) for record in records)
    told = [f"{count:,} × {cause}" for cause, count in counts.most_common(_MAX_CAUSES)]
    left = len(counts) - len(told)
    return "; ".join(told) + (f"; and {left:,} other causes" if left > 0 else "")


def _cause(record: AlertRecord) -> str:
    text = record.annotations.get("cause") or record.name
    if text.startswith(NONE_FOUND):
        text = record.name
    return " ".join(text.split())[:_MAX_CAUSE]


def _lead(records: Sequence[AlertRecord], groups: int, now_ms: int, key: str) -> NoticeAlert:
    """The alert that speaks for all of them."""
    summary = f"Alert storm: {len(records):,} alerts in {groups:,} groups"
    severe = any(record.severity in {"page", "critical"} for record in records)
    severity = "page" if severe or not records else "ticket"
    return NoticeAlert(
        fingerprint=key,
        firing=bool(records),
        labels=Labels.of(alertname="AlertStorm", severity=severity),
        annotations={
            "summary": summary if records else "Alert storm",
            "cause": causes(records),
            "fix": "Begin with the most frequent cause; every alert is on the wall.",
        },
        starts_ms=min((record.starts_ms for record in records), default=now_ms),
        ends_ms=None if records else now_ms,
    )
