"""Alert states, groups, log entries and silences as database rows, and back."""

from __future__ import annotations

import math
from typing import Any

from alerts.grouping import Group
from alerts.model import AlertState
from alerts.notification import NotificationEntry
from alerts.silences import Silence
from alerts.state import AlertRecord, Step
from store.model import Labels, Matcher, MatchOp


def row_of(record: AlertRecord) -> dict[str, Any]:
    """What is stored of an alert's state."""
    return {
        "fingerprint": record.fingerprint,
        "labels": record.labels.to_dict(),
        "annotations": record.annotations,
        "state": str(record.state),
        "active_ms": record.active_ms,
        "starts_ms": record.starts_ms,
        "resolved_ms": record.resolved_ms,
        "ended_ms": record.ended_ms,
        "reason": str(record.reason),
        "value": None if math.isnan(record.value) else record.value,
        "source": record.source,
        "unit": record.unit,
        "generator_url": record.generator_url,
        "keep_firing_s": record.keep_firing_s,
        "incident_id": record.incident_id,
    }


def record_of(row: Any) -> AlertRecord:
    """The state of a row."""
    return AlertRecord(
        fingerprint=row.fingerprint,
        labels=Labels.of(row.labels),
        annotations=row.annotations,
        state=AlertState(row.state),
        active_ms=row.active_ms,
        starts_ms=row.starts_ms,
        resolved_ms=row.resolved_ms,
        ended_ms=row.ended_ms,
        reason=Step(row.reason),
        value=math.nan if row.value is None else row.value,
        source=row.source,
        unit=row.unit,
        generator_url=row.generator_url,
        keep_firing_s=row.keep_firing_s,
        incident_id=row.incident_id,
    )


def group_of(row: Any) -> Group:
    """The group of a row."""
    return Group(
        id=row.id,
        key=row.key,
        route_id=row.route_id,
        receiver=row.receiver,
        labels=Labels.of(row.labels),
        created_ms=row.created_ms,
        next_flush_ms=row.next_flush_ms,
        last_flush_ms=row.last_flush_ms,
    )


def entry_of(row: Any) -> NotificationEntry:
    """The entry of a row."""
    return NotificationEntry(
        lane=row.lane,
        group_id=row.group_id,
        receiver=row.receiver,
        integration=row.integration,
        firing=frozenset(row.firing),
        resolved=frozenset(row.resolved),
        at_ms=row.at_ms,
        reason=row.reason,
        dedup_key=row.dedup_key,
    )


def silence_of(row: Any) -> Silence:
    """The silence of a row."""
    return Silence(
        id=row.id,
        matchers=tuple(Matcher(name, MatchOp(op), value) for name, op, value in row.matchers),
        starts_ms=row.starts_ms,
        ends_ms=row.ends_ms,
        created_by=row.created_by,
        comment=row.comment,
        updated_ms=row.updated_ms,
    )
