"""How fresh and how healthy each source is: one small record a source, judged against `now_ms`.

A source is whatever sends or is asked: an OTLP service (`otlp:shop`), a scrape target
(`scrape:shop/127.0.0.1:8000`), the events endpoint (`events`), the browsers (`rum`). The part
before the colon is its kind.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from store.errors import Overloaded

# The rate is an exponential average; half a minute hides batching and still follows a drop.
RATE_TIME_CONSTANT_S = 30.0
SHEDDING_SHOWN_FOR_S = 30.0
DEFAULT_EXPECTED_INTERVAL_S = 20.0
MISSED_INTERVALS = 3
LATE_AFTER_S = 30.0
MAX_REASONS = 32
MAX_ERROR_LENGTH = 500

_OVERFLOW = "(other)"
_SHED_REMEDY = "Lower the export rate, or give Warroom more CPU or a faster disk."


class SourceState(StrEnum):
    """What the wall says of a source."""

    OK = "ok"
    LATE = "late"
    SILENT = "silent"
    ERROR = "error"
    SHEDDING = "shedding"


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is remembered of a source. Times are milliseconds since the epoch."""

    name: str
    kind: str
    first_seen_ms: int
    expected_interval_s: float = DEFAULT_EXPECTED_INTERVAL_S
    last_success_ms: int | None = None
    delay_s: float | None = None  # arrival minus the newest time in the data, at the last success
    decayed_rate: float = 0.0
    decayed_at_ms: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    last_shed_ms: int | None = None
    last_error_ms: int | None = None  # a later success clears it
    error: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One row of `GET /sources`. Ratios and money do not occur here; times are milliseconds."""

    name: str
    kind: str
    state: SourceState
    last_success_at_ms: int | None
    delay_seconds: float | None
    rate_per_second: float
    dropped: Mapping[str, int]
    error: str
    remedy: str


def state_of(record: SourceRecord, now_ms: int) -> SourceState:
    """The state of a source at an instant, worst first."""
    shed = record.last_shed_ms
    if shed is not None and now_ms - shed <= SHEDDING_SHOWN_FOR_S * 1000:
        return SourceState.SHEDDING
    if record.last_error_ms is not None:
        return SourceState.ERROR
    success = record.last_success_ms
    quiet_ms = now_ms - (record.first_seen_ms if success is None else success)
    if quiet_ms > record.expected_interval_s * MISSED_INTERVALS * 1000:
        return SourceState.SILENT
    if record.delay_s is not None and record.delay_s > LATE_AFTER_S:
        return SourceState.LATE
    return SourceState.OK


def rate_of(record: SourceRecord, now_ms: int) -> float:
    """Items per second, averaged over about half a minute; unbiased from the first second."""
    age_s = max(1.0, (now_ms - record.first_seen_ms) / 1000)
    elapsed_s = max(0.0, (now_ms - record.decayed_at_ms) / 1000)
    seen = 1.0 - math.exp(-age_s / RATE_TIME_CONSTANT_S)
    return record.decayed_rate * math.exp(-elapsed_s / RATE_TIME_CONSTANT_S) / seen


def status_of(record: SourceRecord, now_ms: int) -> SourceStatus:
    """The row of a source at an instant."""
    state = state_of(record, now_ms)
    explained = state is not SourceState.OK
    return SourceStatus(
        name=record.name,
        kind=record.kind,
        state=state,
        last_success_at_ms=record.last_success_ms,
        delay_seconds=record.delay_s,
        rate_per_second=rate_of(record, now_ms),
        dropped=dict(record.dropped),
        error=_error(record, state) if explained else "",
        remedy=_remedy(record, state) if explained else "",
    )


def _error(record: SourceRecord, state: SourceState) -> str:
    if state is SourceState.SILENT:
        return "nothing has arrived for more than three of its intervals"
    if state is SourceState.LATE and record.delay_s is not None:
        return f"the newest data was {record.delay_s:.0f} s old when it arrived"
    return record.error


def _remedy(record: SourceRecord, state: SourceState) -> str:
    if state is SourceState.SILENT:
        return "Check that the sender runs and that its exporter points here."
    if state is SourceState.LATE:
        return "Check the sender's clock and its export interval."
    return record.remedy


class SourceRegistry:
    """Every source seen, bounded in number. Safe to use from any thread.

    Sources past `max_sources` of all kinds share one record a kind, named `<kind>:(other)`.
    """

    def __init__(self, *, max_sources: int = 1000) -> None:
        self._max_sources = max_sources
        self._records: dict[str, SourceRecord] = {}
        self._lock = threading.Lock()

    def expect(self, name: str, now_ms: int, *, interval_s: float) -> None:
        """Announce a source that should be heard every `interval_s`, before it is heard."""
        with self._lock:
            record = self._get(name, now_ms)
            self._records[record.name] = replace(record, expected_interval_s=interval_s)

    def forget(self, name: str) -> None:
        """Remove a source that is no longer configured."""
        with self._lock:
            self._records.pop(name, None)

    def name_of(self, name: str) -> str:
        """The name under which a source is counted: its own, or its kind's overflow."""
        with self._lock:
            return self._bounded(name)

    def accepted(self, name: str, count: int, now_ms: int, *, newest_ms: int | None = None) -> None:
        """Data arrived and is durable."""
        with self._lock:
            record = self._get(name, now_ms)
            elapsed_s = max(0.0, (now_ms - record.decayed_at_ms) / 1000)
            decayed = record.decayed_rate * math.exp(-elapsed_s / RATE_TIME_CONSTANT_S)
            delay_s = record.delay_s if newest_ms is None else max(0, now_ms - newest_ms) / 1000
            self._records[record.name] = replace(
                record,
                last_success_ms=now_ms,
                last_error_ms=None,
                delay_s=delay_s,
                decayed_rate=decayed + count / RATE_TIME_CONSTANT_S,
                decayed_at_ms=now_ms,
            )

    def heard(self, name: str, now_ms: int) -> None:
        """A receiver took a request whose items belong to other sources.

        It has a record only if it refused a request before: that is past now.
        """
        with self._lock:
            record = self._records.get(name)
            if record is not None:
                self._records[name] = replace(record, last_success_ms=now_ms, last_error_ms=None)

    def dropped(self, name: str, reason: str, count: int, now_ms: int) -> None:
        """Items were refused for a named reason."""
        with self._lock:
            record = self._get(name, now_ms)
            known = (
                reason if reason in record.dropped or len(record.dropped) < MAX_REASONS else "other"
            )
            counts = {**record.dropped, known: record.dropped.get(known, 0) + count}
            self._records[record.name] = replace(record, dropped=counts)

    def shed(self, name: str, count: int, now_ms: int, why: Overloaded) -> None:
        """Items were refused for now; the sender was told to retry."""
        self.dropped(name, why.reason, count, now_ms)
        with self._lock:
            record = self._get(name, now_ms)
            self._records[record.name] = replace(
                record,
                last_shed_ms=now_ms,
                error=f"{why.message}; the sender was asked to retry"[:MAX_ERROR_LENGTH],
                remedy=why.hint[:MAX_ERROR_LENGTH] or _SHED_REMEDY,
            )

    def failed(self, name: str, error: str, remedy: str, now_ms: int) -> None:
        """An attempt failed as a whole."""
        with self._lock:
            record = self._get(name, now_ms)
            self._records[record.name] = replace(
                record,
                last_error_ms=now_ms,
                error=error[:MAX_ERROR_LENGTH],
                remedy=remedy[:MAX_ERROR_LENGTH],
            )

    def list(self, now_ms: int) -> tuple[SourceStatus, ...]:
        """Every source, by name, as `GET /sources` answers it."""
        with self._lock:
            records = sorted(self._records.values(), key=lambda record: record.name)
        return tuple(status_of(record, now_ms) for record in records)

    def _bounded(self, name: str) -> str:
        if name in self._records or len(self._records) < self._max_sources:
            return name
        return f"{_kind(name)}:{_OVERFLOW}"

    def _get(self, name: str, now_ms: int) -> SourceRecord:
        bounded = self._bounded(name)
        record = self._records.get(bounded)
        if record is None:
            record = SourceRecord(
                bounded, _kind(bounded), first_seen_ms=now_ms, decayed_at_ms=now_ms
            )
            self._records[bounded] = record
        return record


def _kind(name: str) -> str:
    return name.partition(":")[0]
