"""Budgets that begin anew with a day, week, month, quarter or year of some time zone."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_DURATION = re.compile(r"([1-9]\d{0,3})([dwMQY])")
_DAYS = {"d": 1, "w": 7}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
# Months differ in length. The tiers need one: the workbook's month has 30 days.
_USUAL_DAYS = {"d": 1, "w": 7, "M": 30, "Q": 90, "Y": 365}
_MAX_DAYS = 366


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """Periods of one length, one after the other from `start` on, by the clock on the wall.

    A day on which summer time begins or ends is 23 or 25 hours long, and so is its budget's period.

    Attributes:
        count: How many units a period has.
        unit: `d`, `w`, `M`, `Q` or `Y`, as OpenSLO writes them.
        start: The beginning of any period, in local time.
        zone: An IANA time zone.
    """

    count: int
    unit: str
    start: datetime
    zone: str

    @property
    def usual_s(self) -> int:
        """The length that tiers are derived for: a month has 30 days."""
        return self.count * _USUAL_DAYS[self.unit] * 86_400

    def period(self, at_ms: int) -> tuple[int, int]:
        """Begin and end of the period that an instant lies in: begin <= instant < end."""
        zone = ZoneInfo(self.zone)
        local = datetime.fromtimestamp(at_ms / 1_000, UTC).astimezone(zone).replace(tzinfo=None)
        turn = self._turns_before(local)
        while self._begin_ms(turn, zone) > at_ms:
            turn -= 1
        while self._begin_ms(turn + 1, zone) <= at_ms:
            turn += 1
        return self._begin_ms(turn, zone), self._begin_ms(turn + 1, zone)

    def _turns_before(self, local: datetime) -> int:
        if self.unit in _DAYS:
            return (local - self.start) // timedelta(days=self.count * _DAYS[self.unit])
        months = (local.year - self.start.year) * 12 + local.month - self.start.month
        return months // (self.count * _MONTHS[self.unit])

    def _begin_ms(self, turn: int, zone: ZoneInfo) -> int:
        if self.unit in _DAYS:
            wall = self.start + timedelta(days=turn * self.count * _DAYS[self.unit])
        else:
            wall = _months_later(self.start, turn * self.count * _MONTHS[self.unit])
        return round(wall.replace(tzinfo=zone).timestamp() * 1_000)


def usual_length_s(duration: str) -> int | None:
    """Seconds of a duration in months, quarters or years; None of any other.

    >>> usual_length_s("1M") == 30 * 86_400, usual_length_s("28d")
    (True, None)
    """
    found = _DURATION.fullmatch(duration)
    if found is None or found[2] not in _MONTHS:
        return None
    days = int(found[1]) * _USUAL_DAYS[found[2]]
    return days * 86_400 if days <= _MAX_DAYS else None


class CalendarMistake(ValueError):
    """What is wrong with a calendar window: which `part` of it, and what to write instead."""

    def __init__(self, part: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.part = part
        self.hint = hint


def parse_calendar(duration: str, start: str, zone: str) -> CalendarWindow:
    """A calendar window as OpenSLO writes it: `1M` from `2026-01-01 00:00:00` in `Europe/Berlin`.

    Raises:
        CalendarMistake: One of the three is wrong.
    """
    units = "write 1d, 1w, 1M (a month), 1Q or 1Y"
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise CalendarMistake("duration", f"{duration!r} is no calendar duration", units)
    count, unit = int(found[1]), found[2]
    if count * _USUAL_DAYS[unit] > _MAX_DAYS:
        raise CalendarMistake("duration", f"{duration!r} is longer than a year", units)
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise CalendarMistake(
            "timeZone", f"{zone!r} is no time zone", "write an IANA name like Europe/Berlin, or UTC"
        ) from None
    return CalendarWindow(count, unit, _local_start(start), zone)


def _local_start(text: str) -> datetime:
    like = "write local time, like 2026-01-01 00:00:00; the zone stands in timeZone"
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        raise CalendarMistake("startTime", f"{text!r} is no start", like) from None
    if start.tzinfo is not None:
        raise CalendarMistake("startTime", f"{text!r} has an offset", like)
    if not 1970 <= start.year <= 2200:
        raise CalendarMistake("startTime", f"{text!r} is not of our time", like)
    return start


def _months_later(start: datetime, months: int) -> datetime:
    """The same day so many months on, or that month's last where it is too short."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day)
