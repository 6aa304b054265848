"""Dedup: is there anything to tell that this receiver was not told yet? Alertmanager's rule."""

from __future__ import annotations

from enum import StrEnum

from alerts.notification import FIRST_NOTIFICATION, NotificationEntry


class DedupReason(StrEnum):
    """Why a notification goes out, or does not."""

    FIRST_NOTIFICATION = FIRST_NOTIFICATION
    NEW_ALERTS_IN_GROUP = "new_alerts_in_group"
    NEW_RESOLVED_ALERTS = "new_resolved_alerts"
    ALL_ALERTS_RESOLVED = "all_alerts_resolved"
    REPEAT_INTERVAL_ELAPSED = "repeat_interval_elapsed"
    NOTHING_TO_TELL = "nothing_to_tell"
    ALREADY_NOTIFIED = "already_notified"

    @property
    def notifies(self) -> bool:
        return self not in {DedupReason.NOTHING_TO_TELL, DedupReason.ALREADY_NOTIFIED}


def decide(
    entry: NotificationEntry | None,
    firing: frozenset[str],
    resolved: frozenset[str],
    now_ms: int,
    *,
    repeat_interval_ms: int,
    send_resolved: bool,
) -> DedupReason:
    """Alertmanager's `needsUpdate` (notify/dedup_stage.go), with its reasons.

    Args:
        entry: What the receiver was told last; None if nothing.
        firing: Fingerprints that fire now and passed the stages before.
        resolved: Fingerprints that ended, likewise.
        now_ms: The instant of the decision.
        repeat_interval_ms: After this long an unchanged group is told again.
        send_resolved: The receiver wants to hear of resolutions.
    """
    if entry is None:
        return DedupReason.FIRST_NOTIFICATION if firing else DedupReason.NOTHING_TO_TELL
    if not firing <= entry.firing:
        return DedupReason.NEW_ALERTS_IN_GROUP if entry.firing else DedupReason.FIRST_NOTIFICATION
    if not firing:
        # Told of nothing that fires: what began and ended in between is no news to the receiver.
        return DedupReason.ALL_ALERTS_RESOLVED if entry.firing else DedupReason.NOTHING_TO_TELL
    if send_resolved and not resolved <= entry.resolved:
        return DedupReason.NEW_RESOLVED_ALERTS
    if entry.at_ms < now_ms - repeat_interval_ms:
        return DedupReason.REPEAT_INTERVAL_ELAPSED
    return DedupReason.ALREADY_NOTIFIED
