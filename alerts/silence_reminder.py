"""A word before a silence ends that still keeps something quiet: it will be loud again. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from alerts.matchers import matches_all
from alerts.notification import EventAction, Notice, NoticeAlert
from alerts.route_tree import Routing
from alerts.silences import Silence, SilenceState
from alerts.state import AlertRecord
from store.model import Labels
from store.timestamps import rfc3339

REASON = "silence_ends_soon"
# A reminder wakes nobody: it goes to those integrations of the alerts' receivers that do not page.
QUIET_KINDS = frozenset({"slack", "msteamsv2", "email", "webhook", "apprise"})
_MAX_LISTED = 20


def lane_of(silence_id: str) -> str:
    """What the lanes of a silence's reminders begin with."""
    return f"silence/{silence_id}/"


def ending(silences: Sequence[Silence], now_ms: int, lead_ms: int) -> list[Silence]:
    """Active silences that end within `lead_ms`, and that were meant to last longer than that."""
    return [
        silence
        for silence in silences
        if silence.state(now_ms) is SilenceState.ACTIVE
        and silence.ends_ms - now_ms <= lead_ms < silence.ends_ms - silence.starts_ms
    ]


def reminders(
    silence: Silence,
    records: Mapping[str, AlertRecord],
    routing: Routing,
    now_ms: int,
    external_url: str,
) -> list[Notice]:
    """A message to each receiver whose alerts the silence keeps quiet; none when nothing fires."""
    muted = [r for r in records.values() if r.firing and matches_all(silence.matchers, r.labels)]
    targets = dict.fromkeys(
        (route.receiver, index)
        for record in muted
        for route in routing.route.match(record.labels)
        for index, one in enumerate(routing.receivers[route.receiver].integrations)
        if one.kind in QUIET_KINDS
    )
    return [
        _notice(silence, receiver, index, muted, now_ms, external_url)
        for receiver, index in targets
    ]


def new_only(notices: Sequence[Notice], known_lanes: Collection[str]) -> list[Notice]:
    """Those whose lane has nothing in it yet: a silence is spoken of once."""
    return [notice for notice in notices if notice.lane not in known_lanes]


def _notice(
    silence: Silence,
    receiver: str,
    index: int,
    muted: Sequence[AlertRecord],
    now_ms: int,
    external_url: str,
) -> Notice:
    lane = f"{lane_of(silence.id)}{index}/{receiver}"
    minutes = max(1, round((silence.ends_ms - now_ms) / 60_000))
    lead = NoticeAlert(
        fingerprint=silence.id,
        firing=True,
        labels=Labels.of(alertname="SilenceEnds", severity="info", created_by=silence.created_by),
        annotations={
            "summary": f"A silence of {silence.created_by} ends in {minutes} min, "
            f"and {len(muted):,} alerts that it keeps quiet still fire",
            "cause": silence.comment,
            "since": rfc3339(silence.starts_ms),
            "fix": "mend the cause, or make the silence last longer",
        },
        starts_ms=silence.starts_ms,
        ends_ms=None,
    )
    listed = tuple(NoticeAlert.of(one, firing=True, ends_ms=None) for one in muted[:_MAX_LISTED])
    digest = hashlib.sha256(lane.encode()).hexdigest()
    return Notice(
        id=f"msg_{digest[:32]}",
        lane=lane,
        action=EventAction.TRIGGER,
        receiver=receiver,
        integration=index,
        group_key=lane,
        dedup_key=f"silence-{digest}",
        group_labels=Labels.of(alertname="SilenceEnds"),
        alerts=(lead, *listed),
        reason=REASON,
        created_ms=now_ms,
        external_url=external_url,
    )
