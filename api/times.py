"""Times in questions and answers of our own API."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from store.errors import BadInput

# Years 1970 to 9999: what RFC 3339 can write.
_MAX_MS = 253_402_300_799_999
_RELATIVE = re.compile(r"now(?:-(\d+)([smhdwMy]))?")
_UNIT_MS = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "M": 2_592_000_000,
    "y": 31_536_000_000,
}


def parse_time(text: str | None, now_ms: int, default_ms: int) -> int:
    """Milliseconds of RFC 3339, unix seconds, or Grafana's `now-1h`.

    >>> parse_time("now-1h", 3_600_000, 0), parse_time("1.5", 0, 0), parse_time(None, 0, 7)
    (0, 1500, 7)

    Raises:
        BadInput: It is none of them.
    """
    if not text:
        return default_ms
    hint = "RFC 3339, unix seconds or now-1h"
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
        return now_ms - int(relative[1] or 0) * _UNIT_MS[relative[2] or "s"]
    try:
        return round(float(text) * 1000)
    except ValueError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
