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
from store.sql import json_text


def row_of(record: AlertRecord) -> tuple[Any, ...]:
    """What is stored of an alert's state, in the order of the table's columns."""
    return (
        record.fingerprint,
        json_text(record.labels.to_dict()),
        json_text(record.annotations),
        record.state.value,
        record.active_ms,
        record.starts_ms,
        record.resolved_ms,
        record.ended_ms,
        record.reason.value,
        None if math.isnan(record.value) else record.value,
        record.source,
        record.unit,
        record.generator_url,
        record.keep_firing_s,
        record.incident_id,
    )


def record_of(row: Any) -> AlertRecord:
    """The state of a row."""
    return AlertRecord(
        fingerprint=row.fingerprint,
        labels=Labels.ordered(tuple(row.labels.items())),
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
