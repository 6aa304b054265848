"""Times in questions of our own API, Grafana's relative ones among them."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta

from store.errors import BadInput

# Years 1970 to 9999: what RFC 3339 can write.
_MAX_MS = 253_402_300_799_999
_RELATIVE = re.compile(r"now((?:[+-]\d{1,9}[smhdwMQy]|/[smhdwMQy])*)")
_TERM = re.compile(r"([+-]\d+|/)([smhdwMQy])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MONDAY_MS = 4 * 86_400_000  # 1970 began on a Thursday
_UNIT_MS = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_MONTHS = {"M": 1, "Q": 3, "y": 12}


def parse_time(text: str | None, now_ms: int, default_ms: int) -> int:
    """Milliseconds of RFC 3339, unix seconds, or Grafana's `now-1h` and `now-1d/d`.

    `/d` goes back to where the day began, likewise `/s`, `/m`, `/h`, `/w` (Monday), `/M`, `/Q` and
    `/y`. Days and longer are those of UTC, months and years those of the calendar.

    >>> parse_time("now-1h", 3_600_000, 0), parse_time("1.5", 0, 0), parse_time(None, 0, 7)
    (0, 1500, 7)
    >>> parse_time("now/d", 86_400_001, 0), parse_time("now-1d/d", 172_800_001, 0)
    (86400000, 86400000)

    Raises:
        BadInput: It is none of them.
    """
    if not text:
        return default_ms
    hint = "RFC 3339, unix seconds, now-1h or now/d"
    try:
        ts_ms = _read(text, now_ms)
    except (ValueError, OverflowError) as exc:
        raise BadInput(f"{text!r} is no time", hint=hint) from exc
    if not 0 <= ts_ms <= _MAX_MS:
        raise BadInput(f"{text!r} lies outside of the years 1970 to 9999", hint=hint)
    return ts_ms


def _read(text: str, now_ms: int) -> int:
    relative = _RELATIVE.fullmatch(text)
    if relative:
        at_ms = now_ms
        for amount, unit in _TERM.findall(relative[1]):
            at_ms = _floor(at_ms, unit) if amount == "/" else _shifted(at_ms, int(amount), unit)
        return at_ms
    try:
        return round(float(text) * 1000)
    except ValueError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _floor(at_ms: int, unit: str) -> int:
    """Where the unit that holds the instant began."""
    if unit in _MONTHS:
        at = _EPOCH + at_ms * _MILLISECOND
        month = at.month - (at.month - 1) % _MONTHS[unit]
        began = datetime(at.year, month, 1, tzinfo=UTC)
        return (began - _EPOCH) // _MILLISECOND
    return at_ms - (at_ms - (_MONDAY_MS if unit == "w" else 0)) % _UNIT_MS[unit]


def _shifted(at_ms: int, amount: int, unit: str) -> int:
    """So many units later; from the 31st to a shorter month that month's last day."""
    if unit not in _MONTHS:
        return at_ms + amount * _UNIT_MS[unit]
    at = _EPOCH + at_ms * _MILLISECOND
    year, month = divmod(at.year * 12 + at.month - 1 + amount * _MONTHS[unit], 12)
    day = min(at.day, monthrange(year, month + 1)[1])
    return (at.replace(year=year, month=month + 1, day=day) - _EPOCH) // _MILLISECOND
