"""What will be left of a budget at the end of the next sale, under the traffic to be expected.

Expected events until the end: those of the last sale of the same name, brought to today's level.
The level is how this sale compares with that one so far, or before it begins, how the last week
compares with the week before that sale. Without an earlier sale the last week's pace stands in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slos.burn_rate import WindowReading
from slos.definition import EventSli, Slo
from slos.measure import Meter
from slos.model import Outlook

_DAY_MS = 86_400_000
_WEEK_MS = 7 * _DAY_MS
_HOUR_MS = 3_600_000
# Nobody plans further ahead.
_HORIZON_MS = 120 * _DAY_MS


@dataclass(frozen=True, slots=True)
class SaleEvent:
    """A named event: `start_ms` <= t < `end_ms`."""

    name: str
    start_ms: int
    end_ms: int


def next_event(events: Sequence[SaleEvent], now_ms: int) -> SaleEvent | None:
    """The one that goes on, or the next to begin within four months."""
    ahead = [e for e in events if e.end_ms > now_ms and e.start_ms < now_ms + _HORIZON_MS]
    return min(ahead, key=lambda event: event.end_ms, default=None)


def look_ahead(slo: Slo, meter: Meter, events: Sequence[SaleEvent], now_ms: int) -> Outlook | None:
    """The outlook for the next event; None without one, or without any data.

    Raises:
        QueryError: A query failed.
    """
    event = next_event(events, now_ms)
    if event is None:
        return None
    expected, basis = _expected(slo, meter, events, event, now_ms)
    pace = _pace(slo, meter, now_ms)
    if not expected or pace is None:
        return None
    kept_bad, kept_total = _kept(slo, meter, event, now_ms)
    total = kept_total + expected
    budget = (1.0 - slo.objective) * total
    return Outlook(
        event=event.name,
        starts_ms=event.start_ms,
        ends_ms=event.end_ms,
        expected_events=expected,
        basis=basis,
        pace_error_ratio=pace,
        remaining=1.0 - (kept_bad + pace * expected) / budget,
        allowed_error_ratio=min(max((budget - kept_bad) / expected, 0.0), 1.0),
    )


def _counts(reading: WindowReading) -> tuple[float, float]:
    """Bad and all events; a bare ratio counts seconds."""
    if reading.total is not None and reading.bad is not None:
        return reading.bad, reading.total
    if reading.error_ratio is None:
        return 0.0, 0.0
    return reading.error_ratio * reading.window_s, float(reading.window_s)


def _total(meter: Meter, start_ms: int, end_ms: int) -> float:
    return _counts(meter.between(start_ms, end_ms))[1] if end_ms > start_ms else 0.0


def _kept(slo: Slo, meter: Meter, event: SaleEvent, now_ms: int) -> tuple[float, float]:
    """What has come already of the period that the event's last moment lies in."""
    begin_ms = event.end_ms - slo.window_s * 1_000
    if slo.calendar is not None:
        begin_ms = slo.calendar.period(event.end_ms - 1)[0]
    return _counts(meter.between(begin_ms, now_ms)) if begin_ms < now_ms else (0.0, 0.0)


def _pace(slo: Slo, meter: Meter, now_ms: int) -> float | None:
    """The last day's error ratio, or the whole period's where the day had no events."""
    day = meter.between(now_ms - _DAY_MS, now_ms).error_ratio
    return meter.read(slo.window_s, now_ms).error_ratio if day is None else day


def _expected(
    slo: Slo, meter: Meter, events: Sequence[SaleEvent], event: SaleEvent, now_ms: int
) -> tuple[float, str]:
    """Events from now until the end, and what the figure rests on."""
    rest_ms = event.end_ms - max(event.start_ms, now_ms)
    before_ms = max(event.start_ms - now_ms, 0)
    if isinstance(slo.sli, EventSli) and slo.sli.step_s:
        return (rest_ms + before_ms) / 1_000 / slo.sli.step_s, "clock"
    # A series that is younger than a week: the most that a day or a week speaks for.
    week = _total(meter, now_ms - _WEEK_MS, now_ms) / _WEEK_MS
    pace = max(week, _total(meter, now_ms - _DAY_MS, now_ms) / _DAY_MS)
    earlier = [e for e in events if e.name == event.name and e.end_ms <= event.start_ms]
    last = max(earlier, key=lambda e: e.end_ms, default=None)
    rest = _rest_as_before(meter, event, last, now_ms) if last is not None else None
    if rest is None:
        return pace * (before_ms + rest_ms), "last_week"
    return pace * before_ms + rest, "same_sale_before"


def _rest_as_before(meter: Meter, event: SaleEvent, last: SaleEvent, now_ms: int) -> float | None:
    """Events of the rest of a sale as the last one had them, at today's level."""
    elapsed_ms = max(now_ms - event.start_ms, 0)
    if elapsed_ms >= _HOUR_MS:
        then = _total(meter, last.start_ms, min(last.start_ms + elapsed_ms, last.end_ms))
        level = _total(meter, event.start_ms, now_ms) / then if then else 0.0
        rest = _total(meter, last.start_ms + elapsed_ms, last.end_ms)
    else:
        then = _total(meter, last.start_ms - _WEEK_MS, last.start_ms)
        level = _total(meter, now_ms - _WEEK_MS, now_ms) / then if then else 0.0
        length = (event.end_ms - event.start_ms) / (last.end_ms - last.start_ms)
        rest = _total(meter, last.start_ms, last.end_ms) * length
    return level * rest if level and rest else None
