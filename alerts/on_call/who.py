"""Who is on call at an instant, and the shifts of a span. Pure.

Hand-overs are at the same time by the wall clock of the schedule's zone, whatever the clocks do: a
time that a change of clocks leaves out is taken as if they had not changed, one that comes twice is
taken the first time. So each hand-over happens once, and one person is on call at any instant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from alerts.on_call.model import Rotation, Schedule
from alerts.time_intervals import TimeInterval

DAY_MS = 86_400_000
# A span of shifts that is asked for may not be longer: it is worked out day by day.
MAX_SPAN_MS = 400 * DAY_MS


class Source(StrEnum):
    """Why somebody is on call, or nobody."""

    OVERRIDE = "override"
    ROTATION = "rotation"
    NOBODY = "no_rotation_holds"


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is on call; `user` is empty when nobody is. `rotation` counts from 0, -1 for none."""

    user: str
    source: Source
    rotation: int = -1


@dataclass(frozen=True, slots=True)
class Shift:
    """A duty from `start_ms` until `end_ms`."""

    duty: Duty
    start_ms: int
    end_ms: int


def who_is_on_call(schedule: Schedule, at_ms: int) -> Duty:
    """The duty at an instant: the last override that covers it, else the first rotation."""
    for override in reversed(schedule.overrides):
        if override.start_ms <= at_ms < override.end_ms:
            return Duty(override.user, Source.OVERRIDE)
    for place, rotation in enumerate(schedule.rotations):
        turn = _turn(rotation, schedule.time_zone, at_ms)
        if turn >= 0 and _holds(rotation, at_ms):
            return Duty(rotation.users[turn % len(rotation.users)], Source.ROTATION, place)
    return Duty("", Source.NOBODY)


def shifts(schedule: Schedule, from_ms: int, until_ms: int) -> list[Shift]:
    """Every duty that touches the span, in order, without gaps; the span's ends cut them.

    Raises:
        ValueError: The span is longer than `MAX_SPAN_MS`.
    """
    if until_ms - from_ms > MAX_SPAN_MS:
        raise ValueError(f"at most {MAX_SPAN_MS // DAY_MS} days of shifts can be asked for")
    edges = sorted({from_ms, until_ms, *_edges(schedule, from_ms, until_ms)})
    found: list[Shift] = []
    for start_ms, end_ms in pairwise(edges):
        duty = who_is_on_call(schedule, start_ms)
        if found and found[-1].duty == duty and not _hands_over(schedule, duty, start_ms):
            found[-1] = Shift(duty, found[-1].start_ms, end_ms)
        else:
            found.append(Shift(duty, start_ms, end_ms))
    return found


def now_and_next(schedule: Schedule, at_ms: int, *, horizon_ms: int = 35 * DAY_MS) -> list[Shift]:
    """The shift of an instant and those after it, as far as `horizon_ms` back and ahead."""
    found = shifts(schedule, at_ms - horizon_ms, at_ms + horizon_ms)
    return [shift for shift in found if shift.end_ms > at_ms]


def current(schedule: Schedule, at_ms: int) -> Shift:
    """The shift of an instant."""
    return now_and_next(schedule, at_ms)[0]


def instant_ms(local: datetime, time_zone: str) -> int:
    """The instant that a naive time of the zone's clock names."""
    return round(local.replace(tzinfo=ZoneInfo(time_zone)).timestamp() * 1000)


def _hand_over_ms(rotation: Rotation, zone: str, turn: int) -> int:
    return instant_ms(rotation.starts + timedelta(days=turn * rotation.turn_days), zone)


def _turn(rotation: Rotation, zone: str, at_ms: int) -> int:
    """How many hand-overs there were before; -1 before the first."""
    local = _local(at_ms, zone)
    turn = (local - rotation.starts) // timedelta(days=rotation.turn_days)
    # The wall clock is off by a change of clocks at most.
    while _hand_over_ms(rotation, zone, turn + 1) <= at_ms:
        turn += 1
    while turn >= 0 and _hand_over_ms(rotation, zone, turn) > at_ms:
        turn -= 1
    return max(turn, -1)


def _local(at_ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=ZoneInfo(zone)).replace(tzinfo=None)


def _holds(rotation: Rotation, at_ms: int) -> bool:
    return not rotation.restrictions or any(r.contains(at_ms) for r in rotation.restrictions)


def _hands_over(schedule: Schedule, duty: Duty, at_ms: int) -> bool:
    """A rotation of one person has shifts, too."""
    if duty.source is not Source.ROTATION:
        return False
    rotation = schedule.rotations[duty.rotation]
    turn = _turn(rotation, schedule.time_zone, at_ms)
    return _hand_over_ms(rotation, schedule.time_zone, turn) == at_ms


def _edges(schedule: Schedule, from_ms: int, until_ms: int) -> Iterator[int]:
    """Every instant in the span at which the duty may change."""
    for override in schedule.overrides:
        yield from _within((override.start_ms, override.end_ms), from_ms, until_ms)
    for rotation in schedule.rotations:
        turn = max(_turn(rotation, schedule.time_zone, from_ms), 0)
        while (at_ms := _hand_over_ms(rotation, schedule.time_zone, turn)) < until_ms:
            yield from _within((at_ms,), from_ms, until_ms)
            turn += 1
        for restriction in rotation.restrictions:
            yield from edges_of(restriction, from_ms, until_ms)


def edges_of(interval: TimeInterval, from_ms: int, until_ms: int) -> Iterator[int]:
    """Every instant in the span at which the interval may open or close, in no order."""
    minutes = {0, *(minute for times in interval.times for minute in times)}
    times = _clock_times(interval.location, minutes, from_ms, until_ms)
    yield from _within(times, from_ms, until_ms)


def _within(instants: tuple[int, ...] | set[int], from_ms: int, until_ms: int) -> Iterator[int]:
    return (at_ms for at_ms in instants if from_ms < at_ms < until_ms)


def _clock_times(zone: str, minutes: set[int], from_ms: int, until_ms: int) -> set[int]:
    """When the zone's clock shows one of these minutes of the day, and when the clocks change."""
    found: set[int] = set()
    day = _local(from_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    day -= timedelta(days=1)
    while instant_ms(day, zone) < until_ms:
        for minute in minutes:
            at = day + timedelta(minutes=minute)
            for fold in (0, 1):
                found.add(instant_ms(at.replace(fold=fold), zone))
        found |= _changes(day, zone)
        day += timedelta(days=1)
    return found


def _changes(day: datetime, zone: str) -> set[int]:
    """The instant at which the clocks change on a day, if they do."""
    start_ms = instant_ms(day, zone)
    low, high = start_ms // 60_000, (start_ms + DAY_MS) // 60_000
    before = _offset(low, zone)
    if _offset(high, zone) == before:
        return set()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return {high * 60_000}


def _offset(minute: int, zone: str) -> timedelta | None:
    return datetime.fromtimestamp(minute * 60, tz=UTC).astimezone(ZoneInfo(zone)).utcoffset()
