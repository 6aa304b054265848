"""The life of one alert: pending, firing, resolved. Pure: every step names its reason."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from alerts.model import Alert, AlertState
from store.model import Labels

# Prometheus's --rules.alert.for-outage-tolerance: after a longer outage a hold starts anew.
OUTAGE_TOLERANCE_MS = 3_600_000
# Prometheus keeps (and shows) a resolved alert this long.
RESOLVED_RETENTION_MS = 15 * 60_000


class Step(StrEnum):
    """Why an alert is in the state it is in."""

    CONDITION_BEGAN = "condition_began"
    FIRES_AT_ONCE = "fires_at_once"
    HOLD_RUNNING = "hold_running"
    HOLD_ELAPSED = "hold_elapsed"
    CONDITION_HOLDS = "condition_holds"
    KEEP_FIRING = "keep_firing"
    SOURCE_UNKNOWN = "source_unknown"
    CONDITION_ENDED = "condition_ended"
    FIRES_AGAIN = "fires_again"


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """What is kept of one alert.

    Attributes:
        fingerprint: Hash of the labels.
        active_ms: When the condition was first seen to hold (the `for` clock).
        starts_ms: When it began to fire; for a posted alert, when its sender says so.
        ended_ms: When a firing alert's condition ended (the `keep_firing_for` clock).
        resolved_ms: When it ended; None while it has not.
        reason: The last step.
    """

    fingerprint: str
    labels: Labels
    state: AlertState
    active_ms: int
    starts_ms: int
    resolved_ms: int | None
    reason: Step
    ended_ms: int | None = None
    keep_firing_s: float = 0.0
    annotations: dict[str, str] = field(default_factory=dict)
    value: float = 0.0
    source: str = ""
    unit: str = ""
    generator_url: str = ""
    incident_id: str = ""

    @property
    def name(self) -> str:
        return self.labels.get("alertname")

    @property
    def severity(self) -> str:
        return self.labels.get("severity")

    @property
    def firing(self) -> bool:
        return self.state is AlertState.FIRING


@functools.lru_cache(maxsize=100_000)
def fingerprint(labels: Labels) -> str:
    """Sixteen hex digits that name a label set."""
    text = "".join([f"{len(name)}:{name}{len(value)}:{value}" for name, value in labels.pairs])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_incident(record: AlertRecord, incident_id: str) -> AlertRecord:
    """The record as a part of an incident; half the time of `replace`, for storms."""
    return AlertRecord(
        record.fingerprint,
        record.labels,
        record.state,
        record.active_ms,
        record.starts_ms,
        record.resolved_ms,
        record.reason,
        record.ended_ms,
        record.keep_firing_s,
        record.annotations,
        record.value,
        record.source,
        record.unit,
        record.generator_url,
        incident_id,
    )


def advance(
    previous: AlertRecord | None,
    alert: Alert | None,
    now_ms: int,
    *,
    unknown: bool = False,
    outage: bool = False,
) -> AlertRecord | None:
    """The record after this tick; None when there is nothing (more) to keep.

    Args:
        previous: What was kept, if anything.
        alert: The alert, if its condition holds at this tick.
        now_ms: The tick.
        unknown: The alert's source could not be evaluated: its state then stays as it is.
        outage: Nothing was evaluated for longer than `OUTAGE_TOLERANCE_MS` before this tick.
    """
    if alert is not None:
        if previous is None or previous.state is AlertState.RESOLVED:
            return _began(previous, alert, now_ms)
        return _holds(previous, alert, now_ms, outage=outage)
    if previous is None:
        return None
    if previous.state is AlertState.RESOLVED:
        return previous
    if unknown:
        return replace(previous, reason=Step.SOURCE_UNKNOWN)
    return _ended(previous, now_ms)


def advance_all(
    before: Mapping[str, AlertRecord],
    active: Mapping[str, Alert],
    now_ms: int,
    *,
    unknown: Collection[str] = (),
    outage: bool = False,
) -> dict[str, AlertRecord]:
    """Every record after this tick, by fingerprint; `unknown` are units and sources."""
    records = {}
    for identity in sorted({*before, *active}):
        previous = before.get(identity)
        lost = previous is not None and (previous.unit in unknown or previous.source in unknown)
        record = advance(previous, active.get(identity), now_ms, unknown=lost, outage=outage)
        if record is not None:
            records[identity] = record
    return records


def _began(previous: AlertRecord | None, alert: Alert, now_ms: int) -> AlertRecord:
    at_once = alert.hold_s <= 0
    reason = Step.FIRES_AT_ONCE if at_once else Step.CONDITION_BEGAN
    if at_once and previous is not None:
        reason = Step.FIRES_AGAIN
    return AlertRecord(
        fingerprint=fingerprint(alert.labels),
        labels=alert.labels,
        state=AlertState.FIRING if at_once else AlertState.PENDING,
        active_ms=now_ms,
        starts_ms=_posted_start(alert) or now_ms,
        resolved_ms=None,
        reason=reason,
        keep_firing_s=alert.keep_firing_s,
        annotations=alert.annotations,
        value=alert.value,
        source=alert.source,
        unit=alert.unit,
        generator_url=alert.generator_url,
    )


def _posted_start(alert: Alert) -> int | None:
    return alert.since_ms if alert.source == "api" else None


def _holds(previous: AlertRecord, alert: Alert, now_ms: int, *, outage: bool) -> AlertRecord:
    state, active_ms, starts_ms = previous.state, previous.active_ms, previous.starts_ms
    if state is AlertState.FIRING:
        reason = Step.CONDITION_HOLDS
        # It may have ended and begun again between two ticks: its sender knows.
        starts_ms = _posted_start(alert) or starts_ms
    elif outage:
        active_ms, reason = now_ms, Step.CONDITION_BEGAN
    elif now_ms - active_ms >= alert.hold_s * 1000:
        state, starts_ms, reason = AlertState.FIRING, now_ms, Step.HOLD_ELAPSED
    else:
        reason = Step.HOLD_RUNNING
    annotations = _keeping_since(previous.annotations, alert.annotations)
    if (
        reason is previous.reason
        and reason is not Step.CONDITION_BEGAN
        and (starts_ms, None) == (previous.starts_ms, previous.ended_ms)
        and alert.value == previous.value
        and annotations == previous.annotations
        and _kept_fields(alert) == _kept_fields(previous)
    ):
        return previous
    return replace(
        previous,
        state=state,
        active_ms=active_ms,
        starts_ms=starts_ms,
        reason=reason,
        ended_ms=None,
        keep_firing_s=alert.keep_firing_s,
        annotations=annotations,
        value=alert.value,
        unit=alert.unit,
        generator_url=alert.generator_url,
    )


def _kept_fields(one: Alert | AlertRecord) -> tuple[float, str, str]:
    return one.keep_firing_s, one.unit, one.generator_url


def _keeping_since(before: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The newest texts, but since when it has been so is what was first said of this episode."""
    since = before.get("since")
    return {**now, "since": since} if since and "since" in now else now


def _ended(previous: AlertRecord, now_ms: int) -> AlertRecord | None:
    if previous.state is AlertState.PENDING:
        return None
    ended_ms = now_ms if previous.ended_ms is None else previous.ended_ms
    if now_ms - ended_ms < previous.keep_firing_s * 1000:
        return replace(previous, ended_ms=ended_ms, reason=Step.KEEP_FIRING)
    return replace(
        previous, state=AlertState.RESOLVED, resolved_ms=now_ms, reason=Step.CONDITION_ENDED
    )
