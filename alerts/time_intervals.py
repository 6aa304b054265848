"""Alertmanager's time intervals: when a route is muted or active."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = tuple(name.lower() for name in calendar.month_name[1:])

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """Every given part must hold; a part that is empty holds always.

    Attributes:
        times: Minutes of the day, end exclusive.
        weekdays: 0 is Sunday; inclusive.
        days_of_month: 1 to 31, or negative from the month's end; inclusive.
    """

    times: tuple[Range, ...] = ()
    weekdays: tuple[Range, ...] = ()
    days_of_month: tuple[Range, ...] = ()
    months: tuple[Range, ...] = ()
    years: tuple[Range, ...] = ()
    location: str = "UTC"

    def contains(self, at_ms: int) -> bool:
        """The instant lies in the interval."""
        zone = UTC if self.location == "UTC" else ZoneInfo(self.location)
        at = datetime.fromtimestamp(at_ms / 1000, tz=zone)
        minute = at.hour * 60 + at.minute
        return (
            (not self.times or any(start <= minute < end for start, end in self.times))
            and _within(self.weekdays, at.isoweekday() % 7)
            and self._day_holds(at)
            and _within(self.months, at.month)
            and _within(self.years, at.year)
        )

    def _day_holds(self, at: datetime) -> bool:
        if not self.days_of_month:
            return True
        last = calendar.monthrange(at.year, at.month)[1]
        for start, end in self.days_of_month:
            first = start if start > 0 else last + start + 1
            final = end if end > 0 else last + end + 1
            if first > last:
                continue
            if max(first, 1) <= at.day <= min(final, last):
                return True
        return False


def _within(ranges: tuple[Range, ...], value: int) -> bool:
    return not ranges or any(start <= value <= end for start, end in ranges)


def parse_time_of_day(text: str) -> int:
    """Minutes of `HH:MM`, up to 24:00. PyYAML reads a bare 09:00 as text and 23:59 as base 60."""
    hours, colon, minutes = text.partition(":")
    if not colon and text.isdigit():
        total = int(text)
    elif len(minutes) == 2 and hours.isdigit() and minutes.isdigit() and int(minutes) < 60:
        total = int(hours) * 60 + int(minutes)
    else:
        raise ValueError(f"{text!r} is no time of day; write it like '09:00'")
    if total > 1440:
        raise ValueError(f"{text!r} is no time of day; write it like '09:00'")
    return total


def parse_weekdays(text: str) -> Range:
    """`monday:friday` or `sunday`."""
    return _named_range(text, _WEEKDAYS, 0, 6)


def parse_months(text: str) -> Range:
    """`january:march`, `1:3` or `december`."""
    return _named_range(text, _MONTHS, 1, 12)


def parse_years(text: str) -> Range:
    """`2026` or `2026:2028`."""
    return _named_range(text, (), 0, 9999)


def parse_days_of_month(text: str) -> Range:
    """`1:5` or `-3:-1`."""
    start, end = _split(text)
    try:
        first, last = int(start), int(end)
    except ValueError:
        raise ValueError(f"{text!r} is no range of days") from None
    if 0 in {first, last} or abs(first) > 31 or abs(last) > 31:
        raise ValueError(f"{text!r}: days go from 1 to 31, or from -31 to -1")
    if first < 0 < last:
        raise ValueError(f"{text!r}: the end must be negative where the start is")
    if (first > 0) == (last > 0) and first > last:
        raise ValueError(f"{text!r}: the end is before the start")
    return first, last


def parse_location(text: str) -> str:
    """The name of a time zone."""
    if text == "Local":
        raise ValueError("'Local' depends on the machine; name a zone such as Europe/Berlin")
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is no time zone; write it like Europe/Berlin") from None
    return text


def _split(text: str) -> tuple[str, str]:
    start, colon, end = text.strip().lower().partition(":")
    return start.strip(), (end if colon else start).strip()


def _named_range(text: str, names: tuple[str, ...], low: int, high: int) -> Range:
    numbers = []
    for part in _split(text):
        if part in names:
            numbers.append(names.index(part) + low)
        elif part.isdigit() and low <= int(part) <= high and (low or not names):
            numbers.append(int(part))
        else:
            raise ValueError(f"{text!r} is no range that is known here")
    if numbers[0] > numbers[1]:
        raise ValueError(f"{text!r}: the end is before the start")
    return numbers[0], numbers[1]
